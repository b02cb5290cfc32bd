"""The Feast SDK, unmodified, against the built binary: one run under each supported version."""

import contextlib
import datetime
import os
import pathlib
import shutil
from typing import Any

import pandas as pd
import pytest
import requests
from conftest import Server

feast = pytest.importorskip("feast")

from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource  # noqa: E402
from feast import RequestSource  # noqa: E402
from feast.data_source import PushMode  # noqa: E402
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage  # noqa: E402
from feast.on_demand_feature_view import on_demand_feature_view  # noqa: E402
from feast.types import Float64, Int64, String  # noqa: E402

pytestmark = pytest.mark.feast

VERSION = tuple(map(int, feast.__version__.split(".")[:2]))
# Since 0.66 the server materializes; before, the SDK reads the table and writes the rows.
SERVER_MATERIALIZES = VERSION >= (0, 66)
WRITES_ONLINE = VERSION >= (0, 50)

CSV = """\
driver_id,event_timestamp,created,trips,rating,city
1,2025-11-01T00:00:00,2025-11-01T01:00:00,3,4.5,Riga
1,2025-11-02T00:00:00,2025-11-02T01:00:00,4,4.75,Riga
1,2025-11-02T00:00:00,2025-11-02T02:00:00,5,,Riga
2,2025-11-01T12:00:00,2025-11-01T13:00:00,1,5.0,Oslo
"""


TIMEOUT_MS = "ASGARD__FEATURE_STORE__ON_DEMAND__TIMEOUT_MS"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own: functions have less memory to fill and more time on a busy machine, and packages
    come from a cache that stays."""
    server = Server(
        tmp_path_factory.mktemp("asgard") / "data",
        {TIMEOUT_MS: "60000", "ASGARD__FEATURE_STORE__ON_DEMAND__MEMORY_BYTES": str(1 << 30)},
    )
    cache = os.environ.get("ASGARD_TEST_CACHE")
    if cache:
        server.data_dir.mkdir()
        pathlib.Path(cache, "feast").mkdir(parents=True, exist_ok=True)
        (server.data_dir / "cache").symlink_to(pathlib.Path(cache, "feast").resolve())
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.data_dir, ignore_errors=True)


@pytest.fixture(scope="module")
def store(server, tmp_path_factory):
    answer = requests.post(
        server.url + "/feast/tables/gold/drivers",
        data=CSV,
        headers={"content-type": "text/csv"},
        timeout=60,
    )
    assert answer.status_code == 201, answer.text
    repo = tmp_path_factory.mktemp("repo")
    yaml = requests.get(server.url + "/feast/repo", timeout=60).text
    (repo / "feature_store.yaml").write_text(yaml)
    store = FeatureStore(repo_path=str(repo))
    driver = Entity(name="driver", join_keys=["driver_id"])
    table = FileSource(
        name="drivers",
        path="iceberg://gold/drivers",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    pushed = PushSource(name="driver_push", batch_source=table)
    schema = [
        Field(name="driver_id", dtype=Int64),
        Field(name="trips", dtype=Int64),
        Field(name="rating", dtype=Float64),
        Field(name="city", dtype=String),
    ]
    # A year would leave the rows of this test behind one day.
    ttl = datetime.timedelta(days=36500)
    stats = FeatureView(
        name="driver_stats", entities=[driver], ttl=ttl, schema=schema, source=table
    )
    live = FeatureView(
        name="driver_live", entities=[driver], ttl=ttl, schema=schema, source=pushed
    )
    everywhere = FeatureView(
        name="everywhere", entities=[], ttl=ttl, schema=[Field(name="trips", dtype=Int64)], source=table
    )
    service = FeatureService(name="driver_model", features=[stats[["trips"]]])
    pair = [
        stats[["trips"]].with_name(role).with_join_key_map({"driver_id": f"{role}_id"})
        for role in ("first", "second")
    ]
    pairs = FeatureService(name="pairs", features=pair)
    store.apply([driver, stats, live, everywhere, service, pairs])
    return store


def entity_df():
    times = ["2025-11-02", "2025-11-01T12:00:00", "2025-10-01", "2025-11-02"]
    return pd.DataFrame(
        {
            "driver_id": [1, 2, 1, 9],
            "event_timestamp": pd.to_datetime(times, utc=True, format="ISO8601"),
        }
    )


def plain(values):
    return [None if pd.isna(value) else value for value in values]


def test_definitions_are_listed(store):
    assert {"driver_stats", "driver_live"} <= {v.name for v in store.list_feature_views()}
    view = store.get_feature_view("driver_stats")
    assert [f.name for f in view.features] == ["trips", "rating", "city"]
    assert [e.name for e in store.list_entities() if e.name == "driver"] == ["driver"]
    assert "driver_model" in {s.name for s in store.list_feature_services()}
    with pytest.raises(Exception, match="not found|does not exist"):
        store.get_feature_view("nothing")


def test_historical_features(store):
    refs = ["driver_stats:trips", "driver_stats:rating", "driver_stats:city"]
    table = store.get_historical_features(entity_df(), refs).to_df()
    # Every row in its place; of two rows of one time the one created later, its null included.
    assert list(table["driver_id"]) == [1, 2, 1, 9]
    assert plain(table["trips"]) == [5, 1, None, None]
    assert plain(table["rating"]) == [None, 5.0, None, None]
    assert plain(table["city"]) == ["Riga", "Oslo", None, None]
    service = store.get_feature_service("driver_model")
    by_service = store.get_historical_features(entity_df(), service, full_feature_names=True)
    assert plain(by_service.to_df()["driver_stats__trips"]) == [5, 1, None, None]


def test_full_names_join_key_aliases_and_views_without_entities(store):
    pairs = pd.DataFrame(
        {
            "first_id": [1, 2],
            "second_id": [2, 9],
            "event_timestamp": pd.to_datetime(["2025-11-02", "2025-11-02"], utc=True),
        }
    )
    service = store.get_feature_service("pairs")
    table = store.get_historical_features(pairs, service, full_feature_names=True).to_df()
    assert list(table["first_id"]) == [1, 2]
    assert plain(table["first__trips"]) == [5, 1]
    assert plain(table["second__trips"]) == [1, None]
    refs = ["driver_stats:trips", "everywhere:trips"]
    table = store.get_historical_features(entity_df(), refs, full_feature_names=True).to_df()
    assert plain(table["driver_stats__trips"]) == [5, 1, None, None]
    # Of all drivers the newest, for every row.
    assert plain(table["everywhere__trips"]) == [5, 1, None, 5]


@pytest.mark.skipif(not SERVER_MATERIALIZES, reason="this version always wants an entity_df")
def test_all_rows_between_two_times(store):
    span = {"start_date": datetime.datetime(2025, 11, 1), "end_date": datetime.datetime(2025, 11, 2)}
    table = store.get_historical_features(features=["driver_stats:trips"], **span).to_df()
    assert list(table.columns) == ["event_timestamp", "created_timestamp", "driver_id", "trips"]
    assert list(table["trips"]) == [3, 4, 5, 1]
    # Of several views each time once, with what was known then.
    refs = ["driver_stats:trips", "driver_live:rating", "everywhere:trips"]
    table = store.get_historical_features(features=refs, full_feature_names=True, **span).to_df()
    assert list(table["driver_id"]) == [1, 2, 1]
    assert plain(table["driver_stats__trips"]) == [3, 1, 5]
    assert plain(table["driver_live__rating"]) == [4.5, 5.0, None]
    # Of all drivers, and in no need of rows of its own.
    assert plain(table["everywhere__trips"]) == [3, 1, 5]


def test_a_retrieval_is_saved_as_a_data_set(store):
    refs = ["driver_stats:trips", "driver_stats:city"]
    storage = SavedDatasetFileStorage(path="iceberg://gold/training_set")

    def save(rows, **how):
        job = store.get_historical_features(rows, refs)
        return store.create_saved_dataset(job, name="training_set", storage=storage, **how)

    save(entity_df(), tags={"team": "crm"})
    saved = store.get_saved_dataset("training_set").to_df().sort_values(["driver_id", "trips"])
    assert list(saved["driver_id"]) == [1, 1, 2, 9]
    assert plain(saved["trips"]) == [5, None, 1, None]
    assert [d.name for d in store.registry.list_saved_datasets("default")] == ["training_set"]
    with pytest.raises(Exception, match="exists already"):
        save(entity_df())
    save(entity_df()[:1], allow_overwrite=True)
    assert plain(store.get_saved_dataset("training_set").to_df()["trips"]) == [5]


def materialize(server, store):
    end = datetime.datetime(2025, 12, 1, tzinfo=datetime.timezone.utc)
    if SERVER_MATERIALIZES or WRITES_ONLINE:
        store.materialize_incremental(end, feature_views=["driver_stats"])
    else:
        body = {"end_ts": end.isoformat(), "feature_views": ["driver_stats"]}
        url = server.url + "/feast/materialize-incremental"
        assert requests.post(url, json=body, timeout=60).status_code == 200


def test_online_features(server, store):
    materialize(server, store)
    materialize(server, store)
    entity_rows = [{"driver_id": 2}, {"driver_id": 1}, {"driver_id": 9}]
    answer = store.get_online_features(
        features=["driver_stats:trips", "driver_stats:city"], entity_rows=entity_rows
    ).to_dict()
    assert answer["driver_id"] == [2, 1, 9]
    assert answer["trips"] == [1, 5, None]
    assert answer["city"] == ["Oslo", "Riga", None]
    if SERVER_MATERIALIZES:
        # Older SDKs raise an error of their own over a value that is present and null.
        answer = store.get_online_features(["driver_stats:rating"], entity_rows).to_dict()
        assert answer["rating"] == [5.0, None, None]
    service = store.get_feature_service("driver_model")
    by_service = store.get_online_features(service, entity_rows=[{"driver_id": 1}]).to_dict()
    assert by_service["trips"] == [5]
    if SERVER_MATERIALIZES:
        intervals = store.get_feature_view("driver_stats").materialization_intervals
        assert intervals[-1][1].year == 2025


@pytest.mark.skipif(not WRITES_ONLINE, reason="the remote store of this version cannot write")
def test_pushed_rows(store):
    rows = pd.DataFrame(
        {
            "driver_id": [7, 8],
            "event_timestamp": pd.to_datetime(["2025-12-01", "2025-12-01"], utc=True),
            "created": pd.to_datetime(["2025-12-01", "2025-12-01"], utc=True),
            "trips": [70, 80],
            "rating": [1.5, 2.0],
            "city": ["Bern", "Rome"],
        }
    )
    store.push("driver_push", rows, to=PushMode.ONLINE)
    store.write_to_online_store("driver_stats", rows.assign(trips=[71, 81]))
    for view, trips in (("driver_live", [70, 80]), ("driver_stats", [71, 81])):
        answer = store.get_online_features(
            features=[f"{view}:trips", f"{view}:city"],
            entity_rows=[{"driver_id": 7}, {"driver_id": 8}],
        ).to_dict()
        assert (answer["trips"], answer["city"]) == (trips, ["Bern", "Rome"])


@pytest.mark.skipif(not WRITES_ONLINE, reason="this version opens the table itself to write")
def test_rows_written_into_the_table(store):
    rows = pd.DataFrame(
        {
            "driver_id": [5],
            "event_timestamp": pd.to_datetime(["2025-12-05"], utc=True),
            "created": pd.to_datetime(["2025-12-05"], utc=True),
            "trips": [50],
            "rating": [3.5],
            "city": ["Kyiv"],
        }
    )
    store.write_to_offline_store("driver_stats", rows)
    store.push("driver_push", rows.assign(driver_id=[6], trips=[60]), to=PushMode.OFFLINE)
    asked = rows[["driver_id", "event_timestamp"]]
    asked = pd.concat([asked, asked.assign(driver_id=[6])])
    table = store.get_historical_features(asked, ["driver_stats:trips"]).to_df()
    assert plain(table["trips"]) == [50, 60]
    with pytest.raises(Exception, match="trips"):
        store.write_to_offline_store("driver_stats", rows.assign(trips=["many"]))


@pytest.mark.skipif(not SERVER_MATERIALIZES, reason="this version materializes by itself")
def test_another_project_has_its_own_views_and_values(server, store, tmp_path):
    yaml = requests.get(server.url + "/feast/repo?project=team", timeout=60).text
    (tmp_path / "feature_store.yaml").write_text(yaml)
    team = FeatureStore(repo_path=str(tmp_path))
    driver = Entity(name="driver", join_keys=["driver_id"])
    table = FileSource(
        name="drivers", path="iceberg://gold/drivers", timestamp_field="event_timestamp"
    )
    ttl = datetime.timedelta(days=36500)
    schema = [Field(name="driver_id", dtype=Int64), Field(name="trips", dtype=Int64)]
    team.apply(
        [driver, FeatureView(name="team_trips", entities=[driver], ttl=ttl, schema=schema, source=table)]
    )
    end = datetime.datetime(2025, 12, 1, tzinfo=datetime.timezone.utc)
    team.materialize_incremental(end, feature_views=["team_trips"])
    question = {"features": ["team_trips:trips"], "entity_rows": [{"driver_id": 2}]}
    assert team.get_online_features(**question).to_dict()["trips"] == [1]
    with pytest.raises(Exception, match="not found"):
        store.get_online_features(**question)


BONUS = 10


@pytest.fixture(scope="module")
def computed(server, store):
    """On-demand views: in pandas, in Python, of one row at a time, and such as fail."""
    materialize(server, store)
    # Without the rating: older SDKs raise an error of their own over a value that is present and null.
    stats = store.get_feature_view("driver_stats")[["trips", "city"]]
    asked = RequestSource(name="asked", schema=[Field(name="extra", dtype=Int64)])

    @on_demand_feature_view(
        sources=[stats, asked],
        schema=[Field(name="trips_and_extra", dtype=Int64), Field(name="is_busy", dtype=Int64)],
    )
    def in_pandas(inputs: pd.DataFrame) -> pd.DataFrame:
        made = pd.DataFrame()
        # A helper of the module, which dill keeps with the function.
        made["trips_and_extra"] = inputs["trips"] + inputs["extra"] + BONUS
        made["is_busy"] = (inputs["driver_stats__trips"] > 3).astype("int64")
        return made

    @on_demand_feature_view(
        sources=[stats], schema=[Field(name="city_upper", dtype=String)], mode="python"
    )
    def in_python(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"city_upper": [city and city.upper() for city in inputs["city"]]}

    @on_demand_feature_view(sources=[stats], schema=[Field(name="broken", dtype=Float64)])
    def failing(inputs: pd.DataFrame) -> pd.DataFrame:
        # The SDK tries the function on rows that it makes up: those have no key.
        if "driver_id" in inputs.columns:
            raise ValueError("no such road")
        return pd.DataFrame({"broken": inputs["trips"].astype("float64")})

    @on_demand_feature_view(sources=[stats], schema=[Field(name="late", dtype=Float64)])
    def endless(inputs: pd.DataFrame) -> pd.DataFrame:
        while "driver_id" in inputs.columns:
            pass
        return pd.DataFrame({"late": inputs["trips"].astype("float64")})

    @on_demand_feature_view(sources=[stats], schema=[Field(name="big", dtype=Int64)])
    def hungry(inputs: pd.DataFrame) -> pd.DataFrame:
        kept = [bytearray(1 << 28) for _ in range(64 if "driver_id" in inputs.columns else 0)]
        return pd.DataFrame({"big": inputs["trips"] + len(kept)})

    @on_demand_feature_view(sources=[stats], schema=[Field(name="written", dtype=Int64)])
    def writing(inputs: pd.DataFrame) -> pd.DataFrame:
        if "driver_id" in inputs.columns:
            with open("large", "wb") as file:
                file.write(bytes(100 << 20))
        return pd.DataFrame({"written": inputs["trips"]})

    views = [in_pandas, in_python, failing, endless, hungry, writing]
    service = FeatureService(
        name="computed_model", features=[stats[["trips"]], in_pandas[["trips_and_extra"]]]
    )
    # The same view a second time, about another driver, and before the function that takes the first.
    other = stats.with_name("other").with_join_key_map({"driver_id": "other_id"})
    beside = FeatureService(name="beside_another", features=[other, in_python])
    store.apply([*views, service, beside])
    return store


def test_on_demand_features_of_the_past(computed):
    rows = entity_df().assign(extra=[1, 2, 3, 4])
    refs = ["driver_stats:trips", "in_pandas:trips_and_extra", "in_python:city_upper"]
    table = computed.get_historical_features(rows, refs).to_df()
    assert list(table["driver_id"]) == [1, 2, 1, 9]
    assert plain(table["trips"]) == [5, 1, None, None]
    assert plain(table["trips_and_extra"]) == [16, 13, None, None]
    assert plain(table["city_upper"]) == ["RIGA", "OSLO", None, None]
    service = computed.get_feature_service("computed_model")
    table = computed.get_historical_features(rows, service, full_feature_names=True).to_df()
    assert plain(table["in_pandas__trips_and_extra"]) == [16, 13, None, None]
    assert plain(table["driver_stats__trips"]) == [5, 1, None, None]


def test_on_demand_features_online(computed):
    rows = [{"driver_id": 2, "extra": 1}, {"driver_id": 1, "extra": 2}]
    refs = ["driver_stats:trips", "in_pandas:trips_and_extra", "in_pandas:is_busy", "in_python:city_upper"]
    answer = computed.get_online_features(features=refs, entity_rows=rows).to_dict()
    assert answer["trips"] == [1, 5]
    assert answer["trips_and_extra"] == [12, 17]
    assert answer["is_busy"] == [0, 1]
    assert answer["city_upper"] == ["OSLO", "RIGA"]
    assert "extra" not in answer
    service = computed.get_feature_service("computed_model")
    answer = computed.get_online_features(service, entity_rows=rows).to_dict()
    assert (answer["trips"], answer["trips_and_extra"]) == ([1, 5], [12, 17])


def test_a_function_takes_its_own_source_beside_the_same_view_under_an_alias(server, computed):
    rows = entity_df()[:2].assign(other_id=[2, 1])
    service = computed.get_feature_service("beside_another")
    table = computed.get_historical_features(rows, service, full_feature_names=True).to_df()
    assert plain(table["other__trips"]) == [1, 3]
    assert plain(table["in_python__city_upper"]) == ["RIGA", "OSLO"]
    body = {
        "feature_service": "beside_another",
        "entities": {"driver_id": [1, 2], "other_id": [2, 1]},
        "full_feature_names": True,
    }
    answer = requests.post(server.url + "/feast/get-online-features", json=body, timeout=120).json()
    values = dict(zip(answer["metadata"]["feature_names"], (r["values"] for r in answer["results"])))
    assert values["other__trips"] == [1, 5]
    assert values["in_python__city_upper"] == ["RIGA", "OSLO"]


def test_a_function_that_fails_is_told(computed):
    rows = entity_df()
    with pytest.raises(Exception, match="ValueError: no such road.*raise ValueError"):
        computed.get_historical_features(rows, ["failing:broken"]).to_df()
    with pytest.raises(Exception, match="no feature .nothing.|nothing"):
        computed.get_historical_features(rows, ["in_python:nothing"]).to_df()


def asked_online(server, features, **entities):
    body = {"features": features, "entities": entities}
    return requests.post(server.url + "/feast/get-online-features", json=body, timeout=120)


@contextlib.contextmanager
def given_up_after(server, timeout_ms):
    """The server started anew, with less time for functions."""
    usual = server.environment[TIMEOUT_MS]
    try:
        server.stop()
        server.environment[TIMEOUT_MS] = str(timeout_ms)
        server.start()
        yield
    finally:
        server.environment[TIMEOUT_MS] = usual
        server.stop()
        server.start()


@pytest.mark.skipif(VERSION < (0, 67), reason="the same server, whichever SDK defined the views")
def test_functions_are_bounded(server, computed):
    answer = asked_online(server, ["failing:broken"], driver_id=[1])
    assert answer.status_code == 422
    assert "ValueError: no such road" in answer.json()["message"]
    with given_up_after(server, 2000):
        late = asked_online(server, ["endless:late"], driver_id=[1])
    assert late.status_code == 422
    assert "did not end within" in late.json()["message"]
    assert "feature_store.on_demand.timeout_ms" in late.json()["help"]
    hungry = asked_online(server, ["hungry:big"], driver_id=[1])
    assert hungry.status_code == 422
    assert "memory" in hungry.json()["message"].lower(), hungry.text
    written = asked_online(server, ["writing:written"], driver_id=[1])
    assert written.status_code == 422
    # Of one file, or of all of them where they are in memory.
    assert any(words in written.json()["message"] for words in ["File too large", "No space left"]), written.text
    missing = asked_online(server, ["in_pandas:is_busy"], driver_id=[1])
    assert missing.status_code == 400
    assert "'extra'" in missing.json()["message"].replace('"', "'")
    # The others go on.
    assert asked_online(server, ["in_python:city_upper"], driver_id=[1]).json()["results"][1]["values"] == ["RIGA"]


@pytest.mark.skipif(VERSION < (0, 67), reason="the same server, whichever SDK defined the views")
def test_on_demand_features_over_rest(server, computed):
    body = {
        "features": ["in_pandas:trips_and_extra"],
        "entities": {"driver_id": [1, 9], "extra": [1, 1], "event_timestamp": ["2025-11-02", "2025-11-02"]},
    }
    answer = requests.post(server.url + "/feast/historical", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    # What the function takes is not answered unless it is asked for.
    assert set(answer.json()["columns"]) == {"driver_id", "extra", "event_timestamp", "trips_and_extra"}
    assert answer.json()["data"]["trips_and_extra"] == [16, None]
