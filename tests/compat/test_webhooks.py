"""Webhooks by MLflow's own client, heard by a receiver that checks signatures as MLflow documents it."""

import base64
import hashlib
import hmac
import json
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

mlflow = pytest.importorskip("mlflow")

from mlflow import MlflowClient  # noqa: E402

from conftest import Server  # noqa: E402

pytestmark = pytest.mark.mlflow

SECRET = "s3cret"


class Receiver:
    def __init__(self, port=0):
        self.heard = heard = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                heard.append((dict(self.headers), body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, count):
        end = time.monotonic() + 180
        while len(self.heard) < count:
            assert time.monotonic() < end, self.heard
            time.sleep(0.05)
        return [json.loads(body) for _, body in self.heard]


@pytest.fixture
def hooked(tmp_path):
    settings = {"ALLOW_HTTP": "true", "ALLOW_PRIVATE_ADDRESSES": "true", "TIMEOUT_MS": "5000"}
    settings = {f"ASGARD__WEBHOOKS__{name}": value for name, value in settings.items()}
    server = Server(tmp_path / "data", settings)
    server.start()
    yield server
    server.stop()


def own(server, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"null")


def test_registry_events_are_told_and_signed(hooked):
    client = MlflowClient(hooked.url, hooked.url)
    if not hasattr(client, "create_webhook"):
        pytest.skip("this client knows no webhooks")
    receiver = Receiver()
    events = ["registered_model.created", "model_version.created", "model_version_tag.set", "model_version_alias.created"]
    webhook = client.create_webhook(
        name="ci", url=f"http://127.0.0.1:{receiver.port}/hook", events=events, secret=SECRET
    )
    assert {str(event) for event in webhook.events} == set(events)
    assert [w.webhook_id for w in client.list_webhooks()] == [webhook.webhook_id]
    assert client.test_webhook(webhook.webhook_id).success
    client.create_registered_model("iris", tags={"a": "b"})
    run = client.create_run("0")
    client.create_model_version("iris", f"runs:/{run.info.run_id}/model", run.info.run_id)
    client.set_model_version_tag("iris", "1", "k", "v")
    client.set_registered_model_alias("iris", "champion", "1")
    told = receiver.wait_for(5)
    assert {f"{body['entity']}.{body['action']}" for body in told[1:]} == set(events)
    created = next(body for body in told[1:] if body["entity"] == "registered_model")
    assert created["data"] == {"name": "iris", "tags": {"a": "b"}, "description": None}
    for headers, body in receiver.heard:
        headers = {name.lower(): value for name, value in headers.items()}
        content = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.{body.decode()}"
        digest = hmac.new(SECRET.encode(), content.encode(), hashlib.sha256).digest()
        assert headers["x-mlflow-signature"] == "v1," + base64.b64encode(digest).decode()
    changed = client.update_webhook(webhook.webhook_id, status="DISABLED")
    assert changed.status == "DISABLED"
    client.delete_webhook(webhook.webhook_id)
    assert list(client.list_webhooks()) == []


def test_an_event_survives_a_kill(hooked):
    silent = Receiver()
    port = silent.port
    silent.server.shutdown()
    silent.server.server_close()
    events = ["registered_model.created"]
    url = f"http://127.0.0.1:{port}/hook"
    made = own(hooked, "POST", "/mlops/webhooks", {"name": "ci", "url": url, "events": events})
    MlflowClient(hooked.url, hooked.url).create_registered_model("kept")
    hooked.kill()
    receiver = Receiver(port)
    hooked.start()
    (body,) = receiver.wait_for(1)
    assert body["data"]["name"] == "kept"
    path = f"/mlops/webhooks/{made['webhook_id']}/deliveries"
    end = time.monotonic() + 60
    while own(hooked, "GET", path)["deliveries"][0]["state"] != "delivered":
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_end_of_a_job_is_told(hooked):
    receiver = Receiver()
    url = f"http://127.0.0.1:{receiver.port}/hook"
    own(hooked, "POST", "/mlops/webhooks", {"name": "jobs", "url": url, "events": ["job.failed", "job.completed"]})
    upload = {"script_name": "x", "script_content": "print(1)", "experiment_name": "e", "model_name": "m"}
    job = own(hooked, "POST", "/mlops/training/upload", upload)
    urllib.request.urlopen(
        urllib.request.Request(f"{hooked.url}/mlops/training/jobs/{job['job_id']}/cancel", b"", method="POST")
    ).close()
    (body,) = receiver.wait_for(1)
    assert (body["entity"], body["action"]) == ("job", "failed")
    assert body["data"]["job_id"] == job["job_id"]
    assert body["data"]["reason"] == "cancelled"
