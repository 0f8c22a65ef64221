"""Followers of a job: however many, the database has one reader."""

import asyncio
from pathlib import Path

import pytest

from app.api.job_streams import JobStreams
from app.db.session import Database
from app.executors.parsers import Parsers
from app.ml.training.events import EpochEnded
from app.runtime.context import Context
from app.services.jobs import queue
from app.settings import load_settings
from app.storage import Storage
from tests.support.jobs import claimed
from tests.support.statements import counted

RECORDS, EPOCHS_EACH = 40, 25


@pytest.fixture
def context(database: Database, tmp_path: Path) -> Context:
    settings = load_settings(data_dir=tmp_path)
    return Context(settings, Storage(tmp_path), database, Parsers(1 << 30, 60, lambda: False))


async def followed(context: Context, followers: int) -> int:
    """How many events so many followers of one job were told, while it was trained."""
    claim = claimed(context.database)
    feeds = JobStreams(context)

    async def follow() -> int:
        async with feeds.follow(claim.job_id, 0) as feed:
            pieces = [piece async for piece in feed.stream(0)]
        told = b"".join(pieces)
        assert told.count(b"event: done") == 1
        return told.count(b"event: metrics")

    async def train() -> None:
        for first in range(0, RECORDS * EPOCHS_EACH, EPOCHS_EACH):
            epochs = [
                EpochEnded(epoch=epoch, values={"train_loss": 1.0})
                for epoch in range(first, first + EPOCHS_EACH)
            ]
            with context.database.write() as session:
                queue.record(session, claim, epochs, None)
            context.signals.changed(claim.job_id)
            await asyncio.sleep(0.02)
        with context.database.write() as session:
            queue.fail(session, claim, "internal_error", "that is enough")
        context.signals.changed(claim.job_id)

    *told, _ = await asyncio.gather(*(follow() for _ in range(followers)), train())
    assert told == [RECORDS * EPOCHS_EACH] * followers
    return sum(told)  # type: ignore[arg-type]


def test_two_hundred_followers_cost_one_reader(context: Context) -> None:
    costs = {}
    for followers in (1, 200):
        with counted(context.database) as statements:
            told = asyncio.run(followed(context, followers))
        costs[followers] = len([said for said in statements if said.startswith("SELECT")])
        print(f"\n{followers} followers: {told} events told, {costs[followers]} statements")
    assert costs[200] <= 1.2 * costs[1]
