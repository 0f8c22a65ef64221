"""Columns of strings: what type they are, decided by all of their cells, and how they are written.

Plain cells (JSON's numbers, ISO 8601, true and false) are read by Arrow as they are. Others are
looked at cell by distinct cell, by ``app.ml.tables.notations``; a column is read whole or not at
all, but for markers of missing values, which are told with their counts.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.tables import text_parsing
from app.ml.tables.canonical import ColumnType, canonical_datetime, whole_as_integers
from app.ml.tables.notations import datetimes, missing, numbers
from app.ml.tables.notations.notation import Cells, Decimal, Notation, Undecided
from app.ml.tables.text_parsing import first_present

PATTERNS: dict[ColumnType, str] = {
    "boolean": r"^\s*(?i:true|false)\s*$",
    "number": r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$",
    "datetime": r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+(Z|[+-][0-9:]+)?)?\s*$",
}
_DIGIT = "[0-9\u221e]"
_LOOKED_AT = 400
"""Cells of which most hold a digit, and all can be read, where a column is of numbers or dates."""
_MOST_MARKERS = 100
"""Different cells that are told to have been taken as missing."""
_MOST_TRIED = 20_000
"""Different cells among which those are looked for that cannot be read."""
_REPEATS_WITHIN = 10_000
"""Cells at the head of a column that tell whether they repeat."""
_ANY: dict[ColumnType, str] = {
    "boolean": r"^(?i:true|false|t|f|yes|no|y|n|1|0)$",
    "number": numbers.ANY,
    "datetime": datetimes.ANY,
}
"""How any cell of a type begins that is asked for."""
_COMPACT_DATE = r"^(19|20|21)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])$"


@dataclass(frozen=True)
class Found:
    """A column that was read as the type ``kind``."""

    kind: ColumnType
    values: pa.ChunkedArray
    notation: Notation | None = None
    """None where it is written plainly."""
    missing_as: dict[str, int] = field(default_factory=dict)
    """Cells that were taken as missing, with their counts."""
    decimal: Decimal | None = None
    """What the column says of the decimal mark of its file."""
    undecided: Literal["decimal", "date_order"] | None = None
    """What another column may decide yet; until then the reading is the usual one."""


@dataclass(frozen=True)
class Open:
    """A column that can be read in two ways, and nothing in it says which."""

    undecided: Literal["decimal", "date_order"]
    example: str


class _Distinct:
    """The distinct cells of a column, and the way back to its rows; all of them where they repeat
    so little that finding out would cost more than it saves."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        head = column.slice(0, _REPEATS_WITHIN)
        repeats = 2 * pc.count_distinct(head).as_py() <= len(head)
        whole = column.combine_chunks()
        self._places: pa.Array | None = None
        self.cells: pa.Array = whole
        if repeats:
            encoded = whole.dictionary_encode()
            self.cells, self._places = encoded.dictionary, encoded.indices

    @classmethod
    def of_cells(cls, cells: pa.Array) -> "_Distinct":
        """Return a column of these cells, which are known to be distinct."""
        made = cls.__new__(cls)
        made.cells, made._places = cells, None
        return made

    def with_cells(self, cells: pa.Array) -> "_Distinct":
        """Return the column with other cells in place of its own."""
        made = self.of_cells(cells)
        made._places = self._places
        return made

    def counted(self, which: NDArray[np.bool_]) -> dict[str, int]:
        """How often each of ``which`` cells, ``(cells,)``, stands in the column; the first 100."""
        found: dict[str, int] = {}
        counts = None
        if self._places is not None:
            counts = np.bincount(self._places.drop_null(), minlength=len(self.cells))
        for place in np.flatnonzero(which):
            cell = self.cells[int(place)].as_py()[:64]
            if cell in found or len(found) < _MOST_MARKERS:
                found[cell] = found.get(cell, 0) + (1 if counts is None else int(counts[place]))
        return found

    def rows(self, values: pa.Array) -> pa.ChunkedArray:
        """``values`` of the distinct cells as a column of all rows."""
        taken = values if self._places is None else values.take(self._places)
        return pa.chunked_array([taken])


# ---------------------------------------------------------------- the type is not known


def recognised(column: pa.ChunkedArray, known: Cells, *, has_types: bool) -> Found | Open | None:
    """Return a column of strings as booleans, numbers or datetimes; None where it is of strings.

    ``has_types``: its format has types, so that strings of it can only be dates, unless the client
    says how its numbers are written.
    """
    first = first_present(column) or ""
    said = known.options.decimal is not None or known.options.thousands is not None
    kinds: tuple[ColumnType, ...] = ("boolean", "number", "datetime")
    if has_types:
        kinds = kinds[1:] if said else kinds[2:]
    for kind in kinds:
        if re.match(PATTERNS[kind], first):  # else not all can be
            values = text_parsing.READERS[kind](column)
            if values is not None:
                return _plain(column, kind, values, known)
    sample = _sample(column)
    if not _mostly_digits(sample, known):
        return None
    readers: tuple[_Read, ...] = (_numbers, _datetimes, _clock)
    if has_types:
        readers = readers[:2] if said else readers[1:2]
    distinct = _Distinct(sample)
    readers = tuple(read for read in readers if read(distinct, known, False) is not None)
    if readers and len(sample) < len(column):
        distinct = _Distinct(column)
    return _first_found(readers, distinct, known, asked=False)


def _plain(
    column: pa.ChunkedArray, kind: ColumnType, values: pa.ChunkedArray, known: Cells
) -> Found:
    """Numbers that Arrow reads may yet be meant otherwise: 1.037 for a thousand, 20210301."""
    if kind != "number":
        return Found(kind, values)
    if pa.types.is_integer(values.type):
        head = column.slice(0, _LOOKED_AT)
        if pc.all(pc.match_substring_regex(head, _COMPACT_DATE), min_count=0).as_py():
            distinct = _Distinct(column)
            if (dates := _compact(distinct, distinct.cells, {})) is not None:
                return dates
        return Found(kind, values)
    said = "," in (known.evidence.decimal, known.options.decimal)
    said = said or known.options.thousands == "."
    if known.evidence.delimiter in (",", None) and not said:
        return Found(kind, values, decimal=".")
    if not numbers.looks_like_thousands(column):
        return Found(kind, values, decimal=".")
    decimal = known.options.decimal or known.evidence.decimal
    if decimal == "," or known.options.thousands == ".":
        notation = Notation(decimal=",", thousands=".")
        distinct = _Distinct(column)
        read = numbers.read(distinct.cells, notation)
        return Found(kind, whole_as_integers(distinct.rows(read)), notation, decimal=",")
    return Found(kind, values, undecided=None if decimal == "." else "decimal")


def _sample(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return some of the cells, from all over the column: looking at each costs seconds where they
    are many, and few columns of strings are numbers or dates."""
    if column.null_count:
        column = column.drop_null()
    places = np.linspace(0, len(column) - 1, min(len(column), _LOOKED_AT)).astype(np.int64)
    return column.take(places)


def _mostly_digits(sample: pa.ChunkedArray, known: Cells) -> bool:
    """Whether most of the cells that mark no missing value hold a digit."""
    digits = pc.match_substring_regex(sample, _DIGIT)
    marks = pc.or_(
        missing.is_marker(sample, missing.markers("number", known.options.na_values)),
        missing.is_marker(sample, missing.markers("datetime")),
    )
    some, none = (
        pc.sum(pc.cast(mask, pa.int64())).as_py() or 0
        for mask in (digits, pc.and_not(marks, digits))
    )
    return bool(some and 2 * some > len(sample) - none)


# ---------------------------------------------------------------- it is asked for


def read_as(column: pa.ChunkedArray, kind: ColumnType, known: Cells) -> Found | Open | None:
    """Return a column of strings as ``kind``; None where a cell is no such value."""
    plainly = {
        "boolean": text_parsing.lenient_booleans,
        "number": text_parsing.numbers,
        "datetime": text_parsing.mixed_datetimes,
    }[kind]
    commas = kind == "number" and _means_commas(known, column)
    if not commas and not known.options.date_format and (values := plainly(column)) is not None:
        return Found(kind, values)
    distinct = _Distinct(column)
    readers: tuple[_Read, ...] = {
        "boolean": (_booleans,),
        "number": (_numbers, _clock),
        "datetime": (_datetimes,),
    }[kind]
    found = _first_found(readers, distinct, known, asked=True)
    if isinstance(found, Found):
        return found
    if commas and (values := plainly(column)) is not None:
        return Found(kind, values)
    if found is None and known.options.on_error == "missing":
        return _without_misfits(distinct, kind, readers, known)
    return found


_EMPTY = {"boolean": pa.bool_(), "number": pa.int64(), "datetime": pa.date32()}


def _without_misfits(
    distinct: "_Distinct", kind: ColumnType, readers: "tuple[_Read, ...]", known: Cells
) -> Found | Open | None:
    """Return the column with the cells missing that cannot be read; None where the others cannot
    be read together, or too many would have to be tried."""

    def reads(cells: pa.Array) -> bool:
        return _first_found(readers, _Distinct.of_cells(cells), known, asked=True) is not None

    begins = pc.match_substring_regex(pc.utf8_trim_whitespace(distinct.cells), _ANY[kind])
    odd = pc.invert(begins).fill_null(False).to_numpy(zero_copy_only=False).copy()
    places = np.flatnonzero(begins.fill_null(False).to_numpy(zero_copy_only=False))
    if len(places) > _MOST_TRIED:
        return None
    odd[_unreadable(distinct.cells, places, reads)] = True
    gone = distinct.counted(odd)
    rest = distinct.with_cells(
        pc.if_else(pa.array(odd), pa.scalar(None, pa.string()), distinct.cells)
    )
    if rest.cells.null_count == len(rest.cells):
        nothing = pa.nulls(len(rest.cells), _EMPTY[kind])
        return Found(kind, distinct.rows(nothing), None, gone)
    found = _first_found(readers, rest, known, asked=True)
    return replace(found, missing_as=found.missing_as | gone) if isinstance(found, Found) else found


def _unreadable(
    cells: pa.Array, places: NDArray[np.int64], reads: Callable[[pa.Array], bool]
) -> NDArray[np.int64]:
    """Return those of ``places`` whose cell cannot be read by itself, by halving."""
    if not len(places) or reads(cells.take(pa.array(places))):
        return places[:0]
    if len(places) == 1:
        return places
    half = len(places) // 2
    parts = (_unreadable(cells, part, reads) for part in (places[:half], places[half:]))
    return np.concatenate([*parts])


def _means_commas(known: Cells, column: pa.ChunkedArray) -> bool:
    """Whether a dot would not be a decimal. What a model has learnt does not hold for a file with
    commas between its cells and none in these: such is written by a program, plainly."""
    if known.options.decimal is not None:
        return known.options.decimal == ","
    if known.options.thousands is not None:
        return known.options.thousands == "."
    if known.notation is not None:
        if known.evidence.delimiter == "," and not _holds(column, ","):
            return False
        return known.notation.decimal == "," or known.notation.thousands == "."
    return known.evidence.decimal == ","


def _holds(column: pa.ChunkedArray, mark: str) -> bool:
    return bool(pc.any(pc.match_substring(column, mark)).as_py())


# ---------------------------------------------------------------- by distinct cells

_Read = Callable[[_Distinct, Cells, bool], Found | Open | None]


def _first_found(
    readers: Sequence[_Read], distinct: _Distinct, known: Cells, *, asked: bool
) -> Found | Open | None:
    """Return what the first of ``readers`` reads that can, else what the first leaves open."""
    left_open: Open | None = None
    for read in readers:
        found = read(distinct, known, asked)
        if isinstance(found, Found):
            return found
        left_open = left_open or found
    return left_open


def _set_apart(
    distinct: _Distinct, among: str, known: Cells
) -> tuple[pa.Array, dict[str, int]] | None:
    """Return the cells with those null that mark a missing value, and these with their counts;
    None where no others are left."""
    options = known.options
    marks = missing.is_marker(
        distinct.cells, missing.markers(among, options.na_values, options.keep_na)
    ).fill_null(False)
    rest = pc.if_else(marks, pa.scalar(None, pa.string()), distinct.cells)
    if rest.null_count == len(rest):
        return None
    found = marks.to_numpy(zero_copy_only=False)
    if not found.any():
        return rest, {}
    return rest, distinct.counted(found)


def _numbers(distinct: _Distinct, known: Cells, asked: bool) -> Found | Open | None:
    if (apart := _set_apart(distinct, "number", known)) is None:
        return None
    rest, gone = apart
    if not asked and (dates := _compact(distinct, rest, gone)) is not None:
        return dates
    commas = asked and _means_commas(known, distinct.rows(rest))
    if gone and not commas:  # plain but for the markers
        values = text_parsing.numbers(pa.chunked_array([rest]), codes=asked)
        if values is not None:
            return Found("number", distinct.rows(values.combine_chunks()), None, gone)
    found = numbers.recognise(rest, known, codes=asked)
    if found is None:
        return None
    if isinstance(found, Undecided):
        return Open("decimal", rest.drop_null()[0].as_py()[:64])
    column = whole_as_integers(distinct.rows(found.values))
    notation = None if found.notation == Notation() else found.notation
    decimal = found.notation.decimal if numbers.shows_marks(rest) else None
    return Found("number", column, notation, gone, decimal)


def _datetimes(distinct: _Distinct, known: Cells, asked: bool) -> Found | Open | None:
    if (apart := _set_apart(distinct, "datetime", known)) is None:
        return None
    rest, gone = apart
    if not asked and (found := _compact(distinct, rest, gone)) is not None:
        return found
    if not known.options.date_format and gone:  # plain but for the markers
        whole = pa.chunked_array([rest])
        plainly = text_parsing.mixed_datetimes if asked else text_parsing.datetimes
        if (values := plainly(whole)) is not None:
            column = distinct.rows(values.combine_chunks())
            return Found("datetime", column, None, gone)
    dates = datetimes.recognise(rest, known, asked)
    if dates is None:
        return None
    if isinstance(dates, Undecided):
        return Open("date_order", rest.drop_null()[0].as_py()[:64])
    column = _within_years(distinct.rows(dates.values))
    return None if column is None else Found("datetime", column, dates.notation, gone)


def _compact(distinct: _Distinct, rest: pa.Array, gone: dict[str, int]) -> Found | None:
    """Return cells like 20210301 as dates where that is beyond doubt."""
    if not pc.all(pc.match_substring_regex(rest, _COMPACT_DATE), min_count=0).as_py():
        return None
    if (dates := datetimes.compact(rest)) is None:
        return None
    column = _within_years(distinct.rows(dates.values))
    return None if column is None else Found("datetime", column, dates.notation, gone)


def _within_years(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return dates in their canonical form; None where one is before the year 1 or beyond 9999."""
    try:
        return canonical_datetime(column)
    except pa.ArrowInvalid:
        return None


def _clock(distinct: _Distinct, known: Cells, _asked: bool) -> Found | None:
    if (apart := _set_apart(distinct, "number", known)) is None:
        return None
    values = datetimes.clock(apart[0])
    if values is None:
        return None
    notation = Notation(unit="s", date_format="%H:%M:%S")
    return Found("number", whole_as_integers(distinct.rows(values)), notation, apart[1])


def _booleans(distinct: _Distinct, known: Cells, _asked: bool) -> Found | None:
    if (apart := _set_apart(distinct, "boolean", known)) is None:
        return None
    rest, gone = apart
    values = text_parsing.lenient_booleans(pa.chunked_array([rest]))
    if values is None:
        return None
    return Found("boolean", distinct.rows(values.combine_chunks()), None, gone)
