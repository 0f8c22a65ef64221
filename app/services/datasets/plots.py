"""Plots of a dataset, from its profile or group by group of its rows, never from the whole table.

``app.ml.plots`` draws them and imports matplotlib, so it is imported on first use.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.errors import InvalidRequest
from app.ml.plan import unknown
from app.ml.tables import parquet
from app.ml.tables.canonical import WHOLE_BELOW
from app.ml.tables.profile import BINS, Column, bin_edges
from app.runtime.context import Context
from app.services.datasets import datasets

if TYPE_CHECKING:
    from app.ml.plots import Format, Points

Plot = Literal["scatter", "histogram", "correlation"]

_MOST_CORRELATED = 30
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1)
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Source:
    """What a plot is drawn from: a stored table, its profile and its name."""

    path: Path
    columns: list[Column]
    rows: int
    name: str

    def numbers(self) -> list[Column]:
        return [column for column in self.columns if column["type"] == "number"]

    def column(self, name: str, pointer: str) -> Column:
        """One column's profile. Raises InvalidRequest at ``pointer``."""
        for column in self.columns:
            if column["name"] == name:
                return column
        names = [column["name"] for column in self.columns]
        raise InvalidRequest.at(pointer, unknown("column", name, names), "unknown_column")

    def title(self, what: str) -> str:
        return f"{_short(self.name, 40)}: {what}"


def draw(
    context: Context, ref: str, plot: Plot, x: str | None, y: str | None, image: "Format"
) -> bytes:
    """One plot of a dataset. Raises InvalidRequest where the columns do not fit the plot."""
    dataset, path = datasets.file_of(context, ref)
    source = Source(path, dataset.columns, dataset.rows, dataset.name or dataset.id)
    match plot:
        case "scatter":
            return scatter(source, x, y, image)
        case "histogram":
            _leave_out("y", y, "a histogram shows one column")
            return histogram(source, x, image)
        case "correlation":
            _leave_out("x", x, "the correlation is of all number columns")
            _leave_out("y", y, "the correlation is of all number columns")
            return correlation(source, image)


def _leave_out(axis: str, name: str | None, why: str) -> None:
    if name is not None:
        raise InvalidRequest.at(f"/{axis}", f"{why}; leave {axis} out")


# ---------------------------------------------------------------- scatter


def scatter(source: Source, x: str | None, y: str | None, image: "Format") -> bytes:
    """Two number columns against each other; left out: the first and the last."""
    from app.ml import plots

    x, y = _axes(source, x, y)
    points = _spaced(source, x, y, plots.MAX_POINTS)
    shown = len(points[0])
    label = f"{shown:,} rows" if shown == source.rows else f"{shown:,} of {source.rows:,} rows"
    title = source.title(f"{_short(y)} against {_short(x)}")
    return plots.scatter({label: (points, plots.BLUE)}, title, x, y, image)


def _axes(source: Source, x: str | None, y: str | None) -> tuple[str, str]:
    for axis, name in (("x", x), ("y", y)):
        if name is not None and source.column(name, f"/{axis}")["type"] != "number":
            raise InvalidRequest.at(
                f"/{axis}", f"'{name[:64]}' is no number column; choose one that is"
            )
    numbers = source.numbers()
    if not numbers:
        raise InvalidRequest("the dataset has no number column to draw; try plots/histogram")
    return (
        numbers[0]["name"] if x is None else x,
        numbers[-1]["name"] if y is None else y,
    )


def _spaced(source: Source, x: str, y: str, most: int) -> "Points":
    """Of at most ``most`` rows, evenly spaced, those that have both values."""
    picked = np.linspace(0, source.rows - 1, min(most, source.rows)).astype(np.int64)
    start, parts = 0, []
    for group in parquet.groups(source.path, list(dict.fromkeys([x, y]))):
        first, last = np.searchsorted(picked, [start, start + group.num_rows])
        taken = group.take(picked[first:last] - start)
        parts.append(np.stack([_floats(taken[x]), _floats(taken[y])]))
        start += group.num_rows
    both = np.concatenate(parts, axis=1)
    both = both[:, np.isfinite(both).all(axis=0)]
    return both[0], both[1]


# ---------------------------------------------------------------- histogram


def histogram(source: Source, x: str | None, image: "Format") -> bytes:
    """How often the values of one column occur; left out: the first number column."""
    from app.ml import plots

    column = _drawn(source, x)
    name = column["name"]
    missing = f" ({column['missing']:,} missing)" if column["missing"] else ""
    title = source.title(f"{_short(name)}{missing}")
    if column["type"] not in ("number", "datetime"):
        return plots.value_counts(_bars(column, source.rows), title, name, image)
    edges, counts = _bins(source, column)
    if column["type"] == "number":
        return plots.histogram(edges, counts, title, name, image)
    label = f"{name} ({column['zone']})" if column.get("zone") else name
    return plots.date_histogram(edges, counts, title, label, image)


def _drawn(source: Source, x: str | None) -> Column:
    if x is None:
        able = [column for column in source.columns if not _why_not(source, column)]
        numbers = [column for column in able if column["type"] == "number"]
        if not able:
            raise InvalidRequest("all columns are empty or text, so there is no histogram to draw")
        return (numbers or able)[0]
    column = source.column(x, "/x")
    if reason := _why_not(source, column):
        raise InvalidRequest.at("/x", f"'{x[:64]}' {reason}; choose another column")
    return column


def _why_not(source: Source, column: Column) -> str | None:
    if column["missing"] >= source.rows:
        return "has no value"
    return "is text, of which there is no histogram" if column["type"] == "text" else None


def _bars(column: Column, rows: int) -> dict[str, list[tuple[str, int]]]:
    """The most frequent values, and what they leave over."""
    top = [(_short(_label(value), 30), count) for value, count in column["top"]]
    others = rows - column["missing"] - sum(count for _, count in top)
    left_over = []
    if others:
        left_over.append((f"{column['distinct'] - len(top):,} others", others))
    if column["missing"]:
        left_over.append(("missing", column["missing"]))
    return {"values": top, "left over": left_over}


def _label(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bins(source: Source, column: Column) -> tuple[NDArray[Any], NDArray[Any]]:
    """Edges and counts of a number or, in days since 1970, of a datetime column."""
    dated = column["type"] == "datetime"
    low, high = (_number(column[end]) for end in ("min", "max"))
    edges = _edges(low, high)
    stored = column.get("histogram")
    counts = np.array(stored["counts"]) if stored else _counted(source, column["name"], edges)
    if dated:
        edges = edges / (_DAY / _MICROSECOND)
    whole = not column["time"] if dated else column["integer"]
    return _by_value(edges, counts) if whole else (edges, counts)


def _edges(low: float, high: float) -> NDArray[Any]:
    """As those of the profile; of datetimes the profile shows rounded ones."""
    return np.array([low, high]) if low == high else bin_edges(low, high)


def _counted(source: Source, name: str, edges: NDArray[Any]) -> NDArray[Any]:
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    for group in parquet.groups(source.path, [name]):
        values = _floats(group[name].drop_null())
        counts += np.bincount(
            np.searchsorted(edges[1:-1], values, side="right"), minlength=len(counts)
        )
    return counts


def _by_value(edges: NDArray[Any], counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """One bin around each whole number where no bin holds two of them; else as they are."""
    low, high = edges[0], edges[-1]
    if high - low >= BINS or max(abs(low), abs(high)) >= WHOLE_BELOW:
        return edges, counts
    heights = np.zeros(round(high - low) + 1, dtype=np.int64)
    held = np.minimum(np.ceil(edges[:-1]), high) - low
    np.add.at(heights, held.astype(int), counts)
    return np.arange(len(heights) + 1) + (low - 0.5), heights


def _number(value: float | str) -> float:
    """A profile's value; a moment as microseconds since 1970."""
    if not isinstance(value, str):
        return float(value)
    moment = datetime.fromisoformat(value)
    if moment.tzinfo:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return float((moment - _EPOCH) // _MICROSECOND)


# ---------------------------------------------------------------- correlation


def correlation(source: Source, image: "Format") -> bytes:
    """How the number columns go together, each pair on the rows that have both values."""
    from app.ml import plots

    numbers = source.numbers()
    if len(numbers) < 2:
        raise InvalidRequest(
            f"a correlation needs at least 2 number columns; the dataset has {len(numbers)}"
        )
    shown, left_out = numbers[:_MOST_CORRELATED], len(numbers) - _MOST_CORRELATED
    of = f"the first {len(shown)} number columns, {left_out:,} left out" if left_out > 0 else ""
    title = source.title(f"correlation of {of}" if of else "correlation")
    return plots.heatmap(
        pearson(source.path, shown), [_short(c["name"]) for c in shown], title, image
    )


def pearson(path: Path, columns: Sequence[Column]) -> NDArray[Any]:
    """Correlations on pairwise complete rows in one pass; NaN where a column does not vary.

    Row ``i`` and column ``j`` of each sum tell of column ``i`` in the rows where ``j`` is there.
    """
    count, total, squares, products = (np.zeros((len(columns),) * 2) for _ in range(4))
    for values in _centred(path, columns):
        there = ~np.isnan(values)
        values[~there] = 0.0
        has = there.astype(np.float64)
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
    """One row per column, group after group, each value near 0 and below 2, with NaN for missing.

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
    """What to multiply a column with, and what to subtract then."""
    low, high = float(column["min"] or 0), float(column["max"] or 0)
    _, exponent = math.frexp(max(abs(low), abs(high)))
    factor = math.ldexp(1.0, min(-exponent, 1023))
    mean = column["mean"]
    if mean is None or not math.isfinite(mean):  # it overflowed
        return factor, (low * factor + high * factor) / 2
    return factor, mean * factor


# ---------------------------------------------------------------- small things


def _floats(column: pa.ChunkedArray) -> NDArray[Any]:
    """Values as they are drawn: NaN for missing, moments as microseconds since 1970."""
    if pa.types.is_temporal(column.type):
        column = pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _short(name: str, length: int = 25) -> str:
    """Cut in the middle: names that begin alike often differ at the end."""
    half = length // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"
