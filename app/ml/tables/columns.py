"""One column of values in its canonical form: what type it is, decided by all of its rows.

A column without any value is a category. CSV has no types, so its cells are read as booleans,
numbers or datetimes where *all* of them can be; strings of formats that have types can only become
datetimes. ``types`` of a request overrule all of this.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from app.errors import FieldError, InvalidData, escape
from app.ml.column_types.canonical import (
    WHOLE_BELOW,
    TypeName,
    as_strings,
    canonical_datetime,
    column_type,
    whole_as_integers,
)
from app.ml.column_types.cells import Found, Open
from app.ml.column_types.notations.missing import SaidMissing, is_marker
from app.ml.column_types.notations.notation import AS_USUAL, Cells, Decimal, Notation
from app.ml.column_types.registry import COLUMN_TYPES
from app.ml.column_types.text_parsing import first_misfit
from app.ml.tables import notes, strings
from app.ml.tables.labels import Place, label_or_text
from app.ml.tables.mixtures import is_mixture, parts, several_types

MAX_CELL_BYTES = 8 * 1024 * 1024
"""Bytes of one text cell."""


_OF_JSON = "make every value a {kind}, or null where it is unknown"


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
    said = SaidMissing(cells.options.na_values)
    if not said:
        return _typed(name, column, requested, place, has_types=has_types, cells=cells)
    if has_types:  # as Arrow does in CSV
        column = _without_marks(column, pa.array(said.texts, pa.string()))
    found = _typed(name, column, requested, place, has_types=has_types, cells=cells)
    return _without(found, said) if found.type == "number" and said.numbers else found


def _without_marks(column: pa.ChunkedArray, marks: pa.Array) -> pa.ChunkedArray:
    """Have strings be missing that the client says mean so."""
    mixed = is_mixture(column.type)
    if not mixed and not pa.types.is_string(column.type):
        return column
    gone = is_marker(parts(column)[0] if mixed else column, marks).fill_null(False)
    return pc.if_else(gone, pa.scalar(None, column.type), column)


def _without(found: TypedColumn, said: SaidMissing) -> TypedColumn:
    """Have numbers be missing that the client says mean so, however they are written."""
    values = pc.cast(found.values, pa.float64(), safe=False)
    gone = pc.is_in(values, value_set=pa.array(said.numbers, pa.float64()))
    counted = pc.value_counts(values.filter(gone))
    if not len(counted):
        return found
    counts = {f"{item['values']:g}": item["counts"] for item in counted.to_pylist()}
    rest = pc.if_else(gone, pa.scalar(None, found.values.type), found.values)
    return replace(found, values=rest, missing_as=found.missing_as | counts)


def _typed(
    name: str,
    column: pa.ChunkedArray,
    requested: TypeName | None,
    place: Place,
    *,
    has_types: bool,
    cells: Cells,
) -> TypedColumn:
    if is_mixture(column.type):
        return _of_mixture(name, column, requested, place, cells)
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
        note, missing_as = notes.changed(name, given, column)
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


_READ = (
    *(pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating),
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_decimal),
    *(pa.types.is_date, pa.types.is_timestamp, pa.types.is_time, pa.types.is_duration),
)
"""What ``_plain`` takes besides dictionaries of these."""
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def is_no_value(column: pa.ChunkedArray) -> bool:
    """Return whether cells of this column are no single value, or nobody knows what they say."""
    kind = column.type
    if is_mixture(kind):
        return False
    if pa.types.is_dictionary(kind):
        return any(is_no_value(pa.chunked_array([chunk.dictionary])) for chunk in column.chunks)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            pc.cast(column, pa.string())
        except pa.ArrowInvalid:
            return True
    return not any(is_kind(kind) for is_kind in _READ)


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


def _of_mixture(
    name: str,
    column: pa.ChunkedArray,
    requested: TypeName | None,
    place: Place,
    cells: Cells,
) -> TypedColumn:
    """Values of several types of JSON: numbers beside strings where all of these can be read as
    numbers or as missing, booleans beside markers of missing values. Raises InvalidData."""
    texts, numbers = parts(column)
    _refuse_long(name, texts, place)
    kind: TypeName = "boolean" if numbers.null_count == len(numbers) else "number"
    ends = pc.min_max(numbers)
    if max(-(ends["min"].as_py() or 0), ends["max"].as_py() or 0) >= WHOLE_BELOW:
        if requested is None:  # floats cannot tell such integers apart
            return _inferred(name, texts, place, False, cells)
        return _parsed(name, texts, requested, place, cells)
    if requested not in (None, kind):
        return _parsed(name, texts, requested, place, cells)
    written = texts
    if kind == "number":  # which says nothing of how the strings are written
        written = pc.if_else(numbers.is_valid(), pa.scalar("0"), texts)
    if requested is None:
        found = strings.recognised(written, cells, has_types=False)
        share = (
            isinstance(found, Found) and found.notation and found.notation.unit in ("%", "\u2030")
        )
        if not isinstance(found, Found) or found.kind != kind or share:  # 0.1 may be 10%
            raise several_types(name, texts, numbers, place)
        read = _of_found(name, found, written, place, cells)
    else:
        read = _parsed(name, written, kind, place, cells, _OF_JSON.format(kind=kind))
    if kind == "boolean":
        return read
    values = pc.coalesce(numbers, pc.cast(read.values, pa.float64(), safe=False))
    return replace(read, values=_canonical_number(name, values, place, lenient=True))


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
        note = notes.how_to_decide(name, found)
        return TypedColumn(column, "category", note, undecided=found.undecided)

    def explain() -> str | None:
        if not cells.explains:
            return None
        nearly = strings.nearly(column, cells, has_types=has_types)
        return nearly and notes.misfits(name, nearly, place)

    labels = label_or_text(name, column, place, has_types, explain)
    notation = Notation(folded=True) if labels.folded else None
    return TypedColumn(labels.values, labels.kind, labels.note, notation)


def _of_found(
    name: str, found: Found, column: pa.ChunkedArray, place: Place, cells: Cells | None = None
) -> TypedColumn:
    """``cells``: what was known of them where nothing was asked for."""
    note = notes.taken_as_missing(name, found, column, place)
    if cells is not None:
        note = "; ".join(filter(None, [note, *notes.of_inferred(name, found, column, cells)]))
    return TypedColumn(
        found.values,
        found.kind,
        note or None,
        found.notation,
        found.missing_as,
        found.decimal,
        found.undecided,
    )


def _parsed(
    name: str,
    column: pa.ChunkedArray,
    requested: TypeName,
    place: Place,
    cells: Cells,
    remedy: str = "a {kind} is {written}",
) -> TypedColumn:
    """Strings as the type that was requested. Raises InvalidData naming the first that is not."""
    if requested in ("category", "text"):
        return TypedColumn(column, requested)
    found = strings.read_as(column, requested, cells)
    if isinstance(found, Found):
        return _of_found(name, found, column, place)
    if isinstance(found, Open):
        option = "date_order" if found.undecided == "date_order" else "decimal"
        detail = notes.how_to_decide(name, found).replace("is a category", "cannot be read")
        raise InvalidData.at(f"/{option}", detail, "undecided")

    def read(prefix: pa.ChunkedArray) -> pa.ChunkedArray | None:
        return None if strings.read_as(prefix, requested, cells) is None else prefix

    row = first_misfit(column, read)
    where, pointer = place(name, row)
    cell = column[row].as_py()
    raise InvalidData(
        detail := f"column '{name[:64]}' holds '{cell[:64]}' in {where}, which is no {requested}; "
        f"{remedy.format(kind=requested, written=COLUMN_TYPES[requested].written)}; "
        "on_error=missing takes such cells as missing",
        [FieldError(pointer, detail, "wrong_type")],
    )


def cell_too_long(where: str, pointer: str) -> InvalidData:
    """Return the error of a text cell of more than ``MAX_CELL_BYTES``."""
    detail = f"{where} holds a text of more than {MAX_CELL_BYTES >> 20} MiB; shorten it"
    return InvalidData.at(pointer, detail, "too_long")


def _refuse_long(name: str, column: pa.ChunkedArray, place: Place) -> None:
    if column.nbytes <= MAX_CELL_BYTES:
        return
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
