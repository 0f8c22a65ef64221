"""Files to predict: every format that comes."""

import gzip
import math
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.support.files import as_arrow, as_csv, as_ndjson, as_parquet
from tests.support.server import Server, problem
from tests.support.shop import (
    ARROW,
    ASKED,
    CSV,
    GAPS,
    NDJSON,
    PARQUET,
    by_json,
    iso,
    media,
    sent,
    told,
)


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
        "batches of one row": as_arrow(table, 1),
        "batches of two rows": as_arrow(table, 2),
        "large strings": as_arrow(table.set_column(1, "color", cast["color"])),
        "views": as_arrow(table.set_column(1, "color", table["color"].cast(pa.string_view()))),
        "a dictionary": as_arrow(dictionary),
        "a dictionary in batches": as_arrow(dictionary, 2),
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
        (as_arrow(table, 2), ARROW),
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
