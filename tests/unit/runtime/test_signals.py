"""The mark by which a cache of references knows that none of them names another version by now."""

import threading
import time
from pathlib import Path

import pytest

from app.db.models import Job
from app.db.session import Database
from app.errors import NotFound, PreconditionFailed
from app.executors.parsers import Parsers
from app.ids import new_id
from app.runtime.context import Context
from app.runtime.pagination import Paging
from app.runtime.postgres_signals import PostgresSignals
from app.runtime.signals import Signals
from app.services.jobs import queue
from app.services.models import aliases, versions
from app.services.models.aliases import Condition
from app.services.models.versions import Result
from app.settings import load_settings
from app.storage import Storage
from tests.support.postgres import Postgres
from tests.support.server import PATIENCE
from tests.support.workbench import line_spec

ALWAYS = Condition()
VERSIONS = 40


@pytest.fixture
def context(database: Database, tmp_path: Path) -> Context:
    """With one job and many versions of ``m``, as its checkpoints may have made them."""
    settings, storage = load_settings(data_dir=tmp_path), Storage(tmp_path)
    storage.prepare()
    spec = line_spec()
    job = Job(id=new_id("job"), spec=spec, split={}, dataset_id="ds", dataset_sha256="0")
    job.warnings, job.metadata_ = [], {}
    with database.write() as session:
        queue.enqueue(session, job)
        for _ in range(VERSIONS):
            best = {"best": {"epoch": 0}}
            versions.register(
                session, versions.Origin.of(job), "m", Result(new_id("mdl"), [], best, 2, {})
            )
    parsers = Parsers(settings.parse_memory_bytes, settings.parse_seconds)
    return Context(settings, storage, database, parsers)


def test_it_changes_with_every_change_and_no_look(context: Context) -> None:
    signals = context.signals
    marks = [signals.models_mark]
    assert signals.models_mark == marks[0]
    aliases.put(context, "m", "a", 1, ALWAYS)
    marks.append(signals.models_mark)
    aliases.put(context, "m", "a", 2, ALWAYS)
    marks.append(signals.models_mark)
    versions.delete(context, "m@3")
    marks.append(signals.models_mark)
    aliases.delete(context, "m", "a", ALWAYS)
    marks.append(signals.models_mark)
    assert len(set(marks)) == len(marks)
    with context.database.read() as session:
        assert versions.find(session, "m").version == VERSIONS
        assert aliases.listed(session, "m", Paging()).rows == []
    assert signals.models_mark == marks[-1]


def test_a_change_that_failed_may_have_happened(context: Context) -> None:
    before = context.signals.models_mark
    with pytest.raises(PreconditionFailed):
        aliases.put(context, "m", "a", 1, Condition(match=frozenset("*")))
    with pytest.raises(NotFound):
        versions.delete(context, "nobody")
    assert context.signals.models_mark != before


def test_no_two_are_the_same_while_a_change_is_being_made() -> None:
    signals = Signals()
    before = signals.models_mark
    with signals.models_changing():
        during = [signals.models_mark for _ in range(3)]
        with signals.models_changing():
            during.append(signals.models_mark)
        during.append(signals.models_mark)
    after = signals.models_mark
    assert len({before, *during, after}) == 2 + len(during)
    assert signals.models_mark == after


class Cache:
    """What ``m@moved`` names, looked up again where the mark is another."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept = (-1, 0)

    def look(self) -> int:
        with self._context.database.read() as session:
            return versions.find(session, "m@moved").version

    def get(self) -> int:
        mark = self._context.signals.models_mark
        kept = self._kept
        if kept[0] != mark:
            kept = self._kept = (mark, self.look())
        return kept[1]


def test_what_is_kept_under_a_mark_is_never_older_than_what_was_seen(context: Context) -> None:
    aliases.put(context, "m", "moved", 1, ALWAYS)
    cache, done = Cache(context), threading.Event()

    def fill() -> None:
        while not done.is_set():
            cache.get()

    def move() -> None:
        for version in range(2, VERSIONS + 1):
            aliases.put(context, "m", "moved", version, ALWAYS)
        done.set()

    threads = [threading.Thread(target=fill), threading.Thread(target=move)]
    for thread in threads:
        thread.start()
    looks = older = 0
    while not done.is_set() and threads[1].is_alive():
        seen = cache.look()
        older += cache.get() < seen
        looks += 1
    done.set()
    for thread in threads:
        thread.join()
    print(f"{looks} looks, {older} of something older")
    assert older == 0
    assert cache.get() == cache.look() == VERSIONS


def test_it_changes_in_other_processes_too(postgres: Postgres) -> None:
    url = postgres.database()
    one, other = PostgresSignals(url), PostgresSignals(url)
    for relay in (one, other):
        relay.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while other.models_mark == 0:  # it listens, and takes it that something was missed
            assert time.monotonic() < deadline
            time.sleep(0.01)
        before = other.models_mark
        one.models_changed()
        while other.models_mark == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        for relay in (one, other):
            relay.close()
    postgres.drop(url)
