"""The events of a job: changes of its status, every epoch, and its end; ids rise without a gap.

Changes are rows; epochs are the history. An id that is no row is an epoch, in order, so a page of
events is a window of ids whatever lies in it, and nothing is stored twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.models import Job, JobEvent
from app.errors import NotFound
from app.ml.finite import finite
from app.runtime.pagination import Paging
from app.services.jobs import history, jobs


@dataclass(frozen=True)
class Event:
    """One event; its ``type`` is ``status``, ``metrics`` (one epoch), ``warning`` or ``done``."""

    id: int
    type: str
    data: dict[str, Any]
    created_at: datetime


def last_id(job: Job) -> int:
    """Return the id of the job's newest event."""
    return job.changes + job.epochs_done


def read(session: Session, job_id: str, first: int, last: int) -> list[Event]:
    """Return the events with ids from ``first`` to ``last``, both included, in order."""
    mine = JobEvent.job_id == job_id
    changes = session.scalars(
        select(JobEvent).where(mine, JobEvent.id.between(first, last)).order_by(JobEvent.id)
    ).all()
    before = select(func.count()).select_from(JobEvent).where(mine, JobEvent.id < first)
    epoch = first - 1 - session.scalars(before).one()
    epochs = last - first + 1 - len(changes)
    events = [Event(row.id, row.type, row.data, row.created_at) for row in changes]
    taken = {row.id for row in changes}
    free = (number for number in range(first, last + 1) if number not in taken)
    measured = _epochs(session, job_id, epoch, epoch + epochs) if epochs else iter(())
    for number, (data, when) in zip(free, measured, strict=True):
        events.append(Event(number, "metrics", data, when))
    return sorted(events, key=lambda event: event.id)


def _epochs(
    session: Session, job_id: str, first: int, end: int
) -> Iterator[tuple[dict[str, Any], datetime]]:
    """Yield values and time of each epoch from ``first`` up to ``end``, which is not included."""
    for chunk in history.chunks(session, job_id, first - 1, end):
        start = max(0, first - chunk.first_epoch)
        columns = chunk.values[:, start : end - chunk.first_epoch].T.tolist()
        for place, values in enumerate(columns, start):
            known = dict(zip(chunk.names, map(finite, values), strict=True))
            yield {"epoch": chunk.first_epoch + place, **known}, chunk.recorded_at(place)


def listed(session: Session, job_id: str, paging: Paging) -> tuple[list[Event], bool]:
    """Return one page of a job's events, and whether there are more.

    Raises NotFound for an unknown job or ``after``.
    """
    end = last_id(jobs.find(session, job_id))
    after = None
    if paging.after is not None:
        after = int(paging.after) if paging.after.isdecimal() and len(paging.after) < 16 else 0
        if not 1 <= after <= end:
            raise NotFound(f"there is no event '{paging.after[:64]}' to continue after")
    if paging.order == "asc":
        first = 1 if after is None else after + 1
        last = min(end, first + paging.limit - 1)
        return read(session, job_id, first, last), last < end
    last = end if after is None else after - 1
    first = max(1, last - paging.limit + 1)
    return read(session, job_id, first, last)[::-1], first > 1
