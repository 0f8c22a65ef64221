"""A data directory with a part that cannot be written, or is elsewhere: it is said."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import select

from app.db.models import Job
from app.errors import ConfigurationError
from app.house import own_data
from app.settings import load_settings
from tests.support.faults import mounted, mounted_on_itself
from tests.support.server import LINE_JOB, PATIENCE, Server, problem

FOLDERS = ("datasets", "models", "checkpoints", "tmp", "quarantine")
PARTS = (".", *FOLDERS, "identity.json", "fitserve.db", "fitserve.lock", "fitserve.reserve")
TABLE = {"name": "t", "source": {"kind": "inline", "rows": [{"a": 1}, {"a": 2}]}}
Fault = Callable[[Path], AbstractContextManager[None]]


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """What not even root can change."""
    if subprocess.run(["chattr", "+i", path], capture_output=True).returncode != 0:
        pytest.skip("cannot make files immutable here (not root, or a file system without)")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


@contextmanager
def elsewhere(folder: Path) -> Iterator[None]:
    """Another file system in the place of a folder."""
    with TemporaryDirectory() as place, mounted(Path(place), megabytes=8) as disk:
        kept = folder.rename(folder.with_name(f"{folder.name}.kept"))
        folder.symlink_to(disk)
        try:
            yield
        finally:
            folder.unlink()
            kept.rename(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("house") / "data") as running:
        running.line()
        running.train(**LINE_JOB)
        yield running


FAULTS = [
    *((immutable, part) for part in PARTS),
    *((fault, folder) for fault in (elsewhere, mounted_on_itself) for folder in FOLDERS),
]


@pytest.mark.parametrize(("fault", "part"), FAULTS)
def test_readiness_names_the_part_and_comes_back(server: Server, fault: Fault, part: str) -> None:
    path = server.data_dir / part
    before = server.ok("POST", "/v1/models/line/predict", json={"rows": [{"x": 0.5}]})
    with fault(path):
        answer = server.client.get("/readyz")
        assert answer.status_code == 503
        told = answer.json()["checks"]["storage"]
        assert str(path) in told
        assert (f"chattr -i {path}" if fault is immutable else "one file system") in told
        assert server.client.get("/livez").status_code == 200
        assert server.ok("POST", "/v1/models/line/predict", json={"rows": [{"x": 0.5}]}) == before
    assert server.client.get("/readyz").status_code == 200
    server.train(**LINE_JOB)


@pytest.mark.parametrize("part", ["datasets", "models", "checkpoints"])
def test_what_cannot_be_published_is_refused_or_fails_as_said(server: Server, part: str) -> None:
    with immutable(server.data_dir / part):
        if part == "datasets":
            table = server.client.post("/v1/datasets", json=TABLE)
            problem(table, 503, "unavailable")
        else:
            job = server.ok("POST", "/v1/jobs", json=LINE_JOB, headers={"Prefer": "wait=60"})
            assert (job["status"], job["error"]["code"]) == ("failed", "storage_full")
    assert list((server.data_dir / "tmp").iterdir()) == []
    server.train(**LINE_JOB)


def test_an_artifact_that_cannot_be_moved_stops_neither_deleting_nor_a_start(
    server: Server,
) -> None:
    server.train(**{**LINE_JOB, "register_as": "stuck"})
    model = server.ok("GET", "/v1/models/stuck")
    path = server.data_dir / "models" / model["id"]
    with immutable(path):
        assert server.client.delete("/v1/models/stuck").status_code == 204
        assert server.client.get("/v1/models/stuck").status_code == 404
        server.kill()
        server.restart()
        assert server.logged("cannot be moved; the next sweep tries again")
        server.train(**LINE_JOB)
    server.kill()
    server.restart()
    assert not path.exists()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a server that has ended."""
    with Server(tmp_path_factory.mktemp("closed") / "data") as running:
        running.line()
        running.train(**LINE_JOB)
        running.terminate()
    return running.data_dir


@pytest.mark.parametrize(("fault", "part"), FAULTS)
def test_a_start_over_it_is_refused_and_nothing_is_lost(
    closed: Path, fault: Fault, part: str
) -> None:
    before = _names(closed)
    with (
        fault(closed / part),
        pytest.raises(ConfigurationError, match=re.escape(str(closed / part))),
        own_data(load_settings(data_dir=closed), "test"),
    ):
        pass
    assert _names(closed) == before
    with (
        own_data(load_settings(data_dir=closed), "test") as (_, database),
        database.read() as session,
    ):
        assert session.scalars(select(Job.status)).all() == ["succeeded"]


def test_the_command_says_it_in_a_line_and_exits_78(closed: Path) -> None:
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--data-dir", str(closed)]
    with immutable(closed / "models"):
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 78
    assert "models cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def _names(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}
