"""What is given up goes from the disk: rows, history, artifacts; and checkpoints when their days
are over."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConfigurationError
from app.executors.parsers import Parsers
from app.house import own_data
from app.ids import new_id
from app.maintenance.housekeeper import Housekeeper
from app.runtime.context import Context
from app.settings import load_settings
from app.storage import Storage
from tests.support.postgres import Postgres
from tests.support.server import LINE_JOB, Server
from tests.support.soak import soak_only
from tests.support.waves import JOB, waves


def artifacts(data_dir: Path, kind: str) -> set[str]:
    return {path.name for path in (data_dir / kind).iterdir()}


def size_of(path: Path) -> int:
    """Bytes of a database, what is still in its log included."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        pages, size = (
            database.execute(f"PRAGMA page_{of}").fetchone()[0] for of in ("count", "size")
        )
    return int(pages * size)


@soak_only
def test_deleting_gives_the_disk_back(data_dir: Path) -> None:
    """Two histories of 1,200 epochs are 60 kB of rows."""
    long: dict[str, Any] = {**LINE_JOB, "epochs": 1_200}
    with Server(data_dir) as server:
        server.line()
        server.train(**LINE_JOB)
        path = data_dir / "fitserve.db"
        before = size_of(path)
        ids = [str(server.ok("POST", "/v1/jobs", json=long)["id"]) for _ in range(2)]
        for job_id in ids:
            assert server.ended(job_id)["status"] == "succeeded"
        assert size_of(path) > before + (45 << 10)
        for version in (2, 3):
            assert server.client.delete(f"/v1/models/line@{version}").status_code == 204
        for job_id in ids:
            assert server.client.delete(f"/v1/jobs/{job_id}").status_code == 204
        wal = sum(file.stat().st_size for file in data_dir.glob("fitserve.db-wal"))
        assert wal < 8 << 20
        server.terminate()
        after = path.stat().st_size
        print(f"\n{before:,} bytes, after 2,400 epochs came and went {after:,}")
        assert after < before + (30 << 10)
        assert len(artifacts(data_dir, "models")) == 1
        assert len(artifacts(data_dir, "checkpoints")) == 1


@soak_only
def test_checkpoints_of_ended_jobs_go_when_their_days_are_over(data_dir: Path) -> None:
    with Server(data_dir) as server:
        waves(server)
        ended = server.train(**JOB)
        assert artifacts(data_dir, "checkpoints")
        paused = str(server.ok("POST", "/v1/jobs", json={**JOB, "epochs": 100_000})["id"])
        server.until(paused, lambda job: job["progress"]["epoch"] > 2)
        server.ok("POST", f"/v1/jobs/{paused}/pause")
        server.until(paused, lambda job: job["status"] == "paused")
        server.terminate()
    with Server(data_dir, FITSERVE_CHECKPOINT_DAYS="0") as server:  # begins by sweeping
        assert server.ok("GET", f"/v1/jobs/{ended['id']}/checkpoints")["data"] == []
        kept = server.ok("GET", f"/v1/jobs/{paused}/checkpoints")["data"]
        assert artifacts(data_dir, "checkpoints") == {row["id"] for row in kept} != set()
        assert server.client.get("/v1/models/" + ended["model"]["ref"]).status_code == 200
        server.ok("POST", f"/v1/jobs/{paused}/resume")
        server.until(paused, lambda job: job["attempt"] == 2 and job["status"] == "running")
        server.ok("POST", f"/v1/jobs/{paused}/cancel")
        server.ended(paused)


def test_a_postgres_does_not_take_the_artifacts_of_another_database_for_orphans(
    data_dir: Path, postgres: Postgres
) -> None:
    storage = Storage(data_dir)
    settings = load_settings(data_dir=data_dir, database_url=postgres.database())
    with own_data(settings, "test") as (_, database):
        parsers = Parsers(1 << 30, 60, lambda: False)
        context = Context(settings, storage, database, parsers)
        old = storage.path("models", new_id("mdl"))
        old.mkdir()
        os.utime(old, (0, 0))
        Housekeeper(context).start()
        assert old.exists(), "nothing is known here, so nothing is known to be an orphan"
        context.closed.set()
        parsers.close()
    with own_data(load_settings(data_dir=data_dir), "test"):
        pass  # SQLite makes its database here
    with (
        pytest.raises(ConfigurationError, match="belongs to the SQLite database in it"),
        own_data(settings, "test"),
    ):
        pass
    assert old.exists()
