"""``max_seconds`` of a job whose process does not heed it: one step may take for ever."""

from app import logs
from app.executors.base import Handle
from app.ml.specs import JobSpec
from app.worker.pace import Pace

_GRACE_SECONDS = {"fail": 3.0, "best": 60.0}
"""How long after its limit a process may still end by itself, by ``at_limit``: a model is measured
and saved."""

log = logs.get("worker")


class Overtime:
    """Ends a training process that has not ended itself some seconds after its limit."""

    def __init__(self, spec: JobSpec, pace: Pace, handle: Handle) -> None:
        self._max_seconds, self._pace, self._handle = spec.max_seconds, pace, handle
        self._grace = _GRACE_SECONDS[spec.at_limit]

    @property
    def is_over(self) -> bool:
        """Whether the process should have ended by itself: it looks at its limit between steps."""
        limit = self._max_seconds
        return limit is not None and self._pace.seconds > limit + self._grace

    @property
    def message(self) -> str:
        """The message of the job's error."""
        return f"one step took longer than max_seconds, {self._max_seconds:g} s"

    def enforce(self) -> None:
        """End a process that is over its limit."""
        if self.is_over:
            log.warning("the training process does not heed max_seconds; it is ended")
            self._handle.end()
