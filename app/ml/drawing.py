"""What is to be drawn, as plain data: ``app.ml.plots`` draws it, in a process of its own.

A drawing is sent from process to process as JSON with its arrays behind it; nothing is unpickled.
"""

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

Format = Literal["png", "svg"]
Points = tuple[NDArray[Any], NDArray[Any]]
"""Values along x and along y, both ``(points,)``."""

MAX_POINTS = 5_000
"""Points drawn of one series; more only make a darker blot and a larger file."""
BLUE, GREEN, RED, GREY = "#0072b2", "#009e73", "#d55e00", "#8c8c8c"
"""Colours that the colour-blind tell apart too (Okabe and Ito, 2008)."""
_COLORS = (RED, BLUE, GREEN, "#cc79a7", "#e69f00", "#56b4e9", GREY)

Kind = Literal[
    "loss_curve",
    "scatter",
    "labelled_scatter",
    "predicted_against_true",
    "residuals",
    "lines",
    "effect",
    "class_counts",
    "histogram",
    "date_histogram",
    "value_counts",
    "importance",
    "heatmap",
    "confusion",
]


class Drawing(NamedTuple):
    """One call of a function of ``app.ml.plots``, without the format."""

    kind: Kind
    arguments: tuple[Any, ...]


class Picture(NamedTuple):
    """A drawing before its numbers are gathered."""

    identity: str
    """Names all that it depends on: the same for the same picture, and for no other."""
    gather: Callable[[], Drawing]


def drawing(kind: Kind, *arguments: Any) -> Drawing:
    """Return the call ``app.ml.plots.<kind>(*arguments, format)``."""
    return Drawing(kind, arguments)


def color(number: int) -> str:
    """Return a colour for the series of that number, from 0, where all are of one kind."""
    return _COLORS[number % len(_COLORS)]


# ---------------------------------------------------------------- from process to process


def pack(what: Drawing) -> list[bytes]:
    """Return a drawing as messages: JSON first, then an ``.npy`` for each of its arrays."""
    arrays: list[NDArray[Any]] = []
    head = orjson.dumps([what.kind, _plain(what.arguments, arrays)])
    return [head, *(_npy(array) for array in arrays)]


def unpack(messages: Iterable[bytes]) -> Drawing:
    """Return what ``pack`` was given; tuples have become lists."""
    head, *rest = messages
    kind, arguments = orjson.loads(head)
    arrays = [np.load(io.BytesIO(message), allow_pickle=False) for message in rest]
    return Drawing(kind, tuple(_whole(value, arrays) for value in arguments))


def _plain(value: Any, arrays: list[NDArray[Any]]) -> Any:
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, Mapping):
        return {"pairs": [[key, _plain(item, arrays)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(item, arrays) for item in value]
    return value


def _whole(value: Any, arrays: list[NDArray[Any]]) -> Any:
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        return {key: _whole(item, arrays) for key, item in value["pairs"]}
    if isinstance(value, list):
        return [_whole(item, arrays) for item in value]
    return value


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
