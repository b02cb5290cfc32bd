"""Computes the features of one on-demand feature view of Feast.

The server starts this file in a sandbox and talks to it over standard input and output. Both ways
a message is a 4-byte and an 8-byte little-endian length, then JSON and an Arrow stream of these
lengths.

    to the worker    the function (first):  name, text, body (base64 of what dill wrote), mode, singleton
                     a call: view, features ([name, type]); the stream has the rows
    to the server    {}: the stream has the features, one row for each that came
                     {"error": {kind, message, place}}: what the function raised

What the function prints goes to standard error.
"""

import ast
import base64
import io
import json
import linecache
import os
import struct
import sys
import textwrap
import traceback

import numpy as np
import pandas as pd
import pyarrow as pa

HEAD = struct.Struct("<IQ")
SCALARS = {
    "bytes": pa.binary(),
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "unix_timestamp": pa.timestamp("us", "UTC"),
}


def arrow_type(name):
    """The type of a feature; none where a newer Feast type is passed through as it comes."""
    if name.startswith("list<"):
        inner = SCALARS.get(name[len("list<") : -1])
        return inner and pa.list_(inner)
    return SCALARS.get(name)


# --- the function -----------------------------------------------------------------------------


def of_text(name, text, known):
    """The function as its source says it, without its decorators; none where that is no whole one."""
    try:
        tree = ast.parse(textwrap.dedent(text))
    except SyntaxError:
        return None
    found = [part for part in tree.body if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if not found:
        return None
    for part in found:
        part.decorator_list = []
        # Annotations may name what is not there any more.
        part.returns = None
        for argument in ast.walk(part.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
    path = f"<{name}>"
    linecache.cache[path] = (len(text), None, textwrap.dedent(text).splitlines(True), path)
    space = {"pd": pd, "pandas": pd, "np": np, "numpy": np, **known}
    exec(compile(tree, path, "exec"), space)
    named = [part.name for part in found]
    return space[name if name in named else named[-1]]


def of_dill(body):
    import dill

    return dill.loads(body)


def load(asked):
    """The function. dill keeps what it refers to, but its bytecode is that of one Python version: where
    the text gives other bytecode here, the text is the function, with what dill kept around it."""
    name, text, body = asked["name"], asked["text"], base64.b64decode(asked["body"])
    kept, lost = None, None
    if body:
        try:
            kept = of_dill(body)
        except Exception as error:
            lost = error
    known = dict(getattr(kept, "__globals__", {}))
    known.pop("__builtins__", None)
    written = of_text(name or getattr(kept, "__name__", ""), text, known) if text.strip() else None
    if written is None:
        if kept is None:
            raise lost or ValueError("the view holds neither the text nor the pickle of a function")
        return kept
    code = getattr(kept, "__code__", None)
    same = code is not None and (code.co_freevars or code.co_code == written.__code__.co_code)
    return kept if same else written


# --- a call -----------------------------------------------------------------------------------


def by_row(function, columns, rows):
    """A function of one row: each of its values alone."""
    made = {}
    for row in range(rows):
        answer = function({name: values[row] for name, values in columns.items()})
        for name, value in answer.items():
            made.setdefault(name, [None] * rows)[row] = value
    return made


def compute(loaded, table):
    function, mode, singleton = loaded
    if mode == "pandas":
        frame = function(table.to_pandas())
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"the function must return a pandas.DataFrame, and returned {type(frame).__name__}")
        return {str(name): frame[name] for name in frame.columns}
    columns = table.to_pydict()
    made = by_row(function, columns, table.num_rows) if singleton else function(columns)
    if not isinstance(made, dict):
        raise TypeError(f"the function must return a dict of lists, and returned {type(made).__name__}")
    return made


def values_of(made, kind, singleton):
    if isinstance(made, pd.Series):
        return pa.Array.from_pandas(made, type=kind, safe=not pa.types.is_timestamp(kind or pa.null()))
    if isinstance(made, np.ndarray):
        made = list(made)
    if not isinstance(made, (list, tuple, pd.Index)):
        made = [made]
    if singleton and not (kind and pa.types.is_list(kind)):
        # Feast takes a list of one for one.
        made = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in made]
    return pa.array(list(made), type=kind, from_pandas=False)


def answer(loaded, asked, table):
    view, rows = asked["view"], table.num_rows
    made = compute(loaded, table)
    columns = []
    for name, type_name in asked["features"]:
        key = name if name in made else f"{view}__{name}"
        if key not in made:
            there = ", ".join(map(str, made)) or "nothing"
            raise KeyError(f"the function returned no {name!r}; it returned: {there}")
        kind = arrow_type(type_name)
        try:
            column = values_of(made[key], kind, loaded[2])
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"feature {name!r} is declared {type_name}, and the function returned: {error}") from None
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        if len(column) != rows:
            raise ValueError(f"the function returned {len(column)} values of {name!r} for {rows} rows")
        columns.append(column)
    names = [name for name, _ in asked["features"]]
    return pa.Table.from_arrays(columns, names=names)


def in_utc(table):
    """pandas knows UTC by its name."""
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz:
            kind = pa.timestamp(field.type.unit, "UTC")
            table = table.set_column(index, pa.field(field.name, kind), table.column(index).cast(kind))
    return table


# --- messages ---------------------------------------------------------------------------------


def receive(stream):
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    told, rows = HEAD.unpack(head)
    asked = json.loads(stream.read(told))
    return asked, stream.read(rows)


def send(stream, told, rows=b""):
    text = json.dumps(told).encode()
    stream.write(HEAD.pack(len(text), len(rows)))
    stream.write(text)
    stream.write(rows)
    stream.flush()


def raised(error):
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    place = ""
    if frames:
        place = f"line {frames[-1].lineno} of {frames[-1].filename.strip('<>')}: {frames[-1].line or ''}"
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    return {"error": {"kind": type(error).__name__, "message": str(message)[:4000], "place": place[:1000]}}


def main():
    calls, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What the function reads and prints must not be taken for messages.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    loaded = None
    while (message := receive(calls)) is not None:
        asked, rows = message
        try:
            if loaded is None:
                loaded = (load(asked), asked["mode"], asked["singleton"])
                send(replies, {})
                continue
            table = in_utc(pa.ipc.open_stream(rows).read_all())
            made = answer(loaded, asked, table)
            stream = io.BytesIO()
            with pa.ipc.new_stream(stream, made.schema) as writer:
                writer.write_table(made)
            send(replies, {}, stream.getvalue())
        except Exception as error:
            traceback.print_exc()
            send(replies, raised(error))


if __name__ == "__main__":
    main()
