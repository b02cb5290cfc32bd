"""Every example script: upload, completed, inference, and the predictions of local Python."""

import json
import subprocess
import sys

import pytest
import requests

from documents import as_repository, run_bash
from training import EXAMPLES, completed, explain, finished, local_answer, predict, upload

SCRIPTS = EXAMPLES / "training_scripts"


def columns(count, rows=5):
    """Some rows of ``feature_0`` to ``feature_N``, spread over the data's range."""
    return {
        "feature_{}".format(i): [((7 * i + 13 * row) % 41 - 20) / 10 for row in range(rows)]
        for i in range(count)
    }


def metrics(server, job):
    run = requests.get(
        server.url + "/api/2.0/mlflow/runs/get", params={"run_id": job["run_id"]}, timeout=60
    ).json()["run"]
    assert run["info"]["status"] == "FINISHED"
    return {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}


def by_the_printed_line(server, folder, line):
    """Runs the guide's `python examples/upload_training_script.py ...` and returns the finished job."""
    command = "python examples/upload_training_script.py --json --script examples/training_scripts/"
    job = json.loads(run_bash(server, command + line, as_repository(folder)))
    assert job["status"] == "completed", explain(job)
    assert job["model_version"] == "1", explain(job)
    return job


def test_the_sklearn_example_is_trained_and_served(server, tmp_path):
    job = by_the_printed_line(
        server,
        tmp_path,
        "sklearn_classification.py --experiment sklearn_examples --model rf_classifier "
        "--requirements scikit-learn pandas numpy",
    )
    assert "✅ Model trained successfully!" in job["logs"]
    logged = metrics(server, job)
    assert {"test_accuracy", "test_precision", "test_recall", "test_f1", "test_roc_auc"} <= set(
        logged
    )
    assert logged["test_accuracy"] > 0.8

    inputs = columns(10)
    answer = predict(server, "rf_classifier", inputs, return_probabilities=True)
    local = local_answer(server, job, inputs, flavor="sklearn")
    assert answer["model_version"] == job["model_version"]
    assert answer["predictions"] == local["predictions"]
    assert answer["probabilities"] == local["probabilities"]


def test_the_xgboost_example_is_trained_and_served(server, tmp_path):
    job = by_the_printed_line(
        server,
        tmp_path,
        "xgboost_regression.py --experiment xgboost_examples --model xgb_regressor "
        "--requirements xgboost scikit-learn numpy",
    )
    logged = metrics(server, job)
    assert {"rmse", "mae", "r2", "best_iteration"} <= set(logged)
    assert logged["r2"] > 0.9

    inputs = columns(10)
    answer = predict(server, "xgb_regressor", inputs)
    local = local_answer(server, job, inputs, matrix="float64")
    assert answer["predictions"] == local["predictions"]


def test_the_lightgbm_example_is_trained_and_served(server, tmp_path):
    job = by_the_printed_line(
        server,
        tmp_path,
        "lightgbm_classification.py --experiment lightgbm_examples --model lgbm_classifier "
        "--requirements lightgbm scikit-learn pandas matplotlib "
        "--env N_SAMPLES=5000 --env N_FEATURES=25",
    )
    assert "Generating 5000 rows with 25 features" in job["logs"]
    assert metrics(server, job)["auc_roc"] > 0.9

    inputs = columns(25)
    answer = predict(server, "lgbm_classifier", inputs, return_probabilities=True)
    local = local_answer(server, job, inputs, flavor="lightgbm")
    assert answer["predictions"] == local["predictions"]
    assert answer["probabilities"] == local["probabilities"]


def test_my_model_is_trained_and_served(server):
    job = completed(server, EXAMPLES / "my_model.py", "my_model", requirements=["scikit-learn"])
    inputs = {
        "sepal_length": [5.1, 6.2],
        "sepal_width": [3.5, 2.8],
        "petal_length": [1.4, 4.8],
        "petal_width": [0.2, 1.8],
    }
    answer = predict(server, "my_model", inputs, model_version="1", return_probabilities=True)
    local = local_answer(server, job, inputs, flavor="sklearn", matrix="float64")
    assert answer["predictions"] == local["predictions"]
    assert answer["probabilities"] == local["probabilities"]


def test_the_pickle_script_is_wrapped_and_served(customers, server):
    job = completed(
        server,
        EXAMPLES / "pickle/train_model.py",
        "churn_predictor",
        requirements=["scikit-learn", "pandas"],
        timeout=600,
    )
    assert "✅ Training completed!" in job["logs"]
    with customers.open() as table:
        names = table.readline().strip().split(",")[:-1]
        rows = [[float(cell) for cell in table.readline().split(",")[:-1]] for _ in range(20)]
    inputs = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    answer = predict(server, "churn_predictor", inputs, return_probabilities=True)
    assert answer["predictions"] == local_answer(server, job, inputs)["predictions"]
    assert len(answer["probabilities"]) == 20


def test_the_best_practices_script_is_trained_and_served(server):
    job = completed(
        server,
        SCRIPTS / "best_practices.py",
        "best_practices",
        requirements=["scikit-learn", "pandas"],
    )
    assert {"accuracy", "precision", "recall"} <= set(metrics(server, job))
    inputs = columns(8)
    answer = predict(server, "best_practices", inputs)
    assert answer["predictions"] == local_answer(server, job, inputs)["predictions"]


def test_a_custom_pyfunc_is_trained_and_served(server):
    job = completed(server, SCRIPTS / "custom_pyfunc.py", "order_check")
    inputs = {"amount": [100.0, 900.0], "items": [3.0, 14.0], "hour": [14.0, 3.0]}
    answer = predict(server, "order_check", inputs, return_probabilities=True)
    assert answer["predictions"] == local_answer(server, job, inputs)["predictions"]
    assert [row["hold"] for row in answer["predictions"]] == [0, 1]
    assert answer["probabilities"] is None


def test_pytorch_is_trained_and_served_from_inline_metadata(server):
    job = completed(server, SCRIPTS / "pytorch_classification.py", "iris_net", timeout=900)
    assert job["progress"] == 1.0 or job["progress"] == 0.9
    assert "::asgard progress" not in job["logs"]
    assert metrics(server, job)["accuracy"] > 0.9
    inputs = {"a": [5.1, 6.2], "b": [3.5, 2.8], "c": [1.4, 4.8], "d": [0.2, 1.8]}
    answer = predict(server, "iris_net", inputs)
    assert (
        answer["predictions"] == local_answer(server, job, inputs, matrix="float32")["predictions"]
    )


def test_the_deploy_helpers_example_trains_as_a_job(server):
    script = EXAMPLES.parent / "ml_deployment/example_train.py"
    job = completed(server, script, "churn_example", environment_vars={"N_SAMPLES": "500"})
    assert {"accuracy", "f1", "roc_auc"} <= set(metrics(server, job))


def test_a_script_can_report_progress_with_the_package(server):
    script = "import asgard\nasgard.log('half', done=0.5)\nasgard.progress(0.5)\n"
    job = finished(server, upload(server, script, "progress")["job_id"])
    assert job["progress"] == 0.5
    assert "half done=0.5" in job["logs"]
    assert "::asgard" not in job["logs"]


@pytest.mark.parametrize(
    "script", sorted(SCRIPTS.glob("*.py")) + [EXAMPLES / "my_model.py"], ids=lambda path: path.stem
)
def test_example_scripts_are_plain_python(script):
    subprocess.run([sys.executable, "-m", "py_compile", str(script)], check=True)
