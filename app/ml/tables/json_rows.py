"""JSON of a request as tables: rows, or named columns."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from app.errors import InvalidData, escape
from app.ml.column_types.canonical import MAX_COLUMNS
from app.ml.column_types.notations.notation import AS_FOUND, CellOptions
from app.ml.tables.json_values import Types, array, flat, has_list, typed
from app.ml.tables.labels import Place
from app.ml.tables.typed import ColumnOptions, TypedTable

_MOST_CELLS = 10_000_000


def from_rows(
    rows: Sequence[dict[str, Any]],
    types: Types | None = None,
    cells: CellOptions = AS_FOUND,
    at: str = "/source/rows",
) -> TypedTable:
    """Return the table of JSON objects, a list that stands ``at`` a place of its request.

    Columns are in order of first appearance, absent keys are missing values. Raises InvalidData.
    """
    if not rows:
        raise InvalidData.at(at, "there are no rows; send at least one")
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidData.at(f"{at}/{i}", "a row is an object of columns")
    rows = [flat(row, f"{at}/{i}") for i, row in enumerate(rows)]
    names = _all_names(rows, at)
    if len(rows) * len(names) > _MOST_CELLS:  # rows without a key count too: a gap is a cell
        raise InvalidData.at(
            at,
            f"{len(rows)} rows of {len(names)} columns are too many cells; send a file instead",
        )

    def place(name: str, row: int) -> tuple[str, str]:
        return f"row {row}", f"{at}/{row}/{escape(name)}"

    columns = {name: [row.get(name) for row in rows] for name in names}
    return _assembled(columns, types or {}, cells, place)


def _all_names(rows: Sequence[dict[str, Any]], at: str) -> list[str]:
    """Every key of every row, in order of first appearance."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
        if len(names) > MAX_COLUMNS:
            raise InvalidData.at(at, f"more than {MAX_COLUMNS} columns are too many")
    if not names:
        raise InvalidData.at(at, "the rows have no columns; give them at least one")
    return list(names)


def from_columns(
    columns: dict[str, list[Any]], types: Types | None = None, cells: CellOptions = AS_FOUND
) -> TypedTable:
    """Return the table of named lists, all of one length. Raises InvalidData."""
    for name, values in columns.items():
        if not isinstance(values, list):
            pointer = f"/source/columns/{escape(name)}"
            raise InvalidData.at(pointer, f"column '{name[:64]}' wants a list of values")
    lengths = {name: len(values) for name, values in columns.items()}
    if not lengths or not any(lengths.values()):
        raise InvalidData.at("/source/columns", "there are no rows; send at least one")
    first, *_ = lengths.values()
    for name, length in lengths.items():
        if length != first:
            raise InvalidData.at(
                f"/source/columns/{escape(name)}",
                f"column '{name[:64]}' has {length} values where the first has {first}",
            )

    def place(name: str, row: int) -> tuple[str, str]:
        return f"row {row}", f"/source/columns/{escape(name)}/{row}"

    return _assembled(columns, types or {}, cells, place)


def _assembled(
    columns: dict[str, list[Any]], types: Types, cells: CellOptions, place: Place
) -> TypedTable:
    lists = {name for name, values in columns.items() if name not in types and has_list(values)}
    if lists >= columns.keys():
        lists.clear()  # the first of them is refused
    arrays = {
        name: pa.chunked_array([array(name, values, 0, types.get(name), place)])
        for name, values in columns.items()
        if name not in lists
    }
    return typed(arrays, ColumnOptions(types, options=cells), place, lists)
