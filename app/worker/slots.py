"""Job slots: threads that take jobs from the queue, one after the other.

A slot claims a job, hands it to the executor, and is the only one that writes about it, always
under the attempt it claimed. Training itself happens in another process.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

import structlog
from sqlalchemy import select

from app import logs
from app.db.models import Job
from app.errors import ServiceError
from app.executors.base import Executor
from app.runtime.context import Context
from app.services.jobs import queue
from app.services.jobs.queue import Claim, ClaimLost, Lease
from app.worker.job_run import JobRun
from app.worker.recorder import write_until_done

_IDLE_POLL_SECONDS = 5.0
"""How long to wait for a signal before looking at the queue without one."""
_RETRY_SECONDS = 1.0

log = logs.get("worker")


class Worker:
    """Job slots as threads of this process, ``settings.max_parallel_jobs`` of them."""

    def __init__(self, context: Context, executor: Executor, lease: Lease | None = None) -> None:
        self._context = context
        self._lease = lease
        self._executor = executor
        self._working: set[threading.Thread] = set()
        self._claiming = threading.Lock()
        """All slots hear of a new job; one after the other they see that it is taken."""
        self._threads = [
            threading.Thread(target=self._slot, name=f"slot-{i}", daemon=True)
            for i in range(context.settings.max_parallel_jobs)
        ]

    def start(self) -> None:
        """Begin to take jobs."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Wait until running jobs are released to the queue, once ``context.stopping`` is set."""
        self._context.signals.queued()
        deadline = time.monotonic() + timeout_seconds
        for thread in list(self._working):
            thread.join(max(0.0, deadline - time.monotonic()))

    def alive(self) -> bool:
        """Return whether jobs will be run."""
        return self._executor.alive() and all(thread.is_alive() for thread in self._threads)

    # ------------------------------------------------------------ a slot

    def _slot(self) -> None:
        signals, stopping = self._context.signals, self._context.stopping
        while not stopping.is_set():
            mark = signals.queue_mark
            try:
                self._executor.prepare()
                if not self._work():
                    signals.wait_queued(mark, _IDLE_POLL_SECONDS)
            except Exception:
                if not stopping.is_set():  # else the executor was closed under our feet
                    log.exception("the worker failed; it tries again")
                stopping.wait(_RETRY_SECONDS)

    def _work(self) -> bool:
        """Run the next job; return whether there was one. ``stop`` waits for this."""
        thread = threading.current_thread()
        self._working.add(thread)
        try:
            claim = None if self._context.stopping.is_set() else self._claim()
            if claim is None:
                return False
            with self._lease_renewed(claim):
                self._run(claim)
            return True
        finally:
            self._working.discard(thread)

    def _claim(self) -> Claim | None:
        queued = select(Job.id).where(Job.status == "queued").limit(1)
        with self._claiming:
            with self._context.database.read() as session:
                if session.scalars(queued).first() is None:
                    return None
            with self._context.database.write() as session:
                return queue.claim(session, self._lease)

    @contextlib.contextmanager
    def _lease_renewed(self, claim: Claim) -> Iterator[None]:
        """Keep the lease on a claimed job renewed, by the housekeeper, while the block runs."""
        if self._lease is None:
            yield
            return
        key = (claim.job_id, claim.attempt)
        self._lease.held.add(key)
        try:
            yield
        finally:
            self._lease.held.discard(key)

    def _run(self, claim: Claim) -> None:
        with structlog.contextvars.bound_contextvars(job_id=claim.job_id, attempt=claim.attempt):
            self._context.signals.changed(claim.job_id)
            log.info("job started")
            run = None
            try:
                run = JobRun.begin(self._context, self._executor, claim)
                run.follow()
            except ClaimLost:
                log.warning("the job has moved on; this attempt stops")
            except Exception as error:
                log.exception("the job could not be run")
                self._release(claim, error)
            finally:
                if run is not None:
                    run.close()

    def _release(self, claim: Claim, error: Exception) -> None:
        """Release a job that cannot be run; a disk or database that refuses is no crash of it."""
        crash = None if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(ClaimLost):
            write_until_done(
                self._context, claim, lambda session: queue.release(session, claim, crash=crash)
            )
