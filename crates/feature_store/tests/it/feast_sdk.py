"""Drives a server with an unmodified Feast SDK and prints what it saw as one JSON object.

Usage: feast_sdk.py URL, in an empty directory. The server has the table gold.customer_aggregates
and the feature view customer_features, defined over REST.
"""

import json
import os
import sys
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.flight as fl
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
from feast import PushSource, StreamFeatureView, ValueType, __version__
from feast.on_demand_feature_view import on_demand_feature_view
from feast.repo_config import load_repo_config
from feast.repo_operations import apply_total
from feast.types import Float64, Int64, String

url = sys.argv[1]
seen = {"version": __version__}
with urllib.request.urlopen(f"{url}/feast/repo") as answer:
    yaml = answer.read().decode()
with open("feature_store.yaml", "w") as file:
    file.write(yaml)
store = FeatureStore(repo_path=".")


def refused(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return "not refused"


def rows(table):
    text = json.loads(table.to_json(orient="split", index=False, date_format="iso"))
    text["types"] = [str(kind) for kind in table.dtypes]
    return text


# Definitions.
customer = Entity(
    name="customer", join_keys=["customer_id"], value_type=ValueType.INT64, tags={"team": "crm"}
)
source = FileSource(
    name="aggregates",
    path="iceberg://gold/customer_aggregates",
    timestamp_field="event_timestamp",
)
orders = FeatureView(
    name="orders",
    entities=[customer],
    ttl=timedelta(days=2),
    schema=[
        Field(name="customer_id", dtype=Int64),
        Field(name="total_orders", dtype=Int64),
        Field(name="avg_order_value", dtype=Float64),
        Field(name="segment", dtype=String),
    ],
    source=source,
    tags={"team": "crm"},
)
inferred = FeatureView(name="inferred", entities=[customer], source=source)
service = FeatureService(name="churn", features=[orders[["segment"]].with_name("o")])
store.apply([customer, orders, inferred, service])
store.apply([customer, orders])  # the same again

seen["entities"] = sorted(e.name for e in store.list_entities())
seen["views"] = sorted(v.name for v in store.list_feature_views())
seen["tagged"] = [v.name for v in store.list_feature_views(tags={"team": "crm"})]
seen["all_views"] = sorted(v.name for v in store.list_all_feature_views())
seen["sources"] = sorted(s.name for s in store.list_data_sources())
seen["services"] = [s.name for s in store.list_feature_services()]
seen["projects"] = [p.name for p in store.list_projects()]
there = store.get_feature_view("orders")
seen["view"] = {
    "join_keys": there.join_keys,
    "features": [f"{f.name}: {f.dtype}" for f in there.features],
    "ttl": there.ttl.total_seconds(),
    "path": there.batch_source.path,
    "has_times": there.created_timestamp is not None,
}
seen["inferred"] = [f"{f.name}: {f.dtype}" for f in store.get_feature_view("inferred").features]
seen["rest_view"] = [f.name for f in store.get_feature_view("customer_features").features]

# Point-in-time reads: rows out of order, twice, of an unknown key, before all, beyond the ttl.
entity_df = pd.DataFrame(
    {
        "customer_id": [2, 1, 1, 1, 9, 1, 1],
        "event_timestamp": pd.to_datetime(
            [
                "2025-11-02",
                "2025-11-02",
                "2025-11-01T23:59:59.999999",
                "2025-11-02",
                "2025-11-02",
                "2025-10-01",
                "2025-11-04T00:00:00.000001",
            ],
            utc=True,
            format="ISO8601",
        ),
        "label": list("abcdefg"),
    },
    index=list("tuvwxyz"),
)
refs = ["orders:total_orders", "orders:avg_order_value"]
seen["by_refs"] = rows(store.get_historical_features(entity_df, refs).to_df())
seen["full_names"] = list(
    store.get_historical_features(entity_df, refs, full_feature_names=True).to_df().columns
)
seen["of_rest_view"] = rows(
    store.get_historical_features(
        entity_df[["customer_id", "event_timestamp"]], ["customer_features:total_orders"]
    ).to_df()
)
seen["by_service"] = rows(
    store.get_historical_features(entity_df, store.get_feature_service("churn")).to_df()
)
aliased = [
    orders[["total_orders"]].with_name(role).with_join_key_map({"customer_id": f"{role}_id"})
    for role in ("buyer", "seller")
]
store.apply([FeatureService(name="trade", features=aliased)])
trades = pd.DataFrame(
    {"buyer_id": [1, 2], "seller_id": [2, 9], "event_timestamp": pd.Timestamp("2025-11-02")}
)
seen["by_aliases"] = rows(
    store.get_historical_features(
        trades, store.get_feature_service("trade"), full_feature_names=True
    ).to_df()
)
many = pd.DataFrame({"customer_id": [1, 2] * 100_000, "event_timestamp": pd.Timestamp("2025-11-02")})
answer = store.get_historical_features(many, refs).to_df()
seen["many"] = [len(answer), int(answer["total_orders"].sum())]

# The calls of SDKs before 0.67, as they make them.
command = {
    "command_id": "a-command",
    "api": "get_historical_features",
    "feature_view_names": ["orders"],
    "name_aliases": [None],
    "feature_refs": refs,
    "project": "default",
    "full_feature_names": False,
}
client = fl.connect("grpc+tcp://" + url.removeprefix("http://"))
descriptor = fl.FlightDescriptor.for_command(json.dumps(command))
table = pa.Table.from_pandas(entity_df)
writer, _ = client.do_put(descriptor, table.schema)
writer.write_table(table)
writer.close()
info = client.get_flight_info(descriptor)
ticket = info.endpoints[0].ticket
seen["older_calls"] = rows(client.do_get(ticket).read_all().to_pandas())
seen["read_twice"] = refused(lambda: client.do_get(ticket).read_all())[0]

# Mistakes, as the SDK raises them.
read = store.get_historical_features
seen["no_view"] = refused(lambda: store.get_feature_view("nothing"))
seen["no_view_to_read"] = refused(lambda: read(entity_df, ["nothing:x"]).to_df())
seen["no_feature"] = refused(lambda: read(entity_df, ["orders:nothing"]).to_df())
elsewhere = FileSource(name="elsewhere", path="iceberg://gold/none", timestamp_field="at")
lost = FeatureView(
    name="lost", entities=[customer], schema=[Field(name="x", dtype=Int64)], source=elsewhere
)
store.apply([lost])
seen["no_table"] = refused(lambda: read(entity_df, ["lost:x"]).to_df())
seen["no_key"] = refused(lambda: read(entity_df.drop(columns="customer_id"), refs).to_df())
seen["sql"] = refused(lambda: read("SELECT 1", refs).to_df())


# Views that are kept, and not computed.
@on_demand_feature_view(
    sources=[orders], schema=[Field(name="twice", dtype=Float64)], mode="pandas"
)
def doubled(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"twice": inputs["avg_order_value"] * 2})


push = PushSource(name="push", batch_source=source)
stream = StreamFeatureView(
    name="stream",
    entities=[customer],
    schema=[Field(name="total_orders", dtype=Int64)],
    source=push,
    timestamp_field="event_timestamp",
    tags={"team": "crm"},
)
doubled.current_version_number = 3
store.apply([doubled, push, stream])
store.apply([store.get_on_demand_feature_view("doubled")])
registry = store.registry
seen["kept"] = [
    [v.name for v in store.list_on_demand_feature_views()],
    [v.name for v in store.list_stream_feature_views()],
    store.get_on_demand_feature_view("doubled").name,
    store.get_stream_feature_view("stream").name,
    sorted(v.name for v in store.list_all_feature_views() if v.name in ("doubled", "stream")),
    sorted(v.name for v in store.list_all_feature_views(tags={"team": "crm"})),
]
seen["on_demand"] = refused(lambda: read(entity_df, ["doubled:twice"]).to_df())
seen["of_stream"] = rows(read(entity_df, ["stream:total_orders"]).to_df())

# What was materialized stays when a view is applied again.
span = [datetime(2025, 11, day, tzinfo=timezone.utc) for day in (1, 2)]
registry.apply_materialization(store.get_feature_view("orders"), "default", *span)
store.apply([orders])
seen["materialized"] = [
    [start.isoformat(), end.isoformat()]
    for start, end in store.get_feature_view("orders").materialization_intervals
]

# `feast apply` in another project: what its files no longer say is deleted.
shop = Path("shop").absolute()
shop.mkdir()
(shop / "feature_store.yaml").write_text(yaml.replace("project: default", "project: shop"))
sys.path.insert(0, str(shop))
definitions = """
from feast import Entity, FeatureService, FeatureView, FileSource
buyer = Entity(name="buyer", join_keys=["customer_id"])
aggregates = FileSource(
    name="a", path="iceberg://gold/customer_aggregates", timestamp_field="event_timestamp"
)
"""
more = """
old = Entity(name="old", join_keys=["old"])
other = FileSource(
    name="b", path="iceberg://gold/customer_aggregates", timestamp_field="event_timestamp"
)
view = FeatureView(name="buyers", entities=[buyer], source=aggregates)
service = FeatureService(name="s", features=[view])
"""


def feast_apply(text):
    sys.modules.pop("definitions", None)
    (shop / "definitions.py").write_text(text)
    os.utime(shop / "definitions.py", (len(text), len(text)))
    apply_total(load_repo_config(shop, shop / "feature_store.yaml"), shop, False)
    held = FeatureStore(repo_path=str(shop))
    return [
        sorted(e.name for e in held.list_entities()),
        sorted(s.name for s in held.list_data_sources()),
        sorted(v.name for v in held.list_feature_views()),
        sorted(s.name for s in held.list_feature_services()),
    ]


seen["feast_apply"] = feast_apply(definitions + more)
seen["feast_apply_less"] = feast_apply(definitions)
nowhere = definitions + "lost = FeatureView(name='lost', entities=[buyer], source=FileSource("
nowhere += "name='c', path='iceberg://gold/none', timestamp_field='at'))"
seen["feast_apply_lost"] = refused(lambda: feast_apply(nowhere))
seen["both_projects"] = sorted(p.name for p in store.list_projects())
seen["project"] = store.get_project("shop").name
seen["entity"] = store.get_entity("customer").join_key
seen["source"] = store.get_data_source("aggregates").path
whole = registry.proto()
seen["whole"] = sorted(v.spec.name for v in whole.feature_views)
seen["none_of"] = [
    store.list_label_views(),
    store.list_permissions(),
    store.list_saved_datasets(),
    store.list_validation_references(),
]

store.delete_feature_view("lost")
seen["gone"] = refused(lambda: store.get_feature_view("lost"))[0]
print(json.dumps(seen))
