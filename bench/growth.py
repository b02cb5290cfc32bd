#!/usr/bin/env python3
"""How asgard's tracking times grow with what it holds: 5,000, 50,000 and 500,000 runs.

    python3 bench/growth.py [--runs 5000 50000 500000] [--databases sqlite postgres] [--json out.json]

Each run has 5 metrics of 20 points, 5 params, a param of its own and 4 tags; 1 in 1,000 is still running.
One more run holds a metric of 10,000 points and one of 1,000,000. The rows are written straight into
the database, by statements that make them there: 50 million points by REST would take hours.
"""

import argparse
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import time

import load
import postgres
import servers

API = "/api/2.0/mlflow/"
POINTS = 20
# A double from 1 up to 2 is 1 and a fraction of 52 bits, so its bits can be counted out in SQL.
ONE = 1023 << 52
FRACTION = "((({run} * 7919 + {key} * 104729 + {step} * 1299709) % 1000003) * 4503599627)"
VALUE = "(1.0 + {} / 4503599627370496.0)".format(FRACTION)
BITS = "({} + {})".format(ONE, FRACTION)
LONG = {"ten_thousand": 10_000, "million": 1_000_000}


class Sqlite:
    """What the two databases say differently."""

    name = "sqlite"
    text = "CAST({} AS TEXT)"
    hexadecimal = "printf('%032x', {})"
    end = "PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);"

    def __init__(self, path):
        self.path = path

    @staticmethod
    def series(name, first, last):
        return "(WITH RECURSIVE s({0}) AS (SELECT {1} UNION ALL SELECT {0} + 1 FROM s WHERE {0} < {2}) SELECT {0} FROM s) AS s_{0}".format(name, first, last)

    def run(self, sql):
        connection = sqlite3.connect(self.path, timeout=60)
        connection.executescript("PRAGMA cache_size = -262144; PRAGMA synchronous = OFF;" + sql)
        connection.close()


class Postgres:
    name = "postgres"
    text = "({})::TEXT"
    hexadecimal = "lpad(to_hex({}), 32, '0')"
    end = "VACUUM ANALYZE;"

    def __init__(self, server):
        self.run = server.run

    @staticmethod
    def series(name, first, last):
        return "generate_series({1}::BIGINT, {2}) AS s_{0}({0})".format(name, first, last)


def statements(db, runs):
    """What fills the tables. The order is that of the keys, in which writing is quickest."""
    series, text = db.series, db.text
    every = series("run", 1, runs)
    keys = series("k", 0, 4)
    value = VALUE.format(run="run", key="k", step=POINTS - 1)
    bits = BITS.format(run="run", key="k", step=POINTS - 1)
    running = "run % 1000 = 0"
    pick = "(run * 31 + k * 17 + run / 7) % 4"
    yield """INSERT INTO runs (run, run_id, experiment_id, name, status, lifecycle_stage, user_id, start_time, end_time, artifact_uri)
        SELECT run, {id}, 0, 'seed-' || {run}, CASE WHEN {running} THEN 'RUNNING' ELSE 'FINISHED' END, 'active', '',
            1700000000000 + run * 1000, CASE WHEN {running} THEN NULL ELSE 1700000000500 + run * 1000 END,
            'mlflow-artifacts:/0/' || {id} || '/artifacts' FROM {every} ORDER BY run;""".format(
        id=db.hexadecimal.format("run"), run=text.format("run"), running=running, every=every)  # fmt: skip
    yield """INSERT INTO metrics (run, key, timestamp, step, value_bits)
        SELECT run, 'm' || {k}, 1700000000000 + run * 1000 + step, step, {bits}
        FROM {every} CROSS JOIN {keys} CROSS JOIN {steps};""".format(
        k=text.format("k"), bits=BITS.format(run="run", key="k", step="step"), every=every, keys=keys,
        steps=series("step", 0, POINTS - 1))  # fmt: skip
    yield """INSERT INTO latest_metrics (run, key, value, is_nan, value_bits, timestamp, step, settled_value)
        SELECT run, 'm' || {k}, {value}, FALSE, {bits}, 1700000000000 + run * 1000 + {last}, {last},
            CASE WHEN {running} THEN NULL ELSE {value} END
        FROM {every} CROSS JOIN {keys};""".format(
        k=text.format("k"), value=value, bits=bits, last=POINTS - 1, running=running, every=every, keys=keys)  # fmt: skip
    yield """INSERT INTO params (run, key, value)
        SELECT run, 'p' || {k}, 'v' || {pick} FROM {every} CROSS JOIN {keys};
        INSERT INTO params (run, key, value) SELECT run, 'seed', {run} FROM {every};""".format(
        k=text.format("k"), pick=text.format(pick), run=text.format("run"), every=every, keys=keys)  # fmt: skip
    yield """INSERT INTO tags (run, key, value) SELECT run, 'mlflow.runName', 'seed-' || {run} FROM {every};
        INSERT INTO tags (run, key, value) SELECT run, 'mlflow.user', 'somebody' FROM {every};
        INSERT INTO tags (run, key, value) SELECT run, 'number', {run} FROM {every};
        INSERT INTO tags (run, key, value) SELECT run, 'team', 't' || {team} FROM {every};""".format(
        run=text.format("run"), team=text.format("run % 3"), every=every)  # fmt: skip
    for key, points in LONG.items():
        yield """INSERT INTO metrics (run, key, timestamp, step, value_bits)
            SELECT 1, '{key}', 1700000000000 + step, step, {bits} FROM {steps};""".format(
            key=key, bits=BITS.format(run="1", key="7", step="step"), steps=series("step", 0, points - 1))  # fmt: skip
    yield db.end


def operations(runs):
    """Name, and a function that gives the next request."""
    counter = iter(range(10**9))

    def post(path, body):
        return load.request("POST", API + path, json.dumps(body).encode())

    def search(filter_text, order_by=()):
        body = {"experiment_ids": ["0"], "max_results": 100, "filter": filter_text, "order_by": list(order_by)}
        return post("runs/search", body)

    def history(key, most):
        path = "metrics/get-history?run_id={:032x}&metric_key={}&max_results={}".format(1, key, most)
        return load.request("GET", API + path)

    def log_batch():
        step = next(counter)
        run_id = "{:032x}".format(1000 * (1 + step % max(1, runs // 1000)))
        points = [{"key": "n%d" % i, "value": step + i, "timestamp": step, "step": step} for i in range(100)]
        return post("runs/log-batch", {"run_id": run_id, "metrics": points})

    fixed = {
        "search: newest 100": search(""),
        "search: metric, half of the runs": search("metrics.m0 > 1.5"),
        "search: metric, about 20 runs": search("metrics.m0 > {:.9f}".format(2 - 20 / runs)),
        "search: metric and param, by another metric": search("metrics.m0 > 1.5 and params.p0 = 'v1'", ["metrics.m1 DESC"]),
        "search: all, by a metric": search("", ["metrics.m2 ASC"]),
        "search: one run by its param": search("params.seed = '{}'".format(runs // 2)),
        "search: one run by its tag": search("tags.number = '{}'".format(runs // 3)),
        "search: a third of the runs by tag": search("tags.team = 't1'"),
        "runs/get": load.request("GET", API + "runs/get?run_id={:032x}".format(runs // 2)),
        "history of 10,000": history("ten_thousand", 10_000),
        "history, last 1,000 of 20": history("m0", 1_000),
    }
    for name, request in fixed.items():
        yield name, lambda request=request: request
    yield "log-batch of 100, to the running runs", log_batch


def measure(server, runs, seconds):
    results = {}
    for name, next_request in operations(runs):
        result = load.run(server.address, next_request, 1, seconds, server.pid)
        results[name] = result.as_dict()
        print("    {:46} p50 {:9.2f} p99 {:9.2f} ms{}".format(
            name, result.quantile_ms(0.5), result.quantile_ms(0.99),
            "  FAILED: {}".format(result.first_failure) if result.failed else ""), file=sys.stderr, flush=True)  # fmt: skip
    rss, _, _ = load.tree_memory_mib(server.pid)
    begin = time.perf_counter()
    whole = server.ask("GET", API + "metrics/get-history?run_id={:032x}&metric_key=million".format(1))
    seconds = time.perf_counter() - begin
    assert len(whole["metrics"]) == LONG["million"]
    after, _, _ = load.tree_memory_mib(server.pid)
    results["memory"] = {"rss_mib": round(rss), "rss_after_million_mib": round(after), "million_s": round(seconds, 2)}
    print("    {}".format(results["memory"]), file=sys.stderr, flush=True)
    return results


def grow(name, runs, seconds):
    folder = tempfile.mkdtemp(prefix="bench-growth-")
    try:
        if name == "postgres":
            with postgres.postgres() as server:
                return seed_and_measure(Postgres(server), server.url, folder, runs, seconds)
        return seed_and_measure(Sqlite(os.path.join(folder, "data/asgard.db")), None, folder, runs, seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def seed_and_measure(db, url, folder, runs, seconds):
    with servers.asgard(database=url, folder=folder):
        pass  # makes the tables
    begin = time.perf_counter()
    for statement in statements(db, runs):
        db.run(statement)
    seed_s = time.perf_counter() - begin
    print("{}: {:,} runs, {:,} points seeded in {:.0f} s".format(db.name, runs, runs * 5 * POINTS, seed_s), file=sys.stderr, flush=True)
    with servers.asgard(database=url, folder=folder) as server:
        return {"seed_s": round(seed_s, 1), "start_s": round(server.seconds_to_answer, 3), **measure(server, runs, seconds)}


def table(name, results):
    sizes = list(results)
    lines = ["| {}: p50 (p99) in ms | {} |".format(name, " | ".join("{:,} runs".format(size) for size in sizes))]
    lines.append("|" + " --- |" * (1 + len(sizes)))
    for row in next(iter(results.values())):
        cells = [results[size][row] for size in sizes]
        if row in ("seed_s", "start_s"):
            shown = ["{:g} s".format(cell) for cell in cells]
        elif row == "memory":
            shown = ["{rss_mib} MiB; after 1,000,000 points in one answer ({million_s} s): {rss_after_million_mib}".format(**cell) for cell in cells]
        else:
            shown = ["{p50_ms:.2f} ({p99_ms:.2f})".format(**cell) for cell in cells]
        lines.append("| {} | {} |".format(row, " | ".join(shown)))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[5_000, 50_000, 500_000])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgres"], choices=["sqlite", "postgres"])
    parser.add_argument("--seconds", type=float, default=2.0, help="per operation (%(default)s)")
    parser.add_argument("--json", help="write all numbers here")
    arguments = parser.parse_args()
    print(servers.machine(), file=sys.stderr)
    results = {}
    for name in arguments.databases:
        results[name] = {runs: grow(name, runs, arguments.seconds) for runs in arguments.runs}
        print(table(name, results[name]) + "\n", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as out:
            json.dump({"machine": servers.machine(), "results": results}, out, indent=2)


if __name__ == "__main__":
    main()
