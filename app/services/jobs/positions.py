"""Places in the queue."""

from collections.abc import Sequence

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from app.db.models import Job


def waiting_and_next(session: Session, priority: int) -> tuple[int, int]:
    """Return how many jobs are queued, and the place (from 1) of one that is queued now."""
    before = func.count().filter(Job.priority >= priority)
    waiting, ahead = session.execute(
        select(func.count(), before).where(Job.status == "queued")
    ).one()
    return waiting, ahead + 1


def position(session: Session, job: Job) -> int | None:
    """Return the job's place, 1 for the one claimed next; ``None`` where it is not queued."""
    return positions(session, [job]).get(job.id)


def positions(session: Session, jobs: Sequence[Job]) -> dict[str, int]:
    """Return the place by id of those of ``jobs`` that are queued."""
    found: dict[str, int] = {}
    queued = Job.status == "queued"
    for priority in {job.priority for job in jobs if job.status == "queued"}:
        ids = [job.id for job in jobs if job.status == "queued" and job.priority == priority]
        before = tuple_(-Job.priority, Job.id) < tuple_(-priority, min(ids))
        ahead = session.scalars(select(func.count()).select_from(Job).where(queued, before)).one()
        between = (
            select(Job.id)
            .where(queued, Job.priority == priority, Job.id.between(min(ids), max(ids)))
            .order_by(Job.id)
        )
        places = {job_id: place for place, job_id in enumerate(session.scalars(between), ahead + 1)}
        found |= {job_id: places[job_id] for job_id in ids if job_id in places}
    return found
