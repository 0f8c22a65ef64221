"""Aliases of model versions, and what a version was made from."""

from typing import Any

import pytest

from tests.support.server import LINE_JOB, Json, Server, problem

QUICK: Json = {**LINE_JOB, "epochs": 3}
ROWS = {"rows": [{"x": 0.5}]}


@pytest.fixture(scope="module")
def name(server: Server) -> str:
    """A model of four versions."""
    for _ in range(4):
        server.train(**{**QUICK, "register_as": "known"})
    return "known"


def put(server: Server, alias: str, version: Any, name: str = "known", **headers: str) -> Any:
    path = f"/v1/models/{name}/aliases/{alias}"
    return server.client.put(path, json={"version": version}, headers=headers)


def version_of(server: Server, ref: str) -> int:
    return int(server.ok("GET", f"/v1/models/{ref}")["version"])


@pytest.mark.parametrize("alias", ["1", "0123", "9" * 20, "-a", "a b", "é", "a" * 65, "a@b"])
def test_what_cannot_be_an_alias(server: Server, name: str, alias: str) -> None:
    errors = problem(put(server, alias, 1), 422, "invalid_request")["errors"]
    assert [error["pointer"] for error in errors] == ["/alias"]
    problem(server.client.get(f"/v1/models/{name}/aliases/{alias}"), 404, "not_found")


@pytest.mark.parametrize("alias", ["a", "1a", "v1.2.3-rc_4", "A" * 64])
def test_what_can_be_an_alias(server: Server, name: str, alias: str) -> None:
    assert put(server, alias, 1).status_code == 201
    assert version_of(server, f"{name}@{alias}") == 1
    assert server.client.delete(f"/v1/models/{name}/aliases/{alias}").status_code == 204


@pytest.mark.parametrize("version", [0, -1, 5, 2**63 - 1, "1", 1.5, None, True])
def test_what_is_no_version(server: Server, name: str, version: Any) -> None:
    errors = problem(put(server, "never", version), 422, "invalid_request")["errors"]
    assert [error["pointer"] for error in errors] == ["/version"]
    problem(server.client.get(f"/v1/models/{name}/aliases/never"), 404, "not_found")


def test_other_wrong_requests(server: Server, name: str) -> None:
    path = f"/v1/models/{name}/aliases/never"
    problem(server.client.put(path, json={}), 422, "invalid_request")
    problem(server.client.put(path, json={"version": 1, "extra": 1}), 422, "invalid_request")
    problem(server.client.put(path, content=b"{", headers=JSON), 400, "invalid_json")
    problem(server.client.put(path), 415, "unsupported_media_type")
    problem(put(server, "a", 1, name="nobody"), 404, "not_found")
    problem(put(server, "a", 1, name=f"{name}@1"), 404, "not_found")
    for method in ("GET", "DELETE"):
        problem(server.client.request(method, "/v1/models/nobody/aliases/a"), 404, "not_found")
    problem(server.client.get("/v1/models/nobody/aliases"), 404, "not_found")


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("known@99", "'known' has no version 99; its newest is "),
        ("known@nobody", "model 'known' has no alias 'nobody'; PUT "),
        ("knwon", "there is no model 'knwon'; did you mean 'known'?"),
        ("zzz@1", "there is no model 'zzz@1'; a job that succeeds makes one"),
        ("@", "there is no model '@'; "),
    ],
)
def test_what_is_missing_is_said(server: Server, name: str, ref: str, said: str) -> None:
    response = server.client.post(f"/v1/models/{ref}/predict", json=ROWS)
    assert problem(response, 404, "not_found")["detail"].startswith(said)
