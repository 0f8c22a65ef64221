"""Jobs as clients see them: create, find, ask, delete; what a worker does is in ``queue``."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import TERMINAL, Checkpoint, Dataset, Job
from app.errors import (
    InvalidRequest,
    InvalidTransition,
    NotFound,
    QueueFull,
    ShuttingDown,
)
from app.ids import new_id
from app.ml import plan as planning
from app.ml.data import preparation
from app.ml.data.splits import PARTS
from app.ml.inference import card
from app.ml.plan import Plan, Source
from app.ml.specs import JobRequest, JobSpec, PretrainedSpec
from app.ml.tables.canonical import ColumnType
from app.runtime.context import Context
from app.runtime.pagination import Page, Paging, page
from app.services.datasets import datasets
from app.services.jobs import queue
from app.services.jobs.queue import Verb
from app.services.models import versions
from app.settings import memory_of_machine

Placed = tuple[Job, int]
"""A new job and its place in the queue."""
Remember = Callable[[Session, Placed], None]
"""Called in the transaction that makes a job, with it."""


def plan(context: Context, request: JobRequest) -> tuple[Dataset, Plan]:
    """Check a request against its dataset and fill it in. Raises InvalidRequest or InvalidData."""
    if request.register_as is not None:
        datasets.refuse_id_as_name(request.register_as, "/register_as")
    _require_device(request.device)
    with context.database.read() as session:
        dataset = datasets.find(session, request.dataset, "/dataset")
    known = {column["name"] for column in dataset.columns}
    present = [name for name in request.planning_columns if name in known]
    try:
        table = datasets.read_columns(context, dataset.id, present)
    except NotFound:
        with context.database.read() as session:
            _require_kept(session, dataset, request)
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


def _require_kept(
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
    datasets.require_room(context)
    dataset, ready = plan(context, request)
    job = Job(
        id=new_id("job"),
        spec=ready.spec.model_dump(mode="json"),
        split=ready.split,
        priority=ready.spec.priority,
        dataset_id=dataset.id,
        dataset_name=dataset.name,
        dataset_sha256=dataset.sha256,
        warnings=ready.warnings,
        metadata_=ready.spec.metadata,
    )
    with context.database.write() as session:
        _require_kept(session, dataset, request, lock=True)
        waiting, place = queue.outlook(session, job.priority)
        if waiting >= context.settings.max_queued_jobs:
            raise QueueFull(f"{waiting} jobs are waiting already; try again when some have ended")
        queue.enqueue(session, job)
        remember(session, (job, place))
    context.signals.queued()
    return job


def find(session: Session, job_id: str, *, lock: bool = False) -> Job:
    """By id; ``lock`` keeps it as it is until the transaction ends. Raises NotFound."""
    job = session.get(Job, job_id, with_for_update=lock)
    if job is None:
        raise NotFound(f"there is no job '{job_id[:64]}'")
    return job


def listed(
    session: Session, paging: Paging, status: str | None = None, dataset: str | None = None
) -> Page[Job]:
    """One page of jobs, of one status or dataset (id or name) where asked."""
    where = []
    if status is not None:
        where.append(Job.status == status)
    if dataset is not None:
        where.append((Job.dataset_id == dataset) | (Job.dataset_name == dataset))
    return page(session, Job, paging, *where)


def ask(context: Context, job_id: str, verb: Verb) -> tuple[Job, bool]:
    """Cancel, pause or resume; ``(job, whether that was news)``. Raises InvalidTransition."""
    with context.database.write() as session:
        find(session, job_id)
        news = queue.ask(session, job_id, verb)
        job = session.get_one(Job, job_id, populate_existing=True)
    context.signals.queued()
    context.signals.changed(job_id)
    return job, news


def delete(context: Context, job_id: str) -> None:
    """Forget a job that holds no process, its history and its checkpoints; its model stays."""
    with context.database.write() as session:
        job = find(session, job_id, lock=True)
        if job.status not in (*TERMINAL, "paused"):
            raise InvalidTransition(f"the job is {job.status}; cancel it first")
        checkpoint_ids = [row.id for row in checkpoints(session, job_id)]
        session.delete(job)
        session.flush()
        context.database.reclaim_space(session)
    for checkpoint_id in checkpoint_ids:
        context.storage.remove("checkpoints", checkpoint_id)
    context.signals.changed(job_id)


def checkpoints(session: Session, job_id: str) -> list[Checkpoint]:
    """Of one job, newest first."""
    find(session, job_id)
    found = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.id.desc())
    return list(session.scalars(found))


def checkpoint(session: Session, job_id: str, checkpoint_id: str) -> Checkpoint:
    """One of a job's checkpoints. Raises NotFound."""
    found = session.get(Checkpoint, checkpoint_id)
    if found is None or found.job_id != job_id:
        raise NotFound(f"job '{job_id[:64]}' has no checkpoint '{checkpoint_id[:64]}'")
    return found


def prune_checkpoints(session: Session, job_id: str, keep: int) -> list[str]:
    """Forget all but the newest ``keep``; returns the ids whose artifacts may go afterwards."""
    session.flush()
    old = checkpoints(session, job_id)[keep:]
    for row in old:
        session.delete(row)
    return [row.id for row in old]


def split_rows(context: Context, job_id: str, part: str) -> list[int]:
    """The row numbers of one part of a job's split, in the order they are used."""
    if part not in PARTS:
        raise NotFound(f"a split has the parts {', '.join(PARTS)}; not '{part[:64]}'")
    with context.database.read() as session:
        job = find(session, job_id)
        datasets.find(session, job.dataset_id)
    spec = JobSpec.model_validate(job.spec)
    table = datasets.read_columns(context, job.dataset_id, spec.planning_columns)
    rows: list[int] = getattr(preparation.split_of(spec, table), part).tolist()
    return rows


def features_of(context: Context, dataset_id: str, spec: dict[str, Any]) -> list[dict[str, str]]:
    """Name and type of a job's features, in order."""
    with context.database.read() as session:
        columns = datasets.find(session, dataset_id).columns
    types: dict[str, ColumnType] = {c["name"]: c["type"] for c in columns}
    return [{"name": name, "type": types[name]} for name in spec["features"]]
