#!/usr/bin/env python3
"""Tracking: asgard beside MLflow's server and FastTrackML, one after the other in one run.

    python3 bench/tracking.py [--seconds 4] [--runs 5000] [--only asgard mlflow] [--database postgres]
                              [--old OTHER_ASGARD] [--json out.json]

All on SQLite, or each on a PostgreSQL server of its own. Writes the ratios as a table to stdout.
``--old`` measures another build of asgard too, to see what a change brought.
"""

import argparse
import contextlib
import functools
import itertools
import json
import os
import random
import sqlite3
import sys
import time
import uuid

import load
import postgres
import servers

CONNECTIONS = (1, 16)
HISTORY_POINTS = 10_000
ARTIFACT = os.urandom(1 << 20)
API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/bench/"


def post(path, body):
    return load.request("POST", API + path, json.dumps(body).encode())


class Work:
    """The operations, on a server that holds the seeded runs."""

    def __init__(self, server, experiment_id):
        self.server = server
        self.experiment_id = experiment_id
        self.counter = itertools.count()
        self.run_id = self.new_run()
        self.history_run_id = self.new_run()
        for begin in range(0, HISTORY_POINTS, 1000):
            points = [
                {"key": "loss", "value": 1 / (step + 1), "timestamp": 1_700_000_000_000 + step, "step": step}
                for step in range(begin, begin + 1000)
            ]
            server.ask("POST", API + "runs/log-batch", {"run_id": self.history_run_id, "metrics": points})
        self.full_run_id = self.new_run()
        server.ask("POST", API + "runs/log-batch", {"run_id": self.full_run_id, "metrics": self.points(100, 0)})

    def new_run(self):
        body = {"experiment_id": self.experiment_id, "start_time": 1_700_000_000_000}
        return self.server.ask("POST", API + "runs/create", body)["run"]["info"]["run_id"]

    @staticmethod
    def points(count, step):
        return [
            {"key": "m%d" % i, "value": random.random(), "timestamp": 1_700_000_000_000 + step, "step": step}
            for i in range(count)
        ]

    def operations(self):
        """Name, and a function that gives the next request."""
        create = post("runs/create", {
            "experiment_id": self.experiment_id, "start_time": 1_700_000_000_000,
            "tags": [{"key": "mlflow.user", "value": "bench"}],
        })  # fmt: skip
        get = load.request("GET", API + "runs/get?run_id=" + self.full_run_id)
        search = post("runs/search", {
            "experiment_ids": [self.experiment_id], "max_results": 100,
            "filter": "metrics.m0 > 0.5 and params.p0 = 'v1'", "order_by": ["metrics.m1 DESC"],
        })  # fmt: skip
        search_metric = post("runs/search", {
            "experiment_ids": [self.experiment_id], "max_results": 100, "filter": "metrics.m0 > 0.5",
        })  # fmt: skip
        history = load.request(
            "GET",
            API + "metrics/get-history?run_id={}&metric_key=loss&max_results={}".format(
                self.history_run_id, HISTORY_POINTS
            ),
        )
        yield "runs/create", lambda: create
        yield "runs/log-metric", self.log_metric
        yield "runs/log-batch (100 metrics)", self.log_batch
        yield "runs/get (100 metrics)", lambda: get
        yield "runs/search (metric and param)", lambda: search
        yield "runs/search (metric)", lambda: search_metric
        yield "metrics/get-history 10,000", lambda: history
        if self.server.name != "fasttrackml":  # it serves no artifacts
            yield "artifact PUT 1 MiB", self.put_artifact
            one = load.request("GET", ARTIFACTS + "0")
            yield "artifact GET 1 MiB", lambda: one

    def log_metric(self):
        step = next(self.counter)
        return post("runs/log-metric", {
            "run_id": self.run_id, "key": "loss", "value": 0.5, "timestamp": 1_700_000_000_000 + step, "step": step,
        })  # fmt: skip

    def log_batch(self):
        step = next(self.counter)
        return post("runs/log-batch", {"run_id": self.run_id, "metrics": self.points(100, step)})

    def put_artifact(self):
        name = ARTIFACTS + str(next(self.counter) % 16)
        return load.request("PUT", name, ARTIFACT, "application/octet-stream")


def seeded(count):
    """The runs that every server starts with: 5 metrics, 5 params, 2 tags each, the same for all."""
    rng = random.Random(42)
    for number in range(count):
        yield (
            {"m%d" % i: rng.random() for i in range(5)},
            {"p%d" % i: "v%d" % rng.randrange(4) for i in range(5)},
            {"team": "t%d" % rng.randrange(3), "number": str(number)},
        )


def seed_by_rest(server, experiment_id, count):
    ids = []
    for _, (_, _, tags) in zip(range(count), seeded(count)):
        ids.append(tags)
    run_ids = []
    create = [
        post("runs/create", {
            "experiment_id": experiment_id, "start_time": 1_700_000_000_000 + i,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        })
        for i, tags in enumerate(ids)
    ]  # fmt: skip
    load.send_all(server.address, create)
    token = None
    while True:
        body = {"experiment_ids": [experiment_id], "max_results": 1000}
        if token:
            body["page_token"] = token
        page = server.ask("POST", API + "runs/search", body)
        run_ids += [run["info"]["run_id"] for run in page.get("runs", [])]
        token = page.get("next_page_token")
        if not token:
            break
    batches = [
        post("runs/log-batch", {
            "run_id": run_id,
            "metrics": [{"key": k, "value": v, "timestamp": 1, "step": 0} for k, v in metrics.items()],
            "params": [{"key": k, "value": v} for k, v in params.items()],
        })
        for run_id, (metrics, params, _) in zip(run_ids, seeded(count))
    ]  # fmt: skip
    load.send_all(server.address, batches)


def seed_mlflow_database(server, experiment_id, count):
    """MLflow takes a quarter of an hour for 5,000 runs by REST: write the rows that it would write."""
    database = server.database or SqliteRows(os.path.join(server.folder, "mlflow.db"))
    known = database.columns("runs")
    rows = {name: [] for name in ("runs", "metrics", "latest_metrics", "params", "tags")}
    for number, (metrics, params, tags) in enumerate(seeded(count)):
        run_id = uuid.uuid4().hex
        run = {
            "run_uuid": run_id, "name": "seed-%d" % number, "source_type": "UNKNOWN", "source_name": "",
            "entry_point_name": "", "user_id": "", "status": "RUNNING",
            "start_time": 1_700_000_000_000 + number, "source_version": "", "lifecycle_stage": "active",
            "artifact_uri": "mlflow-artifacts:/%s/%s/artifacts" % (experiment_id, run_id),
            "experiment_id": int(experiment_id),
        }  # fmt: skip
        rows["runs"].append(tuple(value for name, value in run.items() if name in known))
        points = [(key, value, 1, run_id, 0, False) for key, value in metrics.items()]
        rows["metrics"] += points
        rows["latest_metrics"] += points
        rows["params"] += [(key, value, run_id) for key, value in params.items()]
        tags = {**tags, "mlflow.runName": "seed-%d" % number}
        rows["tags"] += [(key, value, run_id) for key, value in tags.items()]
    columns = {
        "runs": [name for name in run if name in known],
        "metrics": ["key", "value", "timestamp", "run_uuid", "step", "is_nan"],
        "params": ["key", "value", "run_uuid"],
    }
    columns.update(latest_metrics=columns["metrics"], tags=columns["params"])
    for table, found in rows.items():
        database.copy(table, columns[table], found)


class SqliteRows:
    """The same two calls as of ``postgres.Postgres``."""

    def __init__(self, path):
        self.path = path

    def columns(self, table):
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            return {row[1] for row in database.execute("PRAGMA table_info(%s)" % table)}

    def copy(self, table, columns, rows):
        with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as database, database:
            places = ", ".join("?" * len(columns))
            database.executemany("INSERT INTO %s (%s) VALUES (%s)" % (table, ", ".join(columns), places), rows)


def measure(server, arguments):
    body = {"name": "bench-" + uuid.uuid4().hex[:8]}
    experiment_id = server.ask("POST", API + "experiments/create", body)["experiment_id"]
    begin = time.perf_counter()
    seed = seed_mlflow_database if server.name == "mlflow" else seed_by_rest
    seed(server, experiment_id, arguments.runs)
    print("{}: {} runs seeded in {:.1f} s".format(server.name, arguments.runs, time.perf_counter() - begin), file=sys.stderr)
    results = {}
    work = Work(server, experiment_id)
    # Reads before writes: the writes make the searched experiment grow, by more on a quick server.
    operations = sorted(work.operations(), key=lambda item: item[0] in ("runs/create",))
    if server.name != "fasttrackml":
        load.send_all(server.address, [work.put_artifact() for _ in range(16)])
    for name, next_request in operations:
        for connections in CONNECTIONS:
            result = load.run(server.address, next_request, connections, arguments.seconds, server.pid)
            results["{} | {}".format(name, connections)] = result.as_dict()
            print(
                "{:12} {:32} {:3} {:9.1f}/s p50 {:8.2f} p99 {:8.2f} ms, {:7.3f} ms CPU{}".format(
                    server.name, name, connections, result.per_second, result.quantile_ms(0.5),
                    result.quantile_ms(0.99), 1000 * result.server_cpu_s / max(1, result.answered),
                    "  FAILED {}: {}".format(result.failed, result.first_failure) if result.failed else "",
                ),
                file=sys.stderr, flush=True,
            )  # fmt: skip
    rss, pss, processes = load.tree_memory_mib(server.pid)
    results["memory"] = {"rss_mib": round(rss), "pss_mib": round(pss), "processes": processes}
    return results


def table(results):
    names = list(results)
    lines = ["| operation | connections | " + " | ".join("{} req/s (p50/p99 ms)".format(n) for n in names)]
    peers = [name for name in names if name != "asgard" and "asgard" in names]
    lines[0] += "".join(" | asgard ÷ {}".format(peer) for peer in peers) + " |"
    lines.append("|" + " --- |" * (2 + len(names) + len(peers)))
    rows = max(results.values(), key=len)
    for row in rows:
        if row == "memory":
            continue
        operation, _, connections = row.partition(" | ")
        cells = []
        for name in names:
            cell = results[name].get(row)
            cells.append(
                "{:,.0f}/s ({:.2f}/{:.2f}){}".format(
                    cell["per_second"], cell["p50_ms"], cell["p99_ms"], " %d failed" % cell["failed"] if cell["failed"] else ""
                )
                if cell and cell["per_second"] >= 10
                else "{:.1f}/s ({:.0f}/{:.0f}){}".format(
                    cell["per_second"], cell["p50_ms"], cell["p99_ms"], " %d failed" % cell["failed"] if cell["failed"] else ""
                )
                if cell
                else "not served"
            )
        for peer in peers:
            ours, theirs = results["asgard"].get(row), results[peer].get(row)
            cells.append(
                "**{:.1f}×**".format(ours["per_second"] / theirs["per_second"])
                if ours and theirs and theirs["per_second"]
                else "–"
            )
        lines.append("| {} | {} | {} |".format(operation, connections, " | ".join(cells)))
    memory = ["{rss_mib} MiB RSS / {pss_mib} PSS, {processes} processes".format(**results[n]["memory"]) for n in names]
    lines.append("| memory afterwards | | {} |{}".format(" | ".join(memory), " – |" * len(peers)))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="per operation (%(default)s)")
    parser.add_argument("--runs", type=int, default=5000, help="seeded runs (%(default)s)")
    parser.add_argument("--only", nargs="+", default=["mlflow", "fasttrackml", "asgard"])
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--old", metavar="BINARY", help="another build of asgard, measured as a peer")
    parser.add_argument("--json", help="write all numbers here")
    arguments = parser.parse_args()
    starters = {"asgard": servers.asgard, "mlflow": servers.mlflow, "fasttrackml": servers.fasttrackml}
    names = list(arguments.only)
    if arguments.old:
        starters["asgard before"] = functools.partial(servers.asgard, binary=arguments.old)
        names.insert(0, "asgard before")
    results = {}
    print(servers.machine(), file=sys.stderr)
    for name in names:
        with contextlib.ExitStack() as running:
            database = running.enter_context(postgres.postgres()) if arguments.database == "postgres" else None
            server = running.enter_context(starters[name](database=database.url if database else None))
            server.database = database
            results[name] = measure(server, arguments)
    if arguments.json:
        with open(arguments.json, "w") as out:
            json.dump({"machine": servers.machine(), "results": results}, out, indent=2)
    print(table(results))


if __name__ == "__main__":
    main()
