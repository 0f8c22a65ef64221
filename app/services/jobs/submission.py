"""New jobs: a request checked against its dataset, filled in, and queued."""

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import Dataset, Job
from app.errors import InvalidRequest, NotFound, QueueFull, ShuttingDown
from app.ids import new_id, refuse_id_as_name
from app.ml import plan as planning
from app.ml.inference import card
from app.ml.plan import Plan, Pretrained
from app.ml.specs import JobRequest, PretrainedSpec
from app.runtime.artifacts import unless_deleted
from app.runtime.context import Context
from app.services.datasets import datasets
from app.services.jobs import positions, queue, splits
from app.services.models import versions
from app.settings import memory_of_machine

_OF_TARGET = {"wrong_task", "missing_class"}
"""Codes of what is wrong with a target's values."""
QueuedJob = tuple[Job, int]
"""A new job and its place in the queue."""
OnCreate = Callable[[Session, QueuedJob], None]
"""Called with a new job and its place, in the transaction that makes it."""


def plan(context: Context, request: JobRequest) -> tuple[Dataset, Plan]:
    """Check a request against its dataset and fill it in. Raises InvalidRequest or InvalidData."""
    if request.register_as is not None:
        refuse_id_as_name(request.register_as, "/register_as")
    _require_device(request.device)
    with context.database.read() as session:
        dataset = datasets.find(session, request.dataset, "/dataset")
    try:
        needed = planning.columns_to_read(request, dataset.columns)
        table = datasets.read_columns(context, dataset, needed)
    except NotFound:
        with context.database.read() as session:
            _require_dataset(session, dataset, request)
        raise
    source = _source(context, request)
    try:
        planned = planning.plan(request, dataset.columns, dataset.rows, table, source)
    except InvalidRequest as error:
        raise _with_reading(error, dataset, request) from error
    _require_memory(planned.memory_bytes)
    concerning = _warnings_concerning(dataset, planned)
    return dataset, replace(planned, warnings=[*concerning, *planned.warnings])


def _with_reading(error: InvalidRequest, dataset: Dataset, request: JobRequest) -> InvalidRequest:
    """Return a refusal of the target with what the dataset says of how that was read, which may be
    the reason."""
    targets = [f"'{name}'" for name in request.targets]
    said = [warning for warning in dataset.warnings if any(name in warning for name in targets)]
    if not said or not any(field.code in _OF_TARGET for field in error.errors):
        return error
    first, *others = error.errors
    detail = f"{first.detail}; and its dataset says: {said[0]}"
    return InvalidRequest(detail, [replace(first, detail=detail), *others])


def _warnings_concerning(dataset: Dataset, planned: Plan) -> list[str]:
    """Return the dataset's warnings of columns that the job reads, or left out by itself, which may
    be for what they say; but for what it says itself."""
    spec = planned.spec
    left_out = [
        column["name"]
        for column in dataset.columns
        if any(f"column '{column['name']}'" in warning for warning in planned.warnings)
    ]
    names = [f"'{name[:64]}'" for name in (*spec.features, *spec.planning_columns, *left_out)]
    return [
        warning
        for warning in dataset.warnings
        if warning not in planned.warnings and any(name in warning for name in names)
    ]


def _source(context: Context, request: JobRequest) -> Pretrained | None:
    """Return the model version that a pretrained model starts from; ``None`` for other models.

    Raises InvalidRequest where there is no such version, ArtifactCorrupt where it is damaged.
    """
    if not isinstance(request.model, PretrainedSpec):
        return None
    with context.database.read() as session:
        try:
            version = versions.find(session, request.model.model)
        except NotFound as error:
            raise InvalidRequest.at("/model/model", error.detail, "unknown_model") from error
    with unless_deleted(context, "models", version.id):
        folder = context.storage.verified("models", version.id)
        return Pretrained(f"{version.name}@{version.version}", card.read(folder))


def _require_dataset(
    session: Session, dataset: Dataset, request: JobRequest, *, lock: bool = False
) -> None:
    """Raise InvalidRequest where the dataset was deleted while the job was being planned."""
    there = select(Dataset.id).where(Dataset.id == dataset.id)  # its profile may be megabytes
    if session.scalars(there.with_for_update(read=True) if lock else there).first() is None:
        raise InvalidRequest.at(
            "/dataset",
            f"the dataset '{request.dataset[:64]}' has just been deleted; choose another one",
            "unknown_dataset",
        )


def _require_device(name: str) -> None:
    if name in ("auto", "cpu"):
        return
    from app.ml.nn import devices  # imports torch

    if not devices.available(name):
        raise InvalidRequest.at("/device", f"this server has no '{name}'; use 'auto' or 'cpu'")


def _require_memory(needed_bytes: int) -> None:
    machine_bytes = memory_of_machine()
    if needed_bytes > machine_bytes:
        raise InvalidRequest.at(
            "/model",
            f"training would take {needed_bytes / 1e9:.1f} GB at least, and the machine has "
            f"{machine_bytes / 1e9:.1f} GB; use a smaller model or fewer features",
            "too_large",
        )


def dry_run(context: Context, request: JobRequest) -> Plan:
    """Return the plan of the job that ``create`` would queue. Raises as ``plan`` does."""
    return plan(context, request)[1]


def create(context: Context, request: JobRequest, on_create: OnCreate) -> Job:
    """Queue a job. Raises InvalidRequest, InvalidData, QueueFull, StorageFull or ShuttingDown.

    ``on_create`` is called with the job and its place in the transaction that makes it.
    """
    if context.stopping.is_set():
        raise ShuttingDown("the server is stopping; try again in a moment")
    context.require_room()
    dataset, planned = plan(context, request)
    rows = splits.row_of(planned.rows)
    job = Job(
        id=new_id("job"),
        spec=planned.spec,
        split=planned.split,
        split_id=rows.id,
        priority=planned.spec.priority,
        dataset_id=dataset.id,
        dataset_name=dataset.name,
        dataset_sha256=dataset.sha256,
        warnings=planned.warnings,
        metadata_=planned.spec.metadata,
    )
    with context.database.write() as session:
        _require_dataset(session, dataset, request, lock=True)
        waiting, place = positions.waiting_and_next(session, job.priority)
        if waiting >= context.settings.max_queued_jobs:
            raise QueueFull(f"{waiting} jobs are waiting already; try again when some have ended")
        splits.store(session, rows)
        queue.enqueue(session, job)
        on_create(session, (job, place))
    context.signals.queued()
    return job
