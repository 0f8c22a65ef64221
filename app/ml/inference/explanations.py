"""Why a model answers as it does: what each feature of a row adds to its prediction.

Shapley values by sampling (Štrumbelj and Kononenko, 2014): the features of a row of the training
part are replaced one after the other by those of the row in question, and what each replacement
changes is that feature's. An order and its reverse are taken together, which cancels much of the
noise (Mitchell et al., 2022). Whatever the orders, the contributions add up to the prediction less
that of the training rows; and they are always the same orders, so the same row has the same ones.
"""

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from app.ml.column_types.arrays import Floats
from app.ml.column_types.fitted import FittedPart, Matrix

_MOST_ROWS = 4
"""Of the training part that a row is held against: of each two one in an order, one in its reverse.
A thousand rows of ``tabular`` with 20 features take a core about two seconds so."""
_ROWS_AT_ONCE, _NUMBERS_AT_ONCE = 65_536, 8 * 1024 * 1024
"""Rows that go through the module together, and numbers in them."""

Answer = Callable[[Matrix], Floats]
"""Encoded rows ``(rows, inputs)`` to the number ``(rows,)`` that is explained."""


class Background(FittedPart):
    """A few rows of the training part, as the module reads them."""

    count: int = Field(ge=1, le=64)
    values: str
    """``(count, inputs)`` float32, little-endian, in base64."""

    @classmethod
    def of(cls, x: Matrix, seed: int) -> "Background":
        """Take some rows of the training part ``(rows, inputs)``."""
        places = np.random.default_rng(seed).permutation(len(x))[:_MOST_ROWS]
        values = x[np.sort(places)].astype("<f4").tobytes()
        return cls(count=len(places), values=base64.b64encode(values).decode())

    @property
    def rows(self) -> Matrix:
        """``(count, inputs)``."""
        values = np.frombuffer(base64.b64decode(self.values), "<f4").astype(np.float32)
        return values.reshape(self.count, -1)


def contributions(
    x: Matrix, background: Background, places: Sequence[tuple[int, int]], answer: Answer
) -> tuple[Floats, Floats]:
    """Return ``(rows,)`` the mean answer for the background, and ``(rows, features)`` what each
    feature adds to it for each row of ``x`` ``(rows, inputs)``.

    ``places`` are each feature's first column and the one behind its last. What ``answer`` is given
    is ``x`` several times over, one behind the other, with features replaced.
    """
    features = len(places)
    random = np.random.default_rng(0)
    base, found = np.zeros(len(x)), np.zeros((len(x), features))
    ends = answer(x)
    ways = [random.permutation(features) for _ in range((background.count + 1) // 2)]
    orders = [order for way in ways for order in (way, way[::-1])]
    for start, order in zip(background.rows, orders, strict=False):
        steps = _walk(x, start, order, places)[:-1]
        said = answer(steps.reshape(-1, x.shape[1])).reshape(features, len(x))
        found[:, order] += np.diff(np.concatenate([said, ends[None]]), axis=0).T
        base += said[0]
    return base / background.count, found / background.count


def _walk(
    x: Matrix, start: Matrix, order: NDArray[np.int64], places: Sequence[tuple[int, int]]
) -> Matrix:
    """Return ``(features + 1, rows, inputs)``: the way from one row of the training part to each
    row of ``x``, a feature a step."""
    walk = np.empty((len(order) + 1, *x.shape), np.float32)
    walk[0] = start
    for number, feature in enumerate(order, 1):
        first, last = places[feature]
        walk[number] = walk[number - 1]
        walk[number, :, first:last] = x[:, first:last]
    return walk


def pieces(rows: int, features: int, inputs: int) -> Iterator[slice]:
    """Yield slices of so many rows whose walks fit into memory."""
    at_once = min(_ROWS_AT_ONCE, _NUMBERS_AT_ONCE // max(1, inputs)) // (features + 1)
    step = max(1, at_once)
    for begin in range(0, rows, step):
        yield slice(begin, begin + step)


def largest(
    names: Sequence[str], base: float, values: Sequence[float], most: int
) -> dict[str, Any]:
    """Return the ``most`` largest contributions by feature, the largest first, and the sum of the
    rest as ``other``."""
    order = sorted(range(len(names)), key=lambda place: -abs(values[place]))
    largest = {names[place]: values[place] for place in order[:most]}
    if len(names) > most:
        largest["other"] = sum(values[place] for place in order[most:])
    return {"base": base, "contributions": largest}


# ---------------------------------------------------------------- of all rows


class FeatureImportance(FittedPart):
    """By how much the error rises, as the mean and the deviation over repeats."""

    model_config = ConfigDict(allow_inf_nan=False)

    feature: str
    mean: float
    std: float


class Importance(FittedPart):
    """How much a model relies on each feature (``ml.evaluation.importance``), the largest first."""

    metric: Literal["rmse", "pinball", "log_loss"]
    """The error that rises."""
    rows: int = Field(ge=1)
    features: list[FeatureImportance]
