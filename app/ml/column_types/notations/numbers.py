"""Numbers as people write them: decimal commas, thousands, currencies, units, accounting.

Two readings of ``1.037`` are possible; which one holds is decided by the column's other cells, by
the file's other columns, or not at all.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.ml.column_types.arrays import groups, matches, replaced
from app.ml.column_types.notations.notation import (
    Cells,
    Decimal,
    Notation,
    Recognised,
    Thousands,
    Undecided,
)

_MINUS = "\u2212\u2013\uff0d\ufe63"
"""Signs that stand for a minus, as typesetters have them."""
_BLANKS = " \u00a0\u2007\u2009\u202f"
_APOSTROPHES = "'\u2019"
_CURRENCIES = (
    "(?:US|AU|CA|HK|NZ|NT|MX|[RACS])\\$|[$€£¥₹₽₩₺₴₪฿₫₦₱¢₿]|Rs\\.?|Rp\\.?|RM|kr\\.?|zł|Kč|Ft|lei|CHF|"
    "Fr\\.|руб\\.?|лв\\.?|"
    "USD|EUR|GBP|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|BRL|MXN|ZAR|TRY|RUB|KRW|SGD|"
    "円|元|원|HKD|ILS|THB|MYR|IDR|TWD|PHP|VND|AED|SAR|EGP|NGN|CLP|COP|ARS|BTC|ETH"
)
_PER = "(?:/ ?|per )[A-Za-z][A-Za-z²³.]*"
"""What a price is paid for, as in $12/hr."""
_SQUARE = "(?:sq|cu|fl)\\.? ?(?:ft|m|km|mi|yd|in|cm|oz)\\.?"
_SUFFIX = (
    f"(?:{_CURRENCIES})(?:{_PER})?|{_PER}|[%\u2030°]|{_SQUARE}|"
    "[A-Za-zµμΩ°\"'][A-Za-zµμΩ°²³/.\u00b7^*0-9-]*"
)
_AROUND = (
    rf"^(?P<open>\(?)[{_BLANKS}]*(?P<sign>[+-]?)[{_BLANKS}]*(?P<before>(?:{_CURRENCIES})?)"
    rf"[{_BLANKS}]*(?P<inner>[+-]?)[{_BLANKS}]*"
    rf"(?P<body>[0-9.,](?:[0-9.,{_APOSTROPHES}_{_BLANKS}]*[0-9.,])?(?:[eE][+-]?[0-9]+)?)"
    rf"(?P<gap>[{_BLANKS}]*)(?P<after>(?:{_SUFFIX})?)[{_BLANKS}]*(?P<trail>-{{0,2}})(?P<close>\)?)$"
)
MAGNITUDES = {
    **dict.fromkeys(("tsd", "thousand", "thousands", "tausend"), 1e3),
    **dict.fromkeys(("lakh", "lakhs", "lac"), 1e5),
    **dict.fromkeys(("mn", "mio", "mln", "million", "millions", "millionen"), 1e6),
    **dict.fromkeys(("crore", "crores"), 1e7),
    **dict.fromkeys(("bn", "mrd", "mld", "billion", "billions", "milliarden"), 1e9),
    **dict.fromkeys(("trillion", "trillions"), 1e12),
}
"""Words behind a number that multiply it; they are no units."""
_OF_CASE = re.compile("m(?:wh?|v|a|hz|pa|j|n|g|m|s|ev|l|t|cal|bar)|[kmgtp]?i?(?:b|bit)(?:/s|ps)?")
"""Units in which a capital letter has a meaning: mega and milli, bytes and bits."""
_SHARES = {"%", "\u2030"}
_NO_UNITS = {*MAGNITUDES, "uhr"}
"""Words behind a number that are none: 14.30 Uhr is half past two."""
_LETTERS = {"k", "K", "m", "M", "b", "B", "G", "T", "e", "E", "x", "X"}
"""Letters right behind a number that change it, or make it a code; they are no units."""
_GROUPS: dict[Thousands, str] = {
    ",": ",",
    ".": r"\.",
    "'": f"[{_APOSTROPHES}]",
    " ": f"[{_BLANKS}]",
    "_": "_",
}
_DOTTED_THOUSANDS = r"^\s*[+-]?(?:[1-9][0-9]{0,2}(?:\.[0-9]{3})+|[0-9]+)\s*$"
_CODE = "^0[0-9]"
_FOOTNOTE = r"^\s*\([0-9]+\)\s*$"
"""(1), (2), (3) are numbers of things, unless others stand without brackets."""
ANY = f"^[(]?[-+{_MINUS}]?(?:{_CURRENCIES})?[{_BLANKS}]*[-+{_MINUS}]?[0-9.,]"
"""How any number begins."""


@dataclass(frozen=True)
class Split:
    """Distinct cells taken apart: ``(cells,)`` each, null where a cell is no number."""

    bodies: pa.Array
    negative: pa.Array
    unit: str | None


def take_apart(cells: pa.Array) -> Split | None:
    """Return what distinct ``cells`` are made of; None where one is no number, or units differ."""
    cells = _plain_digits(pc.utf8_trim_whitespace(cells))
    cells = replaced(cells, f"[{_MINUS}]", "-")
    if pc.any(pc.match_substring(cells, "(")).as_py():  # $(1.50) and (1.50) $ are ($1.50)
        cells = replaced(cells, rf"^((?:{_CURRENCIES}))[{_BLANKS}]*\((.*)\)$", r"(\1\2)")
        cells = replaced(cells, rf"^\((.*)\)[{_BLANKS}]*((?:{_CURRENCIES})|%)$", r"(\1\2)")
    if pc.any(pc.ends_with(cells, "-")).as_py():  # accountants write $ - for nothing
        cells = pc.replace_substring_regex(cells, f"^((?:{_CURRENCIES})[{_BLANKS}]*)-+$", r"\10")
    first = next((cell.as_py() for cell in cells if cell.is_valid), "")
    if re.match(_AROUND, first) is None:
        return None  # before Arrow compiles its expression, anew for every column
    parts = groups(cells, _AROUND)
    if parts.null_count > cells.null_count:
        return None
    part = named(parts)
    brackets = [pc.not_equal(part[name], "") for name in ("open", "close")]
    if not pc.all(pc.equal(*brackets), min_count=0).as_py():
        return None
    round_sum = matches(part["body"], "[.,]$")  # 12,- and 12.- are 12
    trailing = pc.and_not(pc.equal(part["trail"], "-"), round_sum)
    minus = [*(pc.equal(part[name], "-") for name in ("sign", "inner")), trailing]
    signs = np.sum(
        [pc.cast(each, pa.int8()).fill_null(0) for each in (*minus, brackets[0])], axis=0
    )
    if (signs > 1).any():
        return None
    unit = _unit(part)
    if unit is False:
        return None
    return Split(part["body"], pa.array(signs == 1), unit or None)


def _plain_digits(cells: pa.Array) -> pa.Array:
    """Return cells with the wide digits and signs of East Asian scripts as ASCII has them."""
    wide = matches(cells, "[\uff01-\uff5e]").fill_null(False)
    if not pc.any(wide).as_py():
        return cells
    return pc.if_else(wide, pc.utf8_normalize(cells, form="NFKC"), cells)


def named(parts: pa.StructArray) -> dict[str, pa.Array]:
    """Return what a regular expression has found in cells by the name of its group, null where it
    does not fit."""
    return dict(zip((field.name for field in parts.type), parts.flatten(), strict=True))


def _unit(part: dict[str, pa.Array]) -> str | Literal[False]:
    """Return the one unit that stands beside numbers, "" for none, False where they differ."""
    before, gap, after = (part[name].drop_null() for name in ("before", "gap", "after"))
    twice = pc.and_(pc.not_equal(before, ""), matches(after, f"^(?:{_CURRENCIES})$"))
    before = pc.if_else(twice, "", before)  # $5 USD
    after = replaced(after, "^(?:/ ?|per )", "/")
    per = pc.starts_with(after, "/")
    both = pc.and_(pc.not_equal(before, ""), pc.not_equal(after, ""))
    if not pc.all(pc.equal(both, per), min_count=0).as_py():
        return False
    around = pc.binary_join_element_wise(before, after, "")
    found = {*pc.unique(around).to_pylist()} - {""}
    if not all(_same(unit, other) for unit in found for other in found):
        return False
    unit: str = max(found, key=lambda around: (len(around), around), default="")
    if unit in _SHARES:  # 0.5 beside 10% may be 50%
        bare = pc.filter(part["body"], pc.equal(part["after"], ""))
        if pc.any(matches(bare, "[1-9]")).as_py():
            return False
    if re.search("(?<![/0-9])[0-9]{2}", unit) or unit.lower().rstrip(".") in _NO_UNITS:
        return False  # 1Q21 is a quarter
    if re.fullmatch(f"(?:{_CURRENCIES})(?:{_PER})?|[%\u2030°]", unit) or not unit:
        return unit
    beside = pc.filter(gap, pc.not_equal(after, ""))
    touches = pc.any(pc.equal(beside, "")).as_py()
    some_without = pc.any(pc.equal(after, "")).as_py()
    if touches and (unit in _LETTERS or len(unit) == 1 or some_without):
        return False  # 12a beside 12 is a house, and 3M are three million
    return unit


def recognise(cells: pa.Array, known: Cells, *, codes: bool) -> Recognised | Undecided | None:
    """Return distinct ``cells`` as numbers, as the model's column was written where that fits.

    None where one is none; ``codes``: ``007`` is one as well.
    """
    split = take_apart(cells)
    if split is None:
        return None
    learnt = known.notation
    if known.of_model and split.unit in _SHARES and (learnt is None or learnt.unit is None):
        return None  # 12% may be 0.12 there
    if learnt is not None and (values := _read(split, learnt)) is not None:
        return Recognised(values, learnt)
    if learnt is not None and split.unit and learnt.unit and not _same(split.unit, learnt.unit):
        return None  # feet are no metres
    bodies = split.bodies.drop_null()
    if not codes and pc.any(matches(bodies, _CODE)).as_py():
        return None
    if not codes and split.unit is None and pc.all(matches(cells, _FOOTNOTE), min_count=0).as_py():
        return None
    likes_learnt = None
    if learnt is not None and known.evidence.delimiter is None:  # no file: each stands for itself
        likes_learnt = _fit(split.bodies, learnt).fill_null(False)
        bodies = _where(pc.invert(likes_learnt), split).bodies.drop_null()
    marks = _marks(bodies, known)
    if not isinstance(marks, tuple):
        return marks
    notation = Notation(decimal=marks[0], thousands=marks[1], unit=split.unit)
    if learnt is None or likes_learnt is None:
        values = _values(split, notation)
    else:
        each = _values(_where(likes_learnt, split), learnt)
        others = _values(_where(pc.invert(likes_learnt), split), notation)
        values = None if each is None or others is None else pc.coalesce(each, others)
    return None if values is None else Recognised(values, notation)


def _where(mask: pa.Array, split: Split) -> Split:
    return replace(split, bodies=pc.if_else(mask, split.bodies, pa.scalar(None, pa.string())))


def _marks(bodies: pa.Array, known: Cells) -> tuple[Decimal, Thousands | None] | Undecided | None:
    """Return decimal mark and separator of thousands."""
    dot, comma = (pc.any(pc.match_substring(bodies, mark)).as_py() for mark in ".,")
    others: list[Thousands] = [
        mark for mark in ("'", " ", "_") if pc.any(matches(bodies, _GROUPS[mark])).as_py()
    ]
    if len(others) > 1:
        return None
    other = others[0] if others else None
    readings: list[tuple[Decimal, Thousands | None]] = []
    if dot or not comma:
        readings.append((".", "," if comma else other))
    if comma or (dot and other is None):
        readings.append((",", "." if dot else other))
    if comma and not dot and other is None:
        readings.append((".", ","))
    readings = [
        reading for reading in readings if _allowed(reading, known) and _fits(bodies, reading)
    ]
    if len(readings) < 2:
        return readings[0] if readings else None
    return _by_evidence(readings, known)


def _allowed(reading: tuple[Decimal, Thousands | None], known: Cells) -> bool:
    """Return whether what the client says leaves this reading."""
    decimal, thousands = known.options.decimal, known.options.thousands
    if decimal is not None and reading[0] != decimal:
        return False
    if thousands is None:
        return True
    return reading[1] in (None, thousands) and reading[0] != thousands


def _by_evidence(
    readings: list[tuple[Decimal, Thousands | None]], known: Cells
) -> tuple[Decimal, Thousands | None] | Undecided:
    decimal = known.notation.decimal if known.notation else known.evidence.decimal
    for reading in readings:
        if reading[0] == decimal:
            return reading
    return Undecided()


def _fits(bodies: pa.Array, reading: tuple[Decimal, Thousands | None]) -> bool:
    return bool(pc.all(_fit(bodies, Notation(decimal=reading[0], thousands=reading[1]))).as_py())


def _fit(bodies: pa.Array, notation: Notation) -> pa.Array:
    """Whether each body is written in the marks of ``notation``."""
    return matches(bodies, f"^(?:{_body(notation.decimal, notation.thousands)})$")


def _body(decimal: Decimal, thousands: Thousands | None) -> str:
    whole = "[0-9]+"
    if thousands is not None:
        mark = _GROUPS[thousands]
        whole = f"[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})+|[0-9]+"
        if thousands == ",":  # 12,34,567 in India
            whole += "|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}"
    point = re.escape(decimal)
    return f"(?:(?:{whole})(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?"


def read(cells: pa.Array, notation: Notation) -> pa.Array | None:
    """Return distinct ``cells`` in this notation as float64 ``(cells,)``; None where one is not."""
    split = take_apart(cells)
    return None if split is None else _read(split, notation)


def is_currency(unit: str) -> bool:
    """Return whether a unit is money."""
    return re.fullmatch(_CURRENCIES, unit) is not None


def _same(unit: str, other: str) -> bool:
    """Return whether two units are one: KG and kg, day and days; not mW and MW, nor Mb and MB."""
    if _singular(unit) != _singular(other):
        return False
    return unit == other or _OF_CASE.fullmatch(unit.lower()) is None


def _singular(unit: str) -> str:
    """Return ``day`` for ``Days``."""
    lower = unit.lower()
    return lower[:-1] if len(lower) > 2 and lower.endswith("s") else lower


def _read(split: Split, notation: Notation) -> pa.Array | None:
    if split.unit is not None and not _same(notation.unit or split.unit, split.unit):
        return None
    if not _fits(split.bodies.drop_null(), (notation.decimal, notation.thousands)):
        return None
    return _values(split, notation)


def _values(split: Split, notation: Notation) -> pa.Array | None:
    """Return float64 ``(cells,)``; None where one is beyond it."""
    plain = split.bodies
    if notation.thousands is not None:
        plain = replaced(plain, _GROUPS[notation.thousands], "")
    if notation.decimal == ",":
        plain = pc.replace_substring(plain, ",", ".")
    values = pc.cast(plain, pa.float64())
    if not pc.all(pc.is_finite(values), min_count=0).as_py():
        return None
    return pc.if_else(split.negative, pc.negate(values), values)


def shows_marks(cells: pa.Array) -> bool:
    """Return whether a dot or comma stands in one of the cells, which tells of its file's."""
    return bool(pc.any(matches(cells, "[0-9][.,]|[.,][0-9]")).as_py())


def looks_like_thousands(cells: pa.Array) -> bool:
    """Return whether every dot in plain numbers may separate thousands, and there is one."""
    dotted = pc.match_substring(cells, ".")
    grouped = matches(cells, _DOTTED_THOUSANDS)
    return bool(pc.any(dotted).as_py() and pc.all(grouped, min_count=0).as_py())
