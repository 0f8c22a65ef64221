"""The shared server with a model of that table; whatever is sent leaves nothing behind."""

import json
from collections.abc import Iterator

import pytest

from tests.support.files import as_csv
from tests.support.server import Json, Server
from tests.support.shop import (
    CSV,
    SHOP,
    left,
    media,
)


@pytest.fixture(scope="module")
def server(server: Server) -> Server:
    if server.client.get("/v1/models/files").status_code == 404:
        types = json.dumps({"sold": "datetime"})
        options: Json = {"params": {"name": "files", "types": types}, "headers": media(CSV)}
        server.ok("POST", "/v1/datasets", content=as_csv(SHOP), **options)
        server.train(dataset="files", target="price", epochs=20, register_as="files")
    return server


@pytest.fixture(autouse=True)
def nothing_left_behind(server: Server) -> Iterator[None]:
    yield
    assert left(server) == []
