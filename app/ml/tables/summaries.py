"""The numbers behind a dataset's pictures: pairs of values, histograms and correlations.

Read from a column's profile or group by group of the stored table, never from the whole of it.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.column_types.canonical import WHOLE_BELOW
from app.ml.column_types.spread import BINS, bin_edges
from app.ml.tables import parquet
from app.ml.tables.profile import Column

Points = tuple[NDArray[Any], NDArray[Any]]
"""Values along x and along y, both ``(n,)`` float64."""

_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1)
_ROUNDING = 1e-12
"""Share of a sum of squares below which a variance is what rounding leaves."""


def spaced_pairs(path: Path, rows: int, x: str, y: str, most: int) -> Points:
    """Return the values of two columns, both ``(n,)``.

    They come from at most ``most`` of the table's ``rows``, evenly spaced; a row that lacks one is
    left out.
    """
    picked = np.linspace(0, rows - 1, min(most, rows)).astype(np.int64)
    start, parts = 0, []
    for group in parquet.groups(path, list(dict.fromkeys([x, y]))):
        first, last = np.searchsorted(picked, [start, start + group.num_rows])
        pairs = group.take(picked[first:last] - start)
        parts.append(np.stack([_floats(pairs[x]), _floats(pairs[y])]))
        start += group.num_rows
    both = np.concatenate(parts, axis=1)
    both = both[:, np.isfinite(both).all(axis=0)]
    return both[0], both[1]


def histogram(path: Path, column: Column) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the edges ``(bins + 1,)`` and counts ``(bins,)`` of a number or datetime column.

    Edges of a datetime column are in days since 1970. Counts come from the profile where it has
    them, else from the table at ``path``.
    """
    dated = column["type"] == "datetime"
    low, high = (_number(column[end]) for end in ("min", "max"))
    edges = _edges(low, high)
    stored = column.get("histogram")
    counts = np.array(stored["counts"]) if stored else _counted(path, column["name"], edges)
    if dated:
        edges = edges / (_DAY / _MICROSECOND)
    whole = not column["time"] if dated else column["integer"]
    return _by_value(edges, counts) if whole else (edges, counts)


def _edges(low: float, high: float) -> NDArray[Any]:
    """Return the edges that the profile counts by; those of datetimes it shows rounded."""
    return np.array([low, high]) if low == high else bin_edges(low, high)


def _counted(path: Path, name: str, edges: NDArray[Any]) -> NDArray[Any]:
    """Count ``(bins,)`` the values of a stored column between ``edges`` ``(bins + 1,)``."""
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    for group in parquet.groups(path, [name]):
        values = _floats(group[name].drop_null())
        counts += np.bincount(
            np.searchsorted(edges[1:-1], values, side="right"), minlength=len(counts)
        )
    return counts


def _by_value(edges: NDArray[Any], counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return one bin around each whole number where no bin holds two of them; else the same."""
    low, high = edges[0], edges[-1]
    if high - low >= BINS or max(abs(low), abs(high)) >= WHOLE_BELOW:
        return edges, counts
    heights = np.zeros(round(high - low) + 1, dtype=np.int64)
    whole = np.minimum(np.ceil(edges[:-1]), high) - low
    np.add.at(heights, whole.astype(int), counts)
    return np.arange(len(heights) + 1) + (low - 0.5), heights


def _number(value: float | str) -> float:
    """Return a profile's value as a number; a moment as microseconds since 1970."""
    if not isinstance(value, str):
        return float(value)
    moment = datetime.fromisoformat(value)
    if moment.tzinfo:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return float((moment - _EPOCH) // _MICROSECOND)


def correlations(path: Path, columns: Sequence[Column]) -> NDArray[Any]:
    """Return Pearson correlations ``(columns, columns)``, NaN where a column does not vary.

    Each is of the rows that have both values; the table is read once.

    """
    # element [i, j] of each sum is of column i, in the rows where column j has a value
    count, total, squares, products = (np.zeros((len(columns),) * 2) for _ in range(4))
    for values in _centred(path, columns):
        present = ~np.isnan(values)
        values[~present] = 0.0
        has = present.astype(np.float64)
        count += has @ has.T
        total += values @ has.T
        products += values @ values.T
        squares += np.square(values, out=values) @ has.T
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = squares - total**2 / count
        # what rounding leaves of a column that is constant in those rows
        variance[variance <= _ROUNDING * squares] = np.nan
        covariance = products - total * total.T / count
        return np.clip(covariance / np.sqrt(variance) / np.sqrt(variance.T), -1, 1)


def _centred(path: Path, columns: Sequence[Column]) -> Iterator[NDArray[Any]]:
    """Yield ``(columns, rows)`` of each row group: values near 0 and below 2, NaN for missing.

    Scaled by a power of two, which is exact, so that no square of a value overflows.
    """
    names = [column["name"] for column in columns]
    scales = [_scale(column) for column in columns]
    for group in parquet.groups(path, names):
        values = np.empty((len(names), group.num_rows))
        for row, name, (factor, shift) in zip(values, names, scales, strict=True):
            np.multiply(_floats(group[name]), factor, out=row)
            row -= shift
        yield values


def _scale(column: Column) -> tuple[float, float]:
    """Return the factor to multiply a column with, and what to subtract then."""
    low, high = float(column["min"] or 0), float(column["max"] or 0)
    _, exponent = math.frexp(max(abs(low), abs(high)))
    factor = math.ldexp(1.0, min(-exponent, 1023))
    mean = column["mean"]
    if mean is None or not math.isfinite(mean):  # it overflowed
        return factor, (low * factor + high * factor) / 2
    return factor, mean * factor


def _floats(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return ``(rows,)`` float64: NaN for missing, moments as microseconds since 1970."""
    if pa.types.is_temporal(column.type):
        column = pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())
    return np.asarray(column.to_numpy(), dtype=np.float64)
