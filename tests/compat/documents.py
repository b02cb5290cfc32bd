"""Running the blocks that the documents print. Only the address is put in: they print http://localhost:8000."""

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
