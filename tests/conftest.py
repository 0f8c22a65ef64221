"""One real server for the tests that only talk to it; others start their own. One Postgres."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import xdist.remote
from xdist.scheduler import LoadFileScheduling

from app.db import migrate
from app.db.session import Database
from tests.support import zoo
from tests.support.postgres import Postgres
from tests.support.server import Process, Server, StartedServer

FOLDERS_OF_ONE_SERVER = {
    "tests/api/files": "files",
    "tests/api/serving": "models",
    "tests/compat": "models",
    "tests/conformance": "both databases",
}


Process.forked = True


@pytest.fixture(scope="session")
def server(sqlite_server: Server) -> Server:
    """A running server with the dataset ``line``; some modules take ``either_server`` for it."""
    return sqlite_server


@pytest.fixture(scope="session")
def sqlite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with StartedServer(tmp_path_factory.mktemp("shared") / "data") as running:
        running.line()
        yield running


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zoo.Zoo]:
    """A server with small models of every kind, which every dialect serves."""
    with zoo.start(tmp_path_factory.mktemp("zoo") / "data") as running:
        yield zoo.train(running)


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


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> str:
    """The URL of an empty database of the newest schema, to be copied."""
    url = postgres.database()
    with closing(Database(url)) as database:
        migrate.upgrade(database)
    return url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a file."""
    path = tmp_path_factory.mktemp("migrated") / "fitserve.db"
    with closing(Database(path)) as database:
        migrate.upgrade(database)
    return path


@pytest.fixture
def postgres_database(postgres: Postgres, migrated_postgres: str) -> Iterator[Database]:
    """An empty database of the newest schema on a real Postgres."""
    url = postgres.database(like=migrated_postgres)
    with closing(Database(url)) as database:
        yield database
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """The same test on both kinds of database."""
    if request.param == "postgres":
        yield request.getfixturevalue("postgres_database")
        return
    migrated = request.getfixturevalue("migrated_sqlite")
    with closing(Database(shutil.copy(migrated, tmp_path / "fitserve.db"))) as database:
        yield database


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(
    config: pytest.Config, log: xdist.remote.Producer
) -> LoadFileScheduling:
    """Have a file's tests run in one process, and a whole folder's where they share a server."""
    return _ByServer(config, log)


class _ByServer(LoadFileScheduling):  # type: ignore[misc]  # xdist says no types
    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        folder = file.rpartition("/")[0]
        return FOLDERS_OF_ONE_SERVER.get(folder, file)
