"""Drawing plots by matplotlib's object interface: arrays in, the bytes of a PNG or SVG out.

No pyplot, so no state is shared between drawings; a lock guards the font cache, which is.
"""

from collections.abc import Callable

from app.ml.drawing import Drawing, Format
from app.ml.plots.bars import class_counts, date_histogram, histogram, importance, value_counts
from app.ml.plots.cells import confusion, heatmap
from app.ml.plots.points import (
    effect,
    labelled_scatter,
    lines,
    loss_curve,
    predicted_against_true,
    residuals,
    scatter,
)

__all__ = [
    "class_counts",
    "confusion",
    "date_histogram",
    "draw",
    "effect",
    "heatmap",
    "histogram",
    "importance",
    "labelled_scatter",
    "lines",
    "loss_curve",
    "predicted_against_true",
    "residuals",
    "scatter",
    "value_counts",
]


def draw(what: Drawing, format: Format) -> bytes:  # noqa: A002
    """Return a drawing as an image."""
    function: Callable[..., bytes] = globals()[what.kind]
    return function(*what.arguments, format)
