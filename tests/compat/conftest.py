"""A server of the built binary for the tests of this folder.

ASGARD_BIN names the binary; without it, the debug build of this checkout is used.
"""

import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def free_port():
    """A port below those that the kernel gives to connections: nobody takes it before its server does, or
    between the server's death and its next start."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server:
    """A running server: its address, its data directory and what it logged."""

    def __init__(self, data_dir, settings=()):
        self.data_dir = data_dir
        ports = random.randrange(10_000, 31_900, 100)
        self.environment = {
            **os.environ,
            "ASGARD__DEPLOY__FIRST_PORT": str(ports),
            "ASGARD__DEPLOY__LAST_PORT": str(ports + 99),
            **dict(settings),
        }
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.with_name("server.log")
        self.process = None

    def command(self):
        binary = os.environ.get("ASGARD_BIN", ROOT / "target/debug/asgard")
        command = [binary, "up", "--data-dir", self.data_dir, "--listen", f"127.0.0.1:{self.port}"]
        return list(map(str, command))

    def start(self, *more):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.command(), *map(str, more)], stdout=log, stderr=log, env=self.environment
            )
        end = time.monotonic() + 120
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(self.url + "/health", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError(f"{self.command()} did not start:\n{self.log.read_text()}")

    def kill(self):
        self.process.kill()
        self.process.wait(120)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)


# The servers that many tests share.
SHARED = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """A test that fails after it killed a shared server takes no other test with it."""
    for server in SHARED:
        if server.process.poll() is not None:
            server.start()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("asgard") / "data")
    server.start()
    SHARED.append(server)
    yield server
    SHARED.remove(server)
    server.stop()
    # Environments of some gigabytes would pile up; the log stays.
    shutil.rmtree(server.data_dir, ignore_errors=True)


class Bucket:
    """A real S3 server with one bucket, `artifacts`, which checks signatures: crates/bucket."""

    # What crates/bucket lets in.
    credentials = {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7TESTKEY",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYTESTKEY",
    }

    def __init__(self, root):
        self.root, self.port = root, free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        binary = os.environ.get("ASGARD_BUCKET_BIN", ROOT / "target/debug/bucket")
        self.process = subprocess.Popen([str(binary), str(self.root), str(self.port)])

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def bucket(tmp_path_factory):
    bucket = Bucket(tmp_path_factory.mktemp("bucket"))
    yield bucket
    bucket.stop()
    shutil.rmtree(bucket.root, ignore_errors=True)


@pytest.fixture(scope="session")
def bucket_server(bucket, tmp_path_factory):
    """A server that keeps its artifacts in a bucket."""
    settings = {
        "ASGARD__ARTIFACTS__URL": "s3://artifacts/team/x",
        "ASGARD__ARTIFACTS__ENDPOINT": bucket.endpoint,
        **bucket.credentials,
    }
    server = Server(tmp_path_factory.mktemp("asgard-bucket") / "data", settings)
    server.bucket_dir = bucket.root / "artifacts" / "team" / "x"
    server.start()
    SHARED.append(server)
    yield server
    SHARED.remove(server)
    server.stop()


@pytest.fixture(scope="session")
def customers():
    """/data/customers.csv, which the documents' script reads; made for the tests where it is missing."""
    path = pathlib.Path("/data/customers.csv")
    made = not path.exists()
    if made:
        if not os.access("/data" if os.path.isdir("/data") else "/", os.W_OK):
            pytest.skip("SKIPPED: /data/customers.csv is missing and /data may not be written here")
        tool = ROOT / "examples/pickle/make_customers.py"
        subprocess.run([sys.executable, str(tool), "--out", str(path)], check=True)
    yield path
    if made:
        path.unlink()
