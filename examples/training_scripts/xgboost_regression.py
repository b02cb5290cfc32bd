"""An XGBoost regressor with early stopping on an evaluation metric of our own.

    asgard run examples/training_scripts/xgboost_regression.py --model xgb_regressor

Configuration by environment: N_SAMPLES (2000), N_ESTIMATORS (500), LEARNING_RATE (0.1).
"""

import os

import mlflow
import mlflow.xgboost
import numpy as np
import xgboost as xgb
from mlflow.models import infer_signature
from sklearn.datasets import make_regression
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import train_test_split

n_samples = int(os.getenv("N_SAMPLES", "2000"))
params = {
    "n_estimators": int(os.getenv("N_ESTIMATORS", "500")),
    "max_depth": 4,
    "learning_rate": float(os.getenv("LEARNING_RATE", "0.1")),
    "subsample": 0.8,
    "random_state": 42,
    "n_jobs": 1,
    "early_stopping_rounds": 20,
}


def median_absolute_error(y_true, y_pred):
    """Less moved by a few far-off rows than RMSE; early stopping watches it."""
    return float(np.median(np.abs(y_true - y_pred)))


X, y = make_regression(
    n_samples=n_samples, n_features=10, n_informative=8, noise=5.0, random_state=42
)
X_train, X_rest, y_train, y_rest = train_test_split(X, y, test_size=0.4, random_state=42)
X_valid, X_test, y_valid, y_test = train_test_split(X_rest, y_rest, test_size=0.5, random_state=42)

with mlflow.start_run() as run:
    mlflow.log_params(params)
    mlflow.log_param("n_samples", n_samples)

    model = xgb.XGBRegressor(eval_metric=median_absolute_error, **params)
    model.fit(X_train, y_train, eval_set=[(X_train, y_train), (X_valid, y_valid)], verbose=50)
    mlflow.log_metric("best_iteration", model.best_iteration)
    print(f"Stopped after tree {model.best_iteration} of {params['n_estimators']}")

    history = model.evals_result()
    for part, curves in zip(("train", "valid"), history.values()):
        for name, curve in curves.items():
            for step in range(0, len(curve), 10):
                mlflow.log_metric(f"{part}_{name}", curve[step], step=step)

    predicted = model.predict(X_test)
    metrics = {
        "rmse": mean_squared_error(y_test, predicted) ** 0.5,
        "mae": mean_absolute_error(y_test, predicted),
        "r2": r2_score(y_test, predicted),
        "median_absolute_error": median_absolute_error(y_test, predicted),
    }
    mlflow.log_metrics(metrics)
    for name, value in metrics.items():
        print(f"{name}: {value:.4f}")

    mlflow.set_tags({"framework": "xgboost", "model_type": "XGBRegressor"})
    mlflow.xgboost.log_model(
        model,
        "model",
        signature=infer_signature(X_test, predicted),
        input_example=X_test[:5],
    )
    print(f"✅ Model trained successfully! Run ID: {run.info.run_id}")
