"""Fills an MLflow SQL store by MLflow itself: something of every kind, and prints what is in it.

usage: mlflow_store.py STORE_URI FOLDER   (FOLDER takes the artifacts, in the layouts that servers use)
"""

import json
import math
import os
import sys
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

store, folder = sys.argv[1], Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
os.chdir(folder)
mlflow.set_tracking_uri(store)
client = MlflowClient(store, store)
major = int(mlflow.__version__.split(".")[0])


def write(place, name, text):
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(text)


# Experiments whose artifacts are behind the server, in a file: URI, and at a plain path.
served = client.create_experiment("served", artifact_location="mlflow-artifacts:/1", tags={"team": "a", "é": "ü"})
by_uri = client.create_experiment("by uri", artifact_location=(folder / "by-uri").as_uri())
by_path = client.create_experiment("by path", artifact_location=str(folder / "by-path"))
remote = client.create_experiment("remote", artifact_location="s3://bucket/remote")
gone = client.create_experiment("gone", artifact_location=str(folder / "gone"))

runs = {}
for name, experiment in [("served", served), ("uri", by_uri), ("path", by_path), ("remote", remote), ("gone", gone)]:
    run = client.create_run(experiment, start_time=1_700_000_000_000, tags={"k": name}, run_name=f"run {name}")
    runs[name] = run.info.run_id
    client.log_batch(
        run.info.run_id,
        metrics=[Metric("loss", 1.0 / (step + 1), 1_700_000_000_000 + step, step) for step in range(900)],
        params=[Param("lr", "0.1"), Param("empty", ""), Param("long", "x" * 5000)],
        tags=[RunTag("note", "ß"), RunTag("mlflow.note.content", "# hi")],
    )
    for value in (math.nan, math.inf, -math.inf, 0.1 + 0.2):
        client.log_metric(run.info.run_id, "odd", value, timestamp=5, step=0)
    client.log_metric(run.info.run_id, "late", 1.0, timestamp=9, step=2)
    client.log_metric(run.info.run_id, "late", 9.0, timestamp=99, step=1)
    client.log_inputs(
        run.info.run_id,
        [DatasetInput(Dataset("iris", "d1", "local", "{}", "schema", "profile"), [InputTag("mlflow.data.context", "train")])],
    )
    client.set_terminated(run.info.run_id, "FINISHED", end_time=1_700_000_100_000)

write(folder / "mlartifacts/1" / runs["served"] / "artifacts/model", "MLmodel", "flavors: {}\n")
write(folder / "mlartifacts/1" / runs["served"] / "artifacts", "plot é.txt", "served")
write(folder / "by-uri" / runs["uri"] / "artifacts/model", "MLmodel", "flavors: {}\n")
write(folder / "by-path" / runs["path"] / "artifacts/deep/er", "a.txt", "path")

client.delete_run(runs["path"])
client.delete_experiment(gone)
failed = client.create_run(served, start_time=7)
client.set_terminated(failed.info.run_id, "FAILED", end_time=8)

client.create_registered_model("iris", tags={"owner": "me"}, description="flowers")
client.create_registered_model("empty")
for name, path in [
    ("served", f"mlflow-artifacts:/1/{runs['served']}/artifacts/model"),
    ("uri", str(folder / "by-uri" / runs["uri"] / "artifacts/model")),
    ("remote", f"s3://bucket/remote/{runs['remote']}/artifacts/model"),
    ("served", f"mlflow-artifacts:/1/{runs['served']}/artifacts/model"),
]:
    client.create_model_version("iris", path, run_id=runs[name], tags={"from": name}, description=f"of {name}")
client.transition_model_version_stage("iris", "1", "Production")
client.transition_model_version_stage("iris", "2", "Archived")
client.set_registered_model_alias("iris", "champion", "2")
client.delete_model_version("iris", "4")

models = []
if major >= 3:
    for name, experiment in [("served", served), ("path", by_path)]:
        model = client.create_logged_model(
            experiment, name=f"model-{name}", source_run_id=runs[name], tags={"t": "1"}, params={"depth": "3"}, model_type="tree"
        )
        models.append(model.model_id)
        place = folder / ("mlartifacts/1" if name == "served" else "by-path") / "models" / model.model_id / "artifacts"
        write(place, "MLmodel", "flavors: {}\n")
        client.finalize_logged_model(model.model_id, "READY")
    client.log_metric(runs["served"], "acc", 0.5, timestamp=3, step=4, model_id=models[0], dataset_name="iris", dataset_digest="d1")
    from mlflow.entities import LoggedModelInput, LoggedModelOutput

    client.log_inputs(runs["served"], models=[LoggedModelInput(models[0])])
    client.log_outputs(runs["served"], models=[LoggedModelOutput(models[0], step=3)])
    client.create_model_version("iris", f"models:/{models[0]}", run_id=runs["served"], model_id=models[0])

mlflow.set_experiment(experiment_id=by_path)


@mlflow.trace(attributes={"a": 1})
def traced(x):
    with mlflow.start_span("inner") as span:
        span.set_inputs({"x": x})
        span.set_outputs(x + 1)
    return x + 1


traces = []
for x in range(3):
    traced(x)
if hasattr(mlflow, "flush_trace_async_logging"):
    mlflow.flush_trace_async_logging()
if major >= 3:
    traces = [t.info.trace_id for t in mlflow.search_traces(experiment_ids=[by_path], return_type="list")]
    client.set_trace_tag(traces[0], "mood", "good")
else:
    traces = [t.info.request_id for t in client.search_traces([by_path])]
    client.set_trace_tag(traces[0], "mood", "good")

# Evaluation datasets from 3.4 on, scorers from 3.5 on; by the store, since clients run judges.
from mlflow.tracking._tracking_service.utils import _get_store  # noqa: E402

tracking, datasets = _get_store(store), []
if hasattr(tracking, "upsert_dataset_records"):
    dataset = tracking.create_dataset("questions", tags={"team": "a", "mlflow.user": "me"}, experiment_ids=[served, by_path])
    records = [
        {
            "inputs": {"question": f"why {n}?", "deep": {"b": [1, None, 2.5], "a": "ß"}},
            "outputs": ["because", n] if n % 2 else {"answer": "because"},
            "expectations": {"answer": "because"},
            "tags": {"n": str(n)},
            "source": {"source_type": "HUMAN", "source_data": {"user": "me"}},
        }
        for n in range(5)
    ] + [{"inputs": {"only": "inputs"}}]
    tracking.upsert_dataset_records(dataset.dataset_id, records)
    empty = tracking.create_dataset("empty")
    datasets = [dataset.dataset_id, empty.dataset_id]
if hasattr(tracking, "register_scorer"):
    for n in range(3):
        tracking.register_scorer(served, "polite", json.dumps({"name": "polite", "n": n}))
    tracking.register_scorer(by_path, "short", json.dumps({"name": "short"}))
if hasattr(tracking, "link_traces_to_run"):
    tracking.link_traces_to_run(traces[:2], runs["served"])

print(json.dumps({"datasets": datasets, "runs": runs, "failed": failed.info.run_id, "models": models, "traces": traces, "version": mlflow.__version__}))
