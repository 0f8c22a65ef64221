"""Writing the events of a training process, under the claim of its job."""

import contextlib
import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from app import logs
from app.db.models import Checkpoint, ModelVersion
from app.errors import ServiceError, StorageFull, Unavailable
from app.ml.training.events import (
    CheckpointBegun,
    CheckpointDamaged,
    CheckpointSaved,
    DataRead,
    EpochEnded,
)
from app.runtime.context import Context
from app.runtime.room import frees_room
from app.services.jobs import checkpoints, queue
from app.services.jobs.queue import Claim
from app.worker.pace import Pace

_RECORD_SECONDS = 0.5
"""Between two records of epochs; each is a transaction."""
_RETRY_SECONDS = 1.0

Write = Callable[[Session], None]
"""Called in a transaction, perhaps again and again."""

log = logs.get("worker")


def write_until_done(context: Context, claim: Claim, write: Write, *, frees: bool = False) -> bool:
    """Write, again and again while the disk or the database refuse; return whether it succeeded.

    A commit that was refused may have happened after all, so whatever is written bears repeating.
    ``write`` is to read nothing outside its transaction, where a refusal would not be repeated.
    Where it ``frees`` room, as the end of a job does, the reserve is used as well.
    Returns False once the server stops. Raises ClaimLost.
    """
    once = frees_room(_write) if frees else _write
    while True:
        try:
            once(context, write)
            context.signals.changed(claim.job_id)
            return True
        except (StorageFull, Unavailable) as error:
            log.error("a job's state cannot be written; trying again", detail=error.detail)
            if context.stopping.wait(_RETRY_SECONDS):
                return False  # the next start finds it running and queues it again


def _write(context: Context, write: Write) -> None:
    with context.database.write() as session:
        write(session)


class Recorder:
    """Holds the events of a process that are not in the database yet, and writes them."""

    def __init__(self, context: Context, claim: Claim, pace: Pace) -> None:
        self._context, self._claim, self._pace = context, claim, pace
        self._warnings: list[str] = []
        self._warning_events: list[str] = []
        self._epochs: list[EpochEnded] = []
        self._begun: list[str] = []
        """Ids of checkpoints that were published or are about to be."""
        self._checkpoints: list[CheckpointSaved] = []
        self._recorded_at = time.monotonic()

    def add(
        self,
        event: DataRead | CheckpointDamaged | EpochEnded | CheckpointBegun | CheckpointSaved,
    ) -> None:
        """Add an event, to be written with the next ``record``."""
        match event:
            case DataRead(warnings=warnings):
                self.warn(warnings)
            case CheckpointDamaged(message=message):
                self._warning_events.append(message)
            case EpochEnded(epoch=epoch):
                self._epochs.append(event)
                self._pace.epoch_ended(epoch)
            case CheckpointBegun(checkpoint_id=checkpoint_id):
                self._begun.append(checkpoint_id)
            case CheckpointSaved():
                self._checkpoints.append(event)

    def warn(self, warnings: list[str]) -> None:
        """Add warnings, to be written with the next ``record``."""
        self._warnings += warnings

    @property
    def is_due(self) -> bool:
        """Whether there is something to write: checkpoints at once, epochs a few at a time."""
        rested = time.monotonic() - self._recorded_at >= _RECORD_SECONDS
        return bool(self._checkpoints or (self._epochs and rested))

    def record(self, transition: Write | None = None) -> bool:
        """Write what is pending, and the job's next state with it, in one transaction.

        Returns False where the server stopped before that succeeded. Raises ClaimLost.
        """
        outdated: list[str] = []
        claim = self._claim

        def write(session: Session) -> None:
            queue.warn(session, claim, self._warnings, self._warning_events)
            queue.record(session, claim, self._epochs, self._pace.seconds_per_epoch)
            for saved in self._checkpoints:
                queue.record_checkpoint(session, claim, saved)
            outdated[:] = checkpoints.prune(session, claim.job_id, claim.spec.checkpoint.keep)
            if transition is not None:
                transition(session)

        if not write_until_done(self._context, claim, write, frees=transition is not None):
            return False
        self._warnings.clear()
        self._warning_events.clear()
        self._epochs.clear()
        recorded = {saved.checkpoint_id for saved in self._checkpoints}
        self._begun = [begun for begun in self._begun if begun not in recorded]
        self._checkpoints.clear()
        self._recorded_at = time.monotonic()
        for checkpoint_id in outdated:
            self._context.storage.remove("checkpoints", checkpoint_id)
        return True

    def discard_unrecorded(self, model_id: str) -> None:
        """Remove the artifacts of this attempt that have no row.

        When the server stops they are left to the next sweep: a write that was refused may yet come
        to light.
        """
        if self._context.stopping.is_set():
            return
        storage = self._context.storage
        with contextlib.suppress(ServiceError), self._context.database.read() as session:
            if session.get(ModelVersion, model_id) is None:
                storage.remove("models", model_id)
            for checkpoint_id in self._begun:
                if session.get(Checkpoint, checkpoint_id) is None:
                    storage.remove("checkpoints", checkpoint_id)
