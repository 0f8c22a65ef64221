"""The numbers behind a dataset's pictures: pairs of values and histograms.

Read from a column's profile or group by group of the stored table, never from the whole of it.
"""

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
"""Values along x and along y, both ``(n,)``: float64, or datetime64."""

_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1)


def spaced_pairs(path: Path, rows: int, x: Column, y: Column, most: int) -> Points:
    """Return the values of two number or datetime columns, both ``(n,)``.

    They come from at most ``most`` of the table's ``rows``, evenly spaced; a row that lacks one is
    left out.
    """
    picked = np.linspace(0, rows - 1, min(most, rows)).astype(np.int64)
    start, parts = 0, []
    names = [x["name"], y["name"]]
    for group in parquet.groups(path, list(dict.fromkeys(names))):
        first, last = np.searchsorted(picked, [start, start + group.num_rows])
        pairs = group.take(picked[first:last] - start)
        parts.append(np.stack([as_floats(pairs[name]) for name in names]))
        start += group.num_rows
    both = np.concatenate(parts, axis=1)
    both = both[:, np.isfinite(both).all(axis=0)]
    return _axis(both[0], x), _axis(both[1], y)


def _axis(values: NDArray[Any], column: Column) -> NDArray[Any]:
    return values.astype("datetime64[us]") if column["type"] == "datetime" else values


def histogram(path: Path, column: Column) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the edges ``(bins + 1,)`` and counts ``(bins,)`` of a number or datetime column.

    Edges of a datetime column are in days since 1970. Counts come from the profile where it has
    them, else from the table at ``path``.
    """
    dated = column["type"] == "datetime"
    low, high = (as_number(column[end]) for end in ("min", "max"))
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
        values = as_floats(group[name].drop_null())
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


def as_number(value: float | str) -> float:
    """Return a profile's value as a number; a moment as microseconds since 1970."""
    if not isinstance(value, str):
        return float(value)
    moment = datetime.fromisoformat(value)
    if moment.tzinfo:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return float((moment - _EPOCH) // _MICROSECOND)


def as_floats(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return ``(rows,)`` float64: NaN for missing, moments as microseconds since 1970."""
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.uint8())
    if pa.types.is_temporal(column.type):
        column = pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())
    return np.asarray(column.to_numpy(), dtype=np.float64)
