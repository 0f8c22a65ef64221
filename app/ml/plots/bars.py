"""Pictures of bars: classes, histograms, how often a value occurs, what a model relies on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from app.ml.drawing import BLUE, GREY, Format
from app.ml.plots.canvas import (
    HUGE,
    TINY,
    count_ticks,
    drawable,
    indistinguishable,
    label_axes,
    label_text,
    name_axes,
    name_places,
    new_figure,
    render,
    use_dates,
)


def class_counts(
    labels: Sequence[str],
    counts: Mapping[str, tuple[Sequence[float], str]],
    title: str,
    target: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw bars per class side by side, one for each of ``counts``, with its colour."""
    figure, axes = new_figure(title)
    places = np.arange(len(labels))
    width = 0.8 / len(counts)
    for i, (name, (heights, color)) in enumerate(counts.items()):
        axes.bar(places + i * width, heights, width, color=color, label=label_text(name))
    name_places(axes, places + 0.4 - width / 2, labels)
    axes.margins(y=0.15)  # room above the bars for the legend
    label_axes(axes, target, "rows", loc="upper right", ncols=len(counts))
    return render(figure, format)


def histogram(
    edges: NDArray[Any],
    counts: NDArray[Any],
    title: str,
    x: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw ``counts`` ``(bins,)`` as bars between ``edges`` ``(bins + 1,)``."""
    figure, axes = new_figure(title)
    largest = float(np.abs(edges).max())
    if largest >= HUGE:
        power = int(np.log10(largest))
        edges, x = edges / 10.0**power, f"{label_text(x)} (1e{power})"
    size = 0.05 * abs(float(edges[0]))
    _draw_bins(axes, edges, counts, size if size > TINY else 0.5)
    name_axes(axes, x, "rows")
    return render(figure, format)


def date_histogram(
    days: NDArray[Any],
    counts: NDArray[Any],
    title: str,
    x: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw ``counts`` ``(bins,)`` as bars between ``days`` ``(bins + 1,)`` since 1970."""
    figure, axes = new_figure(title)
    _draw_bins(axes, days, counts, 0.5)
    use_dates(axes)
    name_axes(axes, x, "rows")
    return render(figure, format)


def value_counts(
    groups: Mapping[str, Sequence[tuple[str, int]]],
    title: str,
    x: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw lying bars from the top: those of the group ``values`` in blue, all others in grey."""
    figure, axes = new_figure(title)
    bars = [(*bar, BLUE if name == "values" else GREY) for name in groups for bar in groups[name]]
    labels, counts, colors = zip(*bars, strict=True)
    places = np.arange(len(bars))
    container = axes.barh(places, counts, height=0.75, color=colors)
    axes.bar_label(container, fmt="{:,.0f}", padding=4)
    _name_lying(axes, [label_text(label) for label in labels])
    axes.margins(x=0.12)
    count_ticks(axes.xaxis)
    name_axes(axes, "rows", x)
    return render(figure, format)


def importance(
    names: Sequence[str],
    means: NDArray[Any],
    deviations: NDArray[Any],
    title: str,
    x: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw a lying bar ``(features,)`` for each feature from the top, with its standard deviation
    over shuffles."""
    figure, axes = new_figure(title, (8, max(3.0, 1.4 + 0.27 * len(names))))
    places = np.arange(len(names))
    axes.barh(
        places,
        drawable(means),
        0.75,
        xerr=drawable(deviations),
        color=BLUE,
        ecolor="black",
        capsize=2,
    )
    axes.axvline(0, color="black", linewidth=1)
    _name_lying(axes, [label_text(name, 30) for name in names])
    name_axes(axes, x, "")
    return render(figure, format)


def _name_lying(axes: Axes, labels: Sequence[str]) -> None:
    """Name lying bars, the first on top; a few are no thicker than four are."""
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set_ylim(max(len(labels), 4) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _draw_bins(axes: Axes, edges: NDArray[Any], counts: NDArray[Any], room: float) -> None:
    """Draw bars; one with ``room`` to both sides where an axis could not tell the edges apart."""
    low, high = edges[0], edges[-1]
    if indistinguishable(low, high):
        edges, counts = np.array([low - room, low + room]), np.array([counts.sum()])
    axes.bar(
        edges[:-1], counts, np.diff(edges), align="edge", color=BLUE, edgecolor="white", linewidth=1
    )
    axes.set_axisbelow(True)
    count_ticks(axes.yaxis)
