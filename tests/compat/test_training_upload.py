"""The testing report's test_training_upload.py: a script without a model, uploaded and watched."""

import time

import requests

from training import LONGEST_S, explain, upload

SCRIPT = """
import mlflow
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, f1_score

with mlflow.start_run() as run:
    print("✓ MLflow run created")
    X, y = make_classification(n_samples=500, n_features=20, random_state=1)
    model = RandomForestClassifier(n_estimators=50, max_depth=5, random_state=1).fit(X, y)
    print("✓ Training completed")
    mlflow.log_metric("accuracy", accuracy_score(y, model.predict(X)))
    mlflow.log_metric("f1_score", f1_score(y, model.predict(X)))
    print("✓ Metrics logged (accuracy, f1_score)")
    mlflow.log_params({"n_estimators": 50, "max_depth": 5})
    print("✓ Parameters logged (n_estimators, max_depth)")
"""


def test_upload_monitor_and_verify(server):
    answer = upload(
        server, SCRIPT, "test-model", experiment_name="asgard-automated-training",
        requirements=["scikit-learn"], timeout=300,
    )  # fmt: skip
    assert answer["status"] == "queued"
    seen, deadline = [], time.monotonic() + LONGEST_S
    while True:
        job = requests.get(
            "{}/mlops/training/jobs/{}".format(server.url, answer["job_id"]), timeout=60
        ).json()
        if job["status"] not in seen:
            seen.append(job["status"])
        if job["status"] in ("completed", "failed"):
            break
        assert time.monotonic() < deadline, explain(job)
        time.sleep(0.05)
    assert job["status"] == "completed", explain(job)
    assert seen == [state for state in ("queued", "running", "completed") if state in seen]

    # The log of the document, in its order.
    at = 0
    for line in (
        "Installing requirements...",
        "✓ Dependencies installed successfully",
        "Executing training script...",
        "✓ MLflow run created",
        "✓ Training completed",
        "✓ Metrics logged (accuracy, f1_score)",
        "✓ Parameters logged (n_estimators, max_depth)",
        "Run ID: " + job["run_id"],
    ):
        at = job["logs"].find(line, at)
        assert at >= 0, (line, job["logs"])

    run = requests.get(
        server.url + "/api/2.0/mlflow/runs/get", params={"run_id": job["run_id"]}, timeout=60
    ).json()["run"]
    assert {metric["key"] for metric in run["data"]["metrics"]} == {"accuracy", "f1_score"}
    assert {"key": "max_depth", "value": "5"} in run["data"]["params"]
