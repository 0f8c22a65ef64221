"""How soon an empty server is ready, and what it weighs while it does nothing.

Targets: ready within 4 s of its start; under 700 MB of proportional memory (PSS) for the server,
its fork server and the spare training process together.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from benchmarks.harness import Scale, console, rounds, table
from tests.support.server import LINE_JOB, Server


@dataclass(frozen=True)
class Size:
    starts: int
    settle_seconds: float


SIZES = {
    Scale.FULL: Size(starts=5, settle_seconds=6),
    Scale.QUICK: Size(starts=1, settle_seconds=6),
    Scale.TINY: Size(starts=1, settle_seconds=0.2),
}


def run(scale: Scale) -> None:
    """Start a server a few times and print medians."""
    size = SIZES[scale]
    ready, fresh, used = [], [], []
    for _ in rounds(size.starts, "starts"):
        with TemporaryDirectory() as folder:
            started = time.perf_counter()
            with Server(Path(folder) / "data") as server:
                ready.append(time.perf_counter() - started)
                time.sleep(size.settle_seconds)
                fresh.append(proportional_mb(server))
                server.line()
                server.train(**LINE_JOB)
                server.ok("POST", "/v1/models/line/predict", json={"instances": [[0.5]]})
                time.sleep(size.settle_seconds / 3)
                used.append(proportional_mb(server))
    rows = table(f"An idle server ({size.starts} starts, median)", "", "measured", "target")
    rows.add_row("ready after", f"{median(ready):.2f} s", "4 s")
    rows.add_row("memory, nothing done yet", f"{median(fresh):.0f} MB", "700 MB")
    rows.add_row("memory, after a job and a prediction", f"{median(used):.0f} MB", "")
    console.print(rows)


def proportional_mb(server: Server) -> float:
    """Return the PSS of the whole process tree in MB: shared pages are counted once."""
    root = psutil.Process(server.process.pid)
    tree = [root, *root.children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in tree) / 1e6)
