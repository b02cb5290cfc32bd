"""The tests that the documents name: connectivity, upload, training, mlflow_verification, model_listing,
inference and direct registration, on a server of their own."""

import time

import pytest
import requests

from training import EXAMPLES, finished, predict, upload

mlflow = pytest.importorskip("mlflow")

ROW = {"a": [5.1], "b": [3.5], "c": [1.4], "d": [0.2]}


@pytest.fixture(scope="module")
def job(server):
    return finished(
        server,
        upload(server, EXAMPLES / "my_model.py", "workflow", requirements=["scikit-learn"])[
            "job_id"
        ],
    )


def test_connectivity(server):
    status = requests.get(server.url + "/mlops/status", timeout=60)
    assert status.status_code == 200
    assert status.json()["mlflow_available"] is True


def test_upload(server):
    answer = upload(
        server, EXAMPLES / "my_model.py", "workflow_upload", requirements=["scikit-learn"]
    )
    assert answer["status"] == "queued"
    requests.post(
        "{}/mlops/training/jobs/{}/cancel".format(server.url, answer["job_id"]), timeout=60
    )


def test_training(job):
    assert job["status"] == "completed", job["logs"]
    assert job["started_at"] and job["completed_at"]
    assert job["model_version"] == "1"


def test_mlflow_verification(server, job):
    client = mlflow.MlflowClient(server.url)
    run = client.get_run(job["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["accuracy"] > 0.9
    assert client.get_experiment(run.info.experiment_id).name == job["experiment_name"]


def test_model_listing(server, job):
    models = requests.get(server.url + "/mlops/models", timeout=60).json()
    assert isinstance(models, list)
    model = next(model for model in models if model["name"] == "workflow")
    assert model["latest_versions"][0]["version"] == "1"
    assert model["latest_versions"][0]["run_id"] == job["run_id"]


def test_inference(server, job):
    answer = predict(server, "workflow", ROW)
    assert answer["predictions"] == [0]
    assert answer["model_version"] == "1"


def test_inference_by_alias(server, job):
    mlflow.MlflowClient(server.url).set_registered_model_alias("workflow", "champion", "1")
    answer = predict(server, "workflow", ROW, model_version="@champion")
    assert answer["model_version"] == "1"


def test_inference_on_an_unknown_model_names_it(server):
    body = {"model_name": "nobody", "inputs": {"x": [1]}}
    response = requests.post(server.url + "/mlops/inference", json=body, timeout=60)
    assert response.status_code == 404
    assert "nobody" in response.json()["detail"]
    assert response.json()["help"]


def test_direct_registration(server, tmp_path):
    """Experiment, run, metric, parameter, finish; then a model, POST /mlops/registry, inference."""
    sklearn = pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression

    assert sklearn.__version__
    mlflow.set_tracking_uri(server.url)
    client = mlflow.MlflowClient()
    experiment_id = client.create_experiment("direct-{}".format(time.time_ns()))
    run = client.create_run(experiment_id)
    client.log_metric(run.info.run_id, "accuracy", 0.95)
    client.log_param(run.info.run_id, "model_type", "LogisticRegression")
    model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    with mlflow.start_run(run_id=run.info.run_id):
        mlflow.sklearn.log_model(model, "model")
    client.set_terminated(run.info.run_id)

    body = {"model_name": "direct", "run_id": run.info.run_id, "tags": {"by": "hand"}}
    first = requests.post(server.url + "/mlops/registry", json=body, timeout=60)
    assert first.status_code == 201, first.text
    answer = first.json()
    assert {"model_name", "version", "run_id", "status", "created_at"} <= set(answer)
    assert (answer["version"], answer["status"]) == ("1", "registered")
    again = requests.post(server.url + "/mlops/registry", json=body, timeout=60)
    assert again.json()["version"] == "1", "registering the same run twice makes one version"
    assert predict(server, "direct", {"x": [0.2, 2.9]})["predictions"] == [0, 1]


def test_registering_a_run_without_a_model_is_refused_with_help(server):
    client = mlflow.MlflowClient(server.url)
    run = client.create_run("0")
    body = {"model_name": "nothing", "run_id": run.info.run_id}
    response = requests.post(server.url + "/mlops/registry", json=body, timeout=60)
    assert response.status_code in (404, 409, 422)
    assert "log_model" in response.json()["help"]
