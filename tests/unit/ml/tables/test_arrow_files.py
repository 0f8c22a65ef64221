"""Parquet files and Arrow streams: nothing that they say of themselves is believed."""

from collections.abc import Callable
from datetime import time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.errors import InvalidData, InvalidInput, TooLarge
from app.ml.tables.formats import Format
from tests.support.files import as_arrow, as_parquet, ingested, pointers, refusal

MEGABYTE = 1 << 20
BOTH: list[Format] = ["parquet", "arrow"]
WRITE: dict[str, Callable[..., bytes]] = {"parquet": as_parquet, "arrow": as_arrow}


class Metres(pa.ExtensionType):  # type: ignore[misc]
    """An extension type that this process knows or not."""

    def __init__(self) -> None:
        super().__init__(pa.float64(), "tests.metres")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> "Metres":
        return cls()


# ---------------------------------------------------------------- types that no table has


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1, 2], None]),
        pa.array([[1, 2], None], pa.large_list(pa.int8())),
        pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        pa.array([{"b": 1}, None]),
        pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        pa.array([b"abcd", None], pa.binary(4)),
    ],
    ids=lambda values: str(values.type),
)
def test_columns_that_no_feature_can_be_are_left_out_and_named(
    tmp_path: Path, kind: Format, values: pa.Array
) -> None:
    content = WRITE[kind](pa.table({"n": [1, 2], "a": values}))
    found = ingested(tmp_path, content, kind)
    assert found.table.to_pydict() == {"n": [1, 2]}
    assert "'a' is of the type" in found.summary.warnings[0]
    error = refusal(tmp_path, InvalidData, WRITE[kind](pa.table({"a": values})), kind)
    assert "'a' is of the type" in error.detail
    assert pointers(error) == ["/a"]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (pa.array([timedelta(seconds=1.5), None]), 1.5),
        (pa.array([time(9, 30), None]), 34_200),
        (pa.array([5, None], pa.time32("s")), 5),
        (pa.array([5, None], pa.duration("ms")), 0.005),
    ],
    ids=lambda values: str(getattr(values, "type", values)),
)
def test_times_of_day_and_durations_are_seconds(
    tmp_path: Path, kind: Format, values: pa.Array, seconds: float
) -> None:
    found = ingested(tmp_path, WRITE[kind](pa.table({"a": values})), kind)
    assert found.table["a"].to_pylist() == [seconds, None]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1]]),
        pa.array([b"\xff"]),
        pa.array([2**50], pa.timestamp("s")),
        pa.array([b"0123456789abcdef"], pa.uuid()),
    ],
    ids=lambda values: str(values.type),
)
def test_pointers_escape_the_names_of_columns(tmp_path: Path, values: pa.Array) -> None:
    error = refusal(tmp_path, InvalidData, as_arrow(pa.table({"a/b~c": values})), "arrow")
    assert pointers(error)[0].endswith("/a~1b~0c")


@pytest.mark.parametrize("kind", BOTH)
def test_extension_types_are_refused_whether_known_or_not(tmp_path: Path, kind: Format) -> None:
    known = pa.array([b"0123456789abcdef"], pa.uuid())
    stranger = pa.ExtensionArray.from_storage(Metres(), pa.array([1.5]))
    content = WRITE[kind](pa.table({"a/b": stranger}))
    for table in (WRITE[kind](pa.table({"a/b": known})), content):
        error = refusal(tmp_path, InvalidData, table, kind)
        assert "extension type" in error.detail
        assert pointers(error) == ["/a~1b"]
    pa.register_extension_type(Metres())
    try:
        error = refusal(tmp_path, InvalidData, content, kind)
        assert "extension type" in error.detail
    finally:
        pa.unregister_extension_type("tests.metres")


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("odd", [float("inf"), float("-inf")])
def test_infinity_is_missing_and_told(tmp_path: Path, kind: Format, odd: float) -> None:
    found = ingested(tmp_path, WRITE[kind](pa.table({"a/b": [1.5, float("nan"), None, odd]})), kind)
    assert found.table["a/b"].to_pylist() == [1.5, None, None, None]
    assert "1 cell holds infinity" in found.summary.warnings[0]


@pytest.mark.parametrize("kind", BOTH)
def test_nan_is_missing(tmp_path: Path, kind: Format) -> None:
    found = ingested(tmp_path, WRITE[kind](pa.table({"a": [1.0, float("nan"), None]})), kind).table
    assert found["a"].to_pylist() == [1, None, None]
    assert found["a"].type == pa.int64()


@pytest.mark.parametrize("kind", BOTH)
def test_integers_beyond_63_bits_are_floats(tmp_path: Path, kind: Format) -> None:
    table = pa.table({"a": pa.array([1, 2**63], pa.uint64())})
    assert ingested(tmp_path, WRITE[kind](table), kind).table["a"].to_pylist() == [1.0, 2.0**63]
    whole = pa.table({"a": pa.array([1, 2**63 - 1], pa.uint64())})
    found = ingested(tmp_path, WRITE[kind](whole), kind).table
    assert found["a"].to_pylist() == [1, 2**63 - 1]


@pytest.mark.parametrize("kind", BOTH)
def test_decimals_are_numbers(tmp_path: Path, kind: Format) -> None:
    table = pa.table({"a": pa.array([Decimal("1.50"), None], pa.decimal128(20, 2))})
    assert ingested(tmp_path, WRITE[kind](table), kind).table["a"].to_pylist() == [1.5, None]


@pytest.mark.parametrize("kind", BOTH)
def test_bytes_that_are_no_utf_8_are_refused(tmp_path: Path, kind: Format) -> None:
    binary = pa.table({"a": [b"x", b"\xff\xfe"]})
    error = refusal(tmp_path, InvalidData, WRITE[kind](binary), kind)
    assert "no UTF-8" in error.detail
    assert pointers(error) == ["/a"]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("types", [{}, {"a": "category"}])
def test_strings_that_are_no_utf_8_are_refused(
    tmp_path: Path, kind: Format, types: dict[str, str]
) -> None:
    """They claim to be strings, which no writer has to check."""
    places = pa.py_buffer(np.array([0, 2, 4], np.int32))
    false = pa.Array.from_buffers(pa.string(), 2, [None, places, pa.py_buffer(b"\xff\xfeab")])
    content = WRITE[kind](pa.table({"a": false}))
    refusal(tmp_path, InvalidData, content, kind, types=types)


# ---------------------------------------------------------------- names and rows


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("names", [["a", "a"], ["a", ""], ["a", "x" * 257], ["a", "b\0"]])
def test_names_that_no_table_has_are_refused(
    tmp_path: Path, kind: Format, names: list[str]
) -> None:
    content = WRITE[kind](pa.table([[1], [2]], names=names))
    refusal(tmp_path, InvalidData, content, kind)


@pytest.mark.parametrize("kind", BOTH)
def test_names_that_are_no_utf_8_are_refused(tmp_path: Path, kind: Format) -> None:
    table = pa.table({"abcd": [1]})
    content = as_arrow(table) if kind == "arrow" else as_parquet(table, store_schema=False)
    refusal(tmp_path, InvalidData, content.replace(b"abcd", b"\xff\xfecd"), kind)


def test_a_zone_need_not_be_known_but_is_utf_8(tmp_path: Path) -> None:
    table = pa.table({"at": pa.array([0, 1], pa.timestamp("us", "Foo/Bar"))})
    content = as_arrow(table)
    assert ingested(tmp_path, content, "arrow").summary.columns[0]["zone"] == "UTC"
    refusal(tmp_path, InvalidData, content.replace(b"Foo/Bar", b"\xff\xfeo/Bar"), "arrow")


@pytest.mark.parametrize("kind", BOTH)
def test_too_many_columns_are_refused(tmp_path: Path, kind: Format) -> None:
    table = pa.table({f"c{i}": [1] for i in range(10_001)})
    error = refusal(tmp_path, InvalidData, WRITE[kind](table), kind)
    assert "10001 columns are too many" in error.detail


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("table", [pa.table({"a": pa.array([], pa.int64())}), pa.table({})])
def test_a_table_without_rows_or_columns_is_refused(
    tmp_path: Path, kind: Format, table: pa.Table
) -> None:
    refusal(tmp_path, InvalidData, WRITE[kind](table), kind)


# ---------------------------------------------------------------- more than it seems


def repeated(rows: int = 2000, size: int = 10_000) -> pa.Table:
    """One long value, many times, as a dictionary: 20 MB in the end."""
    indices = pa.array(np.zeros(rows, np.int32))
    return pa.table({"a": pa.DictionaryArray.from_arrays(indices, ["x" * size])})


def viewed(rows: int = 2000, size: int = 10_000) -> pa.Table:
    """The same as views of one buffer."""
    views = np.zeros(rows, [("length", "<i4"), ("start", "S4"), ("buffer", "<i4"), ("at", "<i4")])
    views["length"], views["start"] = size, b"xxxx"
    buffers = [None, pa.py_buffer(views.tobytes()), pa.py_buffer(b"x" * size)]
    return pa.table({"a": pa.Array.from_buffers(pa.string_view(), rows, buffers)})


BOMBS: list[Any] = [
    pytest.param("parquet", as_parquet(repeated()), id="parquet of a dictionary"),
    pytest.param("parquet", as_parquet(repeated(), store_schema=False), id="plain parquet"),
    pytest.param("parquet", as_parquet(repeated(), row_group_size=20), id="many row groups"),
    pytest.param("arrow", as_arrow(repeated()), id="stream of a dictionary"),
    pytest.param("arrow", as_arrow(viewed()), id="stream of views"),
    pytest.param("arrow", as_arrow(pa.table({"a": pa.nulls(5_000_000)})), id="stream of nothing"),
    pytest.param("parquet", as_parquet(pa.table({"a": pa.nulls(5_000_000)})), id="only gaps"),
    pytest.param(
        "parquet", as_parquet(pa.table({"a": np.zeros(2_000_000)})), id="one number again and again"
    ),
    pytest.param(
        "parquet", as_parquet(pa.table({"a": ["x" * MEGABYTE] * 30})), id="few long values"
    ),
]


@pytest.mark.parametrize(("kind", "content"), BOMBS)
def test_what_decodes_to_more_than_allowed_is_refused(
    tmp_path: Path, kind: Format, content: bytes
) -> None:
    assert len(content) < MEGABYTE
    error = refusal(tmp_path, TooLarge, content, kind, most=2 * MEGABYTE)
    assert "send it in parts" in error.detail


def test_what_decodes_to_less_is_read(tmp_path: Path) -> None:
    small = repeated(100)
    for kind, content in (("parquet", as_parquet(small)), ("arrow", as_arrow(small))):
        kind_: Format = "parquet" if kind == "parquet" else "arrow"
        assert ingested(tmp_path, content, kind_, most=2 * MEGABYTE).table.num_rows == 100


# ---------------------------------------------------------------- damage


def sample() -> pa.Table:
    random = np.random.default_rng(0)
    labels = [f"label {i % 17}" for i in range(500)]
    return pa.table({"x": random.normal(size=500), "label": labels, "n": np.arange(500)})


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kind: Format, share: float) -> None:
    content = WRITE[kind](sample())
    kept = max(9, int(share * len(content)))
    error = refusal(tmp_path, InvalidData, content[:kept], kind)
    assert "cannot be read" in error.detail or "no row" in error.detail


def test_a_stream_that_ends_between_batches_is_read(tmp_path: Path) -> None:
    """Its end mark is optional."""
    assert ingested(tmp_path, as_arrow(sample())[:-8], "arrow").table.num_rows == 500


@pytest.mark.parametrize("kind", BOTH)
def test_a_flipped_byte_is_read_or_refused_but_nothing_else(tmp_path: Path, kind: Format) -> None:
    content = WRITE[kind](sample())
    random = np.random.default_rng(1)
    for place in random.integers(4, len(content), 60):
        changed = bytearray(content)
        changed[place] ^= int(random.integers(1, 256))
        try:
            ingested(tmp_path, bytes(changed), kind, most=64 * MEGABYTE)
        except InvalidInput:
            assert [p.name for p in (tmp_path / "into").iterdir() if p.suffix != ".parquet"] == []
