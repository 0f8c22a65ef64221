"""/invocations, /ping, /health and /version by hand: every shape that MLflow knows."""

import gzip
import io
import json
from typing import Any

import httpx
import pandas as pd
import pytest

from app import __version__
from tests.support.server import Json, Server, problem
from tests.support.zoo import MIXED, MOST_JSON, MOST_ROWS, Zoo, mixed_row

ROWS = [mixed_row(i) for i in range(12)]
LISTS = [list(row.values()) for row in ROWS]
COLUMNS = {name: [row[name] for row in ROWS] for name in MIXED}
FRAME = pd.DataFrame(ROWS, columns=MIXED)
SPLIT = {"columns": MIXED, "data": LISTS}


def post(server: Server, body: Any, media: str = "application/json", **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"Content-Type": media, **{k.replace("_", "-"): v for k, v in headers.items()}}
    return server.client.post("/invocations", content=content, headers=told)


def predicted(response: httpx.Response) -> list[Any]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["model-version"] == "score@1"
    body: Json = response.json()
    assert body.keys() == {"predictions"}
    predictions: list[Any] = body["predictions"]
    return predictions


def refused(response: httpx.Response, status: int, code: str, pointer: str | None = None) -> str:
    """A problem with MLflow's own fields beside it."""
    body = problem(response, status, code)
    assert body["error_code"] == "BAD_REQUEST"
    assert body["message"] == body["detail"]
    if pointer is not None:
        assert pointer in [error["pointer"] for error in body["errors"]], body
    return str(body["detail"])


# ---------------------------------------------------------------- every shape

SHAPES: list[Any] = [
    {"dataframe_split": SPLIT},
    {"dataframe_split": {"index": [*range(12)], **SPLIT}},
    {"dataframe_split": {"columns": MIXED[::-1], "data": [values[::-1] for values in LISTS]}},
    {"dataframe_split": {"columns": [*MIXED, "points"], "data": [[*v, 1] for v in LISTS]}},
    {"dataframe_records": ROWS},
    {"dataframe_records": [{**row, "points": None} for row in ROWS]},
    {"instances": ROWS},
    {"instances": LISTS},
    {"inputs": ROWS},
    {"inputs": LISTS},
    {"inputs": COLUMNS},
    {"inputs": {name: [[value] for value in values] for name, values in COLUMNS.items()}},
    {"instances": COLUMNS},
    {"dataframe_records": ROWS, "params": {}},
    {"dataframe_records": ROWS, "params": None},
]


@pytest.mark.parametrize("body", SHAPES)
def test_every_shape(models: Zoo, body: Json) -> None:
    expected = models.predict("score", ROWS)
    assert predicted(post(models.server, body)) == expected
    content = gzip.compress(json.dumps(body).encode())
    assert predicted(post(models.server, content, Content_Encoding="gzip")) == expected
    for media in ("application/json; charset=utf-8", "Application/JSON", "application/x+json"):
        assert predicted(post(models.server, body, media)) == expected


def csv(rows: list[Json], separator: str = ",") -> str:
    file = io.StringIO()
    pd.DataFrame(rows, columns=MIXED).to_csv(file, index=False, sep=separator)
    return file.getvalue()


def test_csv(models: Zoo) -> None:
    expected = models.predict("score", ROWS)
    text = csv(ROWS)
    for content, media in (
        (text.encode(), "text/csv"),
        (text.encode(), "text/csv; charset=UTF-8"),
        (text.encode("utf-16"), "text/csv"),
        (csv(ROWS, ";").encode(), "text/csv"),
        (csv(ROWS, "\t").encode(), "text/tab-separated-values"),
        (gzip.compress(text.encode()), "text/csv"),
    ):
        assert predicted(post(models.server, content, media)) == expected
    latin = csv([{**row, "color": "grün"} for row in ROWS]).encode("latin-1")
    response = post(models.server, latin, "text/csv")
    assert "encoding=cp1252" in refused(response, 422, "invalid_data")
    expected = models.predict("score", [{**row, "color": "grün"} for row in ROWS])
    assert predicted(post(models.server, latin, "text/csv; charset=latin-1")) == expected
    path = "/invocations?encoding=latin-1&delimiter=,"
    as_told = models.server.client.post(path, content=latin, headers={"Content-Type": "text/csv"})
    assert predicted(as_told) == expected


def test_nan_is_a_gap_but_only_as_a_value(models: Zoo) -> None:
    expected = models.predict("score", [{**ROWS[1], "size": None}])
    text = json.dumps({"inputs": [{**ROWS[1], "size": float("nan")}]})
    assert predicted(post(models.server, text.encode())) == expected
    named = [{**ROWS[1], "color": "NaN"}]
    assert predicted(post(models.server, {"inputs": named})) == models.predict("score", named)
    for broken in (
        text[:-1],
        text.replace("NaN", "Infinity, 1: NaN"),
        text.replace("NaN", "-Infinity").replace("rot", "NaN"),
        text.replace("NaN", "nan"),
        text.replace("NaN", "NaN" + "[" * 5000),
        text.replace("NaN", "NaN, " + '"x":' * 5000),
        text.replace("NaN", "[" * 5000 + "NaN" + "]" * 5000),
        text.replace("NaN", '"\\ud800", "color": NaN'),
        text.replace("NaN", "1" * 5000 + ', "color": NaN'),
        text.replace("NaN", "1" * 40 + ', "color": NaN'),
    ):
        refused(post(models.server, broken.encode()), 400, "invalid_json")


def each(key: str, pointer: str, *values: Any) -> list[tuple[Any, str | None]]:
    """Bodies with one of these values under ``key``, and what is pointed at."""
    return [({key: value}, pointer) for value in values]


WRONG: list[tuple[Any, str | None]] = [
    ({}, ""),
    ([], ""),
    (None, ""),
    ("x", ""),
    (SPLIT, ""),
    ({"x": 1}, ""),
    ({"dataframe_records": ROWS, "instances": ROWS}, ""),
    ({"dataframe_records": ROWS, "extra": 1}, ""),
    ({"dataframe_records": ROWS, "params": {"a": 1}}, "/params"),
    *each("dataframe_records", "/dataframe_records", None, {}, "x", 1, []),
    ({"dataframe_records": [ROWS[0], 1]}, "/dataframe_records/1"),
    ({"dataframe_records": [ROWS[0], LISTS[0]]}, "/dataframe_records/1"),
    ({"dataframe_records": [{**ROWS[0], "new": 1}]}, "/dataframe_records/0/new"),
    ({"dataframe_records": [ROWS[0], {"size": 1}]}, "/dataframe_records/1/zip~1code"),
    *each("dataframe_split", "/dataframe_split", None, [], {}, "x", {"columns": MIXED}),
    ({"dataframe_split": {"columns": [1, 2], "data": [[1, 2]]}}, "/dataframe_split"),
    ({"dataframe_split": {"columns": [*MIXED, "size"], "data": LISTS}}, "/dataframe_split"),
    ({"dataframe_split": {"columns": MIXED, "data": []}}, None),
    ({"dataframe_split": {"columns": MIXED, "data": [LISTS[0], 1]}}, "/dataframe_split/data/1"),
    ({"dataframe_split": {"columns": MIXED, "data": [[1]]}}, "/dataframe_split/data/0"),
    (
        {"dataframe_split": {"columns": MIXED[::-1], "data": [[*LISTS[1][::-1][:-1], "big"]]}},
        "/dataframe_split/data/0/5",
    ),
    (
        {"dataframe_split": {"columns": [*MIXED[:-1], "zip"], "data": LISTS}},
        "/dataframe_split/columns/zip~1code",
    ),
    *each("inputs", "/inputs", None, 1, "x", []),
    *each("instances", "/instances", None, 1, "x", []),
    ({"inputs": {}}, "/inputs/size"),
    ({"inputs": {**COLUMNS, "size": 1}}, "/inputs/size"),
    ({"inputs": {**COLUMNS, "size": [1]}}, "/inputs/size"),
    ({"inputs": {**COLUMNS, "color": [[1], *COLUMNS["color"][1:]]}}, "/inputs/color/0"),
    ({"inputs": {name: [] for name in MIXED}}, None),
    ({"inputs": [1]}, "/inputs/0"),
    ({"instances": [LISTS[0], LISTS[0][:-1]]}, "/instances/1"),
    ({"instances": [LISTS[0], ["x", *LISTS[0][1:]]]}, "/instances/1/0"),
    ({"instances": [ROWS[0], LISTS[0]]}, "/instances/1"),
    ({"instances": [LISTS[0], ROWS[0]]}, "/instances/1"),
]


@pytest.mark.parametrize(("body", "pointer"), WRONG)
def test_wrong_input_is_pointed_at(models: Zoo, body: Any, pointer: str | None) -> None:
    refused(post(models.server, body), 422, "invalid_request", pointer)


def test_wrong_csv_is_pointed_at(models: Zoo) -> None:
    text = csv(ROWS)
    lines = text.splitlines()
    for content, code, pointer in (
        (text.replace("zip/code", "zip"), "invalid_request", "/columns/zip~1code"),
        (text.replace("new", "news"), "invalid_request", "/columns/new"),
        (f"{text}big,rot,True,,,\n", "invalid_data", "/line/14/size"),
        (f"{text}1,2\n", "invalid_data", None),
        ("", "invalid_data", None),
        (lines[0] + "\n", "invalid_data", None),
    ):
        response = post(models.server, content.encode(), "text/csv")
        detail = refused(response, 422, code, pointer)
        assert "~1" not in detail


def test_other_bodies(models: Zoo) -> None:
    server = models.server
    for media in (
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
    ):
        assert "application/json or text/csv" in refused(
            post(server, {"inputs": ROWS}, media), 415, "unsupported_media_type"
        )
    for broken in (b"", b"{", b"\xff", b"[" * 5000):
        refused(post(server, broken), 400, "invalid_json")
    refused(post(server, b" " * (MOST_JSON + 1)), 413, "too_large")
    refused(server.client.get("/invocations"), 405, "method_not_allowed")
    refused(server.client.post("/invocations?x=1", json={"inputs": ROWS}), 422, "invalid_request")


def test_one_row_too_many(models: Zoo) -> None:
    count = 0
    for rows, status in ((MOST_ROWS, 200), (MOST_ROWS + 1, 413)):
        row = dict.fromkeys(MIXED)
        values = [*row.values()]
        for body in (
            {"dataframe_split": {"columns": MIXED, "data": [values] * rows}},
            {"dataframe_records": [row] * rows},
            {"instances": [values] * rows},
            {"inputs": {name: [None] * rows for name in MIXED}},
        ):
            response = post(models.server, body)
            assert response.status_code == status, response.text
            if status == 413:
                refused(response, 413, "too_large")
            count += 1
        response = post(models.server, csv([row] * rows).encode(), "text/csv")
        assert response.status_code == status, response.text
    print(count, "bodies")


# ---------------------------------------------------------------- without a model


def test_pings(models: Zoo) -> None:
    for path in ("/ping", "/health"):
        response = models.server.client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain")
    assert models.server.client.get("/version").text == __version__


def test_without_a_default_model(server: Server) -> None:
    for media in ("application/json", "text/csv"):
        response = post(server, {"inputs": ROWS}, media)
        assert "FITSERVE_DEFAULT_MODEL" in refused(response, 404, "not_found")
    for path in ("/ping", "/health"):
        body = problem(server.client.get(path), 404, "not_found")
        assert "FITSERVE_DEFAULT_MODEL" in body["detail"]
