"""Stopping a training process: its client cancels or pauses, or this server shuts down."""

import time

from app.errors import ServiceError
from app.executors.base import Handle
from app.ml.training.events import StopReason
from app.runtime.context import Context
from app.services.jobs import queue
from app.services.jobs.queue import Claim

_POLL_SECONDS = 0.25
"""Between two looks at the job's row; each is a transaction: 2% of a core at 0.1 s."""
_GRACE_SECONDS: dict[StopReason, float] = {"cancel": 3.0, "pause": 30.0, "shutdown": 3.0}
"""How long a process may take to stop by itself."""
_REASONS: dict[str, StopReason | None] = {
    "running": None,
    "cancelling": "cancel",
    "pausing": "pause",
}


class Stop:
    """Passes a stop on to the process, and ends a process that does not answer it in time."""

    def __init__(self, context: Context, claim: Claim, handle: Handle) -> None:
        self._context, self._claim, self._handle = context, claim, handle
        self._polled_at = self._sent_at = 0.0
        self.sent: StopReason | None = None
        """Why the process was asked to stop; ``None`` where it was not."""

    def pass_on(self) -> None:
        """Ask the process to stop where it should, and end it when it takes too long.

        Raises ClaimLost.
        """
        reason = self._reason()
        if reason is not None and reason != self.sent:
            self._handle.stop(reason)
            self.sent, self._sent_at = reason, time.monotonic()
            return
        if self.sent is not None and self._sent_for > _GRACE_SECONDS[self.sent]:
            self._handle.end()

    @property
    def _sent_for(self) -> float:
        """Seconds since the process was asked."""
        return time.monotonic() - self._sent_at

    def _reason(self) -> StopReason | None:
        """Return why the process should stop; ``None`` where it should not. Raises ClaimLost."""
        if self._context.stopping.is_set():
            return "shutdown"
        if time.monotonic() - self._polled_at < _POLL_SECONDS:
            return self.sent
        self._polled_at = time.monotonic()
        try:
            with self._context.database.read() as session:
                return _REASONS[queue.status_of(session, self._claim)]
        except ServiceError:  # the database is away: training goes on meanwhile
            return self.sent
