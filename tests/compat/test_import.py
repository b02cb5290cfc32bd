"""`asgard import mlflow` on stores that MLflow itself made, on SQLite and PostgreSQL."""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.parse
import uuid

import pytest

mlflow = pytest.importorskip("mlflow")

from mlflow import MlflowClient  # noqa: E402

from conftest import ROOT, Server  # noqa: E402
from training import LONGEST_S  # noqa: E402

pytestmark = pytest.mark.mlflow

MAJOR = int(mlflow.__version__.split(".")[0])


def stores():
    yield "sqlite"
    if os.environ.get("ASGARD_TEST_POSTGRES_URL"):
        yield "postgresql"


def run_import(data_dir, *args):
    binary = os.environ.get("ASGARD_BIN", ROOT / "target/debug/asgard")
    command = [binary, "import", "mlflow", "--data-dir", data_dir, *args]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LONGEST_S)


def report(done):
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    report["kinds"] = {kind["kind"]: kind for kind in report["kinds"]}
    return report


@pytest.fixture(scope="module", params=list(stores()))
def store(request, tmp_path_factory):
    """A store made by this MLflow: its URL, its folder, and what is in it."""
    folder = tmp_path_factory.mktemp(request.param)
    url = f"sqlite:///{folder}/mlflow.db"
    if request.param == "postgresql":
        pytest.importorskip("psycopg2")
        import psycopg2

        base = os.environ["ASGARD_TEST_POSTGRES_URL"].replace("postgres://", "postgresql://", 1)
        name = f"mlflow_{uuid.uuid4().hex}"
        conn = psycopg2.connect(base)
        conn.autocommit = True
        conn.cursor().execute(f"CREATE DATABASE {name}")
        conn.close()
        url = urllib.parse.urlsplit(base)._replace(scheme="postgresql+psycopg2", path="/" + name).geturl()
    tool = pathlib.Path(__file__).with_name("mlflow_store.py")
    made = subprocess.run([sys.executable, tool, url, folder], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return url, folder, json.loads(made.stdout.splitlines()[-1])


def test_everything_comes_over_and_a_second_time_changes_nothing(store, tmp_path):
    url, folder, made = store
    data = tmp_path / "data"
    args = ("--from", url, "--artifacts", folder / "mlartifacts", "--json")
    dry = report(run_import(data, *args, "--dry-run"))
    assert dry["kinds"]["runs"] == {"kind": "runs", "found": 6, "new": 0, "here": 0, "left": 0}
    first = report(run_import(data, *args))
    for kind in first["kinds"].values():
        assert kind["left"] == 0 or kind["kind"] == "model version tags", kind
        if kind["kind"] not in ("latest metrics", "artifact bytes", "model version tags"):
            assert kind["new"] == kind["found"], kind
    assert first["left"] == [], first["left"]
    again = report(run_import(data, *args))
    assert all(kind["new"] == 0 for kind in again["kinds"].values()), again
    server = Server(data)
    server.start()
    try:
        mlflow.set_tracking_uri(server.url)
        look(MlflowClient(server.url, server.url), MlflowClient(url, url), made, tmp_path)
    finally:
        server.stop()
        mlflow.set_tracking_uri(None)


def look(here, there, made, tmp_path):
    """Compares what the two servers answer."""
    runs = made["runs"]
    everything = mlflow.entities.ViewType.ALL
    experiments = {e.experiment_id: e for e in here.search_experiments(everything)}
    for old in there.search_experiments(everything):
        new = experiments.pop(old.experiment_id)
        assert (new.name, new.tags, new.lifecycle_stage) == (old.name, old.tags, old.lifecycle_stage)
        assert (new.creation_time, new.last_update_time) == (old.creation_time, old.last_update_time)
    assert not experiments
    for run_id in runs.values():
        new, old = here.get_run(run_id), there.get_run(run_id)
        assert new.data.params == old.data.params
        assert new.data.tags == old.data.tags
        assert new.data.metrics.keys() == old.data.metrics.keys()
        for key, value in old.data.metrics.items():
            assert new.data.metrics[key] == value or math.isnan(value)
        for field in ("run_name", "status", "start_time", "end_time", "lifecycle_stage", "experiment_id"):
            assert getattr(new.info, field) == getattr(old.info, field), field
        for key in ("loss", "odd", "late"):
            points = [[(p.step, p.timestamp, str(p.value)) for p in c.get_metric_history(run_id, key)] for c in (here, there)]
            assert sorted(points[0]) == sorted(points[1])
        (dataset,) = new.inputs.dataset_inputs
        assert (dataset.dataset.name, dataset.dataset.profile) == ("iris", "profile")
        assert dataset.tags[0].value == "train"
    assert here.get_run(made["failed"]).info.status == "FAILED"
    assert here.get_run(runs["remote"]).info.artifact_uri.startswith("s3://bucket/remote/")
    for name, path, text in [("served", "plot é.txt", "served"), ("path", "deep/er/a.txt", "path")]:
        got = here.download_artifacts(runs[name], path, str(tmp_path))
        assert pathlib.Path(got).read_text() == text
    versions = {v.version: v for v in here.search_model_versions("name = 'iris'")}
    assert set(versions) == ({"1", "2", "3", "5"} if MAJOR >= 3 else {"1", "2", "3"})
    for number in versions:
        new, old = here.get_model_version("iris", number), there.get_model_version("iris", number)
        for field in ("description", "tags", "current_stage", "run_id", "creation_timestamp", "source"):
            assert (getattr(new, field) or "") == (getattr(old, field) or ""), field
    assert here.get_model_version_by_alias("iris", "champion").version == "2"
    uri = here.get_model_version_download_uri("iris", "2")
    assert uri == f"mlflow-artifacts:/2/{runs['uri']}/artifacts/model"
    model = here.get_registered_model("iris")
    assert (model.tags, model.description) == ({"owner": "me"}, "flowers")
    here.create_model_version("iris", f"runs:/{runs['served']}/model", runs["served"])
    last = max(int(v.version) for v in here.search_model_versions("name = 'iris'"))
    assert last == (6 if MAJOR >= 3 else 5), "the deleted version's number is used again"
    for model_id in made["models"]:
        new, old = here.get_logged_model(model_id), there.get_logged_model(model_id)
        for field in ("name", "tags", "params", "model_type", "source_run_id", "status", "creation_timestamp"):
            assert getattr(new, field) == getattr(old, field), field
        assert [(m.key, m.value) for m in new.metrics or []] == [(m.key, m.value) for m in old.metrics or []]
    fresh = here.create_experiment("after the import")
    assert int(fresh) == 6
    found = here.search_traces(["3"]) if MAJOR < 3 else mlflow.search_traces(locations=["3"], return_type="list") if "locations" in mlflow.search_traces.__code__.co_varnames else mlflow.search_traces(experiment_ids=["3"], return_type="list")
    assert len(found) == 3
    for trace in found:
        assert {span.name for span in trace.data.spans} == {"traced", "inner"}
        root = next(span for span in trace.data.spans if span.name == "traced")
        assert root.attributes["a"] == 1 and root.outputs == root.inputs["x"] + 1
    ids = {getattr(t.info, "trace_id", None) or t.info.request_id for t in found}
    assert ids == set(made["traces"])
    look_at_evaluation(here, there, made)


def look_at_evaluation(here, there, made):
    """Evaluation datasets, scorers, and the runs that traces are linked to."""
    new, old = here._tracking_client.store, there._tracking_client.store
    for dataset_id in made["datasets"]:
        here_is, there_is = new.get_dataset(dataset_id), old.get_dataset(dataset_id)
        for field in ("name", "digest", "schema", "profile", "tags", "created_time", "last_update_time", "created_by"):
            assert getattr(here_is, field) == getattr(there_is, field), field
        uses = [sorted(store.get_dataset_experiment_ids(dataset_id)) for store in (new, old)]
        assert uses[0] == uses[1]
        # Clients before some version cannot page through records of a server by name.
        records = [store._load_dataset_records(dataset_id, max_results=100)[0] for store in (new, old)]
        records = [[record.to_dict() for record in listed] for listed in records]
        assert records[0] == records[1]
    if hasattr(old, "list_scorer_versions"):
        for experiment_id, name in (("1", "polite"), ("3", "short")):
            versions = [store.list_scorer_versions(experiment_id, name) for store in (new, old)]
            versions = [
                [(v.scorer_name, v.scorer_version, str(v._serialized_scorer), v.creation_time) for v in listed]
                for listed in versions
            ]
            assert versions[0] == versions[1]
    if hasattr(old, "link_traces_to_run"):
        filter_string = f"attributes.run_id = '{made['runs']['served']}'"
        linked = here.search_traces(experiment_ids=["3"], filter_string=filter_string, include_spans=False)
        assert {trace.info.trace_id for trace in linked} == set(made["traces"][:2])


def test_artifacts_come_from_a_bucket(store, bucket, tmp_path):
    url, folder, made = store
    kept = bucket.root / "artifacts" / "old" / uuid.uuid4().hex
    shutil.copytree(folder / "mlartifacts", kept)
    environment = {**os.environ, **bucket.credentials, "AWS_ENDPOINT_URL_S3": bucket.endpoint}
    data = tmp_path / "data"
    args = ["--from", url, "--artifacts", f"s3://artifacts/old/{kept.name}", "--json"]

    def imported(*more, environment=environment):
        binary = os.environ.get("ASGARD_BIN", ROOT / "target/debug/asgard")
        command = [binary, "import", "mlflow", "--data-dir", data, *args, *more]
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env=environment, timeout=LONGEST_S
        )

    found = len([path for path in kept.rglob("*") if path.is_file()])
    dry = report(imported("--dry-run"))
    assert dry["kinds"]["artifact files"]["found"] >= found
    first = report(imported())
    # What was on the other machine's disk is on this one.
    assert first["left"] == [] and first["kinds"]["artifact files"]["new"] >= found
    for path in kept.rglob("*"):
        if path.is_file():
            here = data / "artifacts" / path.relative_to(kept)
            assert here.read_bytes() == path.read_bytes(), path
    again = report(imported())
    assert again["kinds"]["artifact files"]["new"] == 0
    wrong = {**environment, "AWS_SECRET_ACCESS_KEY": "wrong"}
    refused = imported(environment=wrong)
    assert refused.returncode == 1 and "storage.md" in refused.stderr, refused.stderr


def test_what_is_in_the_way_is_named_and_nothing_is_changed(store, tmp_path):
    url, _, _ = store
    server = Server(tmp_path / "data")
    server.start()
    MlflowClient(server.url, server.url).create_experiment("mine")
    busy = run_import(server.data_dir, "--from", url)
    assert busy.returncode == 7 and "stop the server" in busy.stderr
    server.stop()
    refused = run_import(server.data_dir, "--from", url)
    assert refused.returncode == 7 and 'experiment 1 ("mine")' in refused.stderr
    server.start()
    assert len(MlflowClient(server.url, server.url).search_experiments()) == 2
    server.stop()


def test_a_killed_import_is_run_again(store, tmp_path):
    url, folder, made = store
    data = tmp_path / "data"
    args = ["--from", url, "--artifacts", folder / "mlartifacts"]
    binary = os.environ.get("ASGARD_BIN", ROOT / "target/debug/asgard")
    for lines in (3, 5, 8):
        command = [binary, "import", "mlflow", "--data-dir", data, *args]
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for _ in range(lines):
            process.stderr.readline()
        process.kill()
        process.wait()
    done = report(run_import(data, *args, "--json"))
    assert done["left"] == []
    again = report(run_import(data, *args, "--json"))
    assert all(kind["new"] == 0 for kind in again["kinds"].values())
    assert again["kinds"]["metric points"]["here"] == again["kinds"]["metric points"]["found"] > 4500
    shutil.rmtree(data)


def test_what_is_no_store_is_refused(tmp_path):
    import sqlite3

    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.commit()
    for url, told in [
        (f"sqlite:///{tmp_path}/missing.db", "there is no file"),
        (f"sqlite:///{tmp_path}/other.db", "holds no MLflow store"),
        ("mysql://u:secret@h/db", "names no database that asgard reads"),
    ]:
        refused = run_import(tmp_path / "data", "--from", url)
        assert refused.returncode == 1 and told in refused.stderr, refused.stderr
        assert "secret" not in refused.stderr
