"""Training in warm child processes of this machine."""

import contextlib
import signal
import threading

from app.executors.base import Ending
from app.executors.forkserver import Child, ForkServer
from app.executors.memory import out_of_memory_kills
from app.ml.training.events import EVENTS, Event, StopReason, TrainTask

_MODULE = "app.executors.training"
_NICENESS = 5  # whoever waits for an answer goes first


class LocalExecutor:
    """Forks a child per task from a fork server that has torch imported.

    One spare child stands ready, so that a task does not wait for the fork.
    """

    def __init__(self) -> None:
        self._server = ForkServer(_MODULE, _NICENESS)
        self._lock = threading.Lock()
        self._spare: Child | None = None
        self._closed = False

    def prepare(self) -> None:
        """Have a spare child ready; blocks until the fork server has imported torch."""
        with self._lock:
            if not self._has_spare() and not self._closed:
                self._spare = self._fork()

    def start(self, task: TrainTask) -> "LocalHandle":
        """Hand ``task`` to the spare child, or to a new one, and return its handle."""
        with self._lock:
            spare = self._spare if self._has_spare() else None
            child, self._spare = spare or self._fork(), None
        try:
            child.connection.send_bytes(task.model_dump_json().encode())
        except OSError:  # the spare was killed while it waited
            child.kill()
            with contextlib.suppress(OSError):
                child.reap()
            child = self._fork()
            child.connection.send_bytes(task.model_dump_json().encode())
        return LocalHandle(child)

    def alive(self) -> bool:
        """Return whether tasks can be started."""
        return not self._closed and self._server.alive()

    def close(self) -> None:
        """Release everything; running tasks are killed."""
        self._closed = True
        self._server.close()  # not under the lock: a thread may hold it and wait for the server

    def _has_spare(self) -> bool:
        """Whether there is a spare child; it dies with its fork server."""
        return self._spare is not None and self._server.alive()

    def _fork(self) -> Child:
        if not self._server.alive() and not self._closed:
            self._server = ForkServer(_MODULE, _NICENESS)
        return self._server.fork()


class LocalHandle:
    """One training child."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._ended = False
        self._kills_before = out_of_memory_kills()

    def events(self, timeout: float) -> list[Event] | None:
        """Return what happened since the last call, after at most ``timeout`` seconds.

        Returns ``None`` once the child has ended and all its events have been returned.
        """
        if self._ended:
            return None
        try:
            if not self._child.connection.poll(timeout):
                return []
            return EVENTS.validate_json(self._child.connection.recv_bytes())
        except (EOFError, OSError):
            self._ended = True
            return None

    def stop(self, reason: StopReason) -> None:
        """Ask training to end before its next step; it answers with ``TrainStopped``."""
        with contextlib.suppress(OSError):
            self._child.connection.send_bytes(reason.encode())

    def end(self) -> Ending:
        """Kill the child if it still runs, release it and return how it ended."""
        self._child.kill()
        try:
            code = self._child.reap()
        except OSError:
            return Ending("the fork server ended")
        if code >= 0:
            return Ending(f"exit code {code}")
        killed = code == -signal.SIGKILL and out_of_memory_kills() > self._kills_before
        return Ending(signal.Signals(-code).name, killed)
