"""What a training child does: read a task from its pipe, train it, send events back; and again.

A child whose task went to its end takes another one: it has loaded and touched all that training
needs. It is left as the first task found it (random states; torch's flags nobody changes), so the
results are those of a new child, bit for bit. It ends after a task that failed or was stopped, used
several threads or a GPU, or left much memory behind; after so many tasks or minutes; and where its
executor says so.
"""

import contextlib
import gc
import random
import resource
import select
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from app.errors import FitserveError, Unavailable
from app.executors.local import IDLE, TRAINING, WAITING
from app.ml.training import loop
from app.ml.training.events import (
    EVENTS,
    CheckpointBegun,
    Event,
    StopReason,
    TrainEnded,
    TrainFailed,
    TrainTask,
)
from app.ml.training.fit import fit

_REASONS: dict[bytes, StopReason] = {b"cancel": "cancel", b"pause": "pause"}
_MOST_TASKS = 100
_OLDEST_SECONDS = 600.0
_MOST_GROWN_BYTES = 256 * 1024 * 1024
_FLUSH_SECONDS = 0.1
_MOST_AT_ONCE = 200  # events, some 150 bytes each: what a socket has room for when it says so
_OVERFLOW = "cannot be converted to type float without overflow"
_ALLOCATOR = "DefaultCPUAllocator: can't allocate memory"
_JOB_CODES = {
    "diverged",
    "out_of_memory",
    "time_limit",
    "storage_full",
    "invalid_data",
    "artifact_corrupt",
}


def warm_up() -> None:
    """Do once in the fork server what every child would: no backward pass, no CUDA, nothing that
    starts threads, since children would inherit their locks without them."""
    torch.set_num_threads(1)
    for optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        weight = torch.nn.Parameter(torch.zeros(2))
        weight.grad = torch.ones(2)
        optimizer([weight], lr=0.1, fused=True).step()
    gc.collect()
    gc.freeze()  # so that a child's collector leaves the pages alone that it shares with us


def run(connection: Connection) -> None:
    """Train the tasks that come through ``connection``; returns early if nobody listens."""
    _call_ourselves(WAITING)
    if not connection.poll():
        with contextlib.suppress(OSError):  # there may be no room to rehearse in
            _rehearse()
    fresh, until = _Fresh(), time.monotonic() + _OLDEST_SECONDS
    for number in range(1, _MOST_TASKS + 1):
        try:
            task = TrainTask.model_validate_json(connection.recv_bytes())
        except EOFError:
            return  # never needed, or no longer
        _call_ourselves(TRAINING)
        if not _trained(task, connection) or task.spec.threads > 1:
            return
        if number == _MOST_TASKS or time.monotonic() > until:
            return
        _call_ourselves(WAITING)
        if not fresh.restored():
            return
        try:
            connection.send_bytes(IDLE)
        except OSError:
            return


def _trained(task: TrainTask, connection: Connection) -> bool:
    """Train, and send all events; return whether training went to its end."""
    outbox = _Outbox(connection)
    event: Event | None = None
    try:
        for event in loop.train(task, _Inbox(connection)):
            outbox.add(event)
        outbox.flush()
    except BrokenPipeError:
        return False
    except Exception as error:
        outbox.add(_failure(error))
        outbox.flush()
        return False
    return isinstance(event, TrainEnded)


class _Fresh:
    """What a task may change in its process, as it was before the first."""

    def __init__(self) -> None:
        self._torch = torch.get_rng_state()
        self._numpy, self._python = np.random.get_state(), random.getstate()
        self._bytes = _resident_bytes()

    def restored(self) -> bool:
        """Put everything back; return whether that can be done: a GPU keeps its context, and memory
        may be lost between what is still used."""
        torch.set_rng_state(self._torch)
        np.random.set_state(self._numpy)
        random.setstate(self._python)
        gc.collect()
        grown = _resident_bytes() - self._bytes
        has_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return grown < _MOST_GROWN_BYTES and not has_gpu


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _call_ourselves(name: str) -> None:
    """Have ``ps`` and ``top`` say what we do."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _failure(error: Exception) -> TrainFailed:
    if isinstance(error, Unavailable):  # of storage: it refuses to write
        return TrainFailed(code="storage_full", message=error.detail)
    if isinstance(error, FitserveError):
        code = error.code if error.code in _JOB_CODES else "internal_error"
        return TrainFailed(code=code, message=error.detail)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _ALLOCATOR in str(error):
        return TrainFailed(code="out_of_memory", message=f"out of memory: {error}"[:500])
    if isinstance(error, OverflowError) or _OVERFLOW in str(error):  # a parameter beyond float32
        remedy = "use less extreme parameters"
        return TrainFailed(code="diverged", message=f"training diverged: {error}; {remedy}"[:500])
    with contextlib.suppress(OSError):  # a log on a full disk
        traceback.print_exc()
    return TrainFailed(code="internal_error", message=f"{type(error).__name__}: {error}"[:500])


def _rehearse() -> None:
    """Train a tiny table from end to end while there is nothing else to do.

    The first run of anything is slow: libraries load parts of themselves, and pages shared with
    the fork server are copied as they are touched. A spare child has time for that.
    """
    with TemporaryDirectory(prefix="fitserve-") as folder:
        events: list[Event] = []
        columns = {"x": range(10), "y": range(10)}
        options = {"model": "mlp", "epochs": 2, "batch_size": None}
        fit(columns, "y", Path(folder), on_event=events.append, **options)
        EVENTS.dump_json(events)


class _Inbox:
    """The loop's ``should_stop``: asked before every step, so one bare system call."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)

    def __call__(self) -> StopReason | None:
        if not self._poll.poll(0):
            return None
        try:
            return _REASONS.get(self._connection.recv_bytes(), "shutdown")
        except (EOFError, ConnectionError):  # nobody is left who wants the result
            return "shutdown"


class _Outbox:
    """Sends events in batches, so that a short epoch is not spent on a system call, and keeps them
    while the other side is busy, so that no step waits for it.

    That a checkpoint begins is sent before it does: whoever kills us knows what to look for.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._room = select.poll()
        self._room.register(connection.fileno(), select.POLLOUT)
        self._events: list[Event] = []
        self._sent = time.monotonic()

    def add(self, event: Event) -> None:
        self._events.append(event)
        if isinstance(event, CheckpointBegun) or time.monotonic() - self._sent >= _FLUSH_SECONDS:
            while self._events and self._room.poll(0):
                self._send()
            self._sent = time.monotonic()

    def flush(self) -> None:
        """Send what is left, however long that takes."""
        while self._events:
            self._send()

    def _send(self) -> None:
        events, self._events = self._events[:_MOST_AT_ONCE], self._events[_MOST_AT_ONCE:]
        self._connection.send_bytes(EVENTS.dump_json(events))
