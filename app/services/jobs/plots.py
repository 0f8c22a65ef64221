"""Gathering what a job's plot shows; ``app.ml.plots`` draws it, in another process."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.db.models import TERMINAL, Job
from app.errors import NotApplicable, NotReady
from app.ml.column_types.arrays import floats
from app.ml.column_types.canonical import column_type
from app.ml.data.splits import Split
from app.ml.drawing import BLUE, GREEN, GREY, RED, Drawing, Format, Picture, Points, color, drawing
from app.ml.features import preprocessing
from app.ml.features.preprocessing import ClassTarget, NumberTargets, label
from app.ml.specs import JobSpec, LossUnit
from app.runtime.context import Context
from app.services.datasets import datasets
from app.services.jobs import curves, events, history, jobs, judged, model_plots
from app.services.predictions.predictors import Predictors

if TYPE_CHECKING:
    from app.ml.inference.predictor import Predictor

JobPlot = Literal[
    "loss",
    "data",
    "predictions",
    "residuals",
    "confusion",
    "roc",
    "precision_recall",
    "calibration",
    "threshold",
    "importance",
]

_LOSSES = ("train_loss", "validation_loss", "test_loss")
_LOSS_UNITS: dict[LossUnit, str] = {
    "target": "the target's unit",
    "standardised": "standardised",
}
_MOST_CURVE_POINTS = 2_000
"""Points drawn of each loss curve."""
_MOST_CLASSES = 30
"""Rows of a confusion; the classes or labels beyond them are drawn as one."""


def picture(
    context: Context, predictors: Predictors, job_id: str, plot: JobPlot, image: Format
) -> Picture:
    """Return one plot of a job, to be gathered; ``image`` is what errors name.

    Raises NotFound, also where its dataset was deleted; gathering it raises NotReady before there
    is something to draw, NotApplicable where there never will be.
    """
    with context.database.read() as session:
        job = jobs.find(session, job_id)
        model_id = judged.model_id(session, job)
    if plot == "loss":
        identity: tuple[Any, ...] = (job.id, plot, events.last_id(job))
    else:
        if plot != "importance":
            judged.require_dataset(context, job)
        identity = (job.id, plot, model_id)
    return Picture(repr(identity), lambda: _gather(context, predictors, job, plot, image))


def _gather(
    context: Context, predictors: Predictors, job: Job, plot: JobPlot, image: Format
) -> Drawing:
    if plot == "loss":
        return _loss(context, job)
    if plot == "data":
        return _data(context, job)
    if plot == "predictions":
        return _predictions(context, predictors, job)
    if plot == "residuals":
        return _residuals(context, predictors, job, image)
    if plot == "importance":
        return model_plots.importance(judged.version_of(context, job))
    if plot in _CURVES:
        return _curve(context, predictors, job, plot)
    return _confusion(context, predictors, job, image)


# ---------------------------------------------------------------- loss


def _loss(context: Context, job: Job) -> Drawing:
    with context.database.read() as session:
        found = history.read(session, job.id, names=_LOSSES)
    if not any(np.isfinite(values).any() for _, values in found.series.values()):
        if job.status in TERMINAL:
            raise NotApplicable(f"the job ended ({job.status}) before its first epoch did: no loss")
        raise NotReady("no epoch has ended yet; try again in a moment")
    spec = job.spec
    title = f"{_title(job)}: loss by epoch"
    series = found.downsampled(_MOST_CURVE_POINTS).series
    unit = f" ({_LOSS_UNITS[spec.loss_unit]})" if spec.loss_unit else ""
    best_epoch = job.best["epoch"] if job.best and job.best["by"] != "last" else None
    return drawing("loss_curve", series, title, f"{spec.loss.kind} loss{unit}", best_epoch)


# ---------------------------------------------------------------- data and predictions


def _data(context: Context, job: Job) -> Drawing:
    spec = job.spec
    x, y = _feature_with_an_axis(context, job, spec), spec.targets[0]
    table, split = judged.table_and_split(context, job)
    clouds = _training_and_testing(table, split, x, y)
    title = f"{_title(job)}: training and testing data"
    if (labels := _labels(table[y])) is not None:
        return drawing("labelled_scatter", clouds, title, x, y, labels)
    return drawing("scatter", clouds, title, x, y)


def _labels(column: pa.ChunkedArray) -> list[str] | None:
    """Return what the places of a column of classes along an axis are called, where that is few."""
    if column_type(column.type) not in ("category", "boolean"):
        return None
    classes = preprocessing.classes_of(column)
    return [label(value) for value in classes] if len(classes) <= _MOST_CLASSES else None


def _feature_with_an_axis(context: Context, job: Job, spec: JobSpec) -> str:
    with context.database.read() as session:
        columns = datasets.find(session, job.dataset_id).columns
    types = {column["name"]: column["type"] for column in columns}
    for kind in ("number", "datetime"):
        for name in spec.features:
            if types[name] == kind:
                return name
    raise NotApplicable("no feature is a number or a date, so there is no axis to draw along")


def _training_and_testing(
    table: pa.Table, split: Split, x: str, y: str
) -> dict[str, tuple[Points, str]]:
    clouds = {"training data": (_pair(table.take(split.train), x, y), BLUE)}
    testing = split.test if len(split.test) else split.validation
    if len(testing):
        clouds["testing data"] = (_pair(table.take(testing), x, y), GREEN)
    return clouds


def _predictions(context: Context, predictors: Predictors, job: Job) -> Drawing:
    predictor = judged.model_of(context, predictors, job)
    spec = job.spec
    table, split = judged.table_and_split(context, job)
    one_feature = (
        len(spec.features) == 1 and table.schema.field(spec.features[0]).type != pa.string()
    )
    target = predictor.target
    if isinstance(target, NumberTargets) and len(target.names) == 1 and one_feature:
        return _along_feature(job, spec, predictor, table, split)
    if isinstance(target, NumberTargets):
        return _against_true(job, predictor, table, split)
    return _class_counts(job, predictor, table, split)


def _along_feature(
    job: Job, spec: JobSpec, predictor: "Predictor", table: pa.Table, split: Split
) -> Drawing:
    x, y = spec.features[0], spec.targets[0]
    clouds = _training_and_testing(table, split, x, y)
    rows = table.take(judged.rows_of(split)[1])
    values = _column(rows, x)
    untrained = predictor.untrained()
    clouds["untrained model"] = ((values, _decoded(untrained, rows)), GREY)
    clouds["predictions"] = ((values, _decoded(predictor, rows)), RED)
    return drawing("scatter", clouds, f"{_title(job)}: predictions", x, y)


def _against_true(job: Job, predictor: "Predictor", table: pa.Table, split: Split) -> Drawing:
    rows = table.take(judged.rows_of(split)[1])
    names = predictor.target.names
    true = preprocessing.numbers(rows, names)
    predicted = predictor.target.decode(predictor.outputs(rows))  # type: ignore[union-attr]
    clouds = {
        f"predictions of {name}": ((true[:, i], predicted[:, i]), color(i))
        for i, name in enumerate(names)
    }
    what = names[0] if len(names) == 1 else "value"
    title = f"{_title(job)}: predicted against true on {len(true)} rows"
    return drawing("predicted_against_true", clouds, title, what)


def _class_counts(job: Job, predictor: "Predictor", table: pa.Table, split: Split) -> Drawing:
    rows = table.take(judged.rows_of(split)[1])
    target = predictor.target
    outputs = predictor.outputs(rows)
    if isinstance(target, ClassTarget):
        labels = [label(value) for value in target.classes]
        size = len(labels)
        true = np.bincount(target.codes(rows), minlength=size)
        predicted = np.bincount(target.chosen(target.probabilities(outputs)), minlength=size)
    else:
        labels = target.names
        true = target.encode(rows).sum(axis=0)
        predicted = (target.probabilities(outputs) > 0.5).sum(axis=0)  # type: ignore[union-attr]
    bars = {
        "testing data": (true.tolist(), GREEN),
        "predictions": (predicted.tolist(), RED),
    }
    title = f"{_title(job)}: predicted and true classes on {rows.num_rows} rows"
    return drawing("class_counts", labels, bars, title, ", ".join(target.names))


# ---------------------------------------------------------------- residuals and confusion


def _residuals(context: Context, predictors: Predictors, job: Job, image: Format) -> Drawing:
    spec = job.spec
    if spec.task != "regression":
        raise NotApplicable(f"a {spec.task} job has no residuals; look at plots/confusion.{image}")
    predictor, rows, _ = judged.of(context, predictors, job)
    names = predictor.target.names
    true = preprocessing.numbers(rows, names)
    predicted = predictor.target.decode(predictor.outputs(rows))  # type: ignore[union-attr]
    clouds = {
        f"residuals of {name}": ((predicted[:, i], true[:, i] - predicted[:, i]), color(i))
        for i, name in enumerate(names)
    }
    title = f"{_title(job)}: residuals on {len(true)} rows"
    return drawing("residuals", clouds, title, names[0] if len(names) == 1 else "value")


def _confusion(context: Context, predictors: Predictors, job: Job, image: Format) -> Drawing:
    spec = job.spec
    if spec.task == "regression":
        raise NotApplicable(f"a regression job has no classes; look at plots/residuals.{image}")
    predictor, rows, _ = judged.of(context, predictors, job)
    target, outputs = predictor.target, predictor.outputs(rows)
    title = f"{_title(job)}: true and predicted on {rows.num_rows} rows"
    if isinstance(target, ClassTarget):
        chosen: Any = target.chosen(target.probabilities(outputs))
        labels = [label(value) for value in target.classes]
        labels, counts = _of_frequent(labels, target.codes(rows), chosen)
        with np.errstate(invalid="ignore"):  # a class without a row has no shares
            shares = counts / counts.sum(axis=1, keepdims=True)
        axes = (f"true {target.names[0]}", f"predicted {target.names[0]}")
        return drawing("confusion", counts, shares, (labels, labels), axes, title)
    chosen = target.probabilities(outputs) > 0.5  # type: ignore[union-attr]
    labels, squares = _of_frequent_labels(target.names, target.encode(rows), chosen)
    with np.errstate(invalid="ignore"):
        parts = squares / squares.sum(axis=2, keepdims=True)
    cells = [values[:, ::-1, ::-1].reshape(len(labels), 4) for values in (squares, parts)]
    columns = ["yes as yes", "yes as no", "no as yes", "no as no"]
    axes = ("label", "true as predicted; shares of the true yes or no")
    return drawing("confusion", cells[0], cells[1], (labels, columns), axes, title)


_CURVES: dict[str, tuple[str, str | None]] = {
    "roc": ("ROC", "a coin"),
    "precision_recall": ("precision by recall", None),
    "calibration": ("calibration", "as sure as right"),
    "threshold": ("by threshold", None),
}
"""How each curve is called, and the diagonal that it is held against."""
_SHORT = {"auc": "AUC", "average_precision": "AP", "ece": "ECE"}


def _curve(context: Context, predictors: Predictors, job: Job, plot: JobPlot) -> Drawing:
    found, part = curves.of(context, predictors, job, plot)  # type: ignore[arg-type]
    if not found.series:
        raise NotApplicable(f"the {part} part has rows of one class alone: no curve")
    name, diagonal = _CURVES[plot]
    series = enumerate(found.series.items())
    lines = {key: ((line.x, line.y), color(i), line.count) for i, (key, line) in series}
    marked = found.summary.get("threshold")
    title = f"{_title(job)}: {name}, {part} part"
    if marked is None:
        measure, value = next(iter(found.summary.items()))
        title += "" if value is None else f", {_SHORT.get(measure, measure)} {value:.3g}"
    return drawing("lines", lines, title, found.x, found.y, diagonal, marked)


def _of_frequent(labels: list[str], true: Any, chosen: Any) -> tuple[list[str], Any]:
    """Return labels and confusion ``(classes, classes)`` of the most frequent true classes.

    ``true`` and ``chosen`` are class numbers ``(rows,)``; the other classes are the last, as one.
    """
    from sklearn.metrics import confusion_matrix

    if len(labels) > _MOST_CLASSES:
        frequent = np.argsort(-np.bincount(true, minlength=len(labels)), kind="stable")
        named = np.sort(frequent[:_MOST_CLASSES])
        place = np.full(len(labels), _MOST_CLASSES)
        place[named] = np.arange(_MOST_CLASSES)
        true, chosen = place[true], place[chosen]
        labels = [*(labels[i] for i in named), f"{len(labels) - _MOST_CLASSES:,} others"]
    return labels, confusion_matrix(true, chosen, labels=range(len(labels)))


def _of_frequent_labels(labels: list[str], true: Any, chosen: Any) -> tuple[list[str], Any]:
    """Return labels and confusions ``(labels, 2, 2)`` of the labels that are true most often.

    ``true`` and ``chosen`` are ``(rows, labels)``; the sum of the other labels is the last.
    """
    from app.ml.evaluation import metrics

    squares = metrics.multilabel_confusion(true, chosen)
    if len(labels) > _MOST_CLASSES:
        frequent = np.argsort(-true.sum(axis=0), kind="stable")
        named, rest = np.sort(frequent[:_MOST_CLASSES]), frequent[_MOST_CLASSES:]
        squares = np.concatenate([squares[named], squares[rest].sum(axis=0, keepdims=True)])
        labels = [*(labels[i] for i in named), f"{len(rest):,} others"]
    return labels, squares


# ---------------------------------------------------------------- small things


def _title(job: Job) -> str:
    return f"{job.spec.register_as or job.id} ({job.spec.model.kind})"


def _decoded(predictor: "Predictor", rows: pa.Table) -> Any:
    return predictor.target.decode(predictor.outputs(rows))[:, 0]  # type: ignore[union-attr]


def _column(table: pa.Table, name: str) -> Any:
    column = table[name]
    if column_type(column.type) in ("category", "boolean"):
        return preprocessing.class_codes(column).astype(float)
    if pa.types.is_temporal(column.type):
        return pc.cast(column, pa.timestamp("us")).to_numpy().astype("datetime64[us]")
    return floats(column)


def _pair(table: pa.Table, x: str, y: str) -> Points:
    return _column(table, x), _column(table, y)
