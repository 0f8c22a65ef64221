"""How far off a model was on rows that it was not trained on, and so how far off it may be: split
conformal prediction (Papadopoulos et al., 2002; for classes Sadinle, Lei and Wasserman, 2019).

Of rows that are like those of the validation part, an interval or a set of a level holds the true
value that often on average, whatever the model and the noise are like.
"""

import math
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from app.errors import InvalidRequest
from app.ml.column_types.arrays import Floats
from app.ml.column_types.fitted import FittedPart, Matrix
from app.ml.features import preprocessing
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets, TargetEncoder

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Of which the coverage is measured on the test part."""
_MOST_SCORES = 1_000
"""Of each target; of more rows as many quantiles, rounded up."""


class Coverage(FittedPart):
    """How often intervals or sets of a level held the true value on rows that played no part."""

    level: float
    coverage: float
    rows: int


class Conformal(FittedPart):
    """Scores of the validation part in order: how far off a number was, in the target's own units,
    or 1 less the probability of the true class."""

    rows: int = Field(ge=1)
    scores: list[list[float]]
    """One list a target."""
    coverage: list[Coverage] = []

    def bounds(self, level: float) -> Floats:
        """Return ``(targets,)`` how far off a prediction is with that probability, at the most.

        Raises InvalidRequest where the validation part had too few rows to say.
        """
        if not 0 < level < 1:
            raise InvalidRequest.at("/interval", "a level lies between 0 and 1, such as 0.9")
        rank = math.ceil((self.rows + 1) * level - 1e-9)
        if rank > self.rows:
            least = math.ceil(level / (1 - level) - 1e-9)
            raise InvalidRequest.at(
                "/interval",
                f"a level of {level:g} needs {least} rows in the validation part, and this model's "
                f"had {self.rows}; ask for at most {self.rows / (self.rows + 1):.3g}",
            )
        found = [column[math.ceil(rank * len(column) / self.rows) - 1] for column in self.scores]
        return np.array(found)


def fit(target: TargetEncoder, table: pa.Table, outputs: Matrix) -> Conformal | None:
    """Return the scores of ``outputs`` against the targets in ``table``, those of the validation
    part; ``None`` for several labels, without a row, or where an output is not finite."""
    if isinstance(target, LabelTargets) or not len(outputs) or not np.isfinite(outputs).all():
        return None
    scores = np.sort(_scores(target, table, outputs), axis=0)
    rows, count = len(scores), min(len(scores), _MOST_SCORES)
    places = np.ceil(np.arange(1, count + 1) * rows / count).astype(np.int64) - 1
    return Conformal(rows=rows, scores=scores[places].T.tolist())


def _scores(target: Any, table: pa.Table, outputs: Matrix) -> Floats:
    """Return ``(rows, targets)``, or ``(rows, 1)`` of classes."""
    if isinstance(target, NumberTargets):
        errors = preprocessing.numbers(table, target.names) - target.decode(outputs)
        return np.asarray(np.abs(errors))
    shares, codes = target.probabilities(outputs), target.codes(table)
    return np.asarray(1 - shares[np.arange(len(codes)), codes][:, None])


def measured(
    conformal: Conformal, target: TargetEncoder, table: pa.Table, outputs: Matrix
) -> Conformal:
    """Return the same with the coverage that each of ``LEVELS`` has on other rows."""
    if not len(outputs) or not np.isfinite(outputs).all():
        return conformal
    attainable = [level for level in LEVELS if (conformal.rows + 1) * level <= conformal.rows]
    found = []
    for level in attainable:
        if isinstance(target, ClassTarget):
            codes = target.codes(table)
            held = sets(conformal, target, outputs, level)[np.arange(len(codes)), codes]
        else:
            held = _scores(target, table, outputs) <= conformal.bounds(level)
        share = float(np.mean(held))
        found.append(Coverage(level=level, coverage=share, rows=table.num_rows))
    return conformal.model_copy(update={"coverage": found})


def ends(
    conformal: Conformal, target: NumberTargets, outputs: Matrix, level: float
) -> tuple[Floats, Floats]:
    """Return the low and the high ends ``(rows, targets)`` of the intervals of a level, in the
    target's own units; of counts no end is below 0."""
    middle, reach = target.decode(outputs), conformal.bounds(level)
    low = middle - reach
    return np.maximum(low, 0.0) if target.link == "log" else low, middle + reach


def sets(conformal: Conformal, target: ClassTarget, outputs: Matrix, level: float) -> Any:
    """Return ``(rows, classes)`` which classes are in the set of a level; the one that is answered
    always is."""
    shares = target.probabilities(outputs)
    found = 1 - shares <= conformal.bounds(level)[0]
    found[np.arange(len(found)), target.chosen(shares)] = True
    return found
