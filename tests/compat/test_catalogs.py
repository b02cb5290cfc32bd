"""Iceberg catalogs and tables of real pyiceberg clients: SQL catalogs on SQLite and PostgreSQL."""

import os
import uuid

import pytest
import requests

pytest.importorskip("pyiceberg")

import pyarrow as pa  # noqa: E402
from pyiceberg.catalog.sql import SqlCatalog  # noqa: E402
from pyiceberg.types import StringType  # noqa: E402

from conftest import Server  # noqa: E402

pytestmark = pytest.mark.pyiceberg

POSTGRES = os.environ.get("ASGARD_TEST_POSTGRES_URL")


@pytest.fixture(scope="module", params=["sqlite", "postgres", "bucket"])
def lake(request, tmp_path_factory):
    """A catalog that pyiceberg made, and a server that has it as `lake`."""
    home = tmp_path_factory.mktemp("lake")
    uri, warehouse, more, settings = f"sqlite:///{home}/catalog.db", f"{home}/warehouse", {}, {}
    if request.param == "postgres":
        if not POSTGRES:
            pytest.skip("ASGARD_TEST_POSTGRES_URL names no server")
        uri = database_of_its_own()
    if request.param == "bucket":
        bucket, warehouse = request.getfixturevalue("bucket"), "s3://artifacts/lake"
        more = as_pyiceberg(bucket)
        settings = {"ASGARD__FEATURE_STORE__CATALOGS__LAKE__ENDPOINT": bucket.endpoint, **bucket.credentials}
    else:
        (home / "warehouse").mkdir()
    url = warehouse if "://" in warehouse else f"file://{warehouse}"
    catalog = SqlCatalog("lake", uri=uri, warehouse=url, **more)
    catalog.create_namespace("gold")
    settings |= {
        "ASGARD__FEATURE_STORE__CATALOGS__LAKE__URI": uri,
        "ASGARD__FEATURE_STORE__CATALOGS__LAKE__WAREHOUSE": warehouse,
    }
    server = Server(home / "data", settings)
    server.start()
    yield server, catalog
    server.stop()


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


def define(server, name, table, *features):
    view = {
        "name": name,
        "entities": ["id"],
        "features": [{"name": feature, "dtype": dtype} for feature, dtype in features],
        "source": {"catalog": "lake", "schema": "gold", "table_name": table},
    }
    answer = requests.post(server.url + "/feast/features", json=view, timeout=60)
    assert answer.status_code == 201, answer.text


def test_a_table_of_pyiceberg_is_read_with_its_deletes_and_its_new_columns(lake):
    server, catalog = lake
    first = rows(us=[0, 0, 0], id=[1, 2, 3], amount=[1.0, 2.0, 3.0])
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
