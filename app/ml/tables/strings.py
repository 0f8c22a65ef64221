"""Columns of strings: what type they are, decided by all of their cells, and how they are written.

Plain cells (JSON's numbers, ISO 8601, true and false) are read by Arrow as they are. Others are
looked at cell by distinct cell, as their type has it (``app.ml.column_types``); a column is read
whole or not at all, but for markers of missing values, which are told with their counts.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.column_types.arrays import hits, matches
from app.ml.column_types.canonical import MOMENT, ZONED, TypeName, whole_as_integers
from app.ml.column_types.cells import Distinct, Found, Open, Read
from app.ml.column_types.datetimes import COMPACT_DATE
from app.ml.column_types.notations import missing
from app.ml.column_types.notations.notation import Cells, times_of_format
from app.ml.column_types.numbers import means_commas
from app.ml.column_types.registry import COLUMN_TYPES, READ_FROM_STRINGS
from app.ml.column_types.text_parsing import first_present

_BESIDE: dict[TypeName, pa.DataType] = {
    "number": pa.float64(),
    "datetime": ZONED,
    "boolean": pa.bool_(),
}
"""What holds cells of a type whichever way they are written."""
_DIGIT = "[0-9\u221e]"
_LOOKED_AT = 400
"""Cells of which most hold a digit, and all can be read, where a column is of numbers or dates."""
_HEADS = 20
"""Of these, one at least begins as a cell of its type does."""
_GATHERED, _SEEDS = 20, 3
"""Cells that show which can be read together, and how many of them are started from."""
_TRIED_FIRST = 9, 30
"""Cells of which most can be read where it is worth a look at more of them."""
_MOST_WEIGHED = 2_000
"""Different cells of which each is looked at to say which of them cannot be read."""
_MOST_TRIED = 20_000
"""Different cells among which those are looked for that cannot be read."""


# ---------------------------------------------------------------- the type is not known


def recognised(column: pa.ChunkedArray, known: Cells, *, has_types: bool) -> Found | Open | None:
    """Return a column of strings as booleans, numbers or datetimes; None where it is of strings.

    ``has_types``: its format has types, so that strings of it can only be dates, unless the client
    says how its numbers are written.
    """
    if (dates := _in_format(column, known)) is not None:
        return dates
    first = first_present(column) or ""
    said = known.options.decimal is not None or known.options.thousands is not None
    said = said or times_of_format(known.options.date_format) is not None
    names = READ_FROM_STRINGS
    if has_types:
        names = ("number", "datetime") if said else ("datetime",)
    kinds = [COLUMN_TYPES[name] for name in names]
    for kind in kinds:
        if re.match(kind.plain, first):  # else not all can be
            values = kind.read_plain(column)
            if values is not None:
                return kind.of_plain(column, values, known)
    sample = _sample(column)
    if not has_types and (booleans := _booleans(column, sample, known)) is not None:
        return booleans
    if not _mostly_digits(sample, known):
        return None
    distinct = Distinct(sample)
    heads = pc.utf8_trim_whitespace(sample.slice(0, _HEADS))
    readers = [
        read
        for kind in kinds
        if kind.name != "boolean" and hits(heads, kind.begins).any()
        for read in kind.readers
    ]
    readers = [read for read in readers if read(distinct, known, False) is not None]
    if readers and len(sample) < len(column):
        distinct = Distinct(column)
    return _first_found(readers, distinct, known, asked=False)


def _in_format(column: pa.ChunkedArray, known: Cells) -> Found | None:
    """Return dates in the format that the client names."""
    if known.options.date_format is None:
        return None
    readers = COLUMN_TYPES["datetime"].readers
    found = _first_found(readers, Distinct(column), known, asked=False)
    return found if isinstance(found, Found) else None


def _booleans(
    column: pa.ChunkedArray, sample: pa.ChunkedArray, known: Cells
) -> Found | Open | None:
    """Return true and false beside markers of missing values."""
    boolean = COLUMN_TYPES["boolean"]
    if 2 * hits(sample, boolean.plain).sum() <= len(sample):
        return None
    return _first_found(boolean.readers, Distinct(column), known, asked=False)


def _sample(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return some of the cells, from all over the column: looking at each costs seconds where they
    are many, and few columns of strings are numbers or dates."""
    if column.null_count:
        column = column.drop_null()
    return column.take(_evenly(len(column), _LOOKED_AT))


def _mostly_digits(sample: pa.ChunkedArray, known: Cells) -> bool:
    """Whether most of the cells that mark no missing value hold a digit."""
    digits = hits(sample, _DIGIT)
    some = int(digits.sum())
    if not some or 2 * some > len(sample):
        return some > 0
    marks = missing.is_marker(sample, missing.markers("either", known.options.na_values))
    none = int((np.asarray(marks.fill_null(False), bool) & ~digits).sum())
    return 2 * some > len(sample) - none


# ---------------------------------------------------------------- most of it is known


class Nearly(NamedTuple):
    """What most cells of a column are, though not all."""

    kind: TypeName
    example: str
    misfit: str
    """The first cell that is none."""
    row: int
    """Where it stands."""
    misfits: int | None
    """How many there are; None where the column is so long that a part was looked at."""
    left_open: Open | None


def nearly(column: pa.ChunkedArray, known: Cells, *, has_types: bool) -> Nearly | None:
    """Return what most cells of a column of strings can be read as together where it is asked for,
    others taken as missing; None where that is nothing."""
    sample = _sample(column)
    if not _mostly_digits(sample, known):
        return None
    cells = sample.unique()
    lenient = replace(known, options=known.options.model_copy(update={"on_error": "missing"}))
    kinds: tuple[TypeName, ...] = ("datetime", "number")
    for name in kinds:
        if not _beyond_doubt(name, sample) or not all(
            _most_are(name, cells.take(pa.array(_evenly(len(cells), most))), lenient)
            for most in _TRIED_FIRST
        ):
            continue
        whole = len(Distinct(column).cells) <= _MOST_WEIGHED
        weighed = column if whole else sample
        found = read_as(weighed, name, lenient)
        if found is not None and (told := _misfits(name, weighed, found, known, has_types)):
            return told._replace(
                row=pc.index(column, told.misfit).as_py(), misfits=told.misfits if whole else None
            )
    return None


def _most_are(kind: TypeName, cells: pa.Array, lenient: Cells) -> bool:
    """Whether most of the cells can be read together."""
    found = read_as(pa.chunked_array([cells]), kind, lenient)
    return found is not None and (
        isinstance(found, Open) or 2 * found.values.null_count < len(cells)
    )


def _beyond_doubt(kind: TypeName, sample: pa.ChunkedArray) -> bool:
    """Whether plain numbers, which are dates where that is asked for, would be so by themselves."""
    if kind != "datetime":
        return True
    plain = hits(sample, COLUMN_TYPES["number"].plain)
    compact = hits(sample, COMPACT_DATE)
    return bool(2 * plain.sum() <= len(sample) or 2 * compact.sum() > len(sample))


def _misfits(
    kind: TypeName,
    column: pa.ChunkedArray,
    found: Found | Open,
    known: Cells,
    has_types: bool,
) -> Nearly | None:
    """Return what was read of ``column`` and what could not be; None where all could, or most
    could not. ``has_types``: strings are read as numbers only where that is asked for."""
    marks = missing.is_marker(
        column, missing.markers(kind, known.options.na_values, known.options.keep_na)
    )
    values = pc.and_not(column.is_valid(), marks.fill_null(False))
    if isinstance(found, Open):
        return Nearly(kind, found.example, found.example, 0, None, found)
    misfit = pc.and_(values, found.values.is_null())
    count = pc.sum(pc.cast(misfit, pa.int64())).as_py() or 0
    present = pc.sum(pc.cast(values, pa.int64())).as_py() or 0
    if 2 * count >= present or not (count or (has_types and kind == "number")):
        return None
    example = column.filter(found.values.is_valid())[0].as_py()
    first = column.filter(misfit)[0].as_py() if count else example
    return Nearly(kind, example, first, 0, count, None)


# ---------------------------------------------------------------- it is asked for


def read_as(column: pa.ChunkedArray, kind: TypeName, known: Cells) -> Found | Open | None:
    """Return a column of strings as ``kind``; None where a cell is no such value.

    What is sent to a model may be written in two ways at once, as rows of JSON are that come from
    several places: where the cells cannot be read together, plain ones and the others are.
    """
    if not known.of_model:
        return _read_together(column, kind, known)
    refusing = replace(known, options=known.options.model_copy(update={"on_error": "refuse"}))
    found = _read_together(column, kind, refusing)
    if isinstance(found, Found):
        return found
    if (apart := _read_apart(column, kind, known)) is not None:
        return apart
    return _read_together(column, kind, known) if known.options.on_error == "missing" else found


def _read_apart(column: pa.ChunkedArray, kind: TypeName, known: Cells) -> Found | None:
    """Return plain cells and others, each read together; None where one of both cannot be read, or
    there is but one of them."""
    plain = hits(column, COLUMN_TYPES[kind].plain)
    others = ~plain & np.asarray(column.is_valid(), bool)
    if not plain.any() or not others.any():
        return None
    values = pa.nulls(len(column), _BESIDE[kind])
    gone: dict[str, int] = {}
    for which in (plain, others):
        found = _read_together(column.filter(pa.array(which)), kind, known)
        if not isinstance(found, Found):
            return None
        gone |= found.missing_as
        part = found.values.combine_chunks()
        if kind == "datetime":
            part = pc.cast(part, MOMENT)
        values = pc.replace_with_mask(
            values, pa.array(which), pc.cast(part, values.type, safe=False)
        )
    if kind == "number":
        return Found(kind, whole_as_integers(pa.chunked_array([values])), None, gone)
    return Found(kind, pa.chunked_array([values]), None, gone)


def _read_together(column: pa.ChunkedArray, kind: TypeName, known: Cells) -> Found | Open | None:
    plainly, readers = COLUMN_TYPES[kind].read_asked, COLUMN_TYPES[kind].readers
    commas = kind == "number" and means_commas(known, column)
    if not commas and not known.options.date_format and (values := plainly(column)) is not None:
        return Found(kind, values)
    distinct = Distinct(column)
    found = _first_found(readers, distinct, known, asked=True)
    if isinstance(found, Found):
        return found
    if commas and (values := plainly(column)) is not None:
        return Found(kind, values)
    if found is None and (nothing := _all_missing(distinct, kind, known)) is not None:
        return nothing
    if found is None and known.options.on_error == "missing":
        return _without_misfits(distinct, kind, known)
    return found


def _all_missing(distinct: Distinct, name: TypeName, known: Cells) -> Found | None:
    """Return a column that holds nothing but markers of missing values, which says no more of its
    type than one without cells."""
    among = name if name in ("number", "datetime", "boolean") else "either"
    options = known.options
    marks = missing.markers(among, options.na_values, options.keep_na)
    marked = missing.is_marker(distinct.cells, marks).fill_null(True)
    if not pc.all(marked, min_count=0).as_py():
        return None
    gone = distinct.counted(np.asarray(distinct.cells.is_valid(), bool))
    return Found(
        name, distinct.rows(pa.nulls(len(distinct.cells), COLUMN_TYPES[name].arrow)), None, gone
    )


def _without_misfits(distinct: Distinct, name: TypeName, known: Cells) -> Found | Open | None:
    """Return the column with the cells missing that cannot be read; None where the others cannot
    be read together, or too many would have to be tried."""

    kind = COLUMN_TYPES[name]

    def reads(cells: pa.Array) -> bool:
        return _first_found(kind.readers, Distinct.of_cells(cells), known, asked=True) is not None

    begins = matches(pc.utf8_trim_whitespace(distinct.cells), kind.begins)
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
        nothing = pa.nulls(len(rest.cells), kind.arrow)
        return Found(name, distinct.rows(nothing), None, gone)
    found = _first_found(kind.readers, rest, known, asked=True)
    if found is None:  # each can be read, only not together
        apart = np.zeros(len(odd), bool)
        apart[_unlike_most(rest.cells, kind.plain, reads)] = True
        gone |= rest.counted(apart)
        most = pc.if_else(pa.array(apart), pa.scalar(None, pa.string()), rest.cells)
        found = _first_found(kind.readers, rest.with_cells(most), known, asked=True)
    return replace(found, missing_as=found.missing_as | gone) if isinstance(found, Found) else found


def _unlike_most(
    cells: pa.Array, plain: str, reads: Callable[[pa.Array], bool]
) -> NDArray[np.int64]:
    """Return the places of cells that cannot be read beside most of the others: days first among
    months first, pounds among dollars. Some from all over the column each gather those that can be
    read beside them, plain ones first; the most that come together are what others are held to."""
    places = np.flatnonzero(np.asarray(cells.is_valid(), bool))
    some = places[_evenly(len(places), _GATHERED)]
    some = some[np.argsort(~hits(cells.take(pa.array(some)), plain), kind="stable")]

    most = places[:0]
    for seed in some[_evenly(len(some), _SEEDS)]:
        gathered = np.array([seed])
        for place in some[some != seed]:
            together = np.append(gathered, place)
            gathered = together if reads(cells.take(pa.array(together))) else gathered
        most = max(most, gathered, key=len)
    if 2 * len(most) < len(some):
        return places  # there is nothing that most are
    held = cells.take(pa.array(most))
    return _unreadable(cells, places, lambda part: reads(pa.concat_arrays([held, part])))


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return at most so many of the places up to ``count``, from all over them."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


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


def _first_found(
    readers: Sequence[Read], distinct: Distinct, known: Cells, *, asked: bool
) -> Found | Open | None:
    """Return what the first of ``readers`` reads that can, else what the first leaves open."""
    left_open: Open | None = None
    for read in readers:
        found = read(distinct, known, asked)
        if isinstance(found, Found):
            return found
        left_open = left_open or found
    return left_open
