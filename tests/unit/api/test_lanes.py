"""A lane takes so many, and refuses the next."""

import asyncio
import threading

import pytest

from app.api.http.lanes import Lane
from app.errors import TooManyRequests


def test_a_full_lane_refuses_and_one_that_has_room_again_does_not() -> None:
    async def run() -> None:
        lane, go_on = Lane("plots", at_once=2, waiting=3), threading.Event()
        working: list[int] = []

        def work(number: int) -> int:
            working.append(number)
            go_on.wait(30)
            return number

        tasks = [asyncio.create_task(lane.run(lambda n=n: work(n))) for n in range(5)]  # type: ignore[misc]
        while len(working) < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(TooManyRequests, match="5 plots"):
            await lane.run(lambda: 5)
        assert len(working) == 2
        go_on.set()
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
        assert await lane.run(lambda: 6) == 6

    asyncio.run(run())


def test_a_place_is_free_again_whatever_ends_in_it() -> None:
    lane = Lane("streams", at_once=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), lane.place():
            raise ZeroDivisionError
    with lane.place(), pytest.raises(TooManyRequests), lane.place():
        pass
