"""A LightGBM classifier configured by environment variables, scored by AUC-ROC.

    asgard run examples/training_scripts/lightgbm_classification.py --model lgbm_classifier \
        -e N_SAMPLES=5000 -e N_FEATURES=25

Configuration by environment: N_SAMPLES (2000), N_FEATURES (20, at least 8), N_ESTIMATORS (300).
"""

import os

import lightgbm as lgb
import mlflow
import mlflow.lightgbm
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

n_samples = int(os.getenv("N_SAMPLES", "2000"))
n_features = int(os.getenv("N_FEATURES", "20"))
params = {
    "n_estimators": int(os.getenv("N_ESTIMATORS", "300")),
    "num_leaves": 31,
    "learning_rate": 0.05,
    "random_state": 42,
    "n_jobs": 1,
    "verbosity": -1,
}

print(f"Generating {n_samples} rows with {n_features} features")
values, target = make_classification(
    n_samples=n_samples,
    n_features=n_features,
    n_informative=5,
    n_redundant=2,
    random_state=42,
)
features = pd.DataFrame(values, columns=[f"feature_{i}" for i in range(n_features)])
X_train, X_test, y_train, y_test = train_test_split(
    features, target, test_size=0.25, random_state=42, stratify=target
)

with mlflow.start_run() as run:
    mlflow.log_params(params)
    mlflow.log_params({"n_samples": n_samples, "n_features": n_features})

    model = lgb.LGBMClassifier(**params)
    model.fit(
        X_train,
        y_train,
        eval_set=[(X_test, y_test)],
        eval_metric="auc",
        callbacks=[lgb.early_stopping(30, verbose=False), lgb.log_evaluation(50)],
    )

    probabilities = model.predict_proba(X_test)
    predicted = model.predict(X_test)
    metrics = {
        "auc_roc": roc_auc_score(y_test, probabilities[:, 1]),
        "accuracy": accuracy_score(y_test, predicted),
        "f1": f1_score(y_test, predicted),
        "log_loss": log_loss(y_test, probabilities),
        "best_iteration": model.best_iteration_,
    }
    mlflow.log_metrics(metrics)
    for name, value in metrics.items():
        print(f"{name}: {value:.4f}")

    importances = dict(zip(features.columns, map(int, model.feature_importances_)))
    importances = dict(sorted(importances.items(), key=lambda item: -item[1]))
    mlflow.log_dict(importances, "feature_importances.json")
    for name, value in list(importances.items())[:10]:
        print(f"   {name}: {value} splits")

    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print("⚠️ matplotlib is not installed: no importance plot")
    else:
        figure, axes = pyplot.subplots(figsize=(6, 4))
        top = list(importances.items())[:10][::-1]
        axes.barh([name for name, _ in top], [value for _, value in top])
        axes.set_xlabel("splits")
        figure.tight_layout()
        mlflow.log_figure(figure, "feature_importances.png")

    mlflow.set_tags({"framework": "lightgbm", "model_type": "LGBMClassifier"})
    mlflow.lightgbm.log_model(
        model,
        "model",
        signature=infer_signature(X_test, predicted),
        input_example=X_test.head(5),
    )
    print(f"✅ Model trained successfully! Run ID: {run.info.run_id}")
