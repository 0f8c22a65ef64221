"""One column of values in its canonical form: what type it is, decided by all of its rows.

A column without any value is a category. CSV has no types, so its cells are read as booleans,
numbers or datetimes where *all* of them can be; strings of formats that have types can only become
datetimes. ``types`` of a request overrule all of this.
"""

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from app.errors import FieldError, InvalidData, escape
from app.ml.column_types.arrays import matches
from app.ml.column_types.canonical import (
    WHOLE_BELOW,
    TypeName,
    as_strings,
    canonical_datetime,
    column_type,
    whole_as_integers,
)
from app.ml.column_types.cells import Found, Open
from app.ml.column_types.notations.notation import AS_USUAL, Cells, Decimal, Notation
from app.ml.column_types.registry import COLUMN_TYPES
from app.ml.column_types.text_parsing import first_misfit
from app.ml.tables import strings
from app.ml.tables.labels import Place, label_or_text, spot

MAX_CELL_BYTES = 8 * 1024 * 1024
"""Bytes of one text cell."""
_MOST_LISTED = 5
"""Markers of missing values that a warning names."""


@dataclass(frozen=True)
class TypedColumn:
    """A canonical column, and what a person should know of how its type was found."""

    values: pa.ChunkedArray
    type: TypeName
    note: str | None = None
    notation: Notation | None = None
    """How its cells are written; None: plainly."""
    missing_as: dict[str, int] = field(default_factory=dict)
    """Cells that were taken as missing, with their counts."""
    decimal: Decimal | None = None
    """What it says of the decimal mark of its file."""
    undecided: Literal["decimal", "date_order"] | None = None
    """What other columns of the file may decide."""


def typed_column(
    name: str,
    column: pa.ChunkedArray,
    requested: TypeName | None,
    place: Place,
    *,
    has_types: bool,
    cells: Cells = AS_USUAL,
) -> TypedColumn:
    """Return ``column`` in its canonical form, as ``requested`` or as what all of its values are;
    ``cells`` is what is known of how they are written.

    Raises InvalidData naming the first cell that does not fit, or the Arrow type that no table has.
    """
    given = column
    column = _plain(name, column, place, lenient=requested is None)
    if column.null_count == len(column):  # the same, whatever a format called it
        column = pc.cast(column, pa.string())
    if pa.types.is_string(column.type):
        _refuse_long(name, column, place)
        if requested is None:
            return _inferred(name, column, place, has_types, cells)
        _refuse_nul(name, column, place)
        return _parsed(name, column, requested, place, cells)
    kind = column_type(column.type)
    if requested in (None, kind):
        note, missing_as = _changed(name, given, column)
        counts_seconds = pa.types.is_duration(given.type) or pa.types.is_time(given.type)
        notation = Notation(unit="s") if counts_seconds else None
        return TypedColumn(column, kind, note, notation, missing_as)
    assert requested is not None
    return TypedColumn(_converted(name, column, requested, place, cells), requested)


# ---------------------------------------------------------------- from Arrow's types


def _plain(
    name: str, column: pa.ChunkedArray, place: Place, *, lenient: bool = False
) -> pa.ChunkedArray:
    """Any of Arrow's types as string, bool, int64, float64, date32 or timestamp; ``lenient`` makes
    infinity a missing value, and integers beyond 63 bits floats."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        _plain(name, pa.chunked_array([], kind.value_type), place)  # or all of it would be unpacked
        return _plain(name, pc.cast(column, kind.value_type), place, lenient=lenient)
    if pa.types.is_null(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pc.cast(column, pa.string())
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return column
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _decoded(name, column)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _dated(name, column)
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        return _seconds(column)
    if pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0):
        return _integers(name, column, lenient=lenient)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _canonical_number(name, pc.cast(column, pa.float64()), place, lenient=lenient)
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


_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def is_no_value(column: pa.ChunkedArray) -> bool:
    """Return whether cells of this column are no single value, or nobody knows what they say."""
    kind = column.type
    if pa.types.is_dictionary(kind) and not pa.types.is_string(kind.value_type):
        return any(is_no_value(pa.chunked_array([chunk.dictionary])) for chunk in column.chunks)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            pc.cast(column, pa.string())
        except pa.ArrowInvalid:
            return True
    return bool(pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind))


def _seconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Durations and times of day as seconds."""
    counts = pc.cast(
        column.cast(pa.int32() if pa.types.is_time32(column.type) else pa.int64()), pa.float64()
    )
    return whole_as_integers(pc.divide(counts, float(_PER_SECOND[column.type.unit])))


def _integers(name: str, column: pa.ChunkedArray, *, lenient: bool) -> pa.ChunkedArray:
    try:
        return pc.cast(column, pa.int64())
    except pa.ArrowInvalid as error:
        if lenient:
            return pc.cast(column, pa.float64(), safe=False)
        detail = f"column '{name[:64]}' holds integers beyond 63 bits; store it as strings"
        raise InvalidData.at(f"/{escape(name[:64])}", detail, "wrong_type") from error


def _canonical_number(
    name: str, column: pa.ChunkedArray, place: Place, *, lenient: bool
) -> pa.ChunkedArray:
    gone = pc.invert(pc.is_finite(column)) if lenient else pc.is_nan(column)
    column = pc.if_else(gone, pa.scalar(None, pa.float64()), column)
    row = pc.index(pc.is_inf(column), True).as_py()
    if row >= 0:
        where, pointer = place(name, row)
        detail = f"column '{name[:64]}' holds infinity in {where}; make it a number or missing"
        raise InvalidData.at(pointer, detail, "wrong_type")
    return whole_as_integers(column)


def _changed(
    name: str, given: pa.ChunkedArray, column: pa.ChunkedArray
) -> tuple[str | None, dict[str, int]]:
    """A warning of values that are no longer what they were, and what was taken as missing."""
    if pa.types.is_floating(given.type):
        infinite = pc.sum(pc.cast(pc.is_inf(given), pa.int64())).as_py() or 0
        if infinite:
            cells = (
                "cell holds infinity and was" if infinite == 1 else "cells hold infinity and were"
            )
            return (
                f"column '{name[:64]}': {infinite} {cells} taken as missing",
                {"inf": infinite},
            )
    if pa.types.is_integer(given.type) and pa.types.is_floating(column.type):
        return _too_many_digits(name), {}
    return None, {}


def _too_many_digits(name: str) -> str:
    return (
        f"column '{name[:64]}' holds integers that a 64-bit float cannot tell apart; "
        f'send types={{"{name[:64]}":"category"}} to keep every digit'
    )


def _converted(
    name: str, column: pa.ChunkedArray, requested: TypeName, place: Place, cells: Cells
) -> pa.ChunkedArray:
    """A column that has a type as the one that was requested."""
    kind = column_type(column.type)
    if requested in ("category", "text"):
        return as_strings(column)
    if kind == "boolean" and requested == "number":
        return pc.cast(pc.cast(column, pa.int8()), pa.int64())
    if kind == "number" and requested in ("boolean", "datetime"):
        return _parsed(name, pc.cast(column, pa.string()), requested, place, cells).values
    raise InvalidData.at(
        f"/types/{escape(name[:64])}",
        f"column '{name[:64]}' is a {kind} and cannot be read as {requested}; "
        f"a {requested} is {COLUMN_TYPES[requested].written}",
        "wrong_type",
    )


# ---------------------------------------------------------------- from strings


def _inferred(
    name: str, column: pa.ChunkedArray, place: Place, has_types: bool, cells: Cells
) -> TypedColumn:
    if column.null_count == len(column):
        return TypedColumn(column, "category")
    found = strings.recognised(column, cells, has_types=has_types)
    if isinstance(found, Found):
        return _of_found(name, found, column, place, cells)
    _refuse_nul(name, column, place)
    if isinstance(found, Open):
        note = _how_to_decide(name, found)
        return TypedColumn(column, "category", note, undecided=found.undecided)
    labels = label_or_text(name, column, place, has_types)
    notation = Notation(folded=True) if labels.folded else None
    return TypedColumn(labels.values, labels.kind, labels.note, notation)


def _of_found(
    name: str, found: Found, column: pa.ChunkedArray, place: Place, cells: Cells | None = None
) -> TypedColumn:
    """``cells``: what was known of them where nothing was asked for."""
    notes = [_taken_as_missing(name, found, column, place)]
    if cells is not None:
        lost = _lost_digits(name, found.values, column)
        notes = [lost, *notes, _read_by_default(name, found, cells), _may_be_dates(name, found)]
    return TypedColumn(
        found.values,
        found.kind,
        "; ".join(filter(None, notes)) or None,
        found.notation,
        found.missing_as,
        found.decimal,
        found.undecided,
    )


def _taken_as_missing(name: str, found: Found, column: pa.ChunkedArray, place: Place) -> str | None:
    """A warning of the cells that were taken as missing."""
    if not found.missing_as:
        return None
    gone = pc.and_(column.is_valid(), found.values.is_null())
    where = spot(place, name, pc.index(gone, True).as_py())
    most = sorted(found.missing_as.items(), key=lambda item: -item[1])
    listed = ", ".join(f"'{cell}' {count}" for cell, count in most[:_MOST_LISTED])
    more = f" and {len(most) - _MOST_LISTED} others" if len(most) > _MOST_LISTED else ""
    total = sum(found.missing_as.values())
    cells = "cell was" if total == 1 else "cells were"
    return (
        f"column '{name[:64]}' is a {found.kind}: {total} {cells} taken as missing "
        f"({listed}{more}), the first in {where}; "
        f'types={{"{name[:64]}":"category"}} keeps them'
    )


def _read_by_default(name: str, found: Found, cells: Cells) -> str | None:
    if found.undecided is None or cells.evidence.delimiter != ";":  # which goes with commas
        return None
    return (
        f"every dot in the numbers of column '{name[:64]}' stands before exactly three digits, and "
        "was read as a decimal point; send decimal=, where it separates thousands"
    )


def _may_be_dates(name: str, found: Found) -> str | None:
    """A warning of few numbers like 20210301, which are dates beyond doubt where there are more."""
    if not pa.types.is_integer(found.values.type) or found.notation is not None:
        return None
    ends = pc.min_max(found.values)
    if not 19000101 <= (ends["min"].as_py() or 0) <= ends["max"].as_py() <= 21991231:
        return None
    values = found.values.drop_null().to_numpy()
    months, days = values // 100 % 100, values % 100
    if not ((months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)).all():
        return None
    return (
        f"column '{name[:64]}' is a number, though it may hold dates like {values[0]}; "
        f'send types={{"{name[:64]}":"datetime"}} where it does'
    )


def _how_to_decide(name: str, found: Open) -> str:
    """Why a column of numbers or dates is a category, and what would make it one of them."""
    short, example = name[:64], found.example
    if found.undecided == "date_order":
        return (
            f"column '{short}' is a category: nothing says whether '{example}' begins with the day "
            "or the month; send date_order=dmy or date_order=mdy"
        )
    return (
        f"column '{short}' is a category: nothing says whether the mark in '{example}' is a "
        "decimal or separates thousands; send decimal=. or decimal=,"
    )


def _parsed(
    name: str, column: pa.ChunkedArray, requested: TypeName, place: Place, cells: Cells
) -> TypedColumn:
    """Strings as the type that was requested. Raises InvalidData naming the first that is not."""
    if requested in ("category", "text"):
        return TypedColumn(column, requested)
    found = strings.read_as(column, requested, cells)
    if isinstance(found, Found):
        return _of_found(name, found, column, place)
    if isinstance(found, Open):
        option = "date_order" if found.undecided == "date_order" else "decimal"
        detail = _how_to_decide(name, found).replace("is a category", "cannot be read")
        raise InvalidData.at(f"/{option}", detail, "undecided")

    def read(prefix: pa.ChunkedArray) -> pa.ChunkedArray | None:
        return None if strings.read_as(prefix, requested, cells) is None else prefix

    row = first_misfit(column, read)
    where, pointer = place(name, row)
    cell = column[row].as_py()
    raise InvalidData(
        detail := f"column '{name[:64]}' holds '{cell[:64]}' in {where}, which is no {requested}; "
        f"a {requested} is {COLUMN_TYPES[requested].written}; on_error=missing takes such cells as "
        "missing",
        [FieldError(pointer, detail, "wrong_type")],
    )


def _lost_digits(name: str, values: pa.ChunkedArray, column: pa.ChunkedArray) -> str | None:
    """A warning where integers of 20 digits became floats."""
    if not pa.types.is_floating(values.type):
        return None
    large = pc.greater_equal(pc.abs(values), WHOLE_BELOW)
    if not pc.any(large).as_py():
        return None
    cells = pc.filter(column, large)
    if not pc.any(matches(cells, r"^\s*[+-]?[0-9]+\s*$")).as_py():
        return None
    return _too_many_digits(name)


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
