"""Wake-ups inside one process, so that nobody polls the database to learn what was just written.

A signal is a hint that carries no data: whoever wakes looks at the database. Losing one costs a
little time (waiters look again by themselves), never a result.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

_Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class Signals:
    """Wakes the worker's threads and the API's event loop when what they wait for happens."""

    def __init__(self) -> None:
        self._queue = threading.Condition()
        self._queued = 0
        self._lock = threading.Lock()
        self._waiters: dict[str, set[_Waiter]] = defaultdict(set)
        self._models = 0
        self._models_changing = 0

    # ------------------------------------------------------------ queue: API -> worker

    def queued(self) -> None:
        """Wake the worker: a job may be queued, or it should look up for another reason."""
        with self._queue:
            self._queued += 1
            self._queue.notify_all()

    def wait_queued(self, mark: int, timeout: float | None) -> int:
        """Block until something is queued after ``mark`` was taken; return the mark of now.

        Waits at most ``timeout`` seconds, or for as long as it takes where that is ``None``.
        """
        with self._queue:
            self._queue.wait_for(lambda: self._queued != mark, timeout)
            return self._queued

    @property
    def queue_mark(self) -> int:
        """A count to take before looking at the queue, for ``wait_queued`` afterwards."""
        with self._queue:
            return self._queued

    # ------------------------------------------------------------ models: who changes -> who caches

    @contextmanager
    def models_changing(self) -> Iterator[None]:
        """Enclose a transaction that makes, deletes or re-points versions or aliases of models.

        However it ends, it may have been committed, so ``models_changed`` is called.
        """
        with self._lock:
            self._models_changing += 1
        try:
            yield
        finally:
            with self._lock:
                self._models_changing -= 1
            self.models_changed()

    def models_changed(self) -> None:
        """Tell caches that a reference to a model may name another version than before."""
        with self._lock:
            self._models += 1

    @property
    def models_mark(self) -> int:
        """A count to take before looking a reference up and to keep with the answer, which holds
        for as long as this stays the same.

        While a change is being committed no two are the same, since others may see it already.
        """
        with self._lock:
            self._models += self._models_changing > 0
            return self._models

    # ------------------------------------------------------------ one job: worker -> API

    def changed(self, job_id: str) -> None:
        """Wake those who wait for the job: its row has changed."""
        with self._lock:
            waiters = list(self._waiters.get(job_id, ()))
        for loop, event in waiters:
            loop.call_soon_threadsafe(event.set)

    def wake_all(self) -> None:
        """Wake everybody: the server is stopping."""
        for job_id in self.followed():
            Signals.changed(self, job_id)
        Signals.queued(self)

    def followed(self) -> list[str]:
        """Return the ids of the jobs that somebody waits for."""
        with self._lock:
            return list(self._waiters)

    def subscribe(self, job_id: str) -> "Subscription":
        """Return a subscription to the job's changes; call it in the event loop."""
        return Subscription(self, job_id)

    def _add(self, job_id: str, waiter: _Waiter) -> None:
        with self._lock:
            self._waiters[job_id].add(waiter)

    def _discard(self, job_id: str, waiter: _Waiter) -> None:
        with self._lock:
            self._waiters[job_id].discard(waiter)
            if not self._waiters[job_id]:
                del self._waiters[job_id]


class Subscription:
    """Hears of one job: ``with signals.subscribe(id) as changes: await changes.wait(5)``."""

    def __init__(self, signals: Signals, job_id: str) -> None:
        self._signals, self._job_id = signals, job_id
        self._waiter = (asyncio.get_running_loop(), asyncio.Event())

    def __enter__(self) -> "Subscription":
        self._signals._add(self._job_id, self._waiter)
        return self

    def __exit__(self, *_: object) -> None:
        self._signals._discard(self._job_id, self._waiter)

    async def wait(self, timeout: float) -> None:
        """Wait for the next change, at most ``timeout`` seconds."""
        event = self._waiter[1]
        try:
            await asyncio.wait_for(event.wait(), timeout)
        except TimeoutError:
            return
        event.clear()
