"""A random forest on synthetic customers: all the usual metrics and the feature importances.

    asgard run examples/training_scripts/sklearn_classification.py --model rf_classifier

Configuration by environment: N_SAMPLES (1000), N_ESTIMATORS (100), MAX_DEPTH (10).
"""

import os

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.model_selection import train_test_split

N_FEATURES = 10

n_samples = int(os.getenv("N_SAMPLES", "1000"))
params = {
    "n_estimators": int(os.getenv("N_ESTIMATORS", "100")),
    "max_depth": int(os.getenv("MAX_DEPTH", "10")),
    "random_state": 42,
}

print(f"Generating {n_samples} rows with {N_FEATURES} features")
values, target = make_classification(
    n_samples=n_samples,
    n_features=N_FEATURES,
    n_informative=6,
    n_redundant=2,
    random_state=42,
)
features = pd.DataFrame(values, columns=[f"feature_{i}" for i in range(N_FEATURES)])
X_train, X_test, y_train, y_test = train_test_split(
    features, target, test_size=0.2, random_state=42, stratify=target
)


def scores(model, rows, truth):
    predicted = model.predict(rows)
    return {
        "accuracy": accuracy_score(truth, predicted),
        "precision": precision_score(truth, predicted),
        "recall": recall_score(truth, predicted),
        "f1": f1_score(truth, predicted),
        "roc_auc": roc_auc_score(truth, model.predict_proba(rows)[:, 1]),
    }


with mlflow.start_run() as run:
    mlflow.log_params(params)
    mlflow.log_params({"n_samples": n_samples, "n_features": N_FEATURES})

    print("Training the random forest")
    model = RandomForestClassifier(**params)
    model.fit(X_train, y_train)

    for part, rows, truth in (("train", X_train, y_train), ("test", X_test, y_test)):
        for name, value in scores(model, rows, truth).items():
            mlflow.log_metric(f"{part}_{name}", value)
            print(f"{part}_{name}: {value:.4f}")

    importances = dict(zip(features.columns, map(float, model.feature_importances_)))
    importances = dict(sorted(importances.items(), key=lambda item: -item[1]))
    mlflow.log_dict(importances, "feature_importances.json")
    for name, value in importances.items():
        mlflow.log_metric(f"importance_{name}", value)
        print(f"   {name}: {value:.2%}")

    mlflow.set_tags({"framework": "sklearn", "model_type": "RandomForestClassifier"})
    mlflow.sklearn.log_model(
        model,
        "model",
        signature=infer_signature(X_test, model.predict(X_test)),
        input_example=X_test.head(5),
        # Works with every MLflow from 2.16 on; the newest default refuses trees under skops 0.15.
        serialization_format="cloudpickle",
    )
    print(f"✅ Model trained successfully! Run ID: {run.info.run_id}")
