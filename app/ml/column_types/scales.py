"""How numbers are centred and scaled, by what the training part holds."""

from collections.abc import Callable

import numpy as np

from app.ml.column_types.arrays import Floats


def standard(values: Floats) -> tuple[float, float]:
    """Return mean and standard deviation of values ``(rows,)``; 1 where they do not vary."""
    with np.errstate(over="ignore"):
        center, scale = float(np.mean(values)), float(np.std(values))
    # the std of one repeated value is rounding, not 0; dividing by it would blow the column up
    varies = np.isfinite(scale) and scale > 1e-12 * abs(center)
    return center, scale if varies else 1.0


def _robust(values: Floats) -> tuple[float, float]:
    low, middle, high = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return (middle, high - low) if high > low else (middle, standard(values)[1])


SCALERS: dict[str, Callable[[Floats], tuple[float, float]]] = {
    "standard": standard,
    "robust": _robust,
    "none": lambda values: (0.0, 1.0),
}
"""By name: values ``(rows,)`` without gaps to ``(center, scale)``."""
