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
    number with a Pearson correlation of 0.9999 or more, a label or boolean of which every value has
    one class. A feature that is the only one is meant to."""
    if len(targets) != 1 or len(features) < 2 or train.num_rows < _LEAST_ROWS:
        return []
    target = train[targets[0]]
    numeric = column_type(target.type) == "number"
    found = []
    for name in features:
        column = train[name]
        kind = column_type(column.type)
        if numeric and kind == "number":
            share = _correlation(floats(column), floats(target))
            if share >= _CORRELATION:
                found.append(_warning(name, targets[0], f"their correlation is {share:.6g}"))
        elif not numeric and kind in ("category", "boolean") and _gives(column, target):
            found.append(_warning(name, targets[0], "each of its values has one class"))
    return found


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
