"""What all pictures share: figures, axes that fit any value, and text that is safe to show."""

import io
import threading
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import dates, rcParams
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from app.ml.drawing import GREY, MAX_POINTS, Format, Points

HUGE = 1e150
"""From here on matplotlib overflows when it makes axes of values."""
TINY = 1e-290
"""Up to here an axis cannot tell two values apart."""
_CALENDAR = (-719_162.0, 2_932_896.999)
"""The years 1 to 9999 in days since 1970, which is what matplotlib can write."""

_lock = threading.Lock()
# the same picture has the same bytes, as its ETag says: no date, and no random ids in SVG
rcParams["svg.hashsalt"] = "fitserve"
_METADATA: dict[Format, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}}


def new_figure(title: str, size: tuple[float, float] = (8, 5)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(label_text(title, 100), parse_math=False)
    axes.grid(alpha=0.25)
    return figure, axes


def draw_points(axes: Axes, points: Points, color: str, name: str) -> None:
    """Draw one of several clouds, at most ``MAX_POINTS`` of it."""
    x, y = (drawable(values[_sample(len(values))]) for values in points)
    faint = 0.35 if color == GREY else 0.8 if len(x) < 500 else 0.4
    axes.scatter(
        x,
        y,
        s=14 if len(x) < 500 else 6,
        color=color,
        alpha=faint,
        label=label_text(name),
        linewidths=0,
    )


def draw_cloud(axes: Axes, points: Points, color: str, name: str) -> None:
    """Draw the only cloud of a picture: its points, or how dense they are where they are many."""
    if len(points[0]) <= MAX_POINTS:
        draw_points(axes, points, color, name)
        return
    x, y = (drawable(values) for values in points)
    both = np.isfinite(x) & np.isfinite(y)
    cells = axes.hexbin(x[both], y[both], gridsize=60, bins="log", mincnt=1, cmap=_shades(color))
    axes.figure.colorbar(cells, ax=axes, label=label_text(name), format="{x:,.0f}")


def _shades(color: str) -> LinearSegmentedColormap:
    """Return the colours from a pale one to a dark one of its kind."""
    red, green, blue = to_rgb(color)
    pale = to_hex((0.8 + 0.2 * red, 0.8 + 0.2 * green, 0.8 + 0.2 * blue))
    dark = to_hex((0.5 * red, 0.5 * green, 0.5 * blue))
    return LinearSegmentedColormap.from_list(color, [pale, color, dark])


def drawable(values: NDArray[Any]) -> NDArray[Any]:
    """Return values with NaN for those that overflow when matplotlib makes axes of them."""
    if values.dtype.kind == "M":
        days = values.astype("datetime64[us]").astype(np.int64) / 86_400e6
        return np.where((days >= _CALENDAR[0]) & (days <= _CALENDAR[1]), days, np.nan)
    return np.where(np.abs(values) < HUGE, values, np.nan)


def _sample(count: int) -> Any:
    return slice(None) if count <= MAX_POINTS else np.linspace(0, count - 1, MAX_POINTS).astype(int)


def indistinguishable(low: float, high: float) -> bool:
    """Return whether an axis could not tell the two apart."""
    return high - low <= max(1e-12 * max(abs(low), abs(high)), TINY)


def count_ticks(axis: Axis) -> None:
    axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def use_dates(axes: Axes, which: Literal["x", "y"] = "x") -> None:
    """Label an axis that is in days since 1970 with dates."""
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    ends = np.clip(axes.get_xlim() if which == "x" else axes.get_ylim(), *_CALENDAR)
    (axes.set_xlim if which == "x" else axes.set_ylim)(float(ends[0]), float(ends[1]))
    locator = dates.AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axis.set_major_locator(locator)
    axis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def name_places(axes: Axes, places: NDArray[Any], labels: Sequence[str]) -> None:
    """Name places along x, slanting where they are many."""
    axes.set_xticks(places, [label_text(label, 16) for label in labels], parse_math=False)
    if len(labels) > 6:
        axes.tick_params(axis="x", rotation=45)


def label_axes(axes: Axes, x: str, y: str, **legend: Any) -> None:
    name_axes(axes, x, y)
    if axes.get_legend_handles_labels()[0]:
        for text in axes.legend(**legend).get_texts():
            text.set_parse_math(False)


def name_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(label_text(x, 80), parse_math=False)
    axes.set_ylabel(label_text(y, 80), parse_math=False)


def label_text(text: str, length: int = 60) -> str:
    """Return somebody's text as a label: short, and without what SVG cannot hold."""
    if len(text) > length:  # names that begin alike often end differently
        text = f"{text[: length // 2 - 1]}…{text[len(text) - length // 2 :]}"
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return f" {clean}" if clean.startswith("_") else clean  # matplotlib hides those in legends


def render(figure: Figure, format: Format) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    with _lock:
        figure.savefig(buffer, format=format, metadata=_METADATA[format])
    return buffer.getvalue()
