"""The testing report's test_complete_mlops_workflow.py, to the end it could not reach: upload with model
logging, registration by POST /mlops/registry under a second name, inference from both."""

import requests

from training import EXAMPLES, completed, predict


def test_upload_register_and_infer(server):
    job = completed(server, EXAMPLES / "my_model.py", "complete", requirements=["scikit-learn"])
    response = requests.post(
        server.url + "/mlops/registry",
        json={
            "model_name": "complete_by_hand",
            "run_id": job["run_id"],
            "description": "registered once more by hand",
            "tags": {"stage": "test"},
        },
        timeout=60,
    )
    assert response.status_code == 201, response.text
    assert response.json()["version"] == "1"

    model = requests.get(server.url + "/mlops/models/complete_by_hand", timeout=60).json()
    assert model["latest_versions"][0]["run_id"] == job["run_id"]

    rows = {"a": [5.1, 6.2], "b": [3.5, 2.8], "c": [1.4, 4.8], "d": [0.2, 1.8]}
    answers = [
        predict(server, name, rows, return_probabilities=True)
        for name in ("complete", "complete_by_hand")
    ]
    assert answers[0]["predictions"] == answers[1]["predictions"] == [0, 2]
    assert answers[0]["probabilities"] == answers[1]["probabilities"]
