"""Rows and tables of many kinds, as the columns that an inference takes."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Sequence

__all__ = ["Columns", "as_columns"]

Columns = Dict[str, List[Any]]


def as_columns(inputs: Any) -> Columns:
    """Columns of plain values out of a pandas DataFrame, a dict of columns or a list of row dicts.

    The columns of a matrix (a list of lists, a numpy array) are named "0", "1", ...: a model that was
    trained on a matrix takes its columns in their order. NaN becomes None, which a model sees as a
    missing value again: JSON has no NaN.
    """
    if hasattr(inputs, "to_dict") and hasattr(inputs, "columns"):
        return {str(name): _plain_list(inputs[name]) for name in inputs.columns}
    if isinstance(inputs, Mapping):
        return {str(name): _plain_list(values) for name, values in inputs.items()}
    rows = _plain_list(inputs)
    if rows and all(isinstance(row, Mapping) for row in rows):
        return _columns_of_rows(rows)
    if rows and all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows):
        return {str(i): [row[i] for row in rows] for i in range(len(rows[0]))}
    raise TypeError(
        "inputs must be columns, a list of row dicts, a matrix with rows of equal length or a "
        "DataFrame, not {!r}".format(inputs)
    )


def _columns_of_rows(rows: Sequence[Mapping[str, Any]]) -> Columns:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {str(name): [_plain_value(row.get(name)) for row in rows] for name in names}


def _plain_list(values: Any) -> List[Any]:
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        raise TypeError(
            "a column must be a list of values, not {!r} (for one row: [{!r}])".format(values, values)
        )
    return [_plain_value(value) for value in values]


def _plain_value(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, (list, tuple)):
        return [_plain_value(item) for item in value]
    return value
