"""Document 004, the testing report: its blocks as printed, or in the corrected form."""

import re

import requests

from documents import RUN_ONLY, run_python
from training import explain, finished, upload


def test_004_complete_example(server, tmp_path):
    shown = run_python(
        server,
        '''\
#!/usr/bin/env python3
import requests
import time
import base64

# Training script (no model logging to avoid S3 requirement)
script = """
import mlflow
from sklearn.ensemble import RandomForestClassifier
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score

mlflow.set_experiment("my-experiment")

with mlflow.start_run() as run:
    X, y = make_classification(n_samples=1000, n_features=20)
    model = RandomForestClassifier()
    model.fit(X, y)

    accuracy = accuracy_score(y, model.predict(X))
    mlflow.log_metric("accuracy", accuracy)
    mlflow.log_param("n_estimators", 100)

    print(f"Accuracy: {accuracy:.4f}")
"""

# Encode and upload
script_b64 = base64.b64encode(script.encode()).decode()
response = requests.post(
    "http://localhost:8000/mlops/training/upload",
    json={
        "script_name": "train.py",
        "script_content": script_b64,
        "experiment_name": "my-experiment",
        "model_name": "my-model",
        "requirements": ["scikit-learn"],
        "timeout": 300
    }
)

job_id = response.json()['job_id']
print(f"Job ID: {job_id}")

# Monitor
while True:
    status = requests.get(f"http://localhost:8000/mlops/training/jobs/{job_id}").json()
    print(f"Status: {status['status']}")
    if status['status'] in ['completed', 'failed']:
        print(f"Logs:\\n{status.get('logs', '')}")
        break
    time.sleep(5)
''',
        tmp_path,
    )
    # The printed output of the document, line by line.
    assert "Status: completed" in shown
    for line in (
        "Installing requirements...",
        "✓ Dependencies installed successfully",
        "Executing training script...",
    ):
        assert line in shown, line
    assert re.search(r"^Accuracy: \d\.\d{4}$", shown, re.M)
    assert re.search(r"Run ID: [0-9a-f]{32}", shown)


def test_004_script_without_a_model_completes_with_a_warning(server):
    job = finished(server, upload(server, RUN_ONLY, "test-model")["job_id"])
    assert job["status"] == "completed"
    assert job["model_version"] is None
    assert job["run_id"]
    assert job["warnings"]


def test_004_own_experiment_of_a_script_is_found(server):
    script = "import mlflow\nmlflow.set_experiment('my-own-experiment')\n" + RUN_ONLY
    job = finished(server, upload(server, script, "own")["job_id"])
    assert job["status"] == "completed", explain(job)
    assert job["run_experiment_name"] == "my-own-experiment"


def test_004_unknown_job_is_a_helpful_404(server):
    response = requests.get(server.url + "/mlops/training/jobs/1e2a6715", timeout=60)
    assert response.status_code == 404
    body = response.json()
    assert {"error", "message", "details", "help", "code", "request_id", "detail"} <= set(body)
    assert "1e2a6715" in body["message"]
