"""What training tells while it runs; plain data that crosses a pipe as JSON."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.ml.finite import Metrics
from app.ml.specs import JobSpec

StopReason = Literal["cancel", "pause", "shutdown"]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class TrainTask(_Message):
    """One job for a training process: specs and ids, no handles."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    root: Path
    """Of the storage that holds the dataset and takes the artifacts."""
    dataset_id: str
    model_id: str
    """The name under which the finished model is published."""
    spec: JobSpec
    split: bytes | None = None
    """The rows of each part as ``Split.to_bytes`` gives them; left out: shared out anew."""
    split_counts: dict[str, int] = {}
    source: str | None = None
    """The model whose weights a pretrained one starts from."""
    checkpoints: tuple[str, ...] = ()
    """Of earlier attempts, newest first; training goes on from the first that is whole."""


class DataRead(_Message):
    """The rows were read, and something about them should be known."""

    type: Literal["data"] = "data"
    warnings: list[str]


class EpochEnded(_Message):
    """Losses of one epoch, counted from 0."""

    type: Literal["epoch"] = "epoch"
    epoch: int
    values: dict[str, float]


class CheckpointSaved(_Message):
    """A checkpoint was published to storage."""

    type: Literal["checkpoint"] = "checkpoint"
    checkpoint_id: str
    epoch: int
    size_bytes: int
    sha256: str


class Best(_Message):
    """The epoch whose weights were kept."""

    epoch: int
    values: dict[str, float]


class TrainEnded(_Message):
    """Training went to its end and the model was published."""

    type: Literal["ended"] = "ended"
    features: list[dict[str, str]]
    """Name and type of each, in order."""
    parameters: int
    best: Best
    test: Metrics | None
    baseline: Metrics | None
    warnings: list[str] = []
    versions: dict[str, str]
    """Of the libraries that trained it."""


class TrainStopped(_Message):
    """Training stopped because it was asked to."""

    type: Literal["stopped"] = "stopped"
    reason: StopReason


class TrainFailed(_Message):
    """Training raised; ``code`` is one of the contract's job error codes."""

    type: Literal["failed"] = "failed"
    code: str
    message: str


Event = Annotated[
    DataRead | EpochEnded | CheckpointSaved | TrainEnded | TrainStopped | TrainFailed,
    Field(discriminator="type"),
]
EVENTS: TypeAdapter[list[Event]] = TypeAdapter(
    list[Event],
    # losses may be NaN or infinite, and must arrive as what they are
    config=ConfigDict(ser_json_inf_nan="constants"),
)
