"""How sure a classifier says it is, and from when on it says yes: fitted on the validation part,
kept with the model."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.ml.column_types.arrays import Floats
from app.ml.column_types.fitted import Matrix
from app.ml.features.preprocessing import ClassTarget, LabelTargets
from app.ml.specs.metrics import RecallSpec

_LARGEST_LOG = 4.0
"""Of a temperature, either way; e**4 is 55."""


def temperature(
    target: ClassTarget | LabelTargets,
    table: pa.Table,
    outputs: Matrix,
    weight: NDArray[np.float32] | None,
) -> float:
    """Return the number by which logits ``(rows, outputs)`` are to be divided so that the log loss
    of the targets in ``table`` is least (Guo et al., 2017).

    By Laplace's rule of succession no row's class is certain, as in Platt's scaling (1999), or a
    few rows that are all right would make the model certain.
    """
    from scipy.optimize import minimize_scalar

    logits, wanted = _logits_and_shares(target, table, outputs)
    mass = np.ones(len(logits)) if weight is None else weight.astype(np.float64)

    def log_loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(axis=-1, keepdims=True)
        norm = top[..., 0] + np.log(np.exp(scaled - top).sum(axis=-1))
        losses = (norm - (scaled * wanted).sum(axis=-1)).reshape(len(logits), -1).mean(axis=1)
        return float(losses @ mass)

    bounds = (-_LARGEST_LOG, _LARGEST_LOG)
    found = minimize_scalar(log_loss, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    # at an end of what is tried the rows say nothing of how sure it should be
    return 1.0 if abs(found.x) > _LARGEST_LOG - 0.01 else float(np.exp(found.x))


def _logits_and_shares(
    target: ClassTarget | LabelTargets, table: pa.Table, outputs: Matrix
) -> tuple[Floats, Floats]:
    """Return logits ``(rows, ..., classes)``, and the probabilities that they are to have: of n
    rows (n + 1) / (n + 2) for the true class, and the rest for the others alike."""
    logits = outputs.astype(np.float64)
    if isinstance(target, LabelTargets):
        codes, logits = target.encode(table).astype(np.int64), logits[..., None]
    else:
        codes = target.codes(table)
    if logits.shape[-1] == 1:  # one logit: that of the second of two classes
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    classes = logits.shape[-1]
    doubt = classes / max(1, classes - 1) / (len(codes) + 2)
    wanted: Floats = np.eye(classes)[codes] * (1 - doubt) + doubt / classes
    return logits, wanted


def threshold(rule: str | RecallSpec, positive: NDArray[np.bool_], shares: Floats) -> float:
    """Return the probability from which on a row is to be of the positive class.

    ``positive`` ``(rows,)`` says which are, ``shares`` ``(rows,)`` are their probabilities. The
    ``rule`` is a metric that is to be as large as it can, ``f1``, ``balanced_accuracy`` or ``mcc``,
    or the recall that is to be reached. Half where no row is positive, or every row.
    """
    total = int(positive.sum())
    if total in (0, len(positive)):
        return 0.5
    order = np.argsort(-shares, kind="stable")
    ordered = shares[order]
    hits = np.cumsum(positive[order])
    taken = np.arange(1, len(order) + 1)
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # of rows equally sure
    hits, taken = hits[ends], taken[ends]
    if isinstance(rule, RecallSpec):
        place = int(np.argmax(hits / total >= rule.recall - 1e-12))
    else:
        place = int(np.argmax(_SCORES[rule](hits, taken, total, len(order))))
    here = ordered[ends[place]]
    below = ordered[ends[place] + 1] if place + 1 < len(ends) else 0.0
    return float((here + below) / 2)


def _f1(hits: Any, taken: Any, total: int, rows: int) -> Any:
    return 2 * hits / (taken + total)


def _balanced_accuracy(hits: Any, taken: Any, total: int, rows: int) -> Any:
    return hits / total - (taken - hits) / (rows - total)  # twice it, less 1


def _mcc(hits: Any, taken: Any, total: int, rows: int) -> Any:
    spread = np.sqrt(taken * (rows - taken) * float(total) * (rows - total))
    covariance = hits * float(rows) - taken * float(total)
    return np.divide(covariance, spread, out=np.zeros(len(hits)), where=spread > 0)


_SCORES: dict[str, Any] = {"f1": _f1, "balanced_accuracy": _balanced_accuracy, "mcc": _mcc}
