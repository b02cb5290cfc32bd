#!/usr/bin/env python3
"""The reads that pages and pollers repeat: status, models, one job, an MLflow search.

    python3 bench/status.py [--seconds 3] [--models 100] [--json out.json]

Alone, and while 16 connections write metrics: the promises are about a server that has work to do.
There is no peer: the budgets are those of the documents (docs/contract.md, 245, 252, 302, C25).
"""

import argparse
import http.client
import json
import multiprocessing
import sys
import time

import load
import servers

BUDGET_MS = {
    "GET /mlops/status": 50,
    "GET /mlops/models": 100,
    "GET /mlops/training/jobs/{id}": 50,
    "MLflow runs/search": 50,
}


def requests(server, models):
    """Fills the server; the method, path and body of each line."""
    for n in range(models):
        server.ask("POST", "/api/2.0/mlflow/registered-models/create", {"name": f"model-{n}"})
    for _ in range(100):
        server.ask("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
    job = server.ask("POST", "/mlops/training/upload", {
        "script_name": "s", "script_content": "print(1)", "experiment_name": "e", "model_name": "m",
    })["job_id"]  # fmt: skip
    while server.ask("GET", f"/mlops/training/jobs/{job}")["status"] in ("queued", "running"):
        time.sleep(0.5)
    search = json.dumps({"experiment_ids": ["0"], "max_results": 20})
    return {
        "GET /mlops/status": ("GET", "/mlops/status", None),
        "GET /mlops/models": ("GET", "/mlops/models", None),
        "GET /mlops/training/jobs/{id}": ("GET", f"/mlops/training/jobs/{job}", None),
        "MLflow runs/search": ("POST", "/api/2.0/mlflow/runs/search", search),
    }


def polled(server, method, path, body, seconds):
    """One poller on one connection that asks every 10 ms: its times in ms, sorted."""
    connection = http.client.HTTPConnection(*server.address, timeout=60)
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        times.append(1000 * (time.perf_counter() - begin))
        assert answer.status == 200, (path, answer.status)
        time.sleep(0.01)
    return sorted(times)


def write(address, run_id):
    """Writes metrics on 16 connections until it is ended."""
    body = json.dumps({"run_id": run_id, "key": "loss", "value": 0.5, "timestamp": 1, "step": 1}).encode()
    request = load.request("POST", "/api/2.0/mlflow/runs/log-metric", body)
    while True:
        load.run(address, lambda: request, 16, 1, warm_up=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3, help="per line (%(default)s)")
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--json", help="write all numbers here")
    arguments = parser.parse_args()
    results = {}
    print(servers.machine(), file=sys.stderr)
    with servers.asgard() as server:
        asked = requests(server, arguments.models)
        for busy in (False, True):
            run = server.ask("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
            writer = multiprocessing.Process(target=write, args=(server.address, run["run"]["info"]["run_id"]))
            if busy:
                writer.start()
            for name, request in asked.items():
                times = polled(server, *request, arguments.seconds)
                results.setdefault(name, {})["busy" if busy else "alone"] = {
                    "p50_ms": times[len(times) // 2], "p99_ms": times[int(0.99 * (len(times) - 1))],
                }  # fmt: skip
            if busy:
                writer.terminate()
                writer.join()
    print("| request | budget | alone: p50 (p99) | while 16 connections write |\n| --- | --- | --- | --- |")
    for name, found in results.items():
        cells = ["{p50_ms:.2f} ms ({p99_ms:.2f})".format(**found[kind]) for kind in ("alone", "busy")]
        print("| {} | {} ms | {} | {} |".format(name, BUDGET_MS[name], *cells))
    if arguments.json:
        with open(arguments.json, "w") as out:
            json.dump({"machine": servers.machine(), "results": results}, out, indent=2)


if __name__ == "__main__":
    main()
