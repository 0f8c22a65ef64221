"""The checkpoints of a job; their weights are artifacts of the same id."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import Checkpoint
from app.errors import NotFound
from app.runtime.pagination import Page, Paging, page


def listed(session: Session, job_id: str) -> list[Checkpoint]:
    """Return the job's checkpoints, newest first; none where there is no such job."""
    found = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.id.desc())
    return list(session.scalars(found))


def page_of(session: Session, job_id: str, paging: Paging) -> Page[Checkpoint]:
    """Return one page of the job's checkpoints. Raises NotFound for an unknown ``after``."""
    return page(
        session,
        Checkpoint,
        paging,
        Checkpoint.job_id == job_id,
        find=lambda after: find(session, job_id, after),
    )


def find(session: Session, job_id: str, checkpoint_id: str) -> Checkpoint:
    """Return one of a job's checkpoints. Raises NotFound, also for one of another job."""
    found = session.get(Checkpoint, checkpoint_id)
    if found is None or found.job_id != job_id:
        raise NotFound(f"job '{job_id[:64]}' has no checkpoint '{checkpoint_id[:64]}'")
    return found


def prune(session: Session, job_id: str, keep: int) -> list[str]:
    """Delete the rows of all but the newest ``keep``; return their ids, to remove artifacts."""
    session.flush()
    old = listed(session, job_id)[keep:]
    for row in old:
        session.delete(row)
    return [row.id for row in old]
