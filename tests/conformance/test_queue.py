"""The job table: every transition, its fence and its events, on both databases."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import migrate
from app.db.models import (
    JOB_STATUSES,
    OWNED,
    TERMINAL,
    Checkpoint,
    Job,
    JobEvent,
    ModelVersion,
)
from app.db.session import Database
from app.errors import InvalidTransition
from app.ids import new_id
from app.ml.training.events import Best, CheckpointSaved, EpochEnded, TrainEnded
from app.services.jobs import events, history, positions, queue
from app.services.jobs.queue import Claim, ClaimLost, Lease, Verb
from tests.support.jobs import add, claimed
from tests.support.soak import rounds

ENDED = TrainEnded(
    features=[],
    parameters=2,
    best=Best(epoch=0, by="last", values={}),
    test=None,
    baseline=None,
    versions={},
)


@pytest.fixture
def lease(database: Database) -> Lease | None:
    return Lease("one", 15) if database.shared else None


def in_state(database: Database, status: str) -> str:
    """A job that came into ``status`` by the transitions that lead there."""
    if status in ("queued", "cancelled", "paused"):
        with database.write() as session:
            job_id = add(session)
            if status != "queued":
                queue.transition(session, job_id, "cancel" if status == "cancelled" else "pause")
        return job_id
    claim = claimed(database)
    with database.write() as session:
        if status == "cancelling":
            queue.transition(session, claim.job_id, "cancel")
        elif status == "pausing":
            queue.transition(session, claim.job_id, "pause")
        elif status == "succeeded":
            queue.succeed(session, claim, new_id("mdl"), ENDED)
        elif status == "failed":
            queue.fail(session, claim, "diverged", "it did")
    return claim.job_id


def status_of(database: Database, job_id: str) -> str:
    with database.read() as session:
        return session.get_one(Job, job_id).status


# ---------------------------------------------------------------- what clients may ask

TABLE: dict[str, dict[Verb, tuple[int, str]]] = {
    "queued": {"cancel": (202, "cancelled"), "pause": (202, "paused"), "resume": (409, "")},
    "running": {"cancel": (202, "cancelling"), "pause": (202, "pausing"), "resume": (409, "")},
    "paused": {"cancel": (202, "cancelled"), "pause": (200, "paused"), "resume": (202, "queued")},
    "pausing": {"cancel": (202, "cancelling"), "pause": (200, "pausing"), "resume": (409, "")},
    "cancelling": {"cancel": (200, "cancelling"), "pause": (409, ""), "resume": (409, "")},
    "succeeded": {"cancel": (409, ""), "pause": (409, ""), "resume": (409, "")},
    "failed": {"cancel": (409, ""), "pause": (409, ""), "resume": (409, "")},
    "cancelled": {"cancel": (200, "cancelled"), "pause": (409, ""), "resume": (409, "")},
}


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
@pytest.mark.parametrize("status", JOB_STATUSES)
def test_the_table_of_the_contract(database: Database, status: str, verb: Verb) -> None:
    job_id = in_state(database, status)
    assert status_of(database, job_id) == status
    code, after = TABLE[status][verb]
    if code == 409:
        with pytest.raises(InvalidTransition, match=status), database.write() as session:
            queue.transition(session, job_id, verb)
        assert status_of(database, job_id) == status
        return
    with database.write() as session:
        assert queue.transition(session, job_id, verb) == (code == 202)
    assert status_of(database, job_id) == after


@pytest.mark.parametrize(
    ("asked", "given_back"), [(None, "queued"), ("pause", "paused"), ("cancel", "cancelled")]
)
def test_a_job_that_is_let_go_goes_where_its_client_asked(
    database: Database, asked: Verb | None, given_back: str
) -> None:
    claim = claimed(database)
    with database.write() as session:
        if asked:
            queue.transition(session, claim.job_id, asked)
        queue.release(session, claim, crash="SIGSEGV")
    assert status_of(database, claim.job_id) == given_back


def test_a_job_that_ends_while_it_is_to_pause_has_ended(database: Database) -> None:
    claim = claimed(database)
    with database.write() as session:
        queue.transition(session, claim.job_id, "pause")
        queue.succeed(session, claim, new_id("mdl"), ENDED)
    assert status_of(database, claim.job_id) == "succeeded"


# ---------------------------------------------------------------- claiming


def test_priority_goes_first_then_age(database: Database, lease: Lease | None) -> None:
    with database.write() as session:
        ids = [add(session, priority=priority) for priority in (0, 5, -1, 5, 0)]
        jobs = [session.get_one(Job, job_id) for job_id in ids]
        places = positions.positions(session, jobs)
        assert [places[job_id] for job_id in ids] == [3, 1, 5, 2, 4]
        assert positions.positions(session, [jobs[4], jobs[2]]) == {ids[4]: 4, ids[2]: 5}
    taken = []
    for _ in ids:
        with database.write() as session:
            claim = queue.claim(session, lease)
            assert claim is not None
            taken.append(claim.job_id)
    assert taken == [ids[1], ids[3], ids[0], ids[4], ids[2]]
    with database.write() as session:
        assert queue.claim(session, lease) is None


def test_no_job_is_claimed_twice(database: Database) -> None:
    wanted = rounds(40, 1000)
    with database.write() as session:
        for _ in range(wanted):
            add(session)
    taken: Counter[str] = Counter()

    def work(number: int) -> None:
        lease = Lease(str(number), 15) if database.shared else None
        while True:
            with database.write() as session:
                claim = queue.claim(session, lease)
            if claim is None:
                return
            taken[claim.job_id] += 1

    together([lambda number=number: work(number) for number in range(6)])
    print(f"{len(taken)} jobs claimed by 6 threads")
    assert len(taken) == wanted
    assert set(taken.values()) == {1}


def together(work: list[Any]) -> None:
    """Run all at the same time; what one raises is raised."""
    wrong: list[BaseException] = []
    start = threading.Barrier(len(work))

    def run(each: Any) -> None:
        try:
            start.wait()
            each()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=[each]) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


# ---------------------------------------------------------------- the fence


def test_an_attempt_that_is_over_writes_nothing(database: Database, lease: Lease | None) -> None:
    old = claimed(database)
    with database.write() as session:
        queue.release(session, old)
        new = queue.claim(session, lease)
    assert new is not None
    assert new.attempt == old.attempt + 1
    saved = CheckpointSaved(checkpoint_id=new_id("ckpt"), epoch=0, size_bytes=1, sha256="0")
    before = everything(database)
    late: list[Callable[[Session], None]] = [
        lambda session: queue.record(session, old, [epoch(0)], None),
        lambda session: queue.record_checkpoint(session, old, saved),
        lambda session: queue.warn(session, old, ["late"], []),
        lambda session: queue.succeed(session, old, new_id("mdl"), ENDED),
        lambda session: queue.fail(session, old, "diverged", "late"),
        lambda session: queue.release(session, old),
    ]
    for write in late:
        with pytest.raises(ClaimLost), database.write() as session:
            write(session)
        assert everything(database) == before


def epoch(number: int) -> EpochEnded:
    return EpochEnded(epoch=number, values={"train_loss": 1 / (1 + number)})


def everything(database: Database) -> list[Any]:
    with database.read() as session:
        tables = (Job, JobEvent, Checkpoint, ModelVersion)
        return [session.execute(select(table.__table__)).all() for table in tables]


def test_the_third_crash_without_a_checkpoint_between_fails_the_job(
    database: Database, lease: Lease | None
) -> None:
    claim: Claim | None = claimed(database)
    saved = CheckpointSaved(checkpoint_id=new_id("ckpt"), epoch=0, size_bytes=1, sha256="0")
    for crash in range(5):
        assert claim is not None
        with database.write() as session:
            if crash == 2:
                queue.record_checkpoint(session, claim, saved)
            queue.release(session, claim, crash=f"SIGSEGV {crash}")
            claim = queue.claim(session, lease)
    assert claim is None
    with database.read() as session:
        job = session.scalars(select(Job)).one()
        assert (job.status, job.error_code, job.attempt) == ("failed", "worker_crashed", 5)
        assert "SIGSEGV 4" in (job.error_message or "")


# ---------------------------------------------------------------- events and history


def test_every_id_is_one_event_whatever_happens(database: Database, lease: Lease | None) -> None:
    """A random walk through the table, with epochs recorded and crashes between."""
    chance = random.Random(5)
    for _ in range(rounds(10, 100)):
        with database.write() as session:
            job_id = add(session)
        walk(database, lease, job_id, chance)
        with database.read() as session:
            job = session.get_one(Job, job_id)
            told = events.read(session, job_id, 1, events.last_id(job))
            assert [event.id for event in told] == list(range(1, events.last_id(job) + 1))
            measured = [event.data["epoch"] for event in told if event.type == "metrics"]
            assert measured == list(range(job.epochs_done))
            statuses = [event.data["status"] for event in told if event.type == "status"]
            assert statuses[-1] == job.status
            assert (told[-1].type == "done") == (job.status in TERMINAL)
            for _ in range(10):  # any window is a piece of the whole
                first = chance.randint(1, len(told))
                last = chance.randint(first, len(told))
                assert events.read(session, job_id, first, last) == told[first - 1 : last]


def walk(database: Database, lease: Lease | None, job_id: str, chance: random.Random) -> None:
    claim: Claim | None = None
    for _ in range(20):
        with database.write() as session:
            job = session.get_one(Job, job_id)
            if job.status == "queued" and chance.random() < 0.7:
                claim = queue.claim(session, lease)
            elif job.status in OWNED and claim is not None:
                start = max(0, job.epochs_done - chance.randint(0, 3))  # some are replayed
                fresh = [epoch(number) for number in range(start, start + chance.randint(0, 900))]
                queue.record(session, claim, fresh, 0.1)
                if chance.random() < 0.3:
                    queue.release(session, claim)
        verb: Verb = chance.choice(["cancel", "pause", "resume", "resume", "resume", "pause"])
        if chance.random() < 0.5:
            try:
                with database.write() as session:
                    queue.transition(session, job_id, verb)
            except InvalidTransition:
                pass


def test_the_history_stays_compact_and_whole(database: Database) -> None:
    claim = claimed(database)
    chance = random.Random(1)
    done = 0
    while done < rounds(1500, 5000):
        fresh = [epoch(number) for number in range(done, done + chance.randint(1, 9))]
        with database.write() as session:
            queue.record(session, claim, fresh, 0.1)
        done += len(fresh)
    with database.read() as session:
        chunks = history.chunks(session, claim.job_id)
        epochs, values = history.read(session, claim.job_id).series["train_loss"]
        print(f"{done} epochs in {len(chunks)} chunks")
        assert len(chunks) <= 10
        assert epochs.tolist() == list(range(done))
        assert values.tolist() == [1 / (1 + number) for number in range(done)]
        after, _ = history.read(session, claim.job_id, after_epoch=1000).series["train_loss"]
        assert after.tolist() == list(range(1001, done))


# ---------------------------------------------------------------- races


def test_cancel_racing_completion(database: Database) -> None:
    """One final state each, and a model version exactly where it is ``succeeded``."""
    outcomes: Counter[str] = Counter()
    chance = random.Random()
    for _ in range(rounds(25, 1000)):
        claim = claimed(database)

        def finish(claim: Claim = claim) -> None:
            try:
                with database.write() as session:
                    queue.succeed(session, claim, new_id("mdl"), ENDED)
            except ClaimLost:
                with database.write() as session:
                    queue.release(session, claim)

        def cancel(job_id: str = claim.job_id) -> None:
            time.sleep(chance.random() * 0.0015)  # ending takes longer than asking
            try:
                with database.write() as session:
                    queue.transition(session, job_id, "cancel")
            except InvalidTransition:
                pass

        together([finish, cancel])
        outcomes[status_of(database, claim.job_id)] += 1
        with database.read() as session:
            made = select(func.count()).where(ModelVersion.job_id == claim.job_id)
            assert session.scalars(made).one() == (status_of(database, claim.job_id) == "succeeded")
            ends = select(func.count()).where(
                JobEvent.job_id == claim.job_id, JobEvent.type == "done"
            )
            assert session.scalars(ends).one() == 1
    print(f"outcomes: {dict(outcomes)}")
    assert set(outcomes) <= {"succeeded", "cancelled"}


def test_versions_of_one_name_are_given_out_once(database: Database) -> None:
    claims = [claimed(database) for _ in range(rounds(12, 100))]

    def finish(mine: list[Claim]) -> None:
        for claim in mine:
            with database.write() as session:
                queue.succeed(session, claim, new_id("mdl"), ENDED)

    together([lambda part=part: finish(claims[part::4]) for part in range(4)])
    with database.read() as session:
        versions = session.scalars(select(ModelVersion.version)).all()
    assert sorted(versions) == list(range(1, len(claims) + 1))


# ---------------------------------------------------------------- leases


def test_a_silent_worker_loses_its_jobs_and_a_live_one_keeps_them(
    postgres_database: Database,
) -> None:
    silent, alive = Lease("silent", 0.0), Lease("alive", 15)
    lost, kept = claimed(postgres_database, silent), claimed(postgres_database, alive)
    silent.held.add((lost.job_id, lost.attempt))
    alive.held.add((kept.job_id, kept.attempt))
    with postgres_database.write() as session:
        queue.renew(session, alive)
    with postgres_database.write() as session:
        assert queue.rescue(session) == [lost.job_id]
    assert status_of(postgres_database, lost.job_id) == "queued"
    assert status_of(postgres_database, kept.job_id) == "running"
    with pytest.raises(ClaimLost), postgres_database.write() as session:
        queue.record(session, lost, [epoch(0)], None)
    with postgres_database.write() as session:
        queue.renew(session, silent)  # too late: it holds nothing any more
        assert queue.rescue(session) == []
    with postgres_database.read() as session:
        job = session.get_one(Job, lost.job_id)
        assert (job.worker, job.lease_until, job.crashes) == (None, None, 0)


def test_a_claim_that_its_worker_never_heard_of_is_not_renewed(
    postgres_database: Database,
) -> None:
    lease = Lease("one", 0.0)  # the commit arrived, its answer did not
    lost = claimed(postgres_database, lease)
    known = claimed(postgres_database, lease)
    lease.held.add((known.job_id, known.attempt))
    with postgres_database.write() as session:
        queue.renew(session, replace(lease, seconds=15))
        assert queue.rescue(session) == [lost.job_id]


def test_what_is_written_twice_is_there_once(database: Database) -> None:
    """A commit whose answer was lost is repeated."""
    claim = claimed(database)
    saved = CheckpointSaved(checkpoint_id=new_id("ckpt"), epoch=0, size_bytes=1, sha256="0" * 64)
    for _ in range(2):
        with database.write() as session:
            queue.record(session, claim, [epoch(0)], None)
            queue.record_checkpoint(session, claim, saved)
    with database.read() as session:
        assert session.scalars(select(Checkpoint.id)).all() == [saved.checkpoint_id]
        assert session.get_one(Job, claim.job_id).epochs_done == 1


def test_a_rescued_job_goes_where_its_client_asked(postgres_database: Database) -> None:
    for verb, after in (("pause", "paused"), ("cancel", "cancelled")):
        claim = claimed(postgres_database, Lease("silent", 0.0))
        with postgres_database.write() as session:
            queue.transition(session, claim.job_id, verb)  # type: ignore[arg-type]
        with postgres_database.write() as session:
            assert queue.rescue(session) == [claim.job_id]
        assert status_of(postgres_database, claim.job_id) == after


def test_recover_gives_back_whatever_was_held(tmp_path: Path) -> None:
    database = Database(tmp_path / "fitserve.db")
    migrate.upgrade(database)
    before = {status: in_state(database, status) for status in JOB_STATUSES}
    with database.write() as session:
        assert len(queue.recover(session)) == 3
    after = {status: status_of(database, job_id) for status, job_id in before.items()}
    moved = {"running": "queued", "pausing": "paused", "cancelling": "cancelled"}
    assert after == {status: moved.get(status, status) for status in JOB_STATUSES}
    database.close()
