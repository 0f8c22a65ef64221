"""One claimed job, from its process's start to its end."""

import contextlib
from typing import Any

from app import logs
from app.errors import NotFound
from app.executors.base import Executor, Handle
from app.ids import new_id
from app.ml.column_types.notations.notation import CellOptions
from app.ml.specs import PretrainedSpec
from app.ml.tables.typed import notations_of
from app.ml.training.events import (
    Event,
    TrainEnded,
    TrainFailed,
    TrainStopped,
    TrainTask,
)
from app.runtime.context import Context
from app.services.datasets import datasets
from app.services.jobs import checkpoints, queue, splits
from app.services.jobs.queue import Claim, ClaimLost
from app.services.models import versions
from app.worker.overtime import Overtime
from app.worker.pace import Pace
from app.worker.recorder import Recorder
from app.worker.stop import Stop

_TICK_SECONDS = 0.1
"""How long to wait for an event before looking at the job and the clock again."""
_KILLED_FOR_MEMORY = (
    "the kernel ended the training process for want of memory; use a smaller model, smaller "
    "batches, or a machine with more memory"
)

log = logs.get("worker")


class JobRun:
    """Follows the process that trains a claimed job, and is the only one that writes about it."""

    def __init__(self, context: Context, claim: Claim, model_id: str, handle: Handle) -> None:
        self._context, self._claim, self._model_id = context, claim, model_id
        self._handle = handle
        self._registered = False
        """Whether the model has its row, and so all that the process published."""
        self._pace = Pace()
        self._recorder = Recorder(context, claim, self._pace)
        self._stop = Stop(context, claim, handle)
        self._overtime = Overtime(claim.spec, self._pace, handle)

    @classmethod
    def begin(cls, context: Context, executor: Executor, claim: Claim) -> "JobRun":
        """Start a process for the job. Raises ServiceError where the database is away."""
        task = _task(context, claim)
        return cls(context, claim, task.model_id, executor.start(task))

    def follow(self) -> None:
        """Record the process's events until it has ended. Raises ClaimLost."""
        while True:
            events = self._handle.events(_TICK_SECONDS)
            if events is None:
                self._process_ended()
                return
            for event in events:
                if self._handle_event(event):
                    return
            if self._recorder.is_due:
                self._recorder.record()
            self._stop.pass_on()
            if self._stop.sent is None:
                self._overtime.enforce()

    def close(self) -> None:
        """End the process where it still runs, and remove what it published and nobody recorded."""
        self._handle.end()
        if not self._registered:
            self._recorder.discard_unrecorded(self._model_id)

    # ------------------------------------------------------------ the process's events

    def _handle_event(self, event: Event) -> bool:
        """Take one event; return whether it was the last."""
        match event:
            case TrainEnded():
                self._succeed(event)
            case TrainFailed(code=code, message=message):
                self._fail(code, message)
            case TrainStopped(reason=reason):
                self._release()
                log.info("job stopped", reason=reason)
            case _:
                self._recorder.add(event)
                return False
        return True

    def _process_ended(self) -> None:
        """Fail or release the job of a process that ended without a last event."""
        ended = self._handle.end()
        if self._overtime.is_over:
            self._fail("time_limit", self._overtime.message)
            return
        log.warning("the training process ended unexpectedly", how=ended.how)
        if ended.out_of_memory:
            self._fail("out_of_memory", _KILLED_FOR_MEMORY)
            return
        planned = self._context.stopping.is_set() or self._stop.sent is not None
        self._release(crash=None if planned else ended.how)

    def _succeed(self, ended: TrainEnded) -> None:
        self._recorder.warn(ended.warnings)
        try:
            with self._context.signals.models_changing():  # until after who waits has been woken
                self._registered = self._recorder.record(
                    lambda session: queue.succeed(session, self._claim, self._model_id, ended)
                )
            log.info("job succeeded", **self._summary(ended))
        except ClaimLost:  # cancelled while it finished
            self._release()

    def _summary(self, ended: TrainEnded) -> dict[str, Any]:
        """Return what the log says of a job that has succeeded."""
        claim = self._claim
        numbers = [pair for pair in (ended.test or {}).items() if isinstance(pair[1], float)]
        return {
            "dataset": claim.dataset_name or claim.dataset_id,
            "model": claim.spec.register_as or claim.job_id,
            **{f"test_{name}": f"{value:.4g}" for name, value in numbers[:1]},
            "seconds": round(self._pace.seconds, 3),
        }

    def _fail(self, code: str, message: str) -> None:
        self._recorder.record(lambda session: queue.fail(session, self._claim, code, message))
        log.info("job failed", code=code)

    def _release(self, crash: str | None = None) -> None:
        self._recorder.record(lambda session: queue.release(session, self._claim, crash=crash))


def _task(context: Context, claim: Claim) -> TrainTask:
    """Return what the training process is given of a claimed job."""
    spec, source = claim.spec, None
    with context.database.read() as session:
        if isinstance(spec.model, PretrainedSpec):
            with contextlib.suppress(NotFound):  # deleted since; training says so
                source = versions.find(session, spec.model.model).id
        dataset = datasets.find(session, claim.dataset_id)
        return TrainTask(
            root=context.storage.root,
            dataset_id=claim.dataset_id,
            dataset_sha256=claim.dataset_sha256,
            model_id=new_id("mdl"),
            spec=spec,
            split=splits.stored(session, claim.split_id),
            split_counts=claim.split_counts,
            notations=notations_of(dataset.columns),
            left_out=(dataset.reading or {}).get("left_out", []),
            texts=[item["name"] for item in dataset.columns if item["type"] == "text"],
            cells=CellOptions.of_reading(dataset.reading),
            source=source,
            checkpoints=tuple(row.id for row in checkpoints.listed(session, claim.job_id)),
        )
