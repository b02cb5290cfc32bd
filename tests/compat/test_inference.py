"""Predictions of what uploaded scripts and MLflow clients have registered."""

import os
import pathlib
import signal
import subprocess
import time

import requests

from training import completed, environment_python, local_answer, predict

CUSTOM = """
import mlflow

class Thresholds(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return ["high" if x > 1 else "low" for x in model_input["x"]]

with mlflow.start_run():
    mlflow.log_metric("rules", 1)
    mlflow.pyfunc.log_model(name="model", python_model=Thresholds())
"""

TORCH = """
import mlflow, numpy as np, torch
from mlflow.models import infer_signature

torch.manual_seed(0)
X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
y = torch.from_numpy(X.sum(axis=1, keepdims=True))
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
with mlflow.start_run():
    for epoch in range(50):
        loss = torch.nn.functional.mse_loss(net(torch.from_numpy(X)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mlflow.log_metric("loss", loss.item())
    net.eval()
    mlflow.pytorch.log_model(
        net,
        "model",
        signature=infer_signature(X, net(torch.from_numpy(X)).detach().numpy()),
        input_example=X[:5],
    )
"""

# Says nothing of MLflow: with `autolog` it is logged all the same.
PLAIN = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True, as_frame=True)
LogisticRegression(max_iter=500, C=0.5).fit(X, y)
"""

# Logged by someone's own process, not by a job: its environment is made of its requirements.
FOREST = """
import mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

X, y = load_iris(return_X_y=True, as_frame=True)
model = RandomForestClassifier(20, random_state=0).fit(X, y)
with mlflow.start_run():
    mlflow.sklearn.log_model(
        model, "model", signature=infer_signature(X, y), registered_model_name="own_forest",
        serialization_format="cloudpickle",
    )
"""

IRIS = {
    "sepal length (cm)": [5.1, 6.2],
    "sepal width (cm)": [3.5, 2.8],
    "petal length (cm)": [1.4, 4.8],
    "petal width (cm)": [0.2, 1.8],
}


def workers(server):
    """The processes that hold models of this server: their Python is below its data directory."""
    found = set()
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"worker.py" in command and str(server.data_dir).encode() in command:
                found.add(int(entry.name))
    return found


def test_a_model_of_ones_own_is_trained_and_served(server):
    job = completed(server, CUSTOM, "thresholds")
    inputs = {"x": [0.5, 1.5]}
    answer = predict(server, "thresholds", inputs, return_probabilities=True)
    assert answer["predictions"] == ["low", "high"]
    assert answer["predictions"] == local_answer(server, job, inputs)["predictions"]
    assert answer["probabilities"] is None
    assert any("predict_proba" in note for note in answer["notes"])
    assert answer["engine"] == "python"


def test_a_script_without_mlflow_is_logged_and_served_with_autolog(server):
    job = completed(server, PLAIN, "plain", autolog=True)
    run = requests.get(
        server.url + "/api/2.0/mlflow/runs/get", params={"run_id": job["run_id"]}, timeout=60
    ).json()["run"]["data"]
    assert {"key": "C", "value": "0.5"} in run["params"]
    assert "training_score" in {metric["key"] for metric in run["metrics"]}
    answer = predict(server, "plain", IRIS)
    assert answer["predictions"] == local_answer(server, job, IRIS)["predictions"]


def test_a_network_is_trained_and_served(server):
    # PyTorch for Linux on PyPI brings its GPU libraries, 3 GB: the same list as in test_examples.py
    # is the same environment.
    packages = ["mlflow", "numpy", "scikit-learn", "torch"]
    job = completed(server, TORCH, "network", requirements=packages, timeout=900)
    inputs = {name: [0.1, -0.2] for name in "abcd"}
    answer = predict(server, "network", inputs)
    local = local_answer(server, job, inputs, matrix="float32")
    assert answer["predictions"] == local["predictions"]


def test_aliases_are_followed_from_one_request_to_the_next(server):
    script = CUSTOM.replace("x > 1", "x > 0")
    first = completed(server, CUSTOM, "champion_model")
    second = completed(server, script, "champion_model")
    assert (first["model_version"], second["model_version"]) == ("1", "2")
    for version, expected in (("1", "low"), ("2", "high"), ("1", "low")):
        alias = {"name": "champion_model", "alias": "champion", "version": version}
        url = server.url + "/api/2.0/mlflow/registered-models/alias"
        assert requests.post(url, json=alias, timeout=60).status_code == 200
        answer = predict(server, "champion_model", {"x": [0.5]}, model_version="@champion")
        assert answer["model_version"] == version
        assert answer["predictions"] == [expected]
    assert predict(server, "champion_model", {"x": [0.5]})["model_version"] == "2"


def test_a_model_from_outside_is_served_in_an_environment_of_its_requirements(server):
    job = completed(server, CUSTOM, "inside")
    python = environment_python(server, job)
    logged = subprocess.run(
        [str(python), "-W", "ignore", "-c", FOREST],
        env={**os.environ, "MLFLOW_TRACKING_URI": server.url, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert logged.returncode == 0, logged.stderr
    answer = predict(server, "own_forest", IRIS, return_probabilities=True)
    own = {**job, "model_name": "own_forest", "model_version": "1"}
    local = local_answer(server, own, IRIS, flavor="sklearn")
    assert answer["predictions"] == local["predictions"]
    assert answer["probabilities"] == local["probabilities"]
    assert answer["engine"] == "native"


def test_a_request_that_does_not_fit_says_what_does(server):
    completed(server, CUSTOM, "refusals")
    url = server.url + "/mlops/inference"
    body = {"model_name": "refusals", "inputs": {"x": [1, 2], "y": [1]}}
    ragged = requests.post(url, json=body, timeout=60)
    assert ragged.status_code == 422
    assert ragged.json()["detail"][0]["loc"] == ["body", "inputs", "y"]
    raised = requests.post(url, json={"model_name": "refusals", "inputs": {"z": [1]}}, timeout=60)
    assert raised.status_code == 422
    assert "KeyError" in raised.json()["message"]
    unknown = requests.post(url, json={"model_name": "refusal", "inputs": {"x": [1]}}, timeout=60)
    assert unknown.status_code == 404
    assert "refusals" in unknown.json()["help"]
    version = {"model_name": "refusals", "model_version": "9", "inputs": {"x": [1]}}
    missing = requests.post(url, json=version, timeout=60)
    assert missing.status_code == 404
    assert "refusals" in missing.json()["detail"] and "9" in missing.json()["detail"]


def test_predictions_are_counted(server):
    metrics = requests.get(server.url + "/metrics", timeout=60).text
    assert "mlops_inference_requests_total{" in metrics
    assert "mlops_inference_latency_seconds" in metrics


def test_workers_die_with_the_server_and_models_are_served_again(server):
    completed(server, CUSTOM, "orphan")
    before = predict(server, "orphan", {"x": [1]})
    held = workers(server)
    assert held
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(30)
    deadline = time.monotonic() + 60
    while workers(server) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not workers(server)
    server.start()
    assert predict(server, "orphan", {"x": [1]})["predictions"] == before["predictions"]
