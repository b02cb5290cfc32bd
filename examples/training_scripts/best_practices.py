"""The guide's "best practices" script, whole: data and its split, parameters, metrics, signature, tags.

Reads the CSV file named by DATA_PATH if it is set (last column = target), else generates data.
"""

import os

import mlflow
import mlflow.sklearn
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, precision_score, recall_score
from sklearn.model_selection import train_test_split

# Load data (can use environment variables)
data_path = os.getenv("DATA_PATH")
if data_path:
    table = pd.read_csv(data_path)
    X, y = table.iloc[:, :-1], table.iloc[:, -1]
else:
    values, y = make_classification(n_samples=1000, n_features=8, random_state=42)
    X = pd.DataFrame(values, columns=[f"feature_{i}" for i in range(8)])
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)

# Start MLflow run
with mlflow.start_run():
    # Log hyperparameters
    params = {"n_estimators": 100, "max_depth": 10, "random_state": 42}
    mlflow.log_params(params)

    # Train model
    model = RandomForestClassifier(**params)
    model.fit(X_train, y_train)

    # Calculate metrics
    y_pred = model.predict(X_test)
    accuracy = accuracy_score(y_test, y_pred)
    precision = precision_score(y_test, y_pred, average="weighted")
    recall = recall_score(y_test, y_pred, average="weighted")

    # Log metrics
    mlflow.log_metric("accuracy", accuracy)
    mlflow.log_metric("precision", precision)
    mlflow.log_metric("recall", recall)

    # Log model with signature
    mlflow.sklearn.log_model(
        model,
        "model",
        input_example=X_train[:5],
        signature=mlflow.models.infer_signature(X_train, y_pred),
    )

    # Add tags
    mlflow.set_tag("framework", "sklearn")
    mlflow.set_tag("model_type", "RandomForest")
    print(f"✅ accuracy {accuracy:.3f}, precision {precision:.3f}, recall {recall:.3f}")
