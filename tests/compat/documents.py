"""Running the blocks that the documents print. Only the address is put in: they print http://localhost:8000."""

import json
import os
import subprocess
import sys

from training import EXAMPLES, LONGEST_S, ROOT

PRINTED = "http://localhost:8000"
UPLOAD_FIELDS = {"job_id", "script_name", "experiment_name", "model_name", "status", "created_at"}
JOB_FIELDS = UPLOAD_FIELDS | {
    "run_id", "model_version", "logs", "error", "started_at", "completed_at",
    "duration_seconds", "elapsed_seconds",
}  # fmt: skip

# A script with a run and without a model.
RUN_ONLY = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('accuracy', 0.9)\n"

# The deploy test of the document.
TEST_TRAIN = """\
import mlflow
import mlflow.sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.datasets import make_classification

X, y = make_classification(n_samples=1000, n_features=20)

with mlflow.start_run():
    model = RandomForestClassifier()
    model.fit(X, y)
    mlflow.sklearn.log_model(model, 'model')
"""


def deployed_as_printed(server, folder, model_name):
    """The deployment of the printed script: encode_script.py > request.json, then curl -d @request.json."""
    (folder / "test_train.py").write_text(TEST_TRAIN)
    tool = ROOT / "ml_deployment/encode_script.py"
    command = [sys.executable, str(tool), "test_train.py", "--deploy", "--model-name", model_name]
    with open(folder / "request.json", "w") as request:
        subprocess.run(command, cwd=folder, stdout=request, check=True)
    curl = ["curl", "-sS", "-X", "POST", server.url + "/mlops/deploy", "-H", "Content-Type: application/json"]
    answer = subprocess.run(
        [*curl, "-d", "@request.json"], cwd=folder, check=True, capture_output=True, timeout=LONGEST_S
    )
    return json.loads(answer.stdout)


def run_bash(server, block, folder, **variables):
    """Runs a printed shell block in a folder; its stdout. `python` is the Python of the tests."""
    tools = folder / "tools"
    if not tools.exists():
        tools.mkdir()
        (tools / "python").symlink_to(sys.executable)
    path = "{}:{}".format(tools, os.environ["PATH"])
    return _run(
        ["bash", "-euo", "pipefail", "-c", block.replace(PRINTED, server.url)],
        folder,
        {**os.environ, "ASGARD_URL": server.url, "PATH": path, **variables},
    )


def run_python(server, block, folder):
    """Runs a printed Python block in a folder; its stdout."""
    return _run(
        [sys.executable, "-c", block.replace(PRINTED, server.url)], folder, dict(os.environ)
    )


def _run(command, folder, variables):
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=LONGEST_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def as_repository(folder):
    """A folder in which `python examples/...` works and files can be written."""
    (folder / "examples").symlink_to(EXAMPLES)
    (folder / "ml_deployment").symlink_to(ROOT / "ml_deployment")
    (folder / "my_model.py").write_bytes((EXAMPLES / "my_model.py").read_bytes())
    return folder
