#!/usr/bin/env python3
"""Customer churn from a table to predictions: python examples/churn/run_churn.py

Imports customers into an Iceberg table, defines features over it, trains a model in a job that reads
them by the Feast SDK, loads the newest values into the online store, and asks the model about
customers by their number alone. Then it has asgard train another model without a script.

Needs nothing but Python and a server (ASGARD_URL, default http://localhost:8000; ASGARD_TOKEN).
"""

import base64
import json
import os
import pathlib
import random
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
URL = os.environ.get("ASGARD_URL", "http://localhost:8000").rstrip("/")


def call(method, path, body=None, content_type="application/json"):
    """A call of the server; its answer as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body else None
    request = urllib.request.Request(URL + path, data=data, method=method)
    request.add_header("Content-Type", content_type)
    if "ASGARD_TOKEN" in os.environ:
        request.add_header("Authorization", "Bearer " + os.environ["ASGARD_TOKEN"])
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        sys.exit(f"{method} {path}: {refused.code} {refused.read().decode()}")


def customers():
    """Two states of each of 200 customers; every fourth is about to leave."""
    chance = random.Random(0)
    names = [feature["name"] for feature in json.loads((HERE / "view.json").read_text())["features"]]
    rows = [",".join(["customer_id", "event_timestamp", *names])]
    for month in ("2025-10-01", "2025-11-01"):
        for customer in range(1, 201):
            leaves = customer % 4 == 0
            purchases = chance.randint(1, 4) if leaves else chance.randint(3, 20)
            days = chance.randint(30, 90) if leaves else chance.randint(1, 40)
            value = round(chance.uniform(10, 90), 2)
            lifetime = round(value * purchases * chance.uniform(1, 2), 2)
            age = chance.randint(60, 2000)
            tickets = chance.randint(3, 9) if leaves else chance.randint(0, 3)
            rows.append(
                f"{customer},{month}T00:00:00,{purchases},{value},{days},{lifetime},{age},{tickets}"
            )
    return "\n".join(rows) + "\n"


def labels():
    """Who left after 3 November."""
    rows = ["customer_id,event_timestamp,churned"]
    rows += [f"{customer},2025-11-03T00:00:00,{int(customer % 4 == 0)}" for customer in range(1, 201)]
    return "\n".join(rows) + "\n"


def wait(job_id):
    """The job when it has ended well."""
    while True:
        job = call("GET", f"/mlops/training/jobs/{job_id}")
        if job["status"] == "failed":
            sys.exit(f"job {job_id} failed: {job['error']}\n{job['logs']}")
        if job["status"] == "completed":
            return job
        time.sleep(0.5)


def ask(model_name, customer_ids):
    """Predictions for customers of whom nothing but their number is sent."""
    return call(
        "POST",
        "/mlops/inference",
        {
            "model_name": model_name,
            "inputs": {"customer_id": customer_ids},
            "features_from": "customer_churn_features",
        },
    )


def main():
    for table, rows in (("customer_metrics", customers()), ("churn_labels", labels())):
        made = call("POST", f"/feast/tables/gold/{table}", rows.encode(), "text/csv")
        print(f"imported {made['rows']} rows into gold.{table}, snapshot {made['snapshot_id']}")
    view = json.loads((HERE / "view.json").read_text())
    print(call("POST", "/feast/features", view)["message"])

    script = base64.b64encode((HERE / "train_churn.py").read_bytes()).decode()
    job = call(
        "POST",
        "/mlops/training/upload",
        {
            "script_name": "train_churn.py",
            "script_content": script,
            "experiment_name": "churn",
            "model_name": "churn_predictor",
            "requirements": ["feast", "scikit-learn", "pandas"],
            "timeout": 900,
        },
    )
    job = wait(job["job_id"])
    print(job["logs"])
    print(f"trained churn_predictor version {job['model_version']} in run {job['run_id']}")

    call("POST", "/feast/materialize-incremental", {"feature_views": [view["name"]]})
    answer = ask("churn_predictor", [4, 5, 8])
    print("customers 4, 5, 8:", answer["predictions"], "by the", answer["engine"], "engine")

    job = call(
        "POST",
        "/mlops/models",
        {
            "model_name": "churn_direct",
            "framework": "sklearn",
            "model_type": "random_forest_classifier",
            "data_source": {
                "feature_views": [view["name"]],
                "label_table": {"schema": "gold", "table_name": "churn_labels"},
                "target_column": "churned",
            },
            "hyperparameters": {"n_estimators": 50, "random_state": 0},
        },
    )
    job = wait(job["job_id"])
    print(f"trained churn_direct version {job['model_version']} in run {job['run_id']}")
    print("customers 4, 5, 8:", ask("churn_direct", [4, 5, 8])["predictions"])


if __name__ == "__main__":
    main()
