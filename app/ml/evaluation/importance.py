"""How much a model relies on each feature: how much worse it is where that feature's values are
shuffled among the rows (Breiman, 2001; of any model Fisher, Rudin and Dominici, 2019)."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from app.ml.column_types.arrays import Floats
from app.ml.column_types.fitted import Matrix
from app.ml.evaluation.metrics import OF_NUMBERS, Numbers
from app.ml.features import preprocessing
from app.ml.features.preprocessing import LabelTargets, NumberTargets, TargetEncoder
from app.ml.inference.explanations import FeatureImportance, Importance

_REPEATS = 5
_MOST_ROWS = 2_000
_MOST_NUMBERS = 200_000_000
"""That go through the module in all: a wide table is measured on fewer rows."""
_FEWEST_ROWS = 30


def measured(
    target: TargetEncoder,
    table: pa.Table,
    x: Matrix,
    places: Sequence[tuple[str, int, int]],
    forward: Callable[[Matrix], Matrix],
) -> Importance | None:
    """Return the importance of each feature on rows with known targets, ``x`` ``(rows, inputs)``.

    ``places`` are name, first column and the one behind the last of each feature, ``forward`` is
    the module. ``None`` where there are no rows, or an error is not defined on them.
    """
    cost = max(1, x.shape[1] * len(places) * _REPEATS)
    rows = min(len(x), _MOST_ROWS, max(_FEWEST_ROWS, _MOST_NUMBERS // cost))
    random = np.random.default_rng(0)
    chosen = np.sort(random.permutation(len(x))[:rows])
    x = x[chosen]
    error = _error(target, table.take(pa.array(chosen)))
    with np.errstate(over="ignore", invalid="ignore"):
        plain = error(forward(x)) if rows else np.nan
        if not np.isfinite(plain):
            return None

        def rise(shuffled: Matrix) -> list[float]:
            return [error(said) - plain for said in np.split(forward(shuffled), _REPEATS)]

        found = _rises(x, places, random, rise)
    return Importance(metric=_metric(target), rows=rows, features=found)


def _rises(
    x: Matrix,
    places: Sequence[tuple[str, int, int]],
    random: np.random.Generator,
    rise: Callable[[Matrix], Sequence[float]],
) -> list[FeatureImportance]:
    """Return by how much the error rises where each feature is shuffled, the most first."""
    found = []
    for name, first, last in places:
        shuffled = np.tile(x, (_REPEATS, 1))
        orders = [random.permutation(len(x)) for _ in range(_REPEATS)]
        shuffled[:, first:last] = x[np.concatenate(orders), first:last]
        rises = rise(shuffled)
        mean, std = float(np.mean(rises)), float(np.std(rises))
        if np.isfinite(mean):
            found.append(FeatureImportance(feature=name, mean=mean, std=std))
    return sorted(found, key=lambda item: -item.mean)


def _metric(target: TargetEncoder) -> Literal["rmse", "pinball", "log_loss"]:
    if not isinstance(target, NumberTargets):
        return "log_loss"
    return "rmse" if target.quantile is None else "pinball"


def _error(target: TargetEncoder, table: pa.Table) -> Callable[[Matrix], float]:
    """Return what gives the RMSE, pinball or log loss of outputs ``(rows, outputs)``.

    NaN where an output is not finite. It is called for every shuffle, where what ``metrics`` asks
    scikit-learn would take longer than the module.
    """
    if isinstance(target, NumberTargets):
        numbers = preprocessing.numbers(table, target.names)

        metric, quantile = OF_NUMBERS[_metric(target)], target.quantile or 0.5

        def of_numbers(outputs: Matrix) -> float:
            found = metric(Numbers(numbers, target.decode(outputs), quantile))
            return np.nan if found is None else found

        return of_numbers
    if isinstance(target, LabelTargets):
        true = target.encode(table) == 1

        def of_labels(outputs: Matrix) -> float:
            shares = target.probabilities(outputs)
            return _log_loss(np.where(true, shares, 1 - shares))

        return of_labels
    codes, rows = target.codes(table), np.arange(table.num_rows)
    return lambda outputs: _log_loss(target.probabilities(outputs)[rows, codes])


def _log_loss(shares: Floats) -> float:
    """The log loss of the probabilities that what is true was given, clipped as scikit-learn's."""
    eps = np.finfo(shares.dtype).eps
    return float(-np.log(np.clip(shares, eps, 1 - eps)).mean())
