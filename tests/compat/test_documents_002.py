"""Document 002, the fix summary: its blocks as printed, or in the corrected form."""

import base64
import json
import subprocess
import sys

import requests

from documents import RUN_ONLY, TEST_TRAIN
from training import EXAMPLES, ROOT, completed, failed, finished, upload


def test_002_model_missing_lists_what_was_found(server):
    script = RUN_ONLY + "    mlflow.log_text('x', 'notes/readme.txt')\n"
    job = finished(server, upload(server, script, "no_model")["job_id"])
    assert job["status"] == "completed"
    assert job["model_version"] is None
    warning = json.dumps(job["warnings"])
    assert "log_model" in warning
    assert "notes" in warning
    assert failed(server, script, "no_model", require_model=True)["error_info"]["code"]


def test_002_bad_base64_is_plain_text(server):
    response = requests.post(
        server.url + "/mlops/training/upload",
        json={
            "script_name": "plain.py", "script_content": "print('plain ✅ text')\n" + RUN_ONLY,
            "experiment_name": "compat", "model_name": "plain",
        },
        timeout=60,
    )  # fmt: skip
    job = finished(server, response.json()["job_id"])
    assert "plain ✅ text" in job["logs"]


def test_002_tags_reach_run_and_version(server):
    job = completed(
        server,
        EXAMPLES / "my_model.py",
        "tagged",
        tags={"team": "data-science"},
        requirements=["scikit-learn"],
    )
    api = server.url + "/api/2.0/mlflow/"
    run = requests.get(api + "runs/get", params={"run_id": job["run_id"]}, timeout=60).json()["run"]
    assert {"key": "team", "value": "data-science"} in run["data"]["tags"]
    version = requests.get(
        api + "model-versions/get",
        params={"name": "tagged", "version": job["model_version"]},
        timeout=60,
    ).json()["model_version"]
    assert {"key": "team", "value": "data-science"} in version["tags"]
    assert version["run_id"] == job["run_id"]


def test_002_encode_script(tmp_path):
    tool = ROOT / "ml_deployment/encode_script.py"
    script = tmp_path / "train.py"
    script.write_text(TEST_TRAIN)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, str(tool), str(script), *arguments],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    assert base64.b64decode(run()).decode() == TEST_TRAIN
    short = json.loads(run("--deploy", "--model-name", "my_model"))
    assert short["experiment_name"] == short["model_name"] == "my_model"
    long = json.loads(
        run("--deploy", "--model-name", "customer_churn", "--experiment-name", "production",
            "--requirements", "scikit-learn", "pandas", "xgboost", "--timeout", "600", "--replicas", "3")
    )  # fmt: skip
    assert (long["timeout"], long["replicas"]) == (600, 3)
    assert long["requirements"] == ["scikit-learn", "pandas", "xgboost"]
    assert base64.b64decode(long["script_content"]).decode() == TEST_TRAIN


def test_002_test_script_trains(server):
    assert completed(server, TEST_TRAIN, "test_model")["model_version"] == "1"
