"""Jobs as the API shows them, with their events, loss history, split and checkpoints."""

from typing import Any, Literal, cast

from pydantic import BaseModel, Field

from app.api.schemas.common import LOSS_UNIT, OF_MEASURED, ListOut, Number, Time
from app.api.schemas.datasets import DatasetRef
from app.api.schemas.models import ModelRef, SplitCounts
from app.db.models import Checkpoint, Job, JobStatus
from app.ml.inference.card import MeasuredBefore
from app.ml.plan import Plan
from app.ml.specs import JobSpec, LossUnit
from app.services.jobs.events import Event


class Progress(BaseModel):
    epoch: int = Field(description="epochs that have ended")
    epochs: int
    fraction: float = Field(description="of the job; the second half is its refit, if it has one")
    eta_seconds: float | None = Field(
        description="at the pace of this attempt; early stopping may end it sooner; "
        "null where nothing is known yet"
    )


class JobMetrics(BaseModel):
    last: dict[str, Number] | None
    best: dict[str, Number | str] | None = Field(
        description="`epoch`, `by` (the series whose lowest value it has, or `last`) and its values"
    )
    test: dict[str, Number] | None
    baseline: dict[str, Number] | None
    of: MeasuredBefore = Field(None, description=OF_MEASURED)
    loss_unit: LossUnit | None = Field(description=LOSS_UNIT)


JobErrorCode = Literal[
    "diverged",
    "out_of_memory",
    "time_limit",
    "worker_crashed",
    "storage_full",
    "invalid_data",
    "artifact_corrupt",
    "internal_error",
]


class JobError(BaseModel):
    code: JobErrorCode
    message: str


class JobOut(BaseModel):
    """A training job."""

    id: str
    object: Literal["job"] = "job"
    status: JobStatus
    dataset: DatasetRef
    spec: JobSpec = Field(description="every field, filled in")
    progress: Progress
    metrics: JobMetrics
    model: ModelRef | None
    warnings: list[str]
    error: JobError | None
    attempt: int
    queue_position: int | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    metadata: dict[str, str]

    @classmethod
    def of(cls, row: Job, queue_position: int | None = None) -> "JobOut":
        """Return a stored job as the API shows it, with its place in the queue if it has one."""
        model = None
        if row.model_name is not None and row.model_version is not None:
            ref = f"{row.model_name}@{row.model_version}"
            model = ModelRef(name=row.model_name, version=row.model_version, ref=ref)
        error = None
        if row.error_code is not None:
            error = JobError(
                code=cast(JobErrorCode, row.error_code), message=row.error_message or ""
            )
        return cls(
            id=row.id,
            status=row.status,
            dataset=DatasetRef(id=row.dataset_id, name=row.dataset_name),
            spec=row.spec,
            progress=_progress(row),
            metrics=JobMetrics(
                last=row.last,
                best=row.best,
                test=row.test,
                baseline=row.baseline,
                of="before_refit" if row.test and row.spec.refit else None,
                loss_unit=row.spec.loss_unit,
            ),
            model=model,
            warnings=row.warnings,
            error=error,
            attempt=row.attempt,
            queue_position=queue_position,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            metadata=row.metadata_,
        )


def _progress(row: Job) -> Progress:
    """Return how far a job is; one that stopped early is all the way."""
    epochs = row.spec.epochs
    if row.status == "succeeded":
        return Progress(epoch=row.epochs_done, epochs=epochs, fraction=1.0, eta_seconds=0.0)
    eta = None
    total = epochs * (2 if row.spec.refit else 1)  # a refit takes as many again, and tells none
    if row.status == "running" and row.seconds_per_epoch is not None:
        eta = round(row.seconds_per_epoch * (total - row.epochs_done), 3)
    fraction = row.epochs_done / total if total else 0.0
    return Progress(epoch=row.epochs_done, epochs=epochs, fraction=fraction, eta_seconds=eta)


class JobList(ListOut):
    data: list[JobOut]


class PlanOut(BaseModel):
    """What a dry run found."""

    valid: Literal[True] = True
    spec: JobSpec
    split: SplitCounts
    parameters: int
    memory_bytes: int
    warnings: list[str]

    @classmethod
    def of(cls, plan: Plan) -> "PlanOut":
        """Return what planning a job found."""
        return cls(
            spec=plan.spec,
            split=SplitCounts(**plan.split),
            parameters=plan.parameters,
            memory_bytes=plan.memory_bytes,
            warnings=plan.warnings,
        )


class SplitOut(BaseModel):
    object: Literal["split"] = "split"
    train: int
    validation: int
    test: int


class EventOut(BaseModel):
    """A change of a job's status, an epoch, or its end."""

    id: int = Field(description="rises by one with every event of the job")
    object: Literal["event"] = "event"
    type: Literal["status", "metrics", "warning", "done"]
    job: str
    data: dict[str, Any]
    created_at: Time
    metadata: dict[str, str] = {}

    @classmethod
    def of(cls, job_id: str, event: Event) -> "EventOut":
        """Return an event of a job as the API shows it."""
        kind = cast(Literal["status", "metrics", "warning", "done"], event.type)
        return cls(id=event.id, type=kind, job=job_id, data=event.data, created_at=event.created_at)


class EventList(ListOut):
    data: list[EventOut]


class SeriesOut(BaseModel):
    epoch: list[int]
    value: list[float | None]


class Nonfinite(BaseModel):
    epoch: int
    name: str
    kind: Literal["nan", "inf", "-inf"]


class MetricsOut(BaseModel):
    """The loss history."""

    object: Literal["metrics"] = "metrics"
    series: dict[str, SeriesOut]
    nonfinite: list[Nonfinite]
    loss_unit: LossUnit | None = Field(description=LOSS_UNIT)


class CheckpointOut(BaseModel):
    id: str
    object: Literal["checkpoint"] = "checkpoint"
    job: str
    epoch: int
    size_bytes: int
    sha256: str
    created_at: Time
    metadata: dict[str, str] = {}

    @classmethod
    def of(cls, row: Checkpoint) -> "CheckpointOut":
        """Return a stored checkpoint as the API shows it."""
        return cls(
            id=row.id,
            job=row.job_id,
            epoch=row.epoch,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            created_at=row.created_at,
        )


class CheckpointList(ListOut):
    data: list[CheckpointOut]
