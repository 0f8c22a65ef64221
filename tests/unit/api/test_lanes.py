"""A lane takes so many, and refuses the next."""

import asyncio
import threading
from functools import partial

import pytest

from app.api.http.lanes import Lane
from app.errors import TooManyRequests


def test_a_lane_works_in_so_many_threads() -> None:
    async def run() -> None:
        lane, go_on = Lane("plots", places=9, threads=2), threading.Event()
        working: list[int] = []

        def work(number: int) -> int:
            working.append(number)
            go_on.wait(30)
            return number

        tasks = [asyncio.create_task(lane.run(partial(work, n))) for n in range(5)]
        while len(working) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert len(working) == 2
        go_on.set()
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
        assert [piece async for piece in lane.each(iter([b"a", b"b"]))] == [b"a", b"b"]

    asyncio.run(run())


def test_a_place_is_free_again_whatever_ends_in_it() -> None:
    lane = Lane("streams", places=1, threads=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), lane.place():
            raise ZeroDivisionError
    with lane.place(), pytest.raises(TooManyRequests, match="1 streams"), lane.place():
        pass
