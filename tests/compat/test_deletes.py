"""Tables with delete files, as Spark and Flink write them, and tables that changed their columns.

pyiceberg reads position deletes but writes neither kind: the delete files are written here with pyarrow,
and committed through pyiceberg's own manifests."""

import random
import uuid

import pytest
import requests

pytest.importorskip("pyiceberg", minversion="0.10")

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from pyiceberg.catalog.sql import SqlCatalog  # noqa: E402
from pyiceberg.manifest import (  # noqa: E402
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table.snapshots import Operation, Snapshot, Summary  # noqa: E402
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate  # noqa: E402
from pyiceberg.typedef import Record  # noqa: E402
from pyiceberg.types import DoubleType, LongType  # noqa: E402

from conftest import Server  # noqa: E402

pytestmark = pytest.mark.pyiceberg

START_US = 1_762_000_000_000_000


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    home = tmp_path_factory.mktemp("deletes")
    uri = f"sqlite:///{home}/catalog.db"
    catalog = SqlCatalog("lake", uri=uri, warehouse=f"file://{home}/warehouse")
    catalog.create_namespace("gold")
    settings = {
        "ASGARD__FEATURE_STORE__CATALOGS__LAKE__URI": uri,
        "ASGARD__FEATURE_STORE__CATALOGS__LAKE__WAREHOUSE": f"{home}/warehouse",
    }
    server = Server(home / "data", settings)
    server.start()
    yield server, catalog
    server.stop()


class DeleteManifest(ManifestWriterV2):
    def content(self):
        return ManifestContent.DELETES

    @property
    def _meta(self):
        return {**super()._meta, "content": "deletes"}


def commit_deletes(catalog, table, content, files, **more):
    """A snapshot that adds delete files to what the table has. `files` are their paths, with rows."""
    metadata, io, snapshot_id = table.metadata, table.io, random.getrandbits(62)
    sequence = metadata.next_sequence_number()
    place = f"{table.location()}/metadata/{uuid.uuid4()}"
    with DeleteManifest(table.spec(), table.schema(), io.new_output(place + "-m0.avro"), snapshot_id, "null") as manifest:
        for path, rows in files:
            file = DataFile.from_args(
                content=content,
                file_path=path,
                file_format=FileFormat.PUFFIN if path.endswith(".puffin") else FileFormat.PARQUET,
                partition=Record(),
                record_count=rows,
                file_size_in_bytes=len(io.new_input(path)),
                **more,
            )
            entry = ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=file)
            manifest.add_entry(entry)
    before = table.current_snapshot()
    manifests = [manifest.to_manifest_file(), *before.manifests(io)]
    listed = io.new_output(place + "-list.avro")
    with write_manifest_list(2, listed, snapshot_id, before.snapshot_id, sequence, "null") as writer:
        writer.add_manifests(manifests)
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=before.snapshot_id,
        sequence_number=sequence,
        timestamp_ms=before.timestamp_ms + 1,
        manifest_list=listed.location,
        summary=Summary(Operation.DELETE),
        schema_id=table.schema().schema_id,
    )
    ref = SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=snapshot_id)
    catalog.commit_table(table, (), (AddSnapshotUpdate(snapshot=snapshot), ref))
    return table.refresh()


def write_parquet(table, rows, ids):
    """A file beside the table's own, whose columns have the field ids `ids`."""
    fields = [f.with_metadata({b"PARQUET:field_id": str(i).encode()}) for f, i in zip(rows.schema, ids)]
    path = f"{table.location()}/data/{uuid.uuid4()}-deletes.parquet"
    with table.io.new_output(path).create() as file:
        pq.write_table(rows.cast(pa.schema(fields)), file)
    return path, rows.num_rows


def position_deletes(table, path, positions):
    rows = pa.table({"file_path": [path] * len(positions), "pos": pa.array(positions, pa.int64())})
    # The reserved ids of Iceberg's specification.
    return write_parquet(table, rows, [2147483546, 2147483545])


def equality_deletes(table, **columns):
    ids = [table.schema().find_field(name).field_id for name in columns]
    return write_parquet(table, pa.table(columns), ids), ids


def rows(ids, us=0, **columns):
    times = pa.array([START_US + us] * len(ids), pa.timestamp("us", "UTC"))
    return pa.table({"id": pa.array(ids, pa.int64()), "event_timestamp": times, **columns})


def make(catalog, name, *parts):
    # Also when a test is tried again.
    if catalog.table_exists(("gold", name)):
        catalog.drop_table(("gold", name))
    table = catalog.create_table(("gold", name), parts[0].schema)
    for part in parts:
        table.append(part)
    return table


def define(server, table, *features):
    view = {
        "name": table,
        "entities": ["id"],
        "features": [{"name": name, "dtype": dtype} for name, dtype in features],
        "source": {"catalog": "lake", "schema": "gold", "table_name": table},
    }
    answer = requests.post(server.url + "/feast/features", json=view, timeout=60)
    # 200 where a try before this one has defined it.
    assert answer.status_code in (200, 201), answer.text


def ask(server, view, features, ids, **more):
    entities = {"id": ids, "event_timestamp": ["2026-01-01"] * len(ids)}
    body = {"features": [f"{view}:{name}" for name in features], "entities": entities, **more}
    return requests.post(server.url + "/feast/historical", json=body, timeout=60)


def values(server, view, feature, ids, **more):
    answer = ask(server, view, [feature], ids, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][feature]


def stats_of(server, view):
    answer = requests.get(server.url + f"/feast/features/{view}/stats", timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["row_count"]


def data_files(table):
    return [task.file.file_path for task in table.scan().plan_files()]


def test_position_deletes_take_rows_out_of_the_file_that_they_name(lake):
    server, catalog = lake
    old = rows([1, 2, 3, 4], amount=[1.0, 2.0, 3.0, 4.0])
    new = rows([1, 2], us=5, amount=[10.0, 20.0])
    table = make(catalog, "positions", old, new)
    paths = {pq.read_table(table.io.new_input(p).open()).num_rows: p for p in data_files(table)}
    files = [position_deletes(table, paths[4], [0, 2]), position_deletes(table, paths[2], [1])]
    table = commit_deletes(catalog, table, DataFileContent.POSITION_DELETES, files)
    define(server, "positions", ("amount", "float64"))
    # 1: its old row is deleted, the new one counts. 2: the other way round. 3: all of it is gone.
    assert values(server, "positions", "amount", [1, 2, 3, 4]) == [10.0, 2.0, None, 4.0]
    assert stats_of(server, "positions") == 3
    # pyiceberg reads the very same.
    kept = table.scan().to_arrow().to_pydict()
    assert sorted(zip(kept["id"], kept["amount"])) == [(1, 10.0), (2, 2.0), (4, 4.0)]


def test_equality_deletes_take_out_what_was_written_before_them(lake):
    server, catalog = lake
    first = rows([1, 2, 3], amount=[1.0, 2.0, 3.0], city=["Riga", "Oslo", None])
    table = make(catalog, "equalities", first)
    file, ids = equality_deletes(table, id=pa.array([1, 3], pa.int64()))
    table = commit_deletes(catalog, table, DataFileContent.EQUALITY_DELETES, [file], equality_ids=ids)
    # Written after the delete, so it stays.
    table.append(rows([1], us=5, amount=[10.0], city=["Bonn"]))
    define(server, "equalities", ("amount", "float64"), ("city", "string"))
    assert values(server, "equalities", "amount", [1, 2, 3]) == [10.0, 2.0, None]
    assert stats_of(server, "equalities") == 2


def test_equality_deletes_of_several_columns_and_of_null(lake):
    server, catalog = lake
    first = rows([1, 2, 3], amount=[1.0, 2.0, 3.0], city=["Riga", "Oslo", None])
    table = make(catalog, "pairs", first)
    pairs = {"id": pa.array([1, 2, 3], pa.int64()), "city": ["Riga", "Bonn", None]}
    file, ids = equality_deletes(table, **pairs)
    commit_deletes(catalog, table, DataFileContent.EQUALITY_DELETES, [file], equality_ids=ids)
    # The columns that the deletes compare are not asked for.
    define(server, "pairs", ("amount", "float64"))
    assert values(server, "pairs", "amount", [1, 2, 3]) == [None, 2.0, None]


def test_both_kinds_at_once_and_the_snapshot_before_them(lake):
    server, catalog = lake
    table = make(catalog, "both", rows([1, 2, 3], amount=[1.0, 2.0, 3.0]))
    before = table.current_snapshot().snapshot_id
    [path] = data_files(table)
    table = commit_deletes(catalog, table, DataFileContent.POSITION_DELETES, [position_deletes(table, path, [0])])
    file, ids = equality_deletes(table, id=pa.array([2], pa.int64()))
    commit_deletes(catalog, table, DataFileContent.EQUALITY_DELETES, [file], equality_ids=ids)
    define(server, "both", ("amount", "float64"))
    assert values(server, "both", "amount", [1, 2, 3]) == [None, None, 3.0]
    assert values(server, "both", "amount", [1, 2, 3], snapshots={"both": before}) == [1.0, 2.0, 3.0]


def test_deletes_reach_the_online_store_only_as_what_is_left(lake):
    server, catalog = lake
    table = make(catalog, "online", rows([1, 2], amount=[1.0, 2.0]))
    [path] = data_files(table)
    commit_deletes(catalog, table, DataFileContent.POSITION_DELETES, [position_deletes(table, path, [1])])
    define(server, "online", ("amount", "float64"))
    body = {"feature_views": ["online"], "end_ts": "2026-01-01T00:00:00Z"}
    answer = requests.post(server.url + "/feast/materialize-incremental", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    body = {"entities": {"id": [1, 2]}, "features": ["online:amount"]}
    answer = requests.post(server.url + "/feast/get-online-features", json=body, timeout=60).json()
    assert answer["results"][1]["values"] == [1.0, None]


def test_deletion_vectors_are_refused_in_words(lake):
    server, catalog = lake
    table = make(catalog, "vectors", rows([1, 2], amount=[1.0, 2.0]))
    [path] = data_files(table)
    place = f"{table.location()}/data/{uuid.uuid4()}.puffin"
    with table.io.new_output(place).create() as file:
        file.write(b"PFA1" + bytes(64) + b"PFA1")
    vector = (place, 1)
    commit_deletes(catalog, table, DataFileContent.POSITION_DELETES, [vector])
    define(server, "vectors", ("amount", "float64"))
    answer = ask(server, "vectors", ["amount"], [1])
    assert answer.status_code == 501, answer.text
    assert "deletion vectors" in answer.json()["message"] and "compact" in answer.json()["message"]


def test_columns_are_followed_through_all_their_changes(lake):
    server, catalog = lake
    from pyiceberg.types import FloatType, IntegerType

    first = rows([1, 2], small=pa.array([1, 2], pa.int32()), ratio=pa.array([0.5, 1.5], pa.float32()), old=["a", "b"])
    table = make(catalog, "evolved", first)
    assert isinstance(table.schema().find_type("small"), IntegerType)
    assert isinstance(table.schema().find_type("ratio"), FloatType)
    before = table.current_snapshot().snapshot_id
    with table.update_schema() as update:
        update.update_column("small", LongType())
        update.update_column("ratio", DoubleType())
        update.rename_column("old", "label")
        update.move_first("small")
        update.add_column("extra", LongType())
        update.move_after("old", "id")
    table.refresh()
    with table.update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("extra")
    with table.update_schema() as update:
        # The same name again is another column: what the first one held does not come back.
        update.add_column("extra", LongType())
        update.rename_column("ratio", "share")
    table.refresh()
    more = rows([1], us=5, small=pa.array([2**40], pa.int64()), share=[9.5], label=["z"], extra=pa.array([7], pa.int64()))
    schema = table.schema().as_arrow()
    table.append(more.select(schema.names).cast(schema))
    define(server, "evolved", ("small", "int64"), ("share", "float64"), ("label", "string"), ("extra", "int64"))
    found = ask(server, "evolved", ["small", "share", "label", "extra"], [1, 2]).json()["data"]
    assert found["small"] == [2**40, 2]
    assert found["share"] == [9.5, 1.5]
    assert found["label"] == ["z", "b"]
    assert found["extra"] == [7, None]
    assert values(server, "evolved", "small", [1, 2], snapshots={"evolved": before}) == [1, 2]
    missing = ask(server, "evolved", ["small"], [1], snapshots={"evolved": 12345})
    assert missing.status_code == 400 and "has no snapshot 12345" in missing.json()["message"]


def test_a_table_that_is_dropped_or_loses_its_files_is_told_as_such(lake):
    server, catalog = lake
    table = make(catalog, "dropped", rows([1, 2], amount=[1.0, 2.0]))
    define(server, "dropped", ("amount", "float64"))
    [path] = data_files(table)
    # As after a purge, when a reader still has the metadata.
    table.io.delete(path)
    answer = ask(server, "dropped", ["amount"], [1])
    assert answer.status_code == 502, answer.text
    assert "may have been dropped" in answer.json()["help"]
    catalog.drop_table("gold.dropped")
    answer = ask(server, "dropped", ["amount"], [1])
    assert answer.status_code == 404 and "does not exist" in answer.json()["message"], answer.text
