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
from training import completed, finished, upload

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


# What a job may do with the rest of MLflow: spans by OTLP, evaluation datasets, scorers.
EVALUATION = """
import json, os, time, urllib.request
import mlflow
from mlflow.genai.datasets import create_dataset
from mlflow.genai.scorers import Guidelines
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

@mlflow.trace
def answer(question):
    return "because"

with mlflow.start_run() as run:
    answer("why?")
mlflow.flush_trace_async_logging()

experiment_id = run.info.experiment_id
request = ExportTraceServiceRequest()
span = request.resource_spans.add().scope_spans.add().spans.add()
span.trace_id, span.span_id, span.name = bytes(range(16)), bytes(8), "by hand"
span.start_time_unix_nano = time.time_ns() - 1_000_000
span.end_time_unix_nano = time.time_ns()
headers = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": experiment_id}
if "MLFLOW_TRACKING_TOKEN" in os.environ:
    headers["authorization"] = "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"]
url = os.environ["MLFLOW_TRACKING_URI"] + "/v1/traces"
with urllib.request.urlopen(urllib.request.Request(url, request.SerializeToString(), headers)) as sent:
    print("spans", sent.status)

dataset = create_dataset(name="questions", experiment_id=experiment_id, tags={"team": "a"})
dataset.merge_records([{"inputs": {"question": "why?"}, "expectations": {"answer": "because"}}])
print("records", len(dataset.to_df()))
scorer = Guidelines(name="polite", guidelines="be polite", model="openai:/gpt-4o")
scorer.register(name="polite", experiment_id=experiment_id)
"""


def test_a_job_traces_and_keeps_datasets_and_scorers_there(asgard, kept):
    requirements = [f"mlflow=={mlflow.__version__}", "scikit-learn"]
    job = finished(asgard, upload(asgard, EVALUATION, "traced", requirements=requirements)["job_id"])
    assert job["status"] == "completed", job["logs"]
    assert "spans 200" in job["logs"] and "records 1" in job["logs"], job["logs"]
    run = kept.get("runs/get", run_id=job["run_id"])["run"]
    client = mlflow.MlflowClient(kept.url, kept.url)
    found = client.search_traces([run["info"]["experiment_id"]], include_spans=False)
    names = {trace.info.tags.get("mlflow.traceName") for trace in found}
    assert names >= {"answer"} and "tr-" + bytes(range(16)).hex() in {trace.info.trace_id for trace in found}
    listed = requests.get(
        f"{kept.url}/api/3.0/mlflow/scorers/list",
        params={"experiment_id": run["info"]["experiment_id"]},
        timeout=60,
    )
    assert [scorer["scorer_name"] for scorer in listed.json()["scorers"]] == ["polite"]


def test_files_of_a_registered_version_stay_for_a_runner(asgard, kept):
    client = mlflow.MlflowClient(asgard.url, asgard.url)
    run = client.create_run("0")
    artifacts = f"{asgard.url}/api/2.0/mlflow-artifacts/artifacts/0/{run.info.run_id}/artifacts"
    asked = {"name": "for-runners", "role": "runner"}
    key = requests.post(asgard.url + "/mlops/keys", json=asked, timeout=60).json()["key"]
    runner = {"authorization": f"Bearer {key}"}

    def put(name, headers):
        return requests.put(f"{artifacts}/{name}", b"x", headers=headers, timeout=60).status_code

    assert put("model/MLmodel", runner) == 200
    client.create_registered_model("left-alone")
    source = f"mlflow-artifacts:/0/{run.info.run_id}/artifacts/model"
    client.create_model_version("left-alone", source, run_id=run.info.run_id)
    assert put("model/MLmodel", runner) == 403
    assert put("other/MLmodel", runner) == 200
    assert requests.delete(f"{artifacts}/other/MLmodel", headers=runner, timeout=60).status_code == 403
    assert put("model/MLmodel", {}) == 200, "who manages models may change its files"
