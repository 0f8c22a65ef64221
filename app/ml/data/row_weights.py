"""How much each row counts: by its class, by a column, or both."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.errors import InvalidData
from app.ml.column_types.arrays import Floats, floats
from app.ml.features.preprocessing import ClassTarget, TargetEncoder, label
from app.ml.specs import JobSpec

Weights = NDArray[np.float32]
"""``(rows,)``."""


def of(
    spec: JobSpec, target: TargetEncoder, train: pa.Table
) -> Callable[[pa.Table], Weights | None]:
    """Return a function from the rows of a part to their weights, 1 on average over the part.

    Class weights are the spec's, or balanced as by scikit-learn's ``compute_class_weight``: rows /
    (classes * rows of the class) in the training part. The function returns ``None`` where all
    rows count the same, and raises InvalidData where no row of a part counts.
    """
    by_class = _of_classes(spec, target, train)

    def weigh(rows: pa.Table) -> Weights | None:
        if by_class is None and spec.sample_weight is None:
            return None
        found = np.ones(rows.num_rows)
        if by_class is not None and isinstance(target, ClassTarget):
            found *= _below_one(by_class)[target.codes(rows)]
        if spec.sample_weight is not None:
            found *= _below_one(floats(rows[spec.sample_weight]))
        if rows.num_rows and not found.any():
            raise InvalidData("all rows of one part of the split have the weight 0")
        return (found / (found.mean() if rows.num_rows else 1)).astype(np.float32)

    return weigh


def _below_one(weights: Floats) -> Floats:
    """Scale weights to 1 at the most, so that sums and products of huge ones do not overflow."""
    largest = float(weights.max(initial=0.0))
    scaled: Floats = weights / (largest or 1.0)
    return scaled


def _of_classes(spec: JobSpec, target: TargetEncoder, train: pa.Table) -> Floats | None:
    """Return each class's weight, ``(classes,)``; ``None`` where classes have none."""
    if spec.class_weight is None or not isinstance(target, ClassTarget):
        return None
    if spec.class_weight == "balanced":
        counts = np.bincount(target.codes(train), minlength=len(target.classes))
        balanced: Floats = len(train) / (len(counts) * np.maximum(counts, 1))
        return balanced
    by_name = spec.class_weight
    return np.array([by_name.get(label(value), 1.0) for value in target.classes])
