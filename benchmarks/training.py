"""Training through the service against loops by hand and the libraries people use.

50,000 x 20 numbers, a multilayer perceptron 64-64, Adam, batches of 256, 100 epochs, one thread
each, validation loss and RMSE after every epoch on all sides. The service's time is the job's, from
its start to its end: reading, preprocessing and publishing are in it, and not in the others'.

Targets: at least 0.95 of the tightest loop's samples/s; two jobs at once at least 0.9 of two such
loops at once.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.training_loops import BATCH, CONTESTANTS, EPOCHS
from tests.support.server import Server

ROWS, COLUMNS = 50_000, 20
TRAIN, HELD = 40_000, 5_000
ROUNDS, OWN_ROUNDS = 5, 2
SAMPLES = TRAIN * EPOCHS

JOB = {
    "dataset": "numbers",
    "target": "y",
    "model": {"kind": "mlp", "hidden": [64, 64]},
    "optimizer": "adam",
    "epochs": EPOCHS,
    "batch_size": BATCH,
    "early_stopping": None,
}

TABULAR = {"model": "tabular", "optimizer": {"kind": "adamw", "lr": 2e-3, "weight_decay": 0.3}}


def arrays(folder: Path) -> Path:
    """What the loops are given: as many rows as the service's parts have."""
    random = np.random.default_rng(0)
    x = random.standard_normal((TRAIN + HELD, COLUMNS)).astype(np.float32)
    y = (x @ random.standard_normal((COLUMNS, 1)) / 4).astype(np.float32)
    path = folder / "arrays.npz"
    np.savez(path, x=x[:TRAIN], y=y[:TRAIN], x_held=x[TRAIN:], y_held=y[TRAIN:])
    return path


def by_hand(name: str, data: Path) -> float:
    """Samples per second of one contestant."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.training_loops", name, str(data)]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    return SAMPLES / float(told.stdout.split()[-1])


def by_service(server: Server, **changes: Any) -> float:
    """Samples per second of one job, by the times it tells."""
    job = server.ok("POST", "/v1/jobs", json={**JOB, **changes})
    while job["status"] in ("queued", "running"):
        job = server.ended(job["id"])
    assert job["status"] == "succeeded", job["error"]
    assert job["progress"]["epoch"] == EPOCHS
    seconds = [datetime.fromisoformat(job[k]).timestamp() for k in ("started_at", "finished_at")]
    return SAMPLES / (seconds[1] - seconds[0])


def twice(work: Any) -> float:
    """Samples per second of two at once."""
    with ThreadPoolExecutor(2) as both:
        return float(sum(both.map(lambda _: work(), range(2))))


def main() -> None:
    """Alternate the service with the tight loop, alone and two at once; the libraries once."""
    console = Console()
    with TemporaryDirectory() as folder, Server(Path(folder) / "data") as server:
        data = arrays(Path(folder))
        options = {"features": COLUMNS, "noise": 0.1, "rows": ROWS}
        source = {"kind": "synthetic", "generator": "regression", **options}
        server.ok("POST", "/v1/datasets", json={"name": "numbers", "source": source})
        alone, both = [], []
        for _ in range(ROUNDS):
            alone.append((by_service(server), by_hand("tight", data)))
            both.append((twice(lambda: by_service(server)), twice(lambda: by_hand("tight", data))))
        table = Table(title=f"{SAMPLES:,} samples: MLP 64-64, Adam, batch {BATCH}, one thread")
        for column in ("", "samples/s", "of the tight loop"):
            table.add_column(column, justify="left" if not column else "right")
        service, tight = (median(column) for column in zip(*alone, strict=True))
        table.add_row("the tightest loop by hand", f"{tight:,.0f}", "1")
        ratio = median(a / b for a, b in alone)
        table.add_row("fitserve, a whole job", f"{service:,.0f}", f"{ratio:.2f}")
        for name in list(CONTESTANTS)[2:]:
            speed = by_hand(name, data)
            table.add_row(name, f"{speed:,.0f}", f"{speed / tight:.2f}")
        console.print(table)
        own = [(by_service(server, **TABULAR), by_hand("tabular", data)) for _ in range(OWN_ROUNDS)]
        pair = median(a / b for a, b in both)
        console.print(f"target: at least 0.95; measured {ratio:.2f} (median of {ROUNDS} pairs)")
        console.print(
            f"tabular: {median(a for a, _ in own):,.0f} samples/s, "
            f"{median(a / b for a, b in own):.2f} of its own tight loop (target 0.95)"
        )
        console.print(f"two jobs at once against two loops at once: {pair:.2f} (target 0.9)\n")


if __name__ == "__main__":
    main()
