"""The background worker: claim, execute, record, finish.

One thread per job slot. A slot claims a job, hands it to the executor, and is the only one that
writes about it, always under the attempt it claimed. Training itself happens in a child process.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import logs
from app.db.models import Checkpoint, Job, ModelVersion
from app.errors import NotFound, ServiceError, StorageFull, Unavailable
from app.executors.base import Executor, Handle
from app.ids import new_id
from app.ml.specs import JobSpec, PretrainedSpec
from app.ml.training.events import (
    CheckpointSaved,
    DataRead,
    EpochEnded,
    Event,
    StopReason,
    TrainEnded,
    TrainFailed,
    TrainStopped,
    TrainTask,
)
from app.runtime.context import Context
from app.services.jobs import jobs, queue
from app.services.jobs.queue import Claim, ClaimLost, Lease
from app.services.models import versions

_TICK = 0.1
_LOOK_EVERY = 0.25  # each look and each record is a transaction: 2% of a core at 0.1 s
_RECORD_EVERY = 0.5
_IDLE_LOOK = 5.0
_STOP_GRACE: dict[StopReason, float] = {"cancel": 3.0, "pause": 30.0, "shutdown": 3.0}
_OVERTIME = 3.0
_STOPS: dict[str, StopReason | None] = {
    "running": None,
    "cancelling": "cancel",
    "pausing": "pause",
}
_RETRY_AFTER = 1.0

Write = Callable[[Session], None]

log = logs.get("worker")


@dataclass
class Run:
    """One claimed job while it trains."""

    claim: Claim
    model_id: str
    handle: Handle
    started: float = field(default_factory=time.monotonic)
    recorded_at: float = field(default_factory=time.monotonic)
    first_epoch: tuple[int, float] | None = None
    """The first that this attempt ended, and when."""
    seconds_per_epoch: float | None = None
    # what the child said and the database does not know yet
    warnings: list[str] = field(default_factory=list)
    epochs: list[EpochEnded] = field(default_factory=list)
    checkpoints: list[CheckpointSaved] = field(default_factory=list)
    looked_at: float = 0.0
    stop: StopReason | None = None
    """What the child was asked, and when."""
    stop_sent_at: float = 0.0

    @property
    def keep(self) -> int:
        """Checkpoints of the job that are kept."""
        return int(self.claim.spec["checkpoint"]["keep"])

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def overdue(self) -> bool:
        """Whether the child should have ended by itself: it looks at its limit between steps."""
        limit = self.claim.spec["max_seconds"]
        return limit is not None and self.seconds > limit + _OVERTIME

    def saw(self, epoch: EpochEnded) -> None:
        """Note an epoch and the pace of this attempt."""
        self.epochs.append(epoch)
        now = time.monotonic()
        if self.first_epoch is None:
            self.first_epoch, self.seconds_per_epoch = (epoch.epoch, now), self.seconds
        else:
            first, since = self.first_epoch
            self.seconds_per_epoch = (now - since) / (epoch.epoch - first)

    @property
    def unrecorded_for(self) -> float:
        return time.monotonic() - self.recorded_at


class Worker:
    """Job slots as threads of this process."""

    def __init__(self, context: Context, executor: Executor, lease: Lease | None = None) -> None:
        self._context = context
        self._lease = lease
        self._executor = executor
        self._working: set[threading.Thread] = set()
        self._threads = [
            threading.Thread(target=self._slot, name=f"slot-{i}", daemon=True)
            for i in range(context.settings.max_parallel_jobs)
        ]

    def start(self) -> None:
        """Begin to take jobs."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        """Stop running jobs and give them back to the queue; ``context.stopping`` is set."""
        self._context.signals.queued()
        deadline = time.monotonic() + timeout
        for thread in list(self._working):
            thread.join(max(0.0, deadline - time.monotonic()))

    def alive(self) -> bool:
        """Whether jobs will be run."""
        return self._executor.alive() and all(thread.is_alive() for thread in self._threads)

    # ------------------------------------------------------------ a slot

    def _slot(self) -> None:
        signals, stopping = self._context.signals, self._context.stopping
        while not stopping.is_set():
            mark = signals.queue_mark
            try:
                self._executor.prepare()
                if not self._work():
                    signals.wait_queued(mark, _IDLE_LOOK)
            except Exception:
                if not stopping.is_set():  # else the executor was closed under our feet
                    log.exception("the worker failed; it tries again")
                stopping.wait(_RETRY_AFTER)

    def _work(self) -> bool:
        """Run the next job, if there is one; whoever stops the worker waits for this alone."""
        thread = threading.current_thread()
        self._working.add(thread)
        try:
            claim = None if self._context.stopping.is_set() else self._claim()
            if claim is None:
                return False
            with self._held(claim):
                self._run(claim)
            return True
        finally:
            self._working.discard(thread)

    def _claim(self) -> Claim | None:
        with self._context.database.read() as session:
            if (
                session.scalars(select(Job.id).where(Job.status == "queued").limit(1)).first()
                is None
            ):
                return None
        with self._context.database.write() as session:
            return queue.claim(session, self._lease)

    @contextlib.contextmanager
    def _held(self, claim: Claim) -> Iterator[None]:
        """Have the lease on a claimed job renewed for as long as it is in our hands."""
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
                run = self._begin(claim)
                self._follow(run)
            except ClaimLost:
                log.warning("the job has moved on; this attempt stops")
            except Exception as error:
                log.exception("the job could not be run")
                away = isinstance(error, ServiceError)  # a disk or a database, not the job
                crash = None if away else f"{type(error).__name__}: {error}"
                with contextlib.suppress(ClaimLost):
                    self._until_written(
                        claim, lambda session: queue.release(session, claim, crash=crash)
                    )
            finally:
                if run is not None:
                    run.handle.end()
                    self._discard_unrecorded(run)

    def _begin(self, claim: Claim) -> Run:
        model_id = new_id("mdl")
        spec = JobSpec.model_validate(claim.spec)
        with self._context.database.read() as session:
            source = None
            if isinstance(spec.model, PretrainedSpec):
                with contextlib.suppress(NotFound):  # deleted since; training says so
                    source = versions.find(session, spec.model.model).id
            checkpoints = tuple(row.id for row in jobs.checkpoints(session, claim.job_id))
        task = TrainTask(
            root=self._context.storage.root,
            dataset_id=claim.dataset_id,
            model_id=model_id,
            spec=spec,
            source=source,
            checkpoints=checkpoints,
        )
        return Run(claim, model_id, self._executor.start(task))

    def _follow(self, run: Run) -> None:
        """Record what the child says until it has nothing more to say."""
        while True:
            events = run.handle.events(_TICK)
            if events is None:
                ended = run.handle.end()
                if run.overdue:
                    limit = run.claim.spec["max_seconds"]
                    self._fail(
                        run, "time_limit", f"one step took longer than max_seconds, {limit:g} s"
                    )
                    return
                log.warning("the training process ended unexpectedly", how=ended.how)
                if ended.out_of_memory:
                    self._fail(
                        run,
                        "out_of_memory",
                        "the kernel ended the training process for want of memory; use a smaller "
                        "model, smaller batches, or a machine with more memory",
                    )
                    return
                planned = self._context.stopping.is_set() or run.stop is not None
                self._give_back(run, crash=None if planned else ended.how)
                return
            for event in events:
                if self._handle(run, event):
                    return
            if run.checkpoints or (run.epochs and run.unrecorded_for >= _RECORD_EVERY):
                self._record(run)
            self._pass_on_stop(run)

    def _handle(self, run: Run, event: Event) -> bool:
        """Record one event; whether it was the last."""
        match event:
            case DataRead(warnings=warnings):
                run.warnings += warnings
                return False
            case EpochEnded():
                run.saw(event)
                return False
            case CheckpointSaved():
                run.checkpoints.append(event)
                return False
            case TrainEnded(warnings=warnings):
                run.warnings += warnings
                self._succeed(run, event)
            case TrainFailed(code=code, message=message):
                self._fail(run, code, message)
            case TrainStopped(reason=reason):
                self._give_back(run)
                log.info("job stopped", reason=reason)
        return True

    # ------------------------------------------------------------ recording

    def _record(self, run: Run, transition: Write | None = None) -> None:
        """Write what is pending, and the job's next state with it, in one transaction.

        Raises ClaimLost.
        """
        outdated: list[str] = []

        def write(session: Session) -> None:
            queue.warn(session, run.claim, run.warnings)
            queue.record(session, run.claim, run.epochs, run.seconds_per_epoch)
            for saved in run.checkpoints:
                queue.record_checkpoint(session, run.claim, saved)
            outdated[:] = jobs.prune_checkpoints(session, run.claim.job_id, run.keep)
            if transition is not None:
                transition(session)

        if not self._until_written(run.claim, write):
            return
        run.warnings.clear()
        run.epochs.clear()
        run.checkpoints.clear()
        run.recorded_at = time.monotonic()
        for checkpoint_id in outdated:
            self._context.storage.remove("checkpoints", checkpoint_id)

    def _succeed(self, run: Run, ended: TrainEnded) -> None:
        features = jobs.features_of(self._context, run.claim.dataset_id, run.claim.spec)
        try:
            with self._context.signals.models_changing():  # until after who waits has been woken
                self._record(
                    run,
                    lambda session: queue.succeed(
                        session, run.claim, run.model_id, ended, features
                    ),
                )
            log.info("job succeeded", seconds=round(run.seconds, 3))
        except ClaimLost:  # cancelled while it finished
            self._give_back(run)

    def _fail(self, run: Run, code: str, message: str) -> None:
        self._record(run, lambda session: queue.fail(session, run.claim, code, message))
        log.info("job failed", code=code)

    def _give_back(self, run: Run, crash: str | None = None) -> None:
        self._record(run, lambda session: queue.release(session, run.claim, crash=crash))

    def _until_written(self, claim: Claim, write: Write) -> bool:
        """Write, again and again while the disk or the database refuse; whether it was done.

        A commit that was refused may have happened after all, so whatever is written bears
        repeating.
        """
        while True:
            try:
                with self._context.database.write() as session:
                    write(session)
                self._context.signals.changed(claim.job_id)
                return True
            except (StorageFull, Unavailable) as error:
                log.error("a job's state cannot be written; trying again", detail=error.detail)
                if self._context.stopping.wait(_RETRY_AFTER):
                    return False  # the next start finds it running and queues it again

    def _discard_unrecorded(self, run: Run) -> None:
        """Remove what has no row, unless a refused write may yet come to light: when we stop, such
        is left to the next sweep."""
        if self._context.stopping.is_set():
            return
        storage = self._context.storage
        with contextlib.suppress(ServiceError), self._context.database.read() as session:
            if session.get(ModelVersion, run.model_id) is None:
                storage.remove("models", run.model_id)
            for saved in run.checkpoints:
                if session.get(Checkpoint, saved.checkpoint_id) is None:
                    storage.remove("checkpoints", saved.checkpoint_id)

    # ------------------------------------------------------------ stopping

    def _pass_on_stop(self, run: Run) -> None:
        """Tell the child of a stop; kill it where it does not answer. Raises ClaimLost."""
        wanted = self._wanted(run)
        if wanted is not None and wanted != run.stop:
            run.handle.stop(wanted)
            run.stop, run.stop_sent_at = wanted, time.monotonic()
        elif run.stop is not None:
            if time.monotonic() - run.stop_sent_at > _STOP_GRACE[run.stop]:
                run.handle.end()
        elif run.overdue:
            log.warning("the training process does not heed max_seconds; it is ended")
            run.handle.end()

    def _wanted(self, run: Run) -> StopReason | None:
        """What the child should be asked by now."""
        if self._context.stopping.is_set():
            return "shutdown"
        if time.monotonic() - run.looked_at < _LOOK_EVERY:
            return run.stop
        run.looked_at = time.monotonic()
        try:
            with self._context.database.read() as session:
                return _STOPS[queue.status_of(session, run.claim)]
        except ServiceError:  # the database is away: training goes on meanwhile
            return run.stop
