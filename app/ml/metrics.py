"""Task metrics in the target's own units, by scikit-learn, beside a baseline that only guesses."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn import metrics as sk

from app.ml import preprocessing
from app.ml.events import Metrics, finite
from app.ml.features import Floats, Matrix
from app.ml.preprocessing import (
    ClassTarget,
    LabelTargets,
    NumberTargets,
    TargetEncoder,
)

_NAMES = {
    "numbers": ("mae", "rmse", "r2"),
    "classes": ("accuracy", "f1_macro", "auc", "log_loss"),
    "labels": ("accuracy", "f1_macro", "auc", "log_loss"),
}


def score(target: TargetEncoder, table: pa.Table, outputs: Matrix) -> Metrics:
    """Task metrics of a module's ``outputs`` against the targets in ``table``.

    Where an output is not finite (it can overflow on a row that no loss has seen) all are ``None``.
    """
    if not np.isfinite(outputs).all():
        return dict.fromkeys(_NAMES[target.kind])
    match target:
        case NumberTargets():
            found = regression(preprocessing.numbers(table, target.names), target.decode(outputs))
        case ClassTarget():
            found = classification(target.codes(table), target.probabilities(outputs))
        case LabelTargets():
            found = multilabel(target.encode(table).astype(float), target.probabilities(outputs))
    return finite(found)


def baseline(target: TargetEncoder, train: pa.Table, table: pa.Table) -> Metrics:
    """The same metrics for a guess without features: the training part's mean or shares."""
    rows = (table.num_rows, 1)
    match target:
        case NumberTargets():
            true = preprocessing.numbers(table, target.names)
            guess = preprocessing.numbers(train, target.names).mean(axis=0)
            return finite(regression(true, _repeat(guess, rows)))
        case ClassTarget():
            shares = _shares(target.codes(train), target.classes)
            return finite(classification(target.codes(table), _repeat(shares, rows)))
        case LabelTargets():
            guess = target.encode(train).astype(float).mean(axis=0)
            return finite(multilabel(target.encode(table).astype(float), _repeat(guess, rows)))


def regression(true: Floats, predicted: Floats) -> Metrics:
    """MAE, RMSE and R² of ``(rows, targets)``; averaged over targets."""
    return {
        "mae": float(sk.mean_absolute_error(true, predicted)),
        "rmse": float(sk.root_mean_squared_error(true, predicted)),
        "r2": float(sk.r2_score(true, predicted)) if len(true) > 1 else None,
    }


def classification(true: NDArray[np.int64], probabilities: Floats) -> Metrics:
    """Accuracy, macro F1, AUC (one against rest) and log loss of ``(rows, classes)``."""
    labels = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    return {
        "accuracy": float(sk.accuracy_score(true, predicted)),
        "f1_macro": float(
            sk.f1_score(true, predicted, average="macro", labels=labels, zero_division=0)
        ),
        "auc": _auc(true, probabilities, labels),
        "log_loss": float(sk.log_loss(true, probabilities, labels=labels)),
    }


def multilabel(true: Floats, probabilities: Floats) -> Metrics:
    """The same over ``(rows, labels)``: accuracy per label on average, macro F1, mean AUC."""
    predicted = probabilities > 0.5
    clipped = np.clip(probabilities, 1e-15, 1 - 1e-15)
    losses = true * np.log(clipped) + (1 - true) * np.log(1 - clipped)
    areas = [
        _auc(
            true[:, i].astype(np.int64),
            np.column_stack([1 - column, column]),
            np.arange(2),
        )
        for i, column in enumerate(probabilities.T)
    ]
    known = [area for area in areas if area is not None]
    pairs = zip(true.T, predicted.T, strict=True)
    scores = [sk.f1_score(one, other, zero_division=0) for one, other in pairs]
    return {
        "accuracy": float((predicted == true).mean()),
        "f1_macro": float(np.mean(scores)),
        "auc": float(np.mean(known)) if known else None,
        "log_loss": float(-losses.mean()),
    }


def _auc(true: NDArray[np.int64], probabilities: Floats, labels: NDArray[np.int64]) -> float | None:
    if len(np.unique(true)) < len(labels):
        return None
    if len(labels) == 2:
        return float(sk.roc_auc_score(true, probabilities[:, 1]))
    return float(sk.roc_auc_score(true, probabilities, multi_class="ovr", labels=labels))


def _shares(codes: NDArray[np.int64], classes: Sequence[Any]) -> Floats:
    """How frequent each class is: what a baseline that only counts would answer."""
    counts = np.bincount(codes, minlength=len(classes)).astype(np.float64)
    frequencies: Floats = counts / counts.sum()
    return frequencies


def _repeat(row: Floats, rows: tuple[int, int]) -> Floats:
    """The same answer for every row."""
    return np.tile(row, rows)
