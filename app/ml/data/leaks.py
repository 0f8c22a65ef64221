"""Features that alone give the target: copies of it in another unit, and labels made of it."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.column_types.arrays import floats
from app.ml.column_types.canonical import column_type

_LEAST_ROWS = 30
_CORRELATION = 0.9999
_ROWS_A_VALUE = 4
"""Rows that a label has on average where it is no name of a row."""


def warnings(train: pa.Table, features: list[str], targets: list[str]) -> list[str]:
    """Return a warning of each feature of the training part that gives its one target by itself: a
    number with a correlation of 0.9999 or more (Pearson's, or Spearman's of dense ranks), a label,
    a boolean or one of few numbers of which every value stands beside one value of the target, a
    number along which each class has a stretch of its own. A feature that is the only one is meant
    to."""
    if len(targets) != 1 or len(features) < 2 or train.num_rows < _LEAST_ROWS:
        return []
    target = train[targets[0]]
    numeric = column_type(target.type) == "number"
    found = []
    for name in features:
        column = train[name]
        kind = column_type(column.type)
        if (why := _why(column, kind, target, numeric)) is not None:
            found.append(_warning(name, targets[0], why))
    return found


def _why(column: pa.ChunkedArray, kind: str, target: pa.ChunkedArray, numeric: bool) -> str | None:
    if numeric and kind == "number":
        x, y = floats(column), floats(target)
        if (share := _correlation(x, y)) >= _CORRELATION:
            return f"their correlation is {share:.6g}"
        share = _correlation(_ranks(x), _ranks(y))
        return f"their rank correlation is {share:.6g}" if share >= _CORRELATION else None
    if kind in ("category", "boolean", "number") and _gives(column, target):
        what = "value" if numeric else "class"
        values = pc.count_distinct(_plain(column).drop_null()).as_py()
        return f"each of its {values} values has one {what}"
    if kind == "number" and (classes := _stretches(floats(column), target)):
        return f"each of the {classes} classes has a stretch of it"
    return None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dense ranks ``(rows,)``; NaN where a value is not finite."""
    ranks = np.full(len(values), np.nan)
    there = np.isfinite(values)
    ranks[there] = np.unique(values[there], return_inverse=True)[1]
    return ranks


def _stretches(x: NDArray[np.float64], target: pa.ChunkedArray) -> int:
    """Return the number of classes where each has a stretch of ``x`` of its own; else 0."""
    coded = _plain(target).combine_chunks().dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    there = np.isfinite(x) & (codes >= 0)
    if there.sum() < _LEAST_ROWS:
        return 0
    x, codes = x[there], codes[there]
    order = np.lexsort((codes, x))
    x, codes = x[order], codes[order]
    changes = codes[1:] != codes[:-1]
    classes = len(np.unique(codes))
    apart = bool((x[1:] != x[:-1])[changes].all())
    return classes if classes > 1 and changes.sum() == classes - 1 and apart else 0


def _warning(name: str, target: str, why: str) -> str:
    return (
        f"feature '{name[:64]}' alone gives the target '{target[:64]}' ({why}); leave it out if it "
        "is not known when a prediction is made"
    )


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    there = np.isfinite(x) & np.isfinite(y)
    if there.sum() < _LEAST_ROWS:
        return 0.0
    with np.errstate(all="ignore"):
        share = abs(float(np.corrcoef(x[there], y[there])[0, 1]))
    return share if np.isfinite(share) else 0.0


def _gives(column: pa.ChunkedArray, target: pa.ChunkedArray) -> bool:
    """Whether every value of ``column`` stands beside one class, and both vary."""
    pairs = pa.table([_plain(column), _plain(target)], names=["x", "y"]).drop_null()
    values, classes = (pc.count_distinct(pairs[name]).as_py() for name in ("x", "y"))
    if values < 2 or classes < 2 or values * _ROWS_A_VALUE > pairs.num_rows:
        return False
    different: int = pairs.group_by(["x", "y"]).aggregate([]).num_rows
    return bool(different == values)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
