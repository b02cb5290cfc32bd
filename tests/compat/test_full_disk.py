"""A disk that is full: what does not fit is refused in words, nothing is torn, nothing that was
acknowledged is lost, and the server goes on when there is room again.

The data directory is a small file system in memory, mounted where only the server sees it.
"""

import http.client
import json
import os
import pathlib
import subprocess
import time

import pytest

from conftest import Server

MIB = 1 << 20


class OnSmallDisk(Server):
    """A server whose data directory holds no more than 24 MiB."""

    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    mount = "mount -t tmpfs -o size=24m tmpfs"

    def command(self):
        script = f'{self.mount} "$1" && shift && exec "$@"'
        return [*self.unshare, "sh", "-c", script, "sh", str(self.data_dir), *super().command()]

    @property
    def disk(self):
        """The data directory as the server sees it."""
        return pathlib.Path(f"/proc/{self.process.pid}/root{self.data_dir}")


@pytest.fixture
def small(tmp_path):
    server = OnSmallDisk(tmp_path / "data")
    server.data_dir.mkdir()
    tried = subprocess.run(
        [*server.unshare, "sh", "-c", f'{server.mount} "$1"', "sh", str(server.data_dir)], capture_output=True, text=True
    )
    if tried.returncode != 0:
        pytest.skip(f"SKIPPED: no file system can be mounted here: {tried.stderr.strip()}")
    server.start()
    yield server
    server.stop()


def ask(server, method, path, body=None):
    """The status and the JSON of an answer."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.request(method, path, data, {"Content-Type": "application/json"})
    except (BrokenPipeError, ConnectionResetError):
        pass  # As urllib3, and so MLflow, has it: the answer may come before the body's end.
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content or b"{}")


def artifact(run_id, name):
    return f"/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/{name}"


def new_run(server):
    status, made = ask(server, "POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
    return status, made.get("run", {}).get("info", {}).get("run_id"), made


def test_an_artifact_that_does_not_fit_is_refused_whole(small):
    _, run_id, _ = new_run(small)
    assert ask(small, "PUT", artifact(run_id, "kept.bin"), os.urandom(4 * MIB))[0] == 200
    for name in ("large.bin", "kept.bin"):
        status, error = ask(small, "PUT", artifact(run_id, name), os.urandom(32 * MIB))
        assert (status, error["error_code"]) == (507, "RESOURCE_EXHAUSTED"), error
        assert "no room left" in error["message"]
    listed = ask(small, "GET", f"/api/2.0/mlflow/artifacts/list?run_id={run_id}")[1]
    assert [(file["path"], file["file_size"]) for file in listed["files"]] == [("kept.bin", 4 * MIB)]
    end = time.monotonic() + 60
    while any(file.is_file() and file.stat().st_size for file in (small.disk / "artifacts/.uploads").rglob("*")):
        assert time.monotonic() < end, "a part of an upload stays behind"
        time.sleep(0.01)
    assert ask(small, "PUT", artifact(run_id, "small.bin"), os.urandom(MIB))[0] == 200


def test_a_database_that_cannot_grow_says_so_and_goes_on_when_it_can(small):
    runs = [new_run(small)[1]]
    filler = small.disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError:
            pass
    tags = [{"key": f"k{i}", "value": os.urandom(2000).hex()} for i in range(50)]
    for _ in range(100):
        status, run_id, answer = new_run(small)
        if status == 200:
            runs.append(run_id)
            path = "/api/2.0/mlflow/runs/log-batch"
            status, answer = ask(small, "POST", path, {"run_id": run_id, "tags": tags})
        if status != 200:
            break
    assert (status, answer.get("error_code")) == (507, "RESOURCE_EXHAUSTED"), answer
    upload = {
        "script_name": "s", "script_content": "# " + os.urandom(MIB).hex(), "script_encoding": "plain",
        "experiment_name": "e", "model_name": "m",
    }  # fmt: skip
    status, error = ask(small, "POST", "/mlops/training/upload", upload)
    assert (status, error["code"]) == (507, "insufficient_storage"), error
    assert "doctor" in error["help"]
    script = "import mlflow\nmlflow.sklearn.log_model(model, 'model')\n# " + os.urandom(MIB).hex()
    deployment = {"model_name": "m", "script_content": script, "script_encoding": "plain"}
    status, error = ask(small, "POST", "/mlops/deploy?wait=false", deployment)
    assert (status, error["code"]) == (507, "insufficient_storage"), error
    assert ask(small, "GET", "/mlops/deployments") == (200, {"deployments": [], "next_page_token": None})
    assert ask(small, "GET", "/mlops/status")[0] == 200

    filler.unlink()
    status, run_id, answer = new_run(small)
    assert status == 200, answer
    for run_id in [*runs, run_id]:
        assert ask(small, "GET", f"/api/2.0/mlflow/runs/get?run_id={run_id}")[0] == 200


def upload(server, table, rows):
    """Imports `rows` random texts of 200 letters."""
    lines = (f"{n},2026-01-01T00:00:00,{os.urandom(100).hex()}" for n in range(rows))
    body = "\n".join(["id,event_timestamp,text", *lines]).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.request("POST", f"/feast/tables/gold/{table}", body, {"Content-Type": "text/csv"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def test_features_that_do_not_fit_are_refused_and_taken_when_they_do(small):
    status, made = upload(small, "texts", 10_000)
    assert status == 201, made
    view = {
        "name": "texts",
        "entities": ["id"],
        "features": [{"name": "text", "dtype": "string"}],
        "source": {"schema": "gold", "table_name": "texts"},
    }
    assert ask(small, "POST", "/feast/features", view)[0] == 201
    status, refused = upload(small, "many", 80_000)
    assert status == 507 and "no room left" in refused["message"], (status, refused)
    row = {"id": [1], "event_timestamp": ["2026-05-01"], "text": ["here"]}
    push = {"push_source_name": "texts", "df": row}
    assert ask(small, "POST", "/feast/push", push)[0] == 200
    ballast = small.disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError):
        while file.write(bytes(64 * 1024)):
            pass
    for _ in range(2):
        status, refused = ask(small, "POST", "/feast/materialize-incremental", {})
        assert (status, refused["code"]) == (507, "insufficient_storage"), refused
        # A small one may find room in the file.
        assert ask(small, "POST", "/feast/push", push)[0] in (200, 507)
    ballast.unlink()
    # The same server takes it now.
    assert ask(small, "POST", "/feast/push", push)[0] == 200
    question = {"features": ["texts:text"], "entities": {"id": [1]}}
    status, found = ask(small, "POST", "/feast/get-online-features", question)
    assert (status, found["results"][1]["values"]) == (200, ["here"]), found
    status, made = upload(small, "texts", 100)
    assert (status, made["rows"]) == (201, 100), made
