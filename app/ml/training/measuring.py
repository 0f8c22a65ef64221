"""What is found out when training has ended: how a classifier answers, how good the model is on the
test part, how far off it may be and what it relies on."""

import math
from functools import partial

from torch import nn

from app.ml.column_types.fitted import Matrix
from app.ml.data import preparation
from app.ml.evaluation import bootstrap, calibration, importance, metrics
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets
from app.ml.inference import conformal, forward
from app.ml.inference.card import Card
from app.ml.inference.explanations import Importance
from app.ml.specs import JobSpec
from app.ml.training.checkpoint import TrainState
from app.ml.training.events import Best, TrainEnded

_MOST_ERRORS = 4.0
"""Standard errors by which a coverage may fall short; four levels are looked at in every job."""


def measured(
    card: Card, prepared: preparation.Prepared, model: nn.Module, state: TrainState
) -> tuple[Card, TrainEnded]:
    """Return the card with what the validation part calls for, and what is told of the module."""
    card = card.model_copy(update={"epoch": state.best.epoch})
    tested = forward.outputs_of(model, prepared.test.x)
    card = _decided(card, prepared, model, tested)
    return card, _ended(model, card, prepared, state, tested)


def _decided(card: Card, prepared: preparation.Prepared, model: nn.Module, tested: Matrix) -> Card:
    """Return the card with what the validation part calls for: temperature and threshold, and how
    far off predictions may be, which is held against the outputs ``tested`` of the test part."""
    target, part, test = card.preprocessing.target, prepared.validation, prepared.test
    outputs = forward.outputs_of(model, part.x)
    if not isinstance(target, NumberTargets):
        target = _calibrated(card.spec, target, part, outputs)
    reach = conformal.fit(target, part.table, outputs)
    if reach is not None:
        reach = conformal.measured(reach, target, test.table, tested)
    fitted = card.preprocessing.model_copy(update={"target": target})
    return card.model_copy(update={"preprocessing": fitted, "conformal": reach})


def _calibrated(
    spec: JobSpec, target: ClassTarget | LabelTargets, part: preparation.Part, outputs: Matrix
) -> ClassTarget | LabelTargets:
    """Return the target with the temperature and the threshold that ``outputs`` call for."""
    if spec.calibrate and len(part):
        fitted = calibration.temperature(target, part.table, outputs, part.weight)
        target = target.model_copy(update={"temperature": fitted})
    if isinstance(target, ClassTarget) and (yes := target.positive) is not None:
        at = spec.threshold
        if not isinstance(at, float):
            shares = target.probabilities(outputs)[:, yes]
            at = calibration.threshold(at, target.codes(part.table) == yes, shares)
        target = target.model_copy(update={"threshold": at})
    return target


def _promises_too_much(card: Card) -> list[str]:
    """Return a warning where intervals, or sets of classes, may hold what is true less often than
    their level says: the rows that are predicted are not like those of the validation part."""
    reach, split = card.conformal, card.spec.split
    if reach is None:
        return []
    reasons = {
        "group": f"the groups of '{split.column}' that are predicted are others",
        "time": f"what is predicted is newer in '{split.column}'",
    }
    if (why := reasons.get(split.strategy)) is not None:
        return [
            f"intervals are from the rows of the validation part, and {why}: they may hold what is "
            "true less often than their level says; the model's 'intervals' tell how often they "
            "did on the test part"
        ]
    for item in reach.coverage:
        error = math.sqrt(item.level * (1 - item.level) * (1 / reach.rows + 1 / item.rows))
        if item.coverage < item.level - _MOST_ERRORS * error:
            return [
                f"intervals of {item.level:.0%} held what is true in {item.coverage:.0%} of the "
                f"{item.rows} rows of the test part: those are not like the validation part"
            ]
    return []


def _importance(model: nn.Module, card: Card, prepared: preparation.Prepared) -> Importance | None:
    """Return how much the model relies on each feature, on the test part or what stands in."""
    parts = (prepared.test, prepared.validation, prepared.train)
    part = next(part for part in parts if len(part))
    features = card.preprocessing.features
    names = [feature.name for feature in features.features]
    places = [(name, *ends) for name, ends in zip(names, features.places(), strict=True)]
    through = partial(forward.outputs_of, model)
    return importance.measured(card.preprocessing.target, part.table, part.x, places, through)


def _ended(
    model: nn.Module,
    card: Card,
    prepared: preparation.Prepared,
    state: TrainState,
    tested: Matrix,
) -> TrainEnded:
    """Score the outputs ``tested`` of the test part, and a constant prediction for it."""
    target, test, best = card.preprocessing.target, prepared.test, state.best
    scores = baseline = confidence = None
    warnings: list[str] = []
    if state.epoch < card.spec.epochs and not best.exhausted:
        warnings.append(
            f"max_seconds ended the training in epoch {state.epoch} of {card.spec.epochs}; the "
            "model has the best weights so far"
        )
    if len(test) and card.baseline is not None:
        scores = metrics.score(target, test.table, tested)
        confidence = bootstrap.confidence(target, test.table, tested, scores)
        baseline = metrics.baseline_scores(target, card.baseline, test.table)
        beaten = metrics.baseline_warnings(target, scores, baseline)
        warnings += [f"on the test part the model is {warning}" for warning in beaten]
    warnings += _promises_too_much(card)
    return TrainEnded(
        features=card.described_features,
        decision=card.decision,
        coverage=card.coverage,
        importance=_importance(model, card, prepared),
        confidence=confidence,
        parameters=sum(weight.numel() for weight in model.parameters()),
        best=Best(epoch=best.epoch, by=best.watch or "last", values=best.values)
        if best.values
        else None,
        test=scores,
        baseline=baseline,
        warnings=warnings,
        versions=card.versions,
    )
