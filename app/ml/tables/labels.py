"""Columns of strings that are read as no other type: categories or text, and why that is so."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.ml.column_types import text_parsing
from app.ml.column_types.arrays import hits, matches
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.categories import folded_labels, plain_labels
from app.ml.column_types.datetimes import COMPACT_DATE
from app.ml.column_types.registry import COLUMN_TYPES
from app.ml.column_types.text_parsing import first_misfit

Place = Callable[[str, int], tuple[str, str]]
"""``(column, row)`` to how people and programs find the cell: ``("line 3", "/line/3/price")``."""
QUICKLY_PLACED = 100_000
"""Rows of a text file whose lines are found at once."""
_Fits = Callable[[str], bool]
_MOST_COMPARED = 10_000
"""Labels among which such as differ in case or blanks only are looked for."""
_WORD = r"\p{L}{3}"
"""What a label holds that tells whether case says anything in its column: AA, Aa and aa are
genotypes, but who writes both Yes and yes means one thing by No and no."""
_TEXT_WORDS = 5
"""Words that cells have on average where they are text rather than labels."""
_MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_NOTATIONS: tuple[tuple[TypeName, str, str], ...] = (
    (
        "datetime",
        r"^\s*[0-9]{4}[./-][0-9]{1,2}[./-][0-9]{1,2}\s*$",
        "name how they are written, as in date_format=%Y-%d-%m",
    ),
    (
        "datetime",
        r"^\s*[0-9]{1,4}[./-][0-9]{1,2}[./-][0-9]{2,4}\s*$",
        "name how they are written, as in date_format=%d/%m/%Y",
    ),
    (
        "number",
        r"^\s*-?[0-9]{1,3}:[0-9]{2}(:[0-9]{2})?([.,][0-9]+)?\s*$",
        'send types={{"{name}":"number"}} and on_error=missing to take those as missing that are '
        "no times",
    ),
    (
        "datetime",
        rf"(?i)^\s*({_MONTH}[ -]'?[0-9]{{2}}|[0-9]{{1,2}}[ -]{_MONTH})\s*$",
        "say whether the number is a day or a year, as in date_format=%b-%y",
    ),
    (
        "number",
        r"^\s*[+-]?[0-9][0-9.,]*\s(?:[A-Za-z°µ]{1,3}[²³0-9]?(?:/[A-Za-z]{1,3})?|lbs|inch|feet)\s*$",
        "write all of them in one unit, or without any",
    ),
    (
        "number",
        r"^\s*[+-]?[€$£]?\s?[0-9][0-9.,' ]*([,' ][0-9]+|[%€$£kKmMbB])\s*$|^\s*[€$£]\s?[0-9.,]+\s*$",
        "write them like 1234.5, without separators or units",
    ),
)
"""``(type, what such cells look like, what to do)``."""


def spot(place: Place, name: str, row: int) -> str:
    """Return where a cell stands, for people; its line where that is found at once."""
    return place(name, row)[0] if row < QUICKLY_PLACED else f"row {row}"


@dataclass(frozen=True)
class Labels:
    """A column of strings: of labels or of text, and what a person should know of them."""

    kind: TypeName
    values: pa.ChunkedArray
    note: str | None = None
    folded: bool = False
    """Whether labels were made one that differ in case or blanks only."""


def label_or_text(
    name: str,
    column: pa.ChunkedArray,
    place: Place,
    has_types: bool,
    explain: Callable[[], str | None],
) -> Labels:
    """Return a column as categories or text, and why it is neither of numbers nor of dates where it
    looks so; ``has_types``: whether its file's format has types. ``explain`` says so where most of
    its cells can be read, though not plainly."""
    counted = column.value_counts()
    values, counts = counted.field(0), counted.field(1).to_numpy()
    present = counts[values.is_valid().to_numpy(zero_copy_only=False)].sum()

    def fits(pattern: str) -> bool:
        return bool(2 * counts[hits(values, pattern)].sum() > present)

    kinds: tuple[TypeName, ...] = ("number", "datetime")
    for kind in kinds:
        if fits(COLUMN_TYPES[kind].plain) and not fits(COMPACT_DATE):
            return Labels("category", column, _almost(name, column, kind, place, has_types))
    if note := explain() or _other_notation(name, values, fits):
        return Labels("category", column, note)
    words = pc.add(pc.count_substring(values, " "), 1)
    wordy = np.dot(pc.fill_null(words, 0).to_numpy(zero_copy_only=False), counts)
    if 2 * len(values) > present and wordy >= _TEXT_WORDS * present:
        return Labels("text", column)
    if len(values) > _MOST_COMPARED:
        return Labels("category", column)
    lower = folded_labels(values)
    alike = pc.count_distinct(lower).as_py()
    if alike == pc.count_distinct(values).as_py():
        return Labels("category", column)
    names_things = 2 * alike >= present
    if not has_types and not names_things and (found := _folded(name, column, place, counted)):
        return found
    return Labels("category", column, _alike(name, values, lower))


def _folded(
    name: str, column: pa.ChunkedArray, place: Place, counted: pa.StructArray
) -> Labels | None:
    """Labels that differ in blanks or in how an accent is composed only, or in case where that says
    nothing, as the most frequent of their spellings; None where there are none."""
    values, counts = counted.field(0), counted.field(1).to_numpy()
    trimmed = plain_labels(values)
    lower = pc.utf8_lower(trimmed)
    words = lower.filter(pc.match_substring_regex(lower, _WORD).fill_null(False))
    spelt = pc.count_distinct(trimmed.filter(pc.is_in(lower, value_set=words))).as_py()
    keys = lower if spelt > pc.count_distinct(words).as_py() else trimmed
    if pc.count_distinct(keys).as_py() == pc.count_distinct(values).as_py():
        return None
    best: dict[str | None, tuple[int, str | None]] = {}
    for key, label, count in zip(keys.to_pylist(), trimmed.to_pylist(), counts, strict=True):
        if key not in best or count > best[key][0]:
            best[key] = (count, label)
    chosen = pa.array([best[key][1] for key in keys.to_pylist()], pa.string())
    changed = pc.not_equal(chosen, values).fill_null(False)
    cells = int(counts[changed.to_numpy(zero_copy_only=False)].sum())
    places = pc.index_in(column, value_set=values)
    first = pc.index(changed, True).as_py()
    where = spot(place, name, pc.index(places, first).as_py())
    note = (
        f"column '{name[:64]}': {cells} cells were read as labels from which they differ in case "
        f"or blanks only, the first '{values[first].as_py()[:32]}' in {where} as "
        f'\'{chosen[first].as_py()[:32]}\'; types={{"{name[:64]}":"category"}} keeps them apart'
    )
    return Labels("category", chosen.take(places), note, folded=True)


def _alike(name: str, values: pa.Array, lower: pa.Array) -> str:
    """A warning of labels that differ in nothing but case and blanks, and stay apart; ``lower`` is
    how they are the same."""
    counted = lower.value_counts()
    twice = pc.filter(counted.field(0), pc.greater(counted.field(1), 1)).drop_null()
    same = pc.filter(values, pc.equal(lower, twice[0])).to_pylist()[:2]
    return (
        f"{len(twice)} values of column '{name[:64]}' are written in several ways that differ in "
        f"case or blanks only, such as '{same[0][:32]}' and '{same[1][:32]}', and are different "
        "labels; write them alike if they mean the same"
    )


def _other_notation(name: str, values: pa.Array, fits: _Fits) -> str | None:
    """A warning where most cells are numbers or dates, only not as we read them."""
    for kind, pattern, remedy in _NOTATIONS:
        if fits(pattern):
            example = values.filter(matches(values, pattern))[0].as_py()
            return (
                f"column '{name[:64]}' is a category, though most of its cells look like {kind}s "
                f"in another notation ('{example[:64]}'), or not all in one; "
                f"{remedy.format(name=name[:64])}"
            )
    return None


def _almost(
    name: str, column: pa.ChunkedArray, kind: TypeName, place: Place, has_types: bool
) -> str | None:
    """Why a column that is mostly numbers or datetimes is a category."""
    short, remedy = name[:64], f'send types={{"{name[:64]}":"{kind}"}} to make it a {kind}'
    if has_types and kind == "number" and text_parsing.numbers(column) is not None:
        return f"column '{short}' holds numbers written as strings and is a category; {remedy}"
    if kind == "datetime" and text_parsing.mixed_datetimes(column) is not None:
        return (
            f"column '{short}' is a category, since some of its datetimes have a zone and others "
            f"have none; {remedy} in UTC"
        )
    row = first_misfit(column, COLUMN_TYPES[kind].read_plain)
    where, _ = place(name, row)
    cell = column[row].as_py()[:64]
    if kind == "number" and text_parsing.numbers(column) is not None:
        return (
            f"column '{short}' is a category, since {where} holds '{cell}' with leading zeros; "
            f"{remedy}"
        )
    others = pc.invert(matches(column, COLUMN_TYPES[kind].plain))
    count = pc.sum(pc.cast(others, pa.int64())).as_py()
    if not count and kind == "datetime":
        return (
            f"column '{short}' is a category although its cells look like dates: {where} holds "
            f'\'{cell}\', which is none; mend it, or send types={{"{short}":"datetime"}} and '
            "on_error=missing to take it as missing"
        )
    if not count:
        return (
            f"column '{short}' is a category although its cells are {kind}s: {where} holds "
            f"'{cell}', which is beyond a {kind} of 64 bits; mend it, or leave the cell empty"
        )
    return (
        f"column '{short}' is a category although most of its cells are {kind}s: {where} holds "
        f"'{cell}', {'the only one that is' if count == 1 else f'one of {count} cells that are'} "
        f"no {kind}; mend {'it' if count == 1 else 'them'}, or send "
        f'types={{"{short}":"{kind}"}} and on_error=missing to take them as missing'
    )
