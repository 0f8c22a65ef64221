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
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from tests.support.server import Server

ROWS, FLOATS, CATEGORIES, LABELS = 1_000_000, 16, 4, 50
ROUNDS = 7
SMALL_ROUNDS = 200
THREADS = len(os.sched_getaffinity(0))
MIB = 1024 * 1024


def make(rows: int = ROWS) -> pa.Table:
    """The table: standard normal floats, and labels drawn uniformly."""
    random = np.random.default_rng(0)
    labels = np.array([f"value_{i}" for i in range(LABELS)])
    floats = {f"x{i}": random.standard_normal(rows) for i in range(FLOATS)}
    texts = {f"c{i}": labels[random.integers(0, LABELS, rows)] for i in range(CATEGORIES)}
    return pa.table({**floats, **texts})


def by_hand(source: Path, target: Path) -> None:
    """What the service does, without checks, profile, HTTP, or any promise to keep it."""
    options = pacsv.ReadOptions(use_threads=THREADS > 1)
    pq.write_table(pacsv.read_csv(source, read_options=options), target, compression="zstd")


def in_new_process(source: Path, target: Path) -> float:
    """Seconds of ``by_hand`` with memory of its own, as the service's parser has it; imports are
    not counted."""
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
    """The file as the body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, blocksize=MIB, timeout=300)
    with source.open("rb") as body:
        headers = {"Content-Type": "text/csv", "Content-Length": str(source.stat().st_size)}
        connection.request("POST", "/v1/datasets", body, headers)
        response = connection.getresponse()
        content = response.read()
    assert response.status == 201, content[:500]
    connection.close()


class Watch:
    """The API process's growth, and how long ``/livez`` takes, while something else happens."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._process = psutil.Process(server.process.pid)
        self._before = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most_bytes = 0
        self.livez: list[float] = []

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            started = time.perf_counter()
            self._server.client.get("/livez")
            self.livez.append((time.perf_counter() - started) * 1000)
            self.most_bytes = max(self.most_bytes, self._process.memory_info().rss - self._before)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def seconds(work: object) -> float:
    started = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - started


def large(server: Server, folder: Path, console: Console) -> None:
    """Upload once while watching, then alternate the two."""
    source = folder / "large.csv"
    pacsv.write_csv(make(), source)
    with Watch(server) as watch:  # the first, so that what a server keeps is counted too
        upload(server.port, source)
    pa.set_cpu_count(THREADS)
    bare, warm, service = [], [], []
    for _ in range(ROUNDS):
        bare.append(in_new_process(source, folder / "bare.parquet"))
        warm.append(seconds(lambda: by_hand(source, folder / "bare.parquet")))
        service.append(seconds(lambda: upload(server.port, source)))
    ratio = median(b / a for a, b in zip(bare, service, strict=True))
    size = source.stat().st_size / MIB
    table = Table(
        title=f"A CSV of {ROWS:,} x {FLOATS + CATEGORIES} ({size:.0f} MiB), {ROUNDS} rounds"
    )
    for column in ("", "measured", "target"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row(f"pyarrow alone, {THREADS} threads, a new process", f"{median(bare):.2f} s", "")
    table.add_row("the same again and again in one process", f"{median(warm):.2f} s", "")
    table.add_row("fitserve, POST to 201", f"{median(service):.2f} s", "")
    table.add_row("ratio to the new process, median of pairs", f"{ratio:.2f}", "2")
    table.add_row("ratio of medians to the warm one", f"{median(service) / median(warm):.2f}", "")
    table.add_row("growth of the API process", f"{watch.most_bytes / MIB:.0f} MiB", "64 MiB")
    table.add_row("/livez meanwhile, worst", f"{max(watch.livez):.0f} ms", "250 ms")
    console.print(table)


def small(server: Server, console: Console) -> None:
    """50 rows of three columns against a request that does nothing."""
    lines = [f"{i},{i / 2},label {i % 3}" for i in range(50)]
    content = "\n".join(["a,b,c", *lines])
    headers = {"Content-Type": "text/csv"}
    empty, upload = [], []
    for _ in range(SMALL_ROUNDS):
        empty.append(seconds(lambda: server.client.get("/livez")))
        upload.append(
            seconds(lambda: server.client.post("/v1/datasets", content=content, headers=headers))
        )
    console.print(
        f"50 rows as CSV: {median(upload) * 1000:.1f} ms, an empty request: "
        f"{median(empty) * 1000:.1f} ms; ratio {median(upload) / median(empty):.1f} "
        "(target: under 5)\n"
    )


def main() -> None:
    """Both on one server."""
    console = Console()
    with TemporaryDirectory() as folder, Server(Path(folder) / "data") as server:
        time.sleep(2)
        small(server, console)
        large(server, Path(folder), console)


if __name__ == "__main__":
    main()
