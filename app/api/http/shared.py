"""Work that is done once for all who ask for the same meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Work in progress, by key; used in the event loop. Whoever asked for it may leave."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[T]] = {}

    async def get(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what ``work`` returns, begun already where somebody else waits for ``key``.

        Raises what it raises.
        """
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.create_task(self._do(key, work))
            self._tasks[key] = task
            task.add_done_callback(_look_at)
        return await asyncio.shield(task)

    async def _do(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await work()
        finally:
            del self._tasks[key]


def _look_at(task: "asyncio.Task[Any]") -> None:
    """Take notice of an error that nobody may be left to hear of."""
    if not task.cancelled():
        task.exception()
