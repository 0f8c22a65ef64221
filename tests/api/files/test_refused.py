"""Files that cannot be predicted: which column, which row, and what to do."""

import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.files import as_arrow, as_csv, as_parquet, rows_of
from tests.support.server import Server, problem
from tests.support.shop import (
    ARROW,
    ASKED,
    CSV,
    FORMATS,
    GAPS,
    JSON,
    MOST_ROWS,
    NDJSON,
    PARQUET,
    Lists,
    by_json,
    left,
    sent,
    told,
    written,
)

# ---------------------------------------------------------------- wrong columns and cells


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
    body = problem(sent(server, written(values, kind), kind), 422, "invalid_data")
    place = {CSV: f"/line/{wrong + 2}", NDJSON: f"/line/{wrong + 1}"}.get(kind, f"/rows/{wrong}")
    assert body["errors"][0]["pointer"] == f"{place}/size"


@pytest.mark.parametrize("kind", [pa.list_(pa.int8()), pa.struct([("a", pa.int8())])], ids=str)
def test_types_that_no_feature_can_be(server: Server, kind: pa.DataType) -> None:
    value = [1] if pa.types.is_list(kind) else {"a": 1}
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
    said = problem(sent(server, as_parquet(table), PARQUET), 422, "invalid_data")["detail"]
    assert "'size'" in said
    said = problem(sent(server, double, CSV), 422, "invalid_request")["detail"]
    assert "'size_2'" in said, "as an upload of it would call the second"


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
def test_compressed_streams_are_read_in_a_limited_process(server: Server, codec: str) -> None:
    table = pa.table({**ASKED, "color": pa.array(ASKED["color"]).dictionary_encode()})
    with io.BytesIO() as sink:
        options = pa.ipc.IpcWriteOptions(compression=codec)
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        response = sent(server, sink.getvalue(), ARROW)
    assert response.json() == by_json(server, ASKED)


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
            bodies.append(as_arrow(pa.table(values), 7))
        for body in bodies:
            response = sent(small, body, kind, accept=accept)
            assert response.status_code == status, response.text
            if status == 413:
                assert "FITSERVE_MAX_PREDICT_ROWS" in problem(response, 413, "too_large")["detail"]
