"""How the values of a column are spread: quantiles and histograms of ordered values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 20


def distinct(ordered: NDArray[Any]) -> int:
    """Return how many different values there are."""
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + (len(ordered) > 0)


def quantile(ordered: NDArray[Any], q: float) -> float | None:
    """Return a quantile: linear between the two nearest values, as ``numpy.quantile`` has it."""
    if not len(ordered):
        return None
    place = q * (len(ordered) - 1)
    below = int(place)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    share = place - below
    between = low * (1 - share) + high * share  # high - low might overflow
    # no further than the outermost values, which floats may have rounded
    return float(min(max(between, ordered[0].item()), ordered[-1].item()))


def bin_edges(low: float, high: float) -> NDArray[np.float64]:
    """Return the ``BINS`` + 1 edges of bins of equal width from ``low`` to ``high``, which never
    fall."""
    if np.isfinite(high - low):
        edges = np.linspace(low, high, BINS + 1)
    else:
        shares = np.linspace(0, 1, BINS + 1)
        edges = low * (1 - shares) + high * shares
    ordered: NDArray[np.float64] = np.maximum.accumulate(edges)  # the least floats lie close
    return ordered


def histogram(ordered: NDArray[Any]) -> tuple[list[float], list[int]]:
    """Return edges and counts of ``BINS`` bins of equal width, the last one closed; a single one
    for a single value."""
    if not len(ordered):
        return [], []
    low, high = float(ordered[0]), float(ordered[-1])
    if low == high:
        return [low, high], [len(ordered)]
    edges = bin_edges(low, high)
    places = np.searchsorted(ordered, edges[1:-1], side="left")
    counts = np.diff([0, *places, len(ordered)])
    return edges.tolist(), counts.tolist()
