"""What a training child does: read one task from its pipe, train it, send events back."""

import contextlib
import gc
import select
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from app.errors import FitserveError, Unavailable
from app.ml.training import loop
from app.ml.training.events import EVENTS, Event, StopReason, TrainFailed, TrainTask
from app.ml.training.fit import fit

_REASONS: dict[bytes, StopReason] = {b"cancel": "cancel", b"pause": "pause"}
_FLUSH_SECONDS = 0.02
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
    """Train the task that comes through ``connection``; returns early if nobody listens."""
    if not connection.poll():
        with contextlib.suppress(OSError):  # there may be no room to rehearse in
            _rehearse()
    try:
        task = TrainTask.model_validate_json(connection.recv_bytes())
    except EOFError:
        return  # a spare that was never needed
    outbox = _Outbox(connection)
    try:
        for event in loop.train(task, _Inbox(connection)):
            outbox.add(event)
        outbox.flush()
    except BrokenPipeError:
        return
    except Exception as error:
        outbox.add(_failure(error))
        outbox.flush()


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
    while the other side is busy, so that no step waits for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._room = select.poll()
        self._room.register(connection.fileno(), select.POLLOUT)
        self._events: list[Event] = []
        self._sent = time.monotonic()

    def add(self, event: Event) -> None:
        self._events.append(event)
        if time.monotonic() - self._sent >= _FLUSH_SECONDS:
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
