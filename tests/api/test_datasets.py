"""/v1/datasets over HTTP."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.server import Json, Server, problem


@pytest.fixture(scope="module")
def server(either_server: Server) -> Server:
    return either_server


CSV = """carat,cut,sold,price
0.5,Ideal,true,1000
0.7,Good,false,1500
,Ideal,true,
1.0,,false,3000
"""
ROWS: list[Json] = [
    {"carat": 0.5, "cut": "Ideal", "sold": True, "price": 1000},
    {"carat": 0.7, "cut": "Good", "sold": False, "price": 1500},
    {"carat": None, "cut": "Ideal", "sold": True, "price": None},
    {"carat": 1.0, "cut": None, "sold": False, "price": 3000},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


def name() -> str:
    return f"t-{uuid4().hex[:12]}"


def test_every_way_in_gives_the_same_dataset(server: Server) -> None:
    wanted = name()
    body = server.ok("POST", "/v1/datasets", params={"name": wanted}, content=CSV, headers=_csv())
    form = server.ok("POST", "/v1/datasets", files={"file": ("a.csv", CSV)}, data={"name": name()})
    inline = [
        server.ok("POST", "/v1/datasets", json={"source": {"kind": "inline", **source}})
        for source in ({"rows": ROWS}, {"columns": COLUMNS})
    ]
    assert {item["sha256"] for item in (form, *inline)} == {body["sha256"]}
    assert body["name"] == wanted
    assert body["rows"] == 4
    types = {column["name"]: (column["type"], column["missing"]) for column in body["columns"]}
    assert types == {
        "carat": ("number", 1),
        "cut": ("category", 1),
        "sold": ("boolean", 0),
        "price": ("number", 1),
    }
    cut = body["columns"][1]
    assert (cut["distinct"], cut["top"]) == (2, [["Ideal", 2], ["Good", 1]])
    carat = body["columns"][0]
    assert carat["mean"] == pytest.approx(2.2 / 3)
    assert carat["std"] == pytest.approx(0.2516611)
    assert server.ok("GET", f"/v1/datasets/{wanted}") == body
    page = server.ok("GET", f"/v1/datasets/{body['id']}/rows", params={"offset": 1, "limit": 2})
    assert page == {"object": "rows", "offset": 1, "total": 4, "rows": ROWS[1:3]}


@pytest.mark.parametrize(
    ("source", "columns", "rows"),
    [
        ({"generator": "line"}, ["x", "y"], 50),
        ({"generator": "sine", "noise": 0.1}, ["x", "y"], 200),
        ({"generator": "moons", "rows": 100}, ["x0", "x1", "label"], 100),
        ({"generator": "circles", "rows": 100}, ["x0", "x1", "label"], 100),
        ({"generator": "blobs", "rows": 90, "centers": 4}, ["x0", "x1", "label"], 90),
        ({"generator": "regression", "rows": 60, "features": 2}, ["x0", "x1", "y"], 60),
        (
            {"generator": "classification", "rows": 60, "features": 4},
            ["x0", "x1", "x2", "x3", "label"],
            60,
        ),
    ],
)
def test_generators(server: Server, source: dict[str, Any], columns: list[str], rows: int) -> None:
    made = [
        server.ok("POST", "/v1/datasets", json={"source": {"kind": "synthetic", **source}})
        for _ in range(2)
    ]
    assert [column["name"] for column in made[0]["columns"]] == columns
    assert made[0]["rows"] == rows
    assert made[0]["sha256"] == made[1]["sha256"], "the same seed gives the same table"


def test_names_are_unique_and_can_move(server: Server) -> None:
    taken = name()
    first = server.line(taken)
    again = {"name": taken, "source": {"kind": "synthetic", "generator": "sine"}}
    refused = problem(server.client.post("/v1/datasets", json=again), 409, "name_taken")
    assert "replace" in refused["detail"]
    moved = server.ok("POST", "/v1/datasets", json={**again, "replace": True})
    assert server.ok("GET", f"/v1/datasets/{taken}")["id"] == moved["id"]
    assert server.ok("GET", f"/v1/datasets/{first['id']}")["name"] is None
    like_an_id = {**again, "name": first["id"]}
    problem(server.client.post("/v1/datasets", json=like_an_id), 422, "invalid_request")


def test_list_pages_through_everything_once(server: Server) -> None:
    mine = [server.line(name())["id"] for _ in range(5)]
    seen, after = [], None
    while True:
        query = {"limit": "2", **({"after": after} if after else {})}
        page = server.ok("GET", "/v1/datasets", params=query)
        ids = [item["id"] for item in page["data"]]
        assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1])
        seen += ids
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen)
    assert set(mine) <= set(seen)
    oldest = server.ok("GET", "/v1/datasets", params={"order": "asc", "limit": "1"})
    assert oldest["data"][0]["id"] == seen[-1]
    problem(server.client.get("/v1/datasets?after=ds_nothing"), 404, "not_found")
    problem(server.client.get("/v1/datasets?limit=101"), 422, "invalid_request")


def test_metadata_filters(server: Server) -> None:
    owner = name()
    source = {"kind": "synthetic", "generator": "line"}
    made = server.ok("POST", "/v1/datasets", json={"source": source, "metadata": {"owner": owner}})
    found = server.ok("GET", "/v1/datasets", params={"metadata[owner]": owner})
    assert [item["id"] for item in found["data"]] == [made["id"]]
    for pair in ({"a\0": "x"}, {"a": "x\0"}):
        refused = server.client.post("/v1/datasets", json={"source": source, "metadata": pair})
        assert "NUL" in problem(refused, 422, "invalid_request")["errors"][0]["detail"]
    many = {"source": source, "metadata": {str(i): "x" for i in range(17)}}
    problem(server.client.post("/v1/datasets", json=many), 422, "invalid_request")


def test_delete_frees_the_disk_but_not_under_a_job(server: Server) -> None:
    made = server.line(name())
    job_id = server.start_long_job(dataset=made["id"])
    refused = problem(server.client.delete(f"/v1/datasets/{made['id']}"), 409, "in_use")
    assert job_id in refused["detail"]
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    server.ended(job_id)
    folder = server.data_dir / "datasets" / made["id"]
    assert folder.is_dir()
    assert server.client.delete(f"/v1/datasets/{made['id']}").status_code == 204
    assert not folder.exists()
    problem(server.client.get(f"/v1/datasets/{made['id']}"), 404, "not_found")
    job = server.ok("GET", f"/v1/jobs/{job_id}")
    assert job["dataset"]["id"] == made["id"], "a job outlives its dataset"


@pytest.mark.parametrize(
    ("content", "query", "said"),
    [
        ("", "", "empty"),
        ("a,b\n", "", "no row"),
        ("a,b\n1,2\n1,2,3\n", "", "line 3"),
        ("a,a\n1,2\n", "", "two columns"),
        ("a,\n1,2\n", "", "no name"),
        ("a\n\xe9\n", "", "encoding"),
        ("a\n1\n", "encoding=nonsense", "unknown encoding"),
    ],
)
def test_bad_csv_leaves_nothing(server: Server, content: str, query: str, said: str) -> None:
    before = _everything(server)
    response = server.client.post(
        f"/v1/datasets?{query}", content=content.encode("latin-1"), headers=_csv()
    )
    assert said in problem(response, 422, "invalid_data")["detail"]
    assert _everything(server) == before


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"source": {"kind": "inline", "rows": []}}, "/source/rows"),
        ({"source": {"kind": "inline"}}, "/source"),
        ({"source": {"kind": "inline", "rows": [{"a": 1}, {"a": "x"}]}}, "/source/rows/1/a"),
        ({"source": {"kind": "inline", "rows": [{"a": 1}, {"a": [2]}]}}, "/source/rows/1/a"),
        ({"source": {"kind": "inline", "columns": {"a": [1], "b": [1, 2]}}}, "/source/columns/b"),
        ({"source": {"kind": "synthetic", "generator": "lime"}}, "/source/generator"),
        ({"source": {"kind": "synthetic", "generator": "line", "step": 0}}, "/source/step"),
        ({"source": {"kind": "synthetic", "generator": "line", "step": 1e-9}}, "/source"),
        ({"source": {"kind": "synthetic", "generator": "line"}, "nam": "x"}, "/nam"),
        ({"name": "../x", "source": {"kind": "synthetic", "generator": "line"}}, "/name"),
        ({"source": {"kind": "inline", "rows": [{"a": 1}]}, "types": {"b": "number"}}, "/types/b"),
    ],
)
def test_bad_json_names_the_place(server: Server, body: dict[str, Any], pointer: str) -> None:
    before = _everything(server)
    response = server.client.post("/v1/datasets", json=body)
    assert response.status_code == 422
    errors = problem(response, 422, response.json()["code"])["errors"]
    assert pointer in [error["pointer"] for error in errors], errors
    assert _everything(server) == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"name": "a", "name": "b"}',
        b'{"name": NaN}',
        b'{"name": 1e999}',
        b'{"name": 9223372036854775808}',
        b'{"name": "\\ud800"}',
        b'{"name": "\xff"}',
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
    ],
)
def test_json_is_strict(server: Server, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    problem(server.client.post("/v1/datasets", content=body, headers=headers), 400, "invalid_json")
    problem(server.client.post("/v1/jobs", content=body, headers=headers), 400, "invalid_json")


def test_media_types_and_sizes(data_dir: Path) -> None:
    limits = {"FITSERVE_MAX_JSON_BYTES": "2048", "FITSERVE_MAX_UPLOAD_BYTES": "4096"}
    with Server(data_dir, **limits) as server:
        for media in ("", "application/octet-stream", "application/x-www-form-urlencoded"):
            response = server.client.post(
                "/v1/datasets", content=b"a\n1\n", headers={"Content-Type": media}
            )
            problem(response, 415, "unsupported_media_type")
        long = b"a\n" + b"1\n" * 5000
        too_long = [
            server.client.post("/v1/datasets", content=long, headers=_csv()),
            server.client.post("/v1/datasets", content=iter([long]), headers=_csv()),
            server.client.post("/v1/datasets", json={"name": "x" * 5000}),
            server.client.post("/v1/datasets", files={"file": ("a.csv", b"1\n" * 50_000)}),
        ]
        for response in too_long:
            problem(response, 413, "too_large")
        assert list((data_dir / "tmp").iterdir()) == []
        assert server.ok("GET", "/v1/datasets")["data"] == []


def test_csv_options(server: Server) -> None:
    options = {"delimiter": ";", "encoding": "latin-1", "header": "false"}
    text = "é;1\nè;2\n".encode("latin-1")
    made = server.ok("POST", "/v1/datasets", params=options, content=text, headers=_csv())
    rows = server.ok("GET", f"/v1/datasets/{made['id']}/rows")["rows"]
    assert rows == [{"f0": "é", "f1": 1}, {"f0": "è", "f1": 2}]
    problem(
        server.client.post("/v1/datasets?delimiter=ab", content=b"a\n1\n", headers=_csv()),
        422,
        "invalid_request",
    )


def _csv() -> dict[str, str]:
    return {"Content-Type": "text/csv"}


def _everything(server: Server) -> tuple[int, set[str], set[str]]:
    """Datasets in the database, and what lies on disk."""
    count = len(server.ok("GET", "/v1/datasets", params={"limit": "100"})["data"])
    stored = {path.name for path in (server.data_dir / "datasets").iterdir()}
    return count, stored, {path.name for path in (server.data_dir / "tmp").iterdir()}
