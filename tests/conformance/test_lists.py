"""Every list: pages, sorts and filters, on both databases."""

from typing import Any

import pytest

from tests.support.server import LINE_JOB, Json, Server, problem

NAMES = ["list-b", "list-a", None, "list-c", None]


@pytest.fixture(scope="module")
def made(server: Server) -> list[str]:
    """Five datasets, two of them without a name, and a job for each of three models."""
    source = {"kind": "synthetic", "generator": "line", "end": 0.2}
    found = []
    for name in NAMES:
        body: Json = {"name": name, "source": source, "metadata": {"of": "lists"}}
        found.append(
            server.ok("POST", "/v1/datasets", json=body | ({"name": name} if name else {}))
        )
    for model in ("lists-one", "lists-two", "lists-one"):
        server.train(**{**LINE_JOB, "epochs": 1, "register_as": model, "metadata": {"of": "lists"}})
    server.train(**{**LINE_JOB, "epochs": 1, "register_as": None, "metadata": {"of": "lists"}})
    for alias in ("gamma", "alpha", "beta"):
        path = f"/v1/models/lists-one/aliases/{alias}"
        server.ok("PUT", path, json={"version": 1})
    return [dataset["id"] for dataset in found]


def walked(server: Server, path: str, **options: Any) -> list[Json]:
    """All pages of two."""
    found: list[Json] = []
    params = {"limit": 2, **options}
    for _ in range(20):
        page = server.ok("GET", path, params=params)
        found += page["data"]
        assert len(page["data"]) <= 2
        if not page["has_more"]:
            return found
        params["after"] = page["last_id"]
    raise AssertionError("no end")


def test_sorted_pages_leave_nothing_out(server: Server, made: list[str]) -> None:
    of = {"metadata[of]": "lists"}
    for sort, names in (
        ("name", ["list-a", "list-b", "list-c", None, None]),
        ("-name", ["list-c", "list-b", "list-a", None, None]),
    ):
        found = walked(server, "/v1/datasets", sort=sort, **of)
        assert [one["name"] for one in found] == names
        assert {one["id"] for one in found} == set(made)
    for sort in ("created_at", "-created_at"):
        ids = [one["id"] for one in walked(server, "/v1/datasets", sort=sort, **of)]
        assert ids == (made if sort == "created_at" else made[::-1])
    states = [job["status"] for job in walked(server, "/v1/jobs", sort="status", **of)]
    assert states == ["succeeded"] * 4


def test_filters(server: Server, made: list[str]) -> None:
    of = {"metadata[of]": "lists"}
    (one,) = walked(server, "/v1/datasets", name="list-a")
    assert one["id"] == made[1]
    for sort in ("name", "-name"):
        order = "desc" if sort.startswith("-") else "asc"
        assert server.client.get(f"/v1/datasets?sort={sort}&order={order}").status_code == 200
    assert walked(server, "/v1/datasets", name="nobody") == []
    jobs = walked(server, "/v1/jobs", **of)
    assert len(walked(server, "/v1/jobs", model="lists-one")) == 2
    assert [job["id"] for job in walked(server, "/v1/jobs", model=jobs[0]["id"])] == [jobs[0]["id"]]
    queued = server.start_long_job(register_as="lists-queued")
    assert [job["id"] for job in walked(server, "/v1/jobs", model="lists-queued")] == [queued]
    server.ok("POST", f"/v1/jobs/{queued}/cancel")
    server.ended(queued)
    names = {model["name"] for model in walked(server, "/v1/models", **of)}
    assert names == {"lists-one", "lists-two", jobs[0]["id"]}
    named = {model["name"] for model in walked(server, "/v1/models", named="true", **of)}
    assert named == {"lists-one", "lists-two"}
    assert len(walked(server, "/v1/models", name="lists-one")) == 1
    versions = "/v1/models/lists-one/versions"
    assert len(walked(server, versions, sort="-created_at")) == 2
    assert walked(server, versions, **{"metadata[of]": "nothing"}) == []
    problem(server.client.get("/v1/models/lists-none/versions"), 404, "not_found")


def test_every_list_has_pages(server: Server, made: list[str]) -> None:
    aliases = walked(server, "/v1/models/lists-one/aliases")
    assert [one["alias"] for one in aliases] == ["alpha", "beta", "gamma"]
    falling = walked(server, "/v1/models/lists-one/aliases", order="desc")
    assert falling == aliases[::-1]
    job = walked(server, "/v1/jobs", model="lists-one")[0]["id"]
    assert len(walked(server, f"/v1/jobs/{job}/checkpoints")) == 1
    for path in (
        *("/v1/datasets", "/v1/jobs", "/v1/models", "/v1/models/lists-one/versions"),
        *("/v1/models/lists-one/aliases", f"/v1/jobs/{job}/checkpoints", f"/v1/jobs/{job}/events"),
    ):
        for limit in ("0", "101", "x"):
            refused = server.client.get(path, params={"limit": limit})
            assert problem(refused, 422, "invalid_request")["errors"][0]["pointer"] == "/limit"
        problem(server.client.get(path, params={"after": "nobody"}), 404, "not_found")


def test_wrong_sorts_and_filters_are_refused(server: Server, made: list[str]) -> None:
    for path, pointer in (
        ("/v1/datasets?sort=rows", "/sort"),
        ("/v1/datasets?sort=status", "/sort"),
        ("/v1/datasets?sort=name&order=desc", "/order"),
        ("/v1/jobs?sort=-status&order=asc", "/order"),
        ("/v1/datasets?a/b~=3", "/a~1b~0"),
        ("/v1/datasets?a/b=3&a/b=4", "/a~1b"),
        ("/v1/jobs?sort=name", "/sort"),
        ("/v1/jobs?name=line", "/name"),
        ("/v1/models?named=perhaps", "/named"),
    ):
        body = problem(server.client.get(path), 422, "invalid_request")
        assert body["errors"][0]["pointer"] == pointer, path
    for path in (
        *("/v1/datasets?metadata[a%00b]=x", "/v1/jobs?metadata[a]=%00", "/v1/models?name=a%00"),
        *("/v1/jobs?dataset=%00", "/v1/jobs?model=%00", "/v1/datasets?after=%00"),
    ):
        problem(server.client.get(path), 422, "invalid_request")
