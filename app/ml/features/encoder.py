"""Feature columns as one float32 matrix.

Fitted on the training part only (``fitting``), kept beside the weights as JSON, and applied by the
same code in training and in prediction. Statistics are float64; JSON keeps them exactly. Columns of
the matrix: first what a layer can multiply, in the order of the features, then one column of codes
for each feature that the module looks up in an embedding.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from app.errors import InvalidData
from app.ml.features.arrays import Floats, codes, floats, mask, microseconds
from app.ml.features.fitted import FittedPart, Matrix
from app.ml.features.places import Place, in_rows
from app.ml.features.texts import TextFeature
from app.ml.specs import Inputs
from app.ml.tables.canonical import ColumnType

ROWS_AT_ONCE = 8_192
"""Rows a module computes at once; pieces of a table are multiples of it and so change no result."""

_CHUNK_CELLS = 1 << 19  # encoded at once: as much as caches hold
DAY_MICROSECONDS = 86_400_000_000
UNKNOWN_CODE, MISSING_CODE, FIRST_CODE = 0, 1, 2  # of an embedding


class NumberFeature(FittedPart):
    """``(value - center) / scale``; missing becomes ``fill``, told apart by an indicator column.

    With ``knots`` (``quantile``) a value becomes the normal score of its place among the training
    part's quantiles first, linear between them, as scikit-learn's QuantileTransformer does.
    """

    type: Literal["number"] = "number"
    name: str
    center: float
    scale: float
    fill: float
    indicator: bool
    knots: list[float] | None = None
    scores: list[float] | None = None

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return 1 + self.indicator

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value that float32 holds once it is scaled."""
        reach = min(self.scale * float(np.finfo(np.float32).max), sys.float_info.max / 2)
        return self.center - reach, self.center + reach

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width), which holds zeros, from a numeric column."""
        values = floats(column)
        if column.null_count:
            missing = np.isnan(values)
            values = np.where(missing, self.fill, values)
            if self.indicator:
                out[:, 1] = missing
        if self.knots is not None:
            values = np.interp(values, self.knots, self.scores or [])
        np.divide(values - self.center, self.scale, out=out[:, 0], casting="same_kind")


class BooleanFeature(FittedPart):
    """0 or 1; missing becomes the more frequent value, told apart by an indicator column."""

    type: Literal["boolean"] = "boolean"
    name: str
    fill: float
    indicator: bool

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return 1 + self.indicator

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width), which holds zeros, from a boolean column."""
        values = floats(pc.cast(column, pa.int8()))
        missing = np.isnan(values)
        out[:, 0] = np.where(missing, self.fill, values)
        if self.indicator:
            out[:, 1] = missing


class CategoryFeature(FittedPart):
    """A slot for each category of the training part, most frequent first, and one for missing.

    Without ``embedding`` the slots are columns, one of them 1 (missing only where there were any;
    unseen is all zeros). With it they are rows of an embedding of that many dimensions, and the
    column is their number: 0 for unseen, 1 for missing.
    """

    type: Literal["category"] = "category"
    name: str
    categories: list[str]
    indicator: bool
    embedding: int | None = None
    folded: bool = False
    """Whether a label that differs from one of them in case or blanks only is that one."""

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return 1 if self.embedding else len(self.categories) + self.indicator

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width), which holds zeros, from strings or dictionaries of them."""
        found = codes(column, pa.array(self.categories, pa.string()))
        if self.folded:
            alike = codes(_folded(column), _folded(pa.array(self.categories, pa.string())))
            found = np.where(found < 0, alike, found)
        if self.embedding:
            out[:, 0] = np.where(found >= 0, found + FIRST_CODE, UNKNOWN_CODE)
            out[mask(pc.is_null(column)), 0] = MISSING_CODE
            return
        rows = np.flatnonzero(found >= 0)
        out[rows, found[rows]] = 1
        if self.indicator:
            out[:, -1] = mask(pc.is_null(column))


def _folded(labels: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.utf8_lower(pc.utf8_trim_whitespace(pc.cast(labels, pa.string())))


class DatetimeFeature(FittedPart):
    """Days since the training part's mean by their spread, and where in the year, the month, the
    week (and with ``time`` the day) it is, each as sine and cosine; missing is all zeros."""

    type: Literal["datetime"] = "datetime"
    name: str
    center: float
    scale: float
    time: bool
    indicator: bool

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return datetime_width(self.time) + self.indicator

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width), which holds zeros, from dates or timestamps."""
        moments = microseconds(pc.fill_null(column, 0))
        parts = [(moments / DAY_MICROSECONDS - self.center) / self.scale]
        for share in _cycles(moments, time=self.time):
            parts += [np.sin(2 * np.pi * share), np.cos(2 * np.pi * share)]
        for place, part in enumerate(parts):
            out[:, place] = part
        if column.null_count:
            missing = mask(pc.is_null(column))
            out[missing] = 0
            if self.indicator:
                out[:, -1] = missing


Feature = Annotated[
    NumberFeature | BooleanFeature | CategoryFeature | DatetimeFeature | TextFeature,
    Field(discriminator="type"),
]


def datetime_width(time: bool) -> int:
    """Return how many columns a datetime without gaps has."""
    return 1 + 2 * (4 if time else 3)


def _cycles(moments: NDArray[np.int64], *, time: bool) -> list[Floats]:
    """How much of its year, month, week and day has passed at each moment, from 0 to 1."""
    days = moments.astype("datetime64[us]").astype("datetime64[D]")
    shares = []
    for unit in ("Y", "M"):
        start = days.astype(f"datetime64[{unit}]")
        length = (start + 1).astype("datetime64[D]") - start.astype("datetime64[D]")
        shares.append((days - start.astype("datetime64[D]")) / length)
    weekday = (days.astype(np.int64) + 3) % 7  # 1970 began on a Thursday
    shares.append(weekday / 7)
    return [*shares, moments % DAY_MICROSECONDS / DAY_MICROSECONDS] if time else shares


class FeatureEncoder(FittedPart):
    """All feature columns side by side as one matrix."""

    features: list[Feature]

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return sum(feature.width for feature in self.features)

    @property
    def types(self) -> dict[str, ColumnType]:
        """The features' types by name, in order."""
        return {feature.name: feature.type for feature in self.features}

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """The least and the largest number of each feature that float32 holds once it is scaled;
        quantiles know no size."""
        numbers = [item for item in self.features if isinstance(item, NumberFeature)]
        return {item.name: item.bounds for item in numbers if item.knots is None}

    @property
    def inputs(self) -> Inputs:
        """The columns of the matrix as a module reads them: dense ones, and codes to look up."""
        embedded = [item for item in self.features if _embedded(item)]
        sizes = tuple((len(item.categories) + FIRST_CODE, item.embedding) for item in embedded)  # type: ignore[union-attr]
        dense = self.width - len(embedded)
        return Inputs(dense, sizes, numbers_among(self.features))  # type: ignore[arg-type]

    def encode(self, table: pa.Table, place: Place | None = None, first_row: int = 0) -> Matrix:
        """Return the ``(rows, width)`` matrix of a table, whose first row is number ``first_row``.

        Raises InvalidData, which points at a ``place`` of a row of that count (``/rows/3/price``
        unless it is given), where a number leaves float32's range.
        """
        out: Matrix = np.zeros((table.num_rows, self.width), dtype=np.float32)
        places = self.places()
        step = max(1, _CHUNK_CELLS // max(1, self.width))
        columns = {item.name: table[item.name] for item in self.features}
        with np.errstate(over="ignore"):
            for start in range(0, table.num_rows, step):
                rows = out[start : start + step]
                for feature, (first, last) in zip(self.features, places, strict=True):
                    feature.encode(columns[feature.name].slice(start, step), rows[:, first:last])
                if not np.isfinite(rows).all():
                    self._refuse(rows, places, place or in_rows(), first_row + start)
        return out

    def places(self) -> list[tuple[int, int]]:
        """Return each feature's first column of the matrix and the one behind its last."""
        dense, coded = 0, self.inputs.dense
        places = []
        for feature in self.features:
            if _embedded(feature):
                places.append((coded, coded + 1))
                coded += 1
            else:
                places.append((dense, dense + feature.width))
                dense += feature.width
        return places

    def _refuse(
        self, rows: Matrix, places: list[tuple[int, int]], place: Place, start: int
    ) -> None:
        for feature, (first, last) in zip(self.features, places, strict=True):
            finite = np.isfinite(rows[:, first:last]).all(axis=1)
            if not finite.all():
                row = start + int(finite.argmin())
                raise InvalidData.at(
                    place(feature.name, row),
                    f"column '{feature.name[:64]}' holds numbers too large for float32, the first "
                    f"in row {row}; divide them, or leave the column out of the features",
                    "out_of_range",
                )


def numbers_among(features: Sequence[Feature]) -> tuple[int, ...]:
    """Return the dense columns that hold numbers: not marks of categories, booleans and gaps."""
    found: list[int] = []
    place = 0
    for feature in features:
        if isinstance(feature, NumberFeature | DatetimeFeature):
            found += range(place, place + feature.width - feature.indicator)
        place += 0 if _embedded(feature) else feature.width
    return tuple(found)


def _embedded(feature: Any) -> bool:
    return isinstance(feature, CategoryFeature) and feature.embedding is not None
