"""Calls of the Feast SDK to one server, and what came back, in a form that two servers' answers compare in."""

import dataclasses
import datetime
import json
import math
import re

import pandas as pd
import pyarrow as pa
import requests
from feast import FeatureView
from feast.online_response import OnlineResponse
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

LONGEST_S = 120

# When something was done, and of which version of a definition it is.
TIMES = {"createdTimestamp", "lastUpdatedTimestamp", "lastUpdated", "versionId", "created_timestamp"}


# What the SDK makes of errors that Feast's servers did not foresee: of a 500, after which they also hang up,
# and of others over Arrow Flight.
UNHANDLED = {
    "RetryError": "RuntimeError",
    "ConnectionError": "RuntimeError",
    "FlightServerError": "FeastError",
    "ArrowInvalid": "FeastError",
}


@dataclasses.dataclass
class Session:
    """What one server answered, by the name of the call; of an error its class."""

    store: object
    # Where the feature server's routes are.
    url: str
    # The source of a table, as this server names it.
    path: str
    # Makes room for the online values of views.
    prepare: object = lambda tables: None
    answers: dict = dataclasses.field(default_factory=dict)
    messages: dict = dataclasses.field(default_factory=dict)
    causes: dict = dataclasses.field(default_factory=dict)
    # Requests that were answered with a 500.
    broken: list = dataclasses.field(default_factory=list)

    def call(self, name, function, /, *args, cause=None, **kwargs):
        """`cause`: what an error's message has to tell."""
        assert name not in self.answers, name
        try:
            self.answers[name] = self.plain(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001: what is raised is what is compared
            kind = type(error).__name__
            self.answers[name] = f"raised {UNHANDLED.get(kind, kind)}"
            self.messages[name] = str(error)
            self.causes[name] = cause

    def apply(self, name, objects, *, cause=None):
        def applied():
            self.store.apply(objects)
            self.prepare([one for one in objects if isinstance(one, FeatureView)])

        self.call(name, applied, cause=cause)

    def table(self, name, frame, features, *, cause=None, **how):
        """A historical read, with its rows in the order of the entity rows."""
        self.call(name, lambda: self.read(frame, features, **how), cause=cause)

    def read(self, frame, features, **how):
        if frame is not None and not isinstance(frame, str):
            frame = frame.copy()
        if isinstance(features, str):
            features = self.store.get_feature_service(features)
        table = self.store.get_historical_features(features=features, entity_df=frame, **how).to_arrow()
        # DuckDB's order is not promised.
        return table.sort_by("place") if "place" in table.column_names else Unordered(table)

    def post(self, name, path, body=None, *, cause=None, status_only=False, **how):
        """A request as somebody without the SDK sends it."""
        if body is not None:
            how["json"] = body
        answer = requests.post(self.url + path, timeout=LONGEST_S, **how)
        kind = answer.headers.get("content-type", "")
        told = answer.json() if "json" in kind and answer.content else None
        told = by_name(told) if isinstance(told, dict) and "results" in told else told
        if answer.ok:
            self.answers[name] = [answer.status_code, None if status_only else self.plain(told)]
            return
        # Where Feast says 422 or 500 asgard says 400.
        self.answers[name] = "refused"
        self.messages[name], self.causes[name] = answer.text, cause
        if answer.status_code >= 500:
            self.broken.append(name)

    def plain(self, value):
        if isinstance(value, str):
            return value.replace(self.path, "TABLES").replace(".parquet", "")
        if isinstance(value, float):
            # Such that JSON and pandas tell NaN and -0.0.
            return "NaN" if math.isnan(value) else repr(value)
        if value is None or isinstance(value, (bool, int, bytes)):
            return value
        if isinstance(value, dict):
            return {str(k): self.plain(v) for k, v in value.items() if k not in TIMES}
        if isinstance(value, (list, tuple)):
            return [self.plain(part) for part in value]
        if isinstance(value, (set, frozenset)):
            return sorted(map(repr, value))
        if isinstance(value, Unordered):
            return {name: kind for name, (kind, _) in columns_of(value.table).items()} | {
                "rows": sorted(zip(*(values for _, values in columns_of(value.table).values())))
            }
        if isinstance(value, pa.Table):
            return columns_of(value)
        if isinstance(value, pd.DataFrame):
            return {str(name): (str(value[name].dtype), [repr(v) for v in value[name]]) for name in value.columns}
        if isinstance(value, OnlineResponse):
            return self.plain(by_name(MessageToDict(value.proto)) | {"to_dict": value.to_dict()})
        if isinstance(value, datetime.timedelta):
            return str(value)
        if hasattr(value, "to_proto"):
            value = value.to_proto()
        if isinstance(value, Message):
            return self.plain(MessageToDict(value))
        return repr(value)


@dataclasses.dataclass
class Unordered:
    """A table of rows in any order."""

    table: pa.Table


def by_name(online):
    """An answer with online features by their names: Feast's are in an order of chance."""
    names = online["metadata"].pop("feature_names", None) or online["metadata"].pop("featureNames")["val"]
    results = online.pop("results")
    assert len(names) == len(results) and len(set(names)) == len(names), names
    return online | {"features": dict(sorted(zip(names, results)))}


def columns_of(table):
    """Types and values, such that two values are equal only when nobody can tell them apart."""
    found = {}
    for name in table.column_names:
        column = table[name]
        # Of the name that a list's values have, DuckDB's is its own.
        kind = re.sub(r"^list<\w+: ", "list<item: ", str(column.type))
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        found[name] = (kind, [repr(value) for value in column.to_pylist()])
    return found


def named(objects):
    return sorted(item.name for item in objects)


def differences(theirs, ours):
    """The calls that were answered otherwise, with both answers."""
    assert list(theirs.answers) == list(ours.answers)
    found = {}
    for name, answer in theirs.answers.items():
        if answer != ours.answers[name]:
            found[name] = (told(theirs, name), told(ours, name))
    return found


def told(session, name):
    text = json.dumps(session.answers[name], default=repr)
    if name in session.messages:
        text += " " + session.messages[name][:600]
    return text


def silent(ours, theirs):
    """The errors that do not tell what they should, and that are not the SDK's own."""
    return {
        name: f"{cause!r} is not in {ours.messages[name]!r}"
        for name, cause in ours.causes.items()
        if cause is not None
        and ours.messages[name] != theirs.messages.get(name)
        and not re.search(cause, ours.messages[name], re.IGNORECASE)
    }
