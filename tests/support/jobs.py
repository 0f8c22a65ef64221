"""Rows of the job table, for tests that need no server."""

from typing import Any

from sqlalchemy.orm import Session

from app.db.models import Job
from app.db.session import Database
from app.ids import new_id
from app.services.jobs import queue
from app.services.jobs.queue import Claim, Lease
from tests.support.workbench import line_spec

SPEC = line_spec(register_as="m")


def add(session: Session, **values: Any) -> str:
    """A queued job."""
    job = Job(
        id=new_id("job"),
        spec=SPEC,
        split={},
        dataset_id="ds",
        dataset_sha256="0",
        warnings=[],
        metadata_={},
        **values,
    )
    queue.enqueue(session, job)
    return job.id


def claimed(database: Database, lease: Lease | None = None) -> Claim:
    """A job of its own, held by a worker."""
    with database.write() as session:
        add(session)
        claim = queue.claim(session, lease or (Lease("one", 15) if database.shared else None))
    assert claim is not None
    return claim
