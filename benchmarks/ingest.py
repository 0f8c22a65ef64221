"""Uploading tables: a large CSV against pyarrow alone, and a small one against an empty request.

Targets: 1,000,000 rows of 16 floats and 4 categories, from POST to 201, at most 2 times
``pyarrow.csv.read_csv`` + ``pyarrow.parquet.write_table`` (zstd) of the same file with the same
number of threads; meanwhile the API process grows by at most 64 MiB and ``/livez`` stays under
250 ms. 50 rows in under 5 times an empty request's time.
"""

import http.client
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from benchmarks.harness import (
    MIB_BYTES,
    Scale,
    console,
    milliseconds,
    rounds,
    running_server,
    seconds,
    table,
)
from tests.support.server import Server

FLOATS, CATEGORIES, LABELS = 16, 4, 50
THREADS = len(os.sched_getaffinity(0))
SETTLE_SECONDS = 2


@dataclass(frozen=True)
class Size:
    rows: int
    rounds: int
    small_rounds: int


SIZES = {
    Scale.FULL: Size(rows=1_000_000, rounds=7, small_rounds=200),
    Scale.QUICK: Size(rows=1_000_000, rounds=1, small_rounds=30),
    Scale.TINY: Size(rows=10_000, rounds=1, small_rounds=2),
}


def random_table(rows: int) -> pa.Table:
    """Return standard normal floats ``x0`` … and uniformly drawn labels ``c0`` …."""
    random = np.random.default_rng(0)
    labels = np.array([f"value_{i}" for i in range(LABELS)])
    floats = {f"x{i}": random.standard_normal(rows) for i in range(FLOATS)}
    texts = {f"c{i}": labels[random.integers(0, LABELS, rows)] for i in range(CATEGORIES)}
    return pa.table({**floats, **texts})


def by_hand(source: Path, target: Path) -> None:
    """Do what the service does, without checks, profile, HTTP, or any promise to keep it."""
    options = pacsv.ReadOptions(use_threads=THREADS > 1)
    pq.write_table(pacsv.read_csv(source, read_options=options), target, compression="zstd")


def in_new_process(source: Path, target: Path) -> float:
    """Return the seconds of ``by_hand`` with memory of its own, as the service's parser has it.

    Imports are not counted.
    """
    answer, question = os.pipe()
    child = os.fork()
    if child == 0:
        pa.set_cpu_count(THREADS)
        os.write(question, str(seconds(lambda: by_hand(source, target))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    taken = float(os.read(answer, 64))
    os.close(answer)
    os.close(question)
    return taken


def upload(port: int, source: Path) -> None:
    """Send the file as the body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, blocksize=MIB_BYTES, timeout=300)
    with source.open("rb") as body:
        headers = {"Content-Type": "text/csv", "Content-Length": str(source.stat().st_size)}
        connection.request("POST", "/v1/datasets", body, headers)
        response = connection.getresponse()
        content = response.read()
    assert response.status == 201, content[:500]
    connection.close()


class Watch:
    """``with Watch(server) as watch:`` looks at the API process while something else happens."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._process = psutil.Process(server.process.pid)
        self._before_bytes = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.growth_bytes = 0
        """The most resident memory it had beyond that at the start."""
        self.livez_ms = 0.0
        """The longest that ``GET /livez`` took."""

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            taken_ms = milliseconds(lambda: self._server.client.get("/livez"))
            self.livez_ms = max(self.livez_ms, taken_ms)
            growth_bytes = self._process.memory_info().rss - self._before_bytes
            self.growth_bytes = max(self.growth_bytes, growth_bytes)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def large(server: Server, folder: Path, size: Size) -> None:
    """Upload once while watching, then alternate the service with pyarrow alone."""
    source = folder / "large.csv"
    pacsv.write_csv(random_table(size.rows), source)
    with Watch(server) as watch:  # the first, so that what a server keeps is counted too
        upload(server.port, source)
    pa.set_cpu_count(THREADS)
    bare, warm, service = [], [], []
    for _ in rounds(size.rounds, "large uploads"):
        bare.append(in_new_process(source, folder / "bare.parquet"))
        warm.append(seconds(lambda: by_hand(source, folder / "bare.parquet")))
        service.append(seconds(lambda: upload(server.port, source)))
    ratio = median(b / a for a, b in zip(bare, service, strict=True))
    mib = source.stat().st_size / MIB_BYTES
    what = f"A CSV of {size.rows:,} x {FLOATS + CATEGORIES} ({mib:.0f} MiB), {size.rounds} rounds"
    rows = table(what, "", "measured", "target")
    rows.add_row(f"pyarrow alone, {THREADS} threads, a new process", f"{median(bare):.2f} s", "")
    rows.add_row("the same again and again in one process", f"{median(warm):.2f} s", "")
    rows.add_row("fitserve, POST to 201", f"{median(service):.2f} s", "")
    rows.add_row("ratio to the new process, median of pairs", f"{ratio:.2f}", "2")
    rows.add_row("ratio of medians to the warm one", f"{median(service) / median(warm):.2f}", "")
    rows.add_row("growth of the API process", f"{watch.growth_bytes / MIB_BYTES:.0f} MiB", "64 MiB")
    rows.add_row("/livez meanwhile, worst", f"{watch.livez_ms:.0f} ms", "250 ms")
    console.print(rows)


def small(server: Server, size: Size) -> None:
    """Upload 50 rows of three columns; compare with a request that does nothing."""
    lines = [f"{i},{i / 2},label {i % 3}" for i in range(50)]
    content = "\n".join(["a,b,c", *lines])
    headers = {"Content-Type": "text/csv"}
    empty, uploads = [], []
    for _ in rounds(size.small_rounds, "small uploads"):
        empty.append(seconds(lambda: server.client.get("/livez")))
        uploads.append(
            seconds(lambda: server.ok("POST", "/v1/datasets", content=content, headers=headers))
        )
    console.print(
        f"50 rows as CSV: {median(uploads) * 1000:.1f} ms, an empty request: "
        f"{median(empty) * 1000:.1f} ms; ratio {median(uploads) / median(empty):.1f} "
        "(target: under 5)"
    )


def run(scale: Scale) -> None:
    """Measure small and large uploads on one server."""
    size = SIZES[scale]
    with TemporaryDirectory() as folder, running_server(scale) as server:
        if scale is not Scale.TINY:
            time.sleep(SETTLE_SECONDS)
        small(server, size)
        large(server, Path(folder), size)
