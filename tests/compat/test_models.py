"""Artifacts, logged models and the registry under the real MLflow clients.

Each test runs under every client version that the suite installs, against the `server` of
conftest.py. ASGARD_COMPAT_LARGE_BYTES is the size of the large artifact (256 MiB).
"""

import hashlib
import json
import os
import re
import socket
import urllib.error
import urllib.parse
import urllib.request
import uuid

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

pytestmark = pytest.mark.mlflow

MAJOR = int(mlflow.__version__.split(".")[0])

FRAME = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
LABELS = np.array([0, 0, 1, 1])


@pytest.fixture
def client(server):
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    mlflow.set_experiment(f"models-{uuid.uuid4().hex[:8]}")
    return MlflowClient()


@pytest.fixture
def name():
    return f"model {uuid.uuid4().hex[:8]}"


def trained():
    return LogisticRegression().fit(FRAME, LABELS)


def log(model=None, registered=None, **more):
    """Logs a model the way each generation of clients does, in a run of its own."""
    model = model or trained()
    more.setdefault("pip_requirements", ["scikit-learn"])
    with mlflow.start_run() as run:
        mlflow.log_metric("accuracy", 0.75)
        info = mlflow.sklearn.log_model(
            model,
            "model" if MAJOR < 3 else None,
            **({"name": "model"} if MAJOR >= 3 else {}),
            registered_model_name=registered,
            signature=infer_signature(FRAME, model.predict(FRAME)),
            input_example=FRAME.head(2),
            **more,
        )
    return run.info.run_id, info


def same(loaded):
    assert list(loaded.predict(FRAME)) == list(trained().predict(FRAME))


def forget_peak(server):
    """Lets the peak begin at what is held now (proc(5), clear_refs)."""
    with open(f"/proc/{server.process.pid}/clear_refs", "w") as refs:
        refs.write("5")


def peak_rss_bytes(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+)", status.read()).group(1)) * 1024


def status_of(request):
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


# --- artifacts -----------------------------------------------------------------------------


def test_artifacts_go_up_come_down_and_are_listed(client, tmp_path):
    folder = tmp_path / "folder"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "top.txt").write_text("top")
    (folder / "deep" / "er" / "low.bin").write_bytes(bytes(range(256)))
    odd = tmp_path / "a b & ü (1).txt"
    odd.write_text("odd")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")

    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder), "up")
        mlflow.log_artifact(str(odd))
        mlflow.log_artifact(str(empty))
        mlflow.log_dict({"x": 1}, "conf/a.json")
        mlflow.log_text("text", "notes.txt")
    run_id = run.info.run_id

    listed = {f.path: (f.is_dir, f.file_size) for f in client.list_artifacts(run_id)}
    assert listed == {
        "a b & ü (1).txt": (False, 3),
        "conf": (True, None),
        "empty": (False, 0),
        "notes.txt": (False, 4),
        "up": (True, None),
    }
    assert [f.path for f in client.list_artifacts(run_id, "up/deep/er")] == ["up/deep/er/low.bin"]
    assert client.list_artifacts(run_id, "notes.txt") == []
    assert client.list_artifacts(run_id, "missing") == []

    down = mlflow.artifacts.download_artifacts(run_id=run_id, dst_path=str(tmp_path / "down"))
    assert (tmp_path / "down" / "up" / "deep" / "er" / "low.bin").read_bytes() == bytes(range(256))
    assert (tmp_path / "down" / odd.name).read_text() == "odd"
    assert (tmp_path / "down" / "empty").read_bytes() == b""
    assert down
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/conf/a.json") == {"x": 1}
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes.txt") == "text"


def test_artifacts_are_deleted_and_overwritten(client, tmp_path):
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with mlflow.start_run() as run:
        mlflow.log_text("one", "a/b.txt")
        mlflow.log_text("two", "a/b.txt")
    uri = run.info.artifact_uri
    assert mlflow.artifacts.load_text(f"{uri}/a/b.txt") == "two"
    get_artifact_repository(uri).delete_artifacts("a/b.txt")
    assert client.list_artifacts(run.info.run_id, "a") == []
    with pytest.raises(Exception, match="404|not found|No such artifact|no artifact"):
        mlflow.artifacts.load_text(f"{uri}/a/b.txt")


def test_images_are_logged_under_names_full_of_percent_signs(client):
    with mlflow.start_run() as run:
        for step in range(40):
            image = np.zeros((2, 2, 3), dtype=np.uint8)
            mlflow.log_image(image, key="dog", step=step * 10, synchronous=True)
    # By hand: the client takes some of its own names for tricks ('%5c...') and stops at them.
    folder = urllib.parse.urlparse(run.info.artifact_uri).path[1:] + "/images"
    base = client.tracking_uri + "/api/2.0/mlflow-artifacts/artifacts"
    listed = json.loads(status_of(f"{base}?path={folder}")[1])["files"]
    images = [f["path"] for f in listed if f["path"].endswith(".png")]
    assert len(images) == 40
    for image in images:
        status, body = status_of(f"{base}/{folder}/{urllib.parse.quote(image)}")
        assert status == 200 and body.startswith(b"\x89PNG"), image


def test_a_large_artifact_streams_with_flat_memory(server, client, tmp_path):
    size = int(os.environ.get("ASGARD_COMPAT_LARGE_BYTES", 256 * 1024 * 1024))
    large = tmp_path / "large.bin"
    digest = hashlib.sha256()
    with large.open("wb") as file:
        for _ in range(size // (1024 * 1024)):
            block = os.urandom(1024 * 1024)
            digest.update(block)
            file.write(block)
    forget_peak(server)
    before = peak_rss_bytes(server)
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(large))
    down = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="large.bin", dst_path=str(tmp_path / "down")
    )
    read = hashlib.sha256()
    with open(down, "rb") as file:
        while block := file.read(1024 * 1024):
            read.update(block)
    assert read.hexdigest() == digest.hexdigest()
    grown = peak_rss_bytes(server) - before
    assert grown < 64 * 1024 * 1024, f"from {before / 1e6:.0f} MB by {grown / 1e6:.0f} MB"


def test_a_slow_reader_does_not_fill_the_servers_memory(server, client, tmp_path):
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(1024 * 1024) * 96)
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(large))
    path = urllib.parse.urlparse(run.info.artifact_uri).path
    forget_peak(server)
    before = peak_rss_bytes(server)
    with socket.create_connection(("127.0.0.1", server.port)) as reader:
        target = f"/api/2.0/mlflow-artifacts/artifacts{path}/large.bin"
        reader.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        # The server has sent what the sockets hold, and waits.
        assert reader.recv(1024).startswith(b"HTTP/1.1 200")
        assert status_of(f"{server.url}/health")[0] == 200
        for _ in range(20):
            status_of(f"{server.url}/mlops/models")
        grown = peak_rss_bytes(server) - before
    assert grown < 48 * 1024 * 1024, f"by {grown / 1e6:.0f} MB"


def test_a_killed_server_leaves_no_torn_file(server, tmp_path):
    own = type(server)(tmp_path / "data")
    own.start()
    url = f"{own.url}/api/2.0/mlflow-artifacts/artifacts/0/model.bin"
    assert status_of(urllib.request.Request(url, b"old", method="PUT"))[0] == 200
    with socket.create_connection(("127.0.0.1", own.port)) as writer:
        head = "PUT /api/2.0/mlflow-artifacts/artifacts/0/model.bin HTTP/1.1\r\nHost: localhost\r\n"
        writer.sendall(f"{head}Content-Length: 50000000\r\n\r\n".encode() + b"x" * 20_000_000)
        own.process.kill()
        own.process.wait()
    own.start()
    try:
        assert status_of(url) == (200, b"old")
        listed = json.loads(status_of(url.rsplit("/", 2)[0] + "?path=0")[1])
        assert [f["path"] for f in listed["files"]] == ["model.bin"]
    finally:
        own.stop()


def test_no_path_leads_out_of_the_store(server, client):
    base = f"{server.url}/api/2.0/mlflow-artifacts/artifacts/"
    for path in ["..%2f..%2fetc%2fpasswd", "%2e%2e/asgard.db", "%252e%252e/asgard.db", "a;/..%5cb"]:
        status, body = status_of(base + path)
        assert status == 400, path
        assert json.loads(body)["error_code"] == "INVALID_PARAMETER_VALUE"


# --- models --------------------------------------------------------------------------------


def test_a_model_is_logged_registered_and_loaded_by_every_name(client, name):
    run_id, info = log(registered=name)
    version = client.get_model_version(name, "1")
    assert version.run_id == run_id
    assert version.status == "READY"
    client.set_registered_model_alias(name, "champion", "1")
    client.transition_model_version_stage(name, "1", "Production")
    quoted = name
    for uri in [
        f"models:/{quoted}/1",
        f"models:/{quoted}/latest",
        f"models:/{quoted}/Production",
        f"models:/{quoted}@champion",
        f"runs:/{run_id}/model",
        info.model_uri,
    ]:
        loaded = mlflow.pyfunc.load_model(uri)
        same(loaded)
        assert loaded.metadata.signature.inputs.input_names() == ["a", "b"], uri
    same(mlflow.sklearn.load_model(f"models:/{quoted}/1"))
    example = mlflow.models.Model.load(f"models:/{quoted}/1")
    assert example.saved_input_example_info["type"] == "dataframe"


def test_register_model_by_run_and_by_logged_model(client, name):
    run_id, info = log()
    first = mlflow.register_model(f"runs:/{run_id}/model", name, tags={"kind": "a"})
    assert (first.version in ("1", 1)) and first.tags == {"kind": "a"}
    second = mlflow.register_model(info.model_uri, name)
    assert int(second.version) == 2
    for version in ("1", "2"):
        same(mlflow.pyfunc.load_model(f"models:/{name}/{version}"))
    found = client.search_model_versions(f"run_id = '{run_id}'")
    assert sorted(int(v.version) for v in found) == [1, 2]


@pytest.mark.skipif(MAJOR < 3, reason="logged models came with MLflow 3")
def test_a_logged_model_has_a_life_of_its_own(client, name):
    run_id, info = log()
    model = mlflow.get_logged_model(info.model_id)
    assert model.status == "READY"
    assert model.source_run_id == run_id
    assert model.name == "model"
    assert {m.key: m.value for m in model.metrics} == {"accuracy": 0.75}

    client.set_logged_model_tags(info.model_id, {"team": "a"})
    client.delete_logged_model_tag(info.model_id, "team")
    experiment = model.experiment_id
    found = client.search_logged_models([experiment], filter_string="name = 'model'")
    assert [m.model_id for m in found] == [info.model_id]
    by_metric = client.search_logged_models(
        [experiment],
        filter_string="metrics.accuracy > 0.5",
        order_by=[{"field_name": "metrics.accuracy", "ascending": False}],
    )
    assert [m.model_id for m in by_metric] == [info.model_id]
    assert "MLmodel" in [f.path for f in client.list_logged_model_artifacts(info.model_id)]

    outside = mlflow.initialize_logged_model(name="by-hand", params={"depth": "3"})
    mlflow.log_model_params({"n": "1"}, model_id=outside.model_id)
    mlflow.finalize_logged_model(outside.model_id, "READY")
    again = mlflow.get_logged_model(outside.model_id)
    assert again.params == {"depth": "3", "n": "1"}
    client.delete_logged_model(outside.model_id)
    with pytest.raises(MlflowException, match="not found"):
        mlflow.get_logged_model(outside.model_id)


def test_autolog_logs_a_model_that_loads(client):
    mlflow.sklearn.autolog(log_input_examples=False)
    try:
        with mlflow.start_run() as run:
            trained()
    finally:
        mlflow.sklearn.autolog(disable=True)
    same(mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model"))


def test_a_custom_model_with_code_and_files(client, name, tmp_path):
    class Doubler(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            with open(context.artifacts["factor"]) as file:
                self.factor = float(file.read())

        def predict(self, context, model_input, params=None):
            return model_input * self.factor

    factor = tmp_path / "factor.txt"
    factor.write_text("2")
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            **({"name": "model"} if MAJOR >= 3 else {"artifact_path": "model"}),
            python_model=Doubler(),
            artifacts={"factor": str(factor)},
            registered_model_name=name,
            pip_requirements=["pandas"],
        )
    loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")
    assert loaded.predict(FRAME)["a"].tolist() == [0.0, 2.0, 4.0, 6.0]


# --- the registry --------------------------------------------------------------------------


def test_registered_models_live_and_die(client, name):
    made = client.create_registered_model(name, {"team": "a"}, "first")
    assert (made.description, made.tags) == ("first", {"team": "a"})
    with pytest.raises(MlflowException) as error:
        client.create_registered_model(name)
    assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"
    client.update_registered_model(name, "second")
    client.set_registered_model_tag(name, "k", "v")
    client.delete_registered_model_tag(name, "team")
    got = client.get_registered_model(name)
    assert (got.description, got.tags) == ("second", {"k": "v"})
    new = f"{name} renamed"
    client.rename_registered_model(name, new)
    assert client.get_registered_model(new).description == "second"
    client.delete_registered_model(new)
    with pytest.raises(MlflowException) as error:
        client.get_registered_model(new)
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_versions_aliases_and_stages(client, name):
    run_id, _ = log(registered=name)
    for _ in range(2):
        log(registered=name)
    client.update_model_version(name, "1", "oldest")
    client.set_model_version_tag(name, "1", "checked", "yes")
    client.set_model_version_tag(name, stage=None, version="2", key="checked", value="no")
    client.delete_model_version_tag(name, "2", "checked")
    first = client.get_model_version(name, "1")
    assert (first.description, first.tags.get("checked")) == ("oldest", "yes")
    assert first.run_id == run_id
    assert client.get_model_version_download_uri(name, "1").startswith("mlflow-artifacts:/")

    for version in ("1", "2"):
        client.set_registered_model_alias(name, "champion", version)
        assert client.get_model_version_by_alias(name, "champion").version in (version, int(version))
    assert client.get_registered_model(name).aliases == {"champion": "2"}
    assert client.get_model_version(name, "2").aliases == ["champion"]
    client.delete_registered_model_alias(name, "champion")
    with pytest.raises(MlflowException):
        client.get_model_version_by_alias(name, "champion")
    with pytest.raises(MlflowException):
        client.set_registered_model_alias(name, "latest", "1")

    client.transition_model_version_stage(name, "1", "staging")
    client.transition_model_version_stage(name, "2", "Staging", archive_existing_versions=True)
    assert client.get_model_version(name, "1").current_stage == "Archived"
    latest = {v.current_stage: int(v.version) for v in client.get_latest_versions(name)}
    assert latest == {"Archived": 1, "Staging": 2, "None": 3}
    assert [int(v.version) for v in client.get_latest_versions(name, ["Staging"])] == [2]

    client.delete_model_version(name, "3")
    with pytest.raises(MlflowException):
        client.get_model_version(name, "3")
    log(registered=name)
    assert client.get_model_version(name, "4").version in ("4", 4)


def test_versions_by_hand_and_copied(client, name):
    run_id, info = log()
    client.create_registered_model(name)
    run = client.get_run(run_id)
    if MAJOR >= 3:
        source = f"models:/{info.model_id}"
        made = client.create_model_version(name, source, run_id, model_id=info.model_id)
    else:
        made = client.create_model_version(name, f"{run.info.artifact_uri}/model", run_id)
    assert int(made.version) == 1
    same(mlflow.pyfunc.load_model(f"models:/{name}/1"))
    copied = client.copy_model_version(f"models:/{name}/1", f"{name} copy")
    assert int(copied.version) == 1
    same(mlflow.pyfunc.load_model(f"models:/{name} copy/1"))
    with pytest.raises(MlflowException):
        client.create_model_version(name, "/etc/passwd", run_id)
    with pytest.raises(MlflowException):
        client.create_model_version(name, f"{run.info.artifact_uri}/../../../..", run_id)


def test_searches_of_models_and_versions(client, name):
    for suffix in ("a", "b", "c"):
        client.create_registered_model(f"{name} {suffix}", {"suffix": suffix})
    like = f"name LIKE '{name}%'"
    found = client.search_registered_models(like, order_by=["name DESC"])
    assert [m.name[-1] for m in found] == ["c", "b", "a"]
    page = client.search_registered_models(like, max_results=2)
    assert len(page) == 2 and page.token
    rest = client.search_registered_models(like, max_results=2, page_token=page.token)
    assert [m.name[-1] for m in rest] == ["c"] and not rest.token
    tagged = client.search_registered_models(f"{like} and tags.suffix = 'b'")
    assert [m.name[-1] for m in tagged] == ["b"]
    for _ in range(3):
        client.create_model_version(f"{name} a", "s3://bucket/model")
    versions = client.search_model_versions(f"name = '{name} a'", order_by=["version_number ASC"])
    assert [int(v.version) for v in versions] == [1, 2, 3]
    with pytest.raises(MlflowException):
        client.search_model_versions("nothing = 'x'")
    with pytest.raises(MlflowException):
        client.search_registered_models("name = 'a' OR name = 'b'")


# --- asgard's own routes -------------------------------------------------------------------


def test_models_are_listed_and_registered_by_hand(server, client, name):
    run_id, _ = log()
    body = json.dumps({"model_name": name, "run_id": run_id, "tags": {"by": "hand"}}).encode()
    request = urllib.request.Request(
        f"{server.url}/mlops/registry", body, {"Content-Type": "application/json"}
    )
    for _ in range(2):
        status, answer = status_of(request)
        assert status == 201
        answer = json.loads(answer)
        assert (answer["version"], answer["run_id"], answer["status"]) == ("1", run_id, "registered")
    same(mlflow.pyfunc.load_model(f"models:/{name}/1"))
    client.set_registered_model_alias(name, "champion", "1")
    status, models = status_of(f"{server.url}/mlops/models")
    item = next(m for m in json.loads(models) if m["name"] == name)
    assert item["aliases"] == {"champion": "1"}
    assert item["latest_versions"][0]["run_id"] == run_id
    status, answer = status_of(f"{server.url}/mlops/models/{urllib.parse.quote('no such')}")
    assert status == 404 and "help" in json.loads(answer)
