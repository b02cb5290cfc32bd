"""asgard image build with the real binary: images of a registered model, looked at by skopeo, run by
bubblewrap and podman."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import time

import pytest
import requests

import base_image
import containers
from conftest import ROOT, free_port
from containers import needs_bubblewrap, program, registry
from documents import TEST_TRAIN
from training import LONGEST_S, completed

BINARY = str(os.environ.get("ASGARD_BIN", ROOT / "target/debug/asgard"))
INPUTS = {f"x{n}": [0.1 * n, -0.2 * n] for n in range(20)}


def build(server, what, *more):
    command = [BINARY, "image", "build", what, "--json", *map(str, more)]
    if what != "--self":
        command += ["--url", server.url]
    command += ["--data-dir", str(server.data_dir)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S)
    assert built.returncode == 0, built.stderr
    return json.loads(built.stdout), built.stderr


@pytest.fixture(scope="module")
def model(server):
    known = proofs(server)
    completed(server, TEST_TRAIN, "image model")
    # From then on the image is always the same: it has the proof.
    deadline = time.monotonic() + LONGEST_S
    while not proofs(server) - known:
        assert time.monotonic() < deadline, server.log.read_text()[-4000:]
        time.sleep(0.1)
    return "image model"


def proofs(server):
    folder = server.data_dir / "serving/proofs"
    names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    # Others are half written, or say that a model has none.
    return {name for name in names if "." not in name}


@pytest.fixture(scope="module")
def base(server, model, tmp_path_factory):
    """A base image with the Python that the model's environment is made for."""
    folder = tmp_path_factory.mktemp("base") / "layout"
    environments = list((server.data_dir / "environments").glob("*/bin/python"))
    base_image.write(folder, environments[0].resolve(), [BINARY])
    return f"dir:{folder}"


@pytest.fixture(scope="module")
def layout(server, model, base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("image") / "layout"
    document, lines = build(server, model, "--output", f"dir:{folder}", "--base", base)
    assert "✓ layer of the environment" in lines, lines
    return folder, document


@contextlib.contextmanager
def answering(command, port, log):
    """A container that is started by the command and writes into a file, when it answers."""
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 180
        while True:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=30).ok:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"{command} does not answer:\n{log.read_text()}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)


def equals_central(server, model, url):
    body = {"model_name": model, "inputs": INPUTS}
    central = requests.post(server.url + "/mlops/inference", json=body, timeout=LONGEST_S)
    answer = requests.post(url + "/predict", json={"inputs": INPUTS}, timeout=60)
    assert central.status_code == 200 and answer.status_code == 200, (central.text, answer.text)
    assert answer.json()["predictions"] == central.json()["predictions"]
    assert requests.get(url + "/metadata", timeout=60).json()["model_name"] == model


def blob(folder, descriptor):
    return folder / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")


def start_of(folder):
    """The manifest of a layout's only image, and its configuration."""
    index = json.loads((folder / "index.json").read_text())
    manifest = json.loads(blob(folder, index["manifests"][0]).read_text())
    return manifest, json.loads(blob(folder, manifest["config"]).read_text())


def test_a_second_build_is_the_same_image_and_quick(server, model, base, layout, tmp_path):
    document, lines = build(server, model, "--output", f"tar:{tmp_path}/image.tar", "--base", base)
    assert document["digest"] == layout[1]["digest"]
    assert len(re.findall("known", lines)) == 2, lines
    with tarfile.open(tmp_path / "image.tar") as archive:
        assert archive.getnames()[:3] == ["oci-layout", "index.json", "manifest.json"]


def test_labels_name_where_the_model_comes_from(server, layout):
    _, config = start_of(layout[0])
    labels = config["config"]["Labels"]
    assert labels["asgard.model_name"] == "image model" and labels["asgard.model_version"] == "1"
    job = requests.get(f"{server.url}/mlops/training/jobs/{labels['asgard.job_id']}", timeout=60)
    assert job.json()["run_id"] == labels["asgard.run_id"]
    assert "scikit-learn==" in labels["asgard.packages"]
    assert config["config"]["User"] == "10001:10001"


def test_the_proof_of_the_model_lies_beside_it_and_holds_there(server, model, layout, tmp_path):
    """Whoever starts the image answers natively, and no Python is started for it."""
    needs_bubblewrap()
    manifest, config = start_of(layout[0])
    for layer in manifest["layers"]:
        with open(blob(layout[0], layer), "rb") as packed:
            containers.unpack(packed, layer["mediaType"], tmp_path / "root")
    proof = (tmp_path / "root/asgard/proof").read_bytes()
    assert proof in [file.read_bytes() for file in (server.data_dir / "serving/proofs").iterdir()]
    port = free_port()
    sandbox = containers.sandbox(tmp_path / "root", config["config"])
    start = [*config["config"]["Entrypoint"], "--listen", f"127.0.0.1:{port}", "--log-level", "info"]
    with answering([*sandbox, *start], port, tmp_path / "log") as url:
        equals_central(server, model, url)
        answer = requests.post(url + "/predict", json={"inputs": INPUTS}, timeout=60).json()
        assert answer["engine"] == "native", answer
    ready = [line for line in (tmp_path / "log").read_text().splitlines() if "a model is ready" in line]
    assert len(ready) == 1 and "python_ms" not in ready[0], ready


def test_skopeo_takes_the_layout_and_the_archive(server, model, base, layout, tmp_path):
    skopeo = program("skopeo")
    folder, document = layout
    inspected = subprocess.run(
        [skopeo, "inspect", f"oci:{folder}:{document['name']}"], capture_output=True, text=True
    )
    assert inspected.returncode == 0, inspected.stderr
    assert json.loads(inspected.stdout)["Digest"] == document["digest"]
    build(server, model, "--output", f"tar:{tmp_path}/image.tar", "--base", base)
    for kind in ("oci-archive", "docker-archive"):
        copy = ["copy", "--insecure-policy", f"{kind}:{tmp_path}/image.tar", f"dir:{tmp_path}/{kind}"]
        copied = subprocess.run([skopeo, *copy], capture_output=True, text=True, timeout=LONGEST_S)
        assert copied.returncode == 0, copied.stderr


def test_the_image_answers_as_the_server_does(server, model, base, tmp_path):
    """Unpacked and started as its configuration says, in bubblewrap: any machine has that."""
    needs_bubblewrap()
    environment = {"ASGARD__IMAGES__COMPRESSION": "gzip"}
    command = [BINARY, "image", "build", model, "--url", server.url, "--data-dir", str(tmp_path / "data")]
    # Another data directory: the environment is made of the model's own requirements there.
    built = subprocess.run(
        [*command, "--base", base, "--output", f"dir:{tmp_path}/layout"],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=LONGEST_S,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    manifest, config = start_of(tmp_path / "layout")
    for layer in manifest["layers"]:
        with open(blob(tmp_path / "layout", layer), "rb") as packed:
            containers.unpack(packed, layer["mediaType"], tmp_path / "root")
    port = free_port()
    sandbox = containers.sandbox(tmp_path / "root", config["config"])
    start = [*config["config"]["Entrypoint"], "--listen", f"127.0.0.1:{port}"]
    with answering([*sandbox, *start], port, tmp_path / "log") as url:
        equals_central(server, model, url)


def pushed(base, name):
    """A base image in a registry: its name there."""
    copy = ["copy", "--insecure-policy", "--dest-tls-verify=false", base.replace("dir:", "oci:"), f"docker://{name}"]
    copied = subprocess.run([program("skopeo"), *copy], capture_output=True, text=True, timeout=LONGEST_S)
    assert copied.returncode == 0, copied.stderr
    return name


def test_podman_pulls_the_image_by_its_digest_and_runs_it(server, model, base, tmp_path):
    podman = program("podman")
    with registry(tmp_path) as host:
        document, lines = build(server, model, "--output", f"registry:{host}/team/it:1", "--base", base)
        assert "sent" in lines, lines
        # podman takes no long path here.
        store = pathlib.Path(tempfile.mkdtemp(prefix="podman-"))
        command = [podman, "--root", store / "root", "--runroot", store / "run", "--storage-driver", "vfs"]
        command += ["--cgroup-manager", "cgroupfs", "--runtime", program("runc"), "--events-backend", "none"]
        command = list(map(str, command))
        run = [*command, "run", "--rm", "--network", "host", "--read-only", "--cap-drop", "all"]
        # More than this process may have is refused where it may not raise its own limits.
        run += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]

        def problem(image, *words):
            """Why an image cannot be pulled or run."""
            for one in ([*command, "pull", "--tls-verify=false", image], [*run, image, *words]):
                done = subprocess.run(
                    one, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST_S
                )
                if done.returncode != 0:
                    return done.stderr.strip()[-500:]

        try:
            # The base alone tells whether this machine runs anything: then the image must run too.
            if reason := problem(pushed(base, f"{host}/base:1")):
                pytest.skip(f"SKIPPED: podman does not run the bare base image here: {reason}")
            assert not (reason := problem(document["reference"], "--help")), reason
            port = free_port()
            start = [*run, document["reference"], "--listen", f"127.0.0.1:{port}"]
            with answering(start, port, tmp_path / "log") as url:
                equals_central(server, model, url)
        finally:
            subprocess.run([*command, "rm", "--all", "--force"], capture_output=True, timeout=LONGEST_S)
            shutil.rmtree(store, ignore_errors=True)


def test_asgard_itself_becomes_an_image(server, base, tmp_path):
    document, _ = build(server, "--self", "--output", f"dir:{tmp_path}/layout", "--base", base)
    assert document["name"].startswith("asgard:")
    manifest, config = start_of(tmp_path / "layout")
    assert config["config"]["Cmd"][:3] == ["up", "--listen", "0.0.0.0:8000"]
    assert len(manifest["layers"]) == 3


def test_what_is_missing_is_named_with_its_fix(server, model):
    for arguments, code, words in (
        (["image model", "--output", "registry"], 1, "set images.registry"),
        (["image model", "--output", "nowhere"], 2, "--output dir:PATH"),
        (["image model/9", "--output", "dir:x"], 6, "asgard models get"),
        (["image model", "--output", "dir:x", "--base", "dir:/nowhere"], 1, "skopeo copy"),
    ):
        command = [BINARY, "image", "build", *arguments, "--url", server.url, "--data-dir", server.data_dir]
        answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LONGEST_S)
        assert answer.returncode == code, answer.stderr
        assert words in answer.stderr
