"""Jobs as clients see them: find, ask, delete; what a worker does is in ``queue``."""

from sqlalchemy.orm import Session

from app.db.models import TERMINAL, Job
from app.errors import InvalidTransition, NotFound
from app.runtime.context import Context
from app.runtime.pagination import Page, Paging, page
from app.services.jobs import checkpoints, queue, splits
from app.services.jobs.queue import Verb


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
        checkpoint_ids = [row.id for row in checkpoints.listed(session, job_id)]
        session.delete(job)
        session.flush()
        splits.forget_unused(session, job.split_id)
        context.database.reclaim_space(session)
    for checkpoint_id in checkpoint_ids:
        context.storage.remove("checkpoints", checkpoint_id)
    context.signals.changed(job_id)
