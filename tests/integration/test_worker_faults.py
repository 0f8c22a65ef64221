"""The database is away at the very moment at which a job has been trained."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.db import migrate
from app.db.models import TERMINAL, Job
from app.db.session import Database
from app.errors import Unavailable
from app.executors.local import LocalExecutor, LocalHandle
from app.executors.parsers import Parsers
from app.ml.specs import JobRequest
from app.ml.tables import json_rows
from app.ml.training.events import Event, TrainEnded
from app.runtime.context import Context
from app.services.datasets import creation
from app.services.jobs import jobs, submission
from app.settings import load_settings
from app.storage import Storage
from app.worker.slots import Worker
from tests.support.server import LINE_JOB, PATIENCE
from tests.support.soak import soak_only


class Flaky(Database):
    """Reads are refused from when ``away`` is set, and the first write after it too."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.away = threading.Event()
        self.refused: list[str] = []

    @contextmanager
    def read(self) -> Iterator[Session]:
        if self.away.is_set():
            self.refused.append("read")
            raise Unavailable("the database cannot be used now: it is away")
        with super().read() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        if self.away.is_set() and "write" not in self.refused:
            self.refused.append("write")
            raise Unavailable("the database cannot be used now: it is away")
        with super().write() as session:
            yield session


@soak_only
def test_a_finished_job_is_not_given_back_for_want_of_a_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(data_dir=tmp_path, max_parallel_jobs=1)
    storage, database = Storage(tmp_path), Flaky(tmp_path / "fitserve.db")
    storage.prepare()
    migrate.upgrade(database)
    parsers = Parsers(settings.parse_memory_bytes, settings.parse_seconds)
    context = Context(settings, storage, database, parsers)
    events = LocalHandle.events

    def watched(self: LocalHandle, timeout: float) -> list[Event] | None:
        found = events(self, timeout)
        if any(isinstance(event, TrainEnded) for event in found or ()):
            database.away.set()
        return found

    monkeypatch.setattr(LocalHandle, "events", watched)
    points = [i / 50 for i in range(50)]
    table = json_rows.from_columns({"x": points, "y": points}, {})
    creation.create(context, table, creation.Naming("line"))
    executor = LocalExecutor()
    worker = Worker(context, executor)
    worker.start()
    job = submission.create(context, JobRequest.model_validate(LINE_JOB), lambda *_: None)
    ended = until_ended(database, job.id)
    context.stopping.set()
    worker.stop(5)
    executor.close()
    parsers.close()
    assert "write" in database.refused, "nothing was tested"
    assert (ended.status, ended.attempt, ended.crashes) == ("succeeded", 1, 0)
    database.close()


def until_ended(database: Flaky, job_id: str) -> Job:
    """The job once it is over; looked at past the fault."""
    wait: Any = threading.Event().wait
    for _ in range(int(PATIENCE / 0.05)):
        with Database.read(database) as session:
            job = jobs.find(session, job_id)
            session.expunge(job)
        if job.status in TERMINAL or job.attempt > 1:
            return job
        wait(0.05)
    raise AssertionError(job.status)
