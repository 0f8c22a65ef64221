"""The loss history: how soon a long one is answered, what it takes on the disk, and what recording
costs a training.

Targets: 1,000,000 recorded epochs answer a window of 2,000 points within 0.3 s; training that is
recorded takes at most 2% longer than the same task with its events thrown away.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from statistics import median

import numpy as np
from sqlalchemy import select

from app.db.models import Job
from app.db.session import Database
from app.executors.local import LocalExecutor
from app.ids import new_id
from app.ml.specs import JobSpec
from app.ml.training.events import EpochEnded, TrainEnded, TrainTask
from app.services.jobs import queue
from app.storage import Storage
from benchmarks.harness import Scale, console, rounds, running_server, seconds, table
from benchmarks.job_rows import copy_of
from tests.support.server import LINE_JOB, Json, Server

NAMES = ("train_loss", "test_loss", "learning_rate")
RECORD_EPOCHS = 700
"""Epochs recorded at once: about what half a second of the quickest training makes."""
WINDOW_POINTS = 2_000
NO_CHECKPOINTS = {"every_seconds": 3600, "keep": 1}
LINEAR: Json = {**LINE_JOB, "dataset": "short", "checkpoint": NO_CHECKPOINTS}
MLP: Json = {
    "dataset": "waves",
    "target": "y",
    "model": {"kind": "mlp", "hidden": [64, 64]},
    "batch_size": 64,
    "early_stopping": None,
    "checkpoint": NO_CHECKPOINTS,
}


@dataclass(frozen=True)
class Size:
    epochs: int
    """In the long history."""
    reads: int
    rounds: int
    linear_epochs: int
    mlp_epochs: int


SIZES = {
    Scale.FULL: Size(1_000_000, reads=15, rounds=5, linear_epochs=8_000, mlp_epochs=150),
    Scale.QUICK: Size(1_000_000, reads=5, rounds=1, linear_epochs=3_000, mlp_epochs=20),
    Scale.TINY: Size(10_000, reads=1, rounds=1, linear_epochs=200, mlp_epochs=2),
}


def fill(database: Database, job_id: str, epochs: int) -> str:
    """Record so many epochs of a copy of the job as the worker does it; return the copy's id."""
    with database.write() as session:
        source = session.scalars(select(Job).where(Job.id == job_id)).one()
        new = {"status": "queued", "epochs_done": 0, "model_name": None, "priority": 100}
        queue.enqueue(session, copy_of(source, **new))
    with database.write() as session:
        claim = queue.claim(session)
        assert claim is not None
    values = np.random.default_rng(0).standard_normal((epochs, len(NAMES))).tolist()
    for first in range(0, epochs, RECORD_EPOCHS):
        record = [
            EpochEnded(epoch=epoch, values=dict(zip(NAMES, row, strict=True)))
            for epoch, row in enumerate(values[first : first + RECORD_EPOCHS], first)
        ]
        with database.write() as session:
            queue.record(session, claim, record, None)
    with database.write() as session:
        queue.fail(session, claim, "internal_error", "it was never trained")
    return claim.job_id


def read(server: Server, size: Size) -> None:
    """Read the window over HTTP, as a chart asks for it."""
    trained = server.train(**LINEAR)
    server.terminate()
    path = server.data_dir / "fitserve.db"
    before_bytes = path.stat().st_size
    database = Database(path)
    job_id = fill(database, trained["id"], size.epochs)
    database.close()
    disk_bytes = path.stat().st_size - before_bytes
    server.restart()
    where = f"/v1/jobs/{job_id}/metrics"
    window: Json = {"max_points": WINDOW_POINTS}
    taken = [
        seconds(lambda: server.ok("GET", where, params=window))
        for _ in rounds(size.reads, "long histories")
    ]
    points = len(server.ok("GET", where, params=window)["series"]["train_loss"]["epoch"])
    last = {**window, "names": "train_loss", "after_epoch": size.epochs - size.epochs // 10}
    tail = seconds(lambda: server.ok("GET", where, params=last))
    bare_bytes = size.epochs * len(NAMES) * 8
    rows = table(f"{size.epochs:,} epochs of {len(NAMES)} series", "", "measured", "target")
    rows.add_row(f"all of it in {points:,} points, median", f"{median(taken):.3f} s", "0.3 s")
    rows.add_row("the slowest of them", f"{max(taken):.3f} s", "")
    rows.add_row("the last tenth of one series", f"{tail:.3f} s", "")
    disk, bare = f"{disk_bytes / 1e6:.1f} MB", f"bare floats: {bare_bytes / 1e6:.1f} MB"
    rows.add_row("on the disk", disk, bare)
    console.print(rows)


def unrecorded(executor: LocalExecutor, server: Server, job: Json) -> float:
    """Return the seconds of the same task when nobody writes down its events."""
    storage = Storage(server.data_dir)
    task = TrainTask(
        root=storage.root,
        dataset_id=job["dataset"]["id"],
        model_id=new_id("mdl"),
        spec=JobSpec.model_validate(job["spec"]),
        source=None,
        checkpoints=(),
    )
    executor.prepare()
    started = time.perf_counter()
    handle = executor.start(task)
    while not any(isinstance(event, TrainEnded) for event in handle.events(0.1) or ()):
        pass
    taken = time.perf_counter() - started
    handle.end()
    return taken


def recorded(server: Server, job: Json) -> tuple[Json, float]:
    """Return the finished job, and the seconds from its claim to its end."""
    done = server.train(**job)
    started, finished = (datetime.fromisoformat(done[f"{at}_at"]) for at in ("started", "finished"))
    return done, (finished - started).total_seconds()


def pairs(server: Server, job: Json, turns: Iterable[int]) -> list[tuple[float, float]]:
    """Return ``(unrecorded, recorded)`` seconds; who is first changes from turn to turn."""
    executor = LocalExecutor()
    done, _ = recorded(server, job)
    unrecorded(executor, server, done)
    found = []
    for turn in turns:
        if turn % 2:
            bare = unrecorded(executor, server, done)
            found.append((bare, recorded(server, job)[1]))
        else:
            ours = recorded(server, job)[1]
            found.append((unrecorded(executor, server, done), ours))
    executor.close()
    return found


def recording(server: Server, size: Size) -> None:
    """Compare trainings whose events are written down with trainings whose are not."""
    rows = table(
        f"What recording costs ({size.rounds} rounds, alternating, medians)",
        *("", "unrecorded", "recorded", "median ratio", "target"),
    )
    source = {"kind": "synthetic", "generator": "regression", "rows": 5000, "seed": 3}
    server.ok("POST", "/v1/datasets", json={"name": "waves", "source": source})
    linear, mlp = {**LINEAR, "epochs": size.linear_epochs}, {**MLP, "epochs": size.mlp_epochs}
    for name, job in (
        (f"{size.linear_epochs:,} epochs of two parameters", linear),
        ("MLP 64-64", mlp),
    ):
        found = pairs(server, job, rounds(size.rounds, name))
        bare, ours = (median(column) for column in zip(*found, strict=True))
        ratio = median(b / a for a, b in found)
        rows.add_row(name, f"{bare:.2f} s", f"{ours:.2f} s", f"{ratio:.3f}", "1.02")
    console.print(rows)


def run(scale: Scale) -> None:
    """Measure what recording costs, then read a long history."""
    with running_server(scale) as server:
        server.line("short")
        recording(server, SIZES[scale])
        read(server, SIZES[scale])
