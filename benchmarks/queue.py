"""A long queue: what a job and a page of jobs cost while 10,000 wait, and what followers cost.

Targets: with 10,000 queued jobs a POST takes at most 3 times what the bare INSERT of its row takes
through SQLAlchemy with the same pragmas plus an empty request; a page of the list likewise against
the bare SELECT. 200 followers of one job make the database work no more than one does.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx
import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import engines
from app.db.models import Base, Job
from app.ids import new_id
from tests.support.server import LINE_JOB, QUICK_JOB, Server

QUEUED = 10_000
ROUNDS = 300
PAGE = 20
FOLLOWERS = (1, 200)
FOLLOW_SECONDS = 10


class Bare:
    """The same rows in a file of their own, with nothing around them."""

    def __init__(self, path: Path, row: dict[str, object]) -> None:
        self._row = row
        self._engine = engines.sqlite(path)
        Base.metadata.create_all(self._engine)
        with Session(self._engine) as session:
            session.add_all([self._job() for _ in range(QUEUED)])
            session.commit()
        self._reader = engines.sqlite(path, read_only=True)

    def _job(self) -> Job:
        return Job(**{**self._row, "id": new_id("job")})

    def insert(self) -> None:
        with Session(self._engine) as session:
            session.add(self._job())
            session.commit()

    def select(self) -> None:
        with Session(self._reader) as session:
            found = session.scalars(select(Job).order_by(Job.id.desc()).limit(PAGE)).all()
        assert len(found) == PAGE

    def close(self) -> None:
        self._engine.dispose()
        self._reader.dispose()


def ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def fill(server: Server) -> None:
    """A queue that does not move: its one slot is held by a job that stands still."""
    server.start_long_job(priority=100)
    os.kill(server.training_pid(), signal.SIGSTOP)
    for _ in range(QUEUED):
        server.ok("POST", "/v1/jobs", json=QUICK_JOB)


def row_of(server: Server) -> dict[str, object]:
    """What the service stores of such a job."""
    engine = engines.sqlite(server.data_dir / "fitserve.db", read_only=True)
    with Session(engine) as session:
        job = session.scalars(select(Job).where(Job.status == "queued").limit(1)).one()
        names = [column.key for column in Job.__mapper__.column_attrs if column.key != "id"]
        row = {name: getattr(job, name) for name in names}
    engine.dispose()
    return row


def long_queue(server: Server, folder: Path, console: Console) -> None:
    """Alternate the bare work, an empty request, and ours."""
    fill(server)
    bare = Bare(folder / "bare.db", row_of(server))
    empty, inserts, selects, posts, pages = [], [], [], [], []
    for _ in range(ROUNDS):
        empty.append(ms(lambda: server.client.get("/livez")))
        inserts.append(ms(bare.insert))
        posts.append(ms(lambda: server.ok("POST", "/v1/jobs", json=QUICK_JOB)))
        selects.append(ms(bare.select))
        pages.append(ms(lambda: server.ok("GET", f"/v1/jobs?limit={PAGE}")))
    bare.close()
    table = Table(title=f"{QUEUED:,} queued jobs (ms, medians of {ROUNDS}, alternating)")
    for column in ("", "bare", "empty request", "fitserve", "ratio", "target"):
        table.add_column(column, justify="left" if not column else "right")
    for name, alone, ours in (
        ("one more job", inserts, posts),
        (f"a page of {PAGE}", selects, pages),
    ):
        ratio = median(ours) / (median(alone) + median(empty))
        figures = [f"{median(values):.2f}" for values in (alone, empty, ours)]
        table.add_row(name, *figures, f"{ratio:.2f}", "3")
    console.print(table)


async def follow(server: Server, job_id: str, followers: int) -> tuple[int, float]:
    """``(bytes told to each, CPU seconds of the server)`` while so many follow a job."""

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
        told = await asyncio.gather(*(one(client) for _ in range(followers)))
        after = process.cpu_times()
    assert len(set(told)) == 1, "every follower is told the same"
    return told[0], after.user + after.system - before.user - before.system


def followers(server: Server, console: Console) -> None:
    """One job a count, of the same length, followed from its first event to its end."""
    table = Table(title=f"Followers of one job, {FOLLOW_SECONDS} s of its events")
    for column in ("followers", "each was told", "CPU of the server"):
        table.add_column(column, justify="right")
    job = {**LINE_JOB, "epochs": 10_000_000, "max_seconds": FOLLOW_SECONDS}
    for count in FOLLOWERS:
        job_id = str(server.ok("POST", "/v1/jobs", json=job)["id"])
        size, seconds = asyncio.run(follow(server, job_id, count))
        table.add_row(str(count), f"{size / 1e6:.1f} MB", f"{seconds:.1f} s")
    console.print(table)


def main() -> None:
    """Both, each on a server of its own."""
    console = Console()
    slots = {"FITSERVE_MAX_PARALLEL_JOBS": "1", "FITSERVE_MAX_QUEUED_JOBS": str(2 * QUEUED)}
    with TemporaryDirectory() as folder:
        with Server(Path(folder) / "data", **slots) as server:
            server.line()
            long_queue(server, Path(folder), console)
        with Server(Path(folder) / "followed") as server:
            server.line()
            followers(server, console)


if __name__ == "__main__":
    main()
