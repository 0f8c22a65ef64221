"""The rows of a request, as JSON or as a table, into the matrix that a model reads."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from app.errors import InvalidRequest, TooLarge
from app.ml.features.feature_tables import no_rows
from app.ml.features.places import Place, in_columns, in_lists, in_rows

if TYPE_CHECKING:
    from app.ml.column_types.fitted import Matrix
    from app.ml.features.feature_tables import FeatureTables
    from app.ml.inference.predictor import Predictor

LAYOUTS = ("rows", "columns", "instances")
"""How a JSON request may lay out its rows: as objects, as named lists, or as lists of values."""
_MOST_CELLS = 64 * 1024 * 1024
"""Numbers in a matrix that is made at once: 256 MiB of float32."""


def layout_of(body: Any) -> tuple[str, Any, str]:
    """Return ``(layout, value, pointer)`` of a request's body: one of LAYOUTS, what stands under
    it, and where; an array of objects is rows.

    Raises InvalidRequest.
    """
    if type(body) is dict and len(body) == 1:
        key, value = next(iter(body.items()))
        if key in LAYOUTS and value and type(value) is (dict if key == "columns" else list):
            return key, value, f"/{key}"
    if type(body) is list and body and type(body[0]) is dict:
        return "rows", body, ""
    raise _wrong_layout(body)


def _wrong_layout(body: Any) -> InvalidRequest:
    if not isinstance(body, dict) or sum(key in body for key in LAYOUTS) != 1:
        return InvalidRequest.at(
            "",
            'send one object with "rows", "columns" or "instances", '
            'for example {"rows": [{"x": 0.5}]}',
        )
    for key in body:
        if key not in LAYOUTS:
            return InvalidRequest.at(f"/{key[:64]}", f"unknown field '{key[:64]}'; leave it out")
    key, value = next(iter(body.items()))
    if not isinstance(value, dict if key == "columns" else list):
        kind = "an object of lists" if key == "columns" else "a list"
        return InvalidRequest.at(f"/{key}", f'"{key}" wants {kind}')
    return no_rows(f"/{key}")


def matrix_of(
    predictor: "Predictor",
    layout: str,
    value: Any,
    max_rows: int,
    pointer: str | None = None,
    tables: "FeatureTables | None" = None,
) -> "Matrix":
    """Return what the model reads of JSON rows, ``(rows, inputs)``.

    ``pointer`` is where ``value`` stands in the request, if not under its layout's name; ``tables``
    makes tables of it, by default those of the predictor. Raises InvalidRequest, InvalidData, or
    TooLarge beyond ``max_rows``.
    """
    pointer = f"/{layout}" if pointer is None else pointer
    tables = tables or predictor.tables
    if layout != "columns":
        limit_rows(len(value), max_rows, pointer)
        if len(value) == 1:
            x = one_row_matrix(predictor, layout, value[0])
            if x is not None:
                return x
    if layout == "rows":
        table, place = tables.of_rows(value, pointer), in_rows(pointer)
    elif layout == "columns":
        table, place = tables.of_columns(value, pointer), in_columns(pointer)
        limit_rows(table.num_rows, max_rows, pointer)
    else:
        table, place = tables.of_instances(value, pointer), in_lists(tables.names, pointer)
    return encode_table(predictor, table, pointer, place)


def one_row_matrix(predictor: "Predictor", layout: str, row: Any) -> "Matrix | None":
    """Return one row as ``(1, inputs)`` without building a table; ``None`` where only the table
    path can read it, or say what is wrong with it."""
    if layout == "rows":
        return predictor.row.of_object(row)
    return predictor.row.of_values(row) if type(row) is list else None


def encode_table(predictor: "Predictor", table: pa.Table, pointer: str, place: Place) -> "Matrix":
    """Return what the model reads of a table that came as a whole, ``(rows, inputs)``.

    Raises InvalidData at the ``place`` of a value, or TooLarge at ``pointer`` where memory has no
    room for it: a short string may become a thousand numbers.
    """
    width = predictor.card.preprocessing.features.width
    if table.num_rows * width > _MOST_CELLS:
        raise TooLarge.at(
            pointer,
            f"the model reads {width} numbers of each row, which is too much for more than "
            f"{_MOST_CELLS // width} rows at once; send them in parts, or as a file (CSV, Arrow)",
        )
    return predictor.encode(table, place)


def limit_rows(rows: int, max_rows: int, pointer: str) -> None:
    """Raise TooLarge at ``pointer`` where a request has more rows than are allowed."""
    if rows > max_rows:
        raise TooLarge.at(
            pointer,
            f"more than {max_rows} rows at once; send them in parts, or raise "
            "FITSERVE_MAX_PREDICT_ROWS",
        )
