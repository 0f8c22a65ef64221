"""Files as datasets: every format in and out again, types, options, and the profile."""

import gzip
import json
from datetime import date, datetime
from typing import Any
from uuid import uuid4

import httpx
import pyarrow as pa
import pytest

from tests.support.files import as_arrow, as_arrow_csv, as_parquet
from tests.support.server import Json, Server, problem

CSV, NDJSON = "text/csv", "application/x-ndjson"
PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
COLUMNS: Json = {
    "zip": ["00501", "10001", "94105", None],
    "price": [1.5, -2e-7, None, 4.0],
    "rooms": [1, 2, 3, 9007199254740993],
    "sold": [True, False, None, True],
    "day": ["2024-02-29", "1969-12-31", None, "9999-12-31"],
    "seen": ["2024-02-29T10:20:30.5Z", None, "2024-03-01T00:00:00Z", "2024-03-01T02:00:00Z"],
    "note": ['a "quoted", odd\nvalue', "ünïcode 🙂", "plain", None],
}
AS_CSV = as_arrow_csv(pa.table(COLUMNS))
ROWS: list[Json] = [
    dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)
]
TYPES = {
    "zip": "category",
    "price": "number",
    "rooms": "number",
    "sold": "boolean",
    "day": "datetime",
    "seen": "datetime",
    "note": "category",
}


def as_ndjson() -> bytes:
    return "\n".join(json.dumps(row) for row in ROWS).encode()


def typed_table() -> pa.Table:
    """The same with the types that pandas or Spark would have written."""
    dates = [None if d is None else date.fromisoformat(d) for d in COLUMNS["day"]]
    times = [None if t is None else datetime.fromisoformat(t) for t in COLUMNS["seen"]]
    return pa.table(
        {
            **COLUMNS,
            "zip": pa.array(COLUMNS["zip"]).dictionary_encode(),
            "day": pa.array(dates, pa.date32()),
            "seen": pa.array(times, pa.timestamp("ms", tz="Europe/Berlin")),
            "note": pa.array(COLUMNS["note"], pa.large_string()),
        }
    )


def send(server: Server, content: bytes, media: str, **query: str) -> httpx.Response:
    headers = {"Content-Type": media}
    return server.client.post("/v1/datasets", content=content, headers=headers, params=query)


def made(response: httpx.Response) -> Json:
    assert response.status_code == 201, response.text
    body: Json = response.json()
    return body


def types_of(dataset: Json) -> dict[str, str]:
    return {column["name"]: column["type"] for column in dataset["columns"]}


WAYS: dict[str, tuple[bytes, str]] = {
    "csv": (AS_CSV, CSV),
    "csv with gzip": (gzip.compress(AS_CSV), CSV),
    "csv in UTF-16": (AS_CSV.decode().encode("utf-16"), CSV),
    "csv with a BOM": (AS_CSV.decode().encode("utf-8-sig"), CSV),
    "csv in UTF-16 with gzip": (
        gzip.compress(AS_CSV.decode().encode("utf-16-be")),
        CSV,
    ),
    "ndjson": (as_ndjson(), NDJSON),
    "ndjson with gzip": (gzip.compress(as_ndjson()), NDJSON),
    "parquet of strings": (as_parquet(pa.table(COLUMNS)), PARQUET),
    "parquet with types": (as_parquet(typed_table()), PARQUET),
    "arrow": (as_arrow(typed_table(), 2), ARROW),
}


@pytest.fixture(scope="module")
def reference(server: Server) -> Json:
    """The table as JSON rows made it."""
    return server.ok("POST", "/v1/datasets", json={"source": {"kind": "inline", "rows": ROWS}})


@pytest.mark.parametrize("way", WAYS)
def test_equal_content_gives_equal_datasets(server: Server, reference: Json, way: str) -> None:
    content, media = WAYS[way]
    query = {"encoding": "utf-16-be"} if "with gzip" in way and "UTF-16" in way else {}
    dataset = made(send(server, content, media, **query))
    assert types_of(dataset) == TYPES
    assert dataset["sha256"] == reference["sha256"]
    rows = server.ok("GET", f"/v1/datasets/{dataset['id']}/rows")["rows"]
    assert rows[0] == {**ROWS[0], "seen": "2024-02-29T10:20:30.500000Z"}
    assert rows[3] == ROWS[3]


@pytest.mark.parametrize("media", [CSV, PARQUET, ARROW])
def test_what_went_in_comes_out_and_may_go_in_again(
    server: Server, reference: Json, media: str
) -> None:
    path = f"/v1/datasets/{reference['id']}/content"
    response = server.client.get(path, headers={"Accept": media})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(media)
    assert "attachment" in response.headers["content-disposition"]
    assert made(send(server, response.content, media))["sha256"] == reference["sha256"]
    known = {"Accept": media, "If-None-Match": response.headers["etag"]}
    assert server.client.get(path, headers=known).status_code == 304


def test_content_is_negotiated(server: Server, reference: Json) -> None:
    path = f"/v1/datasets/{reference['id']}/content"

    def media(accept: str) -> str:
        answer = server.client.get(path, headers={"Accept": accept})
        return answer.headers["content-type"].partition(";")[0]

    assert media("*/*") == CSV
    assert media("text/html, application/*;q=0.5, text/csv;q=0.1") == PARQUET
    assert media(f"{ARROW}, text/csv;q=0.9") == ARROW
    refused = server.client.get(path, headers={"Accept": "image/png"})
    problem(refused, 406, "not_acceptable")
    part = server.client.get(path, headers={"Accept": PARQUET, "Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"PAR1")
    problem(server.client.get("/v1/datasets/nothing/content"), 404, "not_found")


@pytest.mark.parametrize("rows", [1, 65_536, 150_001])
def test_content_of_long_tables_is_whole(server: Server, rows: int) -> None:
    table = pa.table({"only": [None if i % 7 == 0 else i / 4 for i in range(rows)]})
    dataset = made(send(server, as_parquet(table), PARQUET))
    for media in (CSV, ARROW):
        path = f"/v1/datasets/{dataset['id']}/content"
        content = server.client.get(path, headers={"Accept": media}).content
        again = made(send(server, content, media))
        assert (again["rows"], again["sha256"]) == (rows, dataset["sha256"])


@pytest.mark.parametrize(
    ("file_name", "media", "content"),
    [
        ("a.csv", "", AS_CSV),
        ("a.CSV.GZ", "application/gzip", gzip.compress(AS_CSV)),
        (
            "a.tsv",
            "text/plain",
            AS_CSV.replace(b",", b"\t").replace(b'd"",', b'd"",'),
        ),
        ("a.jsonl", "application/octet-stream", as_ndjson()),
        ("a.parquet", "application/octet-stream", as_parquet(typed_table())),
        ("no ending", "application/octet-stream", as_parquet(typed_table())),
        ("no ending", "application/octet-stream", as_arrow(typed_table(), 2)),
        ("misnamed.txt", PARQUET, as_parquet(typed_table())),
        ("../../../etc/passwd", "", AS_CSV),
        ("..\\..\\x.csv", "", AS_CSV),
        ("/dev/null", "", AS_CSV),
        ("x" * 4096 + ".csv", "", AS_CSV),
        ("nul\0.csv", "", AS_CSV),
    ],
)
def test_forms_are_told_by_type_name_or_content(
    server: Server, reference: Json, file_name: str, media: str, content: bytes
) -> None:
    part = (file_name, content, media) if media else (file_name, content)
    dataset = made(server.client.post("/v1/datasets", files={"file": part}))
    if not file_name.endswith(".tsv"):
        assert dataset["sha256"] == reference["sha256"]
    assert list((server.data_dir / "tmp").iterdir()) == []
    assert not (server.data_dir.parent / "etc").exists()


def test_types_overrule_what_would_be_inferred(server: Server) -> None:
    content = b"code,flag,when,n\n1,0,2024-01-01,7\n2,1,2024-01-02,8\n"
    types = {"code": "category", "flag": "boolean", "when": "text"}
    for dataset in (
        made(send(server, content, CSV, types=json.dumps(types))),
        made(
            server.client.post(
                "/v1/datasets",
                files={"file": ("a.csv", content)},
                data={"types": json.dumps(types)},
            )
        ),
    ):
        assert types_of(dataset) == {**types, "n": "number"}
        rows = server.ok("GET", f"/v1/datasets/{dataset['id']}/rows")["rows"]
        assert rows[0] == {"code": "1", "flag": False, "when": "2024-01-01", "n": 7}
    for wrong, pointer in (
        ('{"when":"boolean"}', "/line/2/when"),
        ('{"cod":"number"}', "/types/cod"),
        ('{"code":"nummer"}', "/types/code"),
        ("[1]", "/types"),
        ("{", "/types"),
    ):
        response = send(server, content, CSV, types=wrong)
        errors = problem(response, 422, response.json()["code"])["errors"]
        assert errors[0]["pointer"] == pointer, errors


def test_a_file_needs_no_options_to_be_understood(server: Server) -> None:
    for mark in (";", "\t", "|"):
        content = mark.join(["name", "price, EUR", "n"]) + "\n" + mark.join("abc") + "\n"
        dataset = made(send(server, content.encode(), CSV))
        assert [c["name"] for c in dataset["columns"]] == ["name", "price, EUR", "n"]
    latin = "name\nJosé\n".encode("latin-1")
    assert "encoding=cp1252" in problem(send(server, latin, CSV), 422, "invalid_data")["detail"]
    for dataset in (
        made(send(server, latin, CSV, encoding="latin-1")),
        made(send(server, latin, "text/csv; charset=ISO-8859-1")),
    ):
        assert dataset["columns"][0]["top"] == [["José", 1]]
    bare = made(send(server, b"1,a\n2,b\n", CSV, header="false"))
    assert (bare["rows"], [c["name"] for c in bare["columns"]]) == (2, ["f0", "f1"])


def test_options_that_would_be_ignored_are_refused(server: Server) -> None:
    source = {"source": {"kind": "synthetic", "generator": "line"}}
    refused = server.client.post("/v1/datasets?name=x", json=source)
    assert problem(refused, 422, "invalid_request")["errors"][0]["pointer"] == "/name"
    label = f"t-{uuid4().hex[:10]}"
    form = server.client.post(f"/v1/datasets?name={label}", files={"file": ("a.csv", AS_CSV)})
    assert made(form)["name"] == label


def test_a_column_of_almost_numbers_is_kept_and_named(server: Server) -> None:
    lines = [f"{i},x" for i in range(1000)]
    lines[700] = "n/k,x"
    dataset = made(send(server, "\n".join(["n,k", *lines]).encode(), CSV))
    assert types_of(dataset)["n"] == "category"
    assert dataset["columns"][0]["missing"] == 0
    assert any("line 702 holds 'n/k'" in warning for warning in dataset["warnings"])


def test_the_profile_says_what_a_column_holds(server: Server) -> None:
    values: list[Any] = [*range(100), None]
    days = [f"2024-01-{1 + i % 31:02d}" for i in range(101)]
    words = [f"these are {i} words of a longer text" for i in range(101)]
    columns = {"n": values, "day": days, "word": words, "same": ["a"] * 101}
    source = {"kind": "inline", "columns": columns}
    dataset = server.ok("POST", "/v1/datasets", json={"source": source})
    n, day, word, same = dataset["columns"]
    assert (n["count"], n["missing"], n["distinct"]) == (100, 1, 100)
    assert (n["min"], n["max"], n["mean"]) == (0, 99, 49.5)
    assert n["std"] == pytest.approx(29.0114919758)
    assert n["quantiles"] == pytest.approx(
        {"0.05": 4.95, "0.25": 24.75, "0.5": 49.5, "0.75": 74.25, "0.95": 94.05}
    )
    assert sum(n["histogram"]["counts"]) == 100
    assert len(n["histogram"]["edges"]) == 1 + len(n["histogram"]["counts"])
    assert (day["type"], day["min"], day["max"]) == ("datetime", "2024-01-01", "2024-01-31")
    assert word["type"] == "text"
    assert same["top"] == [["a", 101]]
    said = " ".join(dataset["warnings"])
    assert "'same' is constant" in said
    assert "word" not in said
