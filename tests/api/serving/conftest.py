"""The models that every dialect serves."""

from collections.abc import Iterator

import pytest

from tests.support import zoo


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zoo.Zoo]:
    """A server with small models of every kind."""
    with zoo.start(tmp_path_factory.mktemp("zoo") / "data") as server:
        yield zoo.train(server)
