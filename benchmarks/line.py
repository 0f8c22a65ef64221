"""The straight-line job over HTTP, warm, against the bare loop and against a fresh script.

Target: from POST with ``Prefer: wait=60`` to the answer at most 60 ms more than the bare loop
takes inside a running Python process.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import torch

from benchmarks import line_loop
from benchmarks.harness import Scale, console, milliseconds, rounds, running_server, table
from tests.support.server import LINE_JOB, Json, Server

PAUSE_SECONDS = 0.25
"""Between jobs, as a person sends them; the next spare process warms up meanwhile."""


@dataclass(frozen=True)
class Size:
    rounds: int
    scripts: int


SIZES = {
    Scale.FULL: Size(rounds=40, scripts=5),
    Scale.QUICK: Size(rounds=10, scripts=1),
    Scale.TINY: Size(rounds=1, scripts=1),
}


def beside_the_bare_loop(
    server: Server, job: Json, count: int, pause_seconds: float = 0.0
) -> tuple[list[float], list[float], list[float]]:
    """Alternate the bare loop with ``job`` over HTTP, each after a pause.

    Returns the milliseconds of either, and by how many the job takes longer.
    """
    bare, service = [], []
    for _ in rounds(count, "straight lines"):
        time.sleep(pause_seconds)
        bare.append(milliseconds(line_loop.train))
        service.append(milliseconds(lambda: server.train(**job)))
    return bare, service, [a - b for a, b in zip(service, bare, strict=True)]


def run(scale: Scale) -> None:
    """Alternate the job with the bare loop; print medians and the difference."""
    size = SIZES[scale]
    torch.set_num_threads(1)
    line_loop.train()
    # -P: else a module of this folder stands before the library's of the same name
    script = [sys.executable, "-P", str(Path(line_loop.__file__))]
    scripts = [
        milliseconds(lambda: subprocess.run(script, check=True, capture_output=True))
        for _ in range(size.scripts)
    ]
    with running_server(scale) as server:
        server.line()
        last = server.train(**LINE_JOB)["metrics"]["last"]
        assert abs(last["test_loss"] - line_loop.train()[-1][1]) < 1e-6, "not the same work"
        bare, service, extra = beside_the_bare_loop(server, LINE_JOB, size.rounds, PAUSE_SECONDS)
    rows = table(
        f"The straight line, 100 epochs (ms; {size.rounds} rounds, alternating)",
        *("", "median", "90th percentile", "lowest"),
    )
    for name, values in (
        ("bare loop in a running process", bare),
        ("fitserve, POST to answer", service),
        ("difference", extra),
        ("fresh python script", scripts),
    ):
        ninetieth = quantiles(values, n=10)[-1] if len(values) > 1 else values[0]
        rows.add_row(name, f"{median(values):.1f}", f"{ninetieth:.1f}", f"{min(values):.1f}")
    console.print(rows)
    console.print(f"target: difference at most 60 ms; measured {median(extra):.1f} ms")
