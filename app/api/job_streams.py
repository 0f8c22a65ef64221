"""Following jobs: one reader of the database per followed job, however many follow it.

A stream reads the events of its job as they come and keeps the newest, encoded once; followers copy
them from memory. A follower that starts before what is kept reads its own way up to it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import orjson
from anyio import CapacityLimiter, to_thread
from fastapi.sse import format_sse_event

from app import logs
from app.db.models import TERMINAL
from app.errors import NotFound, ServiceError
from app.runtime.context import Context
from app.services.jobs import events, jobs
from app.services.jobs.events import Event

_RETRY_SECONDS = 1.0
"""How long a missed signal may delay an event."""
_PING_SECONDS = 15.0
"""How often a stream without events says that it is alive, so that no proxy closes it."""
_PAGE_EVENTS = 500
"""Read at once."""
_MEMORY_EVENTS = 5_000
"""Held for followers of one job; at times twice as many."""
_THREADS = 2
"""That read events, for all followers together: a crowd of them must not hold up other reads."""
_PING = b": ping\n\n"

log = logs.get("streams")


def encode(event: Event) -> bytes:
    """Return an event as server-sent events have it."""
    data = orjson.dumps(event.data).decode()
    return format_sse_event(data_str=data, event=event.type, id=str(event.id))


def _closing_event(name: str, detail: str) -> bytes:
    """Return an event without an id: a client that comes back goes on after the last real one."""
    return format_sse_event(data_str=orjson.dumps({"detail": detail}).decode(), event=name)


@dataclass(frozen=True)
class _Page:
    """Encoded events from id ``first`` to ``last``; ``complete``: the job has ended with them."""

    first: int
    encoded: list[bytes]
    last: int
    complete: bool


def _read(context: Context, job_id: str, after: int | None) -> _Page:
    """Return a page of events after the id ``after``; ``None``: none, but where the job stands.

    Raises NotFound.
    """
    with context.database.read() as session:
        job = jobs.find(session, job_id)
        end = events.last_id(job)
        first = end + 1 if after is None else min(after, end) + 1
        last = min(end, first + _PAGE_EVENTS - 1)
        found = events.read(session, job_id, first, last) if last >= first else []
        complete = job.status in TERMINAL and last == end
        return _Page(first, [encode(event) for event in found], last, complete)


class JobStream:
    """The events of one job, for all who follow it in this process."""

    def __init__(self, context: Context, job_id: str, threads: CapacityLimiter) -> None:
        self._context, self._job_id, self._threads = context, job_id, threads
        self._first, self._encoded = 0, list[bytes]()
        self._joined: tuple[int, bytes] = (0, b"")
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.followers = 0
        self.complete = False
        """Whether the job has ended and all its events have been read."""
        self.deleted = False

    @property
    def last(self) -> int:
        """Id of the newest event that was read."""
        return self._first + len(self._encoded) - 1

    async def start(self, after: int | None) -> None:
        """Begin after the id ``after``; ``None``: with what comes next. Raises NotFound."""
        self._append(await self._read(after))
        self._task = asyncio.create_task(self._keep_reading())

    async def _read(self, after: int | None) -> _Page:
        read = partial(_read, self._context, self._job_id, after)
        return await to_thread.run_sync(read, limiter=self._threads)

    def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()

    async def wait_for_end(self, seconds: float) -> None:
        """Wait for the job's end, so many seconds, or until the server stops."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (self.complete or self.deleted or self._context.stopping.is_set()):
                    await self._changed.wait()

    async def stream(self, after: int) -> AsyncIterator[bytes]:
        """Yield server-sent events after the id ``after``, until the job's or the server's end."""
        after = min(after, max(self.last, 0))
        while True:
            changed = self._changed
            if after + 1 < self._first:
                page = await self._read(after)
                after = page.last
                yield b"".join(page.encoded)
            elif after < self.last:
                yield self._after(after)
                after = self.last
            elif self.complete:
                return
            elif self.deleted:
                yield _closing_event("deleted", "the job has been deleted")
                return
            elif self._context.stopping.is_set():
                yield _closing_event(
                    "shutdown", "the server is stopping; connect again in a moment"
                )
                return
            else:
                try:
                    await asyncio.wait_for(changed.wait(), _PING_SECONDS)
                except TimeoutError:
                    yield _PING

    # ------------------------------------------------------------ the one reader

    async def _keep_reading(self) -> None:
        with self._context.signals.subscribe(self._job_id) as changes:
            while not (self.complete or self.deleted):
                try:
                    page = await self._read(self.last)
                except NotFound:
                    self.deleted = True
                    self._wake()
                    return
                except ServiceError as error:  # a full disk, a database that is away
                    log.warning("events cannot be read; trying again", detail=error.detail)
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                self._append(page)
                if len(page.encoded) < _PAGE_EVENTS:
                    await changes.wait(_RETRY_SECONDS)

    def _append(self, page: _Page) -> None:
        if not self._encoded:
            self._first = page.first
        self._encoded += page.encoded
        if len(self._encoded) > 2 * _MEMORY_EVENTS:
            self._first += len(self._encoded) - _MEMORY_EVENTS
            self._encoded = self._encoded[-_MEMORY_EVENTS:]
        self.complete = page.complete
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _after(self, after: int) -> bytes:
        """Return all events after ``after``; most followers need the same, so it is cached."""
        key = after * 2**31 + self.last
        if self._joined[0] != key:
            self._joined = (key, b"".join(self._encoded[after + 1 - self._first :]))
        return self._joined[1]


class JobStreams:
    """The streams that somebody follows; used in the event loop only."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = asyncio.Lock()
        self._threads = CapacityLimiter(_THREADS)
        self._streams: dict[str, JobStream] = {}

    @contextlib.asynccontextmanager
    async def follow(self, job_id: str, after: int | None = None) -> AsyncIterator[JobStream]:
        """Give the job's stream, made where nobody follows it yet. Raises NotFound.

        ``after`` is where a new stream begins; left out: with what comes next.
        """
        async with self._lock:
            stream = self._streams.get(job_id)
            if stream is None:
                stream = JobStream(self._context, job_id, self._threads)
                await stream.start(after)
                self._streams[job_id] = stream
            stream.followers += 1
        try:
            yield stream
        finally:
            stream.followers -= 1
            if not stream.followers:
                stream.close()
                del self._streams[job_id]
