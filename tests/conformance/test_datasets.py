"""Datasets are named, listed, filtered and deleted, on either database."""

from uuid import uuid4

import pytest

from tests.support.server import Json, Server, problem

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


def _csv() -> dict[str, str]:
    return {"Content-Type": "text/csv"}
