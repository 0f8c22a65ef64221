"""What a training child does: read one task from its pipe, train it, send events back."""

import select
import time
import traceback
from multiprocessing.connection import Connection

import torch

from app.errors import FitserveError
from app.ml import loop
from app.ml.events import EVENTS, Event, StopReason, TrainFailed, TrainTask

_FLUSH_SECONDS = 0.02
_JOB_CODES = {"diverged", "out_of_memory", "time_limit", "storage_full", "invalid_data"}


def warm_up() -> None:
    """Let the fork server do once what is slow the first time; no backward pass, no CUDA."""
    torch.set_num_threads(1)
    for optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        weight = torch.nn.Parameter(torch.zeros(2))
        weight.grad = torch.ones(2)
        optimizer([weight], lr=0.1, fused=True).step()
    torch.randperm(4, generator=torch.Generator().manual_seed(0))


def run(connection: Connection) -> None:
    """Train the task that comes through ``connection``; returns early if nobody listens."""
    try:
        task = TrainTask.model_validate_json(connection.recv_bytes())
    except EOFError:
        return  # a spare that was never needed
    outbox = _Outbox(connection)
    try:
        for event in loop.train(task, _Inbox(connection)):
            outbox.add(event)
    except BrokenPipeError:
        return
    except FitserveError as error:
        code = error.code if error.code in _JOB_CODES else "internal_error"
        outbox.add(TrainFailed(code=code, message=error.detail))
    except (MemoryError, torch.OutOfMemoryError) as error:
        outbox.add(TrainFailed(code="out_of_memory", message=f"out of memory: {error}"[:500]))
    except Exception as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"[:500]
        outbox.add(TrainFailed(code="internal_error", message=message))
    outbox.flush()


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
            return "cancel" if self._connection.recv_bytes() == b"cancel" else "shutdown"
        except (EOFError, ConnectionError):  # nobody is left who wants the result
            return "shutdown"


class _Outbox:
    """Sends events in batches, so that a short epoch is not spent on a system call."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._events: list[Event] = []
        self._sent = time.monotonic()

    def add(self, event: Event) -> None:
        self._events.append(event)
        if time.monotonic() - self._sent >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._events:
            self._connection.send_bytes(EVENTS.dump_json(self._events))
            self._events.clear()
        self._sent = time.monotonic()
