"""The same rules in every dialect: which columns may be there, how far numbers go, what a string
may hold; and a pointer of the dialect's own where one is broken."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.support.files import as_arrow, as_parquet
from tests.support.server import Json, problem
from tests.support.zoo import DATATYPES, MIXED, WHOLE, Zoo

Rows = list[Json]
NDJSON = "application/x-ndjson"
PREDICT = "/v1/models/score/predict"
"""Of the default model, which reads ``MIXED``; its dataset has ``kind`` and ``points`` too."""


def columns(rows: Rows) -> Json:
    return {name: [row[name] for row in rows] for name in rows[0]}


def lists(rows: Rows) -> list[list[Any]]:
    return [[*row.values()] for row in rows]


def as_text(rows: Rows) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([[*rows[0]], *lists(rows)])
    return text.getvalue().encode()


def tensors(rows: Rows) -> list[Json]:
    return [
        {
            "name": name,
            "datatype": "FP64" if name == "points" else DATATYPES.get(name, "BYTES"),
            "shape": [len(rows)],
            "data": values,
        }
        for name, values in columns(rows).items()
    ]


Way = tuple[str, Callable[[Rows], Any], str]
"""Path, what the rows are sent as (bytes, or JSON), and the pointer of a cell: a row ``{row}``,
the line of a file ``{line}``, a column ``{name}`` or its number ``{column}``."""
FILES: dict[str, Way] = {
    NDJSON: (PREDICT, lambda rows: "\n".join(map(json.dumps, rows)).encode(), "/{place}/{name}"),
    "text/csv": (PREDICT, as_text, "/{place}/{name}"),
    "application/vnd.apache.parquet": (
        PREDICT,
        lambda rows: as_parquet(pa.table(columns(rows))),
        "/rows/{row}/{name}",
    ),
    "application/vnd.apache.arrow.stream": (
        PREDICT,
        lambda rows: as_arrow(pa.table(columns(rows))),
        "/rows/{row}/{name}",
    ),
}
NATIVE: dict[str, Way] = {
    "rows": (PREDICT, lambda rows: {"rows": rows}, "/rows/{row}/{name}"),
    "columns": (PREDICT, lambda rows: {"columns": columns(rows)}, "/columns/{name}/{row}"),
}
TENSORS: dict[str, Way] = {
    "tensors": (
        "/v2/models/score/infer",
        lambda rows: {"inputs": tensors(rows)},
        "/inputs/{column}/data/{row}",
    ),
}
MLFLOW: dict[str, Way] = {
    "dataframe_records": (
        "/invocations",
        lambda rows: {"dataframe_records": rows},
        "/dataframe_records/{row}/{name}",
    ),
    "dataframe_split": (
        "/invocations",
        lambda rows: {"dataframe_split": {"columns": [*rows[0]], "data": lists(rows)}},
        "/dataframe_split/data/{row}/{column}",
    ),
    "inputs": ("/invocations", lambda rows: {"inputs": columns(rows)}, "/inputs/{name}/{row}"),
}
WAYS = {**FILES, **NATIVE, **TENSORS, **MLFLOW}
OF_MLFLOW = {*MLFLOW, "csv by /invocations"}
WAYS["csv by /invocations"] = ("/invocations", as_text, "/{place}/{name}")

every_way = pytest.mark.parametrize("way", WAYS)


def ask(models: Zoo, way: str, rows: Rows) -> httpx.Response:
    path, write, _ = WAYS[way]
    body = write(rows)
    if isinstance(body, bytes):
        media = way if way in FILES else "text/csv"
        return models.server.client.post(path, content=body, headers={"Content-Type": media})
    return models.server.client.post(path, json=body)


def predicted(models: Zoo, way: str, rows: Rows) -> list[Any]:
    response = ask(models, way, rows)
    assert response.status_code == 200, (way, response.text)
    body = response.json()
    found: list[Any] = body["outputs"][0]["data"] if "outputs" in body else body["predictions"]
    return found


def refused(
    models: Zoo, way: str, rows: Rows, code: str, item: str, cell: tuple[str, int], place: str
) -> None:
    """422 of these codes at ``cell``; ``place`` is how a text file tells it."""
    response, (name, row) = ask(models, way, rows), cell
    escaped = name.replace("~", "~0").replace("/", "~1")
    pointer = WAYS[way][2].format(
        row=row, name=escaped, column=[*rows[0]].index(name), place=place.format(row=row)
    )
    if way in TENSORS:
        assert response.status_code == 422, response.text
        assert f"(at {pointer})" in response.json()["error"]
        return
    body = problem(response, 422, code)
    assert [(e["code"], e["pointer"]) for e in body["errors"]] == [(item, pointer)]


# ---------------------------------------------------------------- columns


@every_way
def test_columns_of_the_dataset_that_the_job_left_out_are_passed_over(
    models: Zoo, way: str
) -> None:
    for rows in (WHOLE, WHOLE[:1]):
        more = [{"kind": "groß", **row, "points": 1.5} for row in rows]
        assert predicted(models, way, more) == models.predict("score", rows)


@every_way
def test_only_mlflow_passes_over_a_column_that_was_never_in_the_dataset(
    models: Zoo, way: str
) -> None:
    more = [{**row, "colour": "rot"} for row in WHOLE]
    if way in OF_MLFLOW:
        assert predicted(models, way, more) == models.predict("score", WHOLE)
        return
    response = ask(models, way, more)
    assert response.status_code == 422
    if way in NATIVE:
        place = "/rows/0/colour" if way == "rows" else "/columns/colour"
        first = response.json()["errors"][0]
        assert (first["pointer"], first["code"]) == (place, "unknown")
        assert "did you mean 'color'?" in first["detail"]


def test_what_is_in_a_column_that_is_passed_over_does_not_matter(models: Zoo) -> None:
    rows = [{**row, "kind": {"of": [i]}} for i, row in enumerate(WHOLE)]
    for way in WAYS.keys() - TENSORS.keys():
        assert predicted(models, way, rows) == models.predict("score", WHOLE)


@pytest.mark.parametrize("name", ["input", "anything at all", "n3", "y"])
def test_one_tensor_of_the_right_width_is_taken_by_whatever_name(models: Zoo, name: str) -> None:
    values = [[float(i + j) for j in range(8)] for i in range(3)]
    tensor = {"name": name, "datatype": "FP64", "shape": [3, 8], "data": values}
    found = models.server.ok("POST", "/v2/models/numbers/infer", json={"inputs": [tensor]})
    rows = [{f"n{j}": value for j, value in enumerate(row)} for row in values]
    assert found["outputs"][0]["data"] == models.predict("numbers", rows)


@pytest.mark.parametrize("name", ["input", "anything at all"])
def test_one_tensor_of_another_width_is_told_the_width(models: Zoo, name: str) -> None:
    tensor = {"name": name, "datatype": "FP64", "shape": [1, 7], "data": [0.0] * 7}
    told = models.server.client.post("/v2/models/numbers/infer", json={"inputs": [tensor]})
    assert told.status_code == 422
    assert "[N, 8]" in told.json()["error"]


def test_a_name_that_stands_twice_is_named(models: Zoo) -> None:
    split = {"columns": [*WHOLE[0], "size"], "data": [[*WHOLE[0].values(), 1.0]]}
    told = models.server.client.post("/invocations", json={"dataframe_split": split})
    assert "two columns are called 'size'" in problem(told, 422, "invalid_request")["detail"]


def test_no_verb_behind_a_colon(models: Zoo) -> None:
    body = {"rows": WHOLE}
    problem(models.server.client.post("/v1/models/score:predict", json=body), 404, "not_found")


# ---------------------------------------------------------------- values


@every_way
@pytest.mark.parametrize("number", [1e301, -1e305, 1e40, 1.7e308])
def test_a_number_beyond_float32_is_the_same_error_everywhere(
    models: Zoo, way: str, number: float
) -> None:
    rows = [WHOLE[0], {**WHOLE[1], "size": number}]
    line = "line/3" if "csv" in way else "line/2"
    refused(models, way, rows, "invalid_data", "out_of_range", ("size", 1), line)
    if way in NATIVE:  # and alone, which takes another way
        one = [rows[1]]
        refused(models, way, one, "invalid_data", "out_of_range", ("size", 0), "")


@every_way
@pytest.mark.parametrize("name", ["color", "zip/code"])
def test_a_nul_is_refused_everywhere(models: Zoo, way: str, name: str) -> None:
    for rows in (WHOLE[:2], WHOLE[:1]):
        sent = [*rows[:-1], {**rows[-1], name: "a\0b"}]
        row = len(sent) - 1
        if "csv" in way:  # of which the whole file is none
            body = problem(ask(models, way, sent), 422, "invalid_data")
            assert [e["code"] for e in body["errors"]] == ["nul"]
            continue
        refused(models, way, sent, "invalid_data", "nul", (name, row), f"line/{row + 1}")


@every_way
def test_datetimes_with_and_without_a_zone_may_stand_in_one_column(models: Zoo, way: str) -> None:
    moments = ["2026-03-01", "2026-03-01T00:00:00Z", "2026-03-01T02:00:00+02:00"]
    rows = [{**WHOLE[0], "at": moment} for moment in moments]
    found = predicted(models, way, rows)
    assert len(set(found)) == 1  # they are one moment: without a zone it is UTC
    alone = models.predict("score", rows[:1])  # torch adds up one row in another order
    assert found[:1] == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("way", [*FILES, *NATIVE, *MLFLOW, "csv by /invocations"])
@pytest.mark.parametrize(
    ("name", "written", "plain"),
    [
        ("day", "20260301", "2026-03-01"),
        ("day", "Mar 1 2026", "2026-03-01"),
        ("day", "03/31/2026", "2026-03-31"),
        ("at", "2026/03/01 14:30", "2026-03-01T14:30:00Z"),
        ("size", "1,5", "1.5"),
        ("size", "$1.50", "1.5"),
        ("size", "0:01", "60"),
        ("new", "yes", "true"),
    ],
)
def test_a_cell_is_read_the_same_beside_others_and_alone(
    models: Zoo, way: str, name: str, written: str, plain: str
) -> None:
    """As rows, where each stands for itself, and as a file, whose columns are read whole."""
    other = {"size": "0.5", "new": "false", "at": "2026-01-01T00:00:00Z", "day": "2026-01-01"}
    (wanted,) = predicted(models, "text/csv", [{**WHOLE[0], name: plain}])
    beside = {**WHOLE[0], name: other[name]}
    found = predicted(models, way, [beside, {**WHOLE[0], name: written}, beside])
    assert found[1] == pytest.approx(wanted, rel=1e-5)
    assert found[0] == found[2]
    assert predicted(models, way, [{**WHOLE[0], name: written}]) == pytest.approx(
        [wanted], rel=1e-5
    )


@every_way
def test_a_missing_feature_is_pointed_at_in_the_dialects_own_form(models: Zoo, way: str) -> None:
    rows = [{name: row[name] for name in MIXED[:-1]} for row in WHOLE]
    response = ask(models, way, rows)
    assert response.status_code == 422
    places = {
        "rows": "/rows/0/zip~1code",
        "dataframe_records": "/dataframe_records/0/zip~1code",
        "dataframe_split": "/dataframe_split/columns/zip~1code",
        "inputs": "/inputs/zip~1code",
        "tensors": "/inputs/zip~1code",
    }
    place = places.get(way, "/columns/zip~1code")
    if way in TENSORS:
        assert f"(at {place})" in response.json()["error"]
    else:
        assert response.json()["errors"][0]["pointer"] == place


# ---------------------------------------------------------------- newline-delimited JSON


def lines(models: Zoo, *changed: bytes) -> httpx.Response:
    """A whole row, and then the same with ``size`` as each of ``changed`` writes it."""
    rest = json.dumps({k: v for k, v in WHOLE[0].items() if k != "size"}).encode()[1:]
    content = b"\n".join(b'{"size":' + item + b"," + rest for item in (b"1", *changed))
    return models.server.client.post(PREDICT, content=content, headers={"Content-Type": NDJSON})


@pytest.mark.parametrize(
    ("written", "size"),
    [(b'"no", "size": 2', 2.0), (b"12345678901234567890123", 1.2345678901234568e22)],
)
def test_lines_to_predict_follow_the_rules_of_requests_to_predict(
    models: Zoo, written: bytes, size: float
) -> None:
    response = lines(models, written)
    assert response.status_code == 200, response.text
    rows = [{**WHOLE[0], "size": 1}, {**WHOLE[0], "size": size}]
    assert response.json()["predictions"] == models.predict("score", rows)


def test_a_line_of_another_type_says_what_the_model_wants(models: Zoo) -> None:
    body = problem(lines(models, b"2", b'"big"'), 422, "invalid_data")
    assert [e["pointer"] for e in body["errors"]] == ["/line/3/size"]
    assert "make every value a number, or null" in body["detail"]
    assert "types" not in body["detail"]


@pytest.mark.parametrize("written", [b"", b"Infinity", b"1e999", b'"\xff"', b'"\\ud800"', b'"\0"'])
def test_a_line_that_is_no_json_is_told_by_its_number(models: Zoo, written: bytes) -> None:
    body = problem(lines(models, b"2", written), 400, "invalid_json")
    assert [e["pointer"] for e in body["errors"]] == ["/line/3"]
    assert body["detail"].startswith("line 3")
