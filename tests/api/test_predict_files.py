"""Files to predict and files of predictions: every format that comes, every format that goes."""

import gzip
import io
import json
import math
import socket
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
import torch

from app.ml.canonical import as_strings
from tests.server import Json, Server, problem
from tests.unit.ml.files import as_arrow, as_csv, as_ndjson, as_parquet, rows_of

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
JSON = "application/json"
LARGE = 200_000
MOST_ROWS = 50
START = datetime(2026, 1, 1, tzinfo=UTC)

Lists = dict[str, list[Any]]

SHOP: Lists = {
    "size": [i / 10 for i in range(60)],
    "color": ["red", "grün", "blue, or so"] * 20,
    "new": [i % 2 == 0 for i in range(60)],
    "sold": [START + timedelta(hours=7 * i) for i in range(60)],
    "price": [10.0 * i + i % 3 for i in range(60)],
}
"""A training table of every type."""

ASKED: Lists = {
    "size": [1.5, -3.25, 0.1, 1e6, 2.0],
    "color": ["red", "grün", "violet", "blue, or so", "red"],
    "new": [True, False, True, True, False],
    "sold": [START + timedelta(days=i, seconds=i) for i in range(5)],
}
GAPS: Lists = {name: [*values, None] for name, values in ASKED.items()}
"""The same and a row of gaps."""


@pytest.fixture(scope="module")
def server(server: Server) -> Server:
    if server.client.get("/v1/models/files").status_code == 404:
        types = json.dumps({"sold": "datetime"})
        options: Json = {"params": {"name": "files", "types": types}, "headers": media(CSV)}
        server.ok("POST", "/v1/datasets", content=as_csv(SHOP), **options)
        server.train(dataset="files", target="price", epochs=20, register_as="files")
    return server


@pytest.fixture(autouse=True)
def nothing_left_behind(server: Server) -> Iterator[None]:
    yield
    assert left(server) == []


def left(server: Server) -> list[str]:
    """What is still in the scratch folder; a request that has just been answered may be tidying."""
    deadline = time.monotonic() + 10
    while (found := [path.name for path in (server.data_dir / "tmp").iterdir()]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.02)
    return found


def media(kind: str, accept: str = JSON) -> dict[str, str]:
    return {"Content-Type": kind, "Accept": accept}


def sent(
    server: Server,
    content: bytes,
    kind: str,
    ref: str = "files",
    accept: str = JSON,
    query: str = "",
) -> httpx.Response:
    path = f"/v1/models/{ref}/predict?{query}"
    return server.client.post(path, content=content, headers=media(kind, accept))


def told(response: httpx.Response) -> Json:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == JSON
    body: Json = response.json()
    return body


def columns_of(response: httpx.Response, accept: str) -> Lists:
    """An answer that is a table."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == accept
    if accept == ARROW:
        table = pa.ipc.open_stream(response.content).read_all()
    else:
        table = pacsv.read_csv(io.BytesIO(response.content))
    found: Lists = table.to_pydict()
    return found


def iso(values: Lists) -> Lists:
    """As JSON has them."""
    told = [
        value.isoformat().replace("+00:00", "Z") if value is not None else None
        for value in values["sold"]
    ]
    return {**values, "sold": told}


def by_json(server: Server, values: Lists, ref: str = "files", query: str = "") -> Json:
    """What the same rows get as JSON."""
    path = f"/v1/models/{ref}/predict?{query}"
    return server.ok(
        "POST", path, json={"rows": rows_of(iso(values) if "sold" in values else values)}
    )


def batches(table: pa.Table, rows: int) -> bytes:
    """An Arrow stream of many small batches."""
    with io.BytesIO() as sink:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
        return sink.getvalue()


# ---------------------------------------------------------------- in


def test_every_format_gets_the_answer_that_json_gets(server: Server) -> None:
    table = pa.table(GAPS)
    expected = by_json(server, GAPS)
    assert all(isinstance(value, float) for value in expected["predictions"])
    assert len(set(expected["predictions"])) == 6
    tsv = as_csv(GAPS, delimiter="\t")
    for content, kind in (
        (as_csv(GAPS), CSV),
        (as_csv(GAPS), "application/csv"),
        (tsv, "text/tab-separated-values"),
        (as_ndjson(GAPS), NDJSON),
        (as_ndjson(GAPS), "application/jsonl"),
        (as_parquet(table), PARQUET),
        (as_parquet(table, compression="zstd", row_group_size=2), PARQUET),
        (as_arrow(table), ARROW),
    ):
        response = sent(server, content, kind)
        assert told(response) == expected, kind
        assert response.headers["model-version"] == "files@1"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found_or_told(server: Server, delimiter: str) -> None:
    expected = by_json(server, GAPS)
    content = as_csv(GAPS, delimiter=delimiter)
    assert told(sent(server, content, CSV)) == expected
    query = str(httpx.QueryParams({"delimiter": delimiter}))
    assert told(sent(server, content, CSV, query=query)) == expected
    other = "delimiter=%3B" if delimiter != ";" else "delimiter=,"
    assert sent(server, content, CSV, query=other).status_code == 422


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_encodings(server: Server, encoding: str) -> None:
    expected = by_json(server, ASKED)
    content = as_csv(ASKED).decode().encode(encoding)
    query = "" if encoding.startswith("utf") else f"encoding={encoding}"  # by its BOM
    assert told(sent(server, content, CSV, query=query)) == expected
    assert told(sent(server, content, f"{CSV}; charset={encoding}")) == expected
    text = as_ndjson(ASKED).decode().encode(encoding)
    assert told(sent(server, text, NDJSON, query=f"encoding={encoding}")) == expected
    if encoding == "latin-1":  # the letter that is no UTF-8 is in line 3
        errors = problem(sent(server, content, CSV), 422, "invalid_data")["errors"]
        assert errors[0]["pointer"] == "/line/3"


@pytest.mark.parametrize("kind", [CSV, NDJSON])
def test_gzip_is_for_text(server: Server, kind: str) -> None:
    expected = by_json(server, ASKED)
    content = gzip.compress(as_csv(ASKED) if kind == CSV else as_ndjson(ASKED))
    assert told(sent(server, content, kind)) == expected
    headers = {**media(kind), "Content-Encoding": "gzip"}
    path = "/v1/models/files/predict"
    assert told(server.client.post(path, content=content, headers=headers)) == expected
    problem(sent(server, content[:-12], kind), 422, "invalid_data")
    for other in (ARROW, PARQUET):
        problem(sent(server, content, other), 415, "unsupported_media_type")
        headers = {**media(other), "Content-Encoding": "gzip"}
        response = server.client.post(path, content=content, headers=headers)
        problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("gap", ["", "NA", "NaN", "null", "#N/A"])
def test_gaps_in_csv(server: Server, gap: str) -> None:
    lines = as_csv(ASKED).decode() + ",".join([gap] * 4) + "\n"
    assert told(sent(server, lines.encode(), CSV)) == by_json(server, GAPS)


def test_shapes_of_arrow_streams(server: Server) -> None:
    table = pa.table(GAPS)
    expected = by_json(server, GAPS)
    cast = table.cast(
        pa.schema(
            [
                ("size", pa.float32()),
                ("color", pa.large_string()),
                ("new", pa.bool_()),
                ("sold", pa.timestamp("ns", "UTC")),
            ]
        )
    )
    near = told(sent(server, as_arrow(cast), ARROW))["predictions"]
    assert near == pytest.approx(expected["predictions"], rel=1e-4)
    dictionary = table.set_column(1, "color", table["color"].dictionary_encode())
    texts = table.set_column(0, "size", pa.array(["1.5", "-3.25", "0.1", "1e6", "2", None]))
    dates = table.set_column(3, "sold", pa.array(iso(GAPS)["sold"]))
    numbers = table.set_column(2, "new", pa.array([1, 0, 1, 1, 0, None], pa.int8()))
    nan = [1.5, -3.25, 0.1, 1e6, 2.0, math.nan]
    nans = table.set_column(0, "size", pa.array(nan, pa.float64()))
    for shape, content in {
        "batches of one row": batches(table, 1),
        "batches of two rows": batches(table, 2),
        "large strings": as_arrow(table.set_column(1, "color", cast["color"])),
        "views": as_arrow(table.set_column(1, "color", table["color"].cast(pa.string_view()))),
        "a dictionary": as_arrow(dictionary),
        "a dictionary in batches": batches(dictionary, 2),
        "dictionaries that differ": as_arrow(
            pa.concat_tables(
                dictionary.slice(i, 1).set_column(
                    1, "color", table["color"].slice(i, 1).combine_chunks().dictionary_encode()
                )
                for i in range(6)
            )
        ),
        "numbers as text": as_arrow(texts),
        "dates as text": as_arrow(dates),
        "booleans as numbers": as_arrow(numbers),
        "NaN": as_arrow(nans),
        "other order": as_arrow(table.select(["sold", "new", "color", "size"])),
    }.items():
        assert told(sent(server, content, ARROW)) == expected, shape


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint8(), pa.int32(), pa.int64(), pa.uint64(), pa.float16(), pa.float64()]
)
def test_numbers_of_every_width(server: Server, kind: pa.DataType) -> None:
    values = [0, 1, 7, 100, None]
    floats = {**ASKED, "size": [None if value is None else float(value) for value in values]}
    table = pa.table({**ASKED, "size": pa.array(values, kind)})
    for content, media_type in ((as_arrow(table), ARROW), (as_parquet(table), PARQUET)):
        assert told(sent(server, content, media_type)) == by_json(server, floats)


NO_VALUES: list[tuple[str, Any]] = [
    *((name, None) for name in ASKED),
    ("size", pa.float64()),
    ("size", pa.int16()),
    ("size", pa.string()),
    ("color", pa.string()),
    ("color", pa.large_string()),
    ("color", pa.dictionary(pa.int8(), pa.string())),
    ("color", pa.float64()),
    ("new", pa.bool_()),
    ("new", pa.string()),
    ("sold", pa.date32()),
    ("sold", pa.timestamp("ms")),
    ("sold", pa.string()),
]


@pytest.mark.parametrize(("name", "kind"), NO_VALUES, ids=str)
def test_a_column_without_a_value(server: Server, name: str, kind: Any) -> None:
    values = {**ASKED, name: [None] * 5}
    expected = by_json(server, values)
    table = pa.table({**ASKED, name: pa.nulls(5, kind or pa.null())})
    for content, media_type in (
        (as_arrow(table), ARROW),
        (batches(table, 2), ARROW),
        (as_parquet(table), PARQUET),
        (as_csv(values), CSV),
        (as_ndjson(values), NDJSON),
    ):
        assert told(sent(server, content, media_type)) == expected, media_type


def test_the_target_may_be_there_whatever_it_holds(server: Server) -> None:
    expected = by_json(server, ASKED)
    for price in (["unknown"] * 5, [None] * 5, [1.5] * 5):
        values = {**ASKED, "price": price}
        table = pa.table(values)
        assert told(sent(server, as_csv(values), CSV)) == expected
        assert told(sent(server, as_ndjson(values), NDJSON)) == expected
        assert told(sent(server, as_parquet(table), PARQUET)) == expected
        assert told(sent(server, as_arrow(table), ARROW)) == expected


# ---------------------------------------------------------------- wrong columns and cells

FORMATS = {CSV: as_csv, NDJSON: as_ndjson, PARQUET: None, ARROW: None}


def written(values: Lists, kind: str) -> bytes:
    write = FORMATS[kind]
    if write is not None:
        return write(values)
    return (as_parquet if kind == PARQUET else as_arrow)(pa.table(values))


def without(name: str) -> Lists:
    return {key: values for key, values in ASKED.items() if key != name}


WRONG_COLUMNS: list[tuple[str, Lists, str, str]] = [
    ("missing", without("new"), "/columns/new", "'new' is missing"),
    ("extra", {**ASKED, "weight": [1] * 5}, "/columns/weight", "leave it out"),
    ("similar", {**ASKED, "sise": [1] * 5}, "/columns/sise", "did you mean 'size'?"),
    ("misspelt", {**without("size"), "sise": [1] * 5}, "/columns/size", "'size' is missing"),
    ("a/b~c", {**ASKED, "a/b~c": [1] * 5}, "/columns/a~1b~0c", "unknown feature 'a/b~c'"),
]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("values", "pointer", "said"),
    [case[1:] for case in WRONG_COLUMNS],
    ids=[c[0] for c in WRONG_COLUMNS],
)
def test_wrong_columns_are_named(
    server: Server, kind: str, values: Lists, pointer: str, said: str
) -> None:
    body = problem(sent(server, written(values, kind), kind), 422, "invalid_request")
    [error] = [error for error in body["errors"] if error["pointer"] == pointer]
    assert said in error["detail"]


WRONG_CELLS: list[tuple[str, Any]] = [
    ("size", ["1", "2", "3", "three", "5"]),
    ("new", ["true", "false", "true", "maybe", "true"]),
    ("sold", ["2026-01-01", "2026-01-02", "2026-01-03", "someday", "2026-01-05"]),
]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("name", "cells"), WRONG_CELLS, ids=[name for name, _ in WRONG_CELLS])
def test_wrong_cells_are_named(server: Server, kind: str, name: str, cells: list[str]) -> None:
    body = problem(sent(server, written({**ASKED, name: cells}, kind), kind), 422, "invalid_data")
    place = {CSV: "/line/5", NDJSON: "/line/4"}.get(kind, "/rows/3")
    assert body["errors"][0]["pointer"] == f"{place}/{name}", body
    assert cells[3] in body["detail"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_number_beyond_float32_is_named_by_its_row_in_the_file(server: Server, kind: str) -> None:
    rows, wrong = 70_000, 66_123  # beyond the first piece
    size = np.full(rows, 1.5)
    size[wrong] = 1e300
    values = {name: ASKED[name][:1] * rows for name in ASKED} | {"size": size.tolist()}
    table = pa.table(values)
    content = {PARQUET: as_parquet, ARROW: as_arrow}.get(kind)
    body = problem(
        sent(server, content(table) if content else written(values, kind), kind),
        422,
        "invalid_data",
    )
    assert body["errors"][0]["pointer"] == f"/rows/{wrong}/size"


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.duration("s")], ids=str
)
def test_types_that_no_feature_can_be(server: Server, kind: pa.DataType) -> None:
    value = [1] if pa.types.is_list(kind) else {"a": 1} if pa.types.is_struct(kind) else 1
    for column in (pa.array([value] * 5, kind), pa.array([value] * 4 + [None], kind)):
        table = pa.table({**ASKED, "color": column})
        body = problem(sent(server, as_arrow(table), ARROW), 422, "invalid_data")
        assert body["errors"][0]["pointer"] == "/color"


def test_extension_types_are_refused(server: Server) -> None:
    kind = pa.json_(pa.string())
    storage = pa.array(['"red"'] * 5, pa.string())
    for name in ("color", "price"):
        table = pa.table({**ASKED, name: pa.ExtensionArray.from_storage(kind, storage)})
        for content, media_type in ((as_arrow(table), ARROW), (as_parquet(table), PARQUET)):
            body = problem(sent(server, content, media_type), 422, "invalid_data")
            assert body["errors"][0]["pointer"] == f"/{name}"
            assert "extension" in body["detail"]


def test_names_that_stand_twice(server: Server) -> None:
    names = [*ASKED, "size"]
    table = pa.Table.from_arrays([*pa.table(ASKED).columns, pa.array(ASKED["size"])], names=names)
    text = as_csv(ASKED).decode().splitlines()
    double = "\n".join([text[0] + ",size", *(line + ",1" for line in text[1:])]).encode()
    body = problem(sent(server, as_arrow(table), ARROW), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/columns/size"
    for content, kind in ((as_parquet(table), PARQUET), (double, CSV)):
        assert "'size'" in problem(sent(server, content, kind), 422, "invalid_data")["detail"]


# ---------------------------------------------------------------- nothing, half, and too much


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_to_predict(server: Server, kind: str) -> None:
    schema = pa.table(ASKED).schema
    empty = {
        CSV: as_csv({name: [] for name in ASKED}),
        NDJSON: b"\n",
        PARQUET: as_parquet(schema.empty_table()),
        ARROW: as_arrow(schema.empty_table()),
    }[kind]
    for content in (b"", empty):
        assert sent(server, content, kind).status_code == 422
    if kind == ARROW:
        none = pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)
        with io.BytesIO() as sink:
            with pa.ipc.new_stream(sink, schema) as writer:
                for _ in range(3):
                    writer.write_batch(none)
                writer.write_table(pa.table(ASKED, schema=schema))
                writer.write_batch(none)
            assert told(sent(server, sink.getvalue(), kind)) == by_json(server, ASKED)


@pytest.mark.parametrize("kind", [ARROW, PARQUET])
def test_what_is_cut_off_is_refused(server: Server, kind: str) -> None:
    table = pa.table(ASKED)
    whole = as_parquet(table) if kind == PARQUET else as_arrow(table)
    statuses = {
        cut: sent(server, whole[:cut], kind)
        for cut in [*range(1, len(whole) - 8, 97), len(whole) - 9]
    }
    for response in statuses.values():
        assert response.status_code in (415, 422), response.text
        assert response.json()["code"] in ("invalid_data", "unsupported_media_type")
    print(f"\n{len(statuses)} cuts of {len(whole)} bytes")


def test_bits_that_flip_never_hurt_the_server(server: Server) -> None:
    whole = as_arrow(pa.table(GAPS))
    expected = {200, 413, 415, 422}
    counts: dict[int, int] = {}
    for place in range(0, len(whole), 11):
        bits = bytearray(whole)
        bits[place] ^= 1 << place % 8
        status = sent(server, bytes(bits), ARROW).status_code
        counts[status] = counts.get(status, 0) + 1
    assert counts.keys() <= expected
    assert counts.keys() >= {200, 422}
    print(f"\nanswers by status: {counts}")


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_streams_are_refused_with_a_remedy(server: Server, codec: str) -> None:
    table = pa.table({**ASKED, "color": pa.array(ASKED["color"]).dictionary_encode()})
    with io.BytesIO() as sink:
        options = pa.ipc.IpcWriteOptions(compression=codec)
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        response = sent(server, sink.getvalue(), ARROW)
    assert (
        "without compression, or send Parquet" in problem(response, 422, "invalid_data")["detail"]
    )


def test_few_bytes_that_stand_for_many_are_refused(server: Server) -> None:
    long = "z" * 500_000
    indices = pa.array(np.zeros(2_000, np.int8))
    views = np.zeros((2_000, 4), np.int32)
    views[:, 0], views[:, 1] = len(long), int.from_bytes(b"zzzz", "little")
    buffers = [None, pa.py_buffer(views.tobytes()), pa.py_buffer(long.encode())]
    for column in (
        pa.DictionaryArray.from_arrays(indices, pa.array([long])),
        pa.DictionaryArray.from_arrays(indices, pa.array([long], pa.large_string())),
        pa.DictionaryArray.from_arrays(indices, pa.array([long.encode()])),
        pa.Array.from_buffers(pa.string_view(), 2_000, buffers),
    ):
        values = {name: ASKED[name][:1] * 2_000 for name in ASKED}
        content = as_arrow(pa.table({**values, "color": column}))
        assert len(content) < 1_000_000
        problem(sent(server, content, ARROW), 413, "too_large")
    lists = pa.DictionaryArray.from_arrays(indices, pa.array([[1] * 500_000], pa.list_(pa.int8())))
    content = as_arrow(pa.table({**values, "color": lists}))
    problem(sent(server, content, ARROW), 422, "invalid_data")


@pytest.mark.parametrize("rows", [-1, 4, 6, 2**40, 2**62])
def test_a_batch_that_lies_about_its_rows(server: Server, rows: int) -> None:
    whole = as_arrow(pa.table({name: pa.nulls(54_321) for name in ASKED}))
    true = struct.pack("<q", 54_321)
    assert whole.count(true) == 1 + 2 * len(ASKED)  # of the batch; of each column, and its gaps
    for content in (
        whole.replace(true, struct.pack("<q", rows)),
        whole.replace(true, struct.pack("<q", rows), 1),
    ):
        response = sent(server, content, ARROW)
        assert response.status_code in ((200, 422) if 0 <= rows < 10 else (413, 422))
        if response.status_code == 200:
            assert len(response.json()["predictions"]) == rows


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that predicts few rows at once."""
    folder = tmp_path_factory.mktemp("small") / "data"
    with Server(folder, FITSERVE_MAX_PREDICT_ROWS=str(MOST_ROWS)) as running:
        running.line()
        running.train(dataset="line", target="y", epochs=2, register_as="files")
        yield running
        assert left(running) == []


@pytest.mark.parametrize("kind", [*FORMATS, JSON])
@pytest.mark.parametrize("accept", [JSON, CSV, ARROW])
def test_one_row_too_many(small: Server, kind: str, accept: str) -> None:
    for rows, status in ((MOST_ROWS, 200), (MOST_ROWS + 1, 413)):
        values: Lists = {"x": [i / 7 for i in range(rows)]}
        bodies = [written(values, kind)] if kind != JSON else []
        if kind == JSON:
            bodies += [
                json.dumps(body).encode()
                for body in (
                    {"rows": rows_of(values)},
                    {"columns": values},
                    {"instances": [[x] for x in values["x"]]},
                )
            ]
        if kind == ARROW:
            bodies.append(batches(pa.table(values), 7))
        for body in bodies:
            response = sent(small, body, kind, accept=accept)
            assert response.status_code == status, response.text
            if status == 413:
                assert "FITSERVE_MAX_PREDICT_ROWS" in problem(response, 413, "too_large")["detail"]


# ---------------------------------------------------------------- out


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("text/csv", CSV),
        (ARROW, ARROW),
        ("application/json;q=0.5, text/csv;q=0.9", CSV),
        (f"text/csv;q=0.5, {ARROW};q=0.9, */*;q=0.1", ARROW),
        ("text/csv;q=0, */*", JSON),
        ("application/json;q=0, */*", CSV),
        ("image/png, text/csv;q=0.1", CSV),
        ("TEXT/CSV", CSV),
        ("text/html", None),
        ("application/json;q=0", None),
        (PARQUET, None),
    ],
)
def test_the_answer_comes_as_it_is_liked_best(
    server: Server, accept: str, expected: str | None
) -> None:
    body = json.dumps({"rows": rows_of(iso(ASKED))}).encode()
    for content, kind in ((body, JSON), (as_csv(ASKED), CSV), (as_arrow(pa.table(ASKED)), ARROW)):
        response = sent(server, content, kind, accept=accept)
        if expected is None:
            detail = problem(response, 406, "not_acceptable")["detail"]
            assert all(offered in detail for offered in (JSON, CSV, ARROW))
        else:
            assert response.status_code == 200, response.text
            assert response.headers["content-type"] == expected
            assert response.headers["model-version"] == "files@1"


def test_tables_of_one_target(server: Server) -> None:
    expected = by_json(server, GAPS)["predictions"]
    for kind in FORMATS:
        for accept in (CSV, ARROW):
            found = columns_of(sent(server, written(GAPS, kind), kind, accept=accept), accept)
            assert found.keys() == {"prediction"}
            assert found["prediction"] == pytest.approx(expected, rel=1e-12)
    for accept in (JSON, CSV, ARROW):
        response = sent(server, as_csv(ASKED), CSV, accept=accept, query="probabilities=true")
        assert problem(response, 422, "invalid_request")["errors"][0]["pointer"] == "/probabilities"


def trained(server: Server, values: Lists, **job: Any) -> str:
    source = {"kind": "inline", "columns": values}
    made = server.ok("POST", "/v1/datasets", json={"source": source})
    done = server.train(dataset=made["id"], **job)
    return str(done["model"]["ref"])


def test_several_targets(server: Server) -> None:
    values: Lists = {
        "x": [i / 10 for i in range(60)],
        "a": [2.0 * i + 0.5 for i in range(60)],
        "b, c": [-1.5 * i for i in range(60)],
    }
    ref = trained(server, values, target=["a", "b, c"], features=["x"], epochs=3)
    asked: Lists = {"x": [0.5, 3, None]}
    expected = by_json(server, asked, ref)["predictions"]
    for kind in FORMATS:
        assert told(sent(server, written(asked, kind), kind, ref))["predictions"] == expected
        for accept in (CSV, ARROW):
            found = columns_of(sent(server, written(asked, kind), kind, ref, accept), accept)
            assert list(found) == ["a", "b, c"]
            for name, column in found.items():
                assert column == pytest.approx([row[name] for row in expected], rel=1e-12)


CLASSES: list[tuple[list[Any], str]] = [
    (["no", "yes"], "binary"),
    ([False, True], "binary"),
    ([3, 7, 11], "multiclass"),
    (['"quoted", and\ncut', "ünïcode", "null"], "multiclass"),
]


@pytest.mark.parametrize(
    ("labels", "task"), CLASSES, ids=["strings", "booleans", "integers", "odd"]
)
def test_classes_keep_their_type(server: Server, labels: list[Any], task: str) -> None:
    count = len(labels)
    values: Lists = {
        "x": [i % count + i / 1000 for i in range(90)],
        "y": [labels[i % count] for i in range(90)],
    }
    ref = trained(server, values, target="y", task=task, epochs=80)
    asked: Lists = {"x": [float(i) for i in range(count)], "y": [None] * count}
    expected = by_json(server, asked, ref, "probabilities=true")
    assert expected["predictions"] == labels
    keys = list(expected["probabilities"][0])
    for kind in FORMATS:
        content = written(asked, kind)
        assert told(sent(server, content, kind, ref, query="probabilities=true")) == expected
        plain = told(sent(server, content, kind, ref))
        assert "probabilities" not in plain
        assert plain["predictions"] == labels
        assert [type(value) for value in plain["predictions"]] == [type(value) for value in labels]
        found = columns_of(sent(server, content, kind, ref, ARROW, "probabilities=true"), ARROW)
        assert found["prediction"] == labels
        assert [type(value) for value in found["prediction"]] == [type(value) for value in labels]
        assert list(found) == ["prediction", *(f"probability_{key}" for key in keys)]
        for key in keys:
            shares = [row[key] for row in expected["probabilities"]]
            assert found[f"probability_{key}"] == pytest.approx(shares, rel=1e-6)
        response = sent(server, content, kind, ref, CSV, "probabilities=true")
        table = pacsv.read_csv(
            io.BytesIO(response.content),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(strings_can_be_null=False),
        )
        assert table.column_names == list(found)
        assert table["prediction"].to_pylist() == labels


def test_labels_that_exclude_nothing(server: Server) -> None:
    values: Lists = {
        "x": list(range(60)),
        "p": [i > 20 for i in range(60)],
        "q": [i % 2 == 0 for i in range(60)],
    }
    ref = trained(server, values, target=["p", "q"], features=["x"], epochs=10)
    asked: Lists = {"x": [1.0, 50.0, None], "p": [None, True, None], "q": [None] * 3}
    expected = by_json(server, asked, ref, "probabilities=true")
    assert {type(value) for row in expected["predictions"] for value in row.values()} == {bool}
    for kind in FORMATS:
        content = written(asked, kind)
        assert told(sent(server, content, kind, ref, query="probabilities=true")) == expected
        for accept in (CSV, ARROW):
            found = columns_of(
                sent(server, content, kind, ref, accept, "probabilities=true"), accept
            )
            assert list(found) == ["p", "q", "probability_p", "probability_q"]
            for name in ("p", "q"):
                assert found[name] == [row[name] for row in expected["predictions"]]
                shares = [row[name] for row in expected["probabilities"]]
                assert found[f"probability_{name}"] == pytest.approx(shares, rel=1e-6)


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def test_what_is_not_finite_is_missing_in_every_format(server: Server) -> None:
    heavy = next(n for n in range(99) if torch.randn(1, generator=seeded(n)).abs().item() > 1.5)
    values: Lists = {"x": [i / 10 for i in range(60)], "y": [i / 5 for i in range(60)]}
    ref = trained(
        server,
        values,
        target="y",
        seed=heavy,
        epochs=1,
        model={"kind": "linear", "init": "normal"},
        preprocessing={"numbers": "none", "target": "none"},
        optimizer={"kind": "sgd", "lr": 1e-9},
    )
    asked: Lists = {"x": [1.0, 3e38]}
    assert by_json(server, asked, ref)["predictions"][1] is None
    for kind in FORMATS:
        for accept in (CSV, ARROW):
            response = sent(server, written(asked, kind), kind, ref, accept)
            finite, other = columns_of(response, accept)["prediction"]
            assert math.isfinite(finite)
            assert other is None
            if accept == CSV:  # an empty line is no row to most readers
                assert response.content.splitlines()[2] == b"nan"


# ---------------------------------------------------------------- more than a piece


def test_large_files_get_the_answers_that_json_gets(server: Server) -> None:
    random = np.random.default_rng(0)
    colors = np.array(["red", "grün", "blue, or so", "violet"])
    values = {
        "size": random.normal(size=LARGE),
        "color": colors[random.integers(0, 4, LARGE)],
        "new": random.integers(0, 2, LARGE) == 1,
        "sold": np.datetime64("2026-01-01", "us") + random.integers(0, 10**15, LARGE),
    }
    table = pa.table(values)
    gone = np.arange(70_000, 140_000)  # more than a piece without a value
    mask = np.zeros(LARGE, bool)
    mask[gone] = True
    for name in ("color", "new", "sold"):
        table = table.set_column(
            table.column_names.index(name), name, pa.array(values[name], mask=mask)
        )
    expected: list[float] = []
    for start in range(0, LARGE, 40_960):
        piece = table.slice(start, 40_960)
        part: Lists = piece.set_column(3, "sold", as_strings(piece["sold"])).to_pydict()
        expected += server.ok("POST", "/v1/models/files/predict", json={"columns": part})[
            "predictions"
        ]
    assert len(expected) == LARGE
    text = io.BytesIO()
    pacsv.write_csv(table, text)
    dictionary = table.set_column(1, "color", table["color"].dictionary_encode())
    for content, kind, accept in (
        (as_arrow(table.combine_chunks()), ARROW, JSON),
        (batches(table, 777), ARROW, ARROW),
        (batches(dictionary, 5_000), ARROW, CSV),
        (as_parquet(table), PARQUET, ARROW),
        (text.getvalue(), CSV, CSV),
    ):
        response = sent(server, content, kind, accept=accept)
        if accept == JSON:
            found = told(response)["predictions"]
        else:
            found = columns_of(response, accept)["prediction"]
        assert found == expected if accept != CSV else np.allclose(found, expected, 1e-12, 0)
        size = int(response.headers["content-length"])
        print(f"\n{kind}: {len(content)} bytes in, {size} bytes of {accept} out")


def test_pieces_of_wide_files_change_no_result(server: Server) -> None:
    """Their stored groups of rows have other lengths than what the model computes at once."""
    random = np.random.default_rng(0)
    names = [f"f{i}" for i in range(100)]
    values: Lists = {name: random.normal(size=60).tolist() for name in names}
    ref = trained(
        server,
        {**values, "y": random.normal(size=60).tolist()},
        target="y",
        epochs=1,
        model={"kind": "mlp", "hidden": [64]},
    )
    table = pa.table({name: random.integers(-99, 99, 50_000) / 64 for name in names})
    expected = told(sent(server, as_arrow(table), ARROW, ref))
    assert told(sent(server, as_parquet(table), PARQUET, ref)) == expected
    assert told(sent(server, batches(table, 999), ARROW, ref)) == expected
    start = 40_960  # a group ends 982 rows later
    part: Lists = table.slice(start, 2_000).to_pydict()
    path = f"/v1/models/{ref}/predict"
    by_columns = server.ok("POST", path, json={"columns": part})["predictions"]
    assert by_columns == pytest.approx(expected["predictions"][start : start + 2_000], rel=1e-4)


def test_strings_that_become_many_numbers(server: Server) -> None:
    """As JSON they are encoded as a whole, so there is a limit; a file is read in pieces."""
    kinds = 1_000
    values: Lists = {
        "c": [f"k{i % kinds}" for i in range(3 * kinds)],
        "y": [float(i % 7) for i in range(3 * kinds)],
    }
    ref = trained(
        server,
        values,
        target="y",
        features=["c"],
        epochs=1,
        model={"kind": "linear"},
        preprocessing={"categories": "one_hot"},
    )
    process = psutil.Process(server.process.pid)
    before, rows = process.memory_info().rss, 500_000
    path = f"/v1/models/{ref}/predict"
    response = server.client.post(path, json={"columns": {"c": ["k1"] * rows}})
    assert "as a file" in problem(response, 413, "too_large")["detail"]
    response = sent(server, as_arrow(pa.table({"c": ["k1"] * rows})), ARROW, ref, ARROW)
    assert len(set(columns_of(response, ARROW)["prediction"])) == 1
    grown = process.memory_info().rss - before
    print(f"\n{rows} rows of {kinds} numbers each: the server grew by {grown >> 20} MiB")
    assert grown < 600e6


# ---------------------------------------------------------------- clients that go, files that rot


def test_a_client_that_goes_while_it_sends_leaves_nothing(server: Server) -> None:
    body = as_csv(SHOP) * 2_000
    for sending in (0, 10, 100_000, 3_000_000):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            head = (
                f"POST /v1/models/files/predict HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                f"Content-Type: text/csv\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            client.sendall(head.encode() + body[:sending])
            deadline = time.monotonic() + 10
            while not (files := list((server.data_dir / "tmp").iterdir())):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            assert [path.name.partition(".")[0] for path in files] == ["upload"]
        assert left(server) == []
    assert told(sent(server, as_csv(ASKED), CSV)) == by_json(server, ASKED)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "manifest.json"])
def test_damaged_files_predict_nothing_until_they_are_put_back(server: Server, name: str) -> None:
    values: Lists = {"x": [i / 10 for i in range(60)], "y": [i / 5 for i in range(60)]}
    ref = trained(server, values, target="y", epochs=1, model={"kind": "linear"})
    model = server.ok("GET", f"/v1/models/{ref}")
    file: Path = server.data_dir / "models" / model["id"] / name
    good = file.read_bytes()
    bits = bytearray(good)
    bits[len(bits) // 2] ^= 1
    asked: Lists = {"x": [0.5]}
    for damaged in (bytes(bits), good[:-1], b""):
        file.write_bytes(damaged)
        for kind in FORMATS:
            response = sent(server, written(asked, kind), kind, ref)
            problem(response, 503, "artifact_corrupt")
        path = f"/v1/models/{ref}/predict"
        problem(server.client.post(path, json={"rows": [{"x": 0.5}]}), 503, "artifact_corrupt")
    file.write_bytes(good)
    expected = by_json(server, asked, ref)
    for kind in FORMATS:
        assert told(sent(server, written(asked, kind), kind, ref)) == expected
