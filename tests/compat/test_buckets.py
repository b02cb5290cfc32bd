"""Artifacts in a bucket, and large ones: by the unmodified MLflow client, and by plain HTTP."""

import hashlib
import os
import pathlib

import pytest
import requests

MIB = 1024 * 1024


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


@pytest.fixture
def mlflow_in(monkeypatch):
    """Points MLflow at a server and lowers the sizes from which it sends files in parts."""
    mlflow = pytest.importorskip("mlflow")
    for name, value in {
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
        "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(6 * MIB),
        "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(5 * MIB),
        "MLFLOW_MULTIPART_DOWNLOAD_MINIMUM_FILE_SIZE": str(6 * MIB),
        "MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE": str(5 * MIB),
    }.items():
        monkeypatch.setenv(name, value)

    def point(server):
        mlflow.set_tracking_uri(server.url)
        mlflow.set_registry_uri(server.url)
        return mlflow

    yield point
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture
def in_parts(monkeypatch):
    """The files that MLflow sent in parts, or was told to send whole."""
    pytest.importorskip("mlflow")
    from mlflow.exceptions import _UnsupportedMultipartUploadException
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    tried = {}
    original = HttpArtifactRepository._try_multipart_upload

    def recorded(self, local_file, *args, **kwargs):
        name = os.path.basename(local_file)
        try:
            original(self, local_file, *args, **kwargs)
        except _UnsupportedMultipartUploadException:
            tried[name] = False
            raise
        tried[name] = True

    monkeypatch.setattr(HttpArtifactRepository, "_try_multipart_upload", recorded)
    return tried


@pytest.fixture
def files(tmp_path):
    """A small file and one of three parts."""
    (tmp_path / "small.txt").write_text("hello")
    (tmp_path / "large.bin").write_bytes(os.urandom(12 * MIB + 7))
    return tmp_path


@pytest.mark.mlflow
@pytest.mark.parametrize("place", ["bucket_server", "server"])
def test_files_go_up_and_come_down_in_parts_or_whole(place, request, mlflow_in, in_parts, files, tmp_path_factory):
    server = request.getfixturevalue(place)
    mlflow = mlflow_in(server)
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(files), "data")
    # A folder on the server's disk takes no parts: the client sends the file in one request.
    assert in_parts == {"large.bin": place == "bucket_server"}
    listed = mlflow.MlflowClient().list_artifacts(run.info.run_id, "data")
    assert {file.path: file.file_size for file in listed} == {
        "data/large.bin": 12 * MIB + 7,
        "data/small.txt": 5,
    }
    into = tmp_path_factory.mktemp("down")
    mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="data", dst_path=str(into))
    for name in ("small.txt", "large.bin"):
        assert digest(into / "data" / name) == digest(files / name), name
    if place == "bucket_server":
        stored = server.bucket_dir / run.info.experiment_id / run.info.run_id / "artifacts/data/large.bin"
        assert digest(stored) == digest(files / "large.bin")


@pytest.mark.mlflow
def test_a_model_is_logged_registered_and_loaded_from_the_bucket(bucket_server, mlflow_in):
    mlflow = mlflow_in(bucket_server)
    import numpy
    from sklearn.linear_model import LinearRegression

    import mlflow.sklearn

    model = LinearRegression().fit(numpy.array([[0.0], [1.0], [2.0]]), [1.0, 3.0, 5.0])
    name = f"line-{mlflow.__version__.replace('.', '-')}"
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            model, "model", registered_model_name=name, pip_requirements=["scikit-learn"]
        )
    loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")
    assert loaded.predict(numpy.array([[10.0]]))[0] == pytest.approx(21.0)
    version = mlflow.MlflowClient().get_model_version(name, "1")
    assert version.source


def memory_mib(server):
    """The most memory that the server has had since its peak was forgotten."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("place", ["bucket_server", "server"])
def test_a_large_file_passes_through_little_memory(place, request):
    """With ASGARD_BIG_FILE_MIB=2048: the promise of 2 GiB below 100 MiB."""
    server = request.getfixturevalue(place)
    size = int(os.environ.get("ASGARD_BIG_FILE_MIB", "192"))
    url = server.url + "/api/2.0/mlflow-artifacts/artifacts/0/big.bin"
    block = os.urandom(MIB)
    pathlib.Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    before = memory_mib(server)

    def content():
        for _ in range(size):
            yield block

    assert requests.put(url, data=content(), timeout=600).status_code == 200
    uploaded = memory_mib(server)
    with requests.get(url, stream=True, timeout=600) as answer:
        assert answer.headers["content-length"] == str(size * MIB)
        assert all(chunk == block for chunk in answer.iter_content(MIB))
    downloaded = memory_mib(server)
    last = requests.get(url, headers={"Range": "bytes=-10"}, timeout=60)
    assert (last.status_code, last.content) == (206, block[-10:])
    print(f"{place}: {size} MiB; memory {before:.0f}, {uploaded:.0f}, {downloaded:.0f} MiB at most")
    requests.delete(url, timeout=60)
    # What the server had before is other work's: here counts what the file added.
    assert downloaded - before < 80, (before, uploaded, downloaded)
