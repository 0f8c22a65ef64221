"""Every test here runs on both databases."""

import pytest

from tests.support.server import Server


@pytest.fixture(scope="session")
def server(either_server: Server) -> Server:
    return either_server
