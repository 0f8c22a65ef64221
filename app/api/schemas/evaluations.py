"""How a model does on a dataset, as the API takes and shows it."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.api.schemas.common import LOSS_UNIT, Number
from app.api.schemas.datasets import DatasetRef
from app.ml.inference.confidence import Confidence
from app.ml.specs import LossUnit, Spec


class EvaluateRequest(Spec):
    """Which rows to hold a model against."""

    dataset: str = Field(
        min_length=1, max_length=128, description="id or name; it has the features and the target"
    )
    by: str | None = Field(
        None,
        min_length=1,
        description="a column of it, by whose values the metrics are told as well; numbers and "
        "dates of more than 20 by fifths",
    )


class Confusion(BaseModel):
    """Rows by true class, columns by predicted; for several labels one 2x2 each."""

    labels: list[Any] = Field(description="null: classes that the model has never seen")
    matrix: list[list[int]] | list[list[list[int]]]


class WorstRow(BaseModel):
    """One of the rows with the highest loss."""

    row: int = Field(description="its number in the dataset or file, from 0")
    loss: float | None
    true: Any
    predicted: Any
    features: dict[str, Any]


class GroupOut(BaseModel):
    """The rows of one value."""

    value: str | None = Field(description="null: missing; of a fifth its ends")
    rows: int
    metrics: dict[str, Number]


class EvaluationOut(BaseModel):
    """How a model does on a dataset, beside a guess that knows no features."""

    object: Literal["evaluation"] = "evaluation"
    model: str
    version: int
    dataset: DatasetRef | None = Field(description="null: the rows came with the request")
    rows: int = Field(description="rows with a target")
    skipped: int = Field(description="rows without one")
    loss: float | None = Field(
        description="the model's own, on average and without weights or smoothing, in the units "
        "it was computed in"
    )
    loss_unit: LossUnit | None = Field(description=LOSS_UNIT)
    metrics: dict[str, Number]
    confidence: Confidence | None = Field(
        description="between which values each of them lies in 95 % of bootstrap resamples of the "
        "rows; null for fewer than ten"
    )
    baseline: dict[str, Number] | None = Field(
        description="of always answering the training part's mean or class shares; null where the "
        "model is of a version that did not keep them"
    )
    better_than_baseline: dict[str, bool] | None
    warnings: list[str]
    confusion: Confusion | None
    worst: list[WorstRow] = Field(description="up to 10 rows, the highest loss first")
    by: list[GroupOut] | None = Field(
        None, description="of the 50 most frequent values; null where no column was named"
    )
