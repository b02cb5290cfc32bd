"""The same calls of the Feast SDK to Feast's own servers and to asgard: the same answers.

What comes back is compared whole, without times of definitions; of an error its class, as asgard words
its errors itself: what asgard's has to tell is at the call. DIFFERENT names the few calls whose answers
differ, and why. Historical reads of Feast's are by its DuckDB store, online values in SQLite.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from conftest import Server, free_port

feast = pytest.importorskip("feast")
pytest.importorskip("duckdb", reason="Feast's DuckDB store is not in this environment: feast[duckdb]")

import feast_calls  # noqa: E402
from feast import FeatureStore  # noqa: E402
from feast.errors import FeastError  # noqa: E402
from feast_definitions import DRIVER, TABLES  # noqa: E402
from feast_session import LONGEST_S, Session, differences, named, silent  # noqa: E402

VERSION = tuple(map(int, feast.__version__.split(".")[:2]))
# The version that DIFFERENT was written for; newer ones may have mended what it tells of.
COMPARED = (0, 67)
pytestmark = [
    pytest.mark.feast,
    pytest.mark.skipif(VERSION < COMPARED, reason="compared with Feast 0.67 and newer: older servers answer less"),
]

DIFFERENT = {
    "frame: two times": "DuckDB makes microseconds of every time; here only the time that is asked for is touched",
    "frame: an index with a name": "an index with a name is a column here, since it may be a key",
    "frame: an index that is the key": "the same: Feast's server forgets the index",
    "frame: a column like a feature": "an error of DuckDB there, two columns here",
    "range: both": "Feast's DuckDB store reads no rows between two times",
    "load: intervals": "what had nothing to load is no interval here",
    "online: one twice": "500 there; here the second is as good as none",
    "online: a key is missing": "NOT_FOUND there, told here",
    "online: key as float": "1.5 is the key 1 there, refused here",
    "online: key as truth": "True is the key 1 there, refused here",
    "online: key is None": "500 there, NOT_FOUND here",
    "online: only None": "the same",
    "online: zone too large": "500 there, NOT_FOUND here",
    "online: unknown view": "asgard's errors over HTTP are objects: the SDK raises a RuntimeError of their text",
    "on demand: online, no request data": "the same",
    "online: no rows": "500 there, no rows here",
    "online: without entities or keys": "500 there; here the question is about one thing",
    "online: offline view": "500 there, since nothing was loaded; NOT_FOUND here",
    "online: service pairs by the view's key": "Feast takes the view's key for both; here each has its own",
    "online kinds: single": "here the shortest number of the same 32 bits",
    "raw kinds: single": "the same",
    "raw kinds: singles": "the same",
    "online kinds: seen": "Feast makes a time out of null",
    "raw kinds: seen": "the same",
    "load kinds: mapped": "Feast loads no column of maps",
    "online kinds: newer: mapped": "the same",
    "raw kinds: newer: mapped": "the same",
    "online kinds: newer: parts": "Feast makes 1.0 of a struct's 1",
    "raw kinds: newer: parts": "the same",
    "write: older, read": "an older row takes the place of a newer one there",
    "write: one key twice, read": "the last one counts there, the newest here",
    "raw: read as text": "older SDKs send JSON without saying so",
    "on demand: online, python, full names": "Feast loses features of Python's mode under full names",
    "on demand: online, two of them, full names": "the same",
    "on demand: online, of the request only, full names": "the same",
    "on demand: online, of the request only": "Feast computes the first row only",
    "on demand: past, of the request only": "Feast fails over the number of rows",
    "refused: service 'a b'": "asgard's names are such that stand in an address",
    "refused: service 'a b', listed": "the same",
    "refused: service 'a b', deleted": "the same",
    "refused: wrong type, past": "Feast reads texts of what is declared a number",
    "refused: no table, past": "an error of DuckDB there, one about the data source here",
    "direct: ApplyMaterialization, nothing": "of no view Feast takes note of nothing",
}

SERVERS = """\
project: default
provider: local
registry: registry.db
offline_store:
  type: duckdb
online_store:
  type: sqlite
  path: online.db
entity_key_serialization_version: 3
"""
CLIENT = """\
project: default
provider: local
registry:
  registry_type: remote
  path: 127.0.0.1:{}
offline_store:
  type: remote
  host: 127.0.0.1
  port: {}
online_store:
  type: remote
  path: http://127.0.0.1:{}
  connection_retries: 1
entity_key_serialization_version: 3
"""


def repository(folder, yaml):
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(yaml)
    return folder


def wait_until_up(url, process, log):
    end = time.monotonic() + LONGEST_S
    while True:
        try:
            return requests.get(url + "/health", timeout=5).raise_for_status()
        except requests.RequestException:
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.2)


@pytest.fixture
def theirs(tmp_path):
    """Feast's own servers, of the version of this SDK."""
    folder = repository(tmp_path / "servers", SERVERS)
    ports = [free_port() for _ in range(3)]
    script = pathlib.Path(__file__).with_name("feast_servers.py")
    with open(tmp_path / "feast.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, script, *map(str, ports)], cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{ports[2]}"
    try:
        wait_until_up(url, process, tmp_path / "feast.log")
        for name, table in TABLES.items():
            pq.write_table(table, folder / f"{name}.parquet")
        store = FeatureStore(repo_path=str(repository(tmp_path / "theirs", CLIENT.format(*ports))))
        local = FeatureStore(repo_path=str(folder))
        yield Session(store, url, str(folder), prepare=lambda tables: make_online_tables(local, tables))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(LONGEST_S)


def make_online_tables(local, tables):
    """What `feast apply` does beside its server: the remote online store makes no tables."""
    local._get_provider().update_infra("default", [], tables, [], [], True)


@pytest.fixture
def ours(tmp_path):
    server = Server(
        tmp_path / "data",
        {
            "ASGARD__FEATURE_STORE__ON_DEMAND__TIMEOUT_MS": "60000",
            "ASGARD__FEATURE_STORE__ON_DEMAND__MEMORY_BYTES": str(1 << 30),
        },
    )
    cache = os.environ.get("ASGARD_TEST_CACHE")
    if cache:
        # Packages for on-demand views come from a cache that stays.
        server.data_dir.mkdir()
        pathlib.Path(cache, "feast").mkdir(parents=True, exist_ok=True)
        (server.data_dir / "cache").symlink_to(pathlib.Path(cache, "feast").resolve())
    server.start()
    try:
        for name, table in TABLES.items():
            bring(server, name, table)
        yaml = requests.get(server.url + "/feast/repo", timeout=LONGEST_S).text
        store = FeatureStore(repo_path=str(repository(tmp_path / "ours", yaml)))
        yield Session(store, server.url + "/feast", "iceberg://gold")
    finally:
        server.stop()
        shutil.rmtree(server.data_dir, ignore_errors=True)


def bring(server, name, table):
    """Imports rows into a table."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    kind = {"content-type": "application/vnd.apache.parquet"}
    url = f"{server.url}/feast/tables/gold/{name}"
    answer = requests.post(url, data=sink.getvalue().to_pybytes(), headers=kind, timeout=LONGEST_S)
    assert answer.ok, answer.text


def test_both_servers_answer_the_same(theirs, ours):
    feast_calls.everything(theirs)
    feast_calls.everything(ours)
    different = differences(theirs, ours)
    unnamed = {name: both for name, both in different.items() if name not in DIFFERENT}
    shown = "\n".join(f"{name}\n  Feast:  {a}\n  asgard: {b}" for name, (a, b) in unnamed.items())
    assert not shown, f"{len(unnamed)} of {len(ours.answers)} calls:\n{shown}"
    assert not silent(ours, theirs), silent(ours, theirs)
    assert not ours.broken, ours.broken
    print(f"{len(ours.answers)} calls, {len(different)} with another answer: {sorted(different)}")
    if VERSION == COMPARED:
        assert set(different) == set(DIFFERENT), "DIFFERENT names a call whose answers are the same"


def test_teardown_takes_no_other_project_with_it(ours):
    """The SDK asks for the end of every project that it finds."""
    registry = ours.store.registry
    for project in ("default", "team"):
        registry.apply_entity(DRIVER, project)
    with pytest.raises(FeastError, match="there are other projects"):
        ours.store.teardown()
    assert [named(registry.list_entities(project)) for project in ("default", "team")] == [["driver"], ["driver"]]
    registry.delete_entity("driver", "team")
    ours.store.teardown()
    assert ours.store.list_entities() == []
