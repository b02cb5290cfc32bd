import mlflow
import mlflow.sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.datasets import make_classification

# Generate data
X, y = make_classification(n_samples=1000, n_features=20, random_state=42)

# REQUIRED: Use MLflow run context
with mlflow.start_run():
    # Train model
    model = RandomForestClassifier(n_estimators=100)
    model.fit(X, y)

    # Log metrics
    mlflow.log_metric("accuracy", model.score(X, y))

    # REQUIRED: Log the model
    mlflow.sklearn.log_model(model, "model")
