"""A complete training script to copy from: everything that asgard looks at, in 7 steps.

    python ml_deployment/encode_script.py ml_deployment/example_train.py \
        --deploy --model-name churn_example > request.json

Runs the same on your own machine (with MLflow's local store) and as a job.
"""

import os

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.ensemble import RandomForestClassifier

FEATURES = [
    "total_purchases",
    "avg_purchase_value",
    "days_since_last_purchase",
    "customer_lifetime_value",
    "account_age_days",
    "support_tickets_count",
]

# 1. Configuration comes from environment variables, with working defaults.
n_estimators = int(os.getenv("N_ESTIMATORS", "100"))
n_samples = int(os.getenv("N_SAMPLES", "2000"))


def load_data():
    """2. The dataset. Replace by your own: a file, a database, an HTTP API, a feature store."""
    values, target = make_classification(
        n_samples=n_samples, n_features=len(FEATURES), n_informative=4, random_state=42
    )
    return train_test_split(
        pd.DataFrame(values, columns=FEATURES),
        target,
        test_size=0.2,
        random_state=42,
        stratify=target,
    )


def main():
    X_train, X_test, y_train, y_test = load_data()

    # 3. One run. asgard has set MLFLOW_TRACKING_URI and the experiment already.
    with mlflow.start_run() as run:
        params = {"n_estimators": n_estimators, "max_depth": 10, "random_state": 42}
        mlflow.log_params(params)
        mlflow.log_param("n_samples", n_samples)

        # 4. Train.
        model = RandomForestClassifier(**params)
        model.fit(X_train, y_train)

        # 5. Metrics, for comparing versions.
        predicted = model.predict(X_test)
        metrics = {
            "accuracy": accuracy_score(y_test, predicted),
            "f1": f1_score(y_test, predicted),
            "roc_auc": roc_auc_score(y_test, model.predict_proba(X_test)[:, 1]),
        }
        mlflow.log_metrics(metrics)

        # 6. Tags that say what this is.
        mlflow.set_tags({"framework": "sklearn", "model_type": "RandomForest"})

        # 7. The model, with signature and example: asgard registers it under the name of the request.
        mlflow.sklearn.log_model(
            model,
            "model",
            signature=infer_signature(X_test, predicted),
            input_example=X_test.head(5),
            # Works with every MLflow from 2.16 on; the newest default refuses trees under skops 0.15.
            serialization_format="cloudpickle",
        )
        for name, value in metrics.items():
            print(f"{name}: {value:.4f}")
        print(f"✅ Training completed! Run ID: {run.info.run_id}")


if __name__ == "__main__":
    main()
