"""Drawing plots by matplotlib's object interface: arrays in, the bytes of a PNG or SVG out.

No pyplot, so no state is shared between drawings; a lock guards the font cache, which is.
"""

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, dates, rcParams
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from app.ml.drawing import BLUE, GREY, MAX_POINTS, RED, Drawing, Format, Points

_HUGE = 1e150
"""From here on matplotlib overflows when it makes axes of values."""
_TINY = 1e-290
"""Up to here an axis cannot tell two values apart."""
_MOST_WITH_TEXT = 12
"""Rows or columns of cells in which there is room for text."""
_UNITS = ((10**9, "G"), (10**6, "M"), (10**3, "k"))
_CALENDAR = (-719_162.0, 2_932_896.999)
"""The years 1 to 9999 in days since 1970, which is what matplotlib can write."""

_lock = threading.Lock()
# the same picture has the same bytes, as its ETag says: no date, and no random ids in SVG
rcParams["svg.hashsalt"] = "fitserve"
_METADATA: dict[Format, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}}


def draw(what: Drawing, format: Format) -> bytes:  # noqa: A002
    """Return a drawing as an image."""
    function: Callable[..., bytes] = globals()[what.kind]
    return function(*what.arguments, format)


def loss_curve(series: Mapping[str, Points], title: str, loss: str, format: Format) -> bytes:  # noqa: A002
    """Draw losses by epoch, one line each, on a log scale where they span a factor of 100.

    ``loss`` labels their axis.
    """
    figure, axes = _figure(title)
    colors = {"train_loss": BLUE, "validation_loss": RED, "test_loss": RED}
    for name, (epochs, values) in series.items():
        label = name.replace("_", " ")
        marker = "o" if len(epochs) < 3 else None
        axes.plot(epochs, values, color=colors.get(name, GREY), label=label, marker=marker)
    finite = np.concatenate([v[np.isfinite(v)] for _, v in series.values()])
    if len(finite) and finite.min() > 0 and finite.max() > 100 * finite.min():
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label_axes(axes, "epoch", loss)
    return _render(figure, format)


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
    figure, axes = _figure(title)
    dated = [points[0].dtype.kind == "M" for points, _ in series.values()]
    for name, (points, color) in series.items():
        _draw_points(axes, points, color, name)
    if any(dated):
        _use_dates(axes)
    if labels:
        axes.set_yticks(range(len(labels)), [_label_text(label, 22) for label in labels])
    _label_axes(axes, x, y)
    return _render(figure, format)


def predicted_against_true(
    clouds: Mapping[str, tuple[Points, str]],
    title: str,
    target: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw predictions over the true values, and the identity line on which perfect ones lie."""
    figure, axes = _figure(title)
    for name, (points, color) in clouds.items():
        _draw_points(axes, points, color, name)
    values = np.concatenate([np.concatenate(points) for points, _ in clouds.values()])
    values = values[np.abs(values) < _HUGE]
    ends = [float(values.min()), float(values.max())] if len(values) else []
    axes.plot(ends, ends, color="black", linewidth=1, linestyle="--", label="identity")
    _label_axes(axes, f"true {target}", f"predicted {target}")
    return _render(figure, format)


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
    figure, axes = _figure(title)
    for name, ((xs, ys), color, rows) in series.items():
        thin = 1.5 if rows is None else 0.8
        axes.plot(xs, ys, color=color, label=_label_text(name, 22), linewidth=thin)
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
    _label_axes(axes, x, y)
    return _render(figure, format)


def residuals(
    clouds: Mapping[str, tuple[Points, str]],
    title: str,
    target: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw residuals over predictions around the zero line, and a histogram beside them."""
    figure = Figure(figsize=(9.5, 5), dpi=120, layout="constrained")
    figure.suptitle(_label_text(title, 100), parse_math=False)
    axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
    for name, (points, color) in clouds.items():
        _draw_points(axes, points, color, name)
    edges = _edges(np.concatenate([_drawable(values) for (_, values), _ in clouds.values()]))
    for (_, values), color in clouds.values():
        counts, _ = np.histogram(_drawable(values), edges)
        alone = len(clouds) == 1  # else outlines, which do not hide one another
        beside.stairs(counts, edges, orientation="horizontal", fill=alone, color=color, alpha=0.7)
    for each in (axes, beside):
        each.axhline(0, color="black", linewidth=1, linestyle="--", label="no error")
        each.grid(alpha=0.25)
    _count_ticks(beside.xaxis)
    beside.set_xlabel("rows")
    _label_axes(axes, f"predicted {target}", "true - predicted")
    return _render(figure, format)


def _edges(values: NDArray[Any]) -> NDArray[Any]:
    """Return the edges ``(bins + 1,)`` of up to 40 bins over the finite values.

    It is one bin where an axis could not tell the values apart.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.array([-0.5, 0.5])
    low, high = float(finite.min()), float(finite.max())
    if _indistinguishable(low, high):
        room = max(0.05 * abs(low), 0.5)
        return np.array([low - room, high + room])
    return np.linspace(low, high, min(40, 5 + len(finite) // 5) + 1)


def class_counts(
    labels: Sequence[str],
    counts: Mapping[str, tuple[Sequence[float], str]],
    title: str,
    target: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw bars per class side by side, one for each of ``counts``, with its colour."""
    figure, axes = _figure(title)
    places = np.arange(len(labels))
    width = 0.8 / len(counts)
    for i, (name, (heights, color)) in enumerate(counts.items()):
        axes.bar(places + i * width, heights, width, color=color, label=_label_text(name))
    axes.set_xticks(
        places + 0.4 - width / 2, [_label_text(label, 16) for label in labels], parse_math=False
    )
    if len(labels) > 6:
        axes.tick_params(axis="x", rotation=45)
    axes.margins(y=0.15)  # room above the bars for the legend
    _label_axes(axes, target, "rows", loc="upper right", ncols=len(counts))
    return _render(figure, format)


def histogram(
    edges: NDArray[Any],
    counts: NDArray[Any],
    title: str,
    x: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw ``counts`` ``(bins,)`` as bars between ``edges`` ``(bins + 1,)``."""
    figure, axes = _figure(title)
    largest = float(np.abs(edges).max())
    if largest >= _HUGE:
        power = int(np.log10(largest))
        edges, x = edges / 10.0**power, f"{_label_text(x)} (1e{power})"
    size = 0.05 * abs(float(edges[0]))
    _draw_bins(axes, edges, counts, size if size > _TINY else 0.5)
    _name_axes(axes, x, "rows")
    return _render(figure, format)


def date_histogram(
    days: NDArray[Any],
    counts: NDArray[Any],
    title: str,
    x: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw ``counts`` ``(bins,)`` as bars between ``days`` ``(bins + 1,)`` since 1970."""
    figure, axes = _figure(title)
    _draw_bins(axes, days, counts, 0.5)
    _use_dates(axes)
    _name_axes(axes, x, "rows")
    return _render(figure, format)


def value_counts(
    groups: Mapping[str, Sequence[tuple[str, int]]],
    title: str,
    x: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw lying bars from the top: those of the group ``values`` in blue, all others in grey."""
    figure, axes = _figure(title)
    bars = [(*bar, BLUE if name == "values" else GREY) for name in groups for bar in groups[name]]
    labels, counts, colors = zip(*bars, strict=True)
    places = np.arange(len(bars))
    container = axes.barh(places, counts, height=0.75, color=colors)
    axes.bar_label(container, fmt="{:,.0f}", padding=4)
    axes.set_yticks(places, [_label_text(label) for label in labels], parse_math=False)
    axes.set_ylim(max(len(bars), 4) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    _count_ticks(axes.xaxis)
    _name_axes(axes, "rows", x)
    return _render(figure, format)


def heatmap(
    values: NDArray[Any],
    names: Sequence[str],
    title: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw ``values`` ``(names, names)`` from -1 to 1, NaN in grey, with numbers where they fit."""
    size = len(names)
    figure, axes = _figure(title, (8, 6.8) if size <= _MOST_WITH_TEXT else (11, 9.6))
    axes.grid(visible=False)
    colors = colormaps["RdBu_r"].with_extremes(bad="#cfcfcf")
    edges = np.arange(size + 1) - 0.5
    mesh = axes.pcolormesh(edges, edges, np.ma.masked_invalid(values), cmap=colors, vmin=-1, vmax=1)
    labels = [_label_text(name) for name in names]
    _name_cells(axes, labels, labels)
    axes.set_aspect("equal")
    if size <= _MOST_WITH_TEXT:
        _write_values(axes, values)
    figure.colorbar(mesh, ax=axes, ticks=[-1, -0.5, 0, 0.5, 1])
    return _render(figure, format)


def _write_values(axes: Axes, values: NDArray[Any]) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "white" if abs(value) > 0.6 else "black"
            axes.text(column, row, f"{value:z.2f}", ha="center", va="center", color=color)


def confusion(
    counts: NDArray[Any],
    shares: NDArray[Any],
    names: tuple[Sequence[str], Sequence[str]],
    axes_names: tuple[str, str],
    title: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw cells coloured by ``shares`` from 0 to 1 (NaN in grey), with counts and, where there is
    room, shares in them.

    Both are ``(rows, columns)``; ``names`` are those of rows and columns, ``axes_names`` too.
    """
    rows, columns = names
    most = max(len(rows), len(columns))
    figure, axes = _figure(title, (8, 6.8) if most <= _MOST_WITH_TEXT else (11, 9.6))
    axes.grid(visible=False)
    colors = colormaps["Blues"].with_extremes(bad="#e5e5e5")
    places = (np.arange(len(columns) + 1) - 0.5, np.arange(len(rows) + 1) - 0.5)
    mesh = axes.pcolormesh(*places, np.ma.masked_invalid(shares), cmap=colors, vmin=0, vmax=1)
    _name_cells(axes, [_label_text(n, 24) for n in rows], [_label_text(n, 24) for n in columns])
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        color = "white" if share > 0.6 else "black"
        text = _cell_text(int(count), float(share), len(rows), len(columns))
        size = 6.5 if len(columns) > _MOST_WITH_TEXT else 8 if most > 8 else 9.5
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
    figure.colorbar(mesh, ax=axes, label="share", format="{x:.0%}")
    _name_axes(axes, axes_names[1], axes_names[0])
    return _render(figure, format)


def _cell_text(count: int, share: float, rows: int, columns: int) -> str:
    """Return a cell's text: its count, with its share where there is room.

    A 0 is left out where it would be one of a crowd.
    """
    if columns > _MOST_WITH_TEXT:
        return _short_count(count, 1_000) if count else ""
    text = _short_count(count, 100_000)
    if not np.isfinite(share):
        return text
    return f"{text}  ({share:.0%})" if rows > _MOST_WITH_TEXT else f"{text}\n{share:.0%}"


def _short_count(count: int, short: int) -> str:
    """Return ``12k`` or ``3M`` for a count of ``short`` or more, else all of it."""
    if count < short:
        return f"{count:,}"
    size, unit = next((s, u) for s, u in _UNITS if count >= s)
    return f"{count // size}{unit}"


def _name_cells(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Name rows and columns of cells, the first row on top; upright where there are many."""
    rotation = 90 if len(columns) > _MOST_WITH_TEXT else 40
    axes.set_xticks(range(len(columns)), columns, parse_math=False, rotation=rotation, ha="right")
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    for text in axes.get_xticklabels():
        text.set(rotation_mode="anchor", va="center" if rotation == 90 else "top")
    axes.invert_yaxis()


def _indistinguishable(low: float, high: float) -> bool:
    """Return whether an axis could not tell the two apart."""
    return high - low <= max(1e-12 * max(abs(low), abs(high)), _TINY)


def _draw_bins(axes: Axes, edges: NDArray[Any], counts: NDArray[Any], room: float) -> None:
    """Draw bars; one with ``room`` to both sides where an axis could not tell the edges apart."""
    low, high = edges[0], edges[-1]
    if _indistinguishable(low, high):
        edges, counts = np.array([low - room, low + room]), np.array([counts.sum()])
    axes.bar(
        edges[:-1], counts, np.diff(edges), align="edge", color=BLUE, edgecolor="white", linewidth=1
    )
    axes.set_axisbelow(True)
    _count_ticks(axes.yaxis)


def _count_ticks(axis: Axis) -> None:
    axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _figure(title: str, size: tuple[float, float] = (8, 5)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_label_text(title, 100), parse_math=False)
    axes.grid(alpha=0.25)
    return figure, axes


def _draw_points(axes: Axes, points: Points, color: str, name: str) -> None:
    x, y = (_drawable(values[_sample(len(values))]) for values in points)
    faint = 0.35 if color == GREY else 0.8 if len(x) < 500 else 0.4
    axes.scatter(
        x,
        y,
        s=14 if len(x) < 500 else 6,
        color=color,
        alpha=faint,
        label=_label_text(name),
        linewidths=0,
    )


def _drawable(values: NDArray[Any]) -> NDArray[Any]:
    """Return values with NaN for those that overflow when matplotlib makes axes of them."""
    if values.dtype.kind == "M":
        days = values.astype("datetime64[us]").astype(np.int64) / 86_400e6
        return np.where((days >= _CALENDAR[0]) & (days <= _CALENDAR[1]), days, np.nan)
    return np.where(np.abs(values) < _HUGE, values, np.nan)


def _use_dates(axes: Axes) -> None:
    """Label the x axis, in days since 1970, with dates."""
    ends = np.clip(axes.get_xlim(), *_CALENDAR)
    axes.set_xlim(float(ends[0]), float(ends[1]))
    locator = dates.AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = dates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)


def _sample(count: int) -> Any:
    return slice(None) if count <= MAX_POINTS else np.linspace(0, count - 1, MAX_POINTS).astype(int)


def _label_axes(axes: Axes, x: str, y: str, **legend: Any) -> None:
    _name_axes(axes, x, y)
    for text in axes.legend(**legend).get_texts():
        text.set_parse_math(False)


def _name_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(_label_text(x, 80), parse_math=False)
    axes.set_ylabel(_label_text(y, 80), parse_math=False)


def _label_text(text: str, length: int = 60) -> str:
    """Return somebody's text as a label: short, and without what SVG cannot hold."""
    if len(text) > length:  # names that begin alike often end differently
        text = f"{text[: length // 2 - 1]}…{text[len(text) - length // 2 :]}"
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return f" {clean}" if clean.startswith("_") else clean  # matplotlib hides those in legends


def _render(figure: Figure, format: Format) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    with _lock:
        figure.savefig(buffer, format=format, metadata=_METADATA[format])
    return buffer.getvalue()
