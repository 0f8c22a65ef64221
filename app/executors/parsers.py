"""Parsing in limited child processes of a fork server that has no torch."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.errors import FitserveError, InvalidData, ShuttingDown, TooLarge, Unavailable
from app.executors.forkserver import Child, ForkServer
from app.executors.parsing import REPLY, ParseTask, Reply
from app.ml.tables.ingest import Limits, Options, Summary

_MODULE = "app.executors.parsing"
_POLL_SECONDS = 0.2
_BASE_BYTES = 1536 * 1024 * 1024  # Arrow's allocator reserves 1 GiB at once, and it counts


_ENDED = "the processes that read files ended; send the file again"


class _ServerGone(Unavailable):
    """Raised where the fork server died, and every child with it."""


class Parsers:
    """Warm children that read files; ``memory_bytes`` and ``seconds`` bound each file."""

    def __init__(
        self, memory_bytes: int, seconds: float, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self._memory_bytes = memory_bytes
        self._seconds = seconds
        self._stopping = stopping
        self._lock = threading.Lock()
        self._server: ForkServer | None = None
        # a parent-death signal comes when the *thread* ends that started the process
        self._starter = ThreadPoolExecutor(1, "parsers")
        self._idle: list[Child] = []
        self._closed = False
        self.at_once = len(os.sched_getaffinity(0))
        """How many files are worth reading at the same time."""

    def prepare(self) -> None:
        """Have a child ready for the next file."""
        if not self._idle and not self._closed:
            with contextlib.suppress(OSError, FitserveError):
                self._idle.append(self._fork())

    def parse(self, source: Path, folder: Path, options: Options, limits: Limits) -> Summary:
        """Read ``source`` into ``folder`` and return the table's summary; blocks.

        Raises InvalidInput of any kind (also where the limits end it), StorageFull, Unavailable
        or ShuttingDown.
        """
        task = ParseTask(
            source=source,
            folder=folder,
            options=options,
            limits=limits,
            memory_bytes=min(self._memory_bytes, _BASE_BYTES + 4 * limits.decoded_bytes),
        )
        try:
            reply = self._answer(task)
        except _ServerGone:
            reply = self._answer(task)  # by a new fork server; the file is not to blame
        if reply.type == "refused":
            raise reply.error()
        return reply.summary()

    def close(self) -> None:
        """Release everything; files that are being read are given up."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        self._starter.shutdown(wait=False)

    # ------------------------------------------------------------ one file

    def _answer(self, task: ParseTask) -> Reply:
        child = self._send(task)
        keep = False
        try:
            reply = self._wait(child)
            keep = reply.reusable
            return reply
        except (EOFError, OSError) as error:
            child.kill()
            raise self._ended(child) from error
        finally:
            if keep and len(self._idle) < self.at_once:
                self._idle.append(child)
            else:
                child.kill()
                with contextlib.suppress(OSError):
                    child.reap()
                threading.Thread(target=self.prepare, daemon=True).start()

    def _send(self, task: ParseTask) -> Child:
        message = task.model_dump_json().encode()
        while True:
            try:
                child = self._idle.pop()
            except IndexError:
                break
            try:
                child.connection.send_bytes(message)
                return child
            except OSError:  # it was killed while it waited
                child.kill()
                with contextlib.suppress(OSError):
                    child.reap()
        child = self._fork()
        child.connection.send_bytes(message)
        return child

    def _wait(self, child: Child) -> Reply:
        deadline = time.monotonic() + self._seconds
        while not child.connection.poll(_POLL_SECONDS):
            if self._stopping():
                raise ShuttingDown("the server is stopping; send the file again in a moment")
            if time.monotonic() > deadline:
                raise TooLarge(
                    f"reading the file takes longer than {self._seconds:g} s; send it in parts, "
                    "or raise FITSERVE_PARSE_SECONDS"
                )
        return REPLY.validate_json(child.connection.recv_bytes())

    def _ended(self, child: Child) -> FitserveError:
        if self._closed or self._stopping():
            return ShuttingDown("the server is stopping; send the file again in a moment")
        if self._server is None or not self._server.alive():
            return _ServerGone(_ENDED)
        try:
            code = child.reap()
        except OSError:
            return _ServerGone(_ENDED)
        if code == -signal.SIGKILL:  # its limits do not end it so; the machine or a person did
            return Unavailable("the process that read the file was killed; send the file again")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return InvalidData(
            f"the process that read the file ended ({how}), perhaps for want of memory; "
            "the file may be damaged, or needs to be sent in parts"
        )

    def _fork(self) -> Child:
        with self._lock:
            if self._closed:
                raise ShuttingDown("the server is stopping; send the file again in a moment")
            if self._server is None or not self._server.alive():
                self._idle.clear()  # they died with it
                started = self._starter.submit(ForkServer, _MODULE, 0)
                self._server = started.result()
            try:
                return self._server.fork()
            except ConnectionError as error:
                raise _ServerGone(_ENDED) from error
