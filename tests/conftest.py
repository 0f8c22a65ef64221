"""One real server for the tests that only talk to it; others start their own. One Postgres."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.db import migrate
from app.db.session import Database
from tests.support.postgres import Postgres
from tests.support.server import Server


@pytest.fixture(scope="session")
def server(sqlite_server: Server) -> Server:
    """A running server with the dataset ``line``; some modules take ``either_server`` for it."""
    return sqlite_server


@pytest.fixture(scope="session")
def sqlite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("shared") / "data") as running:
        running.line()
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A Postgres server, started for the first test that asks; each makes its own database."""
    with Postgres() as running:
        yield running


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def either_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same on either database; a module that takes it as its ``server`` runs twice."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_server")
        return
    url = request.getfixturevalue("postgres").database()
    folder = tmp_path_factory.mktemp("shared") / "data"
    with Server(folder, FITSERVE_DATABASE_URL=url) as running:
        running.line()
        yield running


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """For a server of the test's own."""
    return tmp_path / "data"


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder on a disk, also where TMPDIR lies in memory; for faults of disks."""
    with tempfile.TemporaryDirectory(prefix="fitserve-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def postgres_database(postgres: Postgres) -> Iterator[Database]:
    """An empty database of the newest schema on a real Postgres."""
    url = postgres.database()
    database = Database(url)
    migrate.upgrade(database)
    yield database
    database.close()
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """The same test on both kinds of database."""
    if request.param == "postgres":
        yield request.getfixturevalue("postgres_database")
        return
    database = Database(tmp_path / "fitserve.db")
    migrate.upgrade(database)
    yield database
    database.close()
