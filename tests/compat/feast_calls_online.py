"""Online reads and writes."""

import pandas as pd
from feast.data_source import PushMode
from feast_definitions import COLUMNS, DAY, HOUR, NEWER, START


def everything(session):
    loads(session)
    reads(session)
    kinds(session)
    writes(session)
    raw(session)


def loads(session):
    store, call = session.store, session.call
    call("online: before any load", ask(session, ["driver_stats:trips"], driver_id=[1]))
    call("load: a view", store.materialize, START - DAY, START + 12 * HOUR, ["driver_stats"])
    call("load: a view, read", ask(session, ["driver_stats:trips"], driver_id=[1, 2, 3]))
    call("load: what came since", store.materialize_incremental, START + 5 * DAY, ["driver_stats"])
    call("load: what came since, read", ask(session, ["driver_stats:trips"], driver_id=[1, 2, 3]))
    call("load: again", store.materialize_incremental, START + 5 * DAY, ["driver_stats"])
    call("load: backwards", store.materialize, START, START - DAY, ["driver_stats"], cause="start")
    call("load: unknown view", store.materialize, START, START + DAY, ["nobody"], cause="nobody")
    call("load: offline view", store.materialize, START, START + DAY, ["offline_only"], cause="offline_only")
    call("load: unknown view, since", store.materialize_incremental, START + DAY, ["nobody"], cause="nobody")
    # Without `everywhere`: Feast looks for the key of views without entities in their table.
    call(
        "load: others",
        store.materialize,
        START - DAY,
        START + 5 * DAY,
        ["driver_brief", "driver_live", "kinds", "routes"],
    )
    call("load: intervals", lambda: len(store.get_feature_view("driver_stats").materialization_intervals))


def ask(session, features, full_feature_names=False, **keys):
    def asked():
        wanted = session.store.get_feature_service(features) if isinstance(features, str) else features
        rows = [dict(zip(keys, row)) for row in zip(*keys.values())]
        return session.store.get_online_features(wanted, rows, full_feature_names=full_feature_names)

    return asked


def reads(session):
    call, stats = (
        session.call,
        ["driver_stats:trips", "driver_stats:rating", "driver_stats:city", "driver_stats:active"],
    )
    call("online: references", ask(session, stats, driver_id=[1, 2, 3, 9]))
    call("online: full names", ask(session, stats, True, driver_id=[1, 2]))
    call("online: order", ask(session, stats[::-1], driver_id=[3, 1]))
    call("online: one twice", ask(session, ["driver_stats:trips"] * 2, driver_id=[1]))
    call("online: two views", ask(session, ["driver_stats:trips", "driver_brief:rating"], driver_id=[1, 9]))
    call("online: a clash", ask(session, ["driver_stats:trips", "driver_brief:trips"], driver_id=[1]), cause="trips")
    call("online: a clash, full names", ask(session, ["driver_stats:trips", "driver_brief:trips"], True, driver_id=[1]))
    call("online: the same key twice", ask(session, ["driver_stats:trips"], driver_id=[1, 1]))
    call(
        "online: two keys",
        ask(session, ["routes:fare", "routes:note"], origin=["Riga", "Riga", "Oslo"], zone=[1, 2, 2]),
    )
    call("online: keys in another order", ask(session, ["routes:fare"], zone=[1], origin=["Riga"]))
    call(
        "online: two entities",
        ask(session, ["routes:fare", "driver_stats:city"], origin=["Riga"], zone=[2], driver_id=[2]),
    )
    call("online: a key is missing", ask(session, ["routes:fare"], origin=["Riga"]), cause="zone")
    call("online: a key too many", ask(session, ["driver_stats:trips"], driver_id=[1], other=[5]), cause="other")
    call("online: wrong key", ask(session, ["driver_stats:trips"], driver=[1]), cause="driver_id")
    call("online: key as text", ask(session, ["driver_stats:trips"], driver_id=["1"]), cause="driver_id")
    call("online: key as word", ask(session, ["driver_stats:trips"], driver_id=["one"]), cause="driver_id")
    call("online: key as float", ask(session, ["driver_stats:trips"], driver_id=[1.5]), cause="driver_id")
    call("online: key as truth", ask(session, ["driver_stats:trips"], driver_id=[True]), cause="driver_id")
    call("online: key is None", ask(session, ["driver_stats:trips"], driver_id=[1, None]))
    call("online: only None", ask(session, ["driver_stats:trips"], driver_id=[None]))
    call("online: number for a text", ask(session, ["routes:fare"], origin=[1], zone=[1]), cause="origin")
    call("online: zone too large", ask(session, ["routes:fare"], origin=["Riga"], zone=[1 << 40]))
    call("online: unknown feature", ask(session, ["driver_stats:nothing"], driver_id=[1]), cause="nothing")
    call("online: unknown view", ask(session, ["nobody:trips"], driver_id=[1]), cause="nobody")
    call("online: no reference", ask(session, ["trips"], driver_id=[1]), cause="trips")
    call("online: nothing", ask(session, [], driver_id=[1]))
    call("online: no rows", lambda: session.store.get_online_features(["driver_stats:trips"], {"driver_id": []}))
    call("online: without entities", ask(session, ["everywhere:trips"], driver_id=[1]))
    call("online: without entities or keys", lambda: session.store.get_online_features(["everywhere:trips"], {}))
    call("online: offline view", ask(session, ["offline_only:trips"], driver_id=[1]))
    call("online: the key itself", ask(session, ["driver_stats:driver_id"], driver_id=[1]), cause="driver_id")
    for name in ["model", "mixed", "clash"]:
        keys = {"driver_id": [1, 2], "origin": ["Riga", "Oslo"], "zone": [1, 1]}
        call(f"online: service {name}", ask(session, name, **keys))
        call(f"online: service {name}, full names", ask(session, name, True, **keys))
    call("online: service pairs", ask(session, "pairs", True, first_id=[1, 2], second_id=[2, 9]))
    call("online: service pairs, short names", ask(session, "pairs", first_id=[1], second_id=[2]), cause="trips")
    call("online: service pairs by the view's key", ask(session, "pairs", True, driver_id=[1]), cause="first_id")


def kinds(session):
    for name in COLUMNS:
        session.call(f"online kinds: {name}", ask(session, [f"kinds:{name}"], kind_id=["a", "b", "c", "d", "e"]))
    for name in NEWER:
        view = f"newer_{name}"
        session.call(f"load kinds: {name}", session.store.materialize, START - DAY, START + DAY, [view])
        session.call(
            f"online kinds: newer: {name}", ask(session, [f"{view}:{name}"], kind_id=["a", "b", "c", "d", "e"])
        )
        body = {"features": [f"{view}:{name}"], "entities": {"kind_id": ["a", "b", "c", "d"]}}
        session.post(f"raw kinds: newer: {name}", "/get-online-features", body)


def pushed(**more):
    times = pd.to_datetime(["2025-12-01", "2025-12-02"], utc=True)
    rows = {"driver_id": [7, 8], "event_timestamp": times, "created": times}
    values = {"trips": [70, 80], "rating": [1.5, None], "city": ["Bern", "Ürzig"], "active": [True, False]}
    return pd.DataFrame({**rows, **values, **more})


def writes(session):
    store, call = session.store, session.call
    live = ["driver_live:trips", "driver_live:rating", "driver_live:city", "driver_live:active"]
    for number, (name, frame) in enumerate([
        ("all", pushed()),
        ("older", pushed(event_timestamp=pd.to_datetime(["2025-11-30"] * 2, utc=True), trips=[1, 1])),
        ("the same time", pushed(trips=[71, 81])),
        ("newer", pushed(event_timestamp=pd.to_datetime(["2025-12-05"] * 2, utc=True), trips=[72, 82])),
        ("without created", pushed(event_timestamp=pd.to_datetime(["2025-12-06"] * 2, utc=True)).drop(columns="created")),
        ("without a feature", pushed(event_timestamp=pd.to_datetime(["2025-12-07"] * 2, utc=True)).drop(columns="city")),
        ("a column more", pushed(event_timestamp=pd.to_datetime(["2025-12-08"] * 2, utc=True), extra=[1, 2])),
        ("without the key", pushed().drop(columns="driver_id")),
        ("without the time", pushed().drop(columns="event_timestamp")),
        ("no zone", pushed(event_timestamp=pd.to_datetime(["2025-12-09"] * 2))),
        ("texts for numbers", pushed(event_timestamp=pd.to_datetime(["2025-12-10"] * 2, utc=True), trips=["a", "b"])),
        ("floats for whole numbers", pushed(event_timestamp=pd.to_datetime(["2025-12-11"] * 2, utc=True), trips=[1.0, 2.0])),
        ("no rows", pushed()[:0]),
        ("one key twice", pushed(driver_id=[7, 7], event_timestamp=pd.to_datetime(["2025-12-13", "2025-12-12"], utc=True))),
    ]):  # fmt: skip
        write = store.write_to_online_store if number % 2 else lambda name, frame: store.push("driver_push", frame)
        call(f"write: {name}", write, "driver_live", frame, cause="driver_id|event_timestamp|trips|city")
        call(f"write: {name}, read", ask(session, live, driver_id=[7, 8]))
    call("write: unknown view", store.write_to_online_store, "nobody", pushed(), cause="nobody")
    call("write: unknown source", store.push, "nobody", pushed(), cause="nobody")
    past = ["driver_live:trips", "driver_live:city"]
    asked = pushed(place=[0, 1])[["place", "driver_id", "event_timestamp"]]
    call("write: into the table", store.write_to_offline_store, "driver_live", pushed())
    session.table("write: into the table, read", asked, past)
    call(
        "write: pushed into the table",
        store.push,
        "driver_push",
        pushed(trips=[5, 6], created=pd.to_datetime(["2025-12-03"] * 2, utc=True)),
        to=PushMode.OFFLINE,
    )
    session.table("write: pushed into the table, read", asked, past)
    call(
        "write: pushed into both", store.push, "driver_push", pushed(driver_id=[17, 18]), to=PushMode.ONLINE_AND_OFFLINE
    )
    session.table("write: pushed into both, read", asked.assign(driver_id=[17, 18]), past)
    call("write: pushed into both, online", ask(session, live, driver_id=[17, 18]))
    call(
        "write: a column of the table is missing",
        store.write_to_offline_store,
        "driver_live",
        pushed().drop(columns="city"),
        cause="city",
    )
    call(
        "write: columns in another order",
        store.write_to_offline_store,
        "driver_live",
        pushed()[list(pushed().columns)[::-1]],
    )


def raw(session):
    post, path = session.post, "/get-online-features"
    stats = ["driver_stats:trips", "driver_stats:city"]
    for name, body in [
        ("references", {"features": stats, "entities": {"driver_id": [1, 2, 9]}}),
        ("full names", {"features": stats, "entities": {"driver_id": [1]}, "full_feature_names": True}),
        ("service", {"feature_service": "model", "entities": {"driver_id": [1], "origin": ["Riga"], "zone": [1]}}),
        ("unknown service", {"feature_service": "nobody", "entities": {"driver_id": [1]}}),
        ("unknown view", {"features": ["nobody:trips"], "entities": {"driver_id": [1]}}),
        ("unknown feature", {"features": ["driver_stats:nothing"], "entities": {"driver_id": [1]}}),
        ("no features", {"entities": {"driver_id": [1]}}),
        ("no entities", {"features": stats}),
        ("empty", {}),
        ("a list", [1]),
        ("lengths differ", {"features": ["routes:fare"], "entities": {"origin": ["Riga", "Oslo"], "zone": [1]}}),
        ("not a list", {"features": stats, "entities": {"driver_id": 1}}),
        ("more", {"features": stats, "entities": {"driver_id": [1]}, "nobody_knows": 1}),
        (
            "version metadata",
            {"features": stats, "entities": {"driver_id": [1]}, "include_feature_view_version_metadata": True},
        ),
    ]:
        post(f"raw: {name}", path, body)
    for name in COLUMNS:
        post(f"raw kinds: {name}", path, {"features": [f"kinds:{name}"], "entities": {"kind_id": ["a", "b", "c", "d"]}})
    for name, body in [
        ("push", {"push_source_name": "driver_push", "df": PUSHED, "to": "online"}),
        (
            "push into both",
            {"push_source_name": "driver_push", "df": PUSHED | {"driver_id": [32]}, "to": "online_and_offline"},
        ),
        ("push nowhere", {"push_source_name": "driver_push", "df": PUSHED, "to": "nowhere"}),
        ("push to nobody", {"push_source_name": "nobody", "df": PUSHED, "to": "online"}),
        ("push nothing", {}),
        (
            "push columns that differ",
            {"push_source_name": "driver_push", "df": PUSHED | {"trips": [1, 2]}, "to": "online"},
        ),
    ]:
        post(f"raw: {name}", "/push", body, status_only=True)
    for name, body in [
        ("write", {"feature_view_name": "driver_live", "df": PUSHED | {"driver_id": [33]}}),
        ("write to nobody", {"feature_view_name": "nobody", "df": PUSHED}),
        ("write nothing", {}),
        ("write a text", {"feature_view_name": "driver_live", "df": "x"}),
    ]:
        post(f"raw: {name}", "/write-to-online-store", body, status_only=True)
    keys = {"driver_id": [31, 32, 33]}
    post("raw: what was written", path, {"features": ["driver_live:trips", "driver_live:city"], "entities": keys})
    span = {"start_ts": START.isoformat(), "end_ts": (START + DAY).isoformat()}
    for name, where, body in [
        ("load", "/materialize", {**span, "feature_views": ["driver_stats"]}),
        ("load nobody", "/materialize", {**span, "feature_views": ["nobody"]}),
        ("load without times", "/materialize", {"feature_views": ["driver_stats"]}),
        ("load backwards", "/materialize", {"start_ts": span["end_ts"], "end_ts": span["start_ts"]}),
        ("load whenever", "/materialize", {"start_ts": "soon", "end_ts": "later", "feature_views": ["driver_stats"]}),
        ("load all times", "/materialize", {"feature_views": ["driver_stats"], "disable_event_timestamp": True}),
        ("load what came", "/materialize-incremental", {"end_ts": span["end_ts"], "feature_views": ["driver_stats"]}),
        (
            "load what came to nobody",
            "/materialize-incremental",
            {"end_ts": span["end_ts"], "feature_views": ["nobody"]},
        ),
    ]:
        post(f"raw: {name}", where, body, status_only=True)
    post("raw: read as text", path, data='{"features": ["driver_stats:trips"], "entities": {"driver_id": [1]}}')
    post("raw: broken", path, data="{broken", headers={"content-type": "application/json"})
    stats_of_one = session.store.get_online_features
    session.call(
        "online: which views",
        lambda: stats_of_one(stats, [{"driver_id": 1}], include_feature_view_version_metadata=True),
    )
    find = session.store.retrieve_online_documents_v2
    session.call(
        "documents: no vectors",
        lambda: find(features=["driver_stats:trips"], query=[0.5], top_k=2),
        cause="vector|search|document",
    )


PUSHED = {
    "driver_id": [31],
    "event_timestamp": ["2025-12-01T00:00:00Z"],
    "created": ["2025-12-01T00:00:00Z"],
    "trips": [1],
    "rating": [0.5],
    "city": ["Bern"],
    "active": [True],
}
