"""Jobs as clients see them: found, listed, moved on, deleted; a worker's side is in ``queue``."""

from sqlalchemy import JSON, type_coerce
from sqlalchemy.orm import Session

from app.db.models import TERMINAL, Job
from app.errors import InvalidTransition, NotFound
from app.runtime.context import Context
from app.runtime.pagination import Page, Paging, page
from app.runtime.room import frees_room
from app.services.jobs import checkpoints, queue, splits
from app.services.jobs.queue import Verb


def find(session: Session, job_id: str, *, lock: bool = False) -> Job:
    """Return the job of this id. Raises NotFound.

    With ``lock`` nobody else changes it until the transaction ends.
    """
    job = session.get(Job, job_id, with_for_update=lock)
    if job is None:
        raise NotFound(f"there is no job '{job_id[:64]}'")
    return job


def listed(
    session: Session,
    paging: Paging,
    status: str | None = None,
    dataset: str | None = None,
    model: str | None = None,
) -> Page[Job]:
    """Return one page of jobs: of one status, one dataset (its id or name), or one model's name."""
    where = []
    if status is not None:
        where.append(Job.status == status)
    if dataset is not None:
        where.append((Job.dataset_id == dataset) | (Job.dataset_name == dataset))
    if model is not None:
        named = type_coerce(Job.spec, JSON)["register_as"].as_string()
        where.append((Job.model_name == model) | (named == model) | (Job.id == model))
    return page(session, Job, paging, *where)


@frees_room
def transition(context: Context, job_id: str, verb: Verb) -> tuple[Job, bool]:
    """Cancel, pause or resume a job; return it, and whether its status changed.

    Raises NotFound or InvalidTransition.
    """
    with context.database.write() as session:
        find(session, job_id)
        changed = queue.transition(session, job_id, verb)
        job = session.get_one(Job, job_id, populate_existing=True)
    context.signals.queued()
    context.signals.changed(job_id)
    return job, changed


@frees_room
def delete(context: Context, job_id: str) -> None:
    """Delete a job with its history and its checkpoints; its models stay.

    Raises NotFound, or InvalidTransition for a job that is waiting or being trained.
    """
    with context.database.write() as session:
        job = find(session, job_id, lock=True)
        if job.status not in (*TERMINAL, "paused"):
            raise InvalidTransition(f"the job is {job.status}; cancel it first")
        checkpoint_ids = [row.id for row in checkpoints.listed(session, job_id)]
        session.delete(job)
        session.flush()
        splits.delete_unused(session, job.split_id)
        context.database.reclaim_space(session)
    for checkpoint_id in checkpoint_ids:
        context.storage.remove("checkpoints", checkpoint_id)
    context.signals.changed(job_id)
