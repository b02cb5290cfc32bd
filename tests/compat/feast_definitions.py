"""Tables and definitions that both servers of the side-by-side test have."""

import datetime

import pyarrow as pa
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    Map,
    Set,
    String,
    Struct,
    UnixTimestamp,
    Uuid,
)

UTC = pa.timestamp("us", "UTC")
START = datetime.datetime(2025, 11, 1, tzinfo=datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)
# A year would leave the rows behind one day.
LONG = datetime.timedelta(days=36500)


def times(*hours):
    return pa.array([START + hour * HOUR if hour is not None else None for hour in hours], UTC)


DRIVERS = pa.table(
    {
        "driver_id": pa.array([1, 1, 1, 2, 3, 4], pa.int64()),
        "event_timestamp": times(0, 24, 24, 12, 30, 6),
        "created": times(1, 25, 26, 13, 30, 7),
        "trips": pa.array([3, 4, 5, 1, None, 9], pa.int64()),
        "rating": pa.array([4.5, 4.75, None, 5.0, float("nan"), 1.0]),
        "city": ["Riga", "Riga", "Zürich ☂", "Oslo", "", "none"],
        "active": [True, False, True, None, False, True],
    }
)

# Values of every type that a Parquet column has.
COLUMNS = {
    "small": (Int32, pa.int32(), [7, -(2**31), None, 0]),
    "large": (Int64, pa.int64(), [2**63 - 1, -(2**63), 0, 2**53 + 1]),
    "single": (Float32, pa.float32(), [0.1, float("inf"), None, float("nan")]),
    "double": (Float64, pa.float64(), [0.1, -0.0, None, 1e300]),
    "text": (String, pa.string(), ["ä\"\\\n☂", "", None, "null"]),
    "truth": (Bool, pa.bool_(), [True, False, None, True]),
    "raw": (Bytes, pa.binary(), [b"\x00\xff", b"", None, b"abc"]),
    "seen": (UnixTimestamp, UTC, [START, START + HOUR / 7, None, datetime.datetime(1969, 7, 20, tzinfo=datetime.timezone.utc)]),
    "smalls": (Array(Int32), pa.list_(pa.int32()), [[1, 2], [], None, [-1]]),
    "larges": (Array(Int64), pa.list_(pa.int64()), [[2**60], [], None, [1, 2, 3]]),
    "singles": (Array(Float32), pa.list_(pa.float32()), [[0.5, 0.1], [], None, [1.0]]),
    "doubles": (Array(Float64), pa.list_(pa.float64()), [[0.1, 2.0], [], None, [-1.5]]),
    "texts": (Array(String), pa.list_(pa.string()), [["a", "ü"], [], None, [""]]),
    "truths": (Array(Bool), pa.list_(pa.bool_()), [[True, False], [], None, [False]]),
    "raws": (Array(Bytes), pa.list_(pa.binary()), [[b"a"], [], None, [b"", b"\xff"]]),
    "seens": (Array(UnixTimestamp), pa.list_(UTC), [[START], [], None, [START, START + DAY]]),
}  # fmt: skip
KINDS = pa.table(
    {
        "kind_id": pa.array(["a", "b", "c", "d"]),
        "event_timestamp": times(0, 1, 2, 3),
        **{name: pa.array(values, kind) for name, (_, kind, values) in COLUMNS.items()},
    }
)
# Values of the types that newer versions have, each in a view of its own.
NEWER = {
    "json": (Json, pa.string(), ['{"a": [1, 2.5]}', "[]", None, '"x"']),
    "uuid": (Uuid, pa.string(), ["5b0c7dd2-8c5c-4c3e-9e5e-0a9d4f2d7c11", "00000000-0000-0000-0000-000000000000", None, "5b0c7dd2-8c5c-4c3e-9e5e-0a9d4f2d7c12"]),
    "numbers": (Set(Int64), pa.list_(pa.int64()), [[1, 2], [], None, [3]]),
    "words": (Set(String), pa.list_(pa.string()), [["ä"], [], None, ["b"]]),
    "mapped": (Map, pa.map_(pa.string(), pa.string()), [[("a", "1")], [("z", "")], None, [("b", "2"), ("c", "ü")]]),
    "parts": (Struct({"x": Int64, "y": String}), pa.struct([("x", pa.int64()), ("y", pa.string())]), [{"x": 1, "y": "a"}, {"x": 2, "y": ""}, None, {"x": 3, "y": "ü"}]),
}  # fmt: skip
NEWER_TABLE = pa.table(
    {
        "kind_id": pa.array(["a", "b", "c", "d"]),
        "event_timestamp": times(0, 1, 2, 3),
        **{name: pa.array(values, kind) for name, (_, kind, values) in NEWER.items()},
    }
)
# Two keys, of which one is a number of 32 bits.
ROUTES = pa.table(
    {
        "origin": ["Riga", "Riga", "Oslo", ""],
        "zone": pa.array([1, 2, 1, 7], pa.int32()),
        "event_timestamp": times(0, 2, 4, 6),
        "fare": [1.5, 2.5, 3.5, 4.5],
        "note": ["x", None, "z", "w"],
    }
)
TABLES = {"drivers": DRIVERS, "kinds": KINDS, "routes": ROUTES, "newer": NEWER_TABLE, "pushed": DRIVERS.slice(0, 1)}


def source(session, table, **more):
    created = {"created_timestamp_column": "created"} if table in ("drivers", "pushed") else {}
    path = f"{session.path}/{table}" + ("" if "iceberg" in session.path else ".parquet")
    return FileSource(**{"name": table, "path": path, "timestamp_field": "event_timestamp", **created, **more})


DRIVER = Entity(
    name="driver", join_keys=["driver_id"], value_type=ValueType.INT64, description="who drives", tags={"team": "a"}
)
KIND = Entity(name="kind", join_keys=["kind_id"], value_type=ValueType.STRING)
ORIGIN = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING, tags={"team": "b"})
ZONE = Entity(name="zone", join_keys=["zone"], value_type=ValueType.INT32)
ENTITIES = [DRIVER, KIND, ORIGIN, ZONE]

DRIVER_FIELDS = [
    Field(name="driver_id", dtype=Int64),
    Field(name="trips", dtype=Int64, tags={"unit": "1"}, description="how often"),
    Field(name="rating", dtype=Float64),
    Field(name="city", dtype=String),
    Field(name="active", dtype=Bool),
]


def views(session):
    """The feature views, by name."""
    drivers, kinds, routes = (source(session, name) for name in ("drivers", "kinds", "routes"))
    pushed = PushSource(name="driver_push", batch_source=source(session, "pushed"), description="from the cars")
    fields = [Field(name="kind_id", dtype=String), *(Field(name=n, dtype=d) for n, (d, _, _) in COLUMNS.items())]
    route = [Field(name="origin", dtype=String), Field(name="zone", dtype=Int32)]
    route += [Field(name="fare", dtype=Float64), Field(name="note", dtype=String)]
    made = [
        FeatureView(
            name="driver_stats", entities=[DRIVER], ttl=LONG, schema=DRIVER_FIELDS, source=drivers,
            tags={"team": "a", "tier": "1"}, owner="ann@x", description="what drivers did",
        ),
        FeatureView(name="driver_brief", entities=[DRIVER], ttl=6 * HOUR, schema=DRIVER_FIELDS[:3], source=drivers),
        FeatureView(name="driver_live", entities=[DRIVER], ttl=LONG, schema=DRIVER_FIELDS, source=pushed),
        FeatureView(name="kinds", entities=[KIND], ttl=LONG, schema=fields, source=kinds, tags={"team": "b"}),
        FeatureView(name="routes", entities=[ORIGIN, ZONE], ttl=LONG, schema=route, source=routes),
        FeatureView(name="everywhere", entities=[], ttl=LONG, schema=[Field(name="trips", dtype=Int64)], source=drivers),
        FeatureView(name="offline_only", entities=[DRIVER], ttl=LONG, schema=DRIVER_FIELDS[:2], source=drivers, online=False),
    ]  # fmt: skip
    for name, (dtype, _, _) in NEWER.items():
        schema = [Field(name="kind_id", dtype=String), Field(name=name, dtype=dtype)]
        made.append(
            FeatureView(name=f"newer_{name}", entities=[KIND], ttl=LONG, schema=schema, source=source(session, "newer"))
        )
    return {view.name: view for view in made}


def services(views):
    stats, brief = views["driver_stats"], views["driver_brief"]
    pair = [stats[["trips"]].with_name(r).with_join_key_map({"driver_id": f"{r}_id"}) for r in ("first", "second")]
    return [
        FeatureService(
            name="model", features=[stats[["trips", "city"]], views["routes"]], tags={"team": "a"}, owner="bob"
        ),
        FeatureService(name="pairs", features=pair, description="two drivers"),
        FeatureService(name="clash", features=[stats[["trips"]], brief[["trips"]]]),
        FeatureService(name="mixed", features=[stats[["rating"]], brief[["trips"]].with_name("short")]),
    ]
