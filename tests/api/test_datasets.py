"""/v1/datasets over HTTP."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server, problem


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


@pytest.mark.parametrize(
    ("content", "query", "said"),
    [
        ("", "", "empty"),
        ("a,b\n", "", "no row"),
        ("a,b\n1,2\n1,2,3\n", "", "line 3"),
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
    ("body", "remedy"),
    [
        (b"", "send a JSON object"),
        (b"{", "the body is cut off: what is begun at column 2 does not end; send all of it"),
        (b'{"name": "li', "column 10 does not end; send all of it"),
        (b'{"name":\n  "line"', "line 2 column 9 does not end; send all of it"),
        (b"{'name': 1}", "no JSON: Expecting property name enclosed in double quotes at column 2"),
        (b'{"name": "a", "name": "b"}', "send it once"),
        (b'{"name": NaN}', "send null"),
        (b'{"name": 1e999}', "send a smaller one"),
        (b'{"name": 9223372036854775808}', "goes as a string"),
        (b'{"name": "\\ud800"}', "replace it"),
        (b'{"name": "\xff"}', "JSON has to be"),
        (b"[" * 65 + b"]" * 65, "flatten it"),
        (b"[" * 100_000, "flatten it"),
    ],
)
def test_json_is_strict(server: Server, body: bytes, remedy: str) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("/v1/datasets", "/v1/jobs"):
        refused = server.client.post(path, content=body, headers=headers)
        assert remedy in problem(refused, 400, "invalid_json")["detail"]


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
        "invalid_data",
    )


def _csv() -> dict[str, str]:
    return {"Content-Type": "text/csv"}


def _everything(server: Server) -> tuple[int, set[str], set[str]]:
    """Datasets in the database, and what lies on disk."""
    count = len(server.ok("GET", "/v1/datasets", params={"limit": "100"})["data"])
    stored = {path.name for path in (server.data_dir / "datasets").iterdir()}
    return count, stored, {path.name for path in (server.data_dir / "tmp").iterdir()}
