"""A long queue: what a job and a page of jobs cost while 10,000 wait, and what followers cost.

Targets: with 10,000 queued jobs a POST takes at most 3 times what the bare INSERT of its row takes
through SQLAlchemy with the same pragmas plus an empty request; a page of the list likewise against
the bare SELECT. 200 followers of one job make the database work no more than one does.
"""

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx
import psutil
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import engines
from app.db.models import Base, Job
from benchmarks.harness import Scale, console, milliseconds, rounds, table
from benchmarks.job_rows import copy_of
from tests.support.server import LINE_JOB, QUICK_JOB, Server

PAGE_JOBS = 20


@dataclass(frozen=True)
class Size:
    queued: int
    rounds: int
    followers: int
    follow_seconds: int


SIZES = {
    Scale.FULL: Size(queued=10_000, rounds=300, followers=200, follow_seconds=10),
    Scale.QUICK: Size(queued=2_000, rounds=50, followers=200, follow_seconds=5),
    Scale.TINY: Size(queued=30, rounds=2, followers=3, follow_seconds=1),
}


class BareTable:
    """Copies of a row in a database file of their own, with nothing around them."""

    def __init__(self, path: Path, job: Job, rows: int) -> None:
        self._source = job
        self._engine = engines.sqlite(path)
        Base.metadata.create_all(self._engine)
        with Session(self._engine) as session:
            session.add_all([copy_of(job) for _ in range(rows)])
            session.commit()
        self._reader = engines.sqlite(path, read_only=True)

    def insert(self) -> None:
        """Add one row and commit."""
        with Session(self._engine) as session:
            session.add(copy_of(self._source))
            session.commit()

    def select(self) -> None:
        """Read the newest ``PAGE_JOBS`` rows."""
        with Session(self._reader) as session:
            found = session.scalars(select(Job).order_by(Job.id.desc()).limit(PAGE_JOBS)).all()
        assert len(found) == PAGE_JOBS

    def close(self) -> None:
        self._engine.dispose()
        self._reader.dispose()


def fill(server: Server, count: int) -> None:
    """Make a queue that does not move: its one slot is held by a job that stands still."""
    server.start_long_job(priority=100)
    os.kill(server.training_pid(), signal.SIGSTOP)
    for _ in rounds(count, "queued jobs"):
        server.ok("POST", "/v1/jobs", json=QUICK_JOB)


def queued_job(server: Server) -> Job:
    """Return what the service stores of such a job."""
    engine = engines.sqlite(server.data_dir / "fitserve.db", read_only=True)
    with Session(engine) as session:
        job = session.scalars(select(Job).where(Job.status == "queued").limit(1)).one()
    engine.dispose()
    return job


def long_queue(server: Server, folder: Path, size: Size) -> None:
    """Alternate the bare work, an empty request, and ours."""
    fill(server, size.queued)
    bare = BareTable(folder / "bare.db", queued_job(server), size.queued)
    empty, inserts, selects, posts, pages = [], [], [], [], []
    for _ in rounds(size.rounds, "one more job, a page of jobs"):
        empty.append(milliseconds(lambda: server.client.get("/livez")))
        inserts.append(milliseconds(bare.insert))
        posts.append(milliseconds(lambda: server.ok("POST", "/v1/jobs", json=QUICK_JOB)))
        selects.append(milliseconds(bare.select))
        pages.append(milliseconds(lambda: server.ok("GET", f"/v1/jobs?limit={PAGE_JOBS}")))
    bare.close()
    rows = table(
        f"{size.queued:,} queued jobs (ms, medians of {size.rounds}, alternating)",
        *("", "bare", "empty request", "fitserve", "ratio", "target"),
    )
    for name, alone, ours in (
        ("one more job", inserts, posts),
        (f"a page of {PAGE_JOBS}", selects, pages),
    ):
        ratio = median(ours) / (median(alone) + median(empty))
        figures = [f"{median(values):.2f}" for values in (alone, empty, ours)]
        rows.add_row(name, *figures, f"{ratio:.2f}", "3")
    console.print(rows)


async def follow(server: Server, job_id: str, followers: int) -> tuple[int, float]:
    """Return the bytes that each of so many followers was sent, and the server's CPU seconds."""

    async def one(client: httpx.AsyncClient) -> int:
        size = 0
        async with client.stream("GET", f"/v1/jobs/{job_id}/stream") as response:
            async for piece in response.aiter_raw():
                size += len(piece)
        return size

    process = psutil.Process(server.process.pid)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=server.url, timeout=60, trust_env=False, limits=limits
    ) as client:
        before = process.cpu_times()
        sent = await asyncio.gather(*(one(client) for _ in range(followers)))
        after = process.cpu_times()
    assert len(set(sent)) == 1, "every follower is sent the same"
    return sent[0], after.user + after.system - before.user - before.system


def followers(server: Server, size: Size) -> None:
    """Follow jobs of the same length from their first event to their end, alone and by many."""
    rows = table(
        f"Followers of one job, {size.follow_seconds} s of its events",
        *("followers", "each was sent", "CPU of the server"),
    )
    job = {**LINE_JOB, "epochs": 10_000_000, "max_seconds": size.follow_seconds}
    for count in (1, size.followers):
        job_id = str(server.ok("POST", "/v1/jobs", json=job)["id"])
        sent_bytes, cpu_seconds = asyncio.run(follow(server, job_id, count))
        rows.add_row(str(count), f"{sent_bytes / 1e6:.1f} MB", f"{cpu_seconds:.1f} s")
    console.print(rows)


def run(scale: Scale) -> None:
    """Measure many followers, then a long queue, whose server trains no more after it."""
    size = SIZES[scale]
    slots = {"FITSERVE_MAX_PARALLEL_JOBS": "1", "FITSERVE_MAX_QUEUED_JOBS": str(2 * size.queued)}
    with TemporaryDirectory() as folder, Server(Path(folder) / "data", **slots) as server:
        server.line()
        followers(server, size)
        long_queue(server, Path(folder), size)
