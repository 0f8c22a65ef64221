"""How columns go together, pair by pair, from one pass over the stored table.

Numbers, dates and booleans by Pearson's correlation, from -1 to 1; a category and one of those by
the correlation ratio, the share of the deviation that the labels' means explain (Fisher, 1925); two
categories by Cramér's V (1946). These two are from 0 to 1.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.tables import parquet
from app.ml.tables.profile import Column
from app.ml.tables.summaries import as_floats, as_number

_MOST_LABELS = 50
"""Of a category that is looked at; among more, chance alone looks like a connection."""
_ROUNDING = 1e-12
"""Share of a sum of squares below which a variance is what rounding leaves."""


def able(column: Column) -> bool:
    """Return whether a column can be held against others."""
    if column["type"] == "category":
        return bool(0 < column["distinct"] <= _MOST_LABELS)
    return str(column["type"]) != "text"


def associations(path: Path, columns: Sequence[Column]) -> NDArray[Any]:
    """Return ``(columns, columns)``, NaN where a column does not vary.

    Each is of the rows that have both values.
    """
    labelled = np.array([column["type"] == "category" for column in columns])
    numbers = [column for column in columns if column["type"] != "category"]
    labels = [_Labels(column["name"]) for column in columns if column["type"] == "category"]
    pearson, mixed, tables = _Pearson(len(numbers)), _Ratios(len(labels), len(numbers)), _Tables()
    scales = [_scale(column) for column in numbers]
    for group in parquet.groups(path, [column["name"] for column in columns]):
        values = _centred(group, numbers, scales)
        codes = [each.codes(group) for each in labels]
        mixed.add(codes, values)
        tables.add(codes)
        pearson.add(values)
    found = np.full((len(columns),) * 2, np.nan)
    found[np.ix_(~labelled, ~labelled)] = pearson.result()
    ratios = mixed.result()
    found[np.ix_(labelled, ~labelled)], found[np.ix_(~labelled, labelled)] = ratios, ratios.T
    found[np.ix_(labelled, labelled)] = tables.result(len(labels))
    return found


class _Pearson:
    """Sums over pairs of number columns: element [i, j] is of column i, in the rows where column j
    has a value."""

    def __init__(self, columns: int) -> None:
        self._count, self._total, self._squares, self._products = (
            np.zeros((columns, columns)) for _ in range(4)
        )

    def add(self, values: NDArray[Any]) -> None:
        """Add ``(columns, rows)``, which are changed."""
        present = ~np.isnan(values)
        values[~present] = 0.0
        has = present.astype(np.float64)
        self._count += has @ has.T
        self._total += values @ has.T
        self._products += values @ values.T
        self._squares += np.square(values, out=values) @ has.T

    def result(self) -> NDArray[Any]:
        """Return ``(columns, columns)``."""
        count, total, squares = self._count, self._total, self._squares
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = squares - total**2 / count
            # what rounding leaves of a column that is constant in those rows
            variance[variance <= _ROUNDING * squares] = np.nan
            covariance = self._products - total * total.T / count
            return np.clip(covariance / np.sqrt(variance) / np.sqrt(variance.T), -1, 1)


class _Ratios:
    """Counts and sums of each number column by the labels of each category."""

    def __init__(self, categories: int, numbers: int) -> None:
        self._sums = np.zeros((categories, numbers, 2, _MOST_LABELS))
        self._squares = np.zeros((categories, numbers))

    def add(self, codes: Sequence[NDArray[Any]], values: NDArray[Any]) -> None:
        """Add codes ``(rows,)`` of each category and values ``(numbers, rows)``."""
        for i, labels in enumerate(codes):
            for j, row in enumerate(values):
                both = (labels >= 0) & ~np.isnan(row)
                places, known = labels[both], row[both]
                self._sums[i, j, 0] += np.bincount(places, minlength=_MOST_LABELS)
                self._sums[i, j, 1] += np.bincount(places, known, _MOST_LABELS)
                self._squares[i, j] += known @ known

    def result(self) -> NDArray[Any]:
        """Return ``(categories, numbers)``."""
        count, total = self._sums[:, :, 0], self._sums[:, :, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = total.sum(axis=2) ** 2 / count.sum(axis=2)
            variance = self._squares - shift
            variance[variance <= _ROUNDING * self._squares] = np.nan
            variance[(count > 0).sum(axis=2) < 2] = np.nan  # a single label explains nothing
            between = np.where(count > 0, total**2 / count, 0).sum(axis=2) - shift
            ratios: NDArray[Any] = np.sqrt(np.clip(between / variance, 0, 1))
            return ratios


class _Tables:
    """How often each label of a category meets each of another."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, int], NDArray[np.int64]] = {}

    def add(self, codes: Sequence[NDArray[Any]]) -> None:
        """Add codes ``(rows,)`` of each category."""
        for i, labels in enumerate(codes):
            for j, others in enumerate(codes[: i + 1]):
                both = (labels >= 0) & (others >= 0)
                places = labels[both] * _MOST_LABELS + others[both]
                counts = np.bincount(places, minlength=_MOST_LABELS**2)
                self._counts[i, j] = self._counts.get((i, j), 0) + counts

    def result(self, categories: int) -> NDArray[Any]:
        """Return Cramér's V ``(categories, categories)``."""
        found = np.full((categories, categories), np.nan)
        for (i, j), counts in self._counts.items():
            found[i, j] = found[j, i] = _cramers_v(counts.reshape(_MOST_LABELS, _MOST_LABELS))
        return found


def _cramers_v(counts: NDArray[np.int64]) -> float:
    """Return Cramér's V of a contingency table, NaN where one side has a single label."""
    counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]
    freedom = min(counts.shape) - 1
    if freedom < 1:
        return math.nan
    shares = counts / counts.sum()
    expected = np.outer(shares.sum(axis=1), shares.sum(axis=0))
    return math.sqrt(min(1.0, float(((shares - expected) ** 2 / expected).sum()) / freedom))


class _Labels:
    """The labels of a category, numbered as they come."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._numbers: dict[str, int] = {}

    def codes(self, group: pa.Table) -> NDArray[np.int64]:
        """Return ``(rows,)``, -1 where there is none."""
        column = group[self._name].combine_chunks()
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        labels = column.dictionary.to_pylist()
        numbers = [self._numbers.setdefault(label, len(self._numbers)) for label in labels]
        codes = pc.fill_null(column.indices, len(labels)).to_numpy(zero_copy_only=False)
        found: NDArray[np.int64] = np.array([*numbers, -1], dtype=np.int64)[codes]
        return found


def _centred(
    group: pa.Table, columns: Sequence[Column], scales: Sequence[tuple[float, float]]
) -> NDArray[Any]:
    """Return ``(columns, rows)`` of a row group: values near 0 and below 2, NaN for missing.

    Scaled by a power of two, which is exact, so that no square of a value overflows.
    """
    values = np.empty((len(columns), group.num_rows))
    for row, column, (factor, shift) in zip(values, columns, scales, strict=True):
        np.multiply(as_floats(group[column["name"]]), factor, out=row)
        row -= shift
    return values


def _scale(column: Column) -> tuple[float, float]:
    """Return the factor to multiply a column with, and what to subtract then."""
    if column["type"] == "boolean":
        return 1.0, 0.5
    low, high = (as_number(column[end] or 0) for end in ("min", "max"))
    _, exponent = math.frexp(max(abs(low), abs(high)))
    factor = math.ldexp(1.0, min(-exponent, 1023))
    mean = column.get("mean")
    if mean is None or not math.isfinite(mean):  # of a date, or it overflowed
        return factor, (low * factor + high * factor) / 2
    return factor, mean * factor
