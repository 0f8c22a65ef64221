"""Plots by matplotlib's object interface: arrays in, the bytes of a PNG or SVG out.

No pyplot, so no state is shared between requests; a lock guards the font cache, which is.
"""

import io
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Format = Literal["png", "svg"]
Points = tuple[NDArray[Any], NDArray[Any]]

MAX_POINTS = 5_000
"""Points drawn of one series; more only make a darker blot and a larger file."""

_HUGE = 1e150
BLUE, GREEN, RED, GREY = "#1f5fbf", "#2a9d3a", "#d62728", "#9a9a9a"
_lock = threading.Lock()


def loss_curve(series: Mapping[str, Points], title: str, loss: str, format: Format) -> bytes:  # noqa: A002
    """Losses by epoch, one line each; a log scale where they span more than a factor of 100."""
    figure, axes = _figure(title)
    colors = {"train_loss": BLUE, "validation_loss": RED, "test_loss": RED}
    for name, (epochs, values) in series.items():
        label = name.replace("_", " ")
        marker = "o" if len(epochs) < 3 else None
        axes.plot(epochs, values, color=colors.get(name, GREY), label=label, marker=marker)
    finite = np.concatenate([v[np.isfinite(v)] for _, v in series.values()])
    if len(finite) and finite.min() > 0 and finite.max() > 100 * finite.min():
        axes.set_yscale("log")
    _label(axes, "epoch", f"{loss} loss")
    return _render(figure, format)


def scatter(
    series: Mapping[str, tuple[Points, str]],
    title: str,
    x: str,
    y: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Named clouds of points, each with its colour."""
    figure, axes = _figure(title)
    for name, (points, color) in series.items():
        _points(axes, points, color, name)
    _label(axes, x, y)
    return _render(figure, format)


def predicted_against_true(
    clouds: Mapping[str, tuple[Points, str]],
    title: str,
    target: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Predictions over the true values, with the identity line on which perfect ones lie."""
    figure, axes = _figure(title)
    for name, (points, color) in clouds.items():
        _points(axes, points, color, name)
    values = np.concatenate([np.concatenate(points) for points, _ in clouds.values()])
    values = values[np.abs(values) < _HUGE]
    ends = [float(values.min()), float(values.max())] if len(values) else []
    axes.plot(ends, ends, color="black", linewidth=1, linestyle="--", label="identity")
    _label(axes, f"true {target}", f"predicted {target}")
    return _render(figure, format)


def class_counts(
    labels: Sequence[str],
    counts: Mapping[str, tuple[Sequence[float], str]],
    title: str,
    target: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Bars per class side by side: how often each is true and how often predicted."""
    figure, axes = _figure(title)
    places = np.arange(len(labels))
    width = 0.8 / len(counts)
    for i, (name, (heights, color)) in enumerate(counts.items()):
        axes.bar(places + i * width, heights, width, color=color, label=_shown(name))
    axes.set_xticks(
        places + 0.4 - width / 2, [_shown(label, 16) for label in labels], parse_math=False
    )
    if len(labels) > 6:
        axes.tick_params(axis="x", rotation=45)
    _label(axes, target, "rows")
    return _render(figure, format)


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_shown(title, 100), parse_math=False)
    axes.grid(alpha=0.25)
    return figure, axes


def _points(axes: Axes, points: Points, color: str, name: str) -> None:
    x, y = (_drawable(values[_sample(len(values))]) for values in points)
    faint = 0.35 if color == GREY else 0.8 if len(x) < 500 else 0.4
    axes.scatter(
        x,
        y,
        s=14 if len(x) < 500 else 6,
        color=color,
        alpha=faint,
        label=_shown(name),
        linewidths=0,
    )


def _drawable(values: NDArray[Any]) -> NDArray[Any]:
    """Without what overflows when matplotlib makes axes of it."""
    return np.where(np.abs(values) < _HUGE, values, np.nan)


def _sample(count: int) -> Any:
    return slice(None) if count <= MAX_POINTS else np.linspace(0, count - 1, MAX_POINTS).astype(int)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(_shown(x, 80), parse_math=False)
    axes.set_ylabel(_shown(y, 80), parse_math=False)
    for text in axes.legend().get_texts():
        text.set_parse_math(False)


def _shown(text: str, length: int = 60) -> str:
    """Somebody's text as a label: short, and without what SVG cannot hold."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text[:length])
    return f" {clean}" if clean.startswith("_") else clean  # matplotlib hides those in legends


def _render(figure: Figure, format: Format) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    with _lock:
        figure.savefig(buffer, format=format)
    return buffer.getvalue()
