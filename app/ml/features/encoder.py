"""Feature columns as one float32 matrix.

Fitted on the training part only, kept beside the weights as JSON, and applied by the same code in
training and in prediction. Statistics are float64; JSON keeps them exactly. Columns of the matrix:
first what a layer can multiply, in the order of the features, then one column of codes for each
feature that the module looks up in an embedding.
"""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidData
from app.ml.features.arrays import Floats, as_dictionary, codes, floats, mask, microseconds
from app.ml.features.places import Place, in_rows
from app.ml.specs import Inputs, PreprocessingSpec
from app.ml.tables.canonical import ColumnType, column_type

Matrix = NDArray[np.float32]

ONE_HOT_AUTO = 64
"""Categories up to which ``auto`` is one-hot; columns with more get an embedding."""
ONE_HOT_LIMIT = 1_000
EMBEDDING_LIMIT = 100_000
"""Categories with a place of their own, most frequent first; the rest share that of unseen ones."""

ROWS_AT_ONCE = 8_192
"""Rows a module computes at once; pieces of a table are multiples of it and so change no result."""

_MOST_KNOTS = 1_000
_CHUNK_CELLS = 1 << 19  # encoded at once: as much as caches hold
_DAY_MICROSECONDS = 86_400_000_000
UNKNOWN_CODE, MISSING_CODE, FIRST_CODE = 0, 1, 2  # of an embedding


class FittedPart(BaseModel):
    """A fitted piece of what travels with a model, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return 1 if self.embedding else len(self.categories) + self.indicator

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width), which holds zeros, from strings or dictionaries of them."""
        found = codes(column, pa.array(self.categories, pa.string()))
        if self.embedding:
            out[:, 0] = np.where(found >= 0, found + FIRST_CODE, UNKNOWN_CODE)
            out[mask(pc.is_null(column)), 0] = MISSING_CODE
            return
        rows = np.flatnonzero(found >= 0)
        out[rows, found[rows]] = 1
        if self.indicator:
            out[:, -1] = mask(pc.is_null(column))


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
        parts = [(moments / _DAY_MICROSECONDS - self.center) / self.scale]
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
    NumberFeature | BooleanFeature | CategoryFeature | DatetimeFeature, Field(discriminator="type")
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
    return [*shares, moments % _DAY_MICROSECONDS / _DAY_MICROSECONDS] if time else shares


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


# ---------------------------------------------------------------- fitting


def fit_features(names: Sequence[str], spec: PreprocessingSpec, train: pa.Table) -> FeatureEncoder:
    """Learn the statistics of the columns ``names`` from the rows of the training part."""
    return FeatureEncoder(features=[_fit(name, train[name], spec) for name in names])


def _fit(name: str, column: pa.ChunkedArray, spec: PreprocessingSpec) -> Feature:
    missing = column.null_count > 0
    match column_type(column.type):
        case "category":
            return _fit_category(name, column, spec, missing)
        case "boolean":
            share = pc.mean(pc.cast(column, pa.int8())).as_py() or 0.0
            return BooleanFeature(name=name, fill=float(share > 0.5), indicator=missing)
        case "datetime":
            days = microseconds(column.drop_null()) / _DAY_MICROSECONDS
            center, scale = _standard(days) if len(days) else (0.0, 1.0)
            time = pa.types.is_timestamp(column.type)
            return DatetimeFeature(
                name=name, center=center, scale=scale, time=time, indicator=missing
            )
        case _:
            return _fit_number(name, floats(column.drop_null()), spec, missing)


def _fit_number(name: str, present: Floats, spec: PreprocessingSpec, missing: bool) -> Feature:
    if not len(present):
        return NumberFeature(name=name, center=0.0, scale=1.0, fill=0.0, indicator=missing)
    if spec.numbers == "quantile":
        knots, scores = _normal_scores(present)
        middle = float(np.median(present))
        return NumberFeature(
            name=name,
            center=0.0,
            scale=1.0,
            fill=middle,
            indicator=missing,
            knots=knots,
            scores=scores,
        )
    center, scale = SCALERS[spec.numbers](present)
    fill = float(np.mean(present)) if spec.numbers != "robust" else center
    return NumberFeature(name=name, center=center, scale=scale, fill=fill, indicator=missing)


def _fit_category(
    name: str, column: pa.ChunkedArray, spec: PreprocessingSpec, missing: bool
) -> CategoryFeature:
    encoded = as_dictionary(column).combine_chunks()
    values = encoded.dictionary.to_pylist()
    counts = np.bincount(encoded.indices.drop_null().to_numpy(), minlength=len(values))
    seen = [i for i in range(len(values)) if counts[i]]
    seen.sort(key=lambda i: (-counts[i], values[i]))
    dimensions = embedding_size(spec.categories, len(seen))
    limit = EMBEDDING_LIMIT if dimensions else ONE_HOT_LIMIT
    return CategoryFeature(
        name=name,
        categories=[values[i] for i in seen[:limit]],
        indicator=missing,
        embedding=dimensions,
    )


def embedding_size(encoding: str, categories: int) -> int | None:
    """Return the dimensions of an embedding of so many categories, by fastai's rule.

    ``encoding`` is the ``categories`` of a preprocessing; returns ``None`` where it is one-hot.
    """
    if encoding == "one_hot" or (encoding == "auto" and categories <= ONE_HOT_AUTO):
        return None
    size: float = 1.6 * min(categories, EMBEDDING_LIMIT) ** 0.56
    return min(64, max(1, round(size)))


def _standard(values: Floats) -> tuple[float, float]:
    with np.errstate(over="ignore"):
        center, scale = float(np.mean(values)), float(np.std(values))
    # the std of one repeated value is rounding, not 0; dividing by it would blow the column up
    varies = np.isfinite(scale) and scale > 1e-12 * abs(center)
    return center, scale if varies else 1.0


def _robust(values: Floats) -> tuple[float, float]:
    low, middle, high = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return (middle, high - low) if high > low else (middle, _standard(values)[1])


SCALERS: dict[str, Callable[[Floats], tuple[float, float]]] = {
    "standard": _standard,
    "robust": _robust,
    "none": lambda values: (0.0, 1.0),
}
"""By name: values ``(rows,)`` without gaps to ``(center, scale)``."""


def _normal_scores(values: Floats) -> tuple[list[float], list[float]]:
    """``(knots, scores)``: up to 1,000 quantiles, repeated ones once, and the normal score of each
    one's place."""
    count = min(_MOST_KNOTS, len(values))
    places = (np.arange(count) + 0.5) / count
    quantiles = np.quantile(values, places)
    knots, index, repeats = np.unique(quantiles, return_inverse=True, return_counts=True)
    middle = np.bincount(index, weights=places) / repeats
    normal = NormalDist()
    return knots.tolist(), [normal.inv_cdf(place) for place in middle]
