"""POST /mlops/deploy with the real binary: script to URL, model to URL, crashes of the server."""

import base64
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import requests

from conftest import free_port
from documents import TEST_TRAIN, deployed_as_printed
from training import LONGEST_S, ROOT, finished, upload

INPUTS = {f"x{n}": [0.1 * n, -0.2 * n] for n in range(20)}

# Its code reads variables when it is trained, loaded and asked. Its environment is that of TEST_TRAIN.
GREETER = """
import os
import mlflow
import mlflow.sklearn
import sklearn

class Greeter(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.loaded_with = os.environ.get("GREETING")

    def predict(self, context, model_input, params=None):
        return [self.loaded_with, os.environ.get("GREETING"), os.environ.get("ASGARD_MODEL_VARIABLES")]

with mlflow.start_run():
    mlflow.log_param("greeting", os.environ["GREETING"])
    mlflow.pyfunc.log_model(name="model", python_model=Greeter())
"""


def greeting(url):
    """What the model finds in its environment; the platform's own variables are not there."""
    answer = requests.post(url + "/predict", json={"inputs": {"x": [1, 2, 3]}}, timeout=60)
    assert answer.status_code == 200, answer.text
    loaded_with, asked_with, names = answer.json()["predictions"]
    assert loaded_with == asked_with and names is None, answer.text
    return asked_with


def predict(url, **more):
    response = requests.post(url + "/predict", json={"inputs": INPUTS, **more}, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


def central(server, model, version):
    body = {"model_name": model, "model_version": version, "inputs": INPUTS}
    answer = requests.post(server.url + "/mlops/inference", json=body, timeout=LONGEST_S)
    assert answer.status_code == 200, answer.text
    return answer.json()


def remove(server, deployment):
    url = f"{server.url}/mlops/deployments/{deployment['deployment_id']}"
    assert requests.delete(url, timeout=60).status_code == 200
    assert requests.get(url, timeout=60).status_code == 404


@pytest.fixture(scope="module")
def deployed(server, tmp_path_factory):
    """The document's own example, as printed."""
    return deployed_as_printed(server, tmp_path_factory.mktemp("deploy"), "deployed_model")


def test_the_printed_request_is_trained_and_deployed(server, deployed):
    assert deployed["status"] == "deployed", deployed
    assert deployed["model_version"] == "1"
    assert deployed["run_id"]
    assert deployed["deployment_time_seconds"] > 0
    assert [phase["phase"] for phase in deployed["phases"]] == ["training", "building", "deploying"]
    answer = predict(deployed["inference_url"])
    assert answer["predictions"] == central(server, "deployed_model", "1")["predictions"]
    job = requests.get(
        f"{server.url}/mlops/training/jobs/{deployed['training_job_id']}", timeout=60
    ).json()
    assert job["run_id"] == deployed["run_id"]


def test_a_deployment_tells_its_steps(server, deployed):
    url = f"{server.url}/mlops/deployments/{deployed['deployment_id']}"
    assert requests.get(url, timeout=60).json()["ready_replicas"] == 2
    log = requests.get(url + "/logs", timeout=60).json()
    text = "\n".join(line["text"] for line in log["lines"])
    for step in ("training as job", "environment of", "replica 0 ready", "deployed: answers at"):
        assert step in text, text
    events = requests.get(url + "/logs?follow=true", timeout=60).text
    assert "event: end" in events


def test_a_deployed_model_speaks_all_protocols(deployed):
    url = deployed["inference_url"]
    expected = predict(url, return_probabilities=True)
    assert len(expected["probabilities"]) == 2
    for path in ("/", "/health", "/metadata", "/v2/health/ready"):
        assert requests.get(url + path, timeout=60).status_code == 200, path
    answer = requests.post(url + "/invocations", json={"inputs": INPUTS}, timeout=60).json()
    assert answer == {"predictions": expected["predictions"]}
    tensors = [
        {"name": name, "shape": [2], "datatype": "FP64", "data": data}
        for name, data in INPUTS.items()
    ]
    answer = requests.post(
        url + "/v2/models/deployed_model/infer", json={"inputs": tensors}, timeout=60
    ).json()
    assert answer["outputs"][0]["data"] == expected["predictions"]
    wrong = requests.post(url + "/predict", json={"inputs": {"a": [1]}}, timeout=60)
    assert wrong.status_code == 422
    assert wrong.json()["message"]


def test_the_command_line_deploys_and_takes_back(server, deployed, tmp_path):
    binary = os.environ.get("ASGARD_BIN", ROOT / "target/debug/asgard")
    environment = {**os.environ, "ASGARD_URL": server.url, "HOME": str(tmp_path)}

    def run(*arguments):
        return subprocess.run(
            [str(binary), *arguments], env=environment, capture_output=True, text=True, timeout=LONGEST_S
        )

    made = run("deploy", "deployed_model/1", "--replicas", "1", "--canary", "10%")
    assert made.returncode == 0, made.stderr
    assert "✓ replicas" in made.stderr and "/predict" in made.stderr
    live = json.loads(run("deployments", "list", "--live", "--json").stdout)["deployments"]
    mine = [d for d in live if d["model_name"] == "deployed_model"]
    assert [d["traffic_percent"] for d in mine] == [10, 90]
    promoted = run("deployments", "traffic", mine[0]["deployment_id"], "100", "--json")
    assert json.loads(promoted.stdout)["traffic_percent"] == 100, promoted.stderr
    back = run("deployments", "rollback", mine[0]["deployment_id"])
    assert back.returncode == 0, back.stderr
    missing = run("deploy", "no_such_model")
    assert missing.returncode == 6, missing.stderr


def test_a_script_without_a_model_is_refused_before_it_runs(server):
    script = base64.b64encode(b"print('hello')").decode()
    body = {"model_name": "m", "script_content": script}
    answer = requests.post(server.url + "/mlops/deploy", json=body, timeout=60)
    assert answer.status_code == 422
    assert "log_model" in answer.json()["help"]


def test_a_failing_script_is_the_deployments_failure(server):
    script = "import mlflow\nraise ValueError('no data today')\nmlflow.autolog()\n"
    body = {"model_name": "failing", "script_content": script}
    answer = requests.post(server.url + "/mlops/deploy", json=body, timeout=LONGEST_S)
    assert answer.status_code == 422, answer.text
    assert "no data today" in answer.text
    assert answer.json()["details"]["training_job_id"]


def test_the_models_code_finds_the_variables_of_its_deployment(server):
    def deploy(status=200, **fields):
        body = {"model_name": "greeter", "replicas": 1, **fields}
        answer = requests.post(server.url + "/mlops/deploy", json=body, timeout=LONGEST_S)
        assert answer.status_code == status, answer.text
        return answer.json()

    secret = {"GREETING": "hello", "API_KEY": "hunter22 & more"}
    first = deploy(script_content=GREETER, environment=secret)
    url = first["inference_url"]
    assert greeting(url) == "hello"
    canary = deploy(model_version=1, environment={"GREETING": "$(HOME) $$5"}, canary_percent=50)
    answers = [greeting(url) for _ in range(100)]
    assert (answers.count("hello"), answers.count("$(HOME) $$5")) == (50, 50), answers
    path = f"{server.url}/mlops/deployments/{canary['deployment_id']}"
    back = requests.post(path + "/rollback", json={"to": first["deployment_id"]}, timeout=LONGEST_S)
    assert back.status_code == 200, back.text
    assert greeting(url) == "hello"
    for shown in ("", "/logs"):
        text = requests.get(f"{server.url}/mlops/deployments/{first['deployment_id']}{shown}", timeout=60).text
        assert "hunter22" not in text, text
    assert "hunter22" not in server.log.read_text()
    refused = deploy(422, model_version=1, environment={"PYTHONPATH": "/tmp", "GREETING": "x"})
    assert refused["detail"][0]["loc"] == ["body", "environment", "PYTHONPATH"], refused
    remove(server, back.json())


def test_a_model_server_says_that_its_model_is_loaded_and_stops_also_then(server, deployed, tmp_path):
    path = f"{server.url}/mlops/training/jobs/{deployed['training_job_id']}"
    [environment] = (server.data_dir / "environments").glob(requests.get(path, timeout=60).json()["environment"] + "*")
    described = server.data_dir.glob("**/MLmodel")
    folder = next(file.parent for file in described if deployed["run_id"] in file.read_text())
    port = free_port()
    command = [os.environ.get("ASGARD_BIN", ROOT / "target/debug/asgard"), "model-server", "--model", folder]
    command += ["--environment", environment, "--data-dir", tmp_path, "--listen", f"127.0.0.1:{port}"]

    def until(wanted):
        """The codes of its health until the wanted one came."""
        codes, deadline = [], time.monotonic() + LONGEST_S
        while wanted not in codes:
            assert process.poll() is None and time.monotonic() < deadline, codes
            with contextlib.suppress(requests.ConnectionError):
                answer = requests.get(f"http://127.0.0.1:{port}/health", timeout=60)
                codes.append(answer.status_code)
                assert answer.status_code == 200 or answer.json()["code"] == "model_loading", answer.text
        return codes

    # The first is asked to stop while it loads, the second when it answers.
    for wanted in (503, 200):
        process = subprocess.Popen(list(map(str, command)))
        try:
            codes = until(wanted)
            assert codes[0] == 503, codes
            if wanted == 200:
                assert predict(f"http://127.0.0.1:{port}")["predictions"]
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait(60)


def left_over(data_dir):
    """Model servers of this data directory that are alive: their commands by process number."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"model-server" in command and str(data_dir).encode() in command:
            found[int(entry.name)] = command
    return found


def proofs(server):
    folder = pathlib.Path(server.data_dir) / "serving/proofs"
    names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    # Others are half written, or say that a model has none.
    return {name for name in names if "." not in name}


def test_a_trained_model_is_proven_before_it_is_deployed(server):
    """The server compares it with Python when its job has ended; replicas start from that."""
    before = proofs(server)
    job = finished(server, upload(server, TEST_TRAIN, "proven_ahead")["job_id"])
    assert job["status"] == "completed", job
    deadline = time.monotonic() + LONGEST_S
    while not proofs(server) - before:
        assert time.monotonic() < deadline, server.log.read_text()[-4000:]
        time.sleep(0.1)
    body = {"model_name": "proven_ahead", "target": "local", "replicas": 2}
    deployment = requests.post(server.url + "/mlops/deploy", json=body, timeout=LONGEST_S).json()
    assert deployment["status"] == "deployed", deployment
    commands = [command.split(b"\0") for command in left_over(server.data_dir).values()]
    own = [command for command in commands if b"proven_ahead" in command]
    assert own and all(b"--proof" in command for command in own), own
    answer = predict(deployment["inference_url"])
    assert answer["engine"] == "native", answer
    assert answer["predictions"] == central(server, "proven_ahead", "1")["predictions"]
    assert len(proofs(server) - before) == 1
    remove(server, deployment)


def test_deployments_survive_kill_9_in_every_phase(server):
    """Kills the server once in each phase that it is seen in, and once when all is deployed."""
    url = server.url
    live = requests.get(url + "/mlops/deployments?live=true", timeout=60).json()["deployments"]
    for deployment in live:
        remove(server, deployment)
    seen = set()
    for phase in ("training", "building", "deploying", "deployed"):
        body = {"model_name": "killed_model", "replicas": 1}
        if phase == "training":
            body["script_content"] = TEST_TRAIN
        started = requests.post(url + "/mlops/deploy?wait=false", json=body, timeout=60).json()
        path = f"{url}/mlops/deployments/{started['deployment_id']}"
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline:
            state = requests.get(path, timeout=60).json()["status"]
            if state == phase or state in ("deployed", "failed"):
                seen.add(state)
                break
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(30)
        deadline = time.monotonic() + 20
        while left_over(server.data_dir) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = left_over(server.data_dir)
        # Only a sandbox that was being built, and in which nothing ever runs: crates/sandbox/src/orphan.rs.
        assert all(b"read -r go" in command for command in left.values()), left
        server.start()
        assert not left.keys() & left_over(server.data_dir).keys()
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline:
            document = requests.get(path, timeout=60).json()
            if document["status"] == "failed" or document["ready_replicas"]:
                break
            time.sleep(0.1)
        assert document["status"] == "deployed", document
        assert predict(document["inference_url"])["model_name"] == "killed_model"
    assert {"training", "deploying", "deployed"} <= seen
    remove(server, document)
