"""Document 001, the implementation summary: its blocks as printed, or in the corrected form."""

import pytest
import requests

from documents import as_repository, run_bash
from training import LONGEST_S, predict


@pytest.fixture
def repository(tmp_path):
    return as_repository(tmp_path)


FOREST = """\
import mlflow
import mlflow.sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.datasets import make_classification

X, y = make_classification(n_samples=1000, n_features=20)

with mlflow.start_run():
    model = RandomForestClassifier(n_estimators=100)
    model.fit(X, y)
    mlflow.log_metric("accuracy", model.score(X, y))
    mlflow.sklearn.log_model(model, "model")
"""


def test_001_usage_flow(server, repository):
    run_bash(
        server,
        "cat > my_model.py <<EOF\n" + FOREST + "EOF\n"
        """
python examples/upload_training_script.py \\
    --script my_model.py \\
    --experiment my_exp \\
    --model my_model_001 \\
    --requirements scikit-learn
""",
        repository,
    )
    # The document then sends 2 columns to a model of 20: the refusal says how many are expected.
    response = requests.post(
        server.url + "/mlops/inference",
        json={
            "model_name": "my_model_001",
            "model_version": "1",
            "inputs": {"feature_0": [1.0, 2.0], "feature_1": [3.0, 4.0]},
        },
        timeout=LONGEST_S,
    )
    assert response.status_code == 422, response.text
    assert "20" in response.json()["message"]
    inputs = {"feature_{}".format(i): [1.0, 2.0] for i in range(20)}
    assert len(predict(server, "my_model_001", inputs)["predictions"]) == 2


@pytest.mark.parametrize(
    "arguments, model",
    [
        ("sklearn_classification.py --experiment test --model test_sklearn", "test_sklearn"),
        ("xgboost_regression.py --experiment test --model test_xgb --timeout 600", "test_xgb"),
        (
            "lightgbm_classification.py --experiment test --model test_lgbm "
            "--env N_SAMPLES=1000 --env N_FEATURES=10",
            "test_lgbm",
        ),
    ],
    ids=["sklearn", "xgboost", "lightgbm"],
)
def test_001_manual_tests_without_requirements(server, repository, arguments, model):
    block = (
        "python examples/upload_training_script.py --script examples/training_scripts/" + arguments
    )
    assert "Model: " + model in run_bash(server, block, repository)
    inputs = {"feature_{}".format(i): [0.1, 0.2] for i in range(10)}
    # Manual test 4: without a version the newest answers.
    assert len(predict(server, model, inputs)["predictions"]) == 2


def test_001_schemas_are_in_openapi(server):
    document = requests.get(server.url + "/openapi.json", timeout=60).json()
    assert {
        "TrainingScriptUploadRequest", "TrainingScriptUploadResponse", "TrainingJobStatus",
        "InferenceRequest", "InferenceResponse",
    } <= set(document["components"]["schemas"])  # fmt: skip
    assert {
        "/mlops/status", "/mlops/training/upload", "/mlops/training/jobs/{job_id}", "/mlops/models",
        "/mlops/registry", "/mlops/inference",
    } <= set(document["paths"])  # fmt: skip
