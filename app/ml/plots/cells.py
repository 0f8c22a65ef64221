"""Pictures of cells: how columns go together, which class is taken for which."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import NDArray

from app.ml.drawing import Format
from app.ml.plots.canvas import label_text, name_axes, new_figure, render

_MOST_WITH_TEXT = 12
"""Rows or columns of cells in which there is room for text."""
_UNITS = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


def heatmap(
    values: NDArray[Any],
    names: Sequence[str],
    title: str,
    scale: str,
    format: Format,  # noqa: A002
) -> bytes:
    """Draw ``values`` ``(names, names)`` from -1 to 1, NaN in grey, with numbers where they fit;
    ``scale`` says what they are."""
    size = len(names)
    figure, axes = new_figure(title, (8, 6.8) if size <= _MOST_WITH_TEXT else (11, 9.6))
    axes.grid(visible=False)
    colors = colormaps["RdBu_r"].with_extremes(bad="#cfcfcf")
    edges = np.arange(size + 1) - 0.5
    mesh = axes.pcolormesh(edges, edges, np.ma.masked_invalid(values), cmap=colors, vmin=-1, vmax=1)
    labels = [label_text(name) for name in names]
    _name_cells(axes, labels, labels)
    axes.set_aspect("equal")
    if size <= _MOST_WITH_TEXT:
        _write_values(axes, values)
    figure.colorbar(mesh, ax=axes, ticks=[-1, -0.5, 0, 0.5, 1], label=label_text(scale, 90))
    return render(figure, format)


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
    figure, axes = new_figure(title, (8, 6.8) if most <= _MOST_WITH_TEXT else (11, 9.6))
    axes.grid(visible=False)
    colors = colormaps["Blues"].with_extremes(bad="#e5e5e5")
    places = (np.arange(len(columns) + 1) - 0.5, np.arange(len(rows) + 1) - 0.5)
    mesh = axes.pcolormesh(*places, np.ma.masked_invalid(shares), cmap=colors, vmin=0, vmax=1)
    _name_cells(axes, [label_text(n, 24) for n in rows], [label_text(n, 24) for n in columns])
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        color = "white" if share > 0.6 else "black"
        text = _cell_text(int(count), float(share), len(rows), len(columns))
        size = 6.5 if len(columns) > _MOST_WITH_TEXT else 8 if most > 8 else 9.5
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
    figure.colorbar(mesh, ax=axes, label="share", format="{x:.0%}")
    name_axes(axes, axes_names[1], axes_names[0])
    return render(figure, format)


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
