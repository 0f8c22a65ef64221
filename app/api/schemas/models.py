"""Model versions as the API shows them, their aliases, and what they were made from."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from app.api.schemas.common import AS_STORED, OF_MEASURED, ListOut, Time
from app.db.models import Alias, ModelVersion
from app.ml.column_types.canonical import TypeName
from app.ml.inference.card import MeasuredBefore, TrainedOn
from app.ml.specs import JobSpec, Name, Spec, Task


def _no_number(alias: str) -> str:
    if alias.isdecimal():
        raise PydanticCustomError(
            "digits", "'alias' must not be all digits, which are a version; add a letter"
        )
    return alias


AliasName = Annotated[Name, AfterValidator(_no_number)]

# ---------------------------------------------------------------- requests


class AliasRequest(Spec):
    """Which version an alias is to name."""

    version: int = Field(ge=1)


class PromoteRequest(Spec):
    """What a checkpoint is to become a version of."""

    register_as: Name | None = Field(
        None, description="the model's name; left out: as the job's own, else the job's id"
    )


# ---------------------------------------------------------------- resources


class ModelRef(BaseModel):
    name: str
    version: int
    ref: str


class Feature(BaseModel):
    name: str
    type: TypeName


class ModelDataset(BaseModel):
    id: str
    sha256: str

    @classmethod
    def of(cls, row: ModelVersion) -> "ModelDataset":
        """Return the dataset that a version was trained on."""
        return cls(id=row.dataset_id, sha256=row.dataset_sha256)


class SplitCounts(BaseModel):
    train: int
    validation: int
    test: int


_DEFAULTS = {
    name: field.default for name, field in JobSpec.model_fields.items() if not field.is_required()
}
"""What the spec of an older version does not say, and means."""


class Lineage(BaseModel):
    """What a version was made from; null is what an older fitserve did not keep."""

    job: str | None = Field(description="null where it came as a bundle")
    dataset: ModelDataset
    spec: Annotated[
        JobSpec | None, *AS_STORED, Field(description="the job's, every field filled in")
    ]
    split: SplitCounts | None
    seed: int | None
    epoch: int
    checkpoint: str | None = Field(description="null where it is the job's own result")
    versions: dict[str, str] | None = Field(description="of the libraries that trained it")

    @classmethod
    def of(cls, row: ModelVersion) -> "Lineage":
        """Return the lineage of a stored version."""
        spec = row.lineage["spec"]
        spec = spec and {**_DEFAULTS, **spec}
        return cls(
            job=row.job_id or None,
            dataset=ModelDataset.of(row),
            spec=spec,
            split=row.lineage["split"],
            seed=spec["seed"] if spec else None,
            epoch=(row.metrics["best"] or {"epoch": 0})["epoch"],
            checkpoint=row.checkpoint_id,
            versions=row.lineage["versions"],
        )


class Calibration(BaseModel):
    """What makes probabilities as sure as they are right."""

    temperature: float = Field(description="by which the module's logits are divided")


class Interval(BaseModel):
    """A level that was asked for, and the coverage that it had."""

    level: float
    coverage: float
    rows: int = Field(description="of the test part")


class ModelOut(BaseModel):
    """A version of a trained model."""

    id: str
    object: Literal["model"] = "model"
    name: str
    version: int
    ref: str
    aliases: list[str]
    task: Task
    features: list[Feature]
    target: str | list[str]
    metrics: dict[str, Any]
    job: str | None = Field(description="null where it came as a bundle")
    dataset: ModelDataset
    parameters: int
    trained_on: TrainedOn = Field(
        description="`all`: once more on all rows; what was measured is of the model before that"
    )
    calibration: Calibration | None = Field(description="null where nothing was fitted")
    threshold: float | None = Field(
        description="from which probability on a row is of the positive class, of two"
    )
    positive: bool | int | float | str | None = Field(
        description="that class; null where there are more, or an older fitserve trained it"
    )
    intervals: list[Interval] = Field(
        description="how often intervals, or sets of classes, held what was true on the test part; "
        "empty where predictions have none, or nothing was measured"
    )
    lineage: Lineage
    created_at: Time
    metadata: dict[str, str]

    @classmethod
    def of(cls, row: ModelVersion, aliases: Sequence[str]) -> "ModelOut":
        """Return a stored version as the API shows it, with its aliases."""
        decision = row.lineage.get("decision") or {}
        temperature = decision.get("temperature", 1.0)
        return cls(
            id=row.id,
            name=row.name,
            version=row.version,
            ref=f"{row.name}@{row.version}",
            aliases=list(aliases),
            task=row.task,
            features=row.features,
            target=row.target[0] if len(row.target) == 1 else row.target,
            metrics=row.metrics,
            job=row.job_id or None,
            dataset=ModelDataset.of(row),
            parameters=row.parameters,
            trained_on=row.lineage.get("trained_on", "train"),
            calibration=None if temperature == 1.0 else Calibration(temperature=temperature),
            threshold=decision.get("threshold"),
            positive=decision.get("positive"),
            intervals=[Interval(**item) for item in row.lineage.get("coverage", [])],
            lineage=Lineage.of(row),
            created_at=row.created_at,
            metadata=row.metadata_,
        )


class Parameter(BaseModel):
    id: str = Field(description="its name")
    name: str
    shape: list[int]
    dtype: str
    values: Any = Field(description="nested lists; null where the model has more than 10,000")


class ParametersOut(ListOut):
    data: list[Parameter]


class Layer(BaseModel):
    name: str
    type: str
    output_shape: list[int | None]
    parameters: int


class SummaryOut(BaseModel):
    object: Literal["summary"] = "summary"
    model: str
    version: int
    inputs: int = Field(description="columns of the feature matrix after preprocessing")
    layers: list[Layer]
    parameters: int


class Rise(BaseModel):
    feature: str
    mean: float = Field(description="of the metric's rise over five shuffles")
    std: float


class ImportanceOut(BaseModel):
    """How much a model relies on each feature: how much its error rises where it is shuffled."""

    object: Literal["importance"] = "importance"
    of: MeasuredBefore = Field(None, description=OF_MEASURED)
    metric: Literal["rmse", "pinball", "log_loss"]
    rows: int = Field(description="that it was measured on")
    features: list[Rise]


class ModelList(ListOut):
    data: list[ModelOut]


class AliasOut(BaseModel):
    """A name for one version of a model, which can be moved to another."""

    id: str
    object: Literal["alias"] = "alias"
    name: str = Field(description="of the model")
    alias: str
    version: int
    ref: str
    created_at: Time
    updated_at: Time
    metadata: dict[str, str] = {}

    @classmethod
    def of(cls, row: Alias) -> "AliasOut":
        """Return a stored alias as the API shows it."""
        ref = f"{row.name}@{row.alias}"
        return cls(
            id=ref,
            name=row.name,
            alias=row.alias,
            version=row.version,
            ref=ref,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class AliasList(ListOut):
    data: list[AliasOut]
