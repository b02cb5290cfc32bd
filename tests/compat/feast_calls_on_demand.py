"""Features that are computed when they are asked for."""

from typing import Any

import pandas as pd
from feast import FeatureService, Field, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Float64, Int64, String
from feast_calls_online import ask
from feast_calls_past import rows
from feast_definitions import DRIVER
from feast_session import named


def views(stats):
    asked = RequestSource(name="asked_of", schema=[Field(name="extra", dtype=Int64)])

    @on_demand_feature_view(
        sources=[stats, asked],
        schema=[Field(name="sum", dtype=Int64), Field(name="half", dtype=Float64)],
        tags={"team": "a"},
    )
    def in_pandas(inputs: pd.DataFrame) -> pd.DataFrame:
        made = pd.DataFrame()
        made["sum"] = inputs["trips"].fillna(0).astype("int64") + inputs["extra"] + 10
        made["half"] = inputs["driver_stats__trips"] / 2
        return made

    @on_demand_feature_view(
        sources=[stats],
        schema=[Field(name="upper", dtype=String), Field(name="letters", dtype=Array(String))],
        mode="python",
    )
    def in_python(inputs: dict[str, Any]) -> dict[str, Any]:
        cities = [city or "" for city in inputs["city"]]
        return {"upper": [city.upper() for city in cities], "letters": [list(city[:2]) for city in cities]}

    @on_demand_feature_view(sources=[asked], schema=[Field(name="twice", dtype=Int64)], mode="python", singleton=True)
    def of_one(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"twice": inputs["extra"] * 2}

    @on_demand_feature_view(sources=[stats], schema=[Field(name="broken", dtype=Float64)])
    def failing(inputs: pd.DataFrame) -> pd.DataFrame:
        # The SDK tries the function on rows that it makes up: those have no key.
        if "driver_id" in inputs.columns:
            raise ValueError("no such road")
        return pd.DataFrame({"broken": inputs["trips"].astype("float64")})

    return [in_pandas, in_python, of_one, failing]


def everything(session):
    store, call = session.store, session.call
    stats = store.get_feature_view("driver_stats")
    made = views(stats)
    service = FeatureService(name="computed", features=[stats[["trips"]], made[0][["sum"]], made[1]])
    session.apply("on demand: apply", [DRIVER, *made, service])
    call("on demand: list", lambda: named(store.list_on_demand_feature_views()))
    call("on demand: list by tags", lambda: named(store.list_on_demand_feature_views(tags={"team": "a"})))
    call("on demand: get", lambda: [f.name for f in store.get_on_demand_feature_view("in_python").features])
    frame = rows((1, 2, 1), (24, 24, 0), extra=[1, 2, 3])
    for name, wanted in [
        ("pandas", ["in_pandas:sum", "in_pandas:half"]),
        ("python", ["in_python:upper", "in_python:letters"]),
        ("with its source", ["driver_stats:trips", "in_pandas:sum"]),
        ("two of them", ["in_pandas:sum", "in_python:upper"]),
        ("of the request only", ["of_one:twice"]),
    ]:
        session.table(f"on demand: past, {name}", frame, wanted)
        call(f"on demand: online, {name}", ask(session, wanted, driver_id=[1, 2, 9], extra=[1, 2, 3]))
        call(f"on demand: online, {name}, full names", ask(session, wanted, True, driver_id=[1, 2], extra=[1, 2]))
    session.table("on demand: past, service", frame, "computed")
    session.table("on demand: past, service, full names", frame, "computed", full_feature_names=True)
    call("on demand: online, service", ask(session, "computed", driver_id=[1, 2], extra=[1, 2]))
    session.table("on demand: past, no request data", rows(), ["in_pandas:sum"], cause="extra")
    call("on demand: online, no request data", ask(session, ["in_pandas:sum"], driver_id=[1]), cause="extra")
    session.table("on demand: past, fails", frame, ["failing:broken"], cause="no such road")
    call("on demand: online, fails", ask(session, ["failing:broken"], driver_id=[1]), cause="no such road")
    session.table("on demand: past, unknown feature", frame, ["in_python:nothing"], cause="nothing")
    call("on demand: online, unknown feature", ask(session, ["in_python:nothing"], driver_id=[1]), cause="nothing")
    for view in made:
        call(f"on demand: delete {view.name}", store.delete_feature_view, view.name)
    call("on demand: deleted", store.get_on_demand_feature_view, "in_pandas", cause="in_pandas")
    call("on demand: delete service", store.delete_feature_service, "computed")
