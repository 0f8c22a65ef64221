"""Dynamic micro-batching: forward passes of several requests as one, in a thread.

For models that are too large to be computed on the event loop: their time goes into reading the
weights, which is the same for one row and for many. What arrives while a pass is computed shares
the next one, as in Clipper (Crankshaw et al., NSDI 2017): up to a size, after a delay.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from anyio import to_thread

if TYPE_CHECKING:
    from app.ml.column_types.fitted import Matrix
    from app.ml.inference.predictor import Predictor


class _Queue:
    """The matrices that wait for one model, and who waits for their outputs."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Matrix, asyncio.Future[Matrix]]] = deque()
        self.rows = 0
        self.task: asyncio.Task[None] | None = None

    def take(self, max_rows: int) -> "list[tuple[Matrix, asyncio.Future[Matrix]]]":
        """Remove and return the oldest, as many as have ``max_rows`` rows together, or one."""
        taken = [self.waiting.popleft()]
        rows = len(taken[0][0])
        while self.waiting and rows + len(self.waiting[0][0]) <= max_rows:
            taken.append(self.waiting.popleft())
            rows += len(taken[-1][0])
        self.rows -= rows
        return taken


class Batches:
    """Forward passes that requests share, one at a time for each model; used in the event loop.

    ``max_rows`` bounds what shares a pass (a request of its own may be larger), ``max_delay`` is
    how many seconds a pass waits for more.
    """

    def __init__(self, max_rows: int, max_delay: float) -> None:
        self._max_rows, self._max_delay = max_rows, max_delay
        self._queues: WeakKeyDictionary[Predictor, _Queue] = WeakKeyDictionary()

    async def outputs(self, predictor: "Predictor", x: "Matrix") -> "Matrix":
        """Return ``predictor.forward(x)``, computed perhaps together with others' rows.

        ``x`` is ``(rows, inputs)``, the result ``(rows, outputs)``.
        """
        queue = self._queues.setdefault(predictor, _Queue())
        future: asyncio.Future[Matrix] = asyncio.get_running_loop().create_future()
        queue.waiting.append((x, future))
        queue.rows += len(x)
        if queue.task is None:
            queue.task = asyncio.create_task(self._work(predictor, queue))
        return await future

    async def _work(self, predictor: "Predictor", queue: _Queue) -> None:
        try:
            while queue.waiting:
                if self._max_delay and queue.rows < self._max_rows:
                    await asyncio.sleep(self._max_delay)
                taken = queue.take(self._max_rows)
                inputs = [x for x, _ in taken]
                try:
                    found = await to_thread.run_sync(_forward, predictor, inputs)
                except Exception as error:
                    for _, future in taken:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), outputs in zip(taken, found, strict=True):
                    if not future.done():  # else its client has gone
                        future.set_result(outputs)
        finally:
            queue.task = None


def _forward(predictor: "Predictor", inputs: "Sequence[Matrix]") -> "Sequence[Matrix]":
    if len(inputs) == 1:
        return [predictor.forward(inputs[0])]
    ends = np.cumsum([len(x) for x in inputs])[:-1]
    return np.split(predictor.forward(np.concatenate(inputs)), ends)
