"""A pytest plugin that puts asgard under MLflow's own live-server tests.

Those tests get their server from three helpers: `ServerThread` and `_init_server` of
`tests.tracking.integration_test_utils`, and `_launch_server` of `test_mlflow_artifacts`. Each is
replaced by one that starts a fresh asgard. See README.md for how to run it.
"""

import contextlib
import importlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from urllib.parse import urlparse

# The variants of MLflow's file store: asgard has one store.
OTHER_STORES = ("[file]", "[file-", "-file]", "-file-")


class Asgard:
    """A running asgard with an empty data directory."""

    def __init__(self, port, artifacts=None):
        self.folder = tempfile.mkdtemp(prefix="asgard-upstream-")
        # Scripts of upstream's tests do not run as jobs: whatever sandbox is there will do.
        environment = {**os.environ, "ASGARD__SERVER__LOG_LEVEL": "warn"}
        if artifacts:
            environment["ASGARD__ARTIFACTS__URL"] = artifacts
        self.url = f"http://127.0.0.1:{port}"
        command = [
            os.environ["ASGARD_BIN"],
            "up",
            "--data-dir",
            self.folder,
            "--listen",
            f"127.0.0.1:{port}",
        ]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        self._wait()

    def _wait(self):
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(self.url + "/health", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise RuntimeError(f"asgard did not start at {self.url}")

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    # What the tests call on the process that they think they started.
    kill = terminate = stop


class ServerThread:
    """Upstream's: `with ServerThread(app, port) as url`."""

    def __init__(self, app, port):
        self.port = port
        self.server = None

    def __enter__(self):
        self.server = Asgard(self.port)
        return self.server.url

    def __exit__(self, *_):
        self.server.stop()


@contextlib.contextmanager
def _init_server(backend_uri, root_artifact_uri, extra_env=None, app=None, server_type="fastapi"):
    import mlflow
    from tests.helper_functions import get_safe_port

    mlflow.set_tracking_uri(None)
    server = Asgard(get_safe_port())
    try:
        yield server.url
    finally:
        server.stop()


def _launch_server(host, port, backend_store_uri, default_artifact_root, artifacts_destination):
    place = artifacts_destination
    if place.startswith("file:"):
        place = urlparse(place).path
    pathlib.Path(place).mkdir(parents=True, exist_ok=True)
    return Asgard(port, artifacts=place)


def pytest_configure(config):
    # Checkouts from before 3.10 know a function of the client by another name.
    workspaces = importlib.import_module("mlflow.utils.workspace_context")
    if not hasattr(workspaces, "clear_workspace"):
        workspaces.clear_workspace = workspaces.clear_server_request_workspace
    # Newer clients send spans after a while, and wait long for a server that was stopped: the tests
    # read what they wrote at once.
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"
    helpers = importlib.import_module("tests.tracking.integration_test_utils")
    helpers.ServerThread = ServerThread
    helpers._init_server = _init_server


def pytest_collection_modifyitems(config, items):
    kept, dropped = [], []
    for item in items:
        if hasattr(item.module, "_launch_server"):
            item.module._launch_server = _launch_server
        other = any(mark in item.name for mark in OTHER_STORES)
        (dropped if other else kept).append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept
