"""What container tests share: a real registry, and the pulling, unpacking and starting of images as an
engine does it, without one."""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time

import pyarrow
import pytest
import requests

from conftest import free_port

# Who may log in to a registry with LOGINS as its htpasswd; also what moto gives as the password of ECR.
LOGIN = ("AWS", "123456789012-auth-token")
LOGINS = "AWS:$2b$04$suBGdxLg7Zw/JZCc0rIbneHYr98RDnINGgUbSeiK02kXQmD9YzgOy\n"

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def program(name):
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    return found or pytest.skip(f"SKIPPED: {name} is not installed")


@contextlib.contextmanager
def registry(folder, address="127.0.0.1", tls="", auth=""):
    """A real registry that keeps its images below the folder: its host."""
    port = free_port()
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http:\n  addr: '{address}:{port}'\n  relativeurls: true\n  {tls}\n{auth}"
    )
    process = subprocess.Popen(
        [program("docker-registry"), "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection((address, port), 30):
                break
            assert process.poll() is None and time.monotonic() < deadline, "the registry does not start"
            time.sleep(0.05)
        yield f"{address}:{port}"
    finally:
        process.kill()
        process.wait()


def locked(folder):
    """The part of a registry's configuration by which only LOGIN is let in."""
    (folder / "htpasswd").write_text(LOGINS)
    return f"auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}\n"


def pull(reference, store, login=None):
    """Brings an image that is named by its digest below the store: its root folder and configuration."""
    host, _, rest = reference.partition("/")
    path, _, digest = rest.partition("@")
    folder = store / digest.removeprefix("sha256:")
    if not folder.exists():
        part = begun(folder)
        repository = f"http://{host}/v2/{path}"
        manifest = json.loads(fetched(f"{repository}/manifests/{digest}", digest, login).read())
        config = manifest["config"]["digest"]
        (part / "config.json").write_bytes(fetched(f"{repository}/blobs/{config}", config, login).read())
        for layer in manifest["layers"]:
            blob = fetched(f"{repository}/blobs/{layer['digest']}", layer["digest"], login)
            unpack(blob, layer["mediaType"], part / "root")
        part.rename(folder)
    return folder / "root", json.loads((folder / "config.json").read_text())["config"]


def begun(folder):
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "root").mkdir(parents=True)
    return part


def fetched(url, digest, login):
    """What an address gives, in a file; it must be what the digest says."""
    file, found = tempfile.TemporaryFile(), hashlib.sha256()
    with requests.get(url, headers={"Accept": MANIFEST}, auth=login, stream=True, timeout=300) as answer:
        answer.raise_for_status()
        for piece in answer.iter_content(1 << 20):
            found.update(piece)
            file.write(piece)
    assert f"sha256:{found.hexdigest()}" == digest, url
    file.seek(0)
    return file


def unpack(blob, media_type, root):
    """Unpacks a layer as a container engine does, absolute links and all."""
    packed = {"gzip": "gzip", "zstd": "zstd"}.get(media_type.rpartition("+")[2])
    stream = pyarrow.CompressedInputStream(blob, packed) if packed else blob
    trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        archive.extractall(root, **trusted)


def sandbox(root, config, variables=()):
    """The command that starts programs in an unpacked image, as its configuration says, in bubblewrap: any
    machine has that. The network is this machine's."""
    uid, _, gid = config["User"].partition(":")
    pairs = [*config["Env"], *variables]
    variables = [part for one in pairs for part in ("--setenv", *one.split("=", 1))]
    command = [program("bwrap"), "--unshare-user", "--unshare-pid", "--uid", uid, "--gid", gid, "--clearenv"]
    command += ["--die-with-parent", "--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev"]
    return [*command, "--tmpfs", "/tmp", *variables]


def needs_bubblewrap():
    """Skips where bubblewrap runs nothing at all."""
    tried = subprocess.run(
        [program("bwrap"), "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "true"],
        capture_output=True, text=True,
    )  # fmt: skip
    if tried.returncode != 0:
        pytest.skip(f"SKIPPED: bubblewrap runs nothing here: {tried.stderr.strip()}")
