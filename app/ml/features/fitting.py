"""What the features of a ``FeatureEncoder`` learn from the rows of the training part."""

from collections.abc import Callable, Collection, Sequence
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.ml.features.arrays import Floats, as_dictionary, floats, microseconds
from app.ml.features.encoder import (
    DAY_MICROSECONDS,
    BooleanFeature,
    CategoryFeature,
    DatetimeFeature,
    Feature,
    FeatureEncoder,
    NumberFeature,
)
from app.ml.features.texts import fit_text
from app.ml.specs import PreprocessingSpec
from app.ml.tables.canonical import column_type

ONE_HOT_AUTO = 64
"""Categories up to which ``auto`` is one-hot; columns with more get an embedding."""
ONE_HOT_LIMIT = 1_000
EMBEDDING_LIMIT = 100_000
"""Categories with a place of their own, most frequent first; the rest share that of unseen ones."""

_MOST_KNOTS = 1_000


def fit_features(
    names: Sequence[str],
    spec: PreprocessingSpec,
    train: pa.Table,
    texts: Collection[str] = (),
    folded: Collection[str] = (),
) -> FeatureEncoder:
    """Learn the statistics of the columns ``names`` from the rows of the training part; those among
    ``texts`` hold sentences rather than labels, and of those among ``folded`` labels are one that
    differ in case or blanks only."""

    def fit(name: str) -> Feature:
        if name in texts:
            return fit_text(name, train[name], indicator=train[name].null_count > 0)
        feature = _fit(name, train[name], spec)
        return feature.model_copy(update={"folded": True}) if name in folded else feature

    return FeatureEncoder(features=[fit(name) for name in names])


def _fit(name: str, column: pa.ChunkedArray, spec: PreprocessingSpec) -> Feature:
    missing = column.null_count > 0
    match column_type(column.type):
        case "category":
            return _fit_category(name, column, spec, missing)
        case "boolean":
            share = pc.mean(pc.cast(column, pa.int8())).as_py() or 0.0
            return BooleanFeature(name=name, fill=float(share > 0.5), indicator=missing)
        case "datetime":
            days = microseconds(column.drop_null()) / DAY_MICROSECONDS
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
