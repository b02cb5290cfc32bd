"""Definitions of the rarer kinds, and what the registry's server answers to those who speak with it directly."""

import grpc
from feast import (
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    KafkaSource,
    KinesisSource,
    Project,
    RequestSource,
    StreamFeatureView,
)
from feast.data_format import JsonFormat
from feast.feature_view import FeatureViewState
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.labeling.label_view import LabelView
from feast.permissions.action import AuthzedAction
from feast.permissions.permission import Permission
from feast.permissions.policy import RoleBasedPolicy
from feast.saved_dataset import ValidationReference
from feast.types import Int64, String
from feast_calls_past import rows
from feast_definitions import DRIVER, DRIVER_FIELDS, HOUR, LONG, START, source
from feast_session import LONGEST_S, named

# Feast says INTERNAL or UNKNOWN where asgard says INVALID_ARGUMENT.
REFUSED = {"INTERNAL", "UNKNOWN", "INVALID_ARGUMENT"}
SERVICE = "/feast.registry.RegistryServer/"


def everything(session, defined):
    streams(session)
    datasets(session)
    rights(session)
    switched_off(session, defined)
    refused(session, defined)
    other_projects(session)
    direct(session)


def streams(session):
    store, call = session.store, session.call
    kafka = KafkaSource(
        name="driver_topic", kafka_bootstrap_servers="localhost:9092", topic="drivers", timestamp_field="event_timestamp",
        message_format=JsonFormat("driver_id long"), batch_source=source(session, "drivers"), watermark_delay_threshold=HOUR,
    )  # fmt: skip
    kinesis = KinesisSource(
        name="driver_shards", region="eu-north-1", stream_name="drivers", timestamp_field="event_timestamp",
        record_format=JsonFormat("driver_id long"), batch_source=source(session, "drivers"),
    )  # fmt: skip
    asked = RequestSource(name="asked", schema=[Field(name="extra", dtype=Int64)], description="of the request")
    stream = StreamFeatureView(
        name="driver_stream", entities=[DRIVER], ttl=LONG, schema=DRIVER_FIELDS, source=kafka, timestamp_field="event_timestamp",
        tags={"team": "a"},
    )  # fmt: skip
    session.apply("stream: apply", [DRIVER, kafka, kinesis, asked, stream])
    for name in ["driver_topic", "driver_shards", "asked"]:
        call(f"stream: source {name}", store.get_data_source, name)
    # Its features come in an order of chance.
    call("stream: get", lambda: sorted_features(store.get_stream_feature_view("driver_stream")))
    call("stream: get as a view", store.get_feature_view, "driver_stream")
    call("stream: list", lambda: named(store.list_stream_feature_views()))
    call("stream: list by tags", lambda: named(store.list_stream_feature_views(tags={"team": "b"})))
    call("stream: among all", lambda: named(store.list_all_feature_views()))
    session.table("stream: past", rows(), ["driver_stream:trips", "driver_stream:city"])
    call("stream: delete", store.delete_feature_view, "driver_stream")
    call("stream: deleted", store.get_stream_feature_view, "driver_stream", cause="driver_stream")
    call("stream: delete source", store.registry.delete_data_source, "driver_topic", "default")
    labels = LabelView(
        name="verdicts",
        entities=[DRIVER],
        schema=DRIVER_FIELDS[:2],
        source=source(session, "drivers"),
        tags={"team": "a"},
    )
    session.apply("labels: apply", [DRIVER, labels])
    call("labels: get", store.get_label_view, "verdicts")
    call("labels: list", lambda: named(store.list_label_views(tags={"team": "a"})))
    call("labels: delete", store.delete_feature_view, "verdicts")
    call("labels: deleted", store.get_label_view, "verdicts", cause="verdicts")


def sorted_features(view):
    view.features.sort(key=lambda feature: feature.name)
    return view


def datasets(session):
    store, call = session.store, session.call
    place = f"{session.path}/saved" + ("" if "iceberg" in session.path else ".parquet")
    storage = SavedDatasetFileStorage(path=place)
    # Feast's server wants to know the place as a source; one without a name is called by its path.
    session.apply("dataset: its source", [FileSource(path=place, timestamp_field="event_timestamp")])
    call("dataset: get its source", store.get_data_source, place)

    def save(name, frame, features, **how):
        job = store.get_historical_features(frame, features)
        return store.create_saved_dataset(job, name=name, storage=storage, **how)

    stats = ["driver_stats:trips", "driver_stats:city"]
    call("dataset: save", save, "saved", rows(), stats, tags={"team": "a"})
    call(
        "dataset: read",
        lambda: (
            store.get_saved_dataset("saved")
            .to_df()
            .sort_values(["driver_id", "trips"])
            .reset_index(drop=True)[["driver_id", "trips", "city"]]
        ),
    )
    call("dataset: get", store.registry.get_saved_dataset, "saved", "default")
    call("dataset: list", lambda: named(store.list_saved_datasets()))
    call("dataset: list by tags", lambda: named(store.list_saved_datasets(tags={"team": "b"})))
    call("dataset: the same place", save, "other", rows(), stats, cause="exists")
    call("dataset: over it", save, "saved", rows((2,), (24,)), stats, allow_overwrite=True)
    call("dataset: read again", lambda: store.get_saved_dataset("saved").to_df()[["driver_id", "trips", "city"]])
    call("dataset: nobody", store.get_saved_dataset, "nobody", cause="nobody")
    reference = ValidationReference(name="reference", dataset_name="saved", description="as it was", tags={"team": "a"})
    session.apply("reference: apply", [reference])
    call("reference: get", lambda: store.registry.get_validation_reference("reference", "default"))
    call("reference: list", lambda: named(store.list_validation_references(tags={"team": "a"})))
    call("reference: delete", store.registry.delete_validation_reference, "reference", "default")
    call("dataset: delete", store.registry.delete_saved_dataset, "saved", "default")
    call("dataset: deleted", lambda: named(store.list_saved_datasets()))
    call("dataset: delete its source", store.registry.delete_data_source, place, "default")


def rights(session):
    store, call = session.store, session.call
    reader = Permission(
        name="readers", types=[FeatureView], name_patterns=["driver_.*"], actions=[AuthzedAction.DESCRIBE],
        policy=RoleBasedPolicy(roles=["reader"]), tags={"team": "a"}, required_tags={"tier": "1"},
    )  # fmt: skip
    session.apply("permission: apply", [reader])
    call("permission: get", store.get_permission, "readers")
    call("permission: list", lambda: named(store.list_permissions(tags={"team": "a"})))
    call("permission: list by tags", lambda: named(store.list_permissions(tags={"team": "b"})))
    call("permission: delete", store.registry.delete_permission, "readers", "default")
    call("permission: deleted", store.get_permission, "readers", cause="readers")


def switched_off(session, defined):
    """A view that is there but not to be used, and one in another state."""
    store, call = session.store, session.call
    view = FeatureView(
        name="resting", entities=[DRIVER], ttl=LONG, schema=DRIVER_FIELDS, source=source(session, "drivers")
    )
    session.apply("resting: apply", [DRIVER, view])
    call("resting: disable", store.disable_feature_view, "resting")
    call("resting: enabled", lambda: store.get_feature_view("resting").enabled)
    call("resting: load", store.materialize, START - HOUR, START + HOUR, ["resting"], cause="disabled")
    call("resting: load incrementally", store.materialize_incremental, START + HOUR, ["resting"], cause="disabled")
    read = lambda: store.get_online_features(["resting:trips"], [{"driver_id": 1}])  # noqa: E731
    call("resting: online", read, cause="disabled")
    session.table("resting: past", rows(), ["resting:trips"], cause="disabled")
    call("resting: enable", store.enable_feature_view, "resting")
    call("resting: load then", store.materialize, START - HOUR, START + HOUR, ["resting"])
    call("resting: online then", read)
    call("resting: state", lambda: store.get_feature_view("resting").state.name)
    call("resting: another state", store.set_feature_view_state, "resting", FeatureViewState.GENERATED)
    call("resting: no such change", store.set_feature_view_state, "resting", FeatureViewState.CREATED)
    call("resting: versions", lambda: len(store.list_feature_view_versions("resting")))
    call("resting: delete", store.delete_feature_view, "resting")


def refused(session, defined):
    """Definitions that the SDK or its server does not take."""
    stats = defined["driver_stats"]
    drivers = source(session, "drivers")
    session.apply(
        "refused: two of one name",
        [DRIVER, stats, FeatureView(name="driver_stats", entities=[DRIVER], schema=DRIVER_FIELDS[:2], source=drivers)],
    )
    for name in ["a b", "ä", "__x", "1"]:
        session.apply(f"refused: service {name[:9]!r}", [FeatureService(name=name, features=[stats])])
        session.call(f"refused: service {name[:9]!r}, listed", lambda: named(session.store.list_feature_services()))
        session.call(f"refused: service {name[:9]!r}, deleted", session.store.delete_feature_service, name)
    unknown = FeatureView(
        name="unknown_column",
        entities=[DRIVER],
        schema=[DRIVER_FIELDS[0], Field(name="nothing", dtype=String)],
        source=drivers,
    )
    session.apply("refused: unknown column", [DRIVER, unknown])
    session.table("refused: unknown column, past", rows(), ["unknown_column:nothing"], cause="nothing")
    session.call("refused: unknown column, deleted", session.store.delete_feature_view, "unknown_column")
    wrong = FeatureView(
        name="wrong_type", entities=[DRIVER], schema=[DRIVER_FIELDS[0], Field(name="city", dtype=Int64)], source=drivers
    )
    session.apply("refused: wrong type", [DRIVER, wrong])
    session.table("refused: wrong type, past", rows(), ["wrong_type:city"], cause="city")
    session.call("refused: wrong type, deleted", session.store.delete_feature_view, "wrong_type")
    nowhere = FeatureView(
        name="nowhere", entities=[DRIVER], schema=DRIVER_FIELDS[:2], source=source(session, "nothing_there")
    )
    session.apply("refused: no table", [DRIVER, nowhere], cause="nothing_there")
    session.table("refused: no table, past", rows(), ["nowhere:trips"], cause="nothing_there")
    session.call("refused: no table, deleted", session.store.delete_feature_view, "nowhere")


def other_projects(session):
    store, call, registry = session.store, session.call, session.store.registry
    call(
        "projects: apply",
        registry.apply_project,
        Project(name="team", description="ours", tags={"x": "1"}, owner="ann"),
    )
    call("projects: get", registry.get_project, "team")
    call("projects: list", lambda: named(store.list_projects()))
    call("projects: list by tags", lambda: named(store.list_projects(tags={"x": "1"})))
    call("projects: entity", registry.apply_entity, DRIVER, "team")
    call("projects: its entities", lambda: named(registry.list_entities("team")))
    call("projects: entities of none", lambda: named(registry.list_entities("nobody")))
    call("projects: no view of another", registry.get_feature_view, "driver_stats", "team", cause="driver_stats")
    call("projects: delete entity", registry.delete_entity, "driver", "team")
    call("projects: delete", registry.delete_project, "team")
    call("projects: deleted", registry.get_project, "team", cause="team")
    call("projects: delete again", registry.delete_project, "team", cause="team")
    call("projects: left", lambda: [named(store.list_projects()), named(store.list_entities())])


def direct(session):
    """Bytes that no SDK sends."""
    channel = grpc.insecure_channel(session.store.config.registry.path)

    def send(method, body):
        asked = channel.unary_unary(SERVICE + method, request_serializer=None, response_deserializer=None)
        try:
            answer = asked(body, timeout=LONGEST_S)
        except grpc.RpcError as error:
            return "refused" if error.code().name in REFUSED else error.code().name
        return len(answer) > 0

    for method in ["GetEntity", "GetFeatureView", "GetAnyFeatureView", "ListEntities", "ListFeatureViews", "ApplyEntity",
                   "ApplyFeatureView", "ApplyDataSource", "ApplyFeatureService", "ApplyMaterialization", "DeleteEntity",
                   "DeleteFeatureView", "DeleteProject", "GetProject", "NoSuchMethod"]:  # fmt: skip
        session.call(f"direct: {method}, nothing", send, method, b"")
        session.call(f"direct: {method}, noise", send, method, b"\xff\xfe\xfd" * 20)
        # A field of 4 GiB that is not there.
        session.call(f"direct: {method}, cut off", send, method, b"\x0a\xff\xff\xff\xff\x0f")
    for method in ["Commit", "Refresh", "Proto"]:
        session.call(f"direct: {method}", send, method, b"")
    channel.close()
