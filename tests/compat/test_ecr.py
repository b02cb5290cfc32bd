"""Amazon ECR as Amazon has it, but for its blobs: the calls that give passwords and make repositories are
answered by moto, the images lie in a real registry behind TLS of a private authority. Who asks is a pod's
role (IRSA), a machine's role (IMDSv2) or nobody."""

import contextlib
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import pytest
import requests

import base_image
from conftest import ROOT, free_port
from containers import LOGIN, locked, program, registry
from training import LONGEST_S

BINARY = str(os.environ.get("ASGARD_BIN", ROOT / "target/debug/asgard"))
REGION, ROLE = "eu-west-1", "arn:aws:iam::123456789012:role/asgard"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("ecr")


@pytest.fixture(scope="module")
def address():
    """This machine's address beside loopback, which is spoken to without TLS."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the kernel only chooses the way.
            probe.connect(("192.0.2.1", 9))
            found = probe.getsockname()[0]
        except OSError as error:
            pytest.skip(f"SKIPPED: this machine has no address beside loopback: {error}")
    with pytest.MonkeyPatch.context() as patch:
        # Of the tests, and of what they start: no proxy stands before this machine.
        direct = ",".join([found, "127.0.0.1", "localhost"])
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, ",".join(filter(None, [os.environ.get(name), direct])))
        yield found


@pytest.fixture(scope="module")
def certificates(place, address):
    """A private authority, and a certificate of it for this machine."""
    folder = place / "certificates"
    folder.mkdir()
    (folder / "names").write_text(f"subjectAltName=IP:{address}\nbasicConstraints=CA:FALSE\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=private",
        "req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=machine",
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names",
    ):
        subprocess.run([program("openssl"), *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def moto(place, address, certificates):
    """ECR and STS, behind TLS of the private authority: their URL."""
    server = os.environ.get("ASGARD_TEST_MOTO") or pytest.skip("SKIPPED: ASGARD_TEST_MOTO names no moto_server")
    port = free_port()
    command = [server, "-H", address, "-p", str(port), "--ssl"]
    command += ["-c", certificates / "cert.pem", "-k", certificates / "key.pem"]
    with open(place / "moto.log", "w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    url = f"https://{address}:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(requests.RequestException):
                requests.get(url + "/moto-api/", verify=str(certificates / "ca.pem"), timeout=60)
                break
            assert process.poll() is None and time.monotonic() < deadline, (place / "moto.log").read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def host(place, address, certificates):
    """The registry with the blobs."""
    tls = f"tls: {{certificate: {certificates}/cert.pem, key: {certificates}/key.pem}}"
    with registry(place, address, tls, locked(place)) as host:
        yield host


@pytest.fixture(scope="module")
def build(place, host, certificates):
    """Builds asgard's own image and pushes it, with these variables and no other ones of Amazon's."""
    (place / "root/etc").mkdir(parents=True)
    base_image.layout(place / "base", place / "root", {})

    def build(repository, **variables):
        # NO_PROXY among them: the registry and moto are this machine.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        settings = {"ASGARD__IMAGES__REGISTRY": f"{host}/team", "ASGARD__IMAGES__ECR_REGION": REGION}
        command = [BINARY, "image", "build", "--self", "--json", "--data-dir", place / "data"]
        command += ["--base", f"dir:{place}/base", "--output", f"registry:{host}/{repository}:1"]
        return subprocess.run(
            list(map(str, command)), env={**kept, **settings, **variables},
            capture_output=True, text=True, timeout=LONGEST_S,
        )  # fmt: skip

    return build


@pytest.fixture(scope="module")
def sts(moto, address, certificates):
    """STS behind TLS: parameters of a call without a signature reach moto's in its body alone."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            parameters = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
            asked.append(parameters)
            answer = requests.post(moto, data=parameters, verify=str(certificates / "ca.pem"), timeout=60)
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

    asked = []
    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://{address}:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def repositories(moto, certificates):
    """The repositories that ECR knows in the region."""
    headers = {
        "X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": f"AWS4-HMAC-SHA256 Credential=x/20200101/{REGION}/ecr/aws4_request, SignedHeaders=host, Signature=0",
    }
    answer = requests.post(moto, headers=headers, data="{}", verify=str(certificates / "ca.pem"), timeout=60)
    return [one["repositoryName"] for one in answer.json()["repositories"]]


def is_pushed(host, certificates, repository):
    url = f"https://{host}/v2/{repository}/tags/list"
    answer = requests.get(url, auth=LOGIN, verify=str(certificates / "ca.pem"), timeout=60)
    return answer.json().get("tags") == ["1"]


def test_the_role_of_a_pod_makes_the_repository_and_pushes(place, host, moto, sts, certificates, build):
    (place / "token").write_text("a token of the cluster")
    role = {
        "ASGARD__IMAGES__CA_FILE": str(certificates / "ca.pem"), "ASGARD__IMAGES__ECR_ENDPOINT": moto,
        "AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": str(place / "token"),
        "AWS_ENDPOINT_URL_STS": sts[0],
    }  # fmt: skip
    for _ in range(2):
        built = build("team/irsa", **role)
        assert built.returncode == 0, built.stderr
    # The second found it there, and had nothing to send.
    assert json.loads(built.stdout)["sent_bytes"] == 0
    assert "team/irsa" in repositories(moto, certificates)
    assert is_pushed(host, certificates, "team/irsa")
    assert {call["Action"] for call in sts[1]} == {"AssumeRoleWithWebIdentity"}
    assert all((call["RoleArn"], call["WebIdentityToken"]) == (ROLE, "a token of the cluster") for call in sts[1])


class Metadata(http.server.BaseHTTPRequestHandler):
    """The metadata of an instance, by their second version alone: each question shows a token."""

    asked = []

    def log_message(self, *_):
        pass

    def answer(self, status, text):
        self.asked.append((self.command, self.path, status))
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        asks = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer(200 if asks else 400, "session" if asks else "")

    def do_GET(self):
        if self.headers["X-aws-ec2-metadata-token"] != "session":
            return self.answer(401, "")
        if self.path.rstrip("/").endswith("security-credentials"):
            return self.answer(200, "asgard-role")
        keys = {
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
            "AccessKeyId": "ASIAINSTANCE", "SecretAccessKey": "s", "Token": "t", "Expiration": "2090-01-01T00:00:00Z",
        }  # fmt: skip
        self.answer(200, json.dumps(keys))


def test_the_role_of_a_machine_does_too(host, moto, certificates, build):
    metadata = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=metadata.serve_forever, daemon=True).start()
    built = build(
        "team/instance",
        ASGARD__IMAGES__CA_FILE=str(certificates / "ca.pem"), ASGARD__IMAGES__ECR_ENDPOINT=moto,
        AWS_METADATA_ENDPOINT=f"http://127.0.0.1:{metadata.server_port}",
    )  # fmt: skip
    metadata.shutdown()
    metadata.server_close()
    assert built.returncode == 0, built.stderr
    assert "team/instance" in repositories(moto, certificates)
    assert is_pushed(host, certificates, "team/instance")
    assert {status for _, _, status in Metadata.asked} == {200}
    assert Metadata.asked[0][:2] == ("PUT", "/latest/api/token")


def test_nobody_is_told_what_is_missing(host, moto, certificates, build):
    nobody = {"ASGARD__IMAGES__ECR_ENDPOINT": moto, "AWS_METADATA_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    built = build("team/nobody", ASGARD__IMAGES__CA_FILE=str(certificates / "ca.pem"), **nobody)
    assert built.returncode != 0
    assert "AWS_ACCESS_KEY_ID" in built.stderr and "IRSA" in built.stderr, built.stderr
    # An authority that is not trusted is another thing.
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
    built = build("team/nobody", **nobody, **keys)
    assert built.returncode != 0
    assert "images.ca_file" in built.stderr, built.stderr
