"""The job: what arrives, with gaps, and what is stored and trained from."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_serializer
from pydantic_core import PydanticCustomError

from app.ml.specs.base import (
    ColumnName,
    Metadata,
    Name,
    NotNegative,
    Positive,
    Seed,
    Share,
    Spec,
    Task,
)
from app.ml.specs.data import PreprocessingSpec, SplitSpec
from app.ml.specs.losses import LossSpec
from app.ml.specs.metrics import Selection, Threshold
from app.ml.specs.models import ModelSpec
from app.ml.specs.optimizers import OptimizerSpec
from app.ml.specs.schedulers import SchedulerSpecs

LossUnit = Literal["standardised", "target"]


class EarlyStoppingSpec(Spec):
    """Stop when the validation loss has not fallen by ``min_delta`` for ``patience`` epochs."""

    patience: int = Field(10, ge=1)
    min_delta: NotNegative = 0.0


class CheckpointSpec(Spec):
    """Write a checkpoint every so many seconds and keep the newest ``keep`` of the job."""

    every_seconds: Positive = 30.0
    keep: int = Field(2, ge=1, le=100)


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise PydanticCustomError("duplicate", "the same column is named twice")
    return names


ColumnNames = Annotated[
    list[ColumnName], Field(min_length=1, fail_fast=True), AfterValidator(_distinct)
]
Target = ColumnName | ColumnNames


def _refuse_list(value: object) -> object:
    if isinstance(value, list):
        raise PydanticCustomError(
            "class_weight_list",
            "'class_weight' wants each number by its class, such as {example}, or 'balanced'",
            {"example": '{"yes": 2.0, "no": 1.0}'},
        )
    return value


ClassWeight = Annotated[
    Literal["balanced"] | dict[str, NotNegative] | None, BeforeValidator(_refuse_list)
]


class _JobFields(Spec):
    """The fields whose defaults need no look at the data."""

    dataset: str = Field(min_length=1, max_length=128, description="id or name")
    target: Target = Field(description="the column to predict, or a list of them")
    split: SplitSpec = SplitSpec(train=0.8, validation=0.1, test=0.1)
    epochs: int = Field(
        100,
        ge=0,
        le=10_000_000,
        description="tabular takes fewer on large tables if left out; 0: an untrained model",
    )
    seed: Seed = 0
    scheduler: SchedulerSpecs | None = None
    gradient_accumulation: int = Field(
        1, ge=1, le=100_000, description="batches whose gradients make one step"
    )
    class_weight: ClassWeight = Field(
        None,
        description='"balanced", or a number for each class: how much its rows count; '
        "classes left out count 1",
    )
    sample_weight: ColumnName | None = Field(
        None, description="a column that says how much each row counts"
    )
    gradient_clip_norm: Positive | None = None
    ema_decay: Share | None = Field(
        None,
        description="measure and keep a moving average of the weights; tabular brings 0.99",
    )
    checkpoint: CheckpointSpec = CheckpointSpec()
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: mixed precision by torch.autocast, for GPUs"
    )
    threads: int = Field(1, ge=1, le=256, description="intra-op threads of the training process")
    max_seconds: Positive | None = None
    at_limit: Literal["fail", "best"] = Field(
        "fail",
        description="best: what max_seconds ends becomes a model with the best weights so far",
    )
    select: Selection = Field(
        "loss",
        description="what early stopping and the best weights go by, on the validation part",
    )
    priority: int = Field(0, ge=-1000, le=1000, description="higher goes first")
    metadata: Metadata = {}

    @property
    def targets(self) -> list[str]:
        """The columns to predict."""
        return [self.target] if isinstance(self.target, str) else self.target

    @property
    def planning_columns(self) -> list[str]:
        """The columns that planning reads: the targets, and those of the split and the weights."""
        columns = [*self.targets, self.split.column, self.sample_weight]
        return list(dict.fromkeys(name for name in columns if name is not None))


class JobRequest(_JobFields):
    """A training job as a client asks for it; only ``dataset`` and ``target`` are required."""

    features: ColumnNames | None = Field(
        None,
        description="left out: every other column but constants, identifiers and free text",
    )
    task: Task | None = Field(None, description="left out: by the type of the target")
    preprocessing: PreprocessingSpec = PreprocessingSpec(target=None)
    model: ModelSpec | None = Field(None, description="left out: tabular")
    loss: LossSpec | None = Field(None, description="left out: by the task")
    optimizer: OptimizerSpec | None = Field(
        None, description="left out: adamw, as the model wants it"
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        "auto", description="null: the whole training part in one step"
    )
    early_stopping: EarlyStoppingSpec | None = Field(
        None,
        description="left out: patience 10 where there is a validation part; null: off",
    )
    calibrate: bool | None = Field(
        None,
        description="fit one temperature on the validation part, by which logits are divided; "
        "left out: for tabular",
    )
    threshold: Threshold | None = Field(
        None,
        description="binary: from which probability on a row is of the positive class: a number, "
        "the metric that it maximises on the validation part, or the recall that it reaches "
        "there; left out: 0.5, or f1 where a class has under 10 % of the training rows",
    )
    refit: bool | Literal["auto"] | None = Field(
        None,
        description="after the test part was measured, train once more on all rows, up to the best "
        'epoch; left out: "auto" for tabular, which does so where it pays',
    )
    register_as: Name | None = Field(None, description="the model's name; left out: the job's id")


class JobSpec(_JobFields):
    """A job with every field filled in; what is stored, answered and trained from."""

    refit: bool = False

    features: list[str]
    task: Task
    preprocessing: PreprocessingSpec
    model: ModelSpec
    loss: LossSpec
    optimizer: OptimizerSpec
    batch_size: int | None
    early_stopping: EarlyStoppingSpec | None
    calibrate: bool = False
    threshold: Threshold = 0.5
    register_as: str | None

    @property
    def loss_unit(self) -> LossUnit | None:
        """The unit of a regression's losses: the target's own, or its standard deviation in the
        training part. Other losses have none."""
        if self.task != "regression":
            return None
        return "target" if self.preprocessing.target == "none" else "standardised"

    @property
    def classifies(self) -> bool:
        """Whether the target is one of several classes."""
        return self.task in ("binary", "multiclass")

    @field_serializer("loss")
    def _short_form_where_it_says_all(self, loss: LossSpec) -> str | LossSpec:
        return loss.kind if loss == type(loss)() else loss


def field_names(model: type[BaseModel]) -> set[str]:
    """Return every field name of a spec and of all it contains (for did-you-mean)."""
    schema = model.model_json_schema()
    objects = [schema, *schema.get("$defs", {}).values()]
    return {name for part in objects for name in part.get("properties", {})}
