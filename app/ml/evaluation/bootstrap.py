"""How far metrics would move on other rows of the same kind: percentile bootstrap (Efron, 1979).

Each resample is a weight for every row, how often it was drawn, and every metric is computed of all
resamples at once. Held against ``ml.evaluation.metrics``, which knows no weights, by the tests.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.ml.column_types.arrays import Floats
from app.ml.column_types.fitted import Matrix
from app.ml.evaluation import metrics
from app.ml.evaluation.metrics import BINS, Case, Classes, Labels, Numbers
from app.ml.features.preprocessing import TargetEncoder
from app.ml.finite import Metrics
from app.ml.inference.confidence import Confidence, Range

_LEVEL = 0.95
"""Share of the resamples in which a metric lies between its ends."""
_RESAMPLES = 200
_MOST_ROWS = 5_000
"""That are resampled; of more, so many are drawn once."""
_MOST_NUMBERS = 20_000_000
"""Weights of all resamples, for each column of outputs; of more rows some are drawn from."""
_FEWEST_ROWS = 500
_LEAST_ROWS = 10
"""Of fewer a range says nothing: all that they have in common may be chance."""
_LEAST_DEFINED = 100
"""Resamples on which a metric has to be defined."""

Weights = Floats
"""``(resamples, rows)`` how often each row was drawn."""


def confidence(
    target: TargetEncoder, table: pa.Table, outputs: Matrix, scores: Metrics
) -> Confidence | None:
    """Return the ranges of the metrics of a module's ``outputs`` against the targets in ``table``.

    ``scores`` are the metrics themselves. ``None`` for fewer than ten rows or where an output is
    not finite; a metric that is not defined on all of these rows has no range. Of very many rows
    some are resampled, and their deviations made smaller by the root of their share.
    """
    rows = len(outputs)
    if rows < _LEAST_ROWS or not np.isfinite(outputs).all():
        return None
    few = min(_MOST_ROWS, max(_FEWEST_ROWS, _MOST_NUMBERS // (_RESAMPLES * outputs.shape[1])))
    random = np.random.default_rng(0)
    if rows > few:
        chosen = np.sort(random.permutation(rows)[:few])
        table, outputs = table.take(pa.array(chosen)), outputs[chosen]
    case = metrics.case_of(target, table, metrics.answers_of(target, outputs))
    drawn = weighted(case, _draws(random, len(outputs), _RESAMPLES))
    plain = weighted(case, np.ones((1, len(outputs))))
    shrink = np.sqrt(len(outputs) / rows)
    found = {}
    for name, score in scores.items():
        if score is None:
            continue
        values = drawn[name][np.isfinite(drawn[name])]
        if len(values) >= _LEAST_DEFINED and np.isfinite(plain[name][0]):
            ends = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
            low, high = score + shrink * (ends - plain[name][0])
            found[name] = Range(low=float(low), high=float(high))
    return Confidence(level=_LEVEL, resamples=_RESAMPLES, rows=rows, metrics=found)


def _draws(random: np.random.Generator, rows: int, resamples: int) -> Weights:
    drawn = random.integers(rows, size=(resamples, rows)) + np.arange(resamples)[:, None] * rows
    counts = np.bincount(drawn.ravel(), minlength=resamples * rows)
    return counts.reshape(resamples, rows).astype(np.float64)


def weighted(case: Case, weights: Weights) -> dict[str, Floats]:
    """Return each metric ``(resamples,)`` of a case by name, NaN where it is not defined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        match case:
            case Numbers():
                return _of_numbers(case, weights)
            case Classes():
                return _of_classes(case, weights)
            case Labels():
                return _of_labels(case, weights)


# ---------------------------------------------------------------- numbers


def _of_numbers(numbers: Numbers, weights: Weights) -> dict[str, Floats]:
    true, errors = numbers.true, numbers.errors
    sizes = np.abs(errors)
    squares = _means(errors**2, weights)
    spread = _means(true**2, weights) - _means(true, weights) ** 2
    found = {
        "mae": _means(sizes, weights),
        "rmse": np.sqrt(squares),
        "r2": 1 - squares / np.where(spread > 0, spread, np.nan),
        "median_absolute_error": _medians(sizes, weights),
        "mape": _means(sizes / np.abs(true), weights),
        "pinball": _means(numbers.pinballs, weights),
    }
    return {name: values.mean(axis=1) for name, values in found.items()}


def _means(values: Floats, weights: Weights) -> Floats:
    """Return ``(resamples, columns)`` of values ``(rows, columns)``."""
    means: Floats = weights @ values / weights.sum(axis=1, keepdims=True)
    return means


def _medians(values: Floats, weights: Weights) -> Floats:
    """The same; of an even number of rows the mean of the two in the middle."""
    total = weights.sum(axis=1, keepdims=True)
    columns = []
    for column in values.T:
        order = np.argsort(column, kind="stable")
        passed = weights[:, order].cumsum(axis=1)
        ends = [(passed <= np.floor(half)).sum(axis=1) for half in ((total - 1) / 2, total / 2)]
        columns.append(column[order][np.stack(ends)].mean(axis=0))
    return np.column_stack(columns)


# ---------------------------------------------------------------- classes


def _of_classes(classes: Classes, weights: Weights) -> dict[str, Floats]:
    true, shares = classes.known()
    known = weights[:, classes.true >= 0]
    return {
        **_of_answers(classes, weights),
        "auc": _areas(true, shares, known),
        "average_precision": _precisions(true, shares, known, classes.positive),
        **_of_shares(true, shares, known),
    }


def _of_answers(classes: Classes, weights: Weights) -> dict[str, Floats]:
    """Metrics that look at the answered class alone."""
    count = max(classes.probabilities.shape[1], int(classes.predicted.max()) + 1)
    lowest = min(0, int(classes.true.min()))  # classes that the model does not know
    true, said = classes.true - lowest, classes.predicted - lowest
    size = count - lowest
    of = _sums(true, weights, size)
    answered = _sums(said, weights, size)
    hits = _sums(np.where(true == said, true, -1), weights, size)
    total = weights.sum(axis=1)
    occurs = (of > 0) | (answered > 0)
    f1 = np.where(occurs, 2 * hits / (of + answered), np.nan)
    found = {
        "accuracy": hits.sum(axis=1) / total,
        "f1_macro": _mean_of_defined(f1),
        "balanced_accuracy": _mean_of_defined(np.where(of > 0, hits / of, np.nan)),
        "mcc": _correlation(of, answered, hits, total),
    }
    if classes.positive is not None:
        place = classes.positive - lowest
        found["precision"] = np.where(
            answered[:, place] > 0, hits[:, place] / answered[:, place], 0.0
        )
        found["recall"] = np.where(of[:, place] > 0, hits[:, place] / of[:, place], 0.0)
        found["f1"] = np.where(occurs[:, place], f1[:, place], 0.0)
    return found


def _mean_of_defined(values: Floats) -> Floats:
    defined = ~np.isnan(values)
    mean: Floats = np.where(defined, values, 0).sum(axis=1) / defined.sum(axis=1)
    return mean


def _sums(codes: NDArray[np.int64], weights: Weights, count: int) -> Floats:
    """Return ``(resamples, count)`` the weight of the rows of each code; -1 is none."""
    found = np.zeros((len(weights), count))
    for code in np.unique(codes[codes >= 0]):
        found[:, code] = weights[:, codes == code].sum(axis=1)
    return found


def _correlation(of: Floats, answered: Floats, hits: Floats, total: Floats) -> Floats:
    """Matthews' correlation coefficient (Gorodkin, 2004)."""
    above = hits.sum(axis=1) * total - (of * answered).sum(axis=1)
    below = (total**2 - (of**2).sum(axis=1)) * (total**2 - (answered**2).sum(axis=1))
    return np.where(below > 0, above / np.sqrt(below), 0.0)


def _of_shares(true: NDArray[np.int64], shares: Floats, weights: Weights) -> dict[str, Floats]:
    """Metrics that look at how sure the answers are."""
    eps = np.finfo(shares.dtype).eps
    errors = ((shares - np.eye(shares.shape[1])[true]) ** 2).sum(axis=1)
    sure, right = shares.max(axis=1), shares.argmax(axis=1) == true
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    gaps = np.zeros((len(sure), BINS))
    gaps[np.arange(len(sure)), bins] = sure - right
    log_losses = -np.log(np.clip(shares[np.arange(len(true)), true], eps, 1 - eps))
    return {
        "log_loss": _means(log_losses[:, None], weights)[:, 0],
        "brier": _means(errors[:, None], weights)[:, 0] / (2 if shares.shape[1] == 2 else 1),
        "ece": np.abs(_means(gaps, weights)).sum(axis=1),
    }


# ---------------------------------------------------------------- in order of the probability


def _areas(true: NDArray[np.int64], shares: Floats, weights: Weights) -> Floats:
    """The area under the ROC curve; of more than two classes the mean of each against the rest."""
    classes = [1] if shares.shape[1] == 2 else range(shares.shape[1])
    columns = [_area(true == k, shares[:, k], weights) for k in classes]
    areas: Floats = np.column_stack(columns).mean(axis=1)
    return areas


def _precisions(
    true: NDArray[np.int64], shares: Floats, weights: Weights, positive: int | None
) -> Floats:
    """The average precision of the positive class, or the mean over the classes that occur."""
    classes = range(shares.shape[1]) if positive is None else [positive]
    columns = [_average_precision(true == k, shares[:, k], weights) for k in classes]
    return _mean_of_defined(np.column_stack(columns))


def _area(yes: NDArray[np.bool_], share: Floats, weights: Weights) -> Floats:
    ups, downs = _ranked(yes, share, weights)
    above = (downs * (ups.cumsum(axis=1) - ups / 2)).sum(axis=1)
    area: Floats = above / (ups.sum(axis=1) * downs.sum(axis=1))
    return area


def _average_precision(yes: NDArray[np.bool_], share: Floats, weights: Weights) -> Floats:
    ups, downs = _ranked(yes, share, weights)
    hits, said = ups.cumsum(axis=1), (ups + downs).cumsum(axis=1)
    precision = np.where(said > 0, hits / said, 0.0)
    average: Floats = (ups * precision).sum(axis=1) / ups.sum(axis=1)
    return average


def _ranked(yes: NDArray[np.bool_], share: Floats, weights: Weights) -> tuple[Floats, Floats]:
    """Return ``(resamples, distinct shares)`` the weight of rows that are so, and of those that are
    not, the highest share first."""
    order = np.argsort(-share, kind="stable")
    starts = np.flatnonzero(np.diff(share[order], prepend=np.inf))
    ordered = weights[:, order]
    ups = np.add.reduceat(ordered * yes[order], starts, axis=1)
    return ups, np.add.reduceat(ordered, starts, axis=1) - ups


# ---------------------------------------------------------------- labels


def _of_labels(labels: Labels, weights: Weights) -> dict[str, Floats]:
    """Means over labels, each of which is two classes."""
    each = []
    for true, share in zip(labels.true.T, labels.probabilities.T, strict=True):
        shares = np.column_stack([1 - share, share])
        case = Classes(true, shares, (share > 0.5).astype(np.int64), 1)
        each.append(_of_classes(case, weights))
    found = {
        name: _mean_of_defined(np.column_stack([label[name] for label in each]))
        for name in ("accuracy", "auc", "log_loss", "average_precision", "brier")
    }
    found["f1_macro"] = np.column_stack([label["f1"] for label in each]).mean(axis=1)
    return found
