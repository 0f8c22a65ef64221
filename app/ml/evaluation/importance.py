"""How much a model relies on each feature: how much worse it is where that feature's values are
shuffled among the rows (Breiman, 2001; of any model Fisher, Rudin and Dominici, 2019)."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from app.ml.column_types.fitted import Matrix
from app.ml.evaluation import metrics
from app.ml.features.preprocessing import NumberTargets, TargetEncoder
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
    metric: Literal["rmse", "log_loss"] = (
        "rmse" if isinstance(target, NumberTargets) else "log_loss"
    )
    cost = max(1, x.shape[1] * len(places) * _REPEATS)
    rows = min(len(x), _MOST_ROWS, max(_FEWEST_ROWS, _MOST_NUMBERS // cost))
    random = np.random.default_rng(0)
    chosen = np.sort(random.permutation(len(x))[:rows])
    table, x = table.take(pa.array(chosen)), x[chosen]

    def error(matrix: Matrix) -> float | None:
        return metrics.score(target, table, forward(matrix), [metric])[metric]

    plain = error(x) if rows else None
    if plain is None:
        return None
    found = []
    for name, first, last in places:
        rises = []
        for _ in range(_REPEATS):
            shuffled = x.copy()
            shuffled[:, first:last] = x[random.permutation(rows), first:last]
            worse = error(shuffled)
            rises.append(np.nan if worse is None else worse - plain)
        mean, std = float(np.mean(rises)), float(np.std(rises))
        if np.isfinite(mean):
            found.append(FeatureImportance(feature=name, mean=mean, std=std))
    found.sort(key=lambda item: -item.mean)
    return Importance(metric=metric, rows=rows, features=found)
