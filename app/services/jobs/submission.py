"""New jobs: a request checked against its dataset, filled in, and queued."""

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import Dataset, Job
from app.errors import InvalidRequest, NotFound, QueueFull, ShuttingDown
from app.ids import new_id, refuse_id_as_name
from app.ml import plan as planning
from app.ml.inference import card
from app.ml.plan import Plan, Source
from app.ml.specs import JobRequest, PretrainedSpec
from app.runtime.context import Context
from app.services.datasets import datasets
from app.services.jobs import positions, queue, splits
from app.services.models import versions
from app.settings import memory_of_machine

Placed = tuple[Job, int]
"""A new job and its place in the queue."""
Remember = Callable[[Session, Placed], None]
"""Called in the transaction that makes a job, with it."""


def plan(context: Context, request: JobRequest) -> tuple[Dataset, Plan]:
    """Check a request against its dataset and fill it in. Raises InvalidRequest or InvalidData."""
    if request.register_as is not None:
        refuse_id_as_name(request.register_as, "/register_as")
    _require_device(request.device)
    with context.database.read() as session:
        dataset = datasets.find(session, request.dataset, "/dataset")
    known = {column["name"] for column in dataset.columns}
    present = [name for name in request.planning_columns if name in known]
    try:
        table = datasets.read_columns(context, dataset.id, present)
    except NotFound:
        with context.database.read() as session:
            _require_dataset(session, dataset, request)
        raise
    source = _source(context, request)
    ready = planning.plan(request, dataset.columns, dataset.rows, table, source)
    _require_memory(ready.memory_bytes)
    return dataset, ready


def _source(context: Context, request: JobRequest) -> Source | None:
    """The model version that a pretrained model starts from."""
    if not isinstance(request.model, PretrainedSpec):
        return None
    with context.database.read() as session:
        try:
            version = versions.find(session, request.model.model)
        except NotFound as error:
            raise InvalidRequest.at("/model/model", error.detail, "unknown_model") from error
    folder = context.storage.verified("models", version.id)
    return Source(f"{version.name}@{version.version}", card.read(folder))


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


def _require_memory(wanted: int) -> None:
    there_is = memory_of_machine()
    if wanted > there_is:
        raise InvalidRequest.at(
            "/model",
            f"training would take {wanted / 1e9:.1f} GB at least, and the machine has "
            f"{there_is / 1e9:.1f} GB; use a smaller model or fewer features",
            "too_large",
        )


def dry_run(context: Context, request: JobRequest) -> Plan:
    """What ``create`` would make, without making it."""
    return plan(context, request)[1]


def create(context: Context, request: JobRequest, remember: Remember) -> Job:
    """Queue a job. Raises InvalidRequest, InvalidData, QueueFull, StorageFull or ShuttingDown.

    ``remember`` is given the job and its place in the transaction that makes it.
    """
    if context.stopping.is_set():
        raise ShuttingDown("the server is stopping; try again in a moment")
    context.require_room()
    dataset, ready = plan(context, request)
    job = Job(
        id=new_id("job"),
        spec=ready.spec,
        split=ready.split,
        priority=ready.spec.priority,
        dataset_id=dataset.id,
        dataset_name=dataset.name,
        dataset_sha256=dataset.sha256,
        warnings=ready.warnings,
        metadata_=ready.spec.metadata,
    )
    with context.database.write() as session:
        _require_dataset(session, dataset, request, lock=True)
        waiting, place = positions.outlook(session, job.priority)
        if waiting >= context.settings.max_queued_jobs:
            raise QueueFull(f"{waiting} jobs are waiting already; try again when some have ended")
        job.split_id = splits.store(session, ready.rows)
        queue.enqueue(session, job)
        remember(session, (job, place))
    context.signals.queued()
    return job
