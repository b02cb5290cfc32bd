"""POST /mlops/deploy to a cluster with the real binary: script, image, push, pods, URL; and its crashes.

The cluster is a stand-in whose pods are real (stand_in_cluster.py), its registry a real one that lets nobody in
without a password. The server is this module's own; each test finds it alive and its cluster empty. With
ASGARD_TEST_KUBECONFIG=FILE the same tests run on that cluster: then settings such as
ASGARD__IMAGES__REGISTRY (which its nodes pull from) are those of the environment, and kubectl is needed.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time

import psycopg2
import pytest
import requests

import base_image
import containers
from conftest import Server
from documents import TEST_TRAIN, deployed_as_printed
from gate import Gate
from stand_in_cluster import NAMESPACE, StandInCluster
from test_deploy import GREETER, INPUTS, central, greeting, predict
from training import LONGEST_S, ROOT, completed, local_answer

KUBECONFIG = os.environ.get("ASGARD_TEST_KUBECONFIG")
BINARY = str(os.environ.get("ASGARD_BIN", ROOT / "target/debug/asgard"))
MODEL = "cluster_model"
# What a deployment makes; a real registry may need no secret.
KINDS = ("deployments", "services", "networkpolicies", "poddisruptionbudgets", "secrets")


class RealCluster:
    settings = {"ASGARD__DEPLOY__KUBERNETES__KUBECONFIG": KUBECONFIG}

    def names(self, kind):
        command = [containers.program("kubectl"), "--kubeconfig", KUBECONFIG, "-n", NAMESPACE, "get", kind]
        command += ["-l", "app.kubernetes.io/managed-by=asgard", "-o", "jsonpath={.items[*].metadata.name}"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout.split()

    @contextlib.contextmanager
    def held(self, phase):
        yield


class StandIn(StandInCluster):
    def __init__(self, folder, registry):
        super().__init__(folder)
        port = int(registry.rpartition(":")[2])
        self.registry = Gate(("127.0.0.1", 0), lambda: port)
        host = f"127.0.0.1:{self.registry.port}"
        self.settings = {
            "ASGARD__DEPLOY__KUBERNETES__KUBECONFIG": str(self.kubeconfig),
            "ASGARD__DEPLOY__KUBERNETES__SERVICE_PORT": str(self.service_port),
            "ASGARD__IMAGES__REGISTRY": f"{host}/models",
            "ASGARD__IMAGES__BASE": f"{host}/base:{{python}}",
            "ASGARD__IMAGES__USERNAME": containers.LOGIN[0],
            "ASGARD__IMAGES__PASSWORD": containers.LOGIN[1],
        }

    @contextlib.contextmanager
    def held(self, phase):
        """Keeps a deployment from leaving a phase."""
        self.slow = phase == "deploying"
        if phase in ("building", "pushing"):
            # Building begins with the base image, pushing with a look for the first layer.
            self.registry.hold(b"/base/manifests/" if phase == "building" else b"/v2/models/")
        try:
            yield
        finally:
            self.slow = False
            self.registry.release()

    def close(self):
        super().close()
        self.registry.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A server on which MODEL is trained, without a cluster yet."""
    if not KUBECONFIG:
        containers.needs_bubblewrap()
    server = Server(tmp_path_factory.mktemp("asgard-cluster") / "data")
    server.start()
    completed(server, TEST_TRAIN, MODEL)
    yield server
    if server.process.poll() is None:
        server.stop()
    shutil.rmtree(server.data_dir, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(trained, tmp_path_factory):
    if KUBECONFIG:
        yield RealCluster()
        return
    folder = tmp_path_factory.mktemp("cluster")
    with containers.registry(folder, auth=containers.locked(folder)) as registry:
        push_base(trained, folder, registry)
        cluster = StandIn(folder, registry)
        yield cluster
        cluster.close()


def push_base(server, folder, registry):
    """The base image is there for the Python that this machine's environments are made for."""
    python = next((server.data_dir / "environments").glob("*/bin/python")).resolve()
    base_image.write(folder / "layout", python, [BINARY])
    minor = subprocess.check_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True)
    copy = ["copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds", ":".join(containers.LOGIN)]
    copied = subprocess.run(
        [containers.program("skopeo"), *copy, f"oci:{folder}/layout", f"docker://{registry}/base:{minor.strip()}"],
        capture_output=True, text=True, timeout=LONGEST_S,
    )  # fmt: skip
    assert copied.returncode == 0, copied.stderr


@pytest.fixture(scope="module")
def server_in_cluster(trained, cluster):
    trained.stop()
    trained.environment.update(cluster.settings)
    trained.start()
    yield trained
    # Before its cluster goes.
    if trained.process.poll() is None:
        trained.stop()


@pytest.fixture
def server(server_in_cluster, cluster):
    """The server, alive, and its cluster with nothing in it; whatever became of the test before."""
    yield server_in_cluster
    if server_in_cluster.process.poll() is not None:
        server_in_cluster.start()
    empty(server_in_cluster, cluster)


def empty(server, cluster):
    """Removes all deployments of a server, and waits until the cluster has nothing of them."""
    for deployment in requests.get(server.url + "/mlops/deployments", timeout=60).json()["deployments"]:
        requests.delete(f"{server.url}/mlops/deployments/{deployment['deployment_id']}", timeout=60)
    until(lambda: not any(map(cluster.names, KINDS)))


def get(server, deployment):
    return requests.get(f"{server.url}/mlops/deployments/{deployment['deployment_id']}", timeout=60).json()


def remove(server, deployment):
    url = f"{server.url}/mlops/deployments/{deployment['deployment_id']}"
    assert requests.delete(url, timeout=60).status_code == 200


def until(what, limit_s=LONGEST_S):
    """Waits until something is so; what it is."""
    deadline = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def kill(server):
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(60)


def test_the_documents_script_becomes_a_url_of_the_cluster(server, cluster, tmp_path):
    deployed = deployed_as_printed(server, tmp_path, MODEL)
    assert deployed["status"] == "deployed", deployed
    document = get(server, deployed)
    assert document["target"] == "kubernetes"
    phases = [phase["phase"] for phase in document["phases"]]
    assert phases == ["training", "building", "pushing", "deploying"], document
    answer = predict(deployed["inference_url"], return_probabilities=True)
    assert answer["predictions"] == central(server, MODEL, deployed["model_version"])["predictions"]
    # Clouds give load balancers names, and people give them others.
    named = {"Host": "a1b2c3.eu-central-1.elb.amazonaws.com"}
    by_name = requests.post(deployed["inference_url"] + "/predict", json={"inputs": INPUTS}, headers=named, timeout=60)
    assert by_name.status_code == 200, by_name.text
    job = requests.get(f"{server.url}/mlops/training/jobs/{document['training_job_id']}", timeout=60).json()
    local = local_answer(server, job, INPUTS, flavor="sklearn")
    assert answer["predictions"] == local["predictions"]
    assert answer["probabilities"] == local["probabilities"]
    for kind in KINDS[:-1]:
        assert len(cluster.names(kind)) == 1, kind
    if not KUBECONFIG:
        assert cluster.names("secrets") == ["asgard-pull"], "its registry lets nobody in without a password"
    remove(server, deployed)
    until(lambda: not any(map(cluster.names, KINDS)))


def test_the_models_code_finds_its_variables_in_the_cluster(server, cluster):
    variables = {"GREETING": "$(HOME) $$5", "API_KEY": "hunter22 & more"}
    body = {"model_name": "greeter", "replicas": 1, "script_content": GREETER, "environment": variables}
    deployed = requests.post(server.url + "/mlops/deploy", json=body, timeout=LONGEST_S)
    assert deployed.status_code == 200, deployed.text
    assert greeting(deployed.json()["inference_url"]) == variables["GREETING"]
    path = f"{server.url}/mlops/deployments/{deployed.json()['deployment_id']}"
    for part in ("", "/logs", "/drift"):
        shown = requests.get(path + part, timeout=60)
        assert shown.ok and "hunter22" not in shown.text, shown.text
    assert requests.get(path + "/drift", timeout=60).json()["differences"] == []
    assert "hunter22" not in server.log.read_text()
    if not KUBECONFIG:
        [name] = cluster.names("deployments")
        assert "hunter22" not in json.dumps(cluster.objects["deployments", name]), "whoever reads Deployments reads it"
        assert set(cluster.names("secrets")) == {name, "asgard-pull"}


def test_pods_ask_for_the_key_of_the_settings(server):
    key = secrets.token_hex(32)
    server.stop()
    server.environment["ASGARD__DEPLOY__KUBERNETES__INFERENCE_KEY"] = key
    server.start()
    try:
        body = {"model_name": MODEL, "replicas": 1}
        deployed = requests.post(server.url + "/mlops/deploy", json=body, timeout=LONGEST_S)
        assert deployed.status_code == 200, deployed.text
        url = deployed.json()["inference_url"]
        ask = lambda **who: requests.post(url + "/predict", json={"inputs": INPUTS}, timeout=60, **who)  # noqa: E731
        for stranger in ({}, {"auth": ("me", "x" * 64)}, {"headers": {"Authorization": "Bearer " + "0" * 64}}):
            assert ask(**stranger).status_code == 401
        for holder in ({"auth": ("me", key)}, {"headers": {"Authorization": "Bearer " + key}}):
            answer = ask(**holder)
            assert answer.status_code == 200, answer.text
        assert requests.get(url + "/health", timeout=60).ok
        path = f"{server.url}/mlops/deployments/{deployed.json()['deployment_id']}"
        for part in ("", "/logs", "/drift"):
            assert key not in requests.get(path + part, timeout=60).text
        assert key not in server.log.read_text()
    finally:
        server.stop()
        del server.environment["ASGARD__DEPLOY__KUBERNETES__INFERENCE_KEY"]
        server.start()


@pytest.mark.parametrize("phase", ["training", "building", "pushing", "deploying", "deployed"])
def test_a_server_killed_in_a_phase_goes_on_and_leaves_nothing_over(server, cluster, phase):
    body = {"model_name": MODEL, "replicas": 1}
    if phase == "training":
        body["script_content"] = TEST_TRAIN
    with cluster.held(phase):
        started = requests.post(f"{server.url}/mlops/deploy?wait=false", json=body, timeout=60).json()
        state = until(lambda: get(server, started)["status"] in (phase, "failed", "deployed"))
        state = get(server, started)["status"]
        assert state == phase, get(server, started)
        kill(server)
    server.start()
    ended = until(lambda: get(server, started)["status"] in ("deployed", "failed") and get(server, started))
    assert ended["status"] == "deployed", ended
    answer = predict(ended["inference_url"])
    assert answer["model_version"] == ended["model_version"]
    assert len(cluster.names("deployments")) == len(cluster.names("services")) == 1
    assert not list((server.data_dir / "images/part").iterdir())
    # A removal is carried out too when its server dies over it.
    remove(server, ended)
    kill(server)
    server.start()
    until(lambda: not any(map(cluster.names, KINDS)))


@pytest.fixture
def image(server, cluster):
    """The name by digest of an image that is in the registry."""
    body = {"model_name": MODEL, "replicas": 1}
    answer = requests.post(server.url + "/mlops/deploy", json=body, timeout=LONGEST_S)
    assert answer.status_code == 200, answer.text
    image = get(server, answer.json())["image"]
    empty(server, cluster)
    return image


@pytest.fixture
def two_servers(cluster, tmp_path):
    """Two servers on one database, with the same cluster."""
    postgres = os.environ.get("ASGARD_TEST_POSTGRES_URL")
    if not postgres:
        pytest.skip("SKIPPED: ASGARD_TEST_POSTGRES_URL names no server")
    connection = psycopg2.connect(postgres)
    connection.autocommit = True
    database = f"cluster_{os.getpid()}"
    connection.cursor().execute(f"CREATE DATABASE {database}")
    settings = {
        **cluster.settings,
        "ASGARD__DATABASE__URL": postgres.rpartition("/")[0] + "/" + database,
        "ASGARD__ARTIFACTS__URL": f"file://{tmp_path}/artifacts",
    }
    servers = []
    try:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            servers.append(Server(tmp_path / name / "data", settings))
            servers[-1].start()
        yield servers
        if all(server.process.poll() is not None for server in servers):
            servers[0].start()
        alive = [server for server in servers if server.process.poll() is None]
        empty(alive[0], cluster)
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.stop()
        connection.cursor().execute(f"DROP DATABASE {database} WITH (FORCE)")
        connection.close()


def test_two_servers_lead_a_deployment_one_at_a_time_and_after_each_other(two_servers, cluster, image):
    first, second = two_servers
    mlflow = first.url + "/api/2.0/mlflow/"
    run = requests.post(mlflow + "runs/create", json={"experiment_id": "0"}, timeout=60).json()["run"]["info"]
    assert requests.post(mlflow + "registered-models/create", json={"name": MODEL}, timeout=60).ok
    version = {"name": MODEL, "source": run["artifact_uri"] + "/model", "run_id": run["run_id"]}
    assert requests.post(mlflow + "model-versions/create", json=version, timeout=60).ok
    body = {"model_name": MODEL, "replicas": 1, "image": image}

    def log(server, deployment):
        url = f"{server.url}/mlops/deployments/{deployment['deployment_id']}/logs"
        return [line["text"] for line in requests.get(url, timeout=60).json()["lines"]]

    for server in two_servers:
        deployed = requests.post(server.url + "/mlops/deploy", json=body, timeout=LONGEST_S)
        assert deployed.status_code == 200, deployed.text
        lines = log(second, deployed.json())
        for step in ("✓ image", "✓ all pods are ready", "✓ deployed"):
            assert len([line for line in lines if line.startswith(step)]) == 1, lines
    with cluster.held("deploying"):
        started = requests.post(first.url + "/mlops/deploy?wait=false", json=body, timeout=60).json()
        until(lambda: any("waiting" in line for line in log(second, started)))
        kill(first)
    ended = until(lambda: get(second, started)["status"] in ("deployed", "failed") and get(second, started))
    assert ended["status"] == "deployed", ended
    assert predict(ended["inference_url"])["predictions"]
    until(lambda: len(cluster.names("deployments")) == 1)
    remove(second, ended)
    until(lambda: not any(map(cluster.names, KINDS)))
