"""Lanes: so many requests of one kind at once, and none of them in the way of other kinds."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Annotated, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from app.errors import TooManyRequests

_T = TypeVar("_T")


class Lane:
    """Has ``places`` for requests, and ``threads`` of its own for what they have to do."""

    def __init__(self, what: str, places: int, threads: int) -> None:
        self._what, self._places, self._taken = what, places, 0
        self._lock = threading.Lock()
        self._threads = CapacityLimiter(threads)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place while the block runs. Raises TooManyRequests where there is none."""
        with self._lock:
            full = self._taken >= self._places
            self._taken += not full
        if full:
            raise TooManyRequests(
                f"{self._places} {self._what} are being answered, which is all there may be at "
                "once; try again in a moment"
            )
        try:
            yield
        finally:
            with self._lock:
                self._taken -= 1

    async def run(self, work: Callable[[], _T]) -> _T:
        """Return ``work()``, done in a thread of this lane."""
        return await to_thread.run_sync(work, limiter=self._threads)

    async def each(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the pieces, each made in a thread of this lane."""
        while (piece := await self.run(lambda: next(pieces, None))) is not None:
            yield piece


class Lanes:
    """The lanes of one process, by kind."""

    def __init__(self) -> None:
        self.plots = Lane("plots", places=50, threads=2)
        self.downloads = Lane("downloads", places=64, threads=2)
        self.exports = Lane("tables as CSV or Arrow", places=6, threads=2)
        self.onnx = Lane("models as ONNX", places=12, threads=1)
        self.waits = Lane("requests that wait", places=4_000, threads=2)
        self.streams = Lane("streams", places=2_000, threads=2)


async def _lanes(request: Request) -> Lanes:
    lanes: Lanes = request.app.state.lanes
    return lanes


LanesDep = Annotated[Lanes, Depends(_lanes)]


async def _held() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as held:
        yield held


HeldDep = Annotated[AsyncExitStack, Depends(_held)]
"""For what is held until the answer has been sent or its client has left, such as a place."""
