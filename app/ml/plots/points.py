"""Pictures of points and lines: losses, clouds, curves, residuals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from app.ml.drawing import BLUE, GREY, RED, Format, Points
from app.ml.plots.canvas import (
    HUGE,
    count_ticks,
    draw_cloud,
    draw_points,
    drawable,
    indistinguishable,
    label_axes,
    label_text,
    name_places,
    new_figure,
    render,
    use_dates,
)


def loss_curve(
    series: Mapping[str, Points],
    title: str,
    loss: str,
    best_epoch: int | None,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw losses by epoch, one line each, on a log scale where they span a factor of 100.

    ``loss`` labels their axis; ``kept`` is the epoch whose weights are, where that is known.
    """
    figure, axes = new_figure(title)
    colors = {"train_loss": BLUE, "validation_loss": RED, "test_loss": RED}
    for name, (epochs, values) in series.items():
        label = name.replace("_", " ")
        marker = "o" if len(epochs) < 3 else None
        axes.plot(epochs, values, color=colors.get(name, GREY), label=label, marker=marker)
    if best_epoch is not None:
        axes.axvline(
            best_epoch, color="black", linewidth=1, linestyle=":", label=f"kept: epoch {best_epoch}"
        )
    finite = np.concatenate([v[np.isfinite(v)] for _, v in series.values()])
    if len(finite) and finite.min() > 0 and finite.max() > 100 * finite.min():
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_axes(axes, "epoch", loss)
    return render(figure, format)


def scatter(
    series: Mapping[str, tuple[Points, str]],
    title: str,
    x: str,
    y: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw clouds of points by name, each with its colour; x may be ``datetime64``."""
    return labelled_scatter(series, title, x, y, [], format)


def labelled_scatter(
    series: Mapping[str, tuple[Points, str]],
    title: str,
    x: str,
    y: str,
    labels: Sequence[str],
    format: Format,  # noqa: A002
) -> bytes:
    """Draw clouds whose y is the place of a class among ``labels``."""
    figure, axes = new_figure(title)
    _draw_clouds(axes, series)
    if any(points[0].dtype.kind == "M" for points, _ in series.values()):
        use_dates(axes, "x")
    if any(points[1].dtype.kind == "M" for points, _ in series.values()):
        use_dates(axes, "y")
    if labels:
        axes.set_yticks(range(len(labels)), [label_text(label, 22) for label in labels])
    label_axes(axes, x, y)
    return render(figure, format)


def _draw_clouds(axes: Axes, clouds: Mapping[str, tuple[Points, str]]) -> None:
    draw_one = draw_cloud if len(clouds) == 1 else draw_points
    for name, (points, color) in clouds.items():
        draw_one(axes, points, color, name)


def predicted_against_true(
    clouds: Mapping[str, tuple[Points, str]],
    title: str,
    target: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw predictions over the true values, and the identity line on which perfect ones lie."""
    figure, axes = new_figure(title)
    _draw_clouds(axes, clouds)
    values = np.concatenate([np.concatenate(points) for points, _ in clouds.values()])
    values = values[np.abs(values) < HUGE]
    ends = [float(values.min()), float(values.max())] if len(values) else []
    axes.plot(ends, ends, color="black", linewidth=1, linestyle="--", label="identity")
    label_axes(axes, f"true {target}", f"predicted {target}")
    return render(figure, format)


def lines(
    series: Mapping[str, tuple[Points, str, NDArray[Any] | None]],
    title: str,
    x: str,
    y: str,
    diagonal: str | None,
    marked: float | None,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw curves between 0 and 1 by name, each with its colour, and with the rows ``(points,)``
    that its points stand for, where they do. ``diagonal`` is what the line from 0 to 1 is called,
    ``marked`` an x with a line of its own."""
    figure, axes = new_figure(title)
    for name, ((xs, ys), color, rows) in series.items():
        thin = 1.5 if rows is None else 0.8
        axes.plot(xs, ys, color=color, label=label_text(name, 22), linewidth=thin)
        if rows is not None:
            areas = 8 + 150 * rows / max(1, rows.max(initial=1))
            axes.scatter(xs, ys, areas, color=color, alpha=0.7, linewidths=0)
    if diagonal is not None:
        axes.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--", label=diagonal)
    if marked is not None:
        axes.axvline(
            marked, color="black", linewidth=1, linestyle=":", label=f"threshold {marked:.3g}"
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    label_axes(axes, x, y)
    return render(figure, format)


def effect(
    places: NDArray[Any],
    labels: Sequence[str],
    means: NDArray[Any],
    between: tuple[NDArray[Any], NDArray[Any]],
    missing: float | None,
    title: str,
    x: str,
    y: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw a model's mean answers ``(values,)`` along a feature's values, and between which eight
    of ten lie.

    ``places`` may be ``datetime64``; where there are ``labels`` they are the values' names.
    ``missing`` is the mean answer where the feature is missing.
    """
    figure, axes = new_figure(title)
    low, high = (drawable(ends) for ends in between)
    xs, ys = drawable(places), drawable(means)
    if labels:
        bars = np.maximum(np.stack([ys - low, high - ys]), 0)
        axes.errorbar(xs, ys, bars, fmt="none", ecolor=BLUE, alpha=0.4, label="eight of ten rows")
        axes.scatter(xs, ys, 40, color=BLUE, label="mean", zorder=3)
        name_places(axes, xs, labels)
    else:
        axes.fill_between(
            xs, low, high, color=BLUE, alpha=0.2, linewidth=0, label="eight of ten rows"
        )
        axes.plot(xs, ys, color=BLUE, label="mean", marker="o", markersize=3)
    if missing is not None and np.isfinite(missing):
        height = drawable(np.array([missing]))[0]
        axes.axhline(
            height, color="black", linewidth=1, linestyle=":", label="mean where it is missing"
        )
    if places.dtype.kind == "M":
        use_dates(axes)
    label_axes(axes, x, y)
    return render(figure, format)


def residuals(
    clouds: Mapping[str, tuple[Points, str]],
    title: str,
    target: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw residuals over predictions around the zero line, and a histogram beside them."""
    figure = Figure(figsize=(9.5, 5), dpi=120, layout="constrained")
    figure.suptitle(label_text(title, 100), parse_math=False)
    axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
    _draw_clouds(axes, clouds)
    edges = _edges(np.concatenate([drawable(values) for (_, values), _ in clouds.values()]))
    for (_, values), color in clouds.values():
        counts, _ = np.histogram(drawable(values), edges)
        alone = len(clouds) == 1  # else outlines, which do not hide one another
        beside.stairs(counts, edges, orientation="horizontal", fill=alone, color=color, alpha=0.7)
    for each in (axes, beside):
        each.axhline(0, color="black", linewidth=1, linestyle="--", label="no error")
        each.grid(alpha=0.25)
    count_ticks(beside.xaxis)
    beside.set_xlabel("rows")
    label_axes(axes, f"predicted {target}", "true - predicted")
    return render(figure, format)


def _edges(values: NDArray[Any]) -> NDArray[Any]:
    """Return the edges ``(bins + 1,)`` of up to 40 bins over the finite values.

    It is one bin where an axis could not tell the values apart.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.array([-0.5, 0.5])
    low, high = float(finite.min()), float(finite.max())
    if indistinguishable(low, high):
        room = max(0.05 * abs(low), 0.5)
        return np.array([low - room, high + room])
    return np.linspace(low, high, min(40, 5 + len(finite) // 5) + 1)
