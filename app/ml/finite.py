"""Numbers that are not finite: the one place that says what becomes of them.

Training may give NaN and infinities, and histories keep them; JSON has neither. So answers write
``None`` in their place, and a history tells apart which of the three it was.
"""

import math
from collections.abc import Mapping
from typing import Literal

Metrics = dict[str, float | None]
"""A metric that is not defined on these rows (AUC with one class, R² of one row) is ``None``."""

LARGEST_FLOAT32 = 3.4028234e38
"""What a number must stay below, either way, to be finite in a matrix of float32."""

Kind = Literal["nan", "inf", "-inf"]


def finite(value: float | None) -> float | None:
    """Return ``value``, or ``None`` where it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


def finite_values(values: Mapping[str, float | None]) -> Metrics:
    """Return values fit for JSON: what is not finite is ``None``."""
    return {name: finite(value) for name, value in values.items()}


def kind(value: float) -> Kind:
    """Return which of the three numbers that are not finite ``value`` is."""
    if math.isnan(value):
        return "nan"
    return "inf" if value > 0 else "-inf"
