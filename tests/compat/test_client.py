"""The shipped Python client against the real server."""

import sys

import pytest

from training import EXAMPLES, LONGEST_S, ROOT

sys.path.insert(0, str(ROOT / "python"))
import asgard  # noqa: E402


@pytest.fixture
def client(server):
    return asgard.AsgardMLOpsClient(server.url)


def test_client_runs_follows_and_predicts(client, capsys):
    job = client.run(
        EXAMPLES / "my_model.py",
        model_name="workflow_client",
        requirements=["scikit-learn"],
    ).follow()
    shown = capsys.readouterr().out
    assert "Executing training script..." in shown
    assert job["model_version"] == "1"
    assert client.logs(job["job_id"]) == job["logs"]
    rows = [{"a": 5.1, "b": 3.5, "c": 1.4, "d": 0.2}]
    answer = client.predict("workflow_client", rows, return_probabilities=True)
    assert answer["predictions"] == [0]
    assert "workflow_client" in [model["name"] for model in client.list_models()]


def test_client_errors_carry_code_and_help(client):
    with pytest.raises(asgard.NotFoundError) as caught:
        client.get_job_status("nothing")
    assert caught.value.code and caught.value.help and caught.value.request_id


def test_client_upload_with_one_key_makes_one_job(client):
    script = EXAMPLES / "my_model.py"
    first = client.upload_script(script, "e", "twice", idempotency_key="key-of-the-test")
    second = client.upload_script(script, "e", "twice", idempotency_key="key-of-the-test")
    assert first["job_id"] == second["job_id"]
    client.cancel_job(first["job_id"])


def test_client_cancels_and_raises_for_a_failed_job(client, tmp_path):
    script = tmp_path / "slow.py"
    script.write_text("import time\ntime.sleep(100)\n")
    run = client.run(script)
    run.cancel()
    with pytest.raises(asgard.JobFailedError) as caught:
        run.wait(timeout=LONGEST_S, poll_interval=0.2)
    assert caught.value.job["reason"] == "cancelled"


def test_client_waits_no_longer_than_it_was_told(client, tmp_path):
    script = tmp_path / "slow.py"
    script.write_text("import time\ntime.sleep(100)\n")
    run = client.run(script)
    with pytest.raises(TimeoutError, match="did not complete within 1s"):
        client.wait_for_job(run.job_id, timeout=1, poll_interval=0.2)
    run.cancel()
