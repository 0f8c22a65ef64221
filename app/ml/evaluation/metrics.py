"""Task metrics in the target's own units, those of classes by scikit-learn, beside a baseline's.

The baseline is a constant prediction that knows no features, as that of scikit-learn's
``DummyRegressor`` and of its ``DummyClassifier`` with the strategy ``prior``.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn import config_context
from sklearn import metrics as sk

from app.ml.column_types.arrays import Floats
from app.ml.column_types.fitted import Matrix
from app.ml.features import preprocessing
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets, TargetEncoder
from app.ml.finite import Metrics, finite_values
from app.ml.specs.metrics import METRICS

_JUDGED = ("mae", "rmse", "accuracy", "f1_macro", "auc", "log_loss")
"""Metrics by which a model is held against the baseline: R² says what RMSE says, and the others are
of one class, or of how sure a model is."""
BINS = 15
"""Of the expected calibration error, as Guo et al. (2017) have it."""
_BASELINES = {
    "numbers": "always answering the mean of the training part",
    "classes": "always answering the shares of the classes in the training part",
    "labels": "always answering the shares of the labels in the training part",
}


def score(
    target: TargetEncoder, table: pa.Table, outputs: Matrix, only: Collection[str] | None = None
) -> Metrics:
    """Return the task metrics of a module's ``outputs`` against the targets in ``table``, by name;
    ``only`` these of them, where some are named.

    Where an output is not finite (it can overflow on a row that no loss has seen) all are ``None``.
    """
    if not np.isfinite(outputs).all():
        return dict.fromkeys(_of_task(target, only))
    return measured(target, table, answers_of(target, outputs), only)


def answers_of(target: TargetEncoder, outputs: Matrix) -> Floats:
    """Return numbers ``(rows, targets)`` in their own units, or probabilities ``(rows, classes or
    labels)``, of a module's ``outputs``."""
    if isinstance(target, NumberTargets):
        return target.decode(outputs)
    return target.probabilities(outputs)


def _of_task(target: TargetEncoder, only: Collection[str] | None) -> dict[str, Callable[..., Any]]:
    """Return the metrics of a target by name."""
    match target:
        case NumberTargets():
            table: dict[str, Callable[..., Any]] = {**OF_NUMBERS}
            if target.quantile is None:
                del table["pinball"]
        case ClassTarget():
            two = len(target.classes) == 2
            table = {n: metric for n, metric in _OF_CLASSES.items() if two or n not in _OF_TWO}
        case LabelTargets():
            table = {**_OF_LABELS}
    return table if only is None else {name: table[name] for name in only if name in table}


def measured(
    target: TargetEncoder, table: pa.Table, answers: Floats, only: Collection[str] | None = None
) -> Metrics:
    """Return the metrics of ``answers`` (``answers_of``)."""
    case = case_of(target, table, answers)
    # what it would check of its arguments takes longer than the arithmetic on a few rows
    with config_context(assume_finite=True, skip_parameter_validation=True):
        return finite_values({name: found(case) for name, found in _of_task(target, only).items()})


def case_of(target: TargetEncoder, table: pa.Table, answers: Floats) -> "Case":
    """Return what is true in ``table`` beside ``answers``, as metrics are computed of."""
    match target:
        case NumberTargets():
            true = preprocessing.numbers(table, target.names)
            return Numbers(true, answers, target.quantile or 0.5)
        case ClassTarget():
            codes = _true_classes(target, table)
            return Classes(codes, answers, target.chosen(answers), target.positive)
        case LabelTargets():
            return Labels(target.encode(table).astype(np.int64), answers)


def constant_prediction(target: TargetEncoder, train: pa.Table) -> list[float]:
    """Return what one would predict without features, learnt from the training part ``train``.

    It is the mean of each target in its own units, or the quantile that the model predicts, or the
    share of each class or label.
    """
    match target:
        case NumberTargets():
            values = preprocessing.numbers(train, target.names)
            quantile = target.quantile
            means: Floats = (
                values.mean(axis=0) if quantile is None else np.quantile(values, quantile, axis=0)
            )
        case ClassTarget():
            means = _shares(target.codes(train), target.classes)
        case LabelTargets():
            means = target.encode(train).astype(float).mean(axis=0)
    return [float(mean) for mean in means]


def baseline_scores(target: TargetEncoder, prediction: Sequence[float], table: pa.Table) -> Metrics:
    """Return the metrics of ``score`` for one ``prediction`` on all rows of ``table``."""
    constant = np.tile(np.array(prediction, dtype=np.float64), (table.num_rows, 1))
    return measured(target, table, constant)


def better(scores: Metrics, baseline: Metrics) -> dict[str, bool]:
    """Return whether each metric beats the baseline's; those not known of both are left out."""
    found = {}
    for name, score in scores.items():
        other = baseline.get(name)
        if score is not None and other is not None:
            found[name] = score < other if METRICS[name].falls else score > other
    return found


def baseline_warnings(target: TargetEncoder, scores: Metrics, baseline: Metrics) -> list[str]:
    """Return at most one warning: which metrics do not beat the baseline's, with the numbers."""
    quantile = getattr(target, "quantile", None)
    judged = _JUDGED if quantile is None else ("pinball",)
    verdict = {name: won for name, won in better(scores, baseline).items() if name in judged}
    beaten = [name for name, won in verdict.items() if not won]
    if not beaten:
        return []
    pairs = ", ".join(f"{name} {scores[name]:.4g} against {baseline[name]:.4g}" for name in beaten)
    won = [name for name in verdict if name not in beaten]
    by, better_by = (" by some metrics", f"; better by {', '.join(won)}") if won else ("", "")
    guess = _BASELINES[target.kind]
    if quantile is not None:
        guess = f"always answering the {quantile:g} quantile of the training part"
    return [f"no better than guessing{by}: {pairs} of {guess}{better_by}"]


# ---------------------------------------------------------------- how each is computed


class Numbers(NamedTuple):
    """Numbers ``(rows, targets)``, true and predicted, in their own units; metrics are means over
    targets."""

    true: Floats
    predicted: Floats
    quantile: float = 0.5

    @property
    def errors(self) -> Floats:
        """``(rows, targets)`` true less predicted."""
        return self.true - self.predicted

    @property
    def pinballs(self) -> Floats:
        """``(rows, targets)`` the pinball loss of each."""
        return np.maximum(self.quantile * self.errors, (self.quantile - 1) * self.errors)


class Classes(NamedTuple):
    """Class numbers ``(rows,)`` and probabilities ``(rows, classes)``.

    A ``true`` number below 0 is a class that the model does not know, where whatever is predicted
    is wrong; what asks for a class's probability leaves such rows out.
    """

    true: NDArray[np.int64]
    probabilities: Floats
    predicted: NDArray[np.int64]
    positive: int | None = None
    """The class that a yes means, of two."""

    def known(self) -> tuple[NDArray[np.int64], Floats]:
        """Return numbers and probabilities of the rows whose class is known."""
        known = self.true >= 0
        return self.true[known], self.probabilities[known]

    def answers(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return ``(rows,)`` which rows are of the positive class, and which are said to be."""
        return self.true == self.positive, self.predicted == self.positive


class Labels(NamedTuple):
    """Independent labels ``(rows, labels)`` of 0 and 1, and their probabilities; metrics are means
    over labels."""

    true: NDArray[np.int64]
    probabilities: Floats


Case = Numbers | Classes | Labels

OF_NUMBERS: dict[str, Callable[[Numbers], float | None]] = {
    "mae": lambda n: float(np.abs(n.errors).mean()),
    "rmse": lambda n: float(np.sqrt((n.errors**2).mean(axis=0)).mean()),
    "r2": lambda n: _r2(n),
    "median_absolute_error": lambda n: float(np.median(np.abs(n.errors), axis=0).mean()),
    # None where a true value is 0
    "mape": lambda n: float(np.abs(n.errors / n.true).mean()) if n.true.all() else None,
    "pinball": lambda n: float(n.pinballs.mean()),
}
"""A line of arithmetic each; on a few rows scikit-learn's checks take longer than all of them."""


def _r2(numbers: Numbers) -> float | None:
    """As scikit-learn has it: of a target that does not vary 1 where all is right, else 0; ``None``
    of one row."""
    if len(numbers.true) < 2:
        return None
    left = (numbers.errors**2).sum(axis=0)
    spread = ((numbers.true - numbers.true.mean(axis=0)) ** 2).sum(axis=0)
    constant = np.where(left == 0, 0.0, 1.0)
    shares = np.divide(left, spread, out=constant, where=spread > 0)
    return float((1 - shares).mean())


_OF_TWO = ("precision", "recall", "f1")
_OF_CLASSES: dict[str, Callable[[Classes], float | None]] = {
    "accuracy": lambda c: float((c.true == c.predicted).mean()),
    "f1_macro": lambda c: float(sk.f1_score(c.true, c.predicted, average="macro", zero_division=0)),
    "auc": lambda c: _auc(*c.known()),
    "log_loss": lambda c: _log_loss(*c.known()),
    "balanced_accuracy": lambda c: float(
        np.mean([(c.predicted[c.true == code] == code).mean() for code in np.unique(c.true)])
    ),
    "precision": lambda c: float(sk.precision_score(*c.answers(), zero_division=0)),
    "recall": lambda c: float(sk.recall_score(*c.answers(), zero_division=0)),
    "f1": lambda c: float(sk.f1_score(*c.answers(), zero_division=0)),
    "mcc": lambda c: _mcc(c),
    "average_precision": lambda c: _average_precision(*c.known(), c.positive),
    "brier": lambda c: _brier(*c.known()),
    "ece": lambda c: _calibration_error(*c.known()),
}
"""F1 is the mean over the classes that occur in truth or answers, as in scikit-learn."""

_OF_LABELS: dict[str, Callable[[Labels], float | None]] = {
    "accuracy": lambda m: float(((m.probabilities > 0.5) == m.true).mean()),
    "f1_macro": lambda m: _mean(
        sk.f1_score(true, shares > 0.5, zero_division=0) for true, shares in _columns(m)
    ),
    "auc": lambda m: _mean(_auc(true, _of_two(shares)) for true, shares in _columns(m)),
    "log_loss": lambda m: _mean(_log_loss(true, _of_two(shares)) for true, shares in _columns(m)),
    "average_precision": lambda m: _mean(
        _average_precision(true, _of_two(shares), 1) for true, shares in _columns(m)
    ),
    "brier": lambda m: float(((m.probabilities - m.true) ** 2).mean()),
}


def _columns(labels: Labels) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    return zip(labels.true.T, labels.probabilities.T, strict=True)


def _of_two(shares: Floats) -> Floats:
    """Return probabilities of yes ``(rows,)`` as those of no and yes ``(rows, 2)``."""
    return np.column_stack([1 - shares, shares])


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of those that are known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _auc(true: NDArray[np.int64], probabilities: Floats) -> float | None:
    """The area under the ROC curve, of more than two classes the mean of one against the rest;
    ``None`` where a class is missing."""
    labels = np.arange(probabilities.shape[1])
    if len(np.unique(true)) < len(labels):
        return None
    if len(labels) == 2:
        return float(sk.roc_auc_score(true, probabilities[:, 1]))
    return float(sk.roc_auc_score(true, probabilities, multi_class="ovr", labels=labels))


def _log_loss(true: NDArray[np.int64], probabilities: Floats) -> float | None:
    if not len(true):
        return None
    return float(sk.log_loss(true, probabilities, labels=np.arange(probabilities.shape[1])))


def _average_precision(
    true: NDArray[np.int64], probabilities: Floats, positive: int | None
) -> float | None:
    """Of the positive class, or the mean over the classes that occur."""
    classes = np.unique(true) if positive is None else [positive]
    return _mean(
        float(sk.average_precision_score(true == code, probabilities[:, code]))
        for code in classes
        if (true == code).any()
    )


def _mcc(classes: Classes) -> float:
    """Matthews' correlation coefficient; 0 where all is of one class, said or true."""
    if len(np.unique(np.concatenate([classes.true, classes.predicted]))) < 2:
        return 0.0
    return float(sk.matthews_corrcoef(classes.true, classes.predicted))


def _brier(true: NDArray[np.int64], probabilities: Floats) -> float | None:
    """The mean squared error of the probabilities (Brier, 1950): of two classes that of one of
    them, of more the sum over them, as scikit-learn's ``brier_score_loss``."""
    if not len(true):
        return None
    errors = probabilities - np.eye(probabilities.shape[1])[true]
    total = float((errors**2).sum(axis=1).mean())
    return total / 2 if probabilities.shape[1] == 2 else total


def _calibration_error(true: NDArray[np.int64], probabilities: Floats) -> float | None:
    """The expected calibration error (Naeini et al., 2015): how far from how often the likeliest
    class is right its probability lies, in the mean over bins of equal width."""
    if not len(true):
        return None
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, sure - right, BINS)
    return float(np.abs(gaps).sum() / len(true))


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
