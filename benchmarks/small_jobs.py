"""Many small jobs: how many straight lines a second, and what one costs above the bare loop.

A small job waits for the disk, so the time of an fsync there stands beside each figure. Targets,
where that is at most 3 ms: at least 30 jobs a second, and a warm job sent right after the one
before takes at most 30 ms more than the bare loop. They were set on a machine whose bare loop takes
16.7 ms, so both are given in bare loops too: 30 jobs a second are 2 of them a job, 30 ms are 1.8.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks import line_loop
from benchmarks.harness import (
    Scale,
    console,
    milliseconds,
    rounds,
    running_server,
    seconds,
    table,
)
from benchmarks.line import beside_the_bare_loop
from tests.support.server import LINE_JOB, Server

DATASET = "small"
"""Its own: tiny runs share a server, where other benchmarks have made theirs."""
JOB = {**LINE_JOB, "dataset": DATASET}
del JOB["register_as"]
_SYNCED_BYTES = 4096
_SYNCS = 50


@dataclass(frozen=True)
class Size:
    jobs: int
    """Posted at once."""
    rounds: int
    single: int
    """Sent one after the other."""


SIZES = {
    Scale.FULL: Size(jobs=60, rounds=5, single=60),
    Scale.QUICK: Size(jobs=60, rounds=1, single=15),
    Scale.TINY: Size(jobs=3, rounds=1, single=2),
}


def fsync_ms(folder: Path) -> float:
    """Return the median milliseconds of an fsync after a small write to a file in ``folder``."""
    path = folder / "fsync-probe"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        times = []
        for _ in range(_SYNCS):
            os.write(descriptor, bytes(_SYNCED_BYTES))
            times.append(milliseconds(lambda: os.fsync(descriptor)))
    finally:
        os.close(descriptor)
        path.unlink()
    return median(times)


def all_at_once(server: Server, count: int) -> None:
    """Post so many jobs, and wait until all of them have succeeded."""
    ids = [server.ok("POST", "/v1/jobs", json=JOB)["id"] for _ in range(count)]
    for job_id in ids:
        assert server.ended(job_id)["status"] == "succeeded"


def run(scale: Scale) -> None:
    """Post many jobs at once a few times, then one after the other beside the bare loop."""
    size = SIZES[scale]
    torch.set_num_threads(1)
    line_loop.train()
    syncs, rates = [], []
    with running_server(scale) as server:
        server.line(DATASET)
        server.train(**JOB)
        for _ in rounds(size.rounds, f"{size.jobs} jobs at once"):
            syncs.append(fsync_ms(server.data_dir))
            rates.append(size.jobs / seconds(lambda: all_at_once(server, size.jobs)))
            time.sleep(0.5)
        bare, service, extra = beside_the_bare_loop(server, JOB, size.single)
        syncs.append(fsync_ms(server.data_dir))
    rows = table(
        f"Straight lines of 100 epochs, {len(os.sched_getaffinity(0))} cores (medians)",
        *("", "measured", "target"),
    )
    rows.add_row("an fsync on its disk", f"{median(syncs):.2f} ms", "at most 3 ms")
    rows.add_row("the bare loop", f"{median(bare):.1f} ms", "")
    rows.add_row(f"{size.jobs} jobs at once", f"{median(rates):.1f} jobs/s", "30 jobs/s")
    loops = 1000 / median(rates) / median(bare)
    rows.add_row("the time of each of them, in bare loops", f"{loops:.2f}", "2")
    rows.add_row("one job, POST to answer", f"{median(service):.1f} ms", "")
    rows.add_row("what it takes above the bare loop", f"{median(extra):.1f} ms", "30 ms")
    rows.add_row("the same in bare loops", f"{median(extra) / median(bare):.2f}", "1.8")
    console.print(rows)
