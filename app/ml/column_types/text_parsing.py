"""Strings read as booleans, numbers and datetimes: all of a column, or nothing.

Every reader gives a canonical column, or ``None`` where one of the cells is something else.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.column_types.arrays import hits
from app.ml.column_types.canonical import (
    MOMENT,
    WHOLE_BELOW,
    ZONED,
    canonical_datetime,
    whole_as_integers,
)

_FEW = 400
"""Cells that Python looks at sooner than Arrow."""
_HAS_ZONE = r"[T ][0-9:.]+(Z|[+-][0-9:]+)\s*$"
_TRUE, _FALSE = ["true", "t", "yes", "y", "1"], ["false", "f", "no", "n", "0"]

Reader = Callable[[pa.ChunkedArray], pa.ChunkedArray | None]


def booleans(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Read ``true`` and ``false`` in letters of any case."""
    return _two_words(column, ["true"], ["false"])


def lenient_booleans(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Read also ``yes`` and ``no``, the first letters of all four words, 1 and 0."""
    return _two_words(column, _TRUE, _FALSE)


def _two_words(
    column: pa.ChunkedArray, true: list[str], false: list[str]
) -> pa.ChunkedArray | None:
    words = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    known = pc.is_in(words, value_set=pa.array([*true, *false]))
    if not pc.all(pc.or_(known, pc.is_null(words))).as_py():
        return None
    is_true = pc.is_in(words, value_set=pa.array(true))
    return pc.if_else(pc.is_valid(words), is_true, pa.scalar(None, pa.bool_()))


def numbers(column: pa.ChunkedArray, *, codes: bool = True) -> pa.ChunkedArray | None:
    """Read numbers; ``codes``: whether ``001`` is one as well, which loses its zeros."""
    values = _floats(column)
    if values is None:
        column = pc.utf8_trim_whitespace(column)
        values = _floats(column)
    if values is None or (not codes and _has_leading_zeros(column)):
        return None
    spread = pc.min_max(values)
    low, high = spread["min"].as_py(), spread["max"].as_py()
    if low is None or max(-low, high) < WHOLE_BELOW:
        return whole_as_integers(values, small=True)
    try:  # floats cannot tell integers of this size apart
        return pc.cast(pc.replace_substring_regex(column, r"^\+", ""), pa.int64())
    except pa.ArrowInvalid:
        return pc.add(values, 0.0)


def _floats(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    try:
        values = pc.cast(column, pa.float64())
    except pa.ArrowInvalid:
        return None
    return values if pc.all(pc.is_finite(values), min_count=0).as_py() else None


def datetimes(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Read ISO 8601 as a canonical datetime column."""
    for cells in (column, pc.utf8_trim_whitespace(column)):
        for kind in (pa.date32(), MOMENT, ZONED):
            try:
                return canonical_datetime(pc.cast(cells, kind))
            except pa.ArrowInvalid:
                continue
    short = pc.replace_substring_regex(column, r"(\.[0-9]{6})[0-9]{1,3}", r"\1")  # nanoseconds
    return None if short.equals(column) else datetimes(short)


def mixed_datetimes(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Read ISO 8601 also where some have a zone and others none, which are in UTC then."""
    found = datetimes(column)
    if found is not None:
        return found
    parts = [_in_utc(chunk) for chunk in column.chunks]
    return None if any(part is None for part in parts) else pa.chunked_array(parts, ZONED)


def moments(texts: Sequence[str | None]) -> pa.Array | None:
    """Return ISO 8601 strings, with zones or without, as timestamps in UTC.

    Returns ``None`` where one is something else.
    """
    return _in_utc(pa.array(texts, pa.string()))


def _in_utc(cells: pa.Array) -> pa.Array | None:
    zoned = pc.fill_null(pc.match_substring_regex(cells, _HAS_ZONE), False)
    parts = (cells.filter(zoned), cells.filter(pc.invert(zoned)))
    found = [datetimes(pa.chunked_array([part])) for part in parts]
    if found[0] is None or found[1] is None:
        return None
    instants = [pc.cast(pc.cast(part, MOMENT), ZONED).combine_chunks() for part in found]
    places = np.argsort(~zoned.to_numpy(zero_copy_only=False), kind="stable")
    return pa.concat_arrays(instants).take(pa.array(np.argsort(places)))


def first_present(column: pa.ChunkedArray) -> str | None:
    """Return the first cell that is not missing; ``None`` where all are."""
    if len(column) and column[0].is_valid:  # as it is most of the time
        first: str = column[0].as_py()
        return first
    for chunk in column.chunks:
        if chunk.null_count < len(chunk):
            found: str = chunk[pc.index(chunk.is_valid(), True).as_py()].as_py()
            return found
    return None


def first_misfit(column: pa.ChunkedArray, read: Reader) -> int:
    """Return the row whose cell makes ``read`` give up, by bisection: prefixes before it can be
    read."""
    good, bad = 0, len(column)
    while bad - good > 1:
        middle = (good + bad) // 2
        if read(column.slice(0, middle)) is None:
            bad = middle
        else:
            good = middle
    return bad - 1


def _has_leading_zeros(column: pa.ChunkedArray) -> bool:
    """Whether a cell of digits begins like ``001`` or ``-01``; read from Arrow's own buffers where
    there are many."""
    if len(column) <= _FEW:
        return bool(hits(column, "^[-+]?0[0-9]").any())
    for chunk in column.chunks:
        _, places, content = chunk.buffers()
        if content is None or not content.size:
            continue
        letters = np.frombuffer(content, np.uint8)
        offsets = np.frombuffer(places, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        firsts = np.take(letters, offsets[:-1], mode="clip")
        zero = _second_is_digit(letters, offsets, np.flatnonzero(firsts == ord("0")), 1)
        signed = np.flatnonzero((firsts == ord("-")) | (firsts == ord("+")))
        seconds = np.take(letters, offsets[signed] + 1, mode="clip")
        signed = signed[seconds == ord("0")]
        if zero or _second_is_digit(letters, offsets, signed, 2):
            return True
    return False


def _second_is_digit(
    letters: NDArray[np.uint8], offsets: NDArray[np.int32], cells: NDArray[np.int64], place: int
) -> bool:
    """Whether one of ``cells`` has a digit at ``place``."""
    ends = offsets[cells] + place
    found = np.take(letters, ends, mode="clip")
    digit = (found >= ord("0")) & (found <= ord("9"))
    return bool((digit & (ends < offsets[cells + 1])).any())
