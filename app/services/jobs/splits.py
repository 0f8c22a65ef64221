"""The rows of each part of a job: shared out once, when the job is planned, and stored with it.

Jobs that are split alike share one row of ``splits``, which is named by its content. Jobs of an
older fitserve have none: theirs is made anew from the spec, which gives the same.
"""

import hashlib
from contextlib import suppress

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import Job, SplitRows
from app.errors import NotFound
from app.ml.data import preparation
from app.ml.data.splits import PARTS, Split
from app.runtime.context import Context
from app.services.datasets import datasets


def row_of(split: Split) -> SplitRows:
    """Return the row that stores a split; hashing many rows takes a while, so no lock is held."""
    content = split.to_bytes()
    return SplitRows(id=hashlib.sha256(content).hexdigest(), rows=content)


def store(session: Session, row: SplitRows) -> None:
    """Store a split unless there is one like it."""
    same = select(SplitRows.id).where(SplitRows.id == row.id)
    if session.scalars(same).first() is None:
        # else a job that is split alike was made at the same time
        with suppress(IntegrityError), session.begin_nested():
            session.add(row)


def stored(session: Session, split_id: str | None) -> bytes | None:
    """Return a stored split as ``Split.to_bytes`` gave it; ``None`` where there is none."""
    return session.scalars(select(SplitRows.rows).where(SplitRows.id == split_id)).first()


def of(context: Context, job: Job) -> Split:
    """Return the rows of each part of ``job``. Raises NotFound where its dataset is gone."""
    with context.database.read() as session:
        dataset = datasets.find(session, job.dataset_id)
        content = stored(session, job.split_id)
    if content is not None:
        return Split.from_bytes(content, job.split)
    table = datasets.read_columns(context, dataset, job.spec.planning_columns)
    return preparation.split_of(job.spec, table)


def rows_of_part(context: Context, job: Job, part: str) -> list[int]:
    """Return the row numbers of one part, in the order in which they are used. Raises NotFound."""
    if part not in PARTS:
        raise NotFound(f"a split has the parts {', '.join(PARTS)}; not '{part[:64]}'")
    rows: list[int] = getattr(of(context, job), part).tolist()
    return rows


def delete_unused(session: Session, split_id: str | None) -> None:
    """Delete a split that no job has any more."""
    if split_id is not None:
        used = select(Job.id).where(Job.split_id == split_id).exists()
        session.execute(delete(SplitRows).where(SplitRows.id == split_id, ~used))
