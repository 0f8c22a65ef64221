"""The seam around training: start a task, follow its events, stop it, end it.

An executor runs ``app.ml.training.loop.train`` somewhere else and opens no database. One process
that dies must not take others with it.
"""

from typing import NamedTuple, Protocol

from app.ml.training.events import Event, StopReason, TrainTask


class Ending(NamedTuple):
    """How a process ended."""

    how: str
    """For people to read."""
    out_of_memory: bool = False
    """Whether the kernel counted a kill for want of memory."""


class Handle(Protocol):
    """One running task."""

    def events(self, timeout: float) -> list[Event] | None:
        """Return what happened since the last call, after at most ``timeout`` seconds.

        Returns ``None`` once the process has ended and all its events have been returned.
        """

    def stop(self, reason: StopReason) -> None:
        """Ask training to end before its next step; it answers with ``TrainStopped``."""

    def end(self) -> Ending:
        """Kill what still runs, release it and return how it ended."""


class Executor(Protocol):
    """A place where tasks run."""

    def prepare(self) -> None:
        """Get ready for the next ``start``, so that it does not wait; may block."""

    def start(self, task: TrainTask) -> Handle:
        """Begin to train ``task`` and return its handle."""

    def alive(self) -> bool:
        """Return whether tasks can be started."""

    def close(self) -> None:
        """Release everything; running tasks are killed."""
