"""Features that alone give the target: copies of it in another unit, and labels made of it."""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.column_types.arrays import Floats, floats
from app.ml.column_types.canonical import column_type

_LEAST_ROWS = 30
_CORRELATION = 0.9999
_NEAR = 0.99
"""A rank correlation of the sample from which on that of all rows is computed."""
_SAMPLE = 2_000
"""Rows of the sample, or up to twice as many."""
_ROWS_A_VALUE = 4
"""Rows that a label has on average where it is no name of a row."""


def warnings(train: pa.Table, features: list[str], targets: list[str]) -> list[str]:
    """Return a warning of each feature of the training part that gives its one target by itself: a
    number with a correlation of 0.9999 or more (Pearson's, or Spearman's of dense ranks), a label,
    a boolean or one of few numbers of which every value stands beside one value of the target, a
    number along which each class has a stretch of its own. A feature that is the only one is meant
    to. A sample of the rows is looked at before all of them are put in order."""
    if len(targets) != 1 or len(features) < 2 or train.num_rows < _LEAST_ROWS:
        return []
    column = train[targets[0]]
    numeric = column_type(column.type) == "number"
    why_of = (
        partial(_why_a_number, floats(column))
        if numeric
        else partial(_why_a_class, column, _codes(column))
    )
    found = []
    for name in features:
        kind = column_type(train[name].type)
        if (why := why_of(train[name], kind)) is not None:
            found.append(_warning(name, targets[0], why))
    return found


def _why_a_number(y: Floats, column: pa.ChunkedArray, kind: str) -> str | None:
    """Return why a feature gives the numbers ``y`` ``(rows,)``; ``None`` where it does not."""
    if kind == "number":
        x = floats(column)
        if (share := _correlation(x, y)) >= _CORRELATION:
            return f"their correlation is {share:.6g}"
        if _correlation(_ranks(_sample(x)), _ranks(_sample(y))) < _NEAR:
            return None
        share = _correlation(_ranks(x), _ranks(y))
        return f"their rank correlation is {share:.6g}" if share >= _CORRELATION else None
    if kind in ("category", "boolean") and (values := _that_give(column, pa.chunked_array([y]))):
        return f"each of its {values} values has one value"
    return None


def _why_a_class(
    target: pa.ChunkedArray, codes: NDArray[Any], column: pa.ChunkedArray, kind: str
) -> str | None:
    """Return why a feature gives the classes of ``target``, numbered by ``codes`` ``(rows,)``;
    ``None`` where it does not."""
    if kind not in ("category", "boolean", "number"):
        return None
    if values := _that_give(column, target):
        return f"each of its {values} values has one class"
    if kind == "number" and (classes := _with_stretches(floats(column), codes)):
        return f"each of the {classes} classes has a stretch of it"
    return None


def _codes(classes: pa.ChunkedArray) -> NDArray[Any]:
    """Return ``(rows,)`` numbers of classes, -1 where there is none."""
    coded = _plain(classes).combine_chunks().dictionary_encode()
    codes: NDArray[Any] = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return codes


def _sample(values: NDArray[Any]) -> NDArray[Any]:
    return values[:: max(1, len(values) // _SAMPLE)]


def _ranks(values: Floats) -> Floats:
    """Dense ranks ``(rows,)``; NaN where a value is not finite."""
    ranks = np.full(len(values), np.nan)
    there = np.isfinite(values)
    ranks[there] = np.unique(values[there], return_inverse=True)[1]
    return ranks


def _with_stretches(x: Floats, codes: NDArray[Any]) -> int:
    """Return the number of classes where each has a stretch of ``x`` of its own; else 0. Codes
    below 0 are no class."""
    there = np.isfinite(x) & (codes >= 0)
    x, codes = x[there], codes[there]
    if len(x) < _LEAST_ROWS or not _are_apart(_sample(x), _sample(codes)):
        return 0
    classes = len(np.unique(codes))
    return classes if classes > 1 and _are_apart(x, codes) else 0


def _are_apart(x: Floats, codes: NDArray[Any]) -> bool:
    """Whether each class has a stretch of ``x`` of its own; then it has so in any of the rows."""
    order = np.lexsort((codes, x))
    x, codes = x[order], codes[order]
    changes = codes[1:] != codes[:-1]
    one_each = int(changes.sum()) == len(np.unique(codes)) - 1
    return one_each and bool((x[1:] != x[:-1])[changes].all())


def _warning(name: str, target: str, why: str) -> str:
    return (
        f"feature '{name[:64]}' alone gives the target '{target[:64]}' ({why}); leave it out if it "
        "is not known when a prediction is made"
    )


def _correlation(x: Floats, y: Floats) -> float:
    there = np.isfinite(x) & np.isfinite(y)
    if there.sum() < _LEAST_ROWS:
        return 0.0
    with np.errstate(all="ignore"):
        share = abs(float(np.corrcoef(x[there], y[there])[0, 1]))
    return share if np.isfinite(share) else 0.0


def _that_give(column: pa.ChunkedArray, target: pa.ChunkedArray) -> int:
    """Return how many values ``column`` has where each stands beside one of ``target``'s, and both
    vary; else 0."""
    pairs = pa.table([_plain(column), _plain(target)], names=["x", "y"]).drop_null()
    values = _distinct(pairs["x"])
    if values < 2 or values * _ROWS_A_VALUE > pairs.num_rows:
        return 0
    if _distinct(pairs["y"]) < 2:
        return 0
    different: int = pairs.group_by(["x", "y"]).aggregate([]).num_rows
    return values if different == values else 0


def _distinct(column: pa.ChunkedArray) -> int:
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return len(np.unique(column.to_numpy()))  # several times as quick as Arrow
    distinct: int = pc.count_distinct(column).as_py()
    return distinct


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
