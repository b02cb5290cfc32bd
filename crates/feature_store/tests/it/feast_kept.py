"""What an unmodified Feast SDK reads between two times, writes, and has kept; printed as one JSON
object.

Usage: feast_kept.py URL, in an empty directory, after feast_sdk.py.
"""

import json
import sys
import urllib.request
from datetime import datetime, timezone

import pandas as pd
import pyarrow as pa
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, Project
from feast import PushSource, ValueType
from feast.data_source import PushMode
from feast.feature_logging import FeatureServiceLoggingSource, LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.labeling.label_view import LabelView
from feast.permissions.action import AuthzedAction
from feast.permissions.permission import Permission
from feast.permissions.policy import RoleBasedPolicy
from feast.protos.feast.core.ValidationProfile_pb2 import ValidationReference
from feast.protos.feast.registry import RegistryServer_pb2 as messages
from feast.types import Bool, Int64

url = sys.argv[1]
seen = {}
with urllib.request.urlopen(f"{url}/feast/repo") as answer:
    yaml = answer.read().decode()
with open("feature_store.yaml", "w") as file:
    file.write(yaml)
store = FeatureStore(repo_path=".")
registry = store.registry
read = store.get_historical_features


def refused(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return "not refused"


def rows(table):
    return json.loads(table.to_json(orient="split", index=False, date_format="iso"))


# Between two times, without entity rows.
orders = store.get_feature_view("orders")
buyers = orders[["total_orders"]].with_name("buyer").with_join_key_map({"customer_id": "buyer_id"})
store.apply([FeatureService(name="buys", features=[buyers])])
refs = ["orders:total_orders", "orders:avg_order_value"]
span = {
    "start_date": datetime(2025, 11, 1, tzinfo=timezone.utc),
    "end_date": datetime(2025, 11, 2),
}
seen["between"] = rows(read(None, refs, **span).to_df())
seen["of_two"] = rows(
    read(
        None,
        ["orders:total_orders", "customer_features:avg_order_value"],
        full_feature_names=True,
        **span,
    ).to_df()
)
seen["by_service"] = rows(read(None, store.get_feature_service("churn"), **span).to_df())
seen["by_role"] = rows(
    read(None, store.get_feature_service("buys"), full_feature_names=True, **span).to_df()
)
seen["nothing_then"] = rows(
    read(None, refs, start_date=datetime(2020, 1, 1), end_date=datetime(2020, 1, 2)).to_df()
)
seen["default_start"] = len(read(None, refs, end_date=datetime(2025, 11, 3, 6)).to_df())
seen["backwards"] = refused(
    lambda: read(None, refs, start_date=datetime(2025, 1, 2), end_date=datetime(2025, 1, 1)).to_df()
)

# A retrieval kept as a data set.
entity_df = pd.DataFrame(
    {
        "customer_id": [2, 1, 9],
        "event_timestamp": pd.to_datetime(["2025-11-02", "2025-11-02", "2025-11-02"], utc=True),
        "label": ["a", "b", "c"],
    },
    index=list("xyz"),
)
storage = SavedDatasetFileStorage(path="iceberg://gold/saved")
store.create_saved_dataset(read(entity_df, refs), "saved", storage, tags={"team": "crm"})


def saved():
    table = store.get_saved_dataset("saved").to_df()
    return rows(table.sort_values("customer_id"))


seen["saved"] = saved()
seen["saved_again"] = refused(
    lambda: store.create_saved_dataset(read(entity_df, refs), "saved", storage)
)
seen["saved_badly"] = refused(
    lambda: store.create_saved_dataset(
        read(entity_df.drop(columns="customer_id"), refs), "saved", storage, allow_overwrite=True
    )
)
seen["still_saved"] = saved() == seen["saved"]
store.create_saved_dataset(
    read(entity_df[:2], refs), "saved", storage, tags={"team": "crm"}, allow_overwrite=True
)
seen["saved_anew"] = saved()
read(None, refs, **span).persist(SavedDatasetFileStorage(path="iceberg://gold/span"))
with urllib.request.urlopen(f"{url}/feast/tables") as answer:
    tables = json.load(answer)["tables"]
seen["tables"] = sorted(t["name"] for t in tables if t["schema"] == "gold")
seen["datasets"] = [
    [d.name for d in store.list_saved_datasets()],
    [d.name for d in store.list_saved_datasets(tags={"team": "crm"})],
    [d.name for d in store.list_saved_datasets(tags={"team": "other"})],
    [d.name for d in registry.list_saved_datasets("default", namespace="elsewhere")],
    store.get_saved_dataset("saved").min_event_timestamp.isoformat(),
]

# Rows written into the table of a view.
customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)
of_saved = FileSource(
    name="of_saved", path="iceberg://gold/saved", timestamp_field="event_timestamp"
)
view = FeatureView(
    name="written",
    entities=[customer],
    schema=[Field(name="customer_id", dtype=Int64), Field(name="total_orders", dtype=Int64)],
    source=PushSource(name="written_push", batch_source=of_saved),
)
store.apply([customer, of_saved, view])
written = pd.DataFrame(
    {
        "customer_id": [7],
        "event_timestamp": [pd.Timestamp("2025-11-05", tz="UTC")],
        "label": ["w"],
        "total_orders": [70.0],
        "avg_order_value": [7.5],
    },
    index=["index"],
)
store.write_to_offline_store("written", written)
store.push("written_push", written.assign(customer_id=[8]), to=PushMode.OFFLINE)
november = {"start_date": datetime(2025, 11, 3), "end_date": datetime(2025, 12, 1)}
table = read(None, ["written:total_orders"], **november).to_df()
seen["written"] = rows(table.sort_values("customer_id"))
seen["written_badly"] = refused(
    lambda: store.write_to_offline_store("written", written.assign(total_orders=["many"]))
)

# Logs of what was served.
config = LoggingConfig(destination=FileLoggingDestination(path="iceberg://gold/logs"))
logged = FeatureService(name="logged", features=[view], logging_config=config)
unlogged = FeatureService(
    name="unlogged",
    features=[view],
    logging_config=LoggingConfig(destination=FileLoggingDestination(path="/tmp/logs")),
)
store.apply([logged, unlogged])
schema = FeatureServiceLoggingSource(logged, "default").get_schema(registry)
now = datetime(2025, 12, 1, tzinfo=timezone.utc)
log = {name: None for name in schema.names}
log |= {"customer_id": 7, "written__total_orders": 70, "__log_timestamp": now, "__log_date": now.date()}
store.write_logged_features(pa.Table.from_pylist([log, log], schema=schema), logged)
provider = store._get_provider()
found = provider.retrieve_feature_service_logs(logged, now, now, store.config, registry).to_df()
seen["logged"] = [len(found), int(found["written__total_orders"].sum())]
seen["unlogged"] = refused(
    lambda: store.write_logged_features(pa.Table.from_pylist([log], schema=schema), unlogged)
)

# Definitions that are kept.
labels = LabelView(
    name="labels",
    entities=[customer],
    schema=[
        Field(name="customer_id", dtype=Int64),
        Field(name="total_orders", dtype=Int64),
        Field(name="label", dtype=Bool),
    ],
    source=PushSource(name="label_push", batch_source=of_saved),
    labeler_field="label",
    tags={"team": "crm"},
)
store.apply([labels])
seen["labels"] = [
    [v.name for v in store.list_label_views()],
    [v.name for v in store.list_label_views(tags={"team": "other"})],
    registry.get_label_view("labels", "default").labeler_field,
    registry.get_any_feature_view("labels", "default").name,
    "labels" in {v.name for v in store.list_all_feature_views()},
]
permission = Permission(
    name="readers",
    types=[FeatureView],
    name_patterns=[".*"],
    policy=RoleBasedPolicy(roles=["reader"]),
    actions=[AuthzedAction.DESCRIBE],
    tags={"team": "crm"},
)
store.apply([permission])
seen["permissions"] = [
    [p.name for p in store.list_permissions()],
    [p.name for p in store.list_permissions(tags={"team": "other"})],
    store.get_permission("readers").policy.get_roles(),
]
reference = ValidationReference(
    name="reference", reference_dataset_name="saved", project="default", tags={"team": "crm"}
)
reference.ge_profiler.profiler.body = b"\x80\x00 not to be read"
apply = messages.ApplyValidationReferenceRequest
registry.stub.ApplyValidationReference(apply(validation_reference=reference, project="default"))
get = messages.GetValidationReferenceRequest(name="reference", project="default")
lists = messages.ListValidationReferencesRequest(project="default", tags={"team": "crm"})
seen["references"] = [
    registry.stub.GetValidationReference(get) == reference,
    [r.name for r in registry.stub.ListValidationReferences(lists).validation_references],
]
whole = registry.proto()
seen["whole"] = [
    [d.spec.name for d in whole.saved_datasets],
    [r.name for r in whole.validation_references],
    [p.spec.name for p in whole.permissions],
    [v.spec.name for v in whole.label_views],
]
registry.delete_validation_reference("reference", "default")
registry.delete_permission("readers", "default")
registry.delete_saved_dataset("saved", "default")
registry.delete_feature_view("labels", "default")
seen["gone"] = [
    refused(lambda: store.get_validation_reference("reference"))[0],
    refused(lambda: store.get_permission("readers"))[0],
    refused(lambda: store.get_saved_dataset("saved"))[0],
    [len(store.list_saved_datasets()), len(store.list_permissions()), len(store.list_label_views())],
]
# Of several projects only an empty one goes.
registry.apply_project(Project(name="team", tags={"crm": "yes"}))
registry.apply_entity(Entity(name="car", join_keys=["car_id"], value_type=ValueType.INT64), "team")
seen["projects"] = [
    [p.name for p in store.list_projects(tags={"crm": "yes"})],
    [p.name for p in store.list_projects(tags={"crm": "no"})],
    "there are other projects" in refused(lambda: registry.delete_project("team"))[1],
]
registry.delete_entity("car", "team")
registry.delete_project("team")
seen["projects"].append(refused(lambda: store.get_project("team"))[0])
seen["projects"].append([p.name for p in store.list_projects()])
print(json.dumps(seen))
