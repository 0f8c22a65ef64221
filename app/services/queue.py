"""The only writer of ``Job.status``.

Every transition is one conditional UPDATE that names the states it may start from and, for the
worker's own, the attempt it was claimed with. Zero rows means that somebody else owns the job now:
the caller stops and writes nothing.

::

    queued ──claim──▶ running ──finish──▶ succeeded │ failed
      │                 │  └──requeue (its process or the server ended)──▶ queued
      │                 └──cancel──▶ cancelling ──finish, fail, requeue──▶ cancelled
      └──cancel──▶ cancelled
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from app.db.models import Checkpoint, HistoryChunk, Job, ModelName, ModelVersion, now
from app.errors import InvalidTransition
from app.ml.events import CheckpointSaved, EpochEnded, TrainEnded, finite

CRASHES_ALLOWED = 3
OWNED = ("running", "cancelling")
"""States in which a worker holds the job."""


class NotOurs(Exception):
    """The job has moved on under another attempt; stop and write nothing."""


@dataclass(frozen=True)
class Claim:
    """A job that this worker may run, and the attempt that proves it."""

    job_id: str
    attempt: int
    dataset_id: str
    spec: dict[str, Any]
    recorded: int
    """Epochs already in the history, from an earlier attempt."""


# ---------------------------------------------------------------- the worker's transitions


def claim(session: Session) -> Claim | None:
    """Take the next job: highest priority first, then oldest."""
    first = (
        select(Job.id)
        .where(Job.status == "queued")
        .order_by(Job.priority.desc(), Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    row = session.execute(
        update(Job)
        .where(Job.id == first, Job.status == "queued")
        .values(status="running", attempt=Job.attempt + 1, started_at=now(), seconds=0.0)
        .returning(Job.id, Job.attempt, Job.dataset_id, Job.spec, Job.epochs_done)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return Claim(*row) if row else None


def warn(session: Session, claim: Claim, warnings: Sequence[str]) -> None:
    """Add to the job's warnings what an earlier attempt has not said already. Raises NotOurs."""
    if warnings:
        known = session.get_one(Job, claim.job_id).warnings
        _move(session, claim, warnings=[*known, *(w for w in warnings if w not in known)])


def record(session: Session, claim: Claim, epochs: Sequence[EpochEnded], seconds: float) -> None:
    """Append epochs to the history; those that an earlier attempt recorded are skipped.

    Raises NotOurs.
    """
    recorded = _recorded(session, claim)
    fresh = [epoch for epoch in epochs if epoch.epoch >= recorded]
    if not fresh:
        return
    names = list(fresh[0].values)
    table = np.array([[epoch.values[name] for name in names] for epoch in fresh], dtype="<f8")
    session.add(
        HistoryChunk(
            job_id=claim.job_id,
            first_epoch=fresh[0].epoch,
            epochs=len(fresh),
            names=names,
            values=np.ascontiguousarray(table.T).tobytes(),
        )
    )
    last = {"epoch": fresh[-1].epoch, **finite(fresh[-1].values)}
    _move(session, claim, epochs_done=fresh[-1].epoch + 1, last=last, seconds=seconds)


def record_checkpoint(session: Session, claim: Claim, saved: CheckpointSaved) -> None:
    """Make a published checkpoint visible. Raises NotOurs."""
    _move(session, claim, crashes=0)
    session.add(
        Checkpoint(
            id=saved.checkpoint_id,
            job_id=claim.job_id,
            epoch=saved.epoch,
            size_bytes=saved.size_bytes,
            sha256=saved.sha256,
        )
    )


def succeed(
    session: Session, claim: Claim, model_id: str, ended: TrainEnded, features: list[Any]
) -> None:
    """Make the model version and end the job, together. Raises NotOurs where it was cancelled."""
    job = session.get_one(Job, claim.job_id)
    name = claim.spec["register_as"] or claim.job_id
    version = _next_version(session, name)
    best = {"epoch": ended.best.epoch, **finite(ended.best.values)}
    _move(
        session,
        claim,
        from_states=("running",),
        status="succeeded",
        best=best,
        test=ended.test,
        baseline=ended.baseline,
        model_name=name,
        model_version=version,
        finished_at=now(),
    )
    target = claim.spec["target"]
    session.add(
        ModelVersion(
            id=model_id,
            name=name,
            version=version,
            job_id=claim.job_id,
            dataset_id=claim.dataset_id,
            dataset_sha256=job.dataset_sha256,
            task=claim.spec["task"],
            features=features,
            target=[target] if isinstance(target, str) else target,
            metrics={"best": best, "test": ended.test, "baseline": ended.baseline},
            parameters=ended.parameters,
            metadata_=claim.spec["metadata"],
        )
    )


def fail(session: Session, claim: Claim, code: str, message: str) -> None:
    """End the job as failed, or as cancelled where that was asked for. Raises NotOurs."""
    if not _end_cancelled(session, claim):
        _move(
            session,
            claim,
            status="failed",
            error_code=code,
            error_message=message[:1024],
            finished_at=now(),
        )


def requeue(session: Session, claim: Claim, *, crash: str | None = None) -> None:
    """Give the job back; ``crash`` says how its process ended unasked. Raises NotOurs.

    The third crash without a new checkpoint between fails it as ``worker_crashed``.
    """
    if _end_cancelled(session, claim):
        return
    crashes = session.get_one(Job, claim.job_id).crashes + (crash is not None)
    if crash is not None and crashes >= CRASHES_ALLOWED:
        message = f"the training process ended unexpectedly {crashes} times; last: {crash}"
        fail(session, claim, "worker_crashed", message)
    else:
        _move(session, claim, status="queued", crashes=crashes)


def recover(session: Session) -> int:
    """At the start of the only worker: nobody runs anything, so every running job goes back."""
    session.execute(
        update(Job).where(Job.status == "cancelling").values(status="cancelled", finished_at=now())
    )
    result = session.execute(update(Job).where(Job.status == "running").values(status="queued"))
    return cast(CursorResult[Any], result).rowcount


# ---------------------------------------------------------------- the client's transitions


def cancel(session: Session, job: Job) -> None:
    """Ask for the end of a job. Raises InvalidTransition where it has ended otherwise."""
    if job.status in ("cancelling", "cancelled"):
        return
    straight = ("queued", "paused")
    for states, values in (
        (straight, {"status": "cancelled", "finished_at": now()}),
        (("running", "pausing"), {"status": "cancelling"}),
    ):
        statement = update(Job).where(Job.id == job.id, Job.status.in_(states)).values(**values)
        if cast(CursorResult[Any], session.execute(statement)).rowcount:
            session.refresh(job)
            return
    raise InvalidTransition(f"the job has ended as {job.status}; it cannot be cancelled any more")


def position(session: Session, job: Job) -> int | None:
    """1 for the queued job that is claimed next; ``None`` where it is not queued."""
    if job.status != "queued":
        return None
    ahead = select(func.count()).where(
        Job.status == "queued",
        (Job.priority > job.priority) | ((Job.priority == job.priority) & (Job.id < job.id)),
    )
    return 1 + session.scalars(ahead).one()


# ---------------------------------------------------------------- the fence


def _move(
    session: Session, claim: Claim, from_states: tuple[str, ...] = OWNED, **values: Any
) -> None:
    """The one conditional UPDATE behind every transition of a claimed job."""
    statement = (
        update(Job)
        .where(Job.id == claim.job_id, Job.attempt == claim.attempt, Job.status.in_(from_states))
        .values(**values)
    )
    if not cast(CursorResult[Any], session.execute(statement)).rowcount:
        raise NotOurs(f"{claim.job_id} is no longer attempt {claim.attempt}'s")


def _end_cancelled(session: Session, claim: Claim) -> bool:
    try:
        _move(
            session,
            claim,
            from_states=("cancelling",),
            status="cancelled",
            finished_at=now(),
        )
    except NotOurs:
        return False
    return True


def _recorded(session: Session, claim: Claim) -> int:
    done = select(Job.epochs_done).where(Job.id == claim.job_id, Job.attempt == claim.attempt)
    recorded = session.scalars(done).one_or_none()
    if recorded is None:
        raise NotOurs(f"{claim.job_id} is no longer attempt {claim.attempt}'s")
    return recorded


def _next_version(session: Session, name: str) -> int:
    row = session.get(ModelName, name)
    if row is None:
        row = ModelName(name=name, last_version=0)
        session.add(row)
    row.last_version += 1
    session.flush()
    return row.last_version
