"""A real MLflow server that keeps runs and models for asgard (`tracking.uri`)."""

import os
import signal
import subprocess
import sys
import time

import mlflow
import pytest
import requests
from conftest import Server, free_port
from training import completed

SCRIPT = """
import mlflow, mlflow.sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True, as_frame=True)
with mlflow.start_run():
    model = LogisticRegression(max_iter=300).fit(X, y)
    mlflow.log_param("rows", len(X))
    mlflow.log_metric("accuracy", model.score(X, y))
    mlflow.sklearn.log_model(model, "model", input_example=X.head(2), pip_requirements=["scikit-learn"])
"""
INPUTS = {
    "sepal length (cm)": [5.1, 6.7],
    "sepal width (cm)": [3.5, 3.0],
    "petal length (cm)": [1.4, 5.2],
    "petal width (cm)": [0.2, 2.3],
}

# A server of MLflow takes 10 s and more to start, on a busy machine a minute.
START_S = 300


class Mlflow:
    """`mlflow server` of the environment that these tests run in."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait(lambda: requests.get(self.url + "/health", timeout=10).ok, START_S)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def get(self, route, **fields):
        return requests.get(f"{self.url}/api/2.0/mlflow/{route}", params=fields, timeout=60).json()


def wait(holds, longest_s):
    """Waits until something holds; a server that cannot be reached yet is one of the reasons."""
    deadline = time.monotonic() + longest_s
    while True:
        try:
            if holds():
                return
        except requests.RequestException:
            pass
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    kept = Mlflow(folder)
    kept.start()
    yield kept
    kept.kill()


@pytest.fixture(scope="module")
def asgard(kept, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("external") / "data"
    server = Server(data_dir, {"ASGARD__TRACKING__URI": kept.url})
    server.start()
    yield server
    server.stop()


def predict(asgard, **more):
    body = {"model_name": "kept-elsewhere", "inputs": INPUTS, **more}
    return requests.post(asgard.url + "/mlops/inference", json=body, timeout=600)


def status(asgard):
    return requests.get(asgard.url + "/mlops/status", timeout=10).json()


def test_a_job_is_kept_by_the_other_server_which_goes_away_and_comes_back(asgard, kept):
    requirements = [f"mlflow=={mlflow.__version__}", "scikit-learn"]
    job = completed(asgard, SCRIPT, "kept-elsewhere", requirements=requirements, tags={"team": "a"})
    assert job["model_version"] == "1"

    # The other server has it all, with the job's name on it.
    run = kept.get("runs/get", run_id=job["run_id"])["run"]
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert tags["asgard.job_id"] == job["job_id"] and tags["team"] == "a"
    assert run["info"]["status"] == "FINISHED"
    version = kept.get("model-versions/get", name="kept-elsewhere", version="1")["model_version"]
    assert version["run_id"] == job["run_id"]

    # asgard shows what is there.
    wait(lambda: status(asgard)["mlflow_available"], 60)
    wait(lambda: status(asgard)["registered_models"] == 1, 60)
    assert status(asgard)["active_experiments"] >= 2
    models = requests.get(asgard.url + "/mlops/models", timeout=60).json()
    assert [model["name"] for model in models] == ["kept-elsewhere"]
    shown = requests.get(asgard.url + "/mlops/models/kept-elsewhere", timeout=60).json()
    assert shown["versions"][0]["job_id"] == job["job_id"]
    by_hand = {"model_name": "by-hand", "run_id": job["run_id"]}
    made = requests.post(asgard.url + "/mlops/registry", json=by_hand, timeout=60)
    assert made.status_code == 201 and made.json()["version"] == "1", made.text
    again = requests.post(asgard.url + "/mlops/registry", json=by_hand, timeout=60)
    assert again.json()["version"] == "1", again.text

    answer = predict(asgard)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == [0, 2]
    set_alias = {"name": "kept-elsewhere", "alias": "best", "version": "1"}
    alias = asgard.url + "/api/2.0/mlflow/registered-models/alias"
    assert requests.post(alias, json=set_alias, timeout=60).ok
    assert predict(asgard, model_version="@best").json()["predictions"] == [0, 2]
    unknown = predict(asgard, model_version="7")
    assert unknown.status_code == 404 and "kept-elsewhere" in unknown.json()["detail"], unknown.text

    kept.kill()
    # What was resolved a moment ago may be used for that long.
    wait(lambda: predict(asgard).status_code != 200, 30)
    began = time.monotonic()
    for refused in (
        predict(asgard),
        requests.get(asgard.url + "/mlops/models", timeout=60),
        requests.post(asgard.url + "/mlops/registry", json=by_hand, timeout=60),
    ):
        assert refused.status_code == 503, refused.text
        assert kept.url in refused.json()["detail"], refused.text
        assert "tracking.uri" in refused.json()["help"], refused.text
    search = asgard.url + "/api/2.0/mlflow/experiments/search"
    refused = requests.get(search, params={"max_results": 1}, timeout=60)
    assert refused.status_code == 503 and kept.url in refused.json()["message"], refused.text
    assert time.monotonic() - began < 10, "a server that is gone is told at once"
    wait(lambda: not status(asgard)["mlflow_available"], 30)
    assert kept.url in status(asgard)["mlflow_error"]

    kept.start()
    wait(lambda: status(asgard)["mlflow_available"], 60)
    assert predict(asgard).json()["predictions"] == [0, 2]
    assert len(requests.get(asgard.url + "/mlops/models", timeout=60).json()) == 2
