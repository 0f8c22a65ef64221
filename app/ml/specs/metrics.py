"""Metrics by the names that jobs, models, evaluations and charts share; how each is computed stands
in ``ml/evaluation/metrics.py``. One more metric is a line here and one there."""

from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from app.ml.specs.base import Spec, Task

_CLASSES: tuple[Task, ...] = ("binary", "multiclass")
_ALL_CLASSES: tuple[Task, ...] = (*_CLASSES, "multilabel")


class Metric(NamedTuple):
    """What a metric is for."""

    tasks: tuple[Task, ...]
    falls: bool = False
    """Whether less is better."""


METRICS: dict[str, Metric] = {
    "mae": Metric(("regression",), falls=True),
    "rmse": Metric(("regression",), falls=True),
    "r2": Metric(("regression",)),
    "median_absolute_error": Metric(("regression",), falls=True),
    "mape": Metric(("regression",), falls=True),
    "pinball": Metric(("regression",), falls=True),
    "accuracy": Metric(_ALL_CLASSES),
    "f1_macro": Metric(_ALL_CLASSES),
    "auc": Metric(_ALL_CLASSES),
    "log_loss": Metric(_ALL_CLASSES, falls=True),
    "balanced_accuracy": Metric(_CLASSES),
    "precision": Metric(("binary",)),
    "recall": Metric(("binary",)),
    "f1": Metric(("binary",)),
    "mcc": Metric(_CLASSES),
    "average_precision": Metric(_ALL_CLASSES),
    "brier": Metric(_ALL_CLASSES, falls=True),
    "ece": Metric(_CLASSES, falls=True),
}
"""Every metric by its name."""

Selection = Literal[
    "loss",
    "mae",
    "rmse",
    "r2",
    "median_absolute_error",
    "mape",
    "pinball",
    "accuracy",
    "f1_macro",
    "auc",
    "log_loss",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "mcc",
    "average_precision",
    "brier",
    "ece",
]
"""The loss, or a metric: what early stopping and the best weights go by."""
assert set(get_args(Selection)) == {"loss", *METRICS}


def falls(selection: str) -> bool:
    """Return whether less of the loss or a metric is better."""
    return selection == "loss" or METRICS[selection].falls


def selections_for(task: Task) -> list[str]:
    """Return what a job of this task can select by."""
    return ["loss", *(name for name, metric in METRICS.items() if task in metric.tasks)]


CurveKind = Literal["roc", "precision_recall", "calibration", "threshold", "residuals"]
"""The curves that a model has on rows with known targets (``ml/evaluation/curves.py``)."""


class RecallSpec(Spec):
    """The highest threshold that reaches a recall of the positive class."""

    recall: float = Field(gt=0, le=1)


Maximised = Literal["f1", "balanced_accuracy", "mcc"]


def _form(value: Any) -> str:
    if isinstance(value, str):
        return "metric"
    return "rule" if isinstance(value, dict | RecallSpec) else "number"


def _refuse_others(value: Any) -> Any:
    known = isinstance(value, dict | RecallSpec) or value in get_args(Maximised)
    if not known and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise PydanticCustomError(
            "threshold",
            "'threshold' should be a number between 0 and 1, 'f1', 'balanced_accuracy', 'mcc', or "
            '{{"recall": 0.9}}',
        )
    return value


Threshold = Annotated[
    Annotated[float, Field(gt=0, lt=1), Tag("number")]
    | Annotated[Maximised, Tag("metric")]
    | Annotated[RecallSpec, Tag("rule")],
    Discriminator(_form),
    BeforeValidator(_refuse_others),
]
"""From which probability on a row is of the positive class: a number, the metric that it maximises
on the validation part, or the recall that it reaches there."""
