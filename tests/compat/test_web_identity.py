"""A bucket by web identity (AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN): a token service is asked for keys."""

import datetime
import http.server
import ipaddress
import ssl
import subprocess
import threading
import time
import urllib.parse

import pytest
import requests
from conftest import Bucket, Server

x509 = pytest.importorskip("cryptography.x509")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

ROLE = "arn:aws:iam::123456789012:role/asgard"
KEY, SECRET = Bucket.credentials.values()

GRANTED = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>
<SessionToken>session</SessionToken><Expiration>{until}</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""
REFUSED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message>
</Error><RequestId>1</RequestId></ErrorResponse>"""


def certificate(folder):
    """A key, and a certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a token service")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    whole = folder / "sts.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    whole.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    trusted = folder / "trusted.pem"
    trusted.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return whole, trusted


class TokenService:
    """Answers AssumeRoleWithWebIdentity: grants keys for `lasts_s`, or refuses."""

    def __init__(self, folder):
        self.asked, self.lasts_s, self.refuses = [], 3600, False
        whole, self.trusted = certificate(folder)
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                query = urllib.parse.urlsplit(self.path).query
                service.asked.append(dict(urllib.parse.parse_qsl(query)))
                until = time.time() + service.lasts_s
                until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
                body = REFUSED if service.refuses else GRANTED.format(key=KEY, secret=SECRET, until=until)
                self.send_response(403 if service.refuses else 200)
                self.send_header("content-type", "text/xml")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(whole)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def sts(tmp_path):
    service = TokenService(tmp_path)
    yield service
    service.server.shutdown()
    service.server.server_close()


@pytest.fixture
def asgard(sts, bucket, tmp_path):
    token = tmp_path / "token"
    token.write_text("identity-1")
    server = Server(
        tmp_path / "data",
        {
            "ASGARD__ARTIFACTS__URL": f"s3://artifacts/{tmp_path.name}",
            "ASGARD__ARTIFACTS__ENDPOINT": bucket.endpoint,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_ROLE_ARN": ROLE,
            "AWS_ROLE_SESSION_NAME": "asgard-of-tests",
            "AWS_ENDPOINT_URL_STS": sts.url,
            "SSL_CERT_FILE": str(sts.trusted),
        },
    )
    for name in (*bucket.credentials, "AWS_SESSION_TOKEN"):
        server.environment.pop(name, None)
    server.token = token
    yield server
    server.stop()


def artifact(asgard):
    run = requests.post(asgard.url + "/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}, timeout=60)
    root = run.json()["run"]["info"]["artifact_uri"].removeprefix("mlflow-artifacts:")
    return f"{asgard.url}/api/2.0/mlflow-artifacts/artifacts{root}/file"


def test_keys_are_asked_for_once_and_again_before_they_end(asgard, sts):
    asgard.start()
    file = artifact(asgard)
    for _ in range(3):
        assert requests.put(file, b"hello", timeout=60).status_code == 200
        assert requests.get(file, timeout=60).content == b"hello"
    assert len(sts.asked) == 1, "keys that last an hour are asked for once"
    asked = sts.asked[0]
    assert asked["Action"] == "AssumeRoleWithWebIdentity" and asked["RoleArn"] == ROLE
    assert asked["RoleSessionName"] == "asgard-of-tests" and asked["WebIdentityToken"] == "identity-1"


def test_keys_that_are_about_to_end_are_renewed_with_the_token_of_that_moment(asgard, sts):
    # They are renewed in their last five minutes, when they are still good.
    sts.lasts_s = 120
    asgard.start()
    file = artifact(asgard)
    assert requests.put(file, b"hello", timeout=60).status_code == 200
    asgard.token.write_text("identity-2")
    deadline = time.monotonic() + 60
    while {asked["WebIdentityToken"] for asked in sts.asked} != {"identity-1", "identity-2"}:
        assert time.monotonic() < deadline, sts.asked
        assert requests.get(file, timeout=60).content == b"hello"


def test_a_refusal_is_told_in_words(asgard, sts):
    sts.refuses = True
    asgard.start()
    file = artifact(asgard)
    refused = requests.put(file, b"hello", timeout=120)
    assert refused.status_code == 503, refused.text
    assert "doctor" in refused.json()["message"], refused.text
    doctor = subprocess.run(
        [*asgard.command()[:1], "doctor", "--data-dir", str(asgard.data_dir), "--url", asgard.url],
        capture_output=True,
        text=True,
        env=asgard.environment,
        timeout=300,
    )
    assert "Not authorized to perform sts:AssumeRoleWithWebIdentity" in doctor.stdout, doctor.stdout
    assert "AWS_ROLE_ARN" in doctor.stdout, doctor.stdout
    # Neither the token nor a key is told.
    assert "identity-1" not in doctor.stdout and SECRET not in doctor.stdout, doctor.stdout
    # The server goes on when the role may be assumed.
    sts.refuses = False
    assert requests.put(file, b"hello", timeout=60).status_code == 200
