"""From a table to predictions: feature views, jobs, models, the online store."""

import json
import os
import re
import shutil
import subprocess
import sys
import uuid

import pytest
import requests
from conftest import Server
from training import EXAMPLES, LONGEST_S, explain, finished, predict

VIEW = json.loads((EXAMPLES / "churn/view.json").read_text())
FEATURES = [feature["name"] for feature in VIEW["features"]]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own: the documents' tests have other tables under the same names."""
    server = Server(tmp_path_factory.mktemp("asgard-features") / "data")
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.data_dir, ignore_errors=True)


@pytest.fixture(scope="module")
def churn(server):
    """What the churn example prints, step by step."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "churn/run_churn.py")],
        env={**os.environ, "ASGARD_URL": server.url},
        capture_output=True,
        text=True,
        timeout=2 * LONGEST_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def asked(server, model_name, customers, **fields):
    inputs = {"customer_id": customers}
    return predict(server, model_name, inputs, features_from="customer_churn_features", **fields)


def stats_of(server):
    path = "/feast/features/customer_churn_features/stats"
    return requests.get(server.url + path, timeout=60).json()


def test_the_churn_example_goes_from_a_table_to_predictions(churn):
    assert churn.count("customers 4, 5, 8: [1, 0, 1]") == 2, churn
    assert "by the native engine" in churn
    assert re.search(r"^  support_tickets_count +\d+\.\d\d%$", churn, re.M), churn
    assert "✓ Model artifact saved to MLflow (model/model.pkl)" in churn
    assert "✅ Training completed successfully!" in churn
    assert "trained churn_direct version 1 in run " in churn


def test_values_of_the_online_store_answer_like_values_that_are_sent(server, churn):
    question = {
        "entities": {"customer_id": [4, 5]},
        "features": ["customer_churn_features:" + name for name in FEATURES],
    }
    answer = requests.post(server.url + "/feast/get-online-features", json=question, timeout=60)
    names = answer.json()["metadata"]["feature_names"]
    columns = dict(zip(names, (column["values"] for column in answer.json()["results"])))
    del columns["customer_id"]
    sent = predict(server, "churn_predictor", columns, return_probabilities=True)
    looked_up = asked(server, "churn_predictor", [4, 5], return_probabilities=True)
    assert looked_up["probabilities"] == sent["probabilities"]


def test_an_unknown_customer_is_null_and_an_unknown_view_an_error(server, churn):
    answer = asked(server, "churn_predictor", [4, 999])
    assert len(answer["predictions"]) == 2
    assert any("customer_id 999" in note for note in answer["notes"]), answer["notes"]
    body = {
        "model_name": "churn_predictor",
        "inputs": {"customer_id": [4]},
        "features_from": "customers",
    }
    answer = requests.post(server.url + "/mlops/inference", json=body, timeout=60)
    assert answer.status_code == 404
    assert "Feature view 'customers' not found" in answer.json()["message"]
    assert "customer_churn_features" in answer.json()["message"]


def test_a_model_of_features_names_its_snapshots_and_is_trained_again_on_the_same_rows(
    server, churn
):
    run_id = churn.split("trained churn_direct version 1 in run ")[1].split()[0]
    run = requests.get(
        server.url + "/api/2.0/mlflow/runs/get", params={"run_id": run_id}, timeout=60
    ).json()["run"]["data"]
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    metrics = {metric["key"]: metric["value"] for metric in run["metrics"]}
    snapshot = tags["feast.snapshot.customer_churn_features"]
    assert snapshot.isdigit() and metrics["accuracy"] > 0.8
    assert tags["feast.snapshot.labels"].isdigit()
    # More rows come; the same script still reads those of its snapshots.
    more = ",".join(["customer_id", "event_timestamp", *FEATURES]) + "\n"
    more += "".join(f"{n},2025-11-02T00:00:00,1000,1.0,1,1.0,1,{n % 5}\n" for n in range(1, 201))
    table = server.url + "/feast/tables/gold/customer_metrics"
    rows = stats_of(server)["row_count"]
    csv = {"content-type": "text/csv"}
    assert requests.post(table, data=more, headers=csv, timeout=60).status_code == 201
    jobs = requests.get(
        server.url + "/mlops/training/jobs", params={"model_name": "churn_direct"}, timeout=60
    ).json()["jobs"]
    path = "/mlops/training/jobs/" + jobs[0]["job_id"] + "/rerun"
    again = requests.post(server.url + path, timeout=60).json()
    job = finished(server, again["job_id"])
    assert job["status"] == "completed", explain(job)
    run = requests.get(
        server.url + "/api/2.0/mlflow/runs/get", params={"run_id": job["run_id"]}, timeout=60
    ).json()["run"]["data"]
    assert {metric["key"]: metric["value"] for metric in run["metrics"]} == metrics
    params = {param["key"]: param["value"] for param in run["params"]}
    assert params["snapshot.customer_churn_features"] == snapshot
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert tags["feast.snapshot.customer_churn_features"] == snapshot
    assert tags["rerun_of"] == jobs[0]["job_id"]
    # Who used the view: the job of the Feast SDK, the direct one, and this one; and predictions.
    users = requests.get(
        server.url + "/feast/features/customer_churn_features/usage", timeout=60
    ).json()
    usage = users["jobs"]
    asking = {(model["model_name"], model["model_version"]) for model in users["models"]}
    assert ("churn_predictor", "1") in asking, users
    used = {(job["model_name"], job["model_version"]) for job in usage}
    assert {("churn_predictor", "1"), ("churn_direct", "1"), ("churn_direct", "2")} <= used, usage
    assert str(usage[0]["snapshot_id"]) == snapshot
    stats = stats_of(server)
    assert stats["row_count"] == rows + 200 and stats["features"][0]["max"] == 1000


SEGMENTS = "customer_id,event_timestamp,segment,visits,since\n" + "".join(
    f"{n},2025-11-01T00:00:00,{'gold' if n % 3 else ''},{n % 7},{n / 2}\n" for n in range(1, 101)
)


@pytest.mark.parametrize(
    "framework, model_type, target, fields",
    [
        ("xgboost", "XGBClassifier", "churned", {"metrics": ["accuracy", "roc_auc", "log_loss"]}),
        ("lightgbm", "lgbm_regressor", "visits", {"split": {"method": "time", "test_size": 0.25}}),
        ("sklearn", "logistic_regression", "churned", {"split": {"stratify": True}}),
    ],
)
def test_every_framework_learns_from_numbers_and_text(
    server, churn, framework, model_type, target, fields
):
    csv = {"content-type": "text/csv"}
    name = "segments_{}_{}".format(framework, uuid.uuid4().hex[:6])
    table = server.url + "/feast/tables/gold/" + name
    assert requests.post(table, data=SEGMENTS, headers=csv, timeout=60).status_code == 201
    view = {
        "name": name,
        "entities": ["customer_id"],
        "features": [
            {"name": "segment", "dtype": "string"},
            {"name": "visits", "dtype": "int64"},
            {"name": "since", "dtype": "float64"},
        ],
        "source": {"schema": "gold", "table_name": name},
    }
    assert requests.post(server.url + "/feast/features", json=view, timeout=60).status_code == 201
    source = {"feature_views": [view["name"]], "target_column": target}
    if target == "churned":
        source["label_table"] = {"schema": "gold", "table_name": "churn_labels"}
    body = {
        "model_name": name,
        "framework": framework,
        "model_type": model_type,
        "data_source": source,
        **fields,
    }
    answer = requests.post(server.url + "/mlops/models", json=body, timeout=60)
    assert answer.status_code == 202, answer.text
    job = finished(server, answer.json()["job_id"])
    assert job["status"] == "completed", explain(job)
    load = {"feature_views": [view["name"]]}
    path = "/feast/materialize-incremental"
    assert requests.post(server.url + path, json=load, timeout=60).status_code == 200
    inputs = {"customer_id": [1, 3, 999]}
    answer = predict(server, body["model_name"], inputs, features_from=view["name"])
    assert len(answer["predictions"]) == 3, answer
