"""What a client may ask for. Every object is closed: unknown fields and wrong types are refused.

``JobRequest`` is what arrives, with gaps; ``app.ml.plan`` fills the gaps against a table and gives
a ``JobSpec``, in which every field has its value. Names are torch's, in snake case.
"""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_serializer,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

_MOST_FIELDS = 100
_MOST_PAIRS = 16


def _few(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > _MOST_PAIRS:
        raise PydanticCustomError("too_long", "there can be at most 16 pairs")
    return value


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", strict=True)]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=_MOST_PAIRS, description="up to 16 pairs of strings of yours"),
    BeforeValidator(_few),
]
Task = Literal["regression", "binary", "multiclass", "multilabel"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
ColumnName = Annotated[str, StringConstraints(min_length=1)]


class Spec(BaseModel):
    """Closed and strict: ``"3"`` is no number and a misspelt field is an error."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        validate_default=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _is_no_flood(cls, data: Any) -> Any:
        # every unknown field would be an error of its own, and each costs time and memory
        if isinstance(data, dict) and len(data) > _MOST_FIELDS:
            raise PydanticCustomError("too_many_fields", "there are far too many fields; see /docs")
        return data


def _named(value: object) -> object:
    """``"adam"`` is short for ``{"kind": "adam"}``."""
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, Spec) or (isinstance(value, dict) and isinstance(value.get("kind"), str)):
        return value
    raise PydanticCustomError("kind", "give its name, or an object with its name as 'kind'")


# ---------------------------------------------------------------- split and preprocessing


class SplitSpec(Spec):
    """How rows are shared out; fractions sum to 1, a single one left out takes what remains."""

    train: float = Field(0.8, gt=0, le=1)
    validation: float = Field(0.1, ge=0, lt=1)
    test: float = Field(0.1, ge=0, lt=1)
    strategy: Literal["random", "stratified", "sequential", "column", "group"] = "random"
    seed: Seed = 0
    column: ColumnName | None = Field(
        None,
        description="column: holds train, validation or test for each row; "
        "group: rows with the same value stay on one side",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_the_one_left_out(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        parts = ("train", "validation", "test")
        given = {name: data[name] for name in parts if isinstance(data.get(name), int | float)}
        missing = [name for name in parts if name not in data]
        rest = round(1 - sum(given.values()), 12)
        if len(given) == 2 and len(missing) == 1 and 0 <= rest <= 1:
            return {**data, missing[0]: rest}
        return data

    @model_serializer(mode="wrap")
    def _without_a_column_it_has_not(self, dump: Any) -> dict[str, Any]:
        told: dict[str, Any] = dump(self)
        return told if self.column is not None else {k: told[k] for k in told if k != "column"}

    @model_validator(mode="after")
    def _has_its_column(self) -> "SplitSpec":
        if (self.strategy in ("column", "group")) != (self.column is not None):
            raise PydanticCustomError(
                "column",
                "a split by 'column' or 'group' wants the column's name in split.column, "
                "and the others want none",
            )
        return self

    @model_validator(mode="after")
    def _sums_to_one(self) -> "SplitSpec":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise PydanticCustomError(
                "fractions",
                "train, validation and test sum to {total}; they must sum to 1",
                {"total": round(total, 9)},
            )
        return self


class PreprocessingSpec(Spec):
    """How columns become numbers; fitted on the training part only."""

    numbers: Literal["standard", "robust", "quantile", "none"] = "standard"
    categories: Literal["auto", "one_hot", "embedding"] = Field(
        "auto", description="auto: one-hot for up to 64 categories, an embedding for more"
    )
    missing: Literal["impute"] = "impute"
    target: Literal["standard", "none"] | None = Field(
        None, description="regression targets; left out: standard for regression"
    )


# ---------------------------------------------------------------- models


class LinearSpec(Spec):
    """``torch.nn.Linear``; ``normal``: weights, then bias, by ``torch.randn`` after seeding."""

    kind: Literal["linear"] = "linear"
    init: Literal["default", "normal"] = "default"


class MLPSpec(Spec):
    """A multilayer perceptron: ``Linear``, norm, activation and dropout for each hidden width."""

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=16_384)]], Field(fail_fast=True)] = Field(
        default=[64, 64], min_length=1, max_length=64
    )
    activation: Literal["relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "elu"] = "relu"
    norm: Literal["batch", "layer"] | None = None
    dropout: float = Field(0.0, ge=0, lt=1)
    residual: bool = Field(
        False, description="add a layer's input to its output where widths agree"
    )


ModelSpec = Annotated[LinearSpec | MLPSpec, Field(discriminator="kind"), BeforeValidator(_named)]

# ---------------------------------------------------------------- losses


class L1Spec(Spec):
    """``torch.nn.L1Loss``."""

    kind: Literal["l1"] = "l1"


class MSESpec(Spec):
    """``torch.nn.MSELoss``."""

    kind: Literal["mse"] = "mse"


class HuberSpec(Spec):
    """``torch.nn.HuberLoss``."""

    kind: Literal["huber"] = "huber"
    delta: float = Field(1.0, gt=0)


class CrossEntropySpec(Spec):
    """``torch.nn.CrossEntropyLoss``."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class BCEWithLogitsSpec(Spec):
    """``torch.nn.BCEWithLogitsLoss``."""

    kind: Literal["bce_with_logits"] = "bce_with_logits"


_LOSS_ALIASES = {"mae": "l1"}


def _loss(value: object) -> object:
    named = _named(value)
    if isinstance(named, dict):
        return {**named, "kind": _LOSS_ALIASES.get(named["kind"], named["kind"])}
    return named


LossSpec = Annotated[
    L1Spec | MSESpec | HuberSpec | CrossEntropySpec | BCEWithLogitsSpec,
    Field(discriminator="kind"),
    BeforeValidator(_loss),
]

LOSSES_FOR_TASK: dict[Task, tuple[str, ...]] = {
    "regression": ("mse", "l1", "huber"),
    "binary": ("bce_with_logits", "cross_entropy"),
    "multiclass": ("cross_entropy",),
    "multilabel": ("bce_with_logits",),
}

# ---------------------------------------------------------------- optimizers


class SGDSpec(Spec):
    """``torch.optim.SGD``."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(1e-3, gt=0)
    momentum: float = Field(0.0, ge=0)
    dampening: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SGDSpec":
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise PydanticCustomError("nesterov", "nesterov needs momentum > 0 and dampening 0")
        return self


Betas = Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(fail_fast=True)]


class AdamSpec(Spec):
    """``torch.optim.Adam``."""

    kind: Literal["adam"] = "adam"
    lr: float = Field(1e-3, gt=0)
    betas: Betas = Field(default=[0.9, 0.999], min_length=2, max_length=2)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    amsgrad: bool = False


class AdamWSpec(Spec):
    """``torch.optim.AdamW``."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    betas: Betas = Field(default=[0.9, 0.999], min_length=2, max_length=2)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    amsgrad: bool = False


OptimizerSpec = Annotated[
    SGDSpec | AdamSpec | AdamWSpec, Field(discriminator="kind"), BeforeValidator(_named)
]

# ---------------------------------------------------------------- the job


class EarlyStoppingSpec(Spec):
    """Stop when the validation loss has not fallen by ``min_delta`` for ``patience`` epochs."""

    patience: int = Field(10, ge=1)
    min_delta: float = Field(0.0, ge=0)


class CheckpointSpec(Spec):
    """Write a checkpoint every so many seconds and keep the newest ``keep`` of the job."""

    every_seconds: float = Field(30.0, gt=0)
    keep: int = Field(2, ge=1, le=100)


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise PydanticCustomError("duplicate", "the same column is named twice")
    return names


ColumnNames = Annotated[
    list[ColumnName], Field(min_length=1, fail_fast=True), AfterValidator(_distinct)
]
Target = ColumnName | ColumnNames


class _JobFields(Spec):
    """The fields whose defaults need no look at the data."""

    dataset: str = Field(min_length=1, max_length=128, description="id or name")
    target: Target = Field(description="the column to predict, or a list of them")
    epochs: int = Field(100, ge=1, le=10_000_000)
    seed: Seed = 0
    scheduler: None = Field(None, description="none yet")
    gradient_clip_norm: Annotated[float, Field(gt=0)] | None = None
    checkpoint: CheckpointSpec = CheckpointSpec()
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int = Field(1, ge=1, le=256, description="intra-op threads of the training process")
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    priority: int = Field(0, ge=-1000, le=1000, description="higher goes first")
    metadata: Metadata = {}

    @property
    def targets(self) -> list[str]:
        return [self.target] if isinstance(self.target, str) else self.target


class JobRequest(_JobFields):
    """A training job as a client asks for it; only ``dataset`` and ``target`` are required."""

    features: ColumnNames | None = Field(
        None,
        description="left out: every other column but constants, identifiers and free text",
    )
    task: Task | None = Field(None, description="left out: by the type of the target")
    split: SplitSpec = SplitSpec(train=0.8, validation=0.1, test=0.1)
    preprocessing: PreprocessingSpec = PreprocessingSpec(target=None)
    model: ModelSpec | None = Field(None, description="left out: mlp")
    loss: LossSpec | None = Field(None, description="left out: by the task")
    optimizer: OptimizerSpec | None = Field(None, description="left out: adamw")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        "auto", description="null: the whole training part in one step"
    )
    early_stopping: EarlyStoppingSpec | None = Field(
        None,
        description="left out: patience 10 where there is a validation part; null: off",
    )
    register_as: Name | None = Field(None, description="the model's name; left out: the job's id")


class JobSpec(_JobFields):
    """A job with every field filled in; what is stored, answered and trained from."""

    features: list[str]
    task: Task
    split: SplitSpec
    preprocessing: PreprocessingSpec
    model: ModelSpec
    loss: LossSpec
    optimizer: OptimizerSpec
    batch_size: int | None
    early_stopping: EarlyStoppingSpec | None
    register_as: str | None

    @property
    def split_columns(self) -> list[str]:
        """What the split depends on: the targets, and the column that tells it."""
        return list(dict.fromkeys([*self.targets, *filter(None, [self.split.column])]))

    @field_serializer("loss")
    def _plain_name_where_it_says_all(self, loss: LossSpec) -> str | dict[str, Any]:
        return loss.kind if loss == type(loss)() else loss.model_dump()


class Inputs(NamedTuple):
    """What a module is given: columns to multiply, then columns of codes to look up."""

    dense: int
    embeddings: tuple[tuple[int, int], ...] = ()
    """``(rows, dimensions)`` of each embedding."""

    @property
    def width(self) -> int:
        """Columns of the feature matrix."""
        return self.dense + len(self.embeddings)

    @property
    def looked_up(self) -> int:
        """Columns once the codes have been looked up."""
        return self.dense + sum(dimensions for _, dimensions in self.embeddings)


def parameter_count(model: LinearSpec | MLPSpec, inputs: Inputs, outputs: int) -> int:
    """Trainable numbers of the module, by arithmetic alone (nothing is allocated)."""
    tables = sum(rows * dimensions for rows, dimensions in inputs.embeddings)
    if isinstance(model, LinearSpec):
        return tables + inputs.looked_up * outputs + outputs
    widths = [inputs.looked_up, *model.hidden]
    dense = sum(a * b + b for a, b in zip(widths, [*model.hidden, outputs], strict=True))
    return tables + dense + (2 * sum(model.hidden) if model.norm else 0)


def field_names(model: type[BaseModel]) -> set[str]:
    """Every field name of a spec and of all it contains (for did-you-mean)."""
    schema = model.model_json_schema()
    objects = [schema, *schema.get("$defs", {}).values()]
    return {name for part in objects for name in part.get("properties", {})}
