"""Training in warm child processes of this machine."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

from app.executors.base import Ending
from app.executors.forkserver import Child, ForkServer
from app.executors.memory import out_of_memory_kills
from app.ml.training.events import EVENTS, Event, StopReason, TrainEnded, TrainTask

_MODULE = "app.executors.training"
_NICENESS = 5  # whoever waits for an answer goes first
WAITING, TRAINING = "fitserve-spare", "fitserve-train"
"""Names of a child while it has no task and while it has one."""
IDLE = b"idle"
"""What a child sends that takes another task."""
_READY_SECONDS = 0.02
"""How long one that has just ended a task is waited for; a new one takes longer."""
_REST_SECONDS = 60.0
"""After which a child that had a task before is let go of, and its memory with it."""


class LocalExecutor:
    """Forks children from a fork server that has torch imported.

    A spare child stands ready, so that a task does not wait for the fork; one whose task went to
    its end takes the next, and is let go of when none comes for a minute.
    """

    def __init__(self) -> None:
        self._server = ForkServer(_MODULE, _NICENESS)
        self._lock = threading.Lock()
        self._spare: Child | None = None
        self._used: list[tuple[Child, float]] = []
        """Children that have ended a task well, and when; those that wait have said so."""
        self._closed = False

    def prepare(self) -> None:
        """Have a spare child ready; blocks until the fork server has imported torch."""
        with self._lock:
            if not self._has_spare() and not self._closed:
                self._spare = self._fork()
            rested = [used for used in self._used if time.monotonic() - used[1] > _REST_SECONDS]
            self._used = [used for used in self._used if used not in rested]
        for child, _ in rested:
            _end(child)

    def start(self, task: TrainTask) -> "LocalHandle":
        """Hand ``task`` to a child that has trained before, to the spare one, or to a new one, and
        return its handle."""
        message = task.model_dump_json().encode()
        child = self._waiting() or self._take_spare()
        try:
            child.connection.send_bytes(message)
        except OSError:  # it was killed while it waited
            _end(child)
            with self._lock:
                child = self._fork()
            child.connection.send_bytes(message)
        return LocalHandle(child, self._take_back)

    def alive(self) -> bool:
        """Return whether tasks can be started."""
        return not self._closed and self._server.alive()

    def close(self) -> None:
        """Release everything; running tasks are killed."""
        self._closed = True
        self._server.close()  # not under the lock: a thread may hold it and wait for the server

    # ------------------------------------------------------------ children

    def _waiting(self) -> Child | None:
        """Return a child that waits for its next task, the one that began to last; ``None`` where
        there is none, or none is as far."""
        while True:
            with self._lock:
                if not self._used:
                    return None
                child, since = self._used.pop()
            try:
                if child.connection.poll(_READY_SECONDS):
                    if child.connection.recv_bytes() == IDLE:
                        return child
                else:  # it is a moment's work, so this is not the usual case
                    with self._lock:
                        self._used.insert(0, (child, since))
                    return None
            except (EOFError, OSError):
                pass
            _end(child)  # it has ended, as it does after so many tasks

    def _take_spare(self) -> Child:
        with self._lock:
            spare = self._spare if self._has_spare() else None
            child, self._spare = spare or self._fork(), None
        return child

    def _take_back(self, child: Child) -> None:
        """Keep a child whose task went to its end, as many as there are processors."""
        with self._lock:
            reusable = len(self._used) < (os.cpu_count() or 1) and not self._closed
            if reusable:
                self._used.append((child, time.monotonic()))
        if not reusable:
            _end(child)

    def _has_spare(self) -> bool:
        """Whether there is a spare child; it dies with its fork server."""
        return self._spare is not None and self._server.alive()

    def _fork(self) -> Child:
        try:
            if self._server.alive():
                return self._server.fork()
        except ConnectionError:  # it has just ended
            if self._closed:
                raise
        if not self._closed:
            self._server = ForkServer(_MODULE, _NICENESS)
        return self._server.fork()


def _end(child: Child) -> None:
    child.kill()
    with contextlib.suppress(OSError):
        child.reap()


class LocalHandle:
    """One task in a training child; ``take_back`` gets the child where it may take another."""

    def __init__(self, child: Child, take_back: Callable[[Child], None]) -> None:
        self._child, self._take_back = child, take_back
        self._ended = self._succeeded = self._stopped = False
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
            events = EVENTS.validate_json(self._child.connection.recv_bytes())
        except (EOFError, OSError):
            self._ended = True
            return None
        self._succeeded = bool(events) and isinstance(events[-1], TrainEnded)
        return events

    def stop(self, reason: StopReason) -> None:
        """Ask training to end before its next step; it answers with ``TrainStopped``."""
        self._stopped = True
        with contextlib.suppress(OSError):
            self._child.connection.send_bytes(reason.encode())

    def end(self) -> Ending:
        """Kill the child if it still runs, and return how it ended; safe to repeat.

        One whose task went to its end goes on to the next instead.
        """
        if self._succeeded and not self._stopped:
            if not self._ended:
                self._ended = True
                self._take_back(self._child)
            return Ending("it waits for another task")
        self._child.kill()
        try:
            code = self._child.reap()
        except OSError:
            return Ending("the fork server ended")
        if code >= 0:
            return Ending(f"exit code {code}")
        killed = code == -signal.SIGKILL and out_of_memory_kills() > self._kills_before
        return Ending(signal.Signals(-code).name, killed)
