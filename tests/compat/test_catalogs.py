"""Iceberg catalogs and tables of real pyiceberg clients: SQL catalogs on SQLite and PostgreSQL, REST
catalogs, Glue; tables in folders and in a bucket."""

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid

import pytest
import requests

pytest.importorskip("pyiceberg")

import pyarrow as pa  # noqa: E402
import pyarrow.flight  # noqa: E402
from pyiceberg.catalog import load_catalog  # noqa: E402
from pyiceberg.catalog.sql import SqlCatalog  # noqa: E402
from pyiceberg.exceptions import NoSuchTableError  # noqa: E402
from pyiceberg.types import StringType  # noqa: E402

from conftest import Server, free_port  # noqa: E402
from rest_catalog import CLIENT_ID, CLIENT_SECRET, WAREHOUSE, RestServer  # noqa: E402

pytestmark = pytest.mark.pyiceberg

POSTGRES = os.environ.get("ASGARD_TEST_POSTGRES_URL")


@pytest.fixture(scope="module", params=["sqlite", "postgres", "bucket", "rest", "glue"])
def lake(request, tmp_path_factory):
    """A catalog of pyiceberg, and a server that has it as `lake`."""
    home = tmp_path_factory.mktemp("lake")
    if request.param == "rest":
        rest = request.getfixturevalue("rest")
        catalog, settings = load_catalog("rest", **rest.as_pyiceberg()), rest.settings()
    elif request.param == "glue":
        catalog, settings = request.getfixturevalue("glue")
    else:
        catalog, settings = sql_catalog(request, home)
    catalog.create_namespace_if_not_exists("gold")
    server = Server(home / "data", settings)
    server.start()
    yield server, catalog
    server.stop()


def lake_settings(**settings):
    return {f"ASGARD__FEATURE_STORE__CATALOGS__LAKE__{name.upper()}": value for name, value in settings.items()}


def sql_catalog(request, home):
    uri, warehouse, more, settings = f"sqlite:///{home}/catalog.db", f"{home}/warehouse", {}, {}
    if request.param == "postgres":
        if not POSTGRES:
            pytest.skip("ASGARD_TEST_POSTGRES_URL names no server")
        uri = database_of_its_own()
    if request.param == "bucket":
        bucket, warehouse = request.getfixturevalue("bucket"), "s3://artifacts/lake"
        more = as_pyiceberg(bucket)
        settings = lake_settings(endpoint=bucket.endpoint) | bucket.credentials
    else:
        (home / "warehouse").mkdir()
    url = warehouse if "://" in warehouse else f"file://{warehouse}"
    catalog = SqlCatalog("lake", uri=uri, warehouse=url, **more)
    return catalog, settings | lake_settings(uri=uri, warehouse=warehouse)


@pytest.fixture(scope="module")
def rest(bucket, tmp_path_factory):
    """A REST catalog that gives out the credentials of the bucket: asgard has none of its own."""
    home = tmp_path_factory.mktemp("rest")
    rest = RestServer(home, "s3://artifacts/rest", **as_pyiceberg(bucket))
    yield rest
    rest.stop()


@pytest.fixture(scope="module")
def glue(bucket):
    """Glue as moto has it, with tables in the bucket."""
    pytest.importorskip("moto")
    port = free_port()
    moto = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        endpoint, end = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while not answers(endpoint):
            assert moto.poll() is None and time.monotonic() < end, "moto does not start"
            time.sleep(0.1)
        credentials = {
            "glue.endpoint": endpoint,
            "glue.access-key-id": bucket.credentials["AWS_ACCESS_KEY_ID"],
            "glue.secret-access-key": bucket.credentials["AWS_SECRET_ACCESS_KEY"],
            "glue.region": "us-east-1",
        }
        warehouse = "s3://artifacts/glue"
        catalog = load_catalog("glue", type="glue", warehouse=warehouse, **credentials, **as_pyiceberg(bucket))
        settings = lake_settings(type="glue", uri=endpoint, warehouse=warehouse, endpoint=bucket.endpoint)
        yield catalog, settings | bucket.credentials
    finally:
        moto.kill()
        moto.wait()


def answers(url):
    try:
        return requests.get(url, timeout=5) is not None
    except requests.RequestException:
        return False


def as_pyiceberg(bucket):
    """How pyiceberg is told of the bucket."""
    return {
        "s3.endpoint": bucket.endpoint,
        "s3.access-key-id": bucket.credentials["AWS_ACCESS_KEY_ID"],
        "s3.secret-access-key": bucket.credentials["AWS_SECRET_ACCESS_KEY"],
        "s3.region": "us-east-1",
    }


def database_of_its_own():
    import sqlalchemy

    name = "catalog_" + uuid.uuid4().hex
    url = POSTGRES.replace("postgres://", "postgresql+psycopg2://", 1)
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.rsplit("/", 1)[0] + "/" + name


def rows(**columns):
    times = pa.array([1_762_000_000_000_000 + n for n in columns.pop("us")], pa.timestamp("us", "UTC"))
    return pa.table({"event_timestamp": times, **columns})


def asked(server, features, ids):
    body = {
        "features": features,
        "entities": {"id": ids, "event_timestamp": ["2026-01-01"] * len(ids)},
    }
    answer = requests.post(server.url + "/feast/historical", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def define(server, name, table, *features, schema="gold"):
    view = {
        "name": name,
        "entities": ["id"],
        "features": [{"name": feature, "dtype": dtype} for feature, dtype in features],
        "source": {"catalog": "lake", "schema": schema, "table_name": table},
    }
    answer = requests.post(server.url + "/feast/features", json=view, timeout=60)
    # 200 where a try before this one has defined it.
    assert answer.status_code in (200, 201), answer.text


def drop(catalog, name):
    """Takes away what a try before this one has made."""
    with contextlib.suppress(NoSuchTableError):
        catalog.drop_table(name)


def test_a_table_of_pyiceberg_is_read_with_its_deletes_and_its_new_columns(lake):
    server, catalog = lake
    first = rows(us=[0, 0, 0], id=[1, 2, 3], amount=[1.0, 2.0, 3.0])
    drop(catalog, "gold.orders")
    table = catalog.create_table("gold.orders", schema=first.schema)
    table.append(first)
    table.delete("id = 2")
    with table.update_schema() as update:
        update.rename_column("amount", "total")
    with table.update_schema() as update:
        update.add_column("city", StringType())
    table.append(rows(us=[5], id=[1], total=[10.0], city=["Riga"]))
    define(server, "orders", "orders", ("total", "float64"), ("city", "string"))
    found = asked(server, ["orders:total", "orders:city"], [1, 2, 3])
    assert found["total"] == [10.0, None, 3.0]
    assert found["city"] == ["Riga", None, None]


def test_a_table_that_asgard_writes_is_read_by_pyiceberg_and_written_by_both(lake):
    server, catalog = lake
    drop(catalog, "gold.scores")
    csv = "id,event_timestamp,score\n1,2025-11-01T00:00:00,0.5\n"
    url = server.url + "/feast/tables/gold/scores?catalog=lake"
    answer = requests.post(url, data=csv, headers={"content-type": "text/csv"}, timeout=60)
    assert answer.status_code == 201, answer.text
    table = catalog.load_table("gold.scores")
    assert table.scan().to_arrow().column("score").to_pylist() == [0.5]
    schema = table.schema().as_arrow()
    more = rows(us=[0], id=[2], score=[1.5])
    table.append(more.select(schema.names).cast(schema))
    define(server, "scores", "scores", ("score", "float64"))
    assert asked(server, ["scores:score"], [1, 2])["score"] == [0.5, 1.5]
    names = {t["name"] for t in requests.get(server.url + "/feast/tables?catalog=lake", timeout=60).json()["tables"]}
    assert "scores" in names


def test_a_token_that_ends_while_rows_are_written_is_exchanged_anew(rest, tmp_path):
    load_catalog("rest", **rest.as_pyiceberg()).create_namespace_if_not_exists("gold")
    server, name = Server(tmp_path / "data", rest.settings()), "ends" + uuid.uuid4().hex
    server.start()
    try:
        for call in [("POST", "tables"), ("POST", name)]:
            rest.ends_at = call
            csv = "id,event_timestamp,score\n1,2025-11-01T00:00:00,0.5\n"
            url = f"{server.url}/feast/tables/gold/{name}?catalog=lake"
            answer = requests.post(url, data=csv, headers={"content-type": "text/csv"}, timeout=60)
            assert answer.ok, answer.text
            assert rest.ends_at is None
    finally:
        rest.ends_at = None
        server.stop()


def save_scores(server, into):
    """Saves what a view knows of one row as a table, as the Feast SDK does."""
    command = {
        "command_id": "1",
        "api": "persist",
        "retrieve_func": "get_historical_features",
        "feature_view_names": ["scores"],
        "name_aliases": [None],
        "feature_refs": ["scores:score"],
        "project": "default",
        "data_source_name": f"iceberg://lake/n/{into}",
        "allow_overwrite": False,
    }
    descriptor = pa.flight.FlightDescriptor.for_command(json.dumps(command).encode())
    with pa.flight.connect(server.url.replace("http://", "grpc://")) as client:
        row = rows(us=[0], id=[1])
        writer, _ = client.do_put(descriptor, row.schema)
        writer.write_table(row)
        writer.close()


def test_a_data_set_that_does_not_get_its_name_is_purged_from_a_rest_catalog(bucket, tmp_path):
    # Short names: the bucket keeps each key as the name of one file, in which a table's is long.
    rest = RestServer(tmp_path, "s3://artifacts", **as_pyiceberg(bucket))
    catalog = load_catalog("rest", **rest.as_pyiceberg())
    catalog.create_namespace("n")
    server = Server(tmp_path / "data", rest.settings())
    server.start()
    try:
        csv = "id,event_timestamp,score\n1,2025-11-01T00:00:00,0.5\n"
        url = f"{server.url}/feast/tables/n/t?catalog=lake"
        answer = requests.post(url, data=csv, headers={"content-type": "text/csv"}, timeout=60)
        assert answer.status_code == 201, answer.text
        define(server, "scores", "t", ("score", "float64"), schema="n")
        save_scores(server, "s")
        assert catalog.load_table("n.s").scan().to_arrow()["score"].to_pylist() == [0.5]
        files = sorted(bucket.root.rglob("*.parquet"))
        rest.renames = False
        with pytest.raises(pa.ArrowException, match="table lake.n.o cannot be made"):
            save_scores(server, "o")
        assert any(method == "DELETE" and "/o__asgard_making_" in path for method, path in rest.asked)
        assert sorted(name for _, name in rest.catalog.list_tables("n")) == ["s", "t"]
        assert sorted(bucket.root.rglob("*.parquet")) == files
    finally:
        server.stop()
        rest.stop()
