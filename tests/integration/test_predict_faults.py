"""Large predictions on a disk that fills up."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support.faults import mounted
from tests.support.files import as_arrow, as_parquet
from tests.support.server import LINE_JOB, PATIENCE, Server, problem
from tests.support.soak import SOAK, rounds

ROWS = 600_000
"""More than is kept in memory, 4 MiB: coming, read or written."""
ARROW = "application/vnd.apache.arrow.stream"
ACCEPTED = ("application/json", "text/csv", ARROW)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, megabytes=64) as disk:
        yield disk


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
                assert response.status_code == 200  # there is room for it in the end
        filler.unlink()
        assert list((small_disk / "data" / "tmp").iterdir()) == []
        # the last answer has been read before its file is closed
        deadline = time.monotonic() + PATIENCE
        while shutil.disk_usage(small_disk).free <= 50e6:  # and 4e6 are the reserve
            assert time.monotonic() < deadline, shutil.disk_usage(small_disk)
            time.sleep(0.02)
        server.ok("POST", path, json={"rows": [{"x": 0.5}]})
    assert statuses[507] > 0
    print(f"\nanswers by status: {dict(statuses)}")
