"""Housekeeping: what is done at the start, and now and then, whoever trains.

On SQLite the one server begins by releasing what its predecessor was running and sweeping what it
left. On Postgres many share the house: workers renew their leases, everybody releases the jobs of
workers that have been silent for too long, and only what is old is swept.

A sweep believes an absence only of a database that has met this directory before
(``runtime.identity``), and moves what no row names to quarantine, which is emptied a day later.
"""

import os
import secrets
import socket
import threading
import time
from datetime import timedelta

from sqlalchemy import select

from app import logs
from app.db.models import TERMINAL, Checkpoint, Dataset, Job, ModelVersion
from app.db.session import clock
from app.errors import ServiceError
from app.runtime import identity
from app.runtime.context import Context
from app.services.datasets import uploads
from app.services.jobs import queue
from app.services.jobs.queue import Lease
from app.storage import Kind

_SWEEP_EVERY_SECONDS = 600.0
_RENEWALS_PER_LEASE = 4
_ORPHANED_SECONDS = 3600.0
"""Age of what is swept where others publish too: from rename to row nobody takes an hour."""
_QUARANTINE_SECONDS = 24 * 3600.0

log = logs.get("housekeeper")


class Housekeeper:
    """Keeps the house in a thread; ``lease`` is its worker's, ``None`` on SQLite."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.lease: Lease | None = None
        if context.database.shared:
            name = f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"
            self.lease = Lease(name, context.settings.lease_seconds)
        self._swept_at = 0.0
        self._renewed_at = time.monotonic()
        self._patient_until = 0.0
        self._thread = threading.Thread(target=self._loop, name="housekeeper", daemon=True)

    def start(self) -> None:
        """Release what a dead server was running, sweep what it left, then go on in a thread."""
        if self.lease is None:
            with self._context.database.write() as session:
                recovered = queue.recover(session)
            if recovered:
                log.info("jobs of an earlier server were given back", jobs=len(recovered))
        self._expire_checkpoints()
        uploads.expire(self._context)
        self._sweep(0.0 if self.lease is None else _ORPHANED_SECONDS)
        self._empty_quarantine()
        self._fill_reserve()  # last: what frees room comes first
        self._swept_at = time.monotonic()
        self._thread.start()

    def _loop(self) -> None:
        """Renew, rescue and sweep until the jobs are released, under a lease that still holds."""
        pause = _SWEEP_EVERY_SECONDS
        if self.lease is not None:
            pause = self.lease.seconds / _RENEWALS_PER_LEASE
        while not self._context.closed.wait(pause):
            try:
                self._renew_and_rescue()
                if time.monotonic() - self._swept_at >= _SWEEP_EVERY_SECONDS:
                    self._clean_up()
            except ServiceError as error:
                log.warning("the database or the disk is away", detail=error.detail)
            except Exception:
                log.exception("housekeeping failed; it goes on")

    def _fill_reserve(self) -> None:
        if self._context.database.reserve is not None:
            self._context.database.reserve.fill()

    def _renew_and_rescue(self) -> None:
        """Extend our worker's lease, and release the jobs of workers that did not extend theirs."""
        if self.lease is None:
            return
        with self._context.database.write() as session:
            queue.renew(session, self.lease)
        if self._was_away(self.lease.seconds):
            return
        with self._context.database.write() as session:
            rescued = queue.rescue(session)
        for job_id in rescued:
            log.warning("its worker was silent for too long; the job is given back", job_id=job_id)
            self._context.signals.changed(job_id)
        if rescued:
            self._context.signals.queued()

    def _was_away(self, seconds: float) -> bool:
        """Return whether we ourselves were cut off for longer than a lease, and just now.

        Workers that are alive may have been too, and they get as long to come back.
        """
        now = time.monotonic()
        if now - self._renewed_at > seconds:
            self._patient_until = now + seconds
        self._renewed_at = now
        return now < self._patient_until

    # ------------------------------------------------------------ sweeping

    def _clean_up(self) -> None:
        """Remove what is outdated."""
        self._swept_at = time.monotonic()
        self._fill_reserve()
        storage = self._context.storage
        self._expire_checkpoints()
        uploads.expire(self._context)
        self._empty_quarantine()
        if not identity.renew(storage, self._context.database):
            log.error("the database and the data directory no longer belong together; no sweep")
        elif self.lease is not None:  # of a server alone, what has no row yet is about to get one
            self._sweep(_ORPHANED_SECONDS)

    def _sweep(self, least_age_seconds: float) -> None:
        """Move artifacts without a row to quarantine, if they were published so long ago."""
        storage = self._context.storage
        storage.empty_scratch(least_age_seconds)
        with self._context.database.read() as session:
            if not identity.was_paired_before(session):
                return
            known: dict[Kind, set[str]] = {
                "datasets": set(session.scalars(select(Dataset.id))),
                "models": set(session.scalars(select(ModelVersion.id))),
                "checkpoints": set(session.scalars(select(Checkpoint.id))),
            }
        for kind, ids in known.items():
            swept = storage.sweep(kind, ids, least_age_seconds)
            if swept.moved:
                log.info(
                    "artifacts that no row names were moved to quarantine",
                    kind=kind,
                    count=len(swept.moved),
                    first=swept.moved[0],
                    quarantine=str(storage.quarantine),
                )
            if swept.stuck:
                log.warning(
                    "artifacts that no row names cannot be moved; the next sweep tries again",
                    kind=kind,
                    count=len(swept.stuck),
                    first=swept.stuck[0],
                )

    def _empty_quarantine(self) -> None:
        removed = self._context.storage.empty_quarantine(_QUARANTINE_SECONDS)
        if removed:
            log.info("quarantine emptied", artifacts=removed)

    def _expire_checkpoints(self) -> None:
        """Delete the checkpoints of jobs that ended more than ``checkpoint_days`` ago."""
        days = self._context.settings.checkpoint_days
        if days is None:
            return
        with self._context.database.write() as session:
            oldest = clock(session) - timedelta(days=days)
            ended = Job.status.in_(TERMINAL) & (Job.finished_at <= oldest)
            expired = session.scalars(select(Checkpoint).join(Job).where(ended)).all()
            for checkpoint in expired:
                session.delete(checkpoint)
        for checkpoint in expired:
            self._context.storage.remove("checkpoints", checkpoint.id)
        if expired:
            log.info("checkpoints of ended jobs removed", count=len(expired))
