"""A million rows as one Arrow stream, and the first prediction of a server that has just started.

1,000,000 rows of 8 doubles are POSTed to ``/v1/models/{ref}/predict`` as an Arrow IPC stream, and
the answer is read as one; against decoding the same bytes in this process and the bare forward pass
of the same weights in slices of 8,192, on one thread, without preprocessing and without encoding
the answer. Rounds alternate.

Targets: at least half the rows/s of the bare one. The growth of the API process meanwhile and the
first prediction after a restart against the second are only shown.
"""

import http.client
import io
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

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
from benchmarks.ingest import Watch
from benchmarks.serving import FITSERVE, MODEL, NAMED_ROW, train
from benchmarks.serving_peers import forward
from tests.support.server import Server

BATCH_ROWS, SLICE_ROWS = 65_536, 8_192
ARROW = "application/vnd.apache.arrow.stream"
PATH = f"/v1/models/{MODEL}/predict"


@dataclass(frozen=True)
class Size:
    rows: int
    rounds: int
    restarts: int


SIZES = {
    Scale.FULL: Size(rows=1_000_000, rounds=5, restarts=3),
    Scale.QUICK: Size(rows=1_000_000, rounds=2, restarts=1),
    Scale.TINY: Size(rows=10_000, rounds=1, restarts=1),
}


def stream(rows: int) -> bytes:
    """Return an Arrow stream of standard normal numbers under the model's names."""
    random = np.random.default_rng(0)
    table = pa.table({name: random.standard_normal(rows) for name in forward.NAMES})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=BATCH_ROWS)
    return sink.getvalue()


def by_hand(model: nn.Sequential, content: bytes) -> torch.Tensor:
    """Decode and pass forward; return the outputs, ``(rows, 1)``."""
    alone = pa.ipc.IpcReadOptions(use_threads=False)
    table = pa.ipc.open_stream(content, options=alone).read_all()
    x = np.empty((len(table), len(forward.NAMES)), np.float32)
    for number, name in enumerate(forward.NAMES):
        x[:, number] = table[name].to_numpy()
    with torch.inference_mode():
        slices = [torch.from_numpy(x[at : at + SLICE_ROWS]) for at in range(0, len(x), SLICE_ROWS)]
        return torch.cat([model(part) for part in slices])


def ask(server: Server, content: bytes) -> tuple[int, bytes]:
    """Return status and body of one request."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", server.port, blocksize=MIB_BYTES, timeout=300
    )
    connection.request("POST", PATH, content, {"Content-Type": ARROW, "Accept": ARROW})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, answer


def predict(server: Server, content: bytes, rows: int) -> None:
    """POST the stream and read the last number of its answer."""
    status, answer = ask(server, content)
    assert status == 200, answer[:500]
    assert len(pa.ipc.open_stream(answer).read_all()) == rows


def check(server: Server) -> None:
    """Raise unless Arrow's answers are those of JSON, which ``benchmarks.serving`` checks."""
    rows = stream(100)
    table = pa.ipc.open_stream(rows).read_all()
    status, answer = ask(server, rows)
    assert status == 200, answer[:500]
    found: Any = pa.ipc.open_stream(answer).read_all().columns[0].to_numpy()
    right = server.ok("POST", PATH, json={"rows": table.to_pylist()})["predictions"]
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)


def bulk(server: Server, folder: Path, size: Size) -> None:
    """Predict once while watching, then alternate the service with the bare loop."""
    check(server)
    weights = folder / "weights.safetensors"
    weights.write_bytes(server.client.get(f"/v1/models/{MODEL}/download").content)
    model, content = forward.load(str(weights)), stream(size.rows)
    with Watch(server) as watch:  # the first, so that what a server keeps is counted too
        predict(server, content, size.rows)
    bare, service = [], []
    by_hand(model, content)
    for _ in rounds(size.rounds, "bulk predictions"):
        bare.append(seconds(lambda: by_hand(model, content)))
        service.append(seconds(lambda: predict(server, content, size.rows)))
    what = f"{size.rows:,} x {len(forward.NAMES)} as an Arrow stream, {size.rounds} rounds"
    rows = table(what, "", "measured", "target")
    ratio = median(a / b for a, b in zip(bare, service, strict=True))
    rows.add_row("decode and forward by hand", f"{size.rows / median(bare):,.0f} rows/s", "")
    rows.add_row("fitserve, POST to answer", f"{size.rows / median(service):,.0f} rows/s", "")
    rows.add_row("ratio, median of pairs", f"{ratio:.2f}", "at least 0.5")
    growth = f"{watch.growth_bytes / MIB_BYTES:.0f} MiB"
    rows.add_row("growth of the API process, the first", growth, "")
    rows.add_row("/livez meanwhile, worst", f"{watch.livez_ms:.0f} ms", "")
    console.print(rows)


def cold(server: Server, restarts: int) -> None:
    """Measure the first prediction after each of a few restarts, and the one after it."""
    first: list[float] = []
    second: list[float] = []
    for _ in rounds(restarts, "restarts"):
        server.terminate()
        server.restart()
        for times in (first, second):
            times.append(milliseconds(lambda: server.ok("POST", PATH, json={"rows": [NAMED_ROW]})))
    console.print(
        f"first prediction after a start: {median(first):.0f} ms, the second: "
        f"{median(second):.1f} ms ({restarts} starts, medians)"
    )


def run(scale: Scale) -> None:
    """Measure bulk and first predictions on one server."""
    size = SIZES[scale]
    with TemporaryDirectory() as folder, running_server(scale, **FITSERVE) as server:
        train(server)
        bulk(server, Path(folder), size)
        cold(server, size.restarts)
