"""How a model does on rows whose targets are known, beside a baseline that knows no features.

::

    from app.ml.evaluation.evaluate import evaluate
    from app.ml.inference.predictor import Predictor

    found = evaluate(Predictor.load(folder), table)
    print(found.metrics, found.baseline, found.warnings)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from app.errors import FieldError, InvalidData, InvalidRequest, escape
from app.ml.column_types.arrays import Floats, as_dictionary
from app.ml.column_types.canonical import TypeName, column_type, objects
from app.ml.column_types.categories import CategoryFeature, respelt
from app.ml.column_types.fitted import Matrix
from app.ml.column_types.registry import COLUMN_TYPES
from app.ml.evaluation import bootstrap, groups, metrics
from app.ml.features import preprocessing
from app.ml.features.encoder import ROWS_AT_ONCE
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets, TargetEncoder
from app.ml.finite import Metrics, finite
from app.ml.inference.card import Card
from app.ml.inference.predictor import Predictor
from app.ml.nn import losses
from app.ml.specs import LossUnit
from app.names import nearest

Source = Literal["dataset", "file"]
"""What the rows came from."""
MOST_CLASSES = 200
"""Classes of a confusion; one of more is left out, since its size is their square."""

_MOST_ERRORS = 20
_WORST_ROWS = 10
_MOST_NAMES = 5
"""Columns or classes that a message names."""
_ROWS_A_SLICE = 8 * ROWS_AT_ONCE


@dataclass(frozen=True)
class Evaluation:
    """How a model did; fit for JSON: what is not known or not finite is ``None``."""

    rows: int
    """Rows that have a target; all else is about them."""
    skipped: int
    """Rows without a target."""
    loss: float | None
    """The mean of the model's own loss."""
    loss_unit: LossUnit | None
    """The unit of that loss, if it has one."""
    metrics: Metrics
    confidence: dict[str, Any] | None
    """Between which values they lie (a ``Confidence``); ``None`` for fewer than ten rows."""
    baseline: Metrics | None
    """The metrics of the baseline on the card; ``None`` where the card has none."""
    better_than_baseline: dict[str, bool] | None
    """Whether each metric beats the baseline's, by its name."""
    confusion: dict[str, Any] | None
    """``labels``, and ``matrix``: counts by true and predicted class, or a square for each label.
    Regression has none."""
    worst: list[dict[str, Any]]
    """Up to 10 rows of the highest loss, each with its number in the table."""
    warnings: list[str]
    by: list[dict[str, Any]] | None
    """The metrics by a column's values: ``value``, ``rows`` and ``metrics`` of each; ``None`` where
    none was named."""


def evaluate(
    predictor: Predictor, table: pa.Table, by: str | None = None, source: Source = "dataset"
) -> Evaluation:
    """Return the metrics that a job reports, on the rows of ``table`` that have a target.

    ``table`` has the model's features and targets, in any order, maybe among other columns; ``by``
    names a column of it, by whose values they are told as well. ``source`` is what it came from.
    Raises InvalidRequest where one is missing or of another type, InvalidData where no row has a
    target or a number is too large.
    """
    card, target = predictor.card, predictor.target
    require_columns(card, types_of(table), source)
    numbers, rows = _with_target(card, table, source)
    outputs = _outputs(predictor, rows)
    each = _losses(predictor, rows, outputs)
    scores = metrics.score(target, rows, outputs)
    baseline = None
    if card.baseline is not None:
        baseline = metrics.baseline_scores(target, card.baseline, rows)
    warnings = [*_unseen(predictor, rows), *_not_finite(outputs)]
    if baseline is not None:
        warnings += metrics.baseline_warnings(target, scores, baseline)
    if isinstance(target, ClassTarget) and len(target.classes) > MOST_CLASSES:
        count = f"{len(target.classes):,} classes; at most {MOST_CLASSES} are shown"
        warnings.append(f"the confusion is left out: the model has {count}")
    confidence = bootstrap.confidence(target, rows, outputs, scores)
    known = each[~np.isnan(each)]
    mean = float(known.mean()) if len(known) else np.nan
    return Evaluation(
        rows=rows.num_rows,
        skipped=table.num_rows - rows.num_rows,
        loss=finite(mean),
        loss_unit=predictor.card.spec.loss_unit,
        metrics=scores,
        confidence=None if confidence is None else confidence.model_dump(),
        baseline=baseline,
        better_than_baseline=None if baseline is None else metrics.better(scores, baseline),
        confusion=_confusion(predictor, rows, outputs),
        worst=_worst(predictor, numbers, rows, outputs, each),
        warnings=warnings,
        by=None if by is None else _by(target, rows, outputs, table[by].take(pa.array(numbers))),
    )


def _by(
    target: TargetEncoder, rows: pa.Table, outputs: Matrix, column: pa.ChunkedArray
) -> list[dict[str, Any]]:
    return [group._asdict() for group in groups.by_column(target, rows, outputs, column)]


# ---------------------------------------------------------------- columns


def columns_of(card: Card) -> dict[str, TypeName]:
    """Return the type of each feature and target that evaluating takes, by name."""
    target = card.preprocessing.target
    return card.preprocessing.features.types | dict.fromkeys(target.names, _type_of_target(card))


def _type_of_target(card: Card) -> TypeName:
    match card.preprocessing.target:
        case NumberTargets():
            return "number"
        case LabelTargets():
            return "boolean"
        case ClassTarget(classes=classes):
            if isinstance(classes[0], bool):
                return "boolean"
            return "category" if isinstance(classes[0], str) else "number"


def with_known_labels(card: Card, table: pa.Table) -> pa.Table:
    """Return the table with labels that are the model's own, but for blanks or, where labels of
    training were made one, case, as the model has them."""
    known = {
        feature.name: feature.categories
        for feature in card.preprocessing.features.features
        if isinstance(feature, CategoryFeature)
    }
    target = card.preprocessing.target
    if isinstance(target, ClassTarget):
        labels = [value for value in target.classes if isinstance(value, str)]
        known |= {target.names[0]: labels} if labels else {}
    for place, name in enumerate(table.column_names):
        if name in known and pa.types.is_string(table[name].type):
            notation = card.notations.get(name)
            folded = notation is not None and notation.folded
            table = table.set_column(place, name, respelt(table[name], known[name], folded))
    return table


def types_of(table: pa.Table) -> dict[str, TypeName | None]:
    """Return the type of each column by name, ``None`` where it has no value."""
    return {
        name: None if column.null_count == len(column) else column_type(column.type)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def require_columns(
    card: Card, types: Mapping[str, TypeName | None], source: Source = "dataset"
) -> None:
    """Raise InvalidRequest where the columns of a ``source``, of these types, lack what the model
    needs.

    A column without a value (``None``) is of every type.
    """
    targets = card.preprocessing.target.names
    errors = []
    for name, expected in columns_of(card).items():
        role = f"{'the target' if name in targets else 'a feature'} of the model"
        if name not in types:
            close = nearest(name, filter(None, types))
            remedy = f"rename its '{close[:64]}'" if close else "send it with that column"
            if source == "dataset":
                remedy += ", or name another dataset that has it"
            detail = f"the {source} has no column '{name[:64]}', {role}; {remedy}"
            at = "/dataset" if source == "dataset" else f"/columns/{escape(name)}"
            errors.append(FieldError(at, detail, "unknown_column"))
            continue
        given, labels = types[name], ("category", "text")
        if given not in (None, expected) and not (given in labels and expected in labels):
            errors.append(
                FieldError(
                    "/dataset",
                    f"the column '{name[:64]}', {role}, holds {expected} values in training and "
                    f"{given} values here; upload it again with types "
                    f'{{"{name[:64]}": "{expected}"}}',
                    "wrong_type",
                )
            )
    if errors:
        raise InvalidRequest(errors[0].detail, errors[:_MOST_ERRORS])


def _with_target(card: Card, table: pa.Table, source: Source) -> tuple[NDArray[np.int64], pa.Table]:
    """The numbers and values of the rows that have a target, with the model's columns alone."""
    numbers = preprocessing.complete_rows(card.spec, table)
    if not len(numbers):
        names = ", ".join(f"'{name[:64]}'" for name in card.spec.targets[:_MOST_NAMES])
        raise InvalidData.at(
            "/dataset" if source == "dataset" else "",
            f"none of the {table.num_rows} rows has a value of {names}; "
            "send rows whose outcome is known, or use predict",
            "no_target",
        )
    types = columns_of(card)
    columns = []
    for name, kind in types.items():
        column = table[name]
        empty = column.null_count == len(column)
        columns.append(column.cast(COLUMN_TYPES[kind].arrow) if empty else as_dictionary(column))
    needed = pa.table(columns, names=list(types))
    return numbers, needed if len(numbers) == table.num_rows else needed.take(numbers)


# ---------------------------------------------------------------- outputs and losses


def _outputs(predictor: Predictor, rows: pa.Table) -> Matrix:
    """``(rows, outputs)``; the matrix of features is never whole in memory."""
    starts = range(0, rows.num_rows, _ROWS_A_SLICE)
    return np.concatenate([predictor.outputs(rows.slice(at, _ROWS_A_SLICE)) for at in starts])


def _losses(predictor: Predictor, rows: pa.Table, outputs: Matrix) -> Floats:
    """``(rows,)`` the loss of each row: NaN where its class is unseen, else maybe infinite."""
    target = predictor.target
    known = np.ones(rows.num_rows, dtype=bool)
    if isinstance(target, ClassTarget):
        known = target.codes(rows) >= 0
    if not known.all():
        rows, outputs = rows.filter(pa.array(known)), outputs[known]
    y = torch.from_numpy(target.encode(rows))
    found = losses.by_row(predictor.card.spec.loss, torch.from_numpy(outputs), y)
    each = np.full(len(known), np.nan)
    each[known] = np.nan_to_num(found.numpy().astype(np.float64), nan=np.inf, posinf=np.inf)
    return each


# ---------------------------------------------------------------- what else there is to say


def _unseen(predictor: Predictor, rows: pa.Table) -> list[str]:
    target = predictor.target
    if not isinstance(target, ClassTarget):
        return []
    unseen = target.codes(rows) < 0
    if not unseen.any():
        return []
    values = rows[target.names[0]].filter(pa.array(unseen)).unique().to_pylist()
    named = ", ".join(f"'{preprocessing.label(value)[:64]}'" for value in values[:_MOST_NAMES])
    more = f" and {len(values) - _MOST_NAMES:,} more" if len(values) > _MOST_NAMES else ""
    count = int(unseen.sum())
    return [
        f"{count:,} of {rows.num_rows:,} rows are of classes the model has never seen "
        f"({named}{more}): they count as wrong in accuracy, f1_macro and the confusion (as null), "
        "and are left out of loss, auc, log_loss and worst; train again with such rows"
    ]


def _not_finite(outputs: Matrix) -> list[str]:
    wrong = int((~np.isfinite(outputs).all(axis=1)).sum())
    if not wrong:
        return []
    return [
        f"the model's output overflows on {wrong:,} of {len(outputs):,} rows, so there are no "
        "metrics; look at the features of the worst rows, their numbers may be far from training's"
    ]


def _confusion(predictor: Predictor, rows: pa.Table, outputs: Matrix) -> dict[str, Any] | None:
    """Counts by true (rows) and predicted (columns) class; a last one, ``None``, for classes that
    the model has never seen. For several labels 2x2 each. Regression has none."""
    target = predictor.target
    if not np.isfinite(outputs).all():
        return None
    match target:
        case NumberTargets():
            return None
        case LabelTargets(names=names):
            said = target.probabilities(outputs) > 0.5
            found = metrics.multilabel_confusion(target.encode(rows), said)
            return {"labels": names, "matrix": found.tolist()}
        case ClassTarget(classes=classes):
            if len(classes) > MOST_CLASSES:
                return None
            labels: list[Any] = list(classes)
            codes = target.codes(rows)
            if (codes < 0).any():
                codes[codes < 0] = len(labels)
                labels.append(None)
            chosen = target.chosen(target.probabilities(outputs))
            found = confusion_matrix(codes, chosen, labels=range(len(labels)))
            return {"labels": labels, "matrix": found.tolist()}


def _worst(
    predictor: Predictor,
    numbers: NDArray[np.int64],
    rows: pa.Table,
    outputs: Matrix,
    each: Floats,
) -> list[dict[str, Any]]:
    """The rows of the highest loss, those whose loss overflows first."""
    order = np.argsort(-each, kind="stable")[:_WORST_ROWS]  # NaN, no loss, comes last
    order = order[~np.isnan(each[order])]
    chosen, names = rows.take(order), predictor.target.names
    features = predictor.tables.names
    worst = outputs[order]
    known = np.asarray(np.isfinite(worst).all(axis=1))
    predicted = predictor.predictions(np.where(known[:, None], worst, 0))
    true = chosen.select(names).to_pylist()
    return [
        {
            "row": int(numbers[place]),
            "loss": finite(float(each[place])),
            "true": true[i][names[0]] if len(names) == 1 else true[i],
            "predicted": predicted[i] if known[i] else None,
            "features": values,
        }
        for i, (place, values) in enumerate(
            zip(order, objects(chosen.select(features)), strict=True)
        )
    ]
