"""The task that a training is given and the events that it yields; both cross a pipe as JSON."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.ml.column_types.notations.notation import AS_FOUND, CellOptions, Notation
from app.ml.features.preprocessing import Decision
from app.ml.finite import Metrics
from app.ml.inference.card import TrainedOn
from app.ml.inference.confidence import Confidence
from app.ml.inference.conformal import Coverage
from app.ml.inference.explanations import Importance
from app.ml.specs import JobSpec

StopReason = Literal["cancel", "pause", "shutdown"]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class TrainTask(_Message):
    """One job for a training process: specs and ids, no handles."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    root: Path
    """The data directory, with the dataset and for the artifacts."""
    dataset_id: str
    dataset_sha256: str | None = None
    """Of its table, as the dataset's row has it; ``None``: what the manifest says."""
    model_id: str
    """The id under which the finished model is published."""
    spec: JobSpec
    split: bytes | None = None
    """The rows of each part as ``Split.to_bytes`` gives them; ``None``: shared out anew."""
    split_counts: dict[str, int] = {}
    """How many rows each part has."""
    notations: dict[str, Notation] = {}
    """How the dataset's columns were written, for what the model is to predict."""
    left_out: list[str] = []
    """Columns that the dataset's source had and the dataset has not."""
    texts: list[str] = []
    """Columns that hold sentences rather than labels."""
    cells: CellOptions = AS_FOUND
    """What its cells were said to mean, for the same."""
    source: str | None = None
    """The id of the model that a pretrained one starts from."""
    checkpoints: tuple[str, ...] = ()
    """Ids of earlier attempts' checkpoints, newest first; training goes on from the first that is
    whole."""


class DataRead(_Message):
    """The rows were read, and there are warnings about them."""

    type: Literal["data"] = "data"
    warnings: list[str]


class CheckpointDamaged(_Message):
    """A checkpoint could not be gone on from; an older one or the beginning is taken."""

    type: Literal["damaged"] = "damaged"
    message: str


class EpochEnded(_Message):
    """An epoch, counted from 0, has ended, with its losses, metrics and learning rate by name."""

    type: Literal["epoch"] = "epoch"
    epoch: int
    values: dict[str, float]


class CheckpointBegun(_Message):
    """A checkpoint is about to be published: it may be there even where nothing more is heard."""

    type: Literal["begun"] = "begun"
    checkpoint_id: str


class CheckpointSaved(_Message):
    """A checkpoint was published to storage; size and hex SHA-256 are those of its weights."""

    type: Literal["checkpoint"] = "checkpoint"
    checkpoint_id: str
    epoch: int
    size_bytes: int
    sha256: str


class Best(_Message):
    """The epoch with the best weights, counted from 0, and its losses and metrics."""

    epoch: int
    by: str
    """The series whose lowest value it has, or ``last``."""
    values: dict[str, float]


class TrainEnded(_Message):
    """Training went to its end and the model was published."""

    type: Literal["ended"] = "ended"
    features: list[dict[str, str]]
    """Name and type of each, in order."""
    decision: Decision | None = None
    """How the model of a classification answers."""
    coverage: list[Coverage] = []
    """How often intervals, or sets of classes, held what was true on the test part."""
    importance: Importance | None = None
    """How much the model relies on each feature."""
    confidence: Confidence | None = None
    """Between which values the metrics on the test part lie."""
    trained_on: TrainedOn = "train"
    """``all``: what was measured is of the model before it was trained once more, on all rows."""
    parameters: int
    """Numbers in the module, frozen ones too."""
    best: Best | None
    """``None`` where no epoch was asked for."""
    test: Metrics | None
    """Metrics on the test part; ``None`` where it has no rows."""
    baseline: Metrics | None
    """The same of a constant prediction."""
    warnings: list[str] = []
    versions: dict[str, str]
    """Of the libraries that trained it, by name."""


class TrainStopped(_Message):
    """Training stopped because it was asked to."""

    type: Literal["stopped"] = "stopped"
    reason: StopReason


class TrainFailed(_Message):
    """Training raised; ``code`` is one of a job's error codes in the API."""

    type: Literal["failed"] = "failed"
    code: str
    message: str


Event = Annotated[
    DataRead
    | CheckpointDamaged
    | EpochEnded
    | CheckpointBegun
    | CheckpointSaved
    | TrainEnded
    | TrainStopped
    | TrainFailed,
    Field(discriminator="type"),
]
EVENTS: TypeAdapter[list[Event]] = TypeAdapter(
    list[Event],
    # losses may be NaN or infinite, and must arrive as what they are
    config=ConfigDict(ser_json_inf_nan="constants"),
)
