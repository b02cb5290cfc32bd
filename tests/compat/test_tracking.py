"""What a training script does with a tracking server, by the unmodified MLflow client.

Run it under each client that is supported: 2.16, 2.22, 3.5 and the newest.
"""

import math
import time
import uuid

import pytest

mlflow = pytest.importorskip("mlflow")

from mlflow.entities import Metric, Param, RunTag, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

pytestmark = pytest.mark.mlflow

MAJOR = int(mlflow.__version__.split(".")[0])


@pytest.fixture(autouse=True)
def tracking(server):
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    yield
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture
def client():
    return MlflowClient()


@pytest.fixture
def experiment_id(client):
    return client.create_experiment(f"test-{uuid.uuid4().hex}")


def test_experiments_are_made_found_changed_and_deleted(client):
    name = f"test-{uuid.uuid4().hex}"
    experiment_id = client.create_experiment(name, tags={"team": "a"})
    experiment = client.get_experiment(experiment_id)
    assert experiment.name == name
    assert experiment.tags == {"team": "a"}
    assert experiment.artifact_location == f"mlflow-artifacts:/{experiment_id}"
    assert experiment.creation_time > 0
    assert client.get_experiment_by_name(name).experiment_id == experiment_id
    assert client.get_experiment_by_name("missing") is None
    client.set_experiment_tag(experiment_id, "team", "b")
    assert client.get_experiment(experiment_id).tags == {"team": "b"}
    client.rename_experiment(experiment_id, name + "-renamed")
    client.delete_experiment(experiment_id)
    assert client.get_experiment(experiment_id).lifecycle_stage == "deleted"
    with pytest.raises(MlflowException) as error:
        client.create_experiment(name + "-renamed")
    assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"
    client.restore_experiment(experiment_id)
    assert client.get_experiment(experiment_id).lifecycle_stage == "active"
    with pytest.raises(MlflowException) as error:
        client.get_experiment("123456")
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_experiments_are_searched_in_pages(client):
    prefix = uuid.uuid4().hex
    for index in range(5):
        client.create_experiment(f"{prefix}-{index}", tags={"index": str(index)})
    by_name = f"name LIKE '{prefix}%'"
    page = client.search_experiments(filter_string=by_name, max_results=3, order_by=["name DESC"])
    assert [e.name[-1] for e in page] == ["4", "3", "2"]
    page = client.search_experiments(
        filter_string=by_name, max_results=3, order_by=["name DESC"], page_token=page.token
    )
    assert [e.name[-1] for e in page] == ["1", "0"]
    assert not page.token
    found = mlflow.search_experiments(filter_string=f"{by_name} AND tags.index = '3'")
    assert [e.name[-1] for e in found] == ["3"]


def test_a_script_logs_a_run():
    mlflow.set_experiment(f"test-{uuid.uuid4().hex}")
    with mlflow.start_run(run_name="first", tags={"release": "1"}, description="text") as run:
        mlflow.log_param("alpha", 0.5)
        mlflow.log_params({"l1": 1, "solver": "x"})
        mlflow.log_metric("loss", 0.7, step=0)
        mlflow.log_metric("loss", 0.3, step=1)
        mlflow.log_metrics({"acc": 0.9, "auc": 0.8}, step=2)
        mlflow.set_tag("stage", "test")
        mlflow.set_tags({"a": "1", "b": "2"})
    run = mlflow.get_run(run.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time
    assert run.info.run_name == run.data.tags["mlflow.runName"] == "first"
    assert run.data.params == {"alpha": "0.5", "l1": "1", "solver": "x"}
    assert run.data.metrics == {"loss": 0.3, "acc": 0.9, "auc": 0.8}
    assert run.data.tags["stage"] == "test"
    assert run.data.tags["release"] == "1"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")


def test_a_run_that_fails_says_so():
    with pytest.raises(ZeroDivisionError), mlflow.start_run() as run:
        1 / 0
    assert mlflow.get_run(run.info.run_id).info.status == "FAILED"


def test_numbers_of_every_kind_come_back(client, experiment_id):
    run_id = client.create_run(experiment_id).info.run_id
    for key, value in {
        "small": 5e-324,
        "large": 1.7976931348623157e308,
        "third": 1 / 3,
        "negative": -12345.678,
        "zero": 0.0,
    }.items():
        client.log_metric(run_id, key, value)
        assert client.get_run(run_id).data.metrics[key] == value
    client.log_metric(run_id, "nan", float("nan"))
    assert math.isnan(client.get_run(run_id).data.metrics["nan"])
    client.log_metric(run_id, "inf", float("inf"))
    assert client.get_run(run_id).data.metrics["inf"] == 1.7976931348623157e308


def test_a_history_comes_back_whole(client, experiment_id):
    run_id = client.create_run(experiment_id).info.run_id
    now = int(time.time() * 1000)
    points = [Metric("loss", 1 / (step + 1), now + step, step) for step in range(2500)]
    for start in range(0, len(points), 1000):
        client.log_batch(run_id, metrics=points[start : start + 1000])
    history = client.get_metric_history(run_id, "loss")
    assert [(m.step, m.timestamp, m.value) for m in history] == [
        (m.step, m.timestamp, m.value) for m in points
    ]
    assert client.get_metric_history(run_id, "missing") == []


def test_batches_are_whole_or_not_at_all(client, experiment_id):
    run_id = client.create_run(experiment_id).info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric("m", 1.0, 1, 0)],
        params=[Param("p", "1")],
        tags=[RunTag("t", "1")],
    )
    with pytest.raises(MlflowException) as error:
        client.log_batch(run_id, params=[Param("p", "2")], tags=[RunTag("t", "2")])
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"
    run = client.get_run(run_id)
    assert run.data.params == {"p": "1"}
    assert run.data.tags["t"] == "1"
    mlflow.log_params({f"p{i}": i for i in range(250)}, run_id=run_id)
    assert len(client.get_run(run_id).data.params) == 251


def test_a_param_does_not_change(client, experiment_id):
    run_id = client.create_run(experiment_id).info.run_id
    client.log_param(run_id, "p", 1)
    client.log_param(run_id, "p", 1)
    with pytest.raises(MlflowException):
        client.log_param(run_id, "p", 2)
    with pytest.raises(MlflowException):
        client.log_metric(run_id, "../m", 1.0)


def test_tags_change_and_go(client, experiment_id):
    run_id = client.create_run(experiment_id).info.run_id
    client.set_tag(run_id, "t", "1")
    client.set_tag(run_id, "t", "2")
    assert client.get_run(run_id).data.tags["t"] == "2"
    client.delete_tag(run_id, "t")
    assert "t" not in client.get_run(run_id).data.tags
    with pytest.raises(MlflowException) as error:
        client.delete_tag(run_id, "t")
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_runs_are_updated_deleted_and_restored(client, experiment_id):
    run_id = client.create_run(experiment_id, run_name="one").info.run_id
    client.update_run(run_id, status="FINISHED", name="two")
    run = client.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "two")
    client.set_terminated(run_id, status="KILLED", end_time=17)
    assert client.get_run(run_id).info.end_time == 17
    client.delete_run(run_id)
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    with pytest.raises(MlflowException):
        client.log_metric(run_id, "m", 1)
    deleted = client.search_runs([experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert [run.info.run_id for run in deleted] == [run_id]
    client.restore_run(run_id)
    client.log_metric(run_id, "m", 1)


def test_nested_runs_name_their_parent(client, experiment_id):
    mlflow.set_experiment(experiment_id=experiment_id)
    with mlflow.start_run() as parent:
        for value in range(3):
            with mlflow.start_run(nested=True) as child:
                mlflow.log_metric("m", value)
    found = client.search_runs(
        [experiment_id],
        f"tags.mlflow.parentRunId = '{parent.info.run_id}'",
        order_by=["metrics.m DESC"],
    )
    assert [run.data.metrics["m"] for run in found] == [2, 1, 0]
    assert mlflow.get_parent_run(child.info.run_id).info.run_id == parent.info.run_id


def test_runs_are_searched(client, experiment_id):
    for index in range(10):
        run_id = client.create_run(experiment_id, start_time=index + 1, run_name=f"r{index}").info.run_id
        client.log_batch(
            run_id,
            metrics=[Metric("m", index / 10, 1, 0)],
            params=[Param("p", str(index % 2)), Param("with space", "x")],
            tags=[RunTag("t.u", "even" if index % 2 == 0 else "odd")],
        )

    def names(filter_string="", **options):
        return [r.info.run_name for r in client.search_runs([experiment_id], filter_string, **options)]

    assert names() == [f"r{index}" for index in reversed(range(10))]
    assert names("metrics.m > 0.75") == ["r9", "r8"]
    assert names("metrics.m >= 0.2 AND metrics.m < 0.4 AND params.p = '0'") == ["r2"]
    assert names("tags.`t.u` LIKE 'o%' AND attributes.start_time < 5") == ["r3", "r1"]
    assert names("params.\"with space\" = 'x' AND run_name ILIKE 'R5'") == ["r5"]
    assert names("metrics.m != 0", order_by=["metrics.m ASC"], max_results=2) == ["r1", "r2"]
    assert names("status = 'FINISHED'") == []
    page = client.search_runs([experiment_id], order_by=["params.p DESC"], max_results=6)
    rest = client.search_runs(
        [experiment_id], order_by=["params.p DESC"], max_results=6, page_token=page.token
    )
    assert len({r.info.run_id for r in list(page) + list(rest)}) == 10
    with pytest.raises(MlflowException) as error:
        names("metrics.m > 1 OR metrics.m < 0")
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"

    table = mlflow.search_runs([experiment_id], order_by=["metrics.m DESC"])
    assert list(table["metrics.m"])[:2] == [0.9, 0.8]
    assert len(table) == 10


def test_inputs_are_kept():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})
    dataset = mlflow.data.from_pandas(table, name="points", targets="y")
    with mlflow.start_run() as run:
        mlflow.log_input(dataset, context="training", tags={"k": "v"})
    (read,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    assert (read.dataset.name, read.dataset.digest) == ("points", dataset.digest)
    assert {t.key: t.value for t in read.tags}["mlflow.data.context"] == "training"
    experiment = run.info.experiment_id
    found = mlflow.search_runs([experiment], "dataset.name = 'points' AND dataset.context = 'training'")
    assert run.info.run_id in list(found["run_id"])


def test_autolog_records_a_training(experiment_id):
    sklearn_linear = pytest.importorskip("sklearn.linear_model")
    mlflow.set_experiment(experiment_id=experiment_id)
    mlflow.sklearn.autolog(log_models=False)
    try:
        with mlflow.start_run() as run:
            sklearn_linear.LogisticRegression(C=0.5).fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    finally:
        mlflow.sklearn.autolog(disable=True)
    run = mlflow.get_run(run.info.run_id)
    assert run.data.params["C"] == "0.5"
    assert run.data.metrics["training_accuracy_score"] == 1.0
    assert run.data.tags["estimator_name"] == "LogisticRegression"


def test_asynchronous_logging_arrives(experiment_id):
    mlflow.set_experiment(experiment_id=experiment_id)
    with mlflow.start_run() as run:
        waiting = [mlflow.log_metric("m", i, step=i, synchronous=False) for i in range(50)]
        for operation in waiting:
            operation.wait()
    assert len(MlflowClient().get_metric_history(run.info.run_id, "m")) == 50


def test_artifacts_of_a_run_come_back(tmp_path):
    with mlflow.start_run() as run:
        mlflow.log_text("hello", "notes/a.txt")
        mlflow.log_dict({"a": [1, 2]}, "config.json")
    client = MlflowClient()
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {"notes", "config.json"}
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/a.txt") == "hello"
    assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/config.json") == {"a": [1, 2]}


@pytest.mark.skipif(MAJOR < 3, reason="clients of 2.x know no logged models")
def test_metrics_are_linked_to_a_logged_model(experiment_id):
    mlflow.set_experiment(experiment_id=experiment_id)
    with mlflow.start_run() as run:
        model = mlflow.initialize_logged_model(name="m")
        mlflow.log_metric("acc", 0.5, step=1, model_id=model.model_id)
        mlflow.finalize_logged_model(model.model_id, "READY")
    read = mlflow.get_logged_model(model.model_id)
    assert [(m.key, m.value, m.step) for m in read.metrics] == [("acc", 0.5, 1)]
    assert read.source_run_id == run.info.run_id


def test_a_trace_comes_back(experiment_id):
    if not hasattr(mlflow, "trace"):
        pytest.skip("this client makes no traces")
    mlflow.set_experiment(experiment_id=experiment_id)

    @mlflow.trace(name="root", attributes={"k": "v"})
    def root(x):
        with mlflow.start_span(name="inner") as span:
            span.set_inputs({"x": x})
            span.set_outputs(x + 1)
        return x + 1

    assert root(1) == 2
    if hasattr(mlflow, "flush_trace_async_logging"):
        mlflow.flush_trace_async_logging()
    traces = MlflowClient().search_traces([experiment_id])
    assert len(traces) == 1
    spans = {span.name: span for span in traces[0].data.spans}
    assert set(spans) == {"root", "inner"}
    assert spans["inner"].outputs == 2
    assert spans["root"].attributes["k"] == "v"
