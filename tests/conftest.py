"""One real server for the tests that only talk to it; others start their own. One Postgres."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Postgres
from tests.server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server with the dataset ``line``."""
    with Server(tmp_path_factory.mktemp("shared") / "data") as running:
        running.line()
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A Postgres server, started for the first test that asks; each makes its own database."""
    with Postgres() as running:
        yield running


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """For a server of the test's own."""
    return tmp_path / "data"
