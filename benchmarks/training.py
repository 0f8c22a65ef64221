"""Training through the service against loops by hand and the libraries people use.

50,000 x 20 numbers, a multilayer perceptron 64-64, Adam, batches of 256, 100 epochs, one thread
each, validation loss and RMSE after every epoch on all sides. The service's time is the job's, from
its start to its end: reading, preprocessing and publishing are in it, and not in the others'.

Targets: at least 0.95 of the tightest loop's samples/s; two jobs at once at least 0.9 of two such
loops at once.
"""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.harness import Scale, console, has_module, rounds, running_server, table
from benchmarks.training_loops import BATCH
from tests.support.server import Server

COLUMNS = 20
LIBRARIES = {"dataloader": "torch", "lightning": "lightning", "skorch": "skorch", "keras": "keras"}
"""Which package each of the other contestants needs."""

JOB = {
    "dataset": "numbers",
    "target": "y",
    "model": {"kind": "mlp", "hidden": [64, 64]},
    "optimizer": "adam",
    "batch_size": BATCH,
    "early_stopping": None,
}

TABULAR = {
    "model": "tabular",
    "refit": False,
    "optimizer": {"kind": "adamw", "lr": 2e-3, "weight_decay": 0.3},
}


@dataclass(frozen=True)
class Size:
    rounds: int
    own_rounds: int
    """Of ``tabular``."""
    epochs: int
    library_epochs: int
    own_epochs: int
    rows: int = 50_000
    """In the dataset; 0.8 of them are trained on, 0.1 held out after each epoch."""

    @property
    def train_rows(self) -> int:
        return self.rows * 8 // 10

    @property
    def held_rows(self) -> int:
        return self.rows // 10


SIZES = {
    Scale.FULL: Size(rounds=5, own_rounds=2, epochs=100, library_epochs=10, own_epochs=25),
    Scale.QUICK: Size(rounds=1, own_rounds=1, epochs=25, library_epochs=3, own_epochs=2),
    Scale.TINY: Size(1, 1, epochs=2, library_epochs=1, own_epochs=1, rows=1000),
}


def arrays(folder: Path, size: Size) -> Path:
    """Write what the loops are given: as many rows as the service's parts have."""
    random = np.random.default_rng(0)
    train = size.train_rows
    x = random.standard_normal((train + size.held_rows, COLUMNS)).astype(np.float32)
    y = (x @ random.standard_normal((COLUMNS, 1)) / 4).astype(np.float32)
    path = folder / "arrays.npz"
    np.savez(path, x=x[:train], y=y[:train], x_held=x[train:], y_held=y[train:])
    return path


def upload(server: Server, rows: int) -> None:
    """Make the dataset ``numbers``."""
    options = {"features": COLUMNS, "noise": 0.1, "rows": rows}
    source = {"kind": "synthetic", "generator": "regression", **options}
    server.ok("POST", "/v1/datasets", json={"name": "numbers", "source": source})


def by_hand(name: str, data: Path, size: Size, epochs: int) -> float:
    """Return the samples/s of one contestant, in a process of its own unless nothing is measured:
    each imports torch."""
    if size is SIZES[Scale.TINY]:
        from benchmarks.training_loops import CONTESTANTS

        return size.train_rows * epochs / CONTESTANTS[name](dict(np.load(data)), epochs)
    where = [sys.executable, "-W", "ignore", "-m", "benchmarks.training_loops"]
    command = [*where, name, str(data), str(epochs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return size.train_rows * epochs / float(done.stdout.split()[-1])


def by_service(server: Server, size: Size, epochs: int, **changes: Any) -> float:
    """Return the samples/s of one job, by its own times."""
    job = server.ok("POST", "/v1/jobs", json={**JOB, "epochs": epochs, **changes})
    while job["status"] in ("queued", "running"):
        job = server.ended(job["id"])
    assert job["status"] == "succeeded", job["error"]
    assert job["progress"]["epoch"] == epochs
    started, finished = (datetime.fromisoformat(job[k]) for k in ("started_at", "finished_at"))
    return size.train_rows * epochs / (finished - started).total_seconds()


def twice(work: Callable[[], float]) -> float:
    """Return the samples/s of two at once, together."""
    with ThreadPoolExecutor(2) as both:
        return float(sum(both.map(lambda _: work(), range(2))))


def run(scale: Scale) -> None:
    """Alternate the service with the tight loop, alone and two at once; the libraries once."""
    size = SIZES[scale]
    # The libraries and our own module take the longest: what is missing is noticed before.
    libraries = [name for name, package in LIBRARIES.items() if has_module(scale, package)]
    with TemporaryDirectory() as folder, running_server(scale) as server:
        data = arrays(Path(folder), size)
        upload(server, size.rows)
        mlp(server, data, size, libraries)
        tabular(server, data, size)


def mlp(server: Server, data: Path, size: Size, libraries: list[str]) -> None:
    """Compare the perceptron."""

    def service() -> float:
        return by_service(server, size, size.epochs)

    def tight_loop() -> float:
        return by_hand("tight", data, size, size.epochs)

    alone, both = [], []
    for _ in rounds(size.rounds, "MLP 64-64"):
        alone.append((service(), tight_loop()))
        both.append((twice(service), twice(tight_loop)))
    ours, tight = (median(column) for column in zip(*alone, strict=True))
    ratio = median(a / b for a, b in alone)
    rows = table(
        f"{size.train_rows:,} x {COLUMNS}, {size.epochs} epochs: MLP 64-64, Adam, batch {BATCH}, "
        "one thread",
        *("", "samples/s", "of the tight loop"),
    )
    rows.add_row("the tightest loop by hand", f"{tight:,.0f}", "1")
    rows.add_row("fitserve, a whole job", f"{ours:,.0f}", f"{ratio:.2f}")
    for number in rounds(len(libraries), "libraries"):
        speed = by_hand(libraries[number], data, size, size.library_epochs)
        rows.add_row(libraries[number], f"{speed:,.0f}", f"{speed / tight:.2f}")
    console.print(rows)
    pair = median(a / b for a, b in both)
    console.print(f"target: at least 0.95; measured {ratio:.2f} (median of {size.rounds} pairs)")
    console.print(f"two jobs at once against two loops at once: {pair:.2f} (target 0.9)")


def tabular(server: Server, data: Path, size: Size) -> None:
    """Compare our default model with a tight loop of its own module."""
    pairs = []
    for _ in rounds(size.own_rounds, "tabular"):
        ours = by_service(server, size, size.own_epochs, **TABULAR)
        pairs.append((ours, by_hand("tabular", data, size, size.own_epochs)))
    console.print(
        f"tabular: {median(a for a, _ in pairs):,.0f} samples/s, "
        f"{median(a / b for a, b in pairs):.2f} of its own tight loop (target 0.95)"
    )
