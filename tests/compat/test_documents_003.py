"""Document 003, the platform guide: its blocks as printed, or in the corrected form."""

import json
import re
import textwrap

import pytest
import requests

from documents import run_bash, run_python
from training import EXAMPLES, ROOT, completed, predict


@pytest.fixture(scope="module")
def iris(server):
    """The guide's my_model, trained once."""
    return completed(
        server, EXAMPLES / "my_model.py", "my_model_003", requirements=["scikit-learn"]
    )


def test_003_status_by_curl(server, tmp_path):
    status = json.loads(run_bash(server, "curl http://localhost:8000/mlops/status | jq", tmp_path))
    assert {
        "mlflow_tracking_uri", "mlflow_available", "feast_store_available", "registered_models",
        "active_experiments", "feature_views", "timestamp",
    } <= set(status)  # fmt: skip
    assert status["mlflow_available"] is True


def test_003_docs_are_served(server):
    assert requests.get(server.url + "/docs", timeout=60).status_code == 200


def test_003_upload_and_execute(customers, server, tmp_path):
    (tmp_path / "train_model.py").write_bytes((EXAMPLES / "pickle/train_model.py").read_bytes())
    shown = run_python(
        server,
        """\
import requests
import base64

# Read and encode script
with open("train_model.py", "rb") as f:
    script_b64 = base64.b64encode(f.read()).decode('utf-8')

# Upload script
response = requests.post("http://localhost:8000/mlops/training/upload", json={
    "script_name": "train_model.py",
    "script_content": script_b64,
    "experiment_name": "customer_churn",
    "model_name": "churn_predictor_003",
    "requirements": ["scikit-learn", "pandas"],
    "environment_vars": {},
    "timeout": 600
})

job = response.json()
print(f"Job ID: {job['job_id']}")

# Monitor progress
import time
while True:
    status = requests.get(
        f"http://localhost:8000/mlops/training/jobs/{job['job_id']}"
    ).json()

    print(f"Status: {status['status']}")

    if status['status'] in ['completed', 'failed']:
        print(f"Run ID: {status['run_id']}")
        print(status['logs'])
        break

    time.sleep(5)
""",
        tmp_path,
    )
    assert "Status: completed" in shown
    assert "✅ Training completed!" in shown
    models = requests.get(server.url + "/mlops/models", timeout=60).json()
    assert "churn_predictor_003" in [model["name"] for model in models]


CLIENT_OF_003 = '''\
import requests
import base64
import time

class AsgardMLOpsClient:
    def __init__(self, base_url="http://localhost:8000"):
        self.base_url = base_url

    def get_status(self):
        """Get platform status"""
        return requests.get(f"{self.base_url}/mlops/status").json()

    def upload_script(self, script_path, experiment_name, model_name, **kwargs):
        """Upload and execute training script"""
        with open(script_path, "rb") as f:
            script_b64 = base64.b64encode(f.read()).decode('utf-8')

        payload = {
            "script_name": script_path.split('/')[-1],
            "script_content": script_b64,
            "experiment_name": experiment_name,
            "model_name": model_name,
            **kwargs
        }

        response = requests.post(
            f"{self.base_url}/mlops/training/upload",
            json=payload
        )
        return response.json()

    def get_job_status(self, job_id):
        """Get training job status"""
        return requests.get(
            f"{self.base_url}/mlops/training/jobs/{job_id}"
        ).json()

    def wait_for_job(self, job_id, timeout=600, poll_interval=5):
        """Wait for job to complete"""
        start_time = time.time()

        while time.time() - start_time < timeout:
            status = self.get_job_status(job_id)

            if status['status'] in ['completed', 'failed']:
                return status

            time.sleep(poll_interval)

        raise TimeoutError(f"Job {job_id} did not complete within {timeout}s")

    def list_models(self):
        """List registered models"""
        return requests.get(f"{self.base_url}/mlops/models").json()
'''

USAGE_OF_003 = """\
# Usage
client = AsgardMLOpsClient()

# Check status
status = client.get_status()
print(f"MLflow available: {status['mlflow_available']}")

# Upload training script
job = client.upload_script(
    script_path="train_model.py",
    experiment_name="customer_churn",
    model_name="churn_predictor_client",
    requirements=["scikit-learn", "pandas", "numpy"],
    timeout=600
)

print(f"Job ID: {job['job_id']}")

# Wait for completion
result = client.wait_for_job(job['job_id'])
print(f"Status: {result['status']}")
print(f"Run ID: {result['run_id']}")
"""


@pytest.mark.parametrize("ours", [False, True], ids=["as printed", "the shipped package"])
def test_003_python_client(customers, server, tmp_path, ours):
    (tmp_path / "train_model.py").write_bytes((EXAMPLES / "pickle/train_model.py").read_bytes())
    head = CLIENT_OF_003
    if ours:
        head = textwrap.dedent(
            """\
            import sys
            sys.path.insert(0, {!r})
            from asgard import AsgardMLOpsClient as Client
            AsgardMLOpsClient = lambda: Client("http://localhost:8000")
            """
        ).format(str(ROOT / "python"))
    shown = run_python(server, head + USAGE_OF_003, tmp_path)
    assert "MLflow available: True" in shown
    assert "Status: completed" in shown
    assert re.search(r"Run ID: [0-9a-f]{32}", shown)


def test_003_prometheus_metrics(server, iris):
    predict(server, "my_model_003", {"a": [5.1], "b": [3.5], "c": [1.4], "d": [0.2]})
    text = requests.get(server.url + "/metrics", timeout=60).text
    assert re.search(r'^mlops_training_jobs_total\{[^}]*status="completed"', text, re.M)
    for name in (
        "mlops_training_duration_seconds",
        "mlops_inference_requests_total",
        "mlops_inference_latency_seconds",
    ):
        assert re.search("^" + name, text, re.M), name


CUSTOMER_METRICS = """\
customer_id,event_timestamp,total_purchases,avg_purchase_value,days_since_last_purchase
1,2025-10-01T00:00:00,3,20.5,10
1,2025-11-01T00:00:00,4,21.5,5
1,2025-11-04T00:00:00,9,99.5,1
2,2025-11-02T00:00:00,7,10.0,30
3,2025-11-02T00:00:00,1,50.0,60
4,2025-11-02T00:00:00,2,40.0,2
"""


@pytest.fixture(scope="module")
def churn_features(server, tmp_path_factory):
    """The table behind the guide's view, and the view, created by the printed call."""
    table = requests.post(
        server.url + "/feast/tables/gold/customer_metrics",
        data=CUSTOMER_METRICS,
        headers={"content-type": "text/csv"},
        timeout=60,
    )
    assert table.status_code == 201, table.text
    shown = run_bash(
        server,
        """\
curl -X POST http://localhost:8000/feast/features \\
  -H "Content-Type: application/json" \\
  -d '{
    "name": "customer_churn_features",
    "entities": ["customer_id"],
    "features": [
      {"name": "total_purchases", "dtype": "int64"},
      {"name": "avg_purchase_value", "dtype": "float64"},
      {"name": "days_since_last_purchase", "dtype": "int32"}
    ],
    "source": {
      "table_name": "customer_metrics",
      "catalog": "iceberg",
      "schema": "gold"
    },
    "ttl_days": 365
  }'
""",
        tmp_path_factory.mktemp("curl"),
    )
    created = json.loads(shown)
    assert (created["status"], created["feature_count"]) == ("registered", 3)
    return created


def test_003_feature_views_are_listed_and_counted(churn_features, server, tmp_path):
    shown = json.loads(run_bash(server, "curl http://localhost:8000/feast/features", tmp_path))
    names = [view["name"] for view in shown["feature_views"]]
    assert churn_features["name"] in names and shown["total_count"] == len(names)
    status = requests.get(server.url + "/feast/status", timeout=60).json()
    assert status["feature_views_count"] >= 1
    platform = requests.get(server.url + "/mlops/status", timeout=60).json()
    assert platform["feast_store_available"] is True and platform["feature_views"] >= 1


def test_003_a_feature_view_that_is_missing_is_explained(server):
    answer = requests.get(server.url + "/feast/features/no_such_features", timeout=60)
    assert answer.status_code == 404
    body = answer.json()
    assert "Feature view 'no_such_features' not found" in body["message"]
    assert "GET /feast/features lists" in body["help"] and "POST /feast/features" in body["help"]


def test_003_features_in_training(churn_features, server):
    # The printed snippet; the labels, which it never asked for, stand in its entity_df (C33).
    job = completed(
        server,
        """\
from feast import FeatureStore
import pandas as pd

# Initialize Feast
store = FeatureStore(repo_path="/tmp/feast_repo")

# Get historical features
entity_df = pd.DataFrame({
    "customer_id": [1, 2, 3, 4, 5],
    "event_timestamp": pd.to_datetime("2025-11-03"),
    "target": [0, 1, 1, 0, 0],
})

training_df = store.get_historical_features(
    entity_df=entity_df,
    features=[
        "customer_churn_features:total_purchases",
        "customer_churn_features:avg_purchase_value",
        "customer_churn_features:days_since_last_purchase"
    ]
).to_df()

# Use for training
X = training_df.drop(['customer_id', 'event_timestamp', 'target'], axis=1)
y = training_df['target']

import mlflow
from sklearn.ensemble import RandomForestClassifier
print("SEEN", X.fillna(-1).values.tolist(), y.tolist())
with mlflow.start_run():
    mlflow.sklearn.log_model(RandomForestClassifier(n_estimators=5).fit(X.fillna(-1), y), "model")
""",
        "churn_from_features_003",
        requirements=["feast", "scikit-learn", "pandas"],
    )
    seen = "[[4.0, 21.5, 5.0], [7.0, 10.0, 30.0], [1.0, 50.0, 60.0], [2.0, 40.0, 2.0], [-1.0, -1.0, -1.0]]"
    assert f"SEEN {seen} [0, 1, 1, 0, 0]" in job["logs"], job["logs"]
