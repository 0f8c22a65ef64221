"""Dates and times as people write them: the order of day, month and year, names of months, AM and
PM, zones, quarters and weeks.

Every family of notations is one regular expression; all of a column's cells belong to one.
"""

import re
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.column_types.arrays import groups, matches
from app.ml.column_types.canonical import MOMENT, ZONED
from app.ml.column_types.notations.months import LETTERS, MONTHS
from app.ml.column_types.notations.notation import (
    Cells,
    DateOrder,
    Notation,
    Recognised,
    Undecided,
    times_of_format,
)
from app.ml.column_types.notations.numbers import named
from app.ml.column_types.notations.zones import NO_ZONE, ZONE, minutes_east

Integers = NDArray[np.int64]

_TIME = (
    r"(?:(?:t|,?\s+|\s*-\s+)(?P<hour>[0-9]{1,2})(?::(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?)?\s*(?P<half>(?:[ap]\.?m\b\.?)?)"
    rf"\s*(?P<zone>(?:{ZONE})?))?"
)
_NAME = rf"(?P<name>[{LETTERS}]{{3,12}})\.?"
_WEEKDAY = rf"(?:[{LETTERS}]{{2,12}}\.?,?\s+)?"
_NTH = r"(?:st|nd|rd|th|er|º|\.)?"
_YEAR = r"(?P<year>[0-9]{4}|'?[0-9]{2})(?:\s?г\.?)?"
_NUMERIC = (
    r"^(?P<first>[0-9]{1,4})(?P<mark>[./-])(?P<middle>[0-9]{1,2})(?P<again>[./-])"
    r"(?P<last>[0-9]{4}|[0-9]{2}|[0-9]{1})" + _TIME + "$"
)
_FAMILIES: dict[str, str] = {
    "%d %B %Y": rf"^{_WEEKDAY}(?P<day>[0-9]{{1,2}}){_NTH}[\s/-]*(?:(?:of|de)\s+)?{_NAME}"
    rf"(?:\s+de)?,?[\s/-]*{_YEAR}{_TIME}$",
    "%B %d, %Y": rf"^{_WEEKDAY}{_NAME}[\s/-]*(?P<day>[0-9]{{1,2}}){_NTH},?[\s/-]+{_YEAR}{_TIME}$",
    "%Y %B %d": rf"^(?P<year>[0-9]{{4}})[\s/-]*{_NAME}[\s/-]*(?P<day>[0-9]{{1,2}}){_TIME}$",
    "%B %Y": rf"^{_NAME}(?:\s+de)?,?[\s/-]*(?P<year>[0-9]{{4}}|'[0-9]{{2}})$",
    "%Y %B": rf"^(?P<year>[0-9]{{4}})[\s/-]*{_NAME}$",
    "%Y-%m": r"^(?P<year>[0-9]{4})[-/](?P<month>[0-9]{1,2})$",
    "%m/%Y": r"^(?P<month>[0-9]{1,2})[-/](?P<year>[0-9]{4})$",
    "%a %b %d %H:%M:%S %Y": rf"^(?:[a-z]{{3}}\s+){_NAME}\s+(?P<day>[0-9]{{1,2}})\s+"
    r"(?P<hour>[0-9]{2}):"
    r"(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})\s+(?P<zone>(?:[a-z]{3,4}|[+-][0-9]{4})?)\s*"
    r"(?P<year>[0-9]{4})$",
    "%Y%m%dT%H%M%S": r"^(?P<year>(?:19|20)[0-9]{2})(?P<month>[0-9]{2})(?P<day>[0-9]{2})t"
    r"(?P<hour>[0-9]{2})(?P<minute>[0-9]{2})(?P<second>[0-9]{2})?(?P<zone>z?)$",
    "%Y年%m月%d日": r"^(?P<year>[0-9]{4})年(?P<month>[0-9]{1,2})月(?P<day>[0-9]{1,2})日$",
    "%Y-Q": r"^(?P<year>[0-9]{4})[\s/-]?q(?P<quarter>[1-4])$",
    "Q %Y": r"^q(?P<quarter>[1-4])[\s/'-]*(?P<year>[0-9]{4})$",
    "Q %y": r"^(?:q(?P<quarter>[1-4])[\s/'-]+)(?P<year>[0-9]{2})$",
    "%q %Y": r"^(?P<quarter>[1-4])q\s?'?(?P<year>[0-9]{4}|[0-9]{2})$",
    "%G-W%V": r"^(?P<year>[0-9]{4})-?w(?P<week>[0-9]{2})(?:-?(?P<weekday>[1-7]))?$",
}
ANY = rf"(?i)^\s*(?:[{LETTERS}]+\.?[\s,.-]*){{0,2}}'?[0-9]"
"""How any date begins."""
_COMPACT = (
    r"^(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})"
    r"(?:[t ]?(?P<hour>[0-9]{2})(?P<minute>[0-9]{2})(?P<second>[0-9]{2})?z?)?$"
)
_PIVOT = 69
"""Years of two digits from here on are of the last century, as POSIX has it."""
_LEAST_BEYOND_DOUBT = 5
"""Distinct numbers like 20210301 that make a column one of dates."""
_LEAST_SEASONS = 3
_COMPACT_YEARS = (1900, 2100)
_US = 1_000_000


def recognise(cells: pa.Array, known: Cells, asked: bool = False) -> Recognised | Undecided | None:
    """Return distinct ``cells`` as dates; None where one is none. ``asked``: whether they are to be
    dates, so that numbers like 20210301 and seconds since 1970 are taken too."""
    if known.options.date_format and (asked or not times_of_format(known.options.date_format)):
        by_format = _by_format(cells, known.options.date_format)
        if by_format is not None or asked:
            return by_format
    learnt = known.notation
    if asked and learnt and learnt.date_format and learnt.date_order is None:
        by_format = _by_format(cells, learnt.date_format)  # what a client said of the training data
        if by_format is not None:
            return by_format
    plain = pc.utf8_lower(pc.utf8_normalize(pc.utf8_trim_whitespace(cells), form="NFC"))
    if (parts := matching(plain, _NUMERIC)) is not None:
        return _numeric(Parts(parts), known)
    for form, pattern in _FAMILIES.items():
        if (parts := matching(plain, pattern)) is not None:
            values = None if _are_seasons(form, Parts(parts)) else _calendar(Parts(parts))
            return None if values is None else Recognised(values, Notation(date_format=form))
    return _of_numbers(plain) if asked else None


def matching(cells: pa.Array, pattern: str) -> pa.Array | None:
    """Return the parts of cells that all match; None where one does not. The first is tried alone:
    Arrow compiles an expression anew for every column."""
    first = next((cell.as_py() for cell in cells if cell.is_valid), None)
    if first is None or re.match(pattern, first) is None:
        return None
    parts = groups(cells, pattern)
    return parts if parts.null_count == cells.null_count else None


def compact(cells: pa.Array) -> Recognised | None:
    """Return distinct ``cells`` like 20210301 as dates where that is beyond doubt."""
    if len(cells) - cells.null_count < _LEAST_BEYOND_DOUBT:
        return None
    return _compact(cells)


def _compact(cells: pa.Array) -> Recognised | None:
    parts = groups(cells, _COMPACT)
    if parts.null_count > cells.null_count:
        return None
    found = Parts(parts)
    years = found.number("year")[found.present]
    if len(years) and not (_COMPACT_YEARS[0] <= years.min() and years.max() <= _COMPACT_YEARS[1]):
        return None
    values = _calendar(found)
    return None if values is None else Recognised(values, Notation(date_format="%Y%m%d"))


def _mostly_compact(cells: pa.Array) -> bool:
    """Return whether most cells have the eight digits of a year, a month and a day, in that order
    or the other way round."""
    either = matches(cells, _EIGHT_DIGITS)
    some = len(cells) - cells.null_count
    compact = int(pc.sum(pc.cast(either, pa.int64())).as_py() or 0)
    return bool(2 * compact > some > 0)


_EIGHT_DIGITS = (
    r"^\s*(?:(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])[0-3][0-9]|[0-3][0-9][01][0-9](?:19|20)[0-9]{2})\s*$"
)
_YEARS = r"^\s*(1[0-9]|20|21)[0-9]{2}\s*$"
_YEARS_AND_MONTHS = r"^\s*(1[0-9]|20|21)[0-9]{2}(0[1-9]|1[0-2])\s*$"
_LEAST_EPOCH = 1e7
"""Seconds since 1970 up to which the largest number of a column is no time: 44928 is Excel's."""


def _of_numbers(cells: pa.Array) -> Recognised | None:
    """Return 20210301, years, 202103, or seconds, milliseconds or microseconds since 1970, as
    dates; seconds of the first months of 1970 are something else."""
    if (dates := _compact(cells)) is not None:
        return dates
    if _mostly_compact(cells):  # then one that is no date is a mistake, and no second since 1970
        return None
    for pattern, form in (_YEARS, "%Y"), (_YEARS_AND_MONTHS, "%Y%m"):
        if pc.all(matches(cells, pattern), min_count=0).as_py():
            return _by_format(cells, form)
    try:
        values = pc.cast(cells, pa.float64())
    except pa.ArrowInvalid:
        return None
    most = pc.max(pc.abs(values)).as_py()
    if most is None or not _LEAST_EPOCH <= most < 1e17:
        return None
    unit, form = (1, "us") if most >= 1e14 else (1000, "ms") if most >= 1e11 else (_US, "s")
    moments = pc.cast(pc.cast(pc.round(pc.multiply(values, float(unit))), pa.int64()), MOMENT)
    return Recognised(moments, Notation(date_format=f"epoch {form}"))


def _by_format(cells: pa.Array, form: str) -> Recognised | None:
    try:
        found = [
            None if cell is None else datetime.strptime(cell.strip(), form)
            for cell in cells.to_pylist()
        ]
    except ValueError:
        return None
    zones = {value.tzinfo is not None for value in found if value is not None}
    if len(zones) > 1:
        return None
    values = pa.array(found, ZONED if zones == {True} else MOMENT)
    return Recognised(values, Notation(date_format=form))


# ---------------------------------------------------------------- parts to moments


class Parts:
    """What a regular expression has found in each cell: numbers by name, -1 where there is none."""

    def __init__(self, parts: pa.Array) -> None:
        self._parts = named(parts)
        self.names = self._parts.keys()
        self.present: NDArray[np.bool_] = parts.is_valid().to_numpy(zero_copy_only=False)

    def text(self, name: str) -> pa.Array:
        return self._parts[name]

    def number(self, name: str) -> Integers:
        """``(cells,)``; -1 where there is none."""
        if name not in self.names:
            return np.full(len(self.present), -1)
        digits = pc.replace_substring(self.text(name), "'", "")
        known = pc.if_else(pc.equal(digits, ""), pa.scalar(None, pa.string()), digits)
        found: Integers = np.asarray(pc.cast(known, pa.int64()).fill_null(-1))
        return found

    def full_year(self, name: str) -> Integers:
        """``(cells,)``, those of two digits in the years from 1969 to 2068."""
        years = self.number(name)
        digits = pc.replace_substring(self.text(name), "'", "")
        short = np.asarray(pc.utf8_length(digits).fill_null(4)) <= 2
        return np.where(short, years + np.where(years < _PIVOT, 2000, 1900), years)


def _numeric(parts: Parts, known: Cells) -> Recognised | Undecided | None:
    """Three numbers: of which the place of the year is plain, and that of the day may not be."""
    marks = pc.unique(parts.text("mark").drop_null()).to_pylist()
    if not pc.all(pc.equal(parts.text("mark"), parts.text("again")), min_count=0).as_py():
        return None
    if len(marks) > 1:
        return None
    lengths, ends = (
        np.asarray(pc.utf8_length(parts.text(name)))[parts.present] for name in ("first", "last")
    )
    if (lengths > 2).any():
        return _ordered(parts, "ymd", marks) if (lengths == 4).all() else None
    if (ends < 2).any():  # 1.2.3 is a version
        return None
    wanted = known.options.date_order or _learnt_order(known, marks)
    if wanted is not None:
        return _ordered(parts, wanted, marks)
    return _day_or_month_first(parts, marks, known)


def _learnt_order(known: Cells, marks: list[str]) -> DateOrder | None:
    """Return the order of a model's dates; none where these have dots, after which nobody writes
    the day, and those have not."""
    learnt = known.notation
    if learnt is None:
        return None
    is_dotted = marks == ["."] and "." not in (learnt.date_format or "")
    return None if is_dotted and learnt.date_order == "mdy" else learnt.date_order


def _day_or_month_first(
    parts: Parts, marks: list[str], known: Cells
) -> Recognised | Undecided | None:
    orders: tuple[DateOrder, ...] = ("dmy", "mdy")
    found = [dates for order in orders if (dates := _ordered(parts, order, marks)) is not None]
    if not found:
        return _ordered(parts, "ymd", marks)
    if len(found) == 1:
        return _year_last(parts, found[0], marks)
    if found[0].values.equals(found[1].values):  # which says nothing of other columns
        return Recognised(found[0].values, Notation())
    usual = "dmy" if marks == ["."] else known.evidence.date_order  # nobody writes 12.31.2023
    for dates in found:
        if dates.notation.date_order == usual:
            return dates
    return Undecided()


def _year_last(parts: Parts, found: Recognised, marks: list[str]) -> Recognised | Undecided:
    """Return dates that end with a year, unless 21-03-04 may begin with it: what takes many values
    is the day then, what takes few the year."""
    other = _ordered(parts, "ymd", marks) if marks == ["-"] else None
    if other is None or other.values.equals(found.values):
        return found
    first, last = (len(np.unique(parts.number(name))) for name in ("first", "last"))
    if first > 2 * last:
        return found
    return other if last > 2 * first else Undecided()


def _ordered(parts: Parts, order: DateOrder, marks: list[str]) -> Recognised | None:
    places = dict(zip(order, ("first", "middle", "last"), strict=True))
    years = parts.full_year(places["y"])
    values = _moments(parts, years, parts.number(places["m"]), parts.number(places["d"]))
    if values is None:
        return None
    mark = marks[0] if marks else "-"
    year = pc.max(pc.utf8_length(parts.text(places["y"]))).as_py()
    letters = {"d": "%d", "m": "%m", "y": "%Y" if year == 4 else "%y"}
    form = mark.join(letters[letter] for letter in order) + _time_format(parts)
    return Recognised(values, Notation(date_order=order, date_format=form))


def _calendar(parts: Parts) -> pa.Array | None:
    """Return the moments of parts that are named; the first day of a month, quarter or week."""
    years = parts.full_year("year")
    if "week" in parts.names:
        return _weeks(parts, years)
    if "name" in parts.names:
        words = parts.text("name")
        codes = {word: MONTHS.get(word, 0) for word in pc.unique(words).to_pylist() if word}
        months = np.array([codes.get(word, 1) for word in words.to_pylist()], np.int64)
    elif "quarter" in parts.names:
        months = 3 * parts.number("quarter") - 2
    else:
        months = parts.number("month")
    days = parts.number("day") if "day" in parts.names else np.ones_like(years)
    return _moments(parts, years, months, days)


def _are_seasons(form: str, parts: Parts) -> bool:
    """Return whether 2000-01, 2001-02 and 2002-03 are winters rather than months."""
    if form != "%Y-%m":
        return False
    years, months = (parts.number(name)[parts.present] for name in ("year", "month"))
    return len(years) >= _LEAST_SEASONS and bool(((years + 1) % 100 == months).all())


def _weeks(parts: Parts, years: Integers) -> pa.Array | None:
    weeks, days = parts.number("week"), np.maximum(parts.number("weekday"), 1)
    found = []
    for year, week, day, there in zip(years, weeks, days, parts.present, strict=True):
        try:
            moment = datetime.fromisocalendar(int(year), int(week), int(day)) if there else None
        except ValueError:
            return None
        found.append(moment)
    return pa.array(found, MOMENT)


def _moments(parts: Parts, years: Integers, months: Integers, days: Integers) -> pa.Array | None:
    """Return timestamps, in UTC where zones were given; None where one is no date or time."""
    there = parts.present
    years, months, days = (np.where(there, part, 1) for part in (years, months, days))
    if not ((years >= 1) & (years <= 9999) & (months >= 1) & (months <= 12) & (days >= 1)).all():
        return None
    first = ((years - 1970) * 12 + months - 1).astype("datetime64[M]")
    dates = first.astype("datetime64[D]") + (days - 1).astype("timedelta64[D]")
    if not (dates.astype("datetime64[M]") == first).all():
        return None
    seconds = _seconds(parts)
    if seconds is None:
        return None
    microseconds = dates.astype("datetime64[us]").astype(np.int64) + seconds
    named = parts.text("zone") if "zone" in parts.names else pa.nulls(len(there), pa.string())
    zones = minutes_east(named, microseconds)
    if zones is None:
        return None
    zoned = zones != NO_ZONE
    if zoned[there].any() and not zoned[there].all():
        return None
    kind = MOMENT
    if zoned[there].any():
        kind, microseconds = ZONED, microseconds - np.where(zoned, zones, 0) * 60 * _US
    return pa.array(microseconds, pa.int64(), mask=~there).cast(kind)


def _seconds(parts: Parts) -> Integers | None:
    """Return the time of day in microseconds ``(cells,)``; None where it is none."""
    hours = parts.number("hour")
    minutes, seconds = (np.maximum(parts.number(name), 0) for name in ("minute", "second"))
    bare = (hours >= 0) & (parts.number("minute") < 0)
    if "half" in parts.names:
        halves = parts.text("half").fill_null("")
        night = np.asarray(pc.starts_with(halves, "a").cast(pa.int8())) == 1
        noon = np.asarray(pc.starts_with(halves, "p").cast(pa.int8())) == 1
        if ((night | noon) & ((hours < 1) | (hours > 12))).any() or (bare & ~(night | noon)).any():
            return None
        hours = np.where(night | noon, hours % 12 + 12 * noon, hours)
    hours = np.maximum(hours, 0)
    if (hours > 23).any() or (minutes > 59).any() or (seconds > 59).any():
        return None
    found = ((hours * 60 + minutes) * 60 + seconds) * _US
    if "fraction" in parts.names:
        padded = pc.utf8_slice_codeunits(pc.utf8_rpad(parts.text("fraction"), 6, "0"), 0, 6)
        shares = pc.if_else(pc.equal(parts.text("fraction"), ""), "0", padded)
        found = found + np.asarray(pc.cast(shares, pa.int64()).fill_null(0))
    return found


def _time_format(parts: Parts) -> str:
    """Return how the times of day look, by the cell that says most."""
    if not (parts.number("hour") >= 0).any():
        return ""
    half = pc.any(pc.not_equal(parts.text("half"), "")).as_py()
    form = " %I:%M" if half else " %H:%M"
    if (parts.number("second") >= 0).any():
        form += ":%S"
    return f"{form} %p" if half else form
