"""Aliases of model versions, and what a version was made from."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from app import __version__
from tests.support.server import LINE_JOB, Json, Server, problem

QUICK: Json = {**LINE_JOB, "epochs": 3}
ROWS = {"rows": [{"x": 0.5}]}


@pytest.fixture(scope="module")
def name(server: Server) -> str:
    """A model with four versions."""
    for _ in range(4):
        server.train(**{**QUICK, "register_as": "aliased"})
    return "aliased"


def put(server: Server, alias: str, version: Any, name: str = "aliased", **headers: str) -> Any:
    path = f"/v1/models/{name}/aliases/{alias}"
    return server.client.put(path, json={"version": version}, headers=headers)


def version_of(server: Server, ref: str) -> int:
    return int(server.ok("GET", f"/v1/models/{ref}")["version"])


def test_an_alias_is_made_moved_and_forgotten(server: Server, name: str) -> None:
    path = f"/v1/models/{name}/aliases/champion"
    problem(server.client.get(path), 404, "not_found")
    made = put(server, "champion", 2)
    assert (made.status_code, made.headers["etag"]) == (201, '"2"')
    assert made.headers["location"] == path
    told = made.json()
    assert told["object"] == "alias"
    assert (told["name"], told["alias"], told["version"]) == (name, "champion", 2)
    assert told["ref"] == told["id"] == f"{name}@champion"
    assert version_of(server, f"{name}@champion") == 2
    moved = put(server, "champion", 3)
    assert (moved.status_code, moved.headers["etag"]) == (200, '"3"')
    assert moved.json()["created_at"] == told["created_at"]
    assert moved.json()["updated_at"] >= told["updated_at"]
    again = server.client.get(path)
    assert (again.headers["etag"], again.json()) == ('"3"', moved.json())
    assert version_of(server, f"{name}@champion") == 3
    assert server.client.delete(path).status_code == 204
    problem(server.client.delete(path), 404, "not_found")
    problem(server.client.get(f"/v1/models/{name}@champion"), 404, "not_found")
    assert version_of(server, f"{name}@3") == 3


def test_models_tell_their_aliases(server: Server, name: str) -> None:
    for alias, version in (("b", 1), ("a", 1), ("z", 4)):
        assert put(server, alias, version).is_success
    listed = server.ok("GET", f"/v1/models/{name}/aliases")
    told = [(item["alias"], item["version"]) for item in listed["data"]]
    assert told == [("a", 1), ("b", 1), ("z", 4)]
    assert (listed["first_id"], listed["last_id"]) == (f"{name}@a", f"{name}@z")
    assert server.ok("GET", f"/v1/models/{name}@a")["aliases"] == ["a", "b"]
    versions = server.ok("GET", f"/v1/models/{name}/versions")["data"]
    assert [item["aliases"] for item in versions] == [["z"], [], [], ["a", "b"]]
    models = server.ok("GET", "/v1/models", params={"limit": "100"})["data"]
    assert [item["aliases"] for item in models if item["name"] == name] == [["z"]]
    for alias in "abz":
        assert server.client.delete(f"/v1/models/{name}/aliases/{alias}").status_code == 204
    assert server.ok("GET", f"/v1/models/{name}/aliases")["data"] == []


def test_what_an_alias_names_predicts_and_is_downloaded(server: Server, name: str) -> None:
    put(server, "used", 1)
    for version in (1, 2):
        assert put(server, "used", version).status_code == 200
        model = f"/v1/models/{name}@used"
        answer = server.ok("POST", f"{model}/predict", json=ROWS)
        assert (answer["model"], answer["version"]) == (name, version)
        own = server.client.get(f"/v1/models/{name}@{version}/download")
        assert server.client.get(f"{model}/download").headers["etag"] == own.headers["etag"]
        for what in ("parameters", "summary"):
            assert server.ok("GET", f"{model}/{what}")
    told = {"kind": "pretrained", "model": f"{name}@used"}
    job = server.train(dataset="line", target="y", model=told, epochs=2)
    assert job["spec"]["model"]["model"] == f"{name}@2"  # what it named when the job was made
    told["model"] = f"{name}@nothing"
    body = {"dataset": "line", "target": "y", "model": told}
    refused = problem(server.client.post("/v1/jobs", json=body), 422, "invalid_request")
    assert refused["errors"][0]["pointer"] == "/model/model"


@pytest.mark.parametrize(
    ("header", "value", "holds_for_none", "holds_for_2"),
    [
        ("If-Match", '"2"', False, True),
        ("If-Match", "2", False, True),
        ("If-Match", 'W/"2"', False, True),
        ("If-Match", '"7", "2"', False, True),
        ("If-Match", "*", False, True),
        ("If-Match", '"3"', False, False),
        ("If-Match", '"02"', False, False),
        ("If-Match", "anything", False, False),
        ("If-Match", "", False, False),
        ("If-None-Match", "*", True, False),
        ("If-None-Match", '"2"', True, False),
        ("If-None-Match", '"3"', True, True),
    ],
)
def test_preconditions(
    server: Server, name: str, header: str, value: str, holds_for_none: bool, holds_for_2: bool
) -> None:
    path, headers = f"/v1/models/{name}/aliases/careful", {header: value}

    def check(response: httpx.Response, holds: bool, status: int) -> None:
        if holds:
            assert response.status_code == status, response.text
        else:
            refused = problem(response, 412, "precondition_failed")
            assert refused["errors"][0]["pointer"] == f"/{header}"

    server.client.delete(path)
    check(put(server, "careful", 2, **headers), holds_for_none, 201)
    put(server, "careful", 2)
    check(put(server, "careful", 3, **headers), holds_for_2, 200)
    assert version_of(server, f"{name}@careful") == (3 if holds_for_2 else 2)
    put(server, "careful", 2)
    check(server.client.delete(path, headers=headers), holds_for_2, 204)
    assert server.client.get(path).status_code == (404 if holds_for_2 else 200)


@pytest.mark.parametrize("tags", ["abc", "2", "'2'", '"2'])
def test_what_is_no_tag_writes_nothing(server: Server, name: str, tags: str) -> None:
    put(server, "strict", 2)
    refused = put(server, "strict", 3, **{"If-None-Match": tags})
    assert problem(refused, 422, "invalid_request")["errors"][0]["pointer"] == "/If-None-Match"
    assert version_of(server, f"{name}@strict") == 2


def test_several_lines_of_a_precondition_are_one_list(server: Server, name: str) -> None:
    put(server, "lines", 2)
    path = f"/v1/models/{name}/aliases/lines"
    lines = [("If-Match", '"1"'), ("If-Match", '"2"')]
    assert server.client.put(path, json={"version": 3}, headers=lines).status_code == 200


@pytest.mark.parametrize("header", [{"If-Match": '"1"'}, {"If-None-Match": "*"}])
def test_of_sixteen_under_one_condition_one_wins(
    server: Server, name: str, header: dict[str, str]
) -> None:
    for _ in range(3):
        server.client.delete(f"/v1/models/{name}/aliases/raced")
        if "If-Match" in header:
            put(server, "raced", 1)
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda i: put(server, "raced", 2 + i % 3, **header), range(16)))
        won = [answer for answer in answers if answer.is_success]
        assert len(won) == 1, [answer.status_code for answer in answers]
        for answer in answers:
            if answer is not won[0]:
                problem(answer, 412, "precondition_failed")
        assert version_of(server, f"{name}@raced") == won[0].json()["version"]


def test_without_a_condition_all_of_sixteen_are_done(server: Server, name: str) -> None:
    server.client.delete(f"/v1/models/{name}/aliases/free")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: put(server, "free", 1 + i % 4), range(16)))
    assert sorted(answer.status_code for answer in answers) == [*[200] * 15, 201]


def test_an_alias_goes_with_its_version(server: Server) -> None:
    job = {**QUICK, "register_as": "leaving"}
    for _ in range(3):
        server.train(**job)
    for alias, version in (("old", 1), ("middle", 2), ("new", 3)):
        assert put(server, alias, version, name="leaving").status_code == 201
    assert server.client.delete("/v1/models/leaving@2").status_code == 204
    problem(server.client.post("/v1/models/leaving@middle/predict", json=ROWS), 404, "not_found")
    problem(server.client.get("/v1/models/leaving/aliases/middle"), 404, "not_found")
    assert server.client.delete("/v1/models/leaving@old").status_code == 204  # the version itself
    problem(server.client.get("/v1/models/leaving@1"), 404, "not_found")
    listed = server.ok("GET", "/v1/models/leaving/aliases")["data"]
    assert [item["alias"] for item in listed] == ["new"]
    assert server.client.delete("/v1/models/leaving").status_code == 204
    problem(server.client.get("/v1/models/leaving/aliases"), 404, "not_found")
    server.train(**job)
    assert server.ok("GET", "/v1/models/leaving/aliases")["data"] == []


def test_moving_and_deleting_at_once_never_fail(server: Server) -> None:
    job = {**QUICK, "register_as": "busy"}
    for _ in range(6):
        server.train(**job)

    def act(i: int) -> int:
        if i % 8 == 7:
            return server.client.delete(f"/v1/models/busy@{1 + i // 8}").status_code
        return int(put(server, f"a{i % 2}", 1 + i % 6, name="busy").status_code)

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(act, range(40)))
    assert set(statuses) <= {200, 201, 204, 422}, statuses
    assert statuses.count(204) == 5
    left = {alias["version"] for alias in server.ok("GET", "/v1/models/busy/aliases")["data"]}
    assert left <= {6}


def test_a_version_knows_what_it_was_made_from_when_its_job_is_gone(server: Server) -> None:
    job = server.train(**{**LINE_JOB, "epochs": 7, "register_as": "lineage"})
    before = server.ok("GET", f"/v1/models/{job['model']['ref']}")
    lineage = before["lineage"]
    assert lineage["job"] == before["job"] == job["id"]
    assert lineage["dataset"] == before["dataset"]
    assert lineage["spec"] == job["spec"]
    assert lineage["split"] == {"train": 40, "validation": 0, "test": 10}
    assert (lineage["seed"], lineage["epoch"], lineage["checkpoint"]) == (42, 6, None)
    assert lineage["versions"].keys() == {"fitserve", "torch", "numpy"}
    assert lineage["versions"]["fitserve"] == __version__
    assert server.client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert server.ok("GET", f"/v1/models/{before['id']}") == before
    listed = server.ok("GET", "/v1/models/lineage/versions")["data"]
    assert listed == [before]
