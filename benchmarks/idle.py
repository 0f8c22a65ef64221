"""How soon an empty server is ready, and what it weighs while it does nothing.

Targets: ready within 4 s of its start; under 700 MB of proportional memory (PSS) for the server,
its fork server and the spare training process together.
"""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console
from rich.table import Table

from tests.support.server import LINE_JOB, Server

ROUNDS = 5
SETTLE = 6.0


def main() -> None:
    """Start a server a few times; print medians."""
    ready, fresh, used = [], [], []
    for _ in range(ROUNDS):
        with TemporaryDirectory() as folder:
            started = time.perf_counter()
            with Server(Path(folder) / "data") as server:
                ready.append(time.perf_counter() - started)
                time.sleep(SETTLE)
                fresh.append(proportional_mb(server))
                server.line()
                server.train(**LINE_JOB)
                server.ok("POST", "/v1/models/line/predict", json={"instances": [[0.5]]})
                time.sleep(SETTLE / 3)
                used.append(proportional_mb(server))
    table = Table(title=f"An idle server ({ROUNDS} starts, median)")
    for column in ("", "measured", "target"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("ready after", f"{median(ready):.2f} s", "4 s")
    table.add_row("memory, nothing done yet", f"{median(fresh):.0f} MB", "700 MB")
    table.add_row("memory, after a job and a prediction", f"{median(used):.0f} MB", "")
    Console().print(table)


def proportional_mb(server: Server) -> float:
    """PSS of the whole process tree in MB: shared pages are counted once."""
    root = psutil.Process(server.process.pid)
    tree = [root, *root.children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in tree) / 1e6)


if __name__ == "__main__":
    main()
