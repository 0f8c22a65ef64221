"""What type a column is: decided by all of its cells, and told where it may surprise."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from app.errors import InvalidData
from app.ml.column_types.canonical import TypeName, column_type
from app.ml.column_types.text_parsing import datetimes, moments
from app.ml.tables import json_rows
from app.ml.tables.typed import ColumnOptions, assemble
from tests.support.files import as_arrow, as_parquet, column_of, csv_of, ingested, pointers, refusal

ZONED = pa.timestamp("us", tz="UTC")
NAIVE = pa.timestamp("us")


def found(folder: Path, cells: list[str], **types: TypeName) -> tuple[pa.DataType, list[Any]]:
    """The Arrow type and the values of a CSV column."""
    column = column_of(folder, cells, **types).table["c"]
    return column.type, column.to_pylist()


# ---------------------------------------------------------------- inferred


@pytest.mark.parametrize(
    ("cells", "arrow_type", "values"),
    [
        (["1", "2", "-3"], pa.int64(), [1, 2, -3]),
        (["1.0", "2", "+3e0"], pa.int64(), [1, 2, 3]),
        (["1.5", "2", ".25"], pa.float64(), [1.5, 2.0, 0.25]),
        (["1e-3", "2.", "-1E2"], pa.float64(), [0.001, 2.0, -100.0]),
        ([" 1 ", "2", "3"], pa.int64(), [1, 2, 3]),
        (["0", "-0", "0.5"], pa.float64(), [0.0, 0.0, 0.5]),
        (["-0", "5", "6"], pa.int64(), [0, 5, 6]),
        (["9007199254740991", "1", "2"], pa.int64(), [2**53 - 1, 1, 2]),
        (["9007199254740993", "1", "+2"], pa.int64(), [2**53 + 1, 1, 2]),
        (["9223372036854775807", "-9223372036854775808"], pa.int64(), [2**63 - 1, -(2**63)]),
        (["9007199254740993", "0.5"], pa.float64(), [2.0**53, 0.5]),
        (["1.7976931348623157e308", "5e-324"], pa.float64(), [1.7976931348623157e308, 5e-324]),
        (["true", "FALSE", "True"], pa.bool_(), [True, False, True]),
        ([" true", "false ", "fAlSe"], pa.bool_(), [True, False, False]),
        (["true", "1", "false"], pa.string(), ["true", "1", "false"]),
        (["yes", "no", "yes"], pa.string(), ["yes", "no", "yes"]),
        (["1", "0", "1"], pa.int64(), [1, 0, 1]),
        (["1", "2", "x"], pa.string(), ["1", "2", "x"]),
        (["a", " b ", "c"], pa.string(), ["a", " b ", "c"]),
        (["001", "2", "3"], pa.string(), ["001", "2", "3"]),
        (["-01", "2", "3"], pa.string(), ["-01", "2", "3"]),
        (["5", "2", "00.5"], pa.string(), ["5", "2", "00.5"]),
        ([" 001", "2", "3"], pa.string(), [" 001", "2", "3"]),
        (["1_000", "2", "3"], pa.int64(), [1000, 2, 3]),
        (["1_00", "2", "3"], pa.string(), ["1_00", "2", "3"]),
        (["0x1f", "2", "3"], pa.string(), ["0x1f", "2", "3"]),
        (["1e999", "2", "x"], pa.string(), ["1e999", "2", "x"]),
        (["inf", "2", "3"], pa.int64(), [None, 2, 3]),
        (["1", "", "NA"], pa.int64(), [1, None, None]),
        (["x", "nan", "null"], pa.string(), ["x", None, None]),
        (["true", "N/A", "NULL"], pa.bool_(), [True, None, None]),
        (["", "NA", "NaN"], pa.string(), [None, None, None]),
    ],
)
def test_a_columns_type_follows_from_all_its_cells(
    tmp_path: Path, cells: list[str], arrow_type: pa.DataType, values: list[Any]
) -> None:
    assert found(tmp_path, cells) == (arrow_type, values)


@pytest.mark.parametrize(
    ("many", "odd"), [("7", "x"), ("true", "maybe"), ("2026-11-23", "tomorrow"), ("7", "0.5")]
)
def test_the_type_is_found_by_the_last_row_too(tmp_path: Path, many: str, odd: str) -> None:
    kind, values = found(tmp_path, [many] * 100_000 + [odd])
    assert kind == (pa.float64() if odd == "0.5" else pa.string())
    assert values[-1] == (0.5 if odd == "0.5" else odd)


def test_a_column_is_typed_the_same_whatever_its_chunks() -> None:
    cells = ["5", "-0", "7", None, "1.5", "3"]
    whole = pa.chunked_array([pa.array(cells)])
    for at in range(len(cells)):
        pieces = pa.chunked_array([whole.chunk(0)[:at], whole.chunk(0)[at:]], pa.string())
        typed = assemble(
            {"a": pieces}, ColumnOptions(), lambda name, row: (name, str(row)), has_types=False
        )
        assert typed.table["a"].to_pylist() == [5, 0, 7, None, 1.5, 3]


@pytest.mark.parametrize(
    ("cells", "arrow_type", "values"),
    [
        (["2026-11-23", "1969-12-31"], pa.date32(), [date(2026, 11, 23), date(1969, 12, 31)]),
        (["2024-02-29", ""], pa.date32(), [date(2024, 2, 29), None]),
        (["0001-01-01", "9999-12-31"], pa.date32(), [date(1, 1, 1), date(9999, 12, 31)]),
        ([" 2026-11-23", "2026-11-24 "], pa.date32(), [date(2026, 11, 23), date(2026, 11, 24)]),
        (["2026-11-23T00:00:00", "2026-11-24"], pa.date32(), [date(2026, 11, d) for d in (23, 24)]),
        (
            ["2026-11-23T09:30:00", "2026-11-24 10:00", "2026-11-25"],
            NAIVE,
            [datetime(2026, 11, 23, 9, 30), datetime(2026, 11, 24, 10), datetime(2026, 11, 25)],
        ),
        (
            ["2026-11-23T09:30:00Z", "2026-11-23T09:30:00+02:00", "2026-11-23T09:30:00-0530"],
            ZONED,
            [datetime(2026, 11, 23, h, m, tzinfo=UTC) for h, m in ((9, 30), (7, 30), (15, 0))],
        ),
        (
            ["2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"],
            ZONED,
            [datetime(2026, 11, day, tzinfo=UTC) for day in (23, 24)],
        ),
        (
            ["2026-11-23T09:30:00.123456789", "2026-11-23T09:30:00.5"],
            NAIVE,
            [datetime(2026, 11, 23, 9, 30, 0, us) for us in (123456, 500000)],
        ),
    ],
)
def test_datetimes_are_days_or_moments(
    tmp_path: Path, cells: list[str], arrow_type: pa.DataType, values: list[Any]
) -> None:
    assert found(tmp_path, cells) == (arrow_type, values)
    by_json = json_rows.from_columns({"c": [cell or None for cell in cells]}).table["c"]
    assert (by_json.type, by_json.to_pylist()) == (arrow_type, values)


@pytest.mark.parametrize(
    "odd",
    [
        "2026-02-30",
        "2025-02-29",
        "2026-13-01",
        "2026-11-23T24:00:00",
        "2026-11-23T09:60:00",
        "2026-11-23T09:30:00+25:00",
        "23.11.2026",
        "11/23/2026",
        "10000-01-01",
        "today",
    ],
)
def test_what_is_no_datetime_makes_a_category_with_a_warning(tmp_path: Path, odd: str) -> None:
    typed = column_of(tmp_path, ["2026-11-23", "2026-11-23T09:30:00", odd])
    assert typed.types["c"] == "category"
    [note] = typed.notes
    assert f"line 4 holds '{odd}'" in note


def test_a_zone_among_datetimes_without_makes_a_category_unless_they_are_asked_for(
    tmp_path: Path,
) -> None:
    cells = ["2026-11-23", "2026-11-23T09:30:00Z", "", "2026-11-23T09:30:00+02:00"]
    typed = column_of(tmp_path, cells)
    assert typed.types["c"] == "category"
    assert 'types={"c":"datetime"}' in typed.notes[0]
    told = json_rows.from_columns({"c": [cell or None for cell in cells]}, {"c": "datetime"})
    for table in (column_of(tmp_path, cells, c="datetime"), told):
        assert column_type(table.table["c"].type) == "datetime"
        assert [value and value.isoformat() for value in table.table["c"].to_pylist()] == [
            "2026-11-23T00:00:00+00:00",
            "2026-11-23T09:30:00+00:00",
            None,
            "2026-11-23T07:30:00+00:00",
        ]


def test_finer_parts_than_microseconds_are_cut_alike_in_text_and_in_parquet(
    tmp_path: Path,
) -> None:
    texts = [
        "1969-12-31T23:59:59.999999999",
        "1969-12-31T23:59:59.999998500",
        "1970-01-01T00:00:00.000001500",
    ]
    told = column_of(tmp_path, texts).table["c"].to_pylist()
    kept = pa.table({"c": pa.array([-1, -1500, 1500], pa.timestamp("ns"))})
    assert ingested(tmp_path, as_parquet(kept), "parquet").table["c"].to_pylist() == told


@pytest.mark.parametrize("seconds", [-62_135_596_801, 253_402_300_800, 2**60])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_years_outside_1_to_9999_are_refused(
    tmp_path: Path, seconds: int, zone: str | None
) -> None:
    table = pa.table({"when": pa.array([0, seconds], pa.timestamp("s", zone))})
    error = refusal(tmp_path, InvalidData, as_arrow(table), "arrow")
    assert "outside the years 1 to 9999" in error.detail
    assert pointers(error) == ["/when"]
    days = pa.table({"when": pa.array([max(-(2**31), min(seconds, 2**31 - 1))], pa.date32())})
    assert pointers(refusal(tmp_path, InvalidData, as_parquet(days), "parquet")) == ["/when"]


def test_the_last_microsecond_of_9999_is_a_moment_like_others(tmp_path: Path) -> None:
    """Many databases write it for "never"."""
    stored = ingested(tmp_path, "t,x\n9999-12-31T23:59:59.999999,1\n2026-01-01T00:00:00,2\n")
    assert stored.types["t"] == "datetime"
    assert stored.summary.columns[0]["max"] == "9999-12-31T23:59:59.999999"


# ---------------------------------------------------------------- types asked for


def test_types_override_what_would_be_inferred(tmp_path: Path) -> None:
    typed = csv_of(
        tmp_path,
        "zip,code,flag,yes\n10115,007,TRUE,y\n20095,042,,No\n",
        {"zip": "category", "code": "number", "flag": "category", "yes": "boolean"},
    )
    assert typed.table.to_pydict() == {
        "zip": ["10115", "20095"],
        "code": [7, 42],
        "flag": ["TRUE", None],
        "yes": [True, False],
    }
    assert typed.notes == []


@pytest.mark.parametrize(
    ("wanted", "cells", "line", "value"),
    [
        ("number", ["1", "x", "y"], 3, "x"),
        ("number", ["1", "2", "one"], 4, "one"),
        ("boolean", ["yes", "0", "2"], 4, "2"),
        ("datetime", ["2026-11-23", "2026-11-31"], 3, "2026-11-31"),
        ("datetime", ["", "", "x"], 4, "x"),
    ],
)
def test_a_cell_that_is_not_of_the_wanted_type_is_named(
    tmp_path: Path, wanted: TypeName, cells: list[str], line: int, value: str
) -> None:
    with pytest.raises(InvalidData) as caught:
        csv_of(tmp_path, "a/b,c\n" + "".join(f"{cell},3\n" for cell in cells), {"a/b": wanted})
    assert pointers(caught.value) == [f"/line/{line}/a~1b"]
    assert f"'{value}' in line {line}" in caught.value.detail
    assert f"no {wanted}" in caught.value.detail


def test_a_column_that_has_a_type_can_be_asked_for_as_another() -> None:
    values: dict[str, list[Any]] = {"n": [1, 0, None], "b": [True, False, None], "f": [1.5, 2, 3]}
    types: dict[str, TypeName] = {"n": "boolean", "b": "number", "f": "category"}
    table = json_rows.from_columns(values, types).table
    assert table.to_pydict() == {
        "n": [True, False, None],
        "b": [1, 0, None],
        "f": ["1.5", "2", "3"],
    }


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([1e300, 2], "datetime"), ([True, False], "datetime"), ([1.5, 2], "boolean")],
)
def test_a_column_that_cannot_become_what_is_asked_for_is_named(
    tmp_path: Path, values: list[Any], wanted: TypeName
) -> None:
    content = as_parquet(pa.table({"a/b": values}))
    error = refusal(tmp_path, InvalidData, content, "parquet", types={"a/b": wanted})
    assert pointers(error)[0] in ("/types/a~1b", "/rows/0/a~1b")
    assert wanted in error.detail


@pytest.mark.parametrize("wanted", ["number", "boolean", "category", "text", "datetime"])
def test_a_column_without_a_value_takes_any_type_however_it_came(
    tmp_path: Path, wanted: TypeName
) -> None:
    types: dict[str, TypeName] = {"empty": wanted}
    by_json = json_rows.from_rows([{"a": 1, "empty": None}], types)
    assert by_json.types["empty"] == wanted
    by_csv = csv_of(tmp_path, "a,empty\n1,NA\n", types)
    assert by_csv.types["empty"] == wanted
    assert by_csv.table.equals(by_json.table)


@pytest.mark.parametrize(
    "kind", [pa.null(), pa.int64(), pa.float64(), pa.bool_(), pa.string(), ZONED, pa.date32()]
)
@pytest.mark.parametrize("wanted", [None, "number", "boolean", "category", "datetime"])
def test_a_column_without_a_value_is_the_same_whatever_arrow_called_it(
    tmp_path: Path, kind: pa.DataType, wanted: TypeName | None
) -> None:
    types: dict[str, TypeName] = {} if wanted is None else {"empty": wanted}
    table = pa.table({"a": [1], "empty": pa.array([None], kind)})
    by_csv = ingested(tmp_path, "a,empty\n1,\n", types=types)
    by_parquet = ingested(tmp_path, as_parquet(table), "parquet", types=types)
    assert by_parquet.types["empty"] == by_csv.types["empty"] == (wanted or "category")
    assert by_parquet.table.equals(by_csv.table)


def test_types_of_a_column_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="no column 'c'") as caught:
        csv_of(tmp_path, "a\n1\n", {"c": "number"})
    assert pointers(caught.value) == ["/types/c"]


@pytest.mark.parametrize("types", [{}, {"a": "category"}, {"a": "text"}])
def test_a_nul_character_is_refused_whatever_the_type(
    tmp_path: Path, types: dict[str, TypeName]
) -> None:
    error = refusal(tmp_path, InvalidData, '{"a":"x"}\n{"a":"x\\u0000y"}\n', "ndjson", types=types)
    assert "NUL" in error.detail
    assert pointers(error) == ["/line/2/a"]


# ---------------------------------------------------------------- helpers


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.bool_(), "boolean"),
        (pa.int64(), "number"),
        (pa.float64(), "number"),
        (pa.date32(), "datetime"),
        (ZONED, "datetime"),
        (pa.string(), "category"),
        (pa.dictionary(pa.int32(), pa.string()), "category"),
    ],
)
def test_every_canonical_arrow_type_has_a_name(kind: pa.DataType, name: str) -> None:
    assert column_type(kind) == name


def test_moments_with_and_without_zones_are_read_as_utc() -> None:
    read = moments(["2026-11-23", "2026-11-23T09:30:00+02:00", None, "2026-11-23T09:30"])
    assert read is not None
    assert read.to_pylist() == [
        datetime(2026, 11, 23, tzinfo=UTC),
        datetime(2026, 11, 23, 7, 30, tzinfo=UTC),
        None,
        datetime(2026, 11, 23, 9, 30, tzinfo=UTC),
    ]
    assert moments(["2026-11-23", "soon"]) is None
    assert datetimes(pa.chunked_array([["soon"]])) is None
