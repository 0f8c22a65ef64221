"""Task metrics in the target's own units, by scikit-learn, beside those of a baseline.

The baseline is a constant prediction that knows no features, as that of scikit-learn's
``DummyRegressor`` and of its ``DummyClassifier`` with the strategy ``prior``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn import metrics as sk

from app.ml.column_types.arrays import Floats
from app.ml.column_types.fitted import Matrix
from app.ml.features import preprocessing
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets, TargetEncoder
from app.ml.finite import Metrics, finite_values

_NAMES = {
    "numbers": ("mae", "rmse", "r2"),
    "classes": ("accuracy", "f1_macro", "auc", "log_loss"),
    "labels": ("accuracy", "f1_macro", "auc", "log_loss"),
}
_ERRORS = ("mae", "rmse", "log_loss")
"""Metrics that are better the less they are; the others are better the more they are."""
_BASELINES = {
    "numbers": "always answering the mean of the training part",
    "classes": "always answering the shares of the classes in the training part",
    "labels": "always answering the shares of the labels in the training part",
}


def score(target: TargetEncoder, table: pa.Table, outputs: Matrix) -> Metrics:
    """Return the task metrics of a module's ``outputs`` against the targets in ``table``.

    Where an output is not finite (it can overflow on a row that no loss has seen) all are ``None``.
    """
    if not np.isfinite(outputs).all():
        return dict.fromkeys(_NAMES[target.kind])
    match target:
        case NumberTargets():
            found = regression(preprocessing.numbers(table, target.names), target.decode(outputs))
        case ClassTarget():
            found = classification(_true_classes(target, table), target.probabilities(outputs))
        case LabelTargets():
            found = multilabel(target.encode(table).astype(float), target.probabilities(outputs))
    return finite_values(found)


def constant_prediction(target: TargetEncoder, train: pa.Table) -> list[float]:
    """Return what one would predict without features, learnt from the training part ``train``.

    It is the mean of each target in its own units, or the share of each class or label.
    """
    match target:
        case NumberTargets():
            means: Floats = preprocessing.numbers(train, target.names).mean(axis=0)
        case ClassTarget():
            means = _shares(target.codes(train), target.classes)
        case LabelTargets():
            means = target.encode(train).astype(float).mean(axis=0)
    return [float(mean) for mean in means]


def baseline_scores(target: TargetEncoder, prediction: Sequence[float], table: pa.Table) -> Metrics:
    """Return the metrics of ``score`` for one ``prediction`` on all rows of ``table``."""
    constant = np.tile(np.array(prediction, dtype=np.float64), (table.num_rows, 1))
    match target:
        case NumberTargets():
            found = regression(preprocessing.numbers(table, target.names), constant)
        case ClassTarget():
            found = classification(_true_classes(target, table), constant)
        case LabelTargets():
            found = multilabel(target.encode(table).astype(float), constant)
    return finite_values(found)


def better(scores: Metrics, baseline: Metrics) -> dict[str, bool]:
    """Return whether each metric beats the baseline's; those not known of both are left out."""
    found = {}
    for name, score in scores.items():
        other = baseline.get(name)
        if score is not None and other is not None:
            found[name] = score < other if name in _ERRORS else score > other
    return found


def baseline_warnings(target: TargetEncoder, scores: Metrics, baseline: Metrics) -> list[str]:
    """Return at most one warning: which metrics do not beat the baseline's, with the numbers.

    R² is left out: it says what RMSE says.
    """
    verdict = {name: won for name, won in better(scores, baseline).items() if name != "r2"}
    beaten = [name for name, won in verdict.items() if not won]
    if not beaten:
        return []
    pairs = ", ".join(f"{name} {scores[name]:.4g} against {baseline[name]:.4g}" for name in beaten)
    won = [name for name in verdict if name not in beaten]
    by, better_by = (" by some metrics", f"; better by {', '.join(won)}") if won else ("", "")
    return [f"no better than guessing{by}: {pairs} of {_BASELINES[target.kind]}{better_by}"]


def regression(true: Floats, predicted: Floats) -> Metrics:
    """Return MAE, RMSE and R² of ``(rows, targets)``, averaged over targets."""
    return {
        "mae": float(sk.mean_absolute_error(true, predicted)),
        "rmse": float(sk.root_mean_squared_error(true, predicted)),
        "r2": float(sk.r2_score(true, predicted)) if len(true) > 1 else None,
    }


def classification(true: NDArray[np.int64], probabilities: Floats) -> Metrics:
    """Return accuracy, macro F1, AUC (one against rest) and log loss of ``(rows, classes)``.

    ``true`` is ``(rows,)`` class numbers; those below 0 are classes that the model does not know,
    where whatever is predicted is wrong. F1 is the mean over the classes that occur in either, as
    in scikit-learn; AUC and log loss, which ask for its probability, are those of the other rows.
    """
    labels = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    known = true >= 0
    true_known, probabilities = true[known], probabilities[known]
    return {
        "accuracy": float(sk.accuracy_score(true, predicted)),
        "f1_macro": float(sk.f1_score(true, predicted, average="macro", zero_division=0)),
        "auc": _auc(true_known, probabilities, labels),
        "log_loss": float(sk.log_loss(true_known, probabilities, labels=labels))
        if known.any()
        else None,
    }


def _true_classes(target: ClassTarget, table: pa.Table) -> NDArray[np.int64]:
    """Return ``(rows,)`` the number of each row's class, below 0 those that the model does not
    know, each its own."""
    codes = target.codes(table)
    unknown = np.flatnonzero(codes < 0)
    if len(unknown):
        values = table[target.names[0]].take(unknown).to_pylist()
        numbers = {value: -1 - place for place, value in enumerate(dict.fromkeys(values))}
        codes[unknown] = [numbers[value] for value in values]
    return codes


def multilabel(true: Floats, probabilities: Floats) -> Metrics:
    """Return the metrics of ``classification`` over ``(rows, labels)``, averaged over labels."""
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
    """``(classes,)`` how frequent each class is."""
    counts = np.bincount(codes, minlength=len(classes)).astype(np.float64)
    frequencies: Floats = counts / counts.sum()
    return frequencies


# ---------------------------------------------------------------- which is taken for which


def multilabel_confusion(true: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.int64]:
    """Return ``(labels, 2, 2)`` counts of ``(rows, labels)`` booleans, rows by true and predicted.

    Each label's square has ``no`` first, as scikit-learn's ``multilabel_confusion_matrix``.
    """
    # scikit-learn takes a single column for two classes, and would give a square for each
    only = [True] if true.shape[1] == 1 else None
    found: NDArray[np.int64] = sk.multilabel_confusion_matrix(
        true.astype(bool), predicted, labels=only
    )
    return found
