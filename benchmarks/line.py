"""The straight-line job over HTTP, warm, against the bare loop and against a fresh script.

Target: from POST with ``Prefer: wait=10`` to the answer at most 60 ms more than the bare loop
takes inside a running Python process.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import line_loop
from tests.support.server import LINE_JOB, Server

ROUNDS = 40
SCRIPT_ROUNDS = 5
PAUSE = 0.25  # a job at a time, as a person sends them; the next spare process warms up meanwhile


def _ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def main() -> None:
    """Alternate the three, print medians and the difference."""
    torch.set_num_threads(1)
    line_loop.train()
    script = [sys.executable, str(Path(line_loop.__file__))]
    scripts = [
        _ms(lambda: subprocess.run(script, check=True, capture_output=True))
        for _ in range(SCRIPT_ROUNDS)
    ]
    bare, service = [], []
    with TemporaryDirectory() as folder, Server(Path(folder) / "data") as server:
        server.line()
        history = server.train(**LINE_JOB)["metrics"]["last"]
        assert abs(history["test_loss"] - line_loop.train()[-1][1]) < 1e-6, "not the same work"
        for _ in range(ROUNDS):
            time.sleep(PAUSE)
            bare.append(_ms(line_loop.train))
            service.append(_ms(lambda: server.train(**LINE_JOB)))
    extra = [a - b for a, b in zip(service, bare, strict=True)]
    table = Table(title=f"The straight line, 100 epochs (ms; {ROUNDS} rounds, alternating)")
    for column in ("", "median", "90th percentile", "lowest"):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in (
        ("bare loop in a running process", bare),
        ("fitserve, POST to answer", service),
        ("difference", extra),
        ("fresh python script", scripts),
    ):
        ninetieth = quantiles(values, n=10)[-1]
        table.add_row(name, f"{median(values):.1f}", f"{ninetieth:.1f}", f"{min(values):.1f}")
    console = Console()
    console.print(table)
    console.print(f"target: difference at most 60 ms; measured {median(extra):.1f} ms\n")


if __name__ == "__main__":
    main()
