#!/usr/bin/env python3
"""Kills asgard with SIGKILL at random moments and checks that nothing is lost.

The first kill comes while the first job's environment is built. Each further round starts the
server on the same data directory, uploads jobs, writes metrics, kills the server after a random
time, and looks for processes that outlived it. After the last round the
server is started once more, and must bring every job to one final state, hold every metric that
it had acknowledged, and leave no run open that a finished job made.

usage: kill_loop.py [--rounds N] [--seed S]     the binary is $ASGARD_BIN
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

MARKER = "asgard_kill_loop_marker"

SCRIPT = f"""
# {MARKER}
import subprocess, sys, time
import mlflow
child = subprocess.Popen([sys.executable, "-c", "import time  # {MARKER}\\ntime.sleep(60)"])
with mlflow.start_run():
    for step in range(10):
        mlflow.log_metric("m", step, step=step)
        print("step", step, flush=True)
        time.sleep(0.1)
child.kill()
print("script done")
"""


def free_port():
    """A port below those that the kernel gives to connections, so that none takes it first."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server:
    """One life of the server."""

    def __init__(self, binary, data_dir, log):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [binary, "up", "--data-dir", str(data_dir), "--listen", f"127.0.0.1:{self.port}"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while True:
            try:
                self.get("/health")
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("the server did not start; its log is server.log in the data directory")
                time.sleep(0.02)

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            body = answer.read()
        return json.loads(body) if body.startswith((b"{", b"[")) else body.decode()

    def post(self, path, document):
        request = urllib.request.Request(
            self.url + path, json.dumps(document).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def left_over(data_dir):
    """Processes that still carry the marker or the data directory in their command line."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if (MARKER in command or str(data_dir) in command) and "kill_loop.py" not in command:
            found.append(f"{entry.name}: {command[:200]}")
    return found


def outlived(when, data_dir):
    """What is still alive a minute after the server died, as faults; a busy machine takes its time."""
    deadline = time.monotonic() + 60
    while (alive := left_over(data_dir)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [f"{when}: outlived the server: {line}" for line in alive]


def upload(server, name):
    return server.post(
        "/mlops/training/upload",
        {
            "script_name": name,
            "script_content": SCRIPT,
            "experiment_name": "kill-loop",
            "model_name": "kill-loop",
        },
    )["job_id"]


def write_metrics(server, run_id, acknowledged, stop):
    """Logs metrics until the server dies; remembers each one that it acknowledged."""
    while not stop.is_set():
        step = len(acknowledged)
        try:
            server.post(
                "/api/2.0/mlflow/runs/log-metric",
                {"run_id": run_id, "key": "acknowledged", "value": float(step), "timestamp": step, "step": step},
            )
        except (OSError, urllib.error.URLError):
            return
        acknowledged.append(step)


def metric_steps(server, run_id):
    steps, token = set(), ""
    while True:
        page = server.get(
            f"/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=acknowledged"
            f"&max_results=5000&page_token={token}"
        )
        steps.update(int(point["step"]) for point in page.get("metrics", []))
        token = page.get("next_page_token", "")
        if not token:
            return steps


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    binary = os.environ.get("ASGARD_BIN")
    if not binary:
        sys.exit("ASGARD_BIN is not set: run this by scripts/test crash")
    chance = random.Random(arguments.seed)
    data_dir = pathlib.Path(tempfile.mkdtemp(prefix="asgard-kill-loop."))
    seed_environments(data_dir)
    log = (data_dir / "server.log").open("w")
    print(f"kill loop: {arguments.rounds} rounds, seed {arguments.seed}")
    faults = []

    server = Server(binary, data_dir, log)
    first = upload(server, "warm.py")
    time.sleep(chance.uniform(0.5, 6))
    server.kill()
    faults += outlived("the first build", data_dir)
    server = Server(binary, data_dir, log)
    warm = wait_for(server, first, 900)
    if warm["status"] != "completed":
        sys.exit(f"the first job did not complete: {warm['error']}\n{warm['logs']}")
    run_id = server.post("/api/2.0/mlflow/runs/create", {"experiment_id": "0", "start_time": 1})["run"]["info"]["run_id"]
    jobs, acknowledged = [], []
    for number in range(arguments.rounds):
        stop = threading.Event()
        writer = threading.Thread(target=write_metrics, args=(server, run_id, acknowledged, stop))
        writer.start()
        jobs += [upload(server, f"round_{number}_{i}.py") for i in range(2)]
        time.sleep(chance.uniform(0, 4))
        server.kill()
        stop.set()
        writer.join()
        faults += outlived(f"round {number}", data_dir)
        server = Server(binary, data_dir, log)

    print(f"kill loop: {len(jobs)} jobs uploaded, {len(acknowledged)} metrics acknowledged; waiting for the jobs")
    reasons = {}
    for job_id in jobs:
        try:
            job = wait_for(server, job_id, 300)
        except urllib.error.HTTPError as error:
            faults.append(f"job {job_id} is lost: {error}")
            continue
        reason = job["status"] if job["status"] == "completed" else f"failed ({job.get('reason')})"
        reasons[reason] = reasons.get(reason, 0) + 1
        if job["status"] not in ("completed", "failed"):
            faults.append(f"job {job_id} is stuck: {job['status']}")
        elif job["status"] == "failed" and job.get("reason") != "lost":
            faults.append(f"job {job_id} failed of itself: {job.get('reason')}: {job.get('error')}")
    if not reasons.get("completed"):
        faults.append("no job was completed after its server had died")
    runs = server.post(
        "/api/2.0/mlflow/runs/search",
        {"experiment_ids": [server.get("/api/2.0/mlflow/experiments/get-by-name?experiment_name=kill-loop")["experiment"]["experiment_id"]],
         "filter": "attributes.status = 'RUNNING'", "max_results": 1000},
    ).get("runs", [])
    faults += [f"run {run['info']['run_id']} is still open" for run in runs]
    missing = set(acknowledged) - metric_steps(server, run_id)
    if missing:
        faults.append(f"{len(missing)} acknowledged metrics are missing: {sorted(missing)[:10]}")
    if server.stop() != 0:
        faults.append("the server did not stop cleanly on SIGTERM")
    print(f"kill loop: outcomes {reasons}")
    for fault in faults:
        print(f"FAULT {fault}")
    keep_environments(data_dir)
    if not faults:
        shutil.rmtree(data_dir, ignore_errors=True)
    print(f"{1 - min(1, len(faults))} passed, {min(1, len(faults))} failed")
    sys.exit(1 if faults else 0)


def wait_for(server, job_id, seconds):
    deadline = time.monotonic() + seconds
    while True:
        job = server.get(f"/mlops/training/jobs/{job_id}")
        if job["status"] in ("completed", "failed") or time.monotonic() > deadline:
            return job
        time.sleep(0.1)


def seed_environments(data_dir):
    """Takes the download cache of an earlier run, so that the default environment builds quickly."""
    cache = os.environ.get("ASGARD_TEST_CACHE")
    if cache and (source := pathlib.Path(cache) / "cache").is_dir():
        subprocess.run(["cp", "-a", str(source), str(data_dir / "cache")], check=True)


def keep_environments(data_dir):
    cache = os.environ.get("ASGARD_TEST_CACHE")
    if cache and not (target := pathlib.Path(cache) / "cache").exists() and (data_dir / "cache").is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(data_dir / "cache"), str(target)], check=True)


if __name__ == "__main__":
    main()
