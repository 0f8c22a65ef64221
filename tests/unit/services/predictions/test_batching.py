"""Requests that share forward passes: each gets its own rows, whatever happens to the others."""

import asyncio
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.ml.column_types.fitted import Matrix
from app.ml.inference.predictor import Predictor
from app.services.predictions.batching import Batches
from tests.support.server import PATIENCE
from tests.support.workbench import Workbench, table_of

POISON = -12345.0
FEATURES = 3


class Counting(Predictor):
    """Notes how many rows each pass has; fails on a poisoned row, waits while it is held."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(predictor.card, predictor.module)
        self.passes: list[int] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self._at_once = 0

    def forward(self, x: Matrix) -> Matrix:
        self._at_once += 1
        assert self._at_once == 1, "two passes at a time"
        try:
            self.passes.append(len(x))
            assert self.may_go.wait(PATIENCE)
            if (x == POISON).any():
                raise ValueError("poisoned")
            return super().forward(x)
        finally:
            self._at_once -= 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    columns = {name: [(7 * i + j) % 11 / 3 for i in range(60)] for j, name in enumerate("abc")}
    table = table_of({**columns, "y": [i / 7 for i in range(60)]})
    folder: Path = tmp_path_factory.mktemp("batching")
    return Workbench(folder).train(table, epochs=2, model={"kind": "mlp", "hidden": [8]}).predictor


@pytest.fixture
def predictor(trained: Predictor) -> Iterator[Counting]:
    counting = Counting(trained)
    yield counting
    counting.may_go.set()


def rows(count: int, first: int = 0) -> Matrix:
    """Rows that nobody else has."""
    flat: Matrix = np.arange(first, first + count * FEATURES, dtype=np.float32)
    return flat.reshape(count, FEATURES)


def agree(predictor: Predictor, x: Matrix, outputs: Matrix) -> bool:
    """Whether these are what the model says of the rows alone."""
    expected = Predictor(predictor.card, predictor.module).forward(x)
    return outputs.shape == expected.shape and np.allclose(outputs, expected, 1e-5, 1e-5)


async def held(predictor: Counting, batches: Batches) -> "asyncio.Task[Matrix]":
    """A request whose pass is being computed until ``may_go``; what comes now waits behind it."""
    predictor.may_go.clear()
    first = asyncio.create_task(batches.outputs(predictor, rows(1)))
    while not predictor.passes:
        await asyncio.sleep(0.001)
    return first


def test_fifty_at_once_get_their_own_rows(predictor: Counting) -> None:
    sizes = [1 + (17 * i) % 40 for i in range(50)]
    starts = np.cumsum([0, *sizes[:-1]]) * FEATURES
    asked = [rows(size, int(start)) for size, start in zip(sizes, starts, strict=True)]

    async def main() -> list[Matrix]:
        batches = Batches(1024, 0)
        return await asyncio.gather(*(batches.outputs(predictor, x) for x in asked))

    found = asyncio.run(main())
    assert all(agree(predictor, x, y) for x, y in zip(asked, found, strict=True))
    assert sum(predictor.passes) == sum(sizes)
    assert len(predictor.passes) < len(sizes)
    print(f"\n{len(sizes)} requests of {sum(sizes)} rows in passes of {predictor.passes}")


def test_no_pass_is_larger_than_it_may_be_but_for_a_request_that_is(predictor: Counting) -> None:
    sizes = [*[1 + i % 7 for i in range(60)], 33, *[2] * 10]
    random.Random(0).shuffle(sizes)
    most = 16

    async def main() -> list[Matrix]:
        batches = Batches(most, 0)
        return await asyncio.gather(*(batches.outputs(predictor, rows(n, n)) for n in sizes))

    found = asyncio.run(main())
    assert [len(y) for y in found] == sizes
    assert all(agree(predictor, rows(n, n), y) for n, y in zip(sizes, found, strict=True))
    large = [size for size in predictor.passes if size > most]
    assert large == [33]
    assert sum(predictor.passes) == sum(sizes)
    print(f"\npasses of {predictor.passes}")


def test_a_batch_that_fails_fails_its_requests_alone_and_the_line_goes_on(
    predictor: Counting,
) -> None:
    bad = rows(2)
    bad[1, 1] = POISON

    async def main() -> list[Matrix | BaseException]:
        batches = Batches(8, 0)
        first = await held(predictor, batches)
        shares = [asyncio.create_task(batches.outputs(predictor, x)) for x in (bad, rows(6))]
        later = [asyncio.create_task(batches.outputs(predictor, rows(4, i))) for i in range(5)]
        await asyncio.sleep(0)
        predictor.may_go.set()
        told = await asyncio.gather(first, *shares, *later, return_exceptions=True)
        again = await batches.outputs(predictor, rows(3, 9))  # the line has ended in between
        return [*told, again]

    first, poisoned, beside, *others = asyncio.run(main())
    for told in (poisoned, beside):
        assert isinstance(told, ValueError)
        assert str(told) == "poisoned"
    good = zip(
        [rows(1), *(rows(4, i) for i in range(5)), rows(3, 9)], [first, *others], strict=True
    )
    assert all(isinstance(y, np.ndarray) and agree(predictor, x, y) for x, y in good)
    assert predictor.passes == [1, 8, 8, 8, 4, 3]


def test_who_is_cancelled_while_waiting_or_computed_harms_nobody(predictor: Counting) -> None:
    async def main() -> list[Matrix | BaseException]:
        batches = Batches(64, 0)
        first = await held(predictor, batches)
        tasks = [asyncio.create_task(batches.outputs(predictor, rows(2, i))) for i in range(20)]
        await asyncio.sleep(0)
        for task in (first, *tasks[::3]):
            task.cancel()
        await asyncio.sleep(0)
        predictor.may_go.set()
        return await asyncio.gather(first, *tasks, return_exceptions=True)

    first, *told = asyncio.run(main())
    gone = [isinstance(answer, asyncio.CancelledError) for answer in told]
    assert isinstance(first, asyncio.CancelledError)
    assert gone == [i % 3 == 0 for i in range(20)]
    for i, answer in enumerate(told):
        if i % 3:
            assert isinstance(answer, np.ndarray)
            assert agree(predictor, rows(2, i), answer)


def test_a_line_whose_clients_have_all_gone_serves_the_next(predictor: Counting) -> None:
    async def main() -> Matrix:
        batches = Batches(64, 0)
        gone = [await held(predictor, batches)]
        gone += [asyncio.create_task(batches.outputs(predictor, rows(2))) for _ in range(3)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        predictor.may_go.set()
        return await asyncio.wait_for(batches.outputs(predictor, rows(5, 1)), 30)

    assert agree(predictor, rows(5, 1), asyncio.run(main()))


def test_with_a_delay_what_comes_meanwhile_is_joined(predictor: Counting) -> None:
    async def main(delay: float) -> list[int]:
        predictor.passes.clear()
        batches = Batches(1024, delay)
        for i in range(20):
            waiting = []
            for _ in range(5):  # one after the other
                waiting.append(asyncio.create_task(batches.outputs(predictor, rows(2, i))))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            found = await asyncio.gather(*waiting)
            assert all(agree(predictor, rows(2, i), y) for y in found)
        return list(predictor.passes)

    alone, joined = asyncio.run(main(0.0)), asyncio.run(main(0.05))
    assert joined == [10] * 20
    assert sum(alone) == 200
    assert len(alone) > 20
    print(f"\n20 times 5 requests of 2 rows: {len(alone)} passes, with a delay {len(joined)}")


def test_a_full_batch_does_not_wait(predictor: Counting) -> None:
    async def main() -> None:
        batches = Batches(8, 3600)
        asked = [batches.outputs(predictor, rows(4, i)) for i in range(2)]
        await asyncio.wait_for(asyncio.gather(*asked), 60)

    asyncio.run(main())
    assert predictor.passes == [8]


def test_models_do_not_share_a_pass(trained: Predictor) -> None:
    two = [Counting(trained), Counting(trained)]

    async def main() -> None:
        batches = Batches(1024, 0.05)
        asked = [batches.outputs(two[i % 2], rows(1 + i, i)) for i in range(10)]
        found = await asyncio.gather(*asked)
        assert [len(y) for y in found] == list(range(1, 11))

    asyncio.run(main())
    assert [predictor.passes for predictor in two] == [[25], [30]]
