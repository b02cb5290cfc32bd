"""What is particular to REST catalogs: levels of schemas, tokens that end, refusals, and silence."""

import pytest
import requests

pytest.importorskip("pyiceberg")

import pyarrow as pa  # noqa: E402
from pyiceberg.catalog import load_catalog  # noqa: E402

from conftest import Server  # noqa: E402
from rest_catalog import RestServer  # noqa: E402

pytestmark = pytest.mark.pyiceberg

CSV = "id,event_timestamp,score\n1,2025-11-01T00:00:00,0.5\n"


@pytest.fixture
def rest(tmp_path):
    rest = RestServer(tmp_path, f"file://{tmp_path}/warehouse")
    yield rest
    rest.stop()


@pytest.fixture
def server(rest, tmp_path):
    server = Server(tmp_path / "data", rest.settings())
    server.start()
    yield server
    server.stop()


def get(server, path, **more):
    return requests.get(server.url + path, timeout=120, **more)


def test_schemas_of_several_levels_are_listed_and_read(server, rest):
    catalog = load_catalog("rest", **rest.as_pyiceberg())
    for namespace in ["gold", "gold.eu", "gold.eu.north"]:
        catalog.create_namespace(tuple(namespace.split(".")))
    for name in ["gold.eu.north.orders", "gold.eu.north.visits", "gold.users"]:
        catalog.create_table(tuple(name.split(".")), pa.schema([("id", pa.int64())]))
    tables = get(server, "/feast/tables?catalog=lake").json()["tables"]
    assert [(t["schema"], t["name"]) for t in tables] == [
        ("gold", "users"),
        ("gold.eu.north", "orders"),
        ("gold.eu.north", "visits"),
    ]
    shown = get(server, "/feast/tables/gold.eu.north/orders?catalog=lake")
    assert (shown.status_code, shown.json()["columns"][0]["name"]) == (200, "id")
    missing = get(server, "/feast/tables/gold.eu.north/users?catalog=lake")
    assert missing.status_code == 404 and "there are: orders, visits" in missing.json()["message"]


def test_a_token_that_ended_is_exchanged_anew(server, rest):
    assert get(server, "/feast/tables?catalog=lake").status_code == 200
    before = len(rest.tokens)
    rest.tokens.clear()
    assert get(server, "/feast/tables?catalog=lake").status_code == 200
    assert before and rest.tokens


@pytest.mark.parametrize(
    "fault, status, words",
    [
        ((403, "asgard may not read this"), 502, "the catalog answers 403: asgard may not read this"),
        ((429, "slow down"), 503, "slow down"),
        ((500, "broken inside"), 502, "the catalog answers 500: broken inside"),
        ((503, "later"), 503, "the catalog answers 503: later"),
    ],
)
def test_a_refusal_is_told_in_the_catalogs_words(server, rest, fault, status, words):
    assert get(server, "/feast/tables?catalog=lake").status_code == 200
    rest.fault = fault
    for path in ["/feast/tables?catalog=lake", "/feast/tables/gold/orders?catalog=lake"]:
        answer = get(server, path)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["message"]
    if fault[0] == 403:
        assert "credential" in answer.json()["help"]


def test_a_wrong_secret_and_an_unknown_warehouse_are_told(rest, tmp_path):
    for setting, wrong, words in [
        ("CREDENTIAL", "asgard:wrong", "the client is not known"),
        ("WAREHOUSE", "other", "there is no warehouse ['other']"),
    ]:
        settings = rest.settings() | {f"ASGARD__FEATURE_STORE__CATALOGS__LAKE__{setting}": wrong}
        server = Server(tmp_path / setting, settings)
        server.start()
        try:
            answer = get(server, "/feast/tables?catalog=lake")
        finally:
            server.stop()
        assert answer.status_code == 502 and words in answer.json()["message"], answer.text
        assert "asgard:wrong" not in answer.text + server.log.read_text()


def test_a_catalog_that_is_gone_is_said_and_found_again(server, rest):
    rest.stop()
    answer = get(server, "/feast/tables?catalog=lake")
    assert answer.status_code == 503, answer.text
    rest.start()
    assert get(server, "/feast/tables?catalog=lake").status_code == 200


def test_a_catalog_does_not_choose_which_files_of_this_machine_are_read(server, rest):
    load_catalog("rest", **rest.as_pyiceberg()).create_namespace("gold")
    url = server.url + "/feast/tables/gold/scores?catalog=lake"
    answer = requests.post(url, data=CSV, headers={"content-type": "text/csv"}, timeout=60)
    assert answer.status_code == 502 and "is a file of this machine" in answer.json()["message"], answer.text
