"""A million rows as one Arrow stream, and the first prediction of a server that has just started.

1,000,000 rows of 8 doubles are POSTed to ``/v1/models/{ref}/predict`` as an Arrow IPC stream, and
the answer is read as one; against decoding the same bytes in this process and the bare forward pass
of the same weights in slices of 8,192, on one thread, without preprocessing and without encoding
the answer. Rounds alternate. ``python -m benchmarks.bulk [ROUNDS]``.

Targets: at least half the rows/s of the bare one. The growth of the API process meanwhile and the
first prediction after a restart against the second are only shown.
"""

import http.client
import io
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.ingest import MIB, Watch
from benchmarks.serving import FITSERVE, MODEL, ROW, train
from benchmarks.serving_peers import forward
from tests.support.server import Server

ROWS, BATCH, SLICE = 1_000_000, 65_536, 8_192
ROUNDS, RESTARTS = 5, 3
ARROW = "application/vnd.apache.arrow.stream"
PATH = f"/v1/models/{MODEL}/predict"


def stream(rows: int) -> bytes:
    """Standard normal numbers under the model's names, in batches of 65,536 rows."""
    random = np.random.default_rng(0)
    table = pa.table({name: random.standard_normal(rows) for name in forward.NAMES})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=BATCH)
    return sink.getvalue()


def by_hand(model: nn.Sequential, content: bytes) -> torch.Tensor:
    """Decode and pass forward; ``(rows, 1)``."""
    alone = pa.ipc.IpcReadOptions(use_threads=False)
    table = pa.ipc.open_stream(content, options=alone).read_all()
    x = np.empty((len(table), len(forward.NAMES)), np.float32)
    for number, name in enumerate(forward.NAMES):
        x[:, number] = table[name].to_numpy()
    with torch.inference_mode():
        slices = [torch.from_numpy(x[at : at + SLICE]) for at in range(0, len(x), SLICE)]
        return torch.cat([model(part) for part in slices])


def ask(server: Server, content: bytes) -> tuple[int, bytes]:
    """Status and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, blocksize=MIB, timeout=300)
    connection.request("POST", PATH, content, {"Content-Type": ARROW, "Accept": ARROW})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, answer


def seconds_of(server: Server, content: bytes, rows: int) -> float:
    """From POST to the last number of the answer."""
    started = time.perf_counter()
    status, answer = ask(server, content)
    assert status == 200, answer[:500]
    found = pa.ipc.open_stream(answer).read_all()
    taken = time.perf_counter() - started
    assert len(found) == rows
    return taken


def check(server: Server) -> None:
    """Arrow's answers are those of JSON, which ``benchmarks.serving`` checks."""
    rows = stream(100)
    table = pa.ipc.open_stream(rows).read_all()
    status, answer = ask(server, rows)
    assert status == 200, answer[:500]
    found: Any = pa.ipc.open_stream(answer).read_all().columns[0].to_numpy()
    right = server.ok("POST", PATH, json={"rows": table.to_pylist()})["predictions"]
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)


def bulk(server: Server, folder: Path, rounds: int, console: Console) -> None:
    """Once while watching, then alternate the two."""
    if ask(server, stream(1))[0] == 415:
        console.print("fitserve takes no Arrow stream for predictions (415); skipped")
        return
    check(server)
    weights = folder / "weights.safetensors"
    weights.write_bytes(server.client.get(f"/v1/models/{MODEL}/download").content)
    model, content = forward.load(str(weights)), stream(ROWS)
    with Watch(server) as watch:  # the first, so that what a server keeps is counted too
        seconds_of(server, content, ROWS)
    bare, service = [], []
    by_hand(model, content)
    for _ in range(rounds):
        started = time.perf_counter()
        by_hand(model, content)
        bare.append(time.perf_counter() - started)
        service.append(seconds_of(server, content, ROWS))
    table = Table(title=f"{ROWS:,} x {len(forward.NAMES)} as an Arrow stream, {rounds} rounds")
    for column in ("", "measured", "target"):
        table.add_column(column, justify="left" if not column else "right")
    ratio = median(a / b for a, b in zip(bare, service, strict=True))
    table.add_row("decode and forward by hand", f"{ROWS / median(bare):,.0f} rows/s", "")
    table.add_row("fitserve, POST to answer", f"{ROWS / median(service):,.0f} rows/s", "")
    table.add_row("ratio, median of pairs", f"{ratio:.2f}", "at least 0.5")
    table.add_row("growth of the API process, the first", f"{watch.most_bytes / MIB:.0f} MiB", "")
    worst = max(watch.livez, default=0.0)
    table.add_row("/livez meanwhile, worst", f"{worst:.0f} ms", "")
    console.print(table)


def cold(server: Server, console: Console) -> None:
    """The first prediction after each of a few restarts, and the one after it."""
    first: list[float] = []
    second: list[float] = []
    body = {"rows": [dict(zip(forward.NAMES, ROW, strict=True))]}
    for _ in range(RESTARTS):
        server.terminate()
        server.restart()
        for times in (first, second):
            started = time.perf_counter()
            server.ok("POST", PATH, json=body)
            times.append((time.perf_counter() - started) * 1000)
    console.print(
        f"first prediction after a start: {median(first):.0f} ms, the second: "
        f"{median(second):.1f} ms ({RESTARTS} starts, medians)\n"
    )


def main(rounds: int = ROUNDS) -> None:
    """Both on one server."""
    console = Console()
    with TemporaryDirectory() as name:
        folder = Path(name)
        with Server(folder / "data", **FITSERVE) as server:
            train(server)
            bulk(server, folder, rounds, console)
            cold(server, console)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
