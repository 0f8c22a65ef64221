"""Lanes: so many requests of one kind at once, and none of them in the way of other kinds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from app.errors import TooManyRequests

_T = TypeVar("_T")


class Lane:
    """Holds ``at_once`` requests, and ``waiting`` more where they need a thread of the lane."""

    def __init__(self, what: str, at_once: int, waiting: int = 0) -> None:
        self._what, self._most = what, at_once + waiting
        self._threads = CapacityLimiter(at_once)
        self._here = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place while the block runs. Raises TooManyRequests where there is none."""
        if self._here >= self._most:
            raise TooManyRequests(
                f"{self._most} {self._what} are being answered, which is all there may be at once; "
                "try again in a moment"
            )
        self._here += 1
        try:
            yield
        finally:
            self._here -= 1

    async def run(self, work: Callable[[], _T]) -> _T:
        """Return ``work()``, done in a thread of this lane. Raises TooManyRequests."""
        with self.place():
            return await to_thread.run_sync(work, limiter=self._threads)
