"""What users do with the Feast SDK, call by call: definitions, and then reads and writes of values."""

import feast_calls_kept
import feast_calls_on_demand
import feast_calls_online
import feast_calls_past
from feast import Entity, FeatureView
from feast_definitions import DRIVER, DRIVER_FIELDS, ENTITIES, HOUR, LONG, services, source, views
from feast_session import named


def everything(session):
    defined = views(session)
    before_anything(session)
    definitions(session, defined)
    changes(session, defined)
    feast_calls_past.everything(session)
    feast_calls_online.everything(session)
    feast_calls_on_demand.everything(session)
    feast_calls_kept.everything(session, defined)
    deletions(session)


LISTS = [
    "entities", "feature_views", "batch_feature_views", "all_feature_views", "on_demand_feature_views",
    "stream_feature_views", "label_views", "data_sources", "feature_services", "validation_references",
    "permissions", "projects", "saved_datasets",
]  # fmt: skip
KINDS = [
    "entity", "feature_view", "on_demand_feature_view", "stream_feature_view", "label_view", "data_source",
    "feature_service", "validation_reference", "permission", "project", "saved_dataset",
]  # fmt: skip


def before_anything(session):
    for kind in LISTS:
        session.call(f"empty: {kind}", lambda: named(getattr(session.store, f"list_{kind}")()))  # noqa: B023
    for kind in KINDS:
        session.call(f"empty: get {kind}", getattr(session.store, f"get_{kind}"), "nobody", cause="nobody")
    session.call("empty: refresh", session.store.refresh_registry)


def definitions(session, defined):
    store = session.store
    session.apply("apply: all", [*ENTITIES, *defined.values(), *services(defined)])
    session.apply("apply: all again", [*ENTITIES, *defined.values(), *services(defined)])
    for kind in LISTS:
        listed = getattr(store, f"list_{kind}")
        session.call(f"list: {kind}", lambda: named(listed()))  # noqa: B023
        session.call(f"list: {kind}, of team a", lambda: named(listed(tags={"team": "a"})))  # noqa: B023
        session.call(f"list: {kind}, of no team", lambda: named(listed(tags={"team": "zz"})))  # noqa: B023
        session.call(f"list: {kind}, two tags", lambda: named(listed(tags={"team": "a", "tier": "1"})))  # noqa: B023
        session.call(f"list: {kind}, cached", lambda: named(listed(allow_cache=True)))  # noqa: B023
    for view in defined:
        session.call(f"get: view {view}", store.get_feature_view, view)
    for entity in ENTITIES:
        session.call(f"get: entity {entity.name}", store.get_entity, entity.name)
    for service in services(defined):
        session.call(f"get: service {service.name}", store.get_feature_service, service.name)
    for name in ["drivers", "driver_push", "pushed"]:
        session.call(f"get: source {name}", store.get_data_source, name)
    session.call("get: project", store.get_project, "default")
    for kind in KINDS:
        session.call(f"get: no {kind}", getattr(store, f"get_{kind}"), "nobody", cause="nobody")


def changes(session, defined):
    """Definitions that come anew and differ, and go."""
    store = session.store
    drivers = source(session, "drivers")

    def view(fields, **more):
        how = {"entities": [DRIVER], "ttl": LONG, "source": drivers, **more}
        return FeatureView(name="changing", schema=fields, **how)

    def known():
        found = store.get_feature_view("changing")
        return [[f.name for f in found.features], found.ttl, found.entities, found.tags, found.online]

    for name, changed in [
        ("new", view(DRIVER_FIELDS[:2])),
        ("a feature more", view(DRIVER_FIELDS[:4])),
        ("a feature less", view([DRIVER_FIELDS[0], DRIVER_FIELDS[3]])),
        ("another ttl", view(DRIVER_FIELDS[:2], ttl=HOUR)),
        ("no ttl", view(DRIVER_FIELDS[:2], ttl=None)),
        ("tags", view(DRIVER_FIELDS[:2], tags={"x": "ü"})),
        ("no online", view(DRIVER_FIELDS[:2], online=False)),
        ("no entities", view(DRIVER_FIELDS[1:2], entities=[])),
        ("entities again", view(DRIVER_FIELDS[:2])),
    ]:
        session.apply(f"change: {name}", [DRIVER, changed])
        session.call(f"change: {name}, known", known)
    session.apply("change: entity", [Entity(name="driver", join_keys=["driver_id"], description="other")])
    session.call("change: entity, known", store.get_entity, "driver")
    session.apply("change: entity back", [DRIVER])
    session.call("change: delete", store.delete_feature_view, "changing")
    session.call("change: deleted", store.get_feature_view, "changing", cause="changing")
    session.call("change: delete again", store.delete_feature_view, "changing", cause="changing")
    session.call("change: not listed", lambda: named(store.list_feature_views()))


def deletions(session):
    store, registry = session.store, session.store.registry
    session.call("delete: service", store.delete_feature_service, "clash")
    session.call("delete: service again", store.delete_feature_service, "clash", cause="clash")
    for kind in ["entity", "data_source", "permission", "validation_reference", "saved_dataset"]:
        session.call(
            f"delete: no {kind}", lambda: getattr(registry, f"delete_{kind}")("nobody", "default"), cause="nobody"
        )  # noqa: B023
    session.call("delete: source", registry.delete_data_source, "pushed", "default")
    session.call("delete: entity", registry.delete_entity, "kind", "default")
    session.call("delete: left", lambda: [named(store.list_entities()), named(store.list_data_sources())])
    session.call("delete: teardown", store.teardown)
    for kind in LISTS:
        session.call(f"torn down: {kind}", lambda: named(getattr(store, f"list_{kind}")()))  # noqa: B023
