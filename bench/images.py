#!/usr/bin/env python3
"""Images and deployments: what building, pushing and starting a model costs beside training it.

    python3 bench/images.py [--times 5]

Needs docker-registry (Debian's package), which is started on loopback, and podman with runc for the line of the
container. The model is a scikit-learn forest in
the environment of its training job; the base image is made of this machine's Python, in place of
python:3.11-slim. One line for each phase: the first build with a new environment layer, then new versions of
the model on the known one, then the local target with a model that a native engine answers and one that
needs a Python worker. A build's peak memory is that of the whole `asgard image build` process.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import servers
from jobs import finish, upload

sys.path.insert(0, str(servers.ROOT / "tests/compat"))

import base_image  # noqa: E402

FOREST = """\
import mlflow, mlflow.sklearn
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier

X, y = make_classification(n_samples=1000, n_features=20, random_state={seed})
with mlflow.start_run():
    mlflow.sklearn.log_model(RandomForestClassifier(random_state={seed}).fit(X, y), name="model", input_example=X[:2])
"""
PYTHON = """\
import mlflow, mlflow.pyfunc

class Double(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input * 2

with mlflow.start_run():
    mlflow.pyfunc.log_model(name="model", python_model=Double())
"""
MISSING = "docker-registry is not installed: apt-get install docker-registry"


def trained(server, name, script):
    job = finish(server, upload(server, name, script))
    if job["status"] != "completed" or job["model_version"] is None:
        raise RuntimeError(json.dumps(job, indent=2))
    return job["model_name"]


@contextlib.contextmanager
def registry(folder):
    program = shutil.which("docker-registry") or sys.exit(MISSING)
    port = servers.free_port()
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    process = subprocess.Popen([program, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not servers._answers(port, "/v2/"):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("docker-registry does not start")
            time.sleep(0.01)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def build(server, model, base, host):
    """Seconds of a build and push, of each of its lines, its peak memory in MB, and what it printed."""
    command = [servers.asgard_binary(), "image", "build", model, "--json", "--url", server.url, "--base", base]
    command += ["--data-dir", f"{server.folder}/data", "--output", f"registry:{host}/bench/it:1"]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [(time.perf_counter() - begin, line.strip()) for line in process.stderr]
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError("\n".join(line for _, line in lines))
    return seconds, lines, usage.ru_maxrss / 1000, json.loads(printed)


def at(lines, words):
    """When a line with these words was printed."""
    found = [seconds for seconds, line in lines if words in line]
    return found[-1] if found else sys.exit(f"no line with {words!r} in {lines}")


def deployed(server, model):
    """Seconds from the request to a local deployment that has answered its health check."""
    body = {"model_name": model, "target": "local", "replicas": 1}
    begin = time.perf_counter()
    document = server.ask("POST", "/mlops/deploy", body, timeout=300)
    seconds = time.perf_counter() - begin
    if document["status"] != "deployed":
        raise RuntimeError(json.dumps(document, indent=2))
    server.ask("DELETE", "/mlops/deployments/" + document["deployment_id"])
    return seconds


def proven(server, known):
    """Seconds until the server keeps one more proof than `known`, and how many it keeps."""
    folder = pathlib.Path(server.folder, "data/serving/proofs")
    begin = time.perf_counter()
    while (kept := len(list(folder.glob("*")))) == known:
        if time.perf_counter() - begin > 120:
            sys.exit("a model is not proven after its job")
        time.sleep(0.01)
    return time.perf_counter() - begin, kept


def predicts(port):
    """Whether a model server answers a row of the forest's."""
    body = json.dumps({"inputs": [[0.5] * 20]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    try:
        return len(json.load(urllib.request.urlopen(request, timeout=30))["predictions"]) == 1
    except (urllib.error.URLError, ConnectionError):
        return False


def container(reference, times):
    """Seconds from `podman run` of a pulled image to the first prediction, and of one that prints its help and ends."""
    podman, runc = (shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin") for name in ("podman", "runc"))
    if podman is None or runc is None:
        return None
    # podman takes no long path.
    store = tempfile.mkdtemp(prefix="podman-")
    command = [podman, "--root", f"{store}/root", "--runroot", f"{store}/run", "--cgroup-manager", "cgroupfs"]
    command += ["--runtime", runc, "--events-backend", "none"]
    run = [*command, "run", "--rm", "--network", "host", "--read-only", "--cap-drop", "all"]
    run += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    answers, helps = [], []
    try:
        subprocess.run([*command, "pull", "--tls-verify=false", reference], check=True, **quiet)
        for _ in range(times):
            begin = time.perf_counter()
            subprocess.run([*run, reference, "--help"], check=True, **quiet)
            helps.append(time.perf_counter() - begin)
            port = servers.free_port()
            begin = time.perf_counter()
            process = subprocess.Popen([*run, "--name", "it", reference, "--listen", f"127.0.0.1:{port}"], **quiet)
            while not predicts(port):
                if process.poll() is not None or time.perf_counter() - begin > 120:
                    sys.exit(f"the container does not answer: {process.communicate()[1]}")
                time.sleep(0.01)
            answers.append(time.perf_counter() - begin)
            # Not by a signal to `podman run`: one that comes early ends that alone.
            subprocess.run([*command, "rm", "--force", "--time", "10", "it"], check=True, **quiet)
            process.wait(60)
    except subprocess.CalledProcessError as error:
        sys.exit(f"podman: {error.stderr}")
    finally:
        subprocess.run([*command, "rm", "--all", "--force"], **quiet)
        subprocess.run([*command, "unmount", "--all", "--force"], **quiet)
        shutil.rmtree(store, ignore_errors=True)
    return {"answers_s": answers, "helps_s": helps}


def size_mb(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


def measured(server, folder, host, times):
    """All numbers, by name."""
    forest = trained(server, "forest", FOREST.format(seed=0))
    _, kept = proven(server, 0)
    environment = next(pathlib.Path(server.folder, "data/environments").glob("*/bin/python"))
    base_image.write(folder / "base", environment.resolve(), [servers.asgard_binary()])
    base = f"dir:{folder}/base"
    seconds, lines, peak_mb, document = build(server, forest, base, host)
    layer = at(lines, "layer of the environment") - at(lines, "✓ base")
    results = {
        "environment_mb": size_mb(environment.parent.parent),
        "environment_layer_s": layer, "first_build_and_push_s": seconds, "first_peak_mb": peak_mb,
        "image_mb": document["size_bytes"] / 1e6, "known_s": [], "known_sent_mb": [], "known_peak_mb": [],
        "proof_s": [], "first_s": [],
    }  # fmt: skip
    for seed in range(1, times + 1):
        trained(server, "forest", FOREST.format(seed=seed))
        seconds, kept = proven(server, kept)
        results["proof_s"].append(seconds)
        results["first_s"].append(deployed(server, forest))
        seconds, lines, peak_mb, document = build(server, forest, base, host)
        results["known_s"].append(seconds)
        results["known_sent_mb"].append(document["sent_bytes"] / 1e6)
        results["known_peak_mb"].append(peak_mb)
    results["container"] = container(document["reference"], times)
    worker = trained(server, "python", PYTHON)
    # The request comes with the job's end, and waits for the rest of the proof.
    results["at_once_s"] = []
    for seed in range(times + 1, 2 * times + 1):
        trained(server, "forest", FOREST.format(seed=seed))
        results["at_once_s"].append(deployed(server, forest))
    for name, model in (("native_s", forest), ("worker_s", worker)):
        results[name] = [deployed(server, model) for _ in range(times)]
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5, help="builds and deployments of each kind (%(default)s)")
    parser.add_argument("--json", help="write all numbers here")
    arguments = parser.parse_args()
    if shutil.which("docker-registry") is None:
        sys.exit(MISSING)
    print(servers.machine(), file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-images-") as folder:
        folder = pathlib.Path(folder)
        with registry(folder) as host, servers.asgard() as server:
            results = measured(server, folder, host, arguments.times)

    def middle(name):
        values = results[name]
        return "{:.2f} s (worst {:.2f})".format(statistics.median(values), max(values))

    def in_container():
        if results["container"] is None:
            return "not measured: podman or runc is not installed"
        answer, empty = (statistics.median(results["container"][name]) for name in ("answers_s", "helps_s"))
        return "{:.2f} s (`--help` in its place, to the end: {:.2f} s)".format(answer, empty)

    peak = max([results["first_peak_mb"], *results["known_peak_mb"]])
    rows = [
        ("new environment layer ({:.0f} MB of files): built".format(results["environment_mb"]), "3 s for 300 MB", "{:.2f} s".format(results["environment_layer_s"])),
        ("the same, image and push", "bound by the registry", "{:.2f} s".format(results["first_build_and_push_s"])),
        ("environment layer known: image and push", "1 s", middle("known_s")),
        ("sent for it", "–", "{:.1f} MB".format(max(results["known_sent_mb"]))),
        ("peak memory of a build", "150 MB", "{:.0f} MB".format(peak)),
        ("size of the image (compressed)", "1,000 to 3,400 MB elsewhere", "{:.0f} MB".format(results["image_mb"])),
        ("local target, native engine: request to ready", "1 s", middle("native_s")),
        ("the first deployment of a model that nobody asked before", "1 s", middle("first_s")),
        ("from the end of its job to its proof", "–", middle("proof_s")),
        ("its first deployment, asked for with the end of its job", "–", middle("at_once_s")),
        ("local target, Python worker: request to ready", "5 s", middle("worker_s")),
        ("container, native engine: start to first prediction", "10 s, 1 s of it ours", in_container()),
    ]  # fmt: skip
    print("| what | wanted | measured |\n| --- | --- | --- |")
    for row in rows:
        print("| {} | {} | {} |".format(*row))
    if arguments.json:
        with open(arguments.json, "w") as out:
            json.dump({"machine": servers.machine(), "results": results}, out, indent=2)


if __name__ == "__main__":
    main()
