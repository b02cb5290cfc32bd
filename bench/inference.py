#!/usr/bin/env python3
"""Inference: asgard beside `mlflow models serve`, one model, one run.

    python3 bench/inference.py [--seconds 4] [--json out.json]

A random forest of 100 trees on 20 columns is trained once and logged to asgard; both serve the same
logged model. 32 different bodies, 1 and 100 rows, 1, 16 and 64 clients. The echo is a plain asyncio
server that parses and repeats the same JSON: what the round trip costs without a model. Where wrk is
installed, one row at 16 and 64 clients is measured once more with it: it leaves the server more of the
two cores than the client of load.py.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import time

import load
import servers

COLUMNS = 20
TRAIN = """
import sys
import mlflow, mlflow.sklearn, numpy as np, pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier

X, y = make_classification(n_samples=5000, n_features=20, random_state=42)
X = pd.DataFrame(X, columns=["f%d" % i for i in range(20)])
model = RandomForestClassifier(n_estimators=100, n_jobs=1, random_state=42).fit(X, y)
mlflow.set_experiment("bench")
with mlflow.start_run():
    mlflow.sklearn.log_model(
        model, "model", signature=infer_signature(X, model.predict(X)), registered_model_name="bench_rf"
    )
mlflow.artifacts.download_artifacts("models:/bench_rf/1", dst_path=sys.argv[1])
"""
ECHO = """
import asyncio, json, sys

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""

    def data_received(self, data):
        self.data += data
        while True:
            head, found, rest = self.data.partition(b"\\r\\n\\r\\n")
            if not found:
                return
            lower = head.lower()
            at = lower.find(b"content-length:")
            length = int(lower[at + 15 :].split(b"\\r\\n", 1)[0]) if at >= 0 else 0
            if len(rest) < length:
                return
            body = json.dumps(json.loads(rest[:length])).encode() if length else b"{}"
            self.data = rest[length:]
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)

async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""


def bodies(rows, shape):
    rng = random.Random(7)
    made = []
    for _ in range(32):
        columns = {"f%d" % i: [rng.gauss(0, 1) for _ in range(rows)] for i in range(COLUMNS)}
        made.append(shape(columns))
    return made


def asgard_request(columns):
    body = {"model_name": "bench_rf", "model_version": "1", "inputs": columns}
    return load.request("POST", "/mlops/inference", json.dumps(body).encode())


def mlflow_request(columns):
    names = list(columns)
    data = [list(row) for row in zip(*columns.values())]
    body = {"dataframe_split": {"columns": names, "data": data}}
    return load.request("POST", "/invocations", json.dumps(body).encode())


def echo_request(columns):
    return load.request("POST", "/", json.dumps({"model_name": "bench_rf", "inputs": columns}).encode())


@contextlib.contextmanager
def mlflow_serve(model):
    command = [
        str(servers.mlflow_python().parent / "mlflow"), "models", "serve", "-m", model,
        "--env-manager", "local", "--host", "127.0.0.1", "--port", "{port}",
    ]  # fmt: skip
    path = {"PATH": "{}:{}".format(servers.mlflow_python().parent, os.environ["PATH"])}
    with servers.started("mlflow", command, "/ping", path) as server:
        yield server


@contextlib.contextmanager
def echo():
    with servers.started("echo", [sys.executable, "-c", ECHO, "{port}"], "/") as server:
        yield server


def predictions(server, data):
    """The answer to one request, sent by the same load client."""
    connection = load._Connection(server.address)
    connection.start(data)
    while not connection.read():
        time.sleep(0.001)
    text = b"".join(connection.received)
    connection.socket.close()
    if connection.status != 200:
        raise RuntimeError("{}: {}".format(server.name, text.decode("utf-8", "replace")[:1500]))
    return json.loads(text.partition(b"\r\n\r\n")[2])


def first_answer(name, server, shape, results):
    """The first question: with it, asgard starts the model's worker."""
    begin = time.perf_counter()
    first = predictions(server, bodies(1, shape)[0])
    results.setdefault("first answer s", {})[name] = server.seconds_to_answer + time.perf_counter() - begin
    if name == "asgard":
        results["asgard engine"] = first.get("engine")


def measure(name, server, shape, rows, connections, arguments, results):
    ready = bodies(rows, shape)
    results.setdefault("predictions", {}).setdefault(rows, {})[name] = [
        predictions(server, data).get("predictions") for data in ready[:4]
    ]
    turn = itertools.cycle(ready)
    result = load.run(server.address, lambda: next(turn), connections, arguments.seconds, server.pid)
    row = "{} | {}".format(rows, connections)
    results.setdefault("load", {}).setdefault(row, {})[name] = result.as_dict()
    print("{:8} {:4} rows {:3} clients {:9.1f}/s p50 {:8.2f} p99 {:8.2f} ms {:7.3f} ms CPU{}".format(
        name, rows, connections, result.per_second, result.quantile_ms(0.5), result.quantile_ms(0.99),
        1000 * result.server_cpu_s / max(1, result.answered),
        "  FAILED {}: {}".format(result.failed, result.first_failure) if result.failed else ""),
        file=sys.stderr, flush=True)  # fmt: skip
    results.setdefault("pss_mib", {})[name] = round(load.tree_memory_mib(server.pid)[1])


def measure_by_wrk(name, server, shape, connections, arguments, results):
    measured = load.wrk(server.address, bodies(1, shape), connections, arguments.seconds)
    if measured is None:
        return
    results.setdefault("wrk", {}).setdefault(connections, {})[name] = measured
    print("{:8}    1 rows {:3} clients {:9.1f}/s p50 {:8.2f} p99 {:8.2f} ms by wrk".format(name, connections, *measured),
          file=sys.stderr, flush=True)  # fmt: skip


def print_wrk(results):
    print("\n| 1 row, by wrk: clients | mlflow models serve | asgard | echo |\n| --- | --- | --- | --- |")
    for connections, cells in results.items():
        texts = ["{:,.0f}/s ({:.2f}/{:.2f} ms)".format(*cells[n]) for n in ("mlflow", "asgard", "echo")]
        print("| {} | {} |".format(connections, " | ".join(texts)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="per cell (%(default)s)")
    parser.add_argument("--json", help="write all numbers here")
    arguments = parser.parse_args()
    results = {}
    print(servers.machine(), file=sys.stderr)
    with servers.asgard() as server:
        model = os.path.join(server.folder, "model")
        variables = {**os.environ, "MLFLOW_TRACKING_URI": server.url, "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false"}
        command = [str(servers.mlflow_python()), "-W", "ignore", "-c", TRAIN, model]
        subprocess.run(command, env=variables, check=True, stdout=sys.stderr)
        with mlflow_serve(model) as peer, echo() as floor:
            # All three are up, and each cell is measured on one after the other: what else the machine
            # does meanwhile meets all of them.
            parts = (
                ("mlflow", peer, mlflow_request),
                ("asgard", server, asgard_request),
                ("echo", floor, echo_request),
            )
            for name, one, shape in parts:
                first_answer(name, one, shape, results)
            for rows, connections in itertools.product((1, 100), (1, 16, 64)):
                for name, one, shape in parts:
                    measure(name, one, shape, rows, connections, arguments, results)
            for connections in (16, 64):
                for name, one, shape in parts:
                    measure_by_wrk(name, one, shape, connections, arguments, results)

    for rows, answers in results["predictions"].items():
        if answers["asgard"] != answers["mlflow"]:
            sys.exit("asgard and mlflow predict differently for {} rows: {}".format(rows, answers))
    print("engine: {}; predictions equal to mlflow's\n".format(results["asgard engine"]))
    print("| rows | clients | mlflow models serve | asgard | echo | asgard ÷ mlflow req/s | p50 asgard ÷ echo |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row, cells in results["load"].items():
        texts = ["{:,.0f}/s ({:.2f}/{:.2f} ms)".format(cells[n]["per_second"], cells[n]["p50_ms"], cells[n]["p99_ms"])
                 for n in ("mlflow", "asgard", "echo")]  # fmt: skip
        print("| {} | {} | **{:.1f}×** | {:.1f} |".format(
            row, " | ".join(texts), cells["asgard"]["per_second"] / cells["mlflow"]["per_second"],
            cells["asgard"]["p50_ms"] / cells["echo"]["p50_ms"]))  # fmt: skip
    if "wrk" in results:
        print_wrk(results["wrk"])
    else:
        print("\nwrk is not installed: 16 and 64 clients are measured with load.py's client alone")
    print("\nmemory (PSS): mlflow {mlflow} MiB, asgard with its worker {asgard} MiB".format(**results["pss_mib"]))
    if arguments.json:
        with open(arguments.json, "w") as out:
            json.dump({"machine": servers.machine(), "results": results}, out, indent=2)


if __name__ == "__main__":
    main()
