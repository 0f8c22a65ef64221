"""One column of values in its canonical form: what type it is, decided by all of its rows.

A column without any value is a category. CSV has no types, so its cells are read as booleans,
numbers or datetimes where *all* of them can be; strings of formats that have types can only become
datetimes. ``types`` of a request overrule all of this.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.errors import FieldError, InvalidData, escape
from app.ml.tables import text_parsing
from app.ml.tables.canonical import (
    WHOLE_BELOW,
    ColumnType,
    as_strings,
    canonical_datetime,
    column_type,
    whole_as_integers,
)
from app.ml.tables.text_parsing import READERS, first_misfit, first_present

Fits = Callable[[str], bool]
Place = Callable[[str, int], tuple[str, str]]
"""``(column, row)`` to how people and programs find the cell: ``("line 3", "/line/3/price")``."""

MAX_CELL_BYTES = 8 * 1024 * 1024
"""Bytes of one text cell."""
_TEXT_WORDS = 5
"""Words that cells have on average where they are text rather than labels."""
_PATTERNS: dict[ColumnType, str] = {
    "boolean": r"^\s*(?i:true|false)\s*$",
    "number": r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$",
    "datetime": r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+(Z|[+-][0-9:]+)?)?\s*$",
}
_READERS_BY_REQUEST: dict[ColumnType, text_parsing.Reader] = {
    "boolean": text_parsing.lenient_booleans,
    "number": text_parsing.numbers,
    "datetime": text_parsing.mixed_datetimes,
}
_NOTATIONS: tuple[tuple[ColumnType, str, str], ...] = (
    (
        "datetime",
        r"^\s*([0-9]{1,4}[./-][0-9]{1,2}([./-][0-9]{2,4})?|[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?)\s*$",
        "write them in ISO 8601, like 2026-11-23",
    ),
    (
        "number",
        r"^\s*[+-]?[€$£]?\s?[0-9][0-9.,' ]*([,' ][0-9]+|[%€$£]|[€$£])\s*$|^\s*[€$£]\s?[0-9.,]+\s*$",
        "write them like 1234.5, without separators or units",
    ),
)
"""``(type, what such cells look like, what to do)``."""
_EXAMPLES: dict[ColumnType, str] = {
    "boolean": "true or false",
    "number": "written like 1234.5, without separators or units",
    "datetime": "an ISO 8601 date like 2026-11-23 or 2026-11-23T09:30:00Z",
}


@dataclass(frozen=True)
class TypedColumn:
    """A canonical column, and what a person should know of how its type was found."""

    values: pa.ChunkedArray
    type: ColumnType
    note: str | None = None


def typed_column(
    name: str,
    column: pa.ChunkedArray,
    requested: ColumnType | None,
    place: Place,
    *,
    has_types: bool,
) -> TypedColumn:
    """Return ``column`` in its canonical form, as ``requested`` or as what all of its values are.

    Raises InvalidData naming the first cell that does not fit, or the Arrow type that no table has.
    """
    column = _plain(name, column, place)
    if column.null_count == len(column):  # the same, whatever a format called it
        column = pc.cast(column, pa.string())
    if pa.types.is_string(column.type):
        _refuse_long(name, column, place)
        if requested is None:
            return _inferred(name, column, place, has_types)
        _refuse_nul(name, column, place)
        return TypedColumn(_parsed(name, column, requested, place), requested)
    kind = column_type(column.type)
    if requested in (None, kind):
        return TypedColumn(column, kind)
    assert requested is not None
    return TypedColumn(_converted(name, column, requested, place), requested)


# ---------------------------------------------------------------- from Arrow's types


def _plain(name: str, column: pa.ChunkedArray, place: Place) -> pa.ChunkedArray:
    """Any of Arrow's types as string, bool, int64, float64, date32 or timestamp."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        _plain(name, pa.chunked_array([], kind.value_type), place)  # or all of it would be unpacked
        return _plain(name, pc.cast(column, kind.value_type), place)
    if pa.types.is_null(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pc.cast(column, pa.string())
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return column
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _decoded(name, column)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _dated(name, column)
    if pa.types.is_integer(kind):
        return _integers(name, column)
    if pa.types.is_decimal(kind) and kind.scale == 0:
        return _integers(name, column)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _canonical_number(name, pc.cast(column, pa.float64()), place)
    raise InvalidData.at(
        f"/{escape(name[:64])}",
        f"column '{name[:64]}' is of the type {str(kind)[:64]}, which no feature can be; "
        "store it as numbers, strings, booleans or timestamps, or leave it out",
        "wrong_type",
    )


def _decoded(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parquet written without logical types says "binary" of its strings."""
    try:
        return pc.cast(column, pa.string())
    except pa.ArrowInvalid as error:
        raise InvalidData.at(
            f"/{escape(name[:64])}",
            f"column '{name[:64]}' holds bytes that are no UTF-8",
            "wrong_type",
        ) from error


def _dated(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return canonical_datetime(column)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:  # the name of a zone
        detail = (
            f"column '{name[:64]}' holds dates outside the years 1 to 9999, or in a zone that "
            "has no name; leave them empty"
        )
        raise InvalidData.at(f"/{escape(name[:64])}", detail, "wrong_type") from error


def _integers(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return pc.cast(column, pa.int64())
    except pa.ArrowInvalid as error:
        detail = f"column '{name[:64]}' holds integers beyond 63 bits; store it as strings"
        raise InvalidData.at(f"/{escape(name[:64])}", detail, "wrong_type") from error


def _canonical_number(name: str, column: pa.ChunkedArray, place: Place) -> pa.ChunkedArray:
    column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
    row = pc.index(pc.is_inf(column), True).as_py()
    if row >= 0:
        where, pointer = place(name, row)
        detail = f"column '{name[:64]}' holds infinity in {where}; make it a number or missing"
        raise InvalidData.at(pointer, detail, "wrong_type")
    return whole_as_integers(column)


def _converted(
    name: str, column: pa.ChunkedArray, requested: ColumnType, place: Place
) -> pa.ChunkedArray:
    """A column that has a type as the one that was requested."""
    kind = column_type(column.type)
    if requested in ("category", "text"):
        return as_strings(column)
    if kind == "boolean" and requested == "number":
        return pc.cast(pc.cast(column, pa.int8()), pa.int64())
    if kind == "number" and requested == "boolean":
        return _parsed(name, pc.cast(column, pa.string()), requested, place)
    raise InvalidData.at(
        f"/types/{escape(name[:64])}",
        f"column '{name[:64]}' is a {kind} and cannot be read as {requested}; "
        f"a {requested} is {_EXAMPLES[requested]}",
        "wrong_type",
    )


# ---------------------------------------------------------------- from strings


def _inferred(name: str, column: pa.ChunkedArray, place: Place, has_types: bool) -> TypedColumn:
    first = first_present(column)
    if first is None:
        return TypedColumn(column, "category")
    candidates: tuple[ColumnType, ...] = ("boolean", "number", "datetime")
    for kind in candidates[2:] if has_types else candidates:
        if re.match(_PATTERNS[kind], first):  # else not all can be
            values = READERS[kind](column)
            if values is not None:
                return TypedColumn(values, kind, _lost_digits(name, values, column))
    return _label_or_text(name, column, place, has_types)


def _parsed(
    name: str, column: pa.ChunkedArray, requested: ColumnType, place: Place
) -> pa.ChunkedArray:
    """Strings as the type that was requested. Raises InvalidData naming the first that is not."""
    if requested in ("category", "text"):
        return column
    read = _READERS_BY_REQUEST[requested]
    values = read(column)
    if values is None:
        row = first_misfit(column, read)
        where, pointer = place(name, row)
        cell = column[row].as_py()
        raise InvalidData(
            detail
            := f"column '{name[:64]}' holds '{cell[:64]}' in {where}, which is no {requested}; "
            f"a {requested} is {_EXAMPLES[requested]}",
            [FieldError(pointer, detail, "wrong_type")],
        )
    return values


def _lost_digits(name: str, values: pa.ChunkedArray, column: pa.ChunkedArray) -> str | None:
    """A warning where integers of 20 digits became floats."""
    if not pa.types.is_floating(values.type):
        return None
    large = pc.greater_equal(pc.abs(values), WHOLE_BELOW)
    if not pc.any(large).as_py():
        return None
    cells = pc.filter(column, large)
    if not pc.any(pc.match_substring_regex(cells, r"^\s*[+-]?[0-9]+\s*$")).as_py():
        return None
    return (
        f"column '{name[:64]}' holds integers that a 64-bit float cannot tell apart; "
        f'send types={{"{name[:64]}":"category"}} to keep every digit'
    )


def cell_too_long(where: str, pointer: str) -> InvalidData:
    """Return the error of a text cell of more than ``MAX_CELL_BYTES``."""
    detail = f"{where} holds a text of more than {MAX_CELL_BYTES >> 20} MiB; shorten it"
    return InvalidData.at(pointer, detail, "too_long")


def _refuse_long(name: str, column: pa.ChunkedArray, place: Place) -> None:
    lengths = pc.binary_length(column)
    if (pc.max(lengths).as_py() or 0) > MAX_CELL_BYTES:
        row = pc.index(pc.greater(lengths, MAX_CELL_BYTES), True).as_py()
        where, pointer = place(name, row)
        raise cell_too_long(f"column '{name[:64]}' in {where}", pointer)


def refuse_beyond(
    name: str, column: pa.ChunkedArray, bounds: tuple[float, float], place: Place
) -> None:
    """Raise InvalidData at the first number that is not within ``bounds``."""
    values = pc.cast(column, pa.float64(), safe=False)
    beyond = pc.or_(pc.less(values, bounds[0]), pc.greater(values, bounds[1]))
    row = pc.index(beyond, True).as_py()
    if row >= 0:
        where, pointer = place(name, row)
        raise InvalidData.at(
            pointer,
            f"column '{name[:64]}' holds numbers too large for float32, the first in {where}; "
            "divide them, or leave the cell empty",
            "out_of_range",
        )


def _refuse_nul(name: str, column: pa.ChunkedArray, place: Place) -> None:
    row = pc.index(pc.match_substring(column, "\0"), True).as_py()
    if row >= 0:
        where, pointer = place(name, row)
        detail = f"column '{name[:64]}' holds a NUL character in {where}; remove it"
        raise InvalidData.at(pointer, detail, "nul")


def _label_or_text(
    name: str, column: pa.ChunkedArray, place: Place, has_types: bool
) -> TypedColumn:
    counted = column.value_counts()
    values, counts = counted.field(0), counted.field(1).to_numpy()
    if pc.any(pc.match_substring(values, "\0")).as_py():
        _refuse_nul(name, column, place)
    present = counts[values.is_valid().to_numpy(zero_copy_only=False)].sum()

    def fits(pattern: str) -> bool:
        mask = pc.fill_null(pc.match_substring_regex(values, pattern), False)
        return bool(2 * counts[mask.to_numpy(zero_copy_only=False)].sum() > present)

    kinds: tuple[ColumnType, ...] = ("number", "datetime")
    for kind in kinds:
        if fits(_PATTERNS[kind]):
            return TypedColumn(column, "category", _almost(name, column, kind, place, has_types))
    if note := _other_notation(name, values, fits):
        return TypedColumn(column, "category", note)
    words = pc.add(pc.count_substring(values, " "), 1)
    wordy = np.dot(pc.fill_null(words, 0).to_numpy(zero_copy_only=False), counts)
    if 2 * len(values) > present and wordy >= _TEXT_WORDS * present:
        return TypedColumn(column, "text")
    return TypedColumn(column, "category")


def _other_notation(name: str, values: pa.Array, fits: Fits) -> str | None:
    """A warning where most cells are numbers or dates, only not as we read them."""
    for kind, pattern, remedy in _NOTATIONS:
        if fits(pattern):
            example = values.filter(pc.match_substring_regex(values, pattern))[0].as_py()
            return (
                f"column '{name[:64]}' is a category, though most of its cells look like {kind}s "
                f"in another notation ('{example[:64]}'); {remedy}"
            )
    return None


def _almost(
    name: str, column: pa.ChunkedArray, kind: ColumnType, place: Place, has_types: bool
) -> str | None:
    """Why a column that is mostly numbers or datetimes is a category."""
    short, remedy = name[:64], f'send types={{"{name[:64]}":"{kind}"}} to make it a {kind}'
    if has_types and kind == "number":
        if text_parsing.numbers(column) is None:
            return None
        return f"column '{short}' holds numbers written as strings and is a category; {remedy}"
    if kind == "datetime" and text_parsing.mixed_datetimes(column) is not None:
        return (
            f"column '{short}' is a category, since some of its datetimes have a zone and others "
            f"have none; {remedy} in UTC"
        )
    row = first_misfit(column, READERS[kind])
    where, _ = place(name, row)
    cell = column[row].as_py()[:64]
    if kind == "number" and text_parsing.numbers(column) is not None:
        return (
            f"column '{short}' is a category, since {where} holds '{cell}' with leading zeros; "
            f"{remedy}"
        )
    return (
        f"column '{short}' is a category although most of its cells are {kind}s: {where} holds "
        f"'{cell}'; mend that cell, or leave it empty where the value is unknown"
    )
