"""Markers of missing values among numbers and dates, as instruments, databases and people write
them. In columns of strings they are values."""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_WORDS = (
    *("", "?", "??", "-", "--", "---", "\u2013", "\u2014", ".", "..", "...", "\u2026", "*", "/"),
    ":",  # Eurostat's
    *("na", "n/a", "n.a.", "n.a", "#n/a", "#n/a n/a", "<na>", "nan", "-nan", "1.#qnan", "-1.#ind"),
    *("none", "nil", "null", "(null)", "[null]", "<null>", "nat", "missing", "(missing)"),
    *("nd", "n.d.", "n.v.", "n.b.", "k.a", "tbd", "tba", "(leer)", "(blank)", "void"),
    *("keine angabe", "unbekannt", "inconnu", "desconocido", "not known", "not reported"),
    *("#wert!", "#bezug!", "#zahl!", "#valeur!", "#nombre!", "#n/d", "#\u00a1valor!"),
    *("unknown", "not available", "not applicable", "no data", "k.a.", "k. a.", "s/d", "n/d"),
    *("#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!", "#nv", "\\n", "undefined"),
)
_AMONG_NUMBERS = (
    *("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"),
    *("\u221e", "-\u221e"),
)
_AMONG_DATES = ("0000-00-00", "0000-00-00 00:00:00", "00/00/0000", "00.00.0000", "0")
_AMONG = {
    "number": _AMONG_NUMBERS,
    "datetime": _AMONG_DATES,
    "boolean": (),
    "either": _AMONG_NUMBERS + _AMONG_DATES,
}


@lru_cache(16)
def markers(among: str, na_values: tuple[str, ...] = (), keep_na: tuple[str, ...] = ()) -> pa.Array:
    """Return the markers among ``"number"``, ``"datetime"`` or ``"either"``, in lower case."""
    usual = _WORDS + _AMONG[among]
    exceptions = {value.lower() for value in keep_na}
    found = [word for word in usual if word not in exceptions]
    return pa.array([*found, *(value.strip().lower() for value in na_values)])


class SaidMissing:
    """Values that a client says are missing: strings, and the numbers that they are."""

    def __init__(self, na_values: Iterable[str]) -> None:
        self.texts = frozenset(value.strip().lower() for value in na_values)
        self.numbers = frozenset(filter(math.isfinite, map(_number, self.texts)))

    def __bool__(self) -> bool:
        return bool(self.texts)

    def __contains__(self, value: Any) -> bool:
        kind = type(value)
        if kind is str:
            return value.strip().lower() in self.texts
        return (kind is int or kind is float) and value in self.numbers


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def is_marker(cells: pa.Array, known: pa.Array) -> pa.Array:
    """Return ``(cells,)`` whether each is one of ``known``, whatever its case and blanks."""
    return pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(cells)), value_set=known)
