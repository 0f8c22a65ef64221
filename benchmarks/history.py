"""The loss history: how soon a long one is answered, what it takes on the disk, and what recording
costs a training.

Targets: 1,000,000 recorded epochs answer a window of 2,000 points within 0.3 s; training that is
recorded takes at most 2% longer than the same task with its events thrown away.
"""

import time
from datetime import datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from app.db.models import Job
from app.db.session import Database
from app.executors.local import LocalExecutor
from app.ids import new_id
from app.ml.specs import JobSpec
from app.ml.training.events import EpochEnded, TrainEnded, TrainTask
from app.services.jobs import queue
from app.storage import Storage
from tests.support.server import LINE_JOB, Json, Server

EPOCHS = 1_000_000
NAMES = ("train_loss", "test_loss", "learning_rate")
ONE_RECORD = 700  # epochs; what half a second of the quickest training makes is about as many
WINDOW = 2_000
READS = 15
ROUNDS = 9
TINY: Json = {**LINE_JOB, "epochs": 40_000, "checkpoint": {"every_seconds": 3600, "keep": 1}}
MLP: Json = {
    "dataset": "waves",
    "target": "y",
    "model": {"kind": "mlp", "hidden": [64, 64]},
    "epochs": 250,
    "batch_size": 64,
    "early_stopping": None,
    "checkpoint": {"every_seconds": 3600, "keep": 1},
}


def fill(database: Database) -> str:
    """A job with a million epochs, recorded as the worker does it."""
    with database.write() as session:
        source = session.scalars(select(Job)).one()
        names = [column.key for column in Job.__mapper__.column_attrs]
        copied = {name: getattr(source, name) for name in names if name not in ("id", "status")}
        fresh = {"id": new_id("job"), "epochs_done": 0, "model_name": None, "priority": 100}
        queue.enqueue(session, Job(**{**copied, **fresh}))
    with database.write() as session:
        claim = queue.claim(session)
        assert claim is not None
    values = np.random.default_rng(0).standard_normal((EPOCHS, len(NAMES))).tolist()
    for first in range(0, EPOCHS, ONE_RECORD):
        part = enumerate(values[first : first + ONE_RECORD], first)
        epochs = [
            EpochEnded(epoch=epoch, values=dict(zip(NAMES, row, strict=True)))
            for epoch, row in part
        ]
        with database.write() as session:
            queue.record(session, claim, epochs, None)
    with database.write() as session:
        queue.fail(session, claim, "internal_error", "it was never trained")
    return claim.job_id


def read(console: Console) -> None:
    """The window over HTTP, as a chart asks for it."""
    with TemporaryDirectory() as folder, Server(Path(folder) / "data") as server:
        server.line()
        server.train(**LINE_JOB)
        server.terminate()
        path = server.data_dir / "fitserve.db"
        before = path.stat().st_size
        database = Database(path)
        job_id = fill(database)
        database.close()
        size = path.stat().st_size - before
        server.restart()
        where = f"/v1/jobs/{job_id}/metrics"
        taken, points = [], 0
        for _ in range(READS):
            started = time.perf_counter()
            found = server.ok("GET", where, params={"max_points": WINDOW})
            taken.append(time.perf_counter() - started)
            points = len(found["series"]["train_loss"]["epoch"])
        one = {"max_points": WINDOW, "names": "train_loss", "after_epoch": EPOCHS - 100_000}
        started = time.perf_counter()
        server.ok("GET", where, params=one)
        tail = time.perf_counter() - started
    raw = EPOCHS * len(NAMES) * 8
    table = Table(title=f"{EPOCHS:,} epochs of {len(NAMES)} series")
    for column in ("", "measured", "target"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row(f"all of it in {points:,} points, median", f"{median(taken):.3f} s", "0.3 s")
    table.add_row("the slowest of them", f"{max(taken):.3f} s", "")
    table.add_row("the last 100,000 epochs of one series", f"{tail:.3f} s", "")
    table.add_row("on the disk", f"{size / 1e6:.1f} MB", f"bare floats: {raw / 1e6:.1f} MB")
    console.print(table)


def thrown_away(executor: LocalExecutor, server: Server, job: Json) -> float:
    """Seconds of the same task when nobody writes down what it says."""
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
    """The job, and the seconds from its claim to its end."""
    done = server.train(**job)
    started, finished = (datetime.fromisoformat(done[f"{at}_at"]) for at in ("started", "finished"))
    return done, (finished - started).total_seconds()


def recording(console: Console) -> None:
    """Alternate the two."""
    table = Table(title=f"What recording costs ({ROUNDS} rounds, alternating, medians)")
    for column in ("", "thrown away", "recorded", "median ratio", "target"):
        table.add_column(column, justify="left" if not column else "right")
    executor = LocalExecutor()
    with TemporaryDirectory() as folder, Server(Path(folder) / "data") as server:
        server.line()
        source = {"kind": "synthetic", "generator": "regression", "rows": 5000, "seed": 3}
        server.ok("POST", "/v1/datasets", json={"name": "waves", "source": source})
        for name, job in (("40,000 epochs of two parameters", TINY), ("MLP 64-64", MLP)):
            bare, kept = [], []
            done, _ = recorded(server, job)
            thrown_away(executor, server, done)
            for turn in range(ROUNDS):
                for which in ("bare", "kept") if turn % 2 else ("kept", "bare"):
                    if which == "bare":
                        bare.append(thrown_away(executor, server, done))
                    else:
                        kept.append(recorded(server, job)[1])
            ratio = median(b / a for a, b in zip(bare, kept, strict=True))
            cells = f"{median(bare):.2f} s", f"{median(kept):.2f} s", f"{ratio:.3f}", "1.02"
            table.add_row(name, *cells)
    executor.close()
    console.print(table)


def main() -> None:
    """Both."""
    console = Console()
    read(console)
    recording(console)


if __name__ == "__main__":
    main()
