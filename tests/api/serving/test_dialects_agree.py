"""The same rows in every dialect and format: the same predictions, to the last bit."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.files import as_arrow, as_arrow_csv, as_parquet
from tests.support.server import Json
from tests.support.soak import rounds
from tests.support.zoo import CITIES, COLORS, MIXED, NUMBERS, Zoo, mixed_row, number_row

Rows = list[Json]
_ARROW = {"new": pa.bool_(), "size": pa.float64(), **dict.fromkeys(NUMBERS, pa.float64())}
_DATATYPES = {"new": "BOOL", "size": "FP64", **dict.fromkeys(NUMBERS, "FP64")}


def sent(models: Zoo, path: str, content: bytes, media: str, **headers: str) -> Any:
    told = {"Content-Type": media, **{k.replace("_", "-"): v for k, v in headers.items()}}
    response = models.server.client.post(path, content=content, headers=told)
    assert response.status_code == 200, (path, media, content[:300], response.text)
    return response.json()


# ---------------------------------------------------------------- rows in every format


def table(rows: Rows) -> pa.Table:
    return pa.table(
        {
            name: pa.array([row[name] for row in rows], _ARROW.get(name, pa.string()))
            for name in rows[0]
        }
    )


def as_lines(rows: Rows) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def as_dictionaries(rows: Rows) -> bytes:
    """As Arrow, strings as categories, and columns the other way round."""
    whole = table(rows)
    columns = {
        name: column.dictionary_encode() if pa.types.is_string(column.type) else column
        for name, column in zip(whole.column_names, whole.columns, strict=True)
    }
    whole = pa.table(dict(reversed(columns.items())))
    return as_arrow(whole)


FILES: dict[str, Callable[[Rows], bytes]] = {
    "text/csv": lambda rows: as_arrow_csv(table(rows)),
    "application/x-ndjson": as_lines,
    "application/vnd.apache.parquet": lambda rows: as_parquet(table(rows), row_group_size=33),
    "application/vnd.apache.arrow.stream": lambda rows: as_arrow(table(rows), 33),
}


def lists(rows: Rows) -> list[list[Any]]:
    return [list(row.values()) for row in rows]


def columns(rows: Rows) -> Json:
    return {name: [row[name] for row in rows] for name in rows[0]}


def packed(name: str, values: list[Any]) -> bytes:
    if _DATATYPES.get(name) == "FP64":
        return np.array(values, "<f8").tobytes()
    if _DATATYPES.get(name) == "BOOL":
        return np.array(values, "?").tobytes()
    parts = [value.encode() for value in values]
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def infer(models: Zoo, model: str, tensors: list[Json], data: bytes = b"") -> list[Any]:
    """Predictions, and probabilities where there are some; as binary data if it was sent."""
    body = json.dumps({"inputs": tensors}).encode()
    headers = {"Inference_Header_Content_Length": str(len(body))} if data else {}
    path = f"/v2/models/{model}/infer"
    answer = sent(models, path, body + data, "application/octet-stream", **headers)
    predictions: list[Any] = answer["outputs"][0]["data"]
    return predictions


def by_tensors(models: Zoo, model: str, rows: Rows) -> dict[str, list[Any]]:
    """One a column; binary data cannot say what is missing."""
    whole = columns(rows)
    tensors = [
        {
            "name": name,
            "datatype": _DATATYPES.get(name, "BYTES"),
            "shape": [len(rows), 1] if wide else [len(rows)],
            "data": values,
        }
        for wide, (name, values) in enumerate(whole.items())
    ]
    found = {"tensors": infer(models, model, tensors)}
    if not any(None in values for values in whole.values()):
        data = [packed(name, values) for name, values in whole.items()]
        for item, part in zip(tensors, data, strict=True):
            del item["data"]
            item["parameters"] = {"binary_data_size": len(part)}
        found["binary tensors"] = infer(models, model, tensors, b"".join(data))
    return found


def by_one_tensor(models: Zoo, rows: Rows) -> dict[str, list[Any]]:
    shape = [len(rows), len(NUMBERS)]
    item: Json = {"name": "input", "datatype": "FP64", "shape": shape, "data": lists(rows)}
    found = {"tensor": infer(models, "numbers", [item])}
    if not any(None in row.values() for row in rows):
        data = np.array(item.pop("data"), "<f8").tobytes()
        item["parameters"] = {"binary_data_size": len(data)}
        found["binary tensor"] = infer(models, "numbers", [item], data)
    return found


def native(models: Zoo, model: str, rows: Rows) -> dict[str, list[Any]]:
    path = f"/v1/models/{model}/predict"
    bodies: Json = {"rows": rows, "columns": columns(rows), "instances": lists(rows)}
    found = {}
    for key, value in bodies.items():
        content = json.dumps({key: value}).encode()
        found[key] = sent(models, path, content, "application/json")["predictions"]
    for media, write in FILES.items():
        found[media] = sent(models, path, write(rows), media)["predictions"]
    media = "application/vnd.apache.arrow.stream"
    found["dictionaries"] = sent(models, path, as_dictionaries(rows), media)["predictions"]
    content = json.dumps({"rows": rows}).encode()
    response = models.server.client.post(
        path, content=content, headers={"Content-Type": "application/json", "Accept": media}
    )
    told = pa.ipc.open_stream(response.content).read_all()
    found["answered as Arrow"] = told["prediction"].to_pylist()
    return found


def mlflow(models: Zoo, rows: Rows) -> dict[str, list[Any]]:
    """Of the default model."""
    bodies: Json = {
        "dataframe_split": {"columns": [*rows[0]], "data": lists(rows)},
        "dataframe_records": rows,
        "instances": lists(rows),
        "inputs": columns(rows),
    }
    found = {}
    for key, value in bodies.items():
        content = json.dumps({key: value}).encode()
        answer = sent(models, "/invocations", content, "application/json")
        found[f"MLflow {key}"] = answer["predictions"]
        if key.startswith("dataframe"):
            content = content.replace(b"null", b"NaN")
            answer = sent(models, "/invocations", content, "application/json")
            found[f"MLflow {key} with NaN"] = answer["predictions"]
    found["MLflow CSV"] = sent(models, "/invocations", as_arrow_csv(table(rows)), "text/csv")[
        "predictions"
    ]
    return found


# ---------------------------------------------------------------- any rows

_SIZES = (
    st.floats(-1e4, 1e4)
    | st.floats(-1e30, 1e30)
    | st.integers(-(2**53), 2**53).map(float)
    | st.sampled_from([0.0, -0.0, 5e-324, 1e-310, 0.1, 1 / 3, 1e30, -1e30, 2.0**53 + 2])
)
_MISSING_WORDS = {"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL"}
"""What is a gap in CSV, which has no other way to say it."""
_WORDS = st.text(
    st.characters(exclude_categories=["C"]) | st.sampled_from("ä青🙂\",;'\t "),
    min_size=1,
    max_size=6,
).filter(lambda word: word not in _MISSING_WORDS)
_CELLS: dict[str, st.SearchStrategy[Any]] = {
    "size": _SIZES,
    "color": st.sampled_from(COLORS) | _WORDS,
    "new": st.booleans(),
    "at": st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    "day": st.dates().map(lambda day: day.isoformat()),
    "zip/code": st.sampled_from(CITIES) | _WORDS,
}
_COUNTS = st.sampled_from([1, 2, 100])


@st.composite
def mixed_rows(draw: st.DrawFn) -> Rows:
    """A few drawn cell by cell, and ordinary ones up to 1, 2 or 100; with gaps or without."""
    count = draw(_COUNTS)
    gaps = draw(st.booleans())
    cells = {name: cell | st.none() if gaps else cell for name, cell in _CELLS.items()}
    rows = draw(st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=min(count, 3)))
    usual = [mixed_row(i) for i in range(800)]
    usual = [row for row in usual if gaps or None not in row.values()]
    return [*in_order(rows, MIXED), *usual[: count - len(rows)]]


@st.composite
def number_rows(draw: st.DrawFn) -> Rows:
    count = draw(_COUNTS)
    cell = _SIZES | st.none() if draw(st.booleans()) else _SIZES
    row = st.fixed_dictionaries(dict.fromkeys(NUMBERS, cell))
    rows = draw(st.lists(row, min_size=1, max_size=min(count, 3)))
    return [*in_order(rows, NUMBERS), *(number_row(i) for i in range(count - len(rows)))]


def in_order(rows: Rows, names: list[str]) -> Rows:
    """As instances want them; Hypothesis shuffles."""
    return [{name: row[name] for name in names} for row in rows]


def agree(found: dict[str, list[Any]], rows: Rows) -> None:
    expected = json.dumps(found["rows"])
    assert len(found["rows"]) == len(rows)
    for way, predictions in found.items():
        assert json.dumps(predictions) == expected, way


def test_rows_of_every_type_of_feature(models: Zoo) -> None:
    ways: Counter[str] = Counter()
    counts: Counter[int] = Counter()

    @settings(max_examples=rounds(6, 25), deadline=None, derandomize=True, database=None)
    @given(mixed_rows())
    @example([dict.fromkeys(MIXED)])
    @example([dict.fromkeys(MIXED)] * 2)
    @example([dict.fromkeys(MIXED)] * 100)
    def check(rows: Rows) -> None:
        found = native(models, "score", rows)
        found |= mlflow(models, rows) | by_tensors(models, "score", rows)
        agree(found, rows)
        ways.update(found.keys())
        counts[len(rows)] += 1
        labels = native(models, "mixed", rows) | by_tensors(models, "mixed", rows)
        agree(labels, rows)

    check()
    print(dict(ways), dict(counts))
    assert set(counts) == {1, 2, 100}
    assert min(ways.values()) >= 3
    assert len(ways) == 18


def test_rows_of_numbers(models: Zoo) -> None:
    ways: Counter[str] = Counter()

    @settings(max_examples=rounds(10, 15), deadline=None, derandomize=True, database=None)
    @given(number_rows())
    @example([number_row(1)])
    def check(rows: Rows) -> None:
        found = native(models, "numbers", rows) | by_tensors(models, "numbers", rows)
        found |= by_one_tensor(models, rows)
        agree(found, rows)
        ways.update(found.keys())

    check()
    print(dict(ways))
    assert min(ways.values()) >= 3
    assert len(ways) == 13


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_probabilities_agree(models: Zoo, rows: int) -> None:
    whole = [row for row in map(mixed_row, range(800)) if None not in row.values()][:rows]
    path = "/v1/models/mixed/predict?probabilities=true"
    body = json.dumps({"rows": whole}).encode()
    expected = sent(models, path, body, "application/json")["probabilities"]
    for media, write in FILES.items():
        assert sent(models, path, write(whole), media)["probabilities"] == expected
    tensors = [
        {
            "name": name,
            "datatype": _DATATYPES.get(name, "BYTES"),
            "shape": [rows],
            "data": values,
        }
        for name, values in columns(whole).items()
    ]
    asked = {"inputs": tensors, "outputs": [{"name": "probabilities"}]}
    body = json.dumps(asked).encode()
    [output] = sent(models, "/v2/models/mixed/infer", body, "application/json")["outputs"]
    assert output["data"] == [share for row in expected for share in row.values()]
