"""Generated rows of feature views, and entity rows that ask for them, with every trap of a point-in-time join.

What DuckDB's store leaves to chance is left out: two different rows of the same key, event and created time.
"""

import dataclasses
import datetime

import pyarrow as pa
from feast import Entity, ValueType
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp

START_US = 1_762_000_000_000_000
UTC = pa.timestamp("us", "UTC")
NAIVE = pa.timestamp("us")
MICROSECOND = datetime.timedelta(microseconds=1)
SECOND = datetime.timedelta(seconds=1)
HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)
UNLIMITED = datetime.timedelta(0)

IDS = [*range(-40, 209), 1 << 40]
# Such as are the same when they are written one behind the other, and the empty one.
NAMES = [*map(str, range(1, 247)), "", "ä b", "1:1", "N"]
ENTITIES = {
    "id": Entity(name="id", join_keys=["id"], value_type=ValueType.INT64),
    "name": Entity(name="name", join_keys=["name"], value_type=ValueType.STRING),
}

# How Arrow calls a type, and values of it.
VALUES = {
    Int64: (pa.int64(), [0, -1, 2**63 - 1, -(2**63)]),
    Int32: (pa.int32(), [0, 7, 2**31 - 1, -(2**31)]),
    Float64: (pa.float64(), [0.0, -0.0, 0.1, -1e300, float("inf"), float("nan")]),
    Float32: (pa.float32(), [0.0, 0.5, -3.25, float("-inf"), float("nan")]),
    String: (pa.string(), ["", "Riga", "Zürich", "null"]),
    Bool: (pa.bool_(), [True, False]),
    Bytes: (pa.binary(), [b"", b"\x00\xff"]),
    UnixTimestamp: (UTC, [0, START_US + 1]),
    Array(Int64): (pa.list_(pa.int64()), [[], [1], [3, 2, 1]]),
}


@dataclasses.dataclass(frozen=True)
class Shape:
    """A view: what its rows are about, how long they count, and the type of their value."""

    name: str
    keys: tuple
    ttl: datetime.timedelta
    dtype: object
    created: bool = True
    time: pa.DataType = UTC
    id: pa.DataType = pa.int64()
    # The column of the feature `serial`, which tells the row of the view that was taken.
    serial: str = "serial"
    # Whether there are rows about the keys that are asked for.
    known: bool = True

    def features(self, prefix):
        return [prefix + "serial", f"{prefix}{self.name}_value"]


SHAPES = [
    Shape("whole", ("id",), 6 * HOUR, Float64),
    Shape("narrow", ("id",), SECOND + MICROSECOND, Int32, id=pa.int32()),
    Shape("text", ("name",), HOUR, String, serial="raw"),
    Shape("pair", ("id", "name"), 7 * DAY, Bool),
    Shape("endless", ("id",), UNLIMITED, UnixTimestamp),
    Shape("naive", ("name",), 20 * HOUR, Float32, time=NAIVE),
    Shape("uncorrected", ("id",), 6 * HOUR, Bytes, created=False),
    Shape("lists", ("name", "id"), UNLIMITED, Array(Int64), time=NAIVE),
    Shape("strangers", ("id",), DAY, Int64, known=False),
    Shape("everyone", (), 6 * HOUR, Int64),
]


def entity_rows(chance):
    """Keys and times: some keys several times, some rows twice, some without a key or a time; in no order."""
    rows = []
    for id, name in zip(IDS, NAMES):
        for _ in range(chance.choice([1, 1, 2, 3])):
            time = START_US + chance.randrange(20 * 86_400_000_000)
            row = {"id": id, "name": name, "other_id": chance.choice(IDS), "event_timestamp": time}
            if chance.random() < 0.1:
                # A pair that is rare, or a key that no view has.
                row["name"] = chance.choice([*NAMES[:20], "nobody"])
            if chance.random() < 0.08:
                row[chance.choice(list(row))] = None
            rows += [row] * chance.choice([1, 1, 1, 1, 2])
    chance.shuffle(rows)
    return rows


def history(chance, times, shape):
    """Event and created times of the rows about a key: at the time of an entity row, at the ttl's border,
    a microsecond beside them, later, much too early; several at one time."""
    ttl = (shape.ttl or DAY) // MICROSECOND
    offsets = [0, 0, 1, -1, -ttl, -ttl, -ttl - 1, -ttl - 1, 1 - ttl, ttl]
    found = []
    for _ in range(chance.choice([0, 1, 1, 2, 3, 5, 8])):
        event = chance.choice(times) + chance.choice([*offsets, -chance.randrange(2 * ttl)])
        if found and chance.random() < 0.4:
            event = chance.choice(found)[0]
        # Later than the entity row as well: a correction counts for the past.
        created = None if chance.random() < 0.25 else START_US + chance.randrange(4)
        found.append((event, created if shape.created else None))
    return found


def rows_of(chance, shape, asked):
    """The rows of a view."""
    times = {}
    for row in asked:
        fits = shape.id == pa.int64() or (row["id"] or 0) < 1 << 31
        if fits and row["event_timestamp"] is not None:
            key = tuple(row[key] if shape.known else None for key in shape.keys)
            times.setdefault(key, []).append(row["event_timestamp"])
    about = list(times.items())
    if len(about) == 1:
        # All entity rows ask for the same rows: some for every tenth of them.
        about = [(key, [time]) for key, at in about for time in at[::10]]
    rows = {}
    for key, at in about:
        for event, created in history(chance, at, shape):
            event = None if chance.random() < 0.02 else event
            row = dict(zip(shape.keys, key), event_timestamp=event, created=created)
            row[shape.serial] = None if chance.random() < 0.2 else len(rows)
            row[shape.name + "_value"] = chance.choice([None, *VALUES[shape.dtype][1]])
            rows.setdefault((key, event, created), row)
    rows = list(rows.values())
    # But the very same row twice.
    rows += chance.sample(rows, len(rows) // 20)
    chance.shuffle(rows)
    return rows


def table_of(shape, rows):
    types = {key: {"id": shape.id, "name": pa.string()}[key] for key in shape.keys}
    types |= {"event_timestamp": shape.time, "created": shape.time, shape.serial: pa.int64()}
    types[shape.name + "_value"] = VALUES[shape.dtype][0]
    if not shape.created:
        del types["created"]
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})
