"""Curves of a model on rows whose targets are known, as data: pictures and dashboards draw them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn import metrics as sk

from app.errors import NotApplicable
from app.ml.column_types.arrays import Floats
from app.ml.column_types.fitted import Matrix
from app.ml.evaluation import metrics
from app.ml.features import preprocessing
from app.ml.features.preprocessing import ClassTarget, NumberTargets, TargetEncoder, label
from app.ml.specs import Task
from app.ml.specs.metrics import CurveKind

MOST_SERIES = 30
"""Classes or labels that have a curve, the most frequent ones."""
_MOST_POINTS = 1_000
_MOST_RESIDUALS = 5_000
_BINS = 10


@dataclass(frozen=True)
class Series:
    """One line, or the points of one cloud; each array is ``(points,)``."""

    x: Floats
    y: Floats
    threshold: Floats | None = None
    """From which probability on a row is said to be of the class."""
    count: NDArray[np.int64] | None = None
    """Rows that a point stands for."""


class Curve(NamedTuple):
    """What is drawn together."""

    series: dict[str, Series]
    """By class, label or target; of ``threshold`` by metric."""
    x: str
    """What its axes say."""
    y: str
    summary: dict[str, float | None]


_TWO = "a threshold is of two classes, and this model has others"


def require(kind: CurveKind, task: Task) -> None:
    """Raise NotApplicable where no model of a task has such a curve."""
    if kind == "residuals" and task != "regression":
        raise NotApplicable("a classification has no residuals; look at curves/calibration")
    if kind != "residuals" and task == "regression":
        raise NotApplicable(f"a regression has no {kind} curve; look at curves/residuals")
    if kind == "threshold" and task == "multilabel":
        raise NotApplicable(_TWO)


def curve(kind: CurveKind, target: TargetEncoder, table: pa.Table, outputs: Matrix) -> Curve:
    """Return a curve of a module's ``outputs`` ``(rows, outputs)`` against the targets in
    ``table``; its task has such a curve (``require``). Raises NotApplicable where an output
    overflows, or a threshold is wanted of more than two classes."""
    if not np.isfinite(outputs).all():
        raise NotApplicable("the model's output overflows on some of these rows: no curve")
    if kind == "residuals":
        return _residuals(target, table, outputs)
    if kind == "threshold":
        return _by_threshold(target, table, outputs)
    return _CURVES[kind](target, table, outputs)


# ---------------------------------------------------------------- of classes


def _views(
    target: TargetEncoder, table: pa.Table, outputs: Matrix
) -> Iterator[tuple[str, NDArray[np.bool_], Floats]]:
    """Yield each class or label that occurs with ``(rows,)`` which rows are of it and how probable
    that was said to be; of two classes the positive one alone."""
    shares = target.probabilities(outputs)  # type: ignore[union-attr]
    if isinstance(target, ClassTarget):
        codes = target.codes(table)
        true = codes[:, None] == np.arange(len(target.classes))
        names = [label(value) for value in target.classes]
        places = range(len(names)) if target.positive is None else [target.positive]
    else:
        true = target.encode(table).astype(bool)
        names, places = target.names, range(len(target.names))
    frequent = sorted(places, key=lambda place: (-int(true[:, place].sum()), place))
    for place in sorted(frequent[:MOST_SERIES]):
        if 0 < true[:, place].sum() < len(true):
            yield names[place], true[:, place], shares[:, place]


def _thinned(most: int, *arrays: Any) -> list[Any]:
    """Return the same places of arrays ``(points,)``, at most so many, the ends among them."""
    count = len(arrays[0])
    if count <= most:
        return list(arrays)
    places = np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))
    return [array[places] for array in arrays]


def _roc(target: TargetEncoder, table: pa.Table, outputs: Matrix) -> Curve:
    series = {}
    for name, true, shares in _views(target, table, outputs):
        series[name] = Series(*_thinned(_MOST_POINTS, *sk.roc_curve(true, shares)))
    summary = _summary(target, table, outputs, "auc")
    return Curve(series, "false positive rate", "true positive rate", summary)


def _precision_recall(target: TargetEncoder, table: pa.Table, outputs: Matrix) -> Curve:
    series = {}
    for name, true, shares in _views(target, table, outputs):
        precision, recall, at = sk.precision_recall_curve(true, shares)
        at = np.append(at, np.inf)  # from which on no row is: its precision is 1 by definition
        series[name] = Series(*_thinned(_MOST_POINTS, recall, precision, at))
    summary = _summary(target, table, outputs, "average_precision")
    return Curve(series, "recall", "precision", summary)


def _calibration(target: TargetEncoder, table: pa.Table, outputs: Matrix) -> Curve:
    """The reliability diagram: how often a class is right of the rows that have it for about as
    probable, in bins of equal width."""
    series = {}
    for name, true, shares in _views(target, table, outputs):
        bins = np.minimum((shares * _BINS).astype(np.int64), _BINS - 1)
        count = np.bincount(bins, minlength=_BINS)
        known = count > 0
        said = np.bincount(bins, shares, _BINS)[known] / count[known]
        found = np.bincount(bins, true, _BINS)[known] / count[known]
        series[name] = Series(said, found, count=count[known])
    summary = _summary(target, table, outputs, "ece", "brier", "log_loss")
    return Curve(series, "mean predicted probability", "share of rows", summary)


def _by_threshold(target: TargetEncoder, table: pa.Table, outputs: Matrix) -> Curve:
    if not isinstance(target, ClassTarget) or target.positive is None:
        raise NotApplicable(_TWO)
    series: dict[str, Series] = {}
    summary: dict[str, float | None] = {"threshold": target.threshold}
    for _, true, shares in _views(target, table, outputs):
        precision, recall, at = sk.precision_recall_curve(true, shares)
        precision, recall = precision[:-1], recall[:-1]
        total = precision + recall
        f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        best = int(f1.argmax())
        summary |= {"best_f1": float(f1[best]), "best_f1_threshold": float(at[best])}
        at, precision, recall, f1 = _thinned(_MOST_POINTS, at, precision, recall, f1)
        values = {"precision": precision, "recall": recall, "f1": f1}
        series = {name: Series(at, y) for name, y in values.items()}
    return Curve(series, "threshold", "metric", summary)


_CURVES: dict[str, Callable[[TargetEncoder, pa.Table, Matrix], Curve]] = {
    "roc": _roc,
    "precision_recall": _precision_recall,
    "calibration": _calibration,
}


def _summary(
    target: TargetEncoder, table: pa.Table, outputs: Matrix, *names: str
) -> dict[str, float | None]:
    return metrics.score(target, table, outputs, names)


# ---------------------------------------------------------------- of numbers


def _residuals(target: TargetEncoder, table: pa.Table, outputs: Matrix) -> Curve:
    assert isinstance(target, NumberTargets)
    predicted = target.decode(outputs)
    errors = preprocessing.numbers(table, target.names) - predicted
    series = {
        name: Series(*_thinned(_MOST_RESIDUALS, predicted[:, i], errors[:, i]))
        for i, name in enumerate(target.names)
    }
    summary: dict[str, float | None] = {
        "mean": float(errors.mean()),
        "std": float(errors.std()),
    }
    return Curve(series, "predicted", "true - predicted", summary)
