"""The only writer of ``Job.status``.

Every transition is one conditional UPDATE that names the states it may start from and, for the
worker's own, the attempt it was claimed with. Zero rows means that somebody else owns the job now:
the caller stops and writes nothing. Each writes its event in the same transaction.

::

    queued ──claim──▶ running ──succeed, fail──▶ succeeded │ failed
      ▲                 │  │
      │  ◀───release────┘  ├──pause──▶ pausing ───release───▶ paused   (or its own end)
      └──────resume────────┼──────────────────────────────────┘
                           └──cancel──▶ cancelling ──release, fail──▶ cancelled

``queued``, ``paused`` and ``pausing`` can be cancelled too, and a queued job can be paused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Interval,
    Row,
    String,
    case,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from app.db.models import (
    OWNED,
    TERMINAL,
    Checkpoint,
    Job,
    JobEvent,
    JobStatus,
    UTCDateTime,
    now,
)
from app.errors import InvalidTransition
from app.ml.finite import finite_values
from app.ml.specs import JobSpec
from app.ml.training.events import CheckpointSaved, EpochEnded, TrainEnded
from app.services.jobs import history
from app.services.models import versions

CRASHES_ALLOWED = 3
"""Unplanned ends of a job's process, without a checkpoint in between, at which the job fails."""
Verb = Literal["cancel", "pause", "resume"]
"""What a client can ask of a job."""

_REQUESTED: dict[Verb, dict[JobStatus, JobStatus]] = {
    "cancel": {
        "queued": "cancelled",
        "running": "cancelling",
        "paused": "cancelled",
        "pausing": "cancelling",
    },
    "pause": {"queued": "paused", "running": "pausing"},
    "resume": {"paused": "queued"},
}
"""The state that a verb leads to from each state in which it can be asked."""
_ALREADY_REQUESTED: dict[Verb, tuple[JobStatus, ...]] = {
    "cancel": ("cancelling", "cancelled"),
    "pause": ("pausing", "paused"),
    "resume": (),
}
_RELEASED: dict[JobStatus, JobStatus] = {
    "running": "queued",
    "pausing": "paused",
    "cancelling": "cancelled",
}
"""The state that a job goes to when its worker lets go of it."""
_PARTICIPLES: dict[Verb, str] = {"cancel": "cancelled", "pause": "paused", "resume": "resumed"}
_NO_WORKER: dict[str, Any] = {"worker": None, "lease_until": None}
_DATABASE_CLOCK = func.clock_timestamp(type_=UTCDateTime)
"""The database's time; only Postgres is asked for it."""


class ClaimLost(Exception):
    """The job has moved on, or another attempt has it; stop and write nothing."""


@dataclass(frozen=True)
class Lease:
    """Who claims jobs where workers share a database, and for how long without a sign of life."""

    worker: str
    seconds: float
    held: set[tuple[str, int]] = field(default_factory=set)
    """Id and attempt of each job that the worker runs. A claim whose commit was lost on the way to
    it is not among them: nobody renews that, and it is rescued."""

    @property
    def until(self) -> ColumnElement[Any]:
        """When a claim or renewal of this moment ends, by the database's clock."""
        return _DATABASE_CLOCK + literal(timedelta(seconds=self.seconds), Interval())


@dataclass(frozen=True)
class Claim:
    """A job that this worker may run, and the attempt that every write of it must name."""

    job_id: str
    attempt: int
    dataset_id: str
    dataset_sha256: str
    dataset_name: str | None
    """Where it had one when the job was sent."""
    spec: JobSpec
    split_id: str | None
    split_counts: dict[str, int]


# ---------------------------------------------------------------- creation


def enqueue(session: Session, job: Job) -> None:
    """Add a new job; its row is the queue entry."""
    job.status, job.changes = "queued", 1
    session.add(job)
    session.flush()
    _insert_events(session, [(job.id, 1, "status", {"status": "queued", "attempt": 0})])


# ---------------------------------------------------------------- the worker's transitions


def claim(session: Session, lease: Lease | None = None) -> Claim | None:
    """Take the next job, highest priority first, then oldest; ``None`` where none is queued.

    A ``lease`` belongs to a worker that shares the database, so on Postgres.
    """
    waiting = select(func.max(Job.priority)).where(Job.status == "queued").scalar_subquery()
    first = (
        select(Job.id)
        .where(Job.status == "queued")
        .order_by(Job.priority.desc(), Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if lease is None:  # the index has it; SQLite would sort the whole queue
        first = first.where(Job.priority == waiting)
    held = {} if lease is None else {"worker": lease.worker, "lease_until": lease.until}
    moved = _update(
        session,
        Job.id == first.scalar_subquery(),
        Job.status == "queued",
        status="running",
        attempt=Job.attempt + 1,
        started_at=now(),
        seconds_per_epoch=None,
        **held,
    )
    if not moved:
        return None
    job = session.get_one(Job, moved[0].id, populate_existing=True)
    data = job.dataset_id, job.dataset_sha256, job.dataset_name
    return Claim(job.id, job.attempt, *data, job.spec, job.split_id, job.split)


def status_of(session: Session, claim: Claim) -> JobStatus:
    """Return the status of a claimed job. Raises ClaimLost."""
    status = session.scalars(select(Job.status).where(*_is_claimed(claim))).one_or_none()
    if status is None:
        raise ClaimLost(f"{claim.job_id} is no longer attempt {claim.attempt}'s")
    return status


def warn(session: Session, claim: Claim, warnings: Sequence[str], events: Sequence[str]) -> None:
    """Add to the job's warnings what an earlier attempt has not said already.

    Those that are ``events`` are events as well. Raises ClaimLost.
    """
    if not warnings and not events:
        return
    _lock_claimed(session, claim)
    job = session.get_one(Job, claim.job_id, populate_existing=True)
    fresh = [warning for warning in (*warnings, *events) if warning not in job.warnings]
    fresh_events = [warning for warning in fresh if warning in events]
    first = job.changes + job.epochs_done + 1
    changes = Job.changes + len(fresh_events)
    _update_claimed(session, claim, warnings=[*job.warnings, *fresh], changes=changes)
    rows = [
        (job.id, first + i, "warning", {"message": event}) for i, event in enumerate(fresh_events)
    ]
    _insert_events(session, rows)


def record(
    session: Session, claim: Claim, epochs: Sequence[EpochEnded], seconds_per_epoch: float | None
) -> None:
    """Append epochs to the history; those that an earlier attempt recorded are skipped.

    Raises ClaimLost.
    """
    job = _lock_claimed(session, claim)
    fresh = [epoch for epoch in epochs if epoch.epoch >= job.epochs_done]
    if not fresh:
        return
    history.append(session, claim.job_id, fresh)
    last = {"epoch": fresh[-1].epoch, **finite_values(fresh[-1].values)}
    done = fresh[-1].epoch + 1
    _update_claimed(
        session, claim, epochs_done=done, last=last, seconds_per_epoch=seconds_per_epoch
    )


def record_checkpoint(session: Session, claim: Claim, saved: CheckpointSaved) -> None:
    """Make a published checkpoint visible, unless it is already. Raises ClaimLost."""
    _update_claimed(session, claim, crashes=0)
    if session.get(Checkpoint, saved.checkpoint_id) is not None:
        return
    session.add(
        Checkpoint(
            id=saved.checkpoint_id,
            job_id=claim.job_id,
            epoch=saved.epoch,
            size_bytes=saved.size_bytes,
            sha256=saved.sha256,
        )
    )


def succeed(session: Session, claim: Claim, model_id: str, ended: TrainEnded) -> None:
    """Register the model version and end the job. Raises ClaimLost where it was cancelled."""
    best = None
    if (found := ended.best) is not None:
        best = {"epoch": found.epoch, "by": found.by, **finite_values(found.values)}
    metrics = {"best": best, "test": ended.test, "baseline": ended.baseline}
    confidence = ended.confidence and ended.confidence.model_dump(mode="json")
    of = "before_refit" if ended.trained_on == "all" else None
    result = versions.Result(
        model_id,
        ended.features,
        {**metrics, "confidence": confidence, "of": of},
        ended.parameters,
        ended.versions,
        ended.decision,
        ended.coverage,
        ended.trained_on,
        ended.importance,
    )
    job = session.get_one(Job, claim.job_id)
    version = versions.register(
        session, versions.Origin.of(job), claim.spec.register_as or claim.job_id, result
    )
    _update_claimed(
        session,
        claim,
        from_states=("running", "pausing"),
        status="succeeded",
        model_name=version.name,
        model_version=version.version,
        **metrics,
    )


def fail(session: Session, claim: Claim, code: str, message: str) -> None:
    """End the job as failed, or as cancelled where that was asked for. Raises ClaimLost."""
    if _lock_claimed(session, claim).status == "cancelling":
        release(session, claim)
    else:
        error = {"error_code": code, "error_message": message.replace("\0", "�")[:1024]}
        _update_claimed(
            session, claim, from_states=("running", "pausing"), status="failed", **error
        )


def release(session: Session, claim: Claim, *, crash: str | None = None) -> None:
    """Send the job back to the queue, or where its client asked it to go. Raises ClaimLost.

    ``crash`` says how its process ended unasked; the third without a new checkpoint in between
    fails the job as ``worker_crashed``.
    """
    job = _lock_claimed(session, claim)
    crashes = job.crashes + (crash is not None)
    if crash is not None and crashes >= CRASHES_ALLOWED and job.status != "cancelling":
        message = f"the training process ended unexpectedly {crashes} times; last: {crash}"
        fail(session, claim, "worker_crashed", message)
    else:
        _update_claimed(
            session, claim, status=_next_status(_RELEASED), crashes=crashes, **_NO_WORKER
        )


# ---------------------------------------------------------------- workers that died


def recover(session: Session) -> list[str]:
    """Release every job that a worker held, at the start of the only one; return their ids."""
    return _release_all(session, Job.status.in_(OWNED))


def rescue(session: Session) -> list[str]:
    """Release the jobs whose lease has run out by the database's clock; return their ids.

    A row that a frozen worker has locked waits for another time; the others do not wait for it.
    """
    expired = select(Job.id).where(Job.status.in_(OWNED), Job.lease_until < _DATABASE_CLOCK)
    return _release_all(session, Job.id.in_(expired.with_for_update(skip_locked=True)))


def renew(session: Session, lease: Lease) -> None:
    """Extend the lease on the jobs that the worker runs."""
    held = tuple_(Job.id, Job.attempt).in_(list(lease.held))
    ours = update(Job).where(held, Job.status.in_(OWNED))
    session.execute(ours.values(lease_until=lease.until))


def _release_all(session: Session, *where: ColumnElement[bool]) -> list[str]:
    return [
        row.id for row in _update(session, *where, status=_next_status(_RELEASED), **_NO_WORKER)
    ]


# ---------------------------------------------------------------- the client's transitions


def transition(session: Session, job_id: str, verb: Verb) -> bool:
    """Cancel, pause or resume a job; return whether its status changed.

    Raises InvalidTransition where the job is in no state for that.
    """
    states = _REQUESTED[verb]
    if _update(session, Job.id == job_id, Job.status.in_(states), status=_next_status(states)):
        return True
    status = session.scalars(select(Job.status).where(Job.id == job_id)).one()
    if status in _ALREADY_REQUESTED[verb]:
        return False
    able = " or ".join(states)
    raise InvalidTransition(
        f"the job is {status}; only one that is {able} can be {_PARTICIPLES[verb]}"
    )


# ---------------------------------------------------------------- the one UPDATE


def _next_status(states: Mapping[JobStatus, JobStatus]) -> ColumnElement[str]:
    """Return the state that a job goes to from the one it is in, as an expression."""
    return case(states, value=Job.status)


def _expression(status: str | ColumnElement[str]) -> ColumnElement[str]:
    return literal(status, String) if isinstance(status, str) else status


def _is_claimed(
    claim: Claim, states: Sequence[JobStatus] = OWNED
) -> tuple[ColumnElement[bool], ...]:
    return Job.id == claim.job_id, Job.attempt == claim.attempt, Job.status.in_(states)


def _lock_claimed(session: Session, claim: Claim) -> Row[*tuple[Any, ...]]:
    """Return status, crashes and epochs of a claimed job, locked until the transaction ends.

    Raises ClaimLost.
    """
    columns = (Job.status, Job.crashes, Job.epochs_done)
    row = session.execute(
        select(*columns).where(*_is_claimed(claim)).with_for_update()
    ).one_or_none()
    if row is None:
        raise ClaimLost(f"{claim.job_id} is no longer attempt {claim.attempt}'s")
    return row


def _update_claimed(
    session: Session, claim: Claim, from_states: Sequence[JobStatus] = OWNED, **values: Any
) -> None:
    """Change columns of a claimed job. Raises ClaimLost."""
    if not _update(session, *_is_claimed(claim, from_states), **values):
        raise ClaimLost(f"{claim.job_id} is no longer attempt {claim.attempt}'s")


def _update(
    session: Session, *where: ColumnElement[bool], **values: Any
) -> Sequence[Row[*tuple[Any, ...]]]:
    """The conditional UPDATE behind every transition, with its events; returns the rows it hit."""
    if "status" in values:
        ends = _expression(values["status"]).in_(TERMINAL)
        values["changes"] = Job.changes + case((ends, 2), else_=1)
        values["finished_at"] = case((ends, literal(now(), UTCDateTime)), else_=None)
    statement = (
        update(Job)
        .where(*where)
        .values(**values)
        .returning(
            *(Job.id, Job.status, Job.attempt, Job.crashes, Job.epochs_done, Job.changes),
            *(Job.error_code, Job.error_message, Job.model_name, Job.model_version),
        )
        .execution_options(synchronize_session=False)
    )
    rows = session.execute(statement).all()
    if "status" in values:
        _insert_events(session, [event for row in rows for event in _events_of(row)])
    return rows


def _events_of(row: Row[*tuple[Any, ...]]) -> list[tuple[str, int, str, dict[str, Any]]]:
    """Return the events of a row whose status has changed: ``status``, and ``done`` at its end."""
    last = row.changes + row.epochs_done
    status = {"status": row.status, "attempt": row.attempt}
    if row.status not in TERMINAL:
        return [(row.id, last, "status", status)]
    error = model = None
    if row.error_code is not None:
        error = {"code": row.error_code, "message": row.error_message}
    if row.model_name is not None:
        ref = f"{row.model_name}@{row.model_version}"
        model = {"name": row.model_name, "version": row.model_version, "ref": ref}
    done = {**status, "model": model, "error": error}
    return [(row.id, last - 1, "status", status), (row.id, last, "done", done)]


def _insert_events(
    session: Session, events: Sequence[tuple[str, int, str, dict[str, Any]]]
) -> None:
    keys = ("job_id", "id", "type", "data")
    if events:
        rows = [dict(zip(keys, event, strict=True)) for event in events]
        session.execute(insert(JobEvent), rows)
