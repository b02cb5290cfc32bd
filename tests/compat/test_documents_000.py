"""Document 000, the guide of script-based training: its blocks as printed, or in the corrected form."""

import json
import re
import subprocess
import sys
import time

import pytest
import requests

from documents import JOB_FIELDS, RUN_ONLY, UPLOAD_FIELDS, as_repository, run_bash
from training import EXAMPLES, LONGEST_S, completed, explain, failed, finished, predict, upload


@pytest.fixture
def repository(tmp_path):
    return as_repository(tmp_path)


@pytest.fixture(scope="module")
def iris(server):
    """The guide's my_model, trained once."""
    return completed(
        server, EXAMPLES / "my_model.py", "my_model_documents", requirements=["scikit-learn"]
    )


def test_000_upload_request_and_response(server):
    request = {
        "script_name": "my_training_script",
        "script_content": "aW1wb3J0IG1sZmxvdw==",
        "experiment_name": "customer_churn",
        "model_name": "churn_predictor",
        "requirements": ["scikit-learn", "pandas", "numpy"],
        "environment_vars": {"DATA_PATH": "/data/customers.csv", "N_ESTIMATORS": "100"},
        "timeout": 300,
        "tags": {"team": "data-science", "version": "1.0"},
    }
    response = requests.post(server.url + "/mlops/training/upload", json=request, timeout=60)
    assert response.status_code == 202
    answer = response.json()
    assert UPLOAD_FIELDS <= set(answer)
    assert answer["status"] == "queued"
    for field in ("script_name", "experiment_name", "model_name"):
        assert answer[field] == request[field]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", answer["created_at"])
    # `import mlflow` alone makes no run: the document's own "No MLflow run created".
    job = finished(server, answer["job_id"])
    assert job["status"] == "failed"
    assert job["error_info"]["code"] == "no_mlflow_run"


def test_000_manual_curl_upload_and_status(server, repository):
    answer = run_bash(
        server,
        """\
SCRIPT_B64=$(base64 -w 0 my_model.py)

curl -X POST http://localhost:8000/mlops/training/upload \\
  -H "Content-Type: application/json" \\
  -d '{
    "script_name": "my_model",
    "script_content": "'$SCRIPT_B64'",
    "experiment_name": "my_experiment",
    "model_name": "my_model_by_curl",
    "requirements": ["scikit-learn"]
  }'
""",
        repository,
    )
    job_id = json.loads(answer)["job_id"]
    assert finished(server, job_id)["model_version"] == "1"
    job = json.loads(
        run_bash(
            server,
            "curl http://localhost:8000/mlops/training/jobs/$JOB_ID",
            repository,
            JOB_ID=job_id,
        )
    )
    assert JOB_FIELDS <= set(job)
    assert job["status"] == "completed"
    assert job["error"] is None
    assert isinstance(job["duration_seconds"], float)
    assert isinstance(job["elapsed_seconds"], int)
    logs = run_bash(
        server,
        "curl http://localhost:8000/mlops/training/jobs/$JOB_ID | jq '.logs'",
        repository,
        JOB_ID=job_id,
    )
    assert "Executing training script..." in logs


def test_000_inference_by_curl(server, iris, tmp_path):
    block = """\
curl -X POST http://localhost:8000/mlops/inference \\
  -H "Content-Type: application/json" \\
  -d '{
    "model_name": "my_model",
    "model_version": "1",
    "inputs": {
      "sepal_length": [5.1, 6.2],
      "sepal_width": [3.5, 2.8],
      "petal_length": [1.4, 4.8],
      "petal_width": [0.2, 1.8]
    }
  }'
"""
    answer = json.loads(
        run_bash(server, block.replace('"my_model"', '"my_model_documents"'), tmp_path)
    )
    assert {
        "model_name", "model_version", "predictions", "probabilities", "inference_time_ms", "timestamp",
    } <= set(answer)  # fmt: skip
    assert answer["model_version"] == "1"
    assert answer["predictions"] == [0, 2]
    assert answer["probabilities"] is None
    assert answer["inference_time_ms"] > 0


def test_000_probabilities_when_asked_for(server, iris):
    inputs = {"a": [5.1], "b": [3.5], "c": [1.4], "d": [0.2]}
    answer = predict(server, "my_model_documents", inputs, return_probabilities=True)
    assert len(answer["probabilities"][0]) == 3
    assert sum(answer["probabilities"][0]) == pytest.approx(1.0)


def test_000_minimal_example(server):
    job = completed(server, EXAMPLES / "training_scripts/minimal.py", "minimal")
    answer = predict(server, "minimal", {"f{}".format(i): [0.5] for i in range(20)})
    assert answer["predictions"][0] in (0, 1)
    assert job["run_id"]


def test_000_upload_tool_from_its_own_folder_with_variables(server, tmp_path):
    script = tmp_path / "my_script.py"
    script.write_text(
        'import os\nprint("trees", int(os.getenv("N_ESTIMATORS", "100")))\n'
        'print("data", os.getenv("DATA_PATH", "/data/train.csv"))\n'
        'print("feast", os.getenv("USE_FEAST", "false").lower() == "true")\n'
        "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('m', 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "upload_training_script.py", "--script", str(script),
         "--env", "N_ESTIMATORS=200", "--env", "DATA_PATH=/data/custom.csv", "--env", "USE_FEAST=true",
         "--timeout", "1800", "--experiment", "e", "--model", "m", "--url", server.url, "--json"],
        cwd=EXAMPLES, capture_output=True, text=True, timeout=LONGEST_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert "trees 200\ndata /data/custom.csv\nfeast True\n" in job["logs"]
    assert job["timeout"] == 1800


def test_000_pinned_requirements(server):
    script = "import sklearn\nprint('version', sklearn.__version__)\n" + RUN_ONLY
    job = finished(
        server,
        upload(server, script, "pinned", requirements=["scikit-learn==1.7.2", "xgboost"])["job_id"],
    )
    assert job["status"] == "completed", explain(job)
    assert "version 1.7.2" in job["logs"]


def test_000_no_run_names_cause_and_cure(server):
    job = failed(server, "print('no mlflow here')\n", "no_run")
    assert job["error_info"]["error"] == "No MLflow run created"
    assert "Your script MUST" in job["error"] + job["error_info"]["help"]
    assert "mlflow.start_run()" in job["error"] + job["error_info"]["help"]


def test_000_import_error_names_the_requirement(server):
    job = failed(server, "import no_such_package_here\n", "import_error")
    assert "no_such_package_here" in job["error"]
    assert "requirements" in job["error_info"]["help"]


def test_000_timeout_suggests_a_larger_one(server):
    job = failed(server, "import time\ntime.sleep(600)\n", "too_slow", timeout=60)
    assert job["reason"] == "timeout"
    assert "timeout" in job["error_info"]["help"]
    assert 55 < job["duration_seconds"] < 200


def test_000_logs_can_be_read_while_running(server):
    script = "import time\nprint('first', flush=True)\ntime.sleep(30)\n"
    job_id = upload(server, script, "readable")["job_id"]
    deadline = time.monotonic() + LONGEST_S
    while True:
        job = requests.get(server.url + "/mlops/training/jobs/" + job_id, timeout=60).json()
        if "first" in job["logs"].split():
            break
        assert job["status"] in ("queued", "running") and time.monotonic() < deadline, explain(job)
        time.sleep(0.1)
    assert job["status"] == "running"
    cancelled = requests.post(server.url + "/mlops/training/jobs/" + job_id + "/cancel", timeout=60)
    assert cancelled.status_code == 202
    job = finished(server, job_id)
    assert (job["status"], job["reason"]) == ("failed", "cancelled")
