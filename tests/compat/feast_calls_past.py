"""Historical reads."""

import pandas as pd
from feast_definitions import COLUMNS, DAY, HOUR, NEWER, START


def rows(ids=(1, 2, 1, 9, 3), hours=(24, 24, 0, 24, 40), **more):
    """Entity rows of drivers."""
    times = pd.to_datetime([START + hour * HOUR for hour in hours], utc=True)
    return pd.DataFrame({"place": range(len(ids)), "driver_id": list(ids), "event_timestamp": times, **more})


STATS = ["driver_stats:trips", "driver_stats:rating", "driver_stats:city", "driver_stats:active"]


def everything(session):
    by_references(session)
    by_services(session)
    frames(session)
    kinds(session)
    ranges(session)


def by_references(session):
    table = session.table
    table("past: references", rows(), STATS)
    table("past: full names", rows(), STATS, full_feature_names=True)
    table("past: in another order", rows(), STATS[::-1])
    table("past: two views", rows(), ["driver_stats:trips", "driver_brief:rating"])
    table("past: short ttl", rows(), ["driver_brief:trips", "driver_brief:rating"])
    table("past: without entities", rows(), ["everywhere:trips"])
    table("past: with and without entities", rows(), ["driver_stats:city", "everywhere:trips"])
    table("past: the same twice", rows(), ["driver_stats:trips", "driver_stats:trips"])
    table("past: one name twice", rows(), ["driver_stats:trips", "driver_brief:trips"], cause="trips")
    both = ["driver_stats:trips", "driver_brief:trips"]
    table("past: one name twice, full names", rows(), both, full_feature_names=True)
    table("past: unknown feature", rows(), ["driver_stats:nothing"], cause="nothing")
    table("past: unknown view", rows(), ["nobody:trips"], cause="nobody")
    table("past: no reference", rows(), ["trips"], cause="trips")
    table("past: none", rows(), [])
    table("past: the key", rows(), ["driver_stats:driver_id"], cause="driver_id")
    table("past: the time", rows(), ["driver_stats:event_timestamp"], cause="event_timestamp")
    table("past: two keys", routes(), ["routes:fare", "routes:note"])
    table("past: a key is missing", routes().drop(columns="zone"), ["routes:fare"], cause="zone")
    table("past: offline only", rows(), ["offline_only:trips"])


def routes(zones=(1, 2, 3, 1), **more):
    times = pd.to_datetime([START + 10 * HOUR] * 4, utc=True)
    origins = ["Riga", "Riga", "Oslo", None]
    return pd.DataFrame({"place": range(4), "origin": origins, "zone": list(zones), "event_timestamp": times, **more})


def by_services(session):
    table = session.table
    both = rows((1, 2), (24, 24), origin=["Riga", "Oslo"], zone=[1, 1])
    pair = rows((1, 2), (24, 24), first_id=[1, 2], second_id=[2, 9]).drop(columns="driver_id")
    table("past: service", both, "model")
    table("past: service, full names", both, "model", full_feature_names=True)
    table("past: service of one twice", pair, "pairs", full_feature_names=True)
    table("past: service of one twice, short names", pair, "pairs", cause="trips")
    table(
        "past: service of one twice, a key is missing",
        pair.drop(columns="first_id"),
        "pairs",
        full_feature_names=True,
        cause="first_id",
    )
    table("past: service of a clash", both, "clash", cause="trips")
    table("past: service of a clash, full names", both, "clash", full_feature_names=True)
    table("past: service with a name", both, "mixed")
    table("past: service with a name, full names", both, "mixed", full_feature_names=True)
    table("past: unknown service", both, "nobody", cause="nobody")


def frames(session):
    """Entity rows as users have them."""
    table, stats = session.table, ["driver_stats:trips", "driver_stats:city"]
    table(
        "frame: more columns",
        rows(label=[True, False] * 2 + [None], weight=[0.5] * 5, name=list("abcd") + [None]),
        stats,
    )
    for name, kind in [
        ("int32", "int32"),
        ("int16", "int16"),
        ("uint64", "uint64"),
        ("Int64", "Int64"),
        ("float64", "float64"),
    ]:
        frame = rows()
        frame["driver_id"] = frame["driver_id"].astype(kind)
        table(f"frame: {name} keys", frame, stats)
    table("frame: a key is None", rows((1, None, 2), (24, 24, 24)), stats)
    table("frame: keys as text", rows(("1", "2"), (24, 24)), stats, cause="driver_id")
    table("frame: keys as words", rows(("one", "2"), (24, 24)), stats, cause="driver_id")
    table("frame: the same rows", rows((1, 1, 1), (24, 24, 24)), stats)
    table("frame: no rows", rows((), ()), stats)
    table("frame: no key", rows().drop(columns="driver_id"), stats, cause="driver_id")
    table("frame: no time", rows().drop(columns="event_timestamp"), stats, cause="timestamp")
    table("frame: time of another name", rows().rename(columns={"event_timestamp": "asked_at"}), stats)
    twice = rows(at=rows()["event_timestamp"]).rename(columns={"event_timestamp": "asked_at"})
    table("frame: two times of other names", twice, stats, cause="timestamp")
    table("frame: two times", rows(at=rows()["event_timestamp"]), stats)
    for name, change in [
        ("no zone", lambda at: at.dt.tz_localize(None)),
        ("New York", lambda at: at.dt.tz_convert("America/New_York")),
        ("seconds", lambda at: at.astype("datetime64[s, UTC]")),
        ("milliseconds", lambda at: at.astype("datetime64[ms, UTC]")),
        ("nanoseconds", lambda at: at.astype("datetime64[ns, UTC]")),
        ("text", lambda at: [time.isoformat() for time in at]),
        ("datetimes", lambda at: pd.Series([time.to_pydatetime() for time in at], dtype=object)),
        ("dates as text", lambda at: ["2025-11-03"] * len(at)),
        ("numbers", lambda at: at.astype("int64")),
        ("words", lambda at: ["soon"] * len(at)),
    ]:
        frame = rows()
        frame["event_timestamp"] = change(frame["event_timestamp"])
        table(f"frame: times: {name}", frame, stats, cause="event_timestamp|soon")
    frame = rows()
    frame.loc[1, "event_timestamp"] = pd.NaT
    table("frame: a time is missing", frame, stats)
    table("frame: an index", rows().set_index(pd.Index([5, 3, 1, 4, 2])), stats)
    table("frame: an index with a name", rows().set_index(pd.Index(list("abcde"), name="which")), stats)
    table("frame: an index that is the key", rows().set_index("driver_id"), stats)
    table("frame: a column like a feature", rows(trips=[7] * 5), stats)
    table("frame: a query", "SELECT 1 AS driver_id", stats)
    zones = routes()
    zones["zone"] = zones["zone"].astype("int32")
    table("frame: zones of 32 bits", zones, ["routes:fare"])
    table("frame: a zone too large", routes((1, 2, 3, 1 << 40)), ["routes:fare"])


def kinds(session):
    times = pd.to_datetime([START + 2 * DAY] * 5, utc=True)
    frame = pd.DataFrame({"place": range(5), "kind_id": ["a", "b", "c", "d", "e"], "event_timestamp": times})
    for name in COLUMNS:
        session.table(f"kinds: {name}", frame, [f"kinds:{name}"])
    for name in NEWER:
        session.table(f"kinds: newer: {name}", frame, [f"newer_{name}:{name}"])
    session.call(
        "kinds: as a frame",
        lambda: (
            session.store.get_historical_features(frame, ["kinds:large", "kinds:texts"]).to_df().sort_values("place")
        ),
    )


def ranges(session):
    """Rows between two times, which DuckDB's store of Feast does not read."""
    both = {"start_date": START, "end_date": START + DAY}
    session.table("range: both", None, ["driver_stats:trips", "driver_stats:city"], **both)
    session.table("range: with entity rows", rows(), ["driver_stats:trips"], **both)
    backwards = {"start_date": START + DAY, "end_date": START}
    session.table("range: backwards", None, ["driver_stats:trips"], **backwards, cause="start_date")
