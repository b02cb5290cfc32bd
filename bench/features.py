#!/usr/bin/env python3
"""Features: asgard beside Feast, the same data, one run after the other.

    python3 bench/features.py [--rows 5000000] [--entities 200000] [--seconds 5] [--no-peers] [--json out.json]
    python3 bench/features.py --growth 1,5,50 [--json out.json]

Historical: three views of ten float features over ``--rows`` rows each, five features of each joined to
``--entities`` entity rows, ttl 7 days. Feast 0.67 with its file and its DuckDB store reads the Parquet
files that asgard imports; the floor is pyarrow reading the needed columns. Answers are compared: rows,
values that are there, and their sum. The bare scan of asgard's own is a read of two entity rows over all times:
all that is needed of the tables is read and nothing is joined.

Online: the newest values of 20,000 keys, ten features, 1 and 100 entities, 1 and 16 connections; Feast's
Python server on SQLite with one worker. Needs a quiet machine, 4 GiB of memory and 3 GiB of disk.

Growth: asgard alone, views of so many millions of rows each, joined to ``--entities`` and to ten times as
many entity rows, and loaded into the online store: seconds and the most memory that the server held. Each
file is made, imported and removed before the next: 50 million rows a view take 10 GiB of disk, which is
free again at the end, and a quarter of an hour.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import load
import servers

VIEWS = 3
FEATURES = 10
ASKED = 5
ONLINE_KEYS = 20_000
SCAN = "asgard, bare scan"

DATA = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
folder, views, rows, entities, features = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng(7)
day, start = 86_400_000_000, 1_750_000_000_000_000
keys = 100_000
def times(n, spread):
    return pa.array(np.sort(start + rng.integers(0, spread, n)), pa.timestamp("us", "UTC"))
for view in range(views):
    columns = {"id": rng.integers(0, keys, rows), "event_timestamp": times(rows, 60 * day)}
    columns.update({f"v{view}_f{i}": rng.random(rows) for i in range(features)})
    pq.write_table(pa.table(columns), f"{folder}/view{view}.parquet", compression="zstd", row_group_size=500_000)
def asked(n, name):
    columns = {"id": rng.integers(0, keys, n), "event_timestamp": times(n, 60 * day)}
    pq.write_table(pa.table(columns), f"{folder}/{name}.parquet")
asked(entities, "entities")
asked(entities * 10, "many")
ends = pa.array([start, start + 67 * day], pa.timestamp("us", "UTC"))
pq.write_table(pa.table({"id": [-1, -1], "event_timestamp": ends}), f"{folder}/two.parquet")
online = {"id": np.arange(20_000), "event_timestamp": times(20_000, day)}
online.update({f"o_f{i}": rng.random(20_000) for i in range(features)})
pq.write_table(pa.table(online), f"{folder}/online.parquet")
"""

PART = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
path, view, part, parts, rows, features = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng([7, view, part])
share, start = 60 * 86_400_000_000 // parts, 1_750_000_000_000_000
# A part has its own share of the time, as tables that grow have.
at = np.sort(start + part * share + rng.integers(0, share, rows))
columns = {"id": rng.integers(0, 100_000, rows), "event_timestamp": pa.array(at, pa.timestamp("us", "UTC"))}
columns.update({f"v{view}_f{i}": rng.random(rows) for i in range(features)})
pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=500_000)
"""
PART_ROWS = 2_500_000

# What a row of a view takes on the disk, in bytes, and what all else does.
ROW_BYTES = 64
OTHER_BYTES = 1 << 30

MEASURE = """
import resource, time
def told(name, begin, table):
    import json
    columns = [c for c in table.columns if "_f" in c]
    print("ANSWER" + json.dumps({
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time(),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "rows": len(table),
        "present": int(table[columns].notna().sum().sum()),
        "sum": float(table[columns].sum().sum()),
    }))
"""

FLOOR = MEASURE + """
import sys, pyarrow.dataset as ds
folder, views, asked = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
begin = time.perf_counter()
for view in range(views):
    names = ["id", "event_timestamp"] + [f"v{view}_f{i}" for i in range(asked)]
    for batch in ds.dataset(f"{folder}/view{view}.parquet").to_batches(columns=names):
        pass
import json
print("ANSWER" + json.dumps({"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time(),
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
"""

FEAST = """
import datetime, sys
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64
folder, views, features, store_type = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
config = RepoConfig(project="bench", provider="local", registry=f"{folder}/registry-{store_type}.db",
    offline_store={"type": store_type}, online_store={"type": "sqlite", "path": f"{folder}/online.db"},
    entity_key_serialization_version=3)
store = FeatureStore(config=config)
key = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
def view(name, file, prefix, ttl):
    source = FileSource(name=file, path=f"{folder}/{file}.parquet", timestamp_field="event_timestamp")
    schema = [Field(name=f"{prefix}_f{i}", dtype=Float64) for i in range(features)]
    return FeatureView(name=name, entities=[key], ttl=ttl, schema=schema, source=source)
ttl = datetime.timedelta(days=7)
store.apply([key, view("online", "online", "o", datetime.timedelta(0))]
    + [view(f"view{v}", f"view{v}", f"v{v}", ttl) for v in range(views)])
"""

FEAST_HISTORICAL = MEASURE + FEAST + """
import pandas as pd
asked = int(sys.argv[5])
entities = pd.read_parquet(f"{folder}/entities.parquet")
refs = [f"view{v}:v{v}_f{i}" for v in range(views) for i in range(asked)]
begin = time.perf_counter()
told(store_type, begin, store.get_historical_features(entities, refs).to_df())
"""

FEAST_ONLINE = FEAST + """
store.materialize(datetime.datetime(2025, 1, 1), datetime.datetime(2030, 1, 1), feature_views=["online"])
yaml = f'''project: bench
provider: local
registry: {folder}/registry-{store_type}.db
offline_store: {{type: {store_type}}}
online_store: {{type: sqlite, path: {folder}/online.db}}
entity_key_serialization_version: 3
'''
import pathlib
pathlib.Path(folder, "feature_store.yaml").write_text(yaml)
"""


def feast_python():
    return servers.environment("feast-0.67", "feast[duckdb]==0.67.0", "pyarrow", "pandas")


def run(code, *arguments):
    """Runs a script in Feast's environment; what it measured."""
    done = subprocess.run(
        [str(feast_python()), "-W", "ignore", "-c", code, *map(str, arguments)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    for line in done.stdout.splitlines():
        if line.startswith("ANSWER"):
            return json.loads(line[len("ANSWER") :])
    return None


def post(server, path, data, kind="application/json"):
    """The answer to a request; a file is sent as it is read."""
    headers = {"Content-Type": kind}
    if hasattr(data, "fileno"):
        headers["Content-Length"] = str(os.fstat(data.fileno()).st_size)
    elif not isinstance(data, bytes):
        data = json.dumps(data).encode()
    request = urllib.request.Request(server.url + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=3600) as answer:
            return answer.read()
    except urllib.error.HTTPError as refused:
        sys.exit("{}: {} {}".format(path, refused.code, refused.read().decode("utf-8", "replace")[:800]))


def peak_mib(pid):
    with open("/proc/{}/status".format(pid)) as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))


def bring(server, name, path):
    """Imports a file."""
    with open(path, "rb") as file:
        post(server, "/feast/tables/gold/" + name, file, "application/vnd.apache.parquet")


def define(server, name, prefix, days):
    """Defines the view of a table."""
    features = [{"name": "{}_f{}".format(prefix, i), "dtype": "float64"} for i in range(FEATURES)]
    source = {"schema": "gold", "table_name": name}
    view = {"name": name, "entities": ["id"], "features": features, "source": source, "ttl_days": days}
    post(server, "/feast/features", view)


def bring_all(server, folder):
    """Imports the files and defines the views."""
    for name, prefix, days in [("view%d" % v, "v%d" % v, 7) for v in range(VIEWS)] + [("online", "o", 0)]:
        bring(server, name, "{}/{}.parquet".format(folder, name))
        define(server, name, prefix, days)


def grow(server, folder, rows):
    """Makes views of so many rows, a part at a time."""
    path = folder + "/part.parquet"
    parts = -(-rows // PART_ROWS)
    for view in range(VIEWS):
        for part in range(parts):
            run(PART, path, view, part, parts, min(PART_ROWS, rows - part * PART_ROWS), FEATURES)
            bring(server, "view%d" % view, path)
        define(server, "view%d" % view, "v%d" % view, 7)
    os.remove(path)


READ = """
import json, os, sys, pandas as pd
table = pd.read_parquet(sys.argv[1])
columns = [c for c in table.columns if "_f" in c]
print("ANSWER" + json.dumps({"rows": len(table), "present": int(table[columns].notna().sum().sum()),
    "sum": float(table[columns].sum().sum())}), flush=True)
# pyarrow's threads now and then abort an interpreter that ends.
os._exit(0)
"""


def asgard_historical(server, folder, rows="entities"):
    refs = ["view{0}:v{0}_f{1}".format(v, i) for v in range(VIEWS) for i in range(ASKED)]
    with open("{}/{}.parquet".format(folder, rows), "rb") as file:
        entities = file.read()
    # What the imports needed is not what a read needs.
    with open("/proc/{}/clear_refs".format(server.pid), "w") as reset:
        reset.write("5")
    cpu, begin = load.tree_cpu_s(server.pid), time.perf_counter()
    path = "/feast/historical?features=" + ",".join(refs)
    answer = post(server, path, entities, "application/vnd.apache.parquet")
    measured = {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": load.tree_cpu_s(server.pid) - cpu,
        "peak_mib": peak_mib(server.pid),
    }
    with open(folder + "/answer.parquet", "wb") as file:
        file.write(answer)
    return {**measured, **run(READ, folder + "/answer.parquet")}


def best(measure, times=3):
    """The quickest of some runs: what else the machine does only adds to it."""
    return min((measure() for _ in range(times)), key=lambda found: found["seconds"])


def historical(folder, server, peers):
    results = {"pyarrow scan (floor)": best(lambda: run(FLOOR, folder, VIEWS, ASKED))}
    asgard_historical(server, folder)
    results[SCAN] = best(lambda: asgard_historical(server, folder, "two"))
    results["asgard"] = best(lambda: asgard_historical(server, folder))
    for store in ("duckdb", "file") if peers else ():
        name = "Feast 0.67, {} store".format(store)
        results[name] = run(FEAST_HISTORICAL, folder, VIEWS, FEATURES, store, ASKED)
    ours = results["asgard"]
    print("\n| historical | seconds | CPU s | peak MiB | rows | values | ÷ asgard |\n| --- | --- | --- | --- | --- | --- | --- |")
    for name, found in results.items():
        ratio = found["seconds"] / ours["seconds"]
        print("| {} | {:.2f} | {:.2f} | {} | {} | {} | {:.1f} |".format(
            name, found["seconds"], found["cpu_seconds"], found["peak_mib"],
            found.get("rows", ""), found.get("present", ""), ratio))  # fmt: skip
    print("\nasgard takes {:.2f} times its bare scan".format(ours["seconds"] / results[SCAN]["seconds"]))
    if not peers:
        return results
    duckdb = results["Feast 0.67, duckdb store"]
    same = ours["rows"] == duckdb["rows"] and ours["present"] == duckdb["present"]
    if not same or abs(ours["sum"] - duckdb["sum"]) > 1e-6 * abs(duckdb["sum"]):
        sys.exit("asgard and Feast's DuckDB store differ: {} {}".format(ours, duckdb))
    return results


def online_load(server, path, entities, connections, seconds):
    chance = random.Random(1)
    names = ["online:o_f{}".format(i) for i in range(FEATURES)]
    bodies = [
        {"features": names, "entities": {"id": [chance.randrange(ONLINE_KEYS) for _ in range(entities)]}}
        for _ in range(64)
    ]
    requests = itertools.cycle([load.request("POST", path, json.dumps(body).encode()) for body in bodies])
    done = load.run(server.address, lambda: next(requests), connections, seconds, server.pid)
    if done.failed:
        sys.exit("{}: {} requests failed: {}".format(server.name, done.failed, done.first_failure))
    return done


def online(server, path, seconds):
    results = {}
    for entities in (1, 100):
        for connections in (1, 16):
            done = online_load(server, path, entities, connections, seconds)
            results["{} entities, {} connections".format(entities, connections)] = done.as_dict()
    return results


def materialize(server, views):
    begin = time.perf_counter()
    span = {"start_ts": "2025-01-01T00:00:00Z", "end_ts": "2030-01-01T00:00:00Z"}
    done = json.loads(post(server, "/feast/materialize", {"feature_views": views, **span}))
    seconds = time.perf_counter() - begin
    read = sum(view["rows_read"] for view in done["materialized"])
    return {"rows": read, "seconds": seconds, "rows_per_second": read / seconds, "peak_mib": peak_mib(server.pid)}


def growth(millions, entities):
    """asgard alone, with larger and larger views."""
    results = []
    print("\n| rows a view | entity rows | seconds | CPU s | peak MiB | rows/s read |\n| --- | --- | --- | --- | --- | --- |")
    for rows in millions:
        needed, free = VIEWS * rows * ROW_BYTES + OTHER_BYTES, shutil.disk_usage(tempfile.gettempdir()).free
        if needed > free:
            sys.exit("{} million rows a view need {:.1f} GiB in {}, where {:.1f} GiB are free: set TMPDIR".format(
                rows / 1e6, needed / 2**30, tempfile.gettempdir(), free / 2**30))  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="bench-features-") as folder:
            run(DATA, folder, 0, 0, entities, FEATURES)
            with servers.asgard() as server:
                grow(server, folder, rows)
                for name, count in (("entities", entities), ("many", entities * 10)):
                    found = asgard_historical(server, folder, name)
                    results.append({"rows": rows, "entities": count, **found})
                    print("| {} | {} | {:.2f} | {:.2f} | {} | {:.0f} |".format(
                        rows, count, found["seconds"], found["cpu_seconds"], found["peak_mib"],
                        VIEWS * rows / found["seconds"]), flush=True)  # fmt: skip
                loaded = materialize(server, ["view0"])
                results.append({"materialize": rows, **loaded})
                print("| {} | materialize | {:.2f} | | {} | {:.0f} |".format(
                    rows, loaded["seconds"], loaded["peak_mib"], loaded["rows_per_second"]), flush=True)  # fmt: skip
    return results


def side_by_side(args):
    with tempfile.TemporaryDirectory(prefix="bench-features-") as folder:
        run(DATA, folder, VIEWS, args.rows, args.entities, FEATURES)
        with servers.asgard() as server:
            bring_all(server, folder)
            results = {"historical": historical(folder, server, args.peers)}
            results["materialize"] = materialize(server, ["online", "view0"])
            print("\nmaterialize: {rows} rows, {rows_per_second:.0f} rows/s".format(**results["materialize"]))
            results["online"] = {"asgard": online(server, "/feast/get-online-features", args.seconds)}
        if args.peers:
            run(FEAST_ONLINE, folder, VIEWS, FEATURES, "duckdb")
            # Without the last one Feast ends each worker after a thousand requests.
            feast = [str(feast_python().parent / "feast"), "-c", folder, "serve", "--host", "127.0.0.1",
                     "--port", "{port}", "--workers", "1", "--no-access-log", "--max-requests", "0"]  # fmt: skip
            with servers.started("feast", feast, "/health", {"PATH": os.environ["PATH"]}) as server:
                results["online"]["feast"] = online(server, "/get-online-features", args.seconds)
    print("\n| online | asgard req/s | p99 ms | Feast req/s | p99 ms | ratio |\n| --- | --- | --- | --- | --- | --- |")
    for name, ours in results["online"]["asgard"].items():
        theirs = results["online"].get("feast", {}).get(name)
        row = [name, ours["per_second"], ours["p99_ms"]]
        row += [theirs["per_second"], theirs["p99_ms"], round(ours["per_second"] / theirs["per_second"])] if theirs else [""] * 3
        print("| {} | {} | {} | {} | {} | {} |".format(*row))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--entities", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="measure asgard alone")
    parser.add_argument("--growth", metavar="MILLIONS", help="views of so many million rows each, such as 1,5,50")
    parser.add_argument("--json")
    args = parser.parse_args()
    print(servers.machine())
    if args.growth:
        sizes = [round(float(size) * 1e6) for size in args.growth.split(",")]
        results = {"growth": growth(sizes, args.entities)}
    else:
        results = side_by_side(args)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"machine": servers.machine(), **results}, file, indent=2)


if __name__ == "__main__":
    main()
