"""What a person should know of how a column was read: its warnings."""

import re
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from app.ml.column_types.arrays import hits, matches
from app.ml.column_types.canonical import WHOLE_BELOW
from app.ml.column_types.cells import Found, Open
from app.ml.column_types.notations import durations
from app.ml.column_types.notations.notation import Cells, Notation, times_of_format
from app.ml.tables.labels import Place, spot
from app.ml.tables.strings import Nearly

_LOOKED_AT = 100
"""Cells of a column that are looked at."""
_YEARS_AHEAD = 10
"""Up to which dates are plans."""
_MOST_LISTED = 5
"""Markers of missing values that a warning names."""


def changed(
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
        return too_many_digits(name), {}
    return None, {}


def too_many_digits(name: str) -> str:
    """Return the warning of integers that became floats."""
    return (
        f"column '{name[:64]}' holds integers that a 64-bit float cannot tell apart; "
        f'send types={{"{name[:64]}":"category"}} to keep every digit'
    )


def taken_as_missing(name: str, found: Found, column: pa.ChunkedArray, place: Place) -> str | None:
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


def of_inferred(
    name: str, found: Found, column: pa.ChunkedArray, known: Cells
) -> tuple[str | None, ...]:
    """Return warnings of a column whose type nobody has asked for, None where one does not hold."""
    return (
        _lost_digits(name, found.values, column),
        _read_by_default(name, found, known),
        _may_be_minutes(name, found, column, known),
        _may_be_of_last_century(name, found, column),
        _may_be_dates(name, found),
    )


def _read_by_default(name: str, found: Found, cells: Cells) -> str | None:
    """A warning of numbers that may be thousands."""
    if found.undecided is None or cells.evidence.delimiter != ";":  # which goes with commas
        return None
    return (
        f"every dot in the numbers of column '{name[:64]}' stands before exactly three digits, and "
        "was read as a decimal point; send decimal=, where it separates thousands"
    )


def _may_be_minutes(name: str, found: Found, column: pa.ChunkedArray, known: Cells) -> str | None:
    """A warning of times like 3:45, which may be minutes and seconds."""
    hours = Notation(unit="s", date_format="%H:%M:%S")
    if found.notation != hours or times_of_format(known.options.date_format):
        return None
    seen = durations.parts_of(column.combine_chunks())
    if seen is None or seen.beyond_doubt:
        return None
    return (
        f"column '{name[:64]}' holds times like '{seen.example[:16]}', which were read as hours "
        "and minutes; date_format=%M:%S reads minutes and seconds"
    )


def _may_be_of_last_century(name: str, found: Found, column: pa.ChunkedArray) -> str | None:
    """A warning of years of two digits of which some lie ahead."""
    if found.kind != "datetime" or found.notation is None:
        return None
    if hits(column.slice(0, _LOOKED_AT), "[0-9]{4}").any():
        return None
    latest = pc.max(pc.year(found.values)).as_py()
    if latest is None or latest <= datetime.now(UTC).year + _YEARS_AHEAD:
        return None
    return (
        f"years of two digits in column '{name[:64]}' were read as 1969 to 2068, and reach "
        f"{latest}; write four digits where the last century is meant"
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


def misfits(name: str, nearly: Nearly, place: Place) -> str:
    """Why a column is a category though most of its cells are numbers or dates, and what makes it
    one of them."""
    kind = nearly.kind
    request = f'types={{"{name[:64]}":"{kind}"}} and on_error=missing'
    if nearly.left_open is not None:
        return f"{how_to_decide(name, nearly.left_open)}, with {request}, since not all cells fit"
    if nearly.misfits == 0:
        return (
            f"column '{name[:64]}' holds numbers written as strings, like "
            f"'{nearly.example[:32]}', and is a category; "
            f'send types={{"{name[:64]}":"number"}} to make it a number'
        )
    others = "one of several cells that are"
    if nearly.misfits is not None:
        count = nearly.misfits
        others = "the only one that is" if count == 1 else f"one of {count} cells that are"
    return (
        f"column '{name[:64]}' is a category although most of its cells are {kind}s like "
        f"'{nearly.example[:32]}': {spot(place, name, nearly.row)} holds '{nearly.misfit[:64]}', "
        f"{others} no {kind} beside them; mend {'it' if nearly.misfits == 1 else 'them'}, or send "
        f"{request} to take {'it' if nearly.misfits == 1 else 'them'} as missing"
    )


def how_to_decide(name: str, found: Open) -> str:
    """Why a column of numbers or dates is a category, and what would make it one of them."""
    short, example = name[:64], found.example
    if found.undecided == "date_order":
        short_year = not re.search("[0-9]{4}", example)
        return (
            f"column '{short}' is a category: nothing says whether '{example}' begins with the day "
            "or the month; send date_order=dmy or date_order=mdy"
            f"{', or date_order=ymd where it begins with the year' if short_year else ''}"
        )
    return (
        f"column '{short}' is a category: nothing says whether the mark in '{example}' is a "
        "decimal or separates thousands; send decimal=. or decimal=,"
    )


def _lost_digits(name: str, values: pa.ChunkedArray, column: pa.ChunkedArray) -> str | None:
    """A warning where integers of 20 digits became floats."""
    if not pa.types.is_floating(values.type):
        return None
    ends = pc.min_max(values)
    if max(-(ends["min"].as_py() or 0), ends["max"].as_py() or 0) < WHOLE_BELOW:
        return None
    large = pc.greater_equal(pc.abs(values), WHOLE_BELOW)
    cells = pc.filter(column, large)
    if not pc.any(matches(cells, r"^\s*[+-]?[0-9]+\s*$")).as_py():
        return None
    return too_many_digits(name)
