"""Times of day and durations as seconds: ``14:55``, ``1:02:03.5``, ``1 days 02:03:04``,
``PT1H30M``, ``1h 30m``.

``3:45`` has hours and minutes, as a clock and a spreadsheet have it, unless a client says that it
has minutes and seconds, or ``59:30`` stands beside ``1:02:03``.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.column_types.arrays import matches, replaced
from app.ml.column_types.notations.datetimes import Parts, matching
from app.ml.column_types.notations.notation import TimesOf

_SIGN = "(?P<sign>-?)"
_FRACTION = "(?:[.,](?P<fraction>[0-9]{1,9}))"
_FAMILIES = (
    r"^(?P<sign>-?)(?P<hour>[0-9]{1,3})[:h](?P<minute>[0-5][0-9])"
    rf"(?::(?P<second>[0-5][0-9]){_FRACTION}?)?(?:\s*(?P<half>[ap])\.?m\.?)?$",
    rf"^{_SIGN}(?P<hour>[0-9]{{1,2}})(?:[:.](?P<minute>[0-5][0-9])"
    rf"(?:[:.](?P<second>[0-5][0-9]){_FRACTION}?)?)?\s*uhr$",
    rf"^{_SIGN}(?P<minute>[0-9]{{1,3}}):(?P<second>[0-5][0-9]){_FRACTION}$",
    r"^(?P<before>-?)(?P<day>[0-9]{1,6}) days?(?:,? \+?(?P<hour>[0-9]{1,2}):(?P<minute>[0-5][0-9])"
    rf":(?P<second>[0-5][0-9]){_FRACTION}?)?$",
    rf"^{_SIGN}p(?:(?P<day>[0-9]{{1,6}})d)?(?:t(?:(?P<hour>[0-9]{{1,6}})h)?"
    rf"(?:(?P<minute>[0-9]{{1,6}})m)?(?:(?P<second>[0-9]{{1,9}}){_FRACTION}?s)?)?$",
    rf"^{_SIGN}(?:(?P<week>[0-9]{{1,6}})\s*w(?:eeks?)?,?\s*)?"
    r"(?:(?P<day>[0-9]{1,6})\s*d(?:ays?)?,?\s*)?"
    r"(?:(?P<hour>[0-9]{1,6})\s*h(?:(?:ou)?rs?)?,?\s*)?(?:(?P<minute>[0-9]{1,6})\s*m(?:in(?:ute)?s?)?,?\s*)?"
    rf"(?:(?P<second>[0-9]{{1,9}}){_FRACTION}?\s*s(?:ec(?:ond)?s?)?)?$",
)
"""All of a column's cells belong to one."""
_OF_MINUTES = (
    rf"^{_SIGN}(?:(?P<hour>[0-9]{{1,3}}):)?(?P<minute>[0-9]{{1,3}}):(?P<second>[0-5][0-9])"
    rf"{_FRACTION}?$"
)
_TWO_PARTS = "^-?[0-9]+:[0-9]+$"
_WORD = "[0-9] *(?:min|hour|hr|day|week|sec)"
_UNITS = {"week": 604_800, "day": 86_400, "hour": 3_600, "minute": 60, "second": 1}


class Seen(NamedTuple):
    """What the cells of a column like 3:45 seem to be made of."""

    made_of: TimesOf
    beyond_doubt: bool
    example: str


def parts_of(cells: pa.Array) -> Seen | None:
    """Return what ``cells`` like 3:45 are made of; None where none is like this."""
    plain = pc.utf8_trim_whitespace(cells)
    short = plain.filter(matches(plain, _TWO_PARTS).fill_null(False))
    if not len(short):
        return None
    head = replaced(short, "^-|:.*$", "")
    largest = pc.max(pc.cast(head, pa.int64())).as_py()
    example = short[0].as_py()
    if pc.any(matches(plain, ":.*:")).as_py():  # 59:30 beside 1:02:03
        made_of: TimesOf = "%M:%S" if largest > 23 else "%H:%M:%S"
        return Seen(made_of, largest > 23, example)
    padded = pc.all(matches(head, "^[0-9]{2}$")).as_py() and largest <= 23
    return Seen("%H:%M:%S", 12 < largest <= 23 or padded, example)


def recognise(
    cells: pa.Array, *, alone: bool = False, made_of: TimesOf = "%H:%M:%S"
) -> pa.Array | None:
    """Return distinct ``cells`` as seconds float64 ``(cells,)``; None where one is none. ``alone``:
    whether they are known to be durations, so that ``90m`` is one; ``made_of``: what ``3:45``
    is."""
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(cells))
    for pattern in (_OF_MINUTES,) * (made_of == "%M:%S") + _FAMILIES:
        if (found := matching(plain, pattern)) is not None:
            worded = pc.any(matches(plain, _WORD)).as_py() is True
            return _seconds(Parts(found), alone, worded)
    return None


def _seconds(parts: Parts, alone: bool, worded: bool) -> pa.Array | None:
    counts = {name: parts.number(name) for name in _UNITS}
    there = parts.present
    said = np.sum([values >= 0 for values in counts.values()], axis=0)[there]
    if (said < 1).any():
        return None  # "P" alone
    several = np.sum([(values[there] >= 0).any() for values in counts.values()]) > 1
    if not alone and (said < 2).all() and not (several and worded):
        return None  # 5M and 3M may be names; 5 min and 1 h are not
    counts["hour"] = _of_half_days(parts, counts["hour"])
    if (counts["hour"] < -1).any():
        return None
    total = sum(np.maximum(values, 0) * _UNITS[name] for name, values in counts.items())
    total = total + _fractions(parts)
    if "before" in parts.names:  # pandas writes -1 days +23:00:00 for an hour ago
        days = np.maximum(counts["day"], 0) * _UNITS["day"]
        total = np.where(_is_minus(parts, "before"), total - 2 * days, total)
    else:
        total = np.where(_is_minus(parts, "sign"), -total, total)
    return pa.array(total.astype(np.float64), mask=~there)


def _of_half_days(parts: Parts, hours: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return hours from 0 to 23 where they are said of half a day; -2 where there is no such."""
    if "half" not in parts.names:
        return hours
    halves = parts.text("half").fill_null("").to_numpy(zero_copy_only=False)
    wrong = (halves != "") & ((hours < 1) | (hours > 12))
    found = np.where(halves == "", hours, hours % 12 + 12 * (halves == "p"))
    return np.where(wrong, -2, found)


def _fractions(parts: Parts) -> NDArray[np.float64]:
    shares = pc.binary_join_element_wise("0.", parts.text("fraction").fill_null(""), "")
    return np.asarray(pc.cast(shares, pa.float64()).fill_null(0))


def _is_minus(parts: Parts, name: str) -> NDArray[np.bool_]:
    return np.asarray(pc.equal(parts.text(name), "-").fill_null(False))
