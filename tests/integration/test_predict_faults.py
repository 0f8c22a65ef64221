"""Large predictions on a disk that fills up."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support.faults import mounted
from tests.support.files import as_arrow, as_parquet
from tests.support.server import LINE_JOB, PATIENCE, Server, problem
from tests.support.soak import SOAK, rounds, soak_only

ROWS = 600_000
"""More than is kept in memory, 4 MiB: coming, read or written."""
ARROW = "application/vnd.apache.arrow.stream"
ACCEPTED = ("application/json", "text/csv", ARROW)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, megabytes=64) as disk:
        yield disk


def kept_deleted(server: Server) -> set[str]:
    """Files of the scratch folder that have no name any more, and take room: open, or mapped."""
    process = Path(f"/proc/{server.process.pid}")
    names = [line.split(maxsplit=5)[-1] for line in (process / "maps").read_text().splitlines()]
    for link in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            names.append(os.readlink(link))
    return {name for name in names if "/data/tmp/" in name and "(deleted)" in name}


@soak_only
def test_a_disk_that_is_full_is_said_and_nothing_is_left(small_disk: Path) -> None:
    """Wherever it is full: while the body comes, while it is read, while the answer is written."""
    table = pa.table({"x": np.random.default_rng(0).integers(0, 10**6, ROWS) / 997})
    bodies = {ARROW: as_arrow(table), "application/vnd.apache.parquet": as_parquet(table)}
    filler, statuses = small_disk / "filler", Counter[int]()
    with Server(small_disk / "data", FITSERVE_MIN_FREE_BYTES="0") as server:
        server.line()
        server.train(**LINE_JOB)
        path = "/v1/models/line/predict"
        for kind, body in bodies.items():
            for accept in ACCEPTED if kind == ARROW or SOAK else ACCEPTED[:1]:
                for free in np.linspace(0, 24e6, rounds(5, 200), dtype=int):
                    filler.unlink(missing_ok=True)
                    room = shutil.disk_usage(small_disk).free
                    with filler.open("wb") as file:
                        file.write(bytes(max(0, room - int(free))))
                    headers = {"Content-Type": kind, "Accept": accept}
                    response = server.client.post(path, content=body, headers=headers)
                    statuses[response.status_code] += 1
                    if response.status_code != 200:
                        problem(response, 507, "storage_full")
                        assert kept_deleted(server) == set()
                assert response.status_code == 200  # there is room for it in the end
        filler.unlink()
        assert list((small_disk / "data" / "tmp").iterdir()) == []
        # the last answer has been read before its file is closed
        deadline = time.monotonic() + PATIENCE
        while kept := kept_deleted(server):
            assert time.monotonic() < deadline, kept
            time.sleep(0.02)
        server.ok("POST", path, json={"rows": [{"x": 0.5}]})
    assert statuses[507] > 0
    print(f"\nanswers by status: {dict(statuses)}")
