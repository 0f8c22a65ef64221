"""What a table holds, column by column, and what a person should know before training on it."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from app.ml.column_types.canonical import TypeName
from app.ml.column_types.registry import COLUMN_TYPES
from app.ml.tables.roles import doubt, role_of
from app.ml.tables.typed import TypedTable

Column = dict[str, Any]
"""One column's profile: ``name``, ``type``, ``count`` (values), ``missing``, ``distinct``; numbers
and datetimes have ``min``, ``max``, ``quantiles`` and a ``histogram``, numbers also ``mean`` and
``std`` (n - 1); categories and booleans ``top``, the most frequent values."""

_MOST_DETAILED = 1_000  # columns
_MOST_WARNINGS = 100


def profile(typed: TypedTable, threads: int = 1) -> list[Column]:
    """Return the profile of every column; tables wider than 1,000 columns go without quantiles and
    histograms."""
    table = typed.table
    detailed = table.num_columns <= _MOST_DETAILED

    def one(name: str) -> Column:
        found = _column(name, table[name], typed.types[name], detailed)
        found |= typed.cells[name].as_dict() if name in typed.cells else {}
        return found | {"role": role_of(found, table.num_rows)}

    if threads == 1 or table.num_rows * table.num_columns < 100_000:
        return [one(name) for name in table.column_names]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, table.column_names))


def _column(name: str, values: pa.ChunkedArray, kind: TypeName, detailed: bool) -> Column:
    missing = values.null_count
    facts = {"name": name, "type": kind, "count": len(values) - missing, "missing": missing}
    return {**facts, **COLUMN_TYPES[kind].profile(values, detailed)}


# ---------------------------------------------------------------- warnings


def warnings(columns: Sequence[Column], rows: int, notes: Sequence[str] = ()) -> list[str]:
    """Return ``notes`` of the typing and what the profile warns of; at most 100 in all."""
    found = list(notes)
    if len(columns) == 1:
        found += _of_one_column(columns[0]["name"])
    for column in columns:
        name = column["name"]
        if column["missing"] == rows:
            found.append(f"column '{name}' is empty")
        elif rows > 1 and (note := _note_of_role(column, rows)):
            found.append(note)
    if len(found) > _MOST_WARNINGS:
        left_out = len(found) - _MOST_WARNINGS
        found = [*found[:_MOST_WARNINGS], f"and {left_out} more warnings"]
    return found


def _of_one_column(name: str) -> list[str]:
    """A warning of a name that seems to be those of several columns."""
    if (mark := next((c for c in ";\t|" if c in name), None)) is not None:
        quoted = "a tab" if mark == "\t" else f"'{mark}'"
        return [f"there is one column only; if {quoted} separates columns, send it as delimiter"]
    if re.search(r"\S {2,}\S", name):
        return [
            "there is one column only; if blanks make columns of one width, mark empty cells (with "
            "NA, say) and send delimiter=space, or save the file with another delimiter"
        ]
    return []


def _note_of_role(column: Column, rows: int) -> str | None:
    name = column["name"]
    match column["role"]:
        case "constant":
            return f"column '{name}' is constant"
        case "identifier" | "index":
            return (
                f"column '{name}' looks like an identifier, which no job learns from unless its "
                "features name it"
            )
        case _:
            return doubt(column, rows)
