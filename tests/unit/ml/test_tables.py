"""Bytes or JSON in, one canonical table out, whatever it came in as."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidData
from app.ml import tables
from app.ml.csv_files import CSVOptions, read_csv
from app.ml.tables import ColumnType


def read(
    folder: Path,
    content: str | bytes,
    types: dict[str, ColumnType] | None = None,
    **options: Any,
) -> pa.Table:
    """A table from the content of a CSV file."""
    source = folder / "table.csv"
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_csv(source, CSVOptions(**options), types)


def types_of(table: pa.Table) -> dict[str, str]:
    return {column["name"]: column["type"] for column in tables.profile(table)}


# ---------------------------------------------------------------- CSV: types


@pytest.mark.parametrize(
    ("cells", "arrow_type", "values"),
    [
        (["1", "2", "-3"], pa.int64(), [1, 2, -3]),
        (["1.0", "2", "+3e0"], pa.int64(), [1, 2, 3]),
        (["1.5", "2", ".25"], pa.float64(), [1.5, 2.0, 0.25]),
        (["1e-3", "2.", "-1E2"], pa.float64(), [0.001, 2.0, -100.0]),
        ([" 1 ", "2", "3"], pa.int64(), [1, 2, 3]),
        (["0", "-0", "0.5"], pa.float64(), [0.0, 0.0, 0.5]),
        (["9007199254740991", "1", "2"], pa.int64(), [2**53 - 1, 1, 2]),
        (["9007199254740992", "1", "2"], pa.float64(), [2.0**53, 1.0, 2.0]),
        (["true", "FALSE", "True"], pa.bool_(), [True, False, True]),
        ([" true", "false ", "fAlSe"], pa.bool_(), [True, False, False]),
        (["true", "1", "false"], pa.string(), ["true", "1", "false"]),
        (["1", "2", "x"], pa.string(), ["1", "2", "x"]),
        (["a", " b ", "c"], pa.string(), ["a", " b ", "c"]),
        (["001", "2", "3"], pa.string(), ["001", "2", "3"]),
        (["-01", "2", "3"], pa.string(), ["-01", "2", "3"]),
        (["1_000", "2", "3"], pa.string(), ["1_000", "2", "3"]),
        (["0x1f", "2", "3"], pa.string(), ["0x1f", "2", "3"]),
        (["1", "", "NA"], pa.int64(), [1, None, None]),
        (["x", "nan", "null"], pa.string(), ["x", None, None]),
        (["true", "N/A", "NULL"], pa.bool_(), [True, None, None]),
        (["", "NA", "NaN"], pa.string(), [None, None, None]),
    ],
)
def test_a_columns_type_follows_from_all_its_cells(
    tmp_path: Path, cells: list[str], arrow_type: pa.DataType, values: list[Any]
) -> None:
    table = read(tmp_path, "c,other\n" + "".join(f"{cell},x\n" for cell in cells))
    assert table.schema.field("c").type == arrow_type
    assert table["c"].to_pylist() == values


def test_the_type_is_found_by_the_last_row_too(tmp_path: Path) -> None:
    cells = [str(i) for i in range(200_000)] + ["x"]
    assert types_of(read(tmp_path, "\n".join(["c", *cells]))) == {"c": "category"}


def test_types_override_what_would_be_inferred(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "zip,code,flag\n10115,007,TRUE\n20095,042,\n",
        {"zip": "category", "code": "number", "flag": "category"},
    )
    assert table.to_pydict() == {
        "zip": ["10115", "20095"],
        "code": [7, 42],
        "flag": ["TRUE", None],
    }


# ---------------------------------------------------------------- CSV: form


def test_quoted_fields_may_hold_the_delimiter_quotes_and_line_breaks(tmp_path: Path) -> None:
    table = read(tmp_path, 'note,n\n"one, two\nthree",1\n"say ""hi""",2\n')
    assert table.to_pydict() == {"note": ["one, two\nthree", 'say "hi"'], "n": [1, 2]}


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n").column_names == ["a", "b"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "iso-8859-15"])
def test_other_encodings_are_read_when_named(tmp_path: Path, encoding: str) -> None:
    table = read(tmp_path, "ort,zahl\nKöln,1\n".encode(encoding), encoding=encoding)
    assert table.to_pydict() == {"ort": ["Köln"], "zahl": [1]}


def test_without_a_header_columns_are_numbered(tmp_path: Path) -> None:
    table = read(tmp_path, "1,x\n2,y\n", header=False)
    assert table.to_pydict() == {"f0": [1, 2], "f1": ["x", "y"]}


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    table = read(tmp_path, f"a{delimiter}b\n1,5{delimiter}2\n", delimiter=delimiter)
    assert table.to_pydict() == {"a": ["1,5"], "b": [2]}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_endings_and_a_missing_last_one(tmp_path: Path, ending: str, last: bool) -> None:
    content = ending.join(["a,b", "1,x", "2,y"]) + (ending if last else "")
    assert read(tmp_path, content).to_pydict() == {"a": [1, 2], "b": ["x", "y"]}


# ---------------------------------------------------------------- CSV: errors


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="empty"):
        read(tmp_path, "")


@pytest.mark.parametrize("content", ["a,b\n", "a,b\r\n", "a,b"])
def test_a_header_alone_is_refused_with_the_remedy(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidData, match="no row; send at least one"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ("a,b\n1\n", 2, 1),
        ("a,b\n1,2\n3\n4,5\n", 3, 1),
        ("a,b\n1,2\n3,4\n5,6,7\n", 4, 3),
        pytest.param("a,b\n1,2\n\n3\n", 4, 1, id="after a blank line"),
        pytest.param('a,b\n"x\ny",2\n3\n', 4, 1, id="after a quoted line break"),
    ],
)
def test_a_ragged_line_is_named_by_its_number(
    tmp_path: Path, content: str, line: int, found: int
) -> None:
    with pytest.raises(InvalidData) as caught:
        read(tmp_path, content)
    assert f"line {line} has {found} fields, expected 2" in caught.value.detail
    assert caught.value.errors[0].pointer == f"/line/{line}"


def test_a_ragged_line_far_down_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="line 300002 has 1 fields"):
        read(tmp_path, "a,b\n" + "xyz,2\n" * 300_000 + "1\n")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a,a\n1,2\n", "'a' stands for two columns"),
        ("a,\n1,2\n", "column 2 has no name"),
        ("a,  \n1,2\n", "column 2 has no name"),
    ],
)
def test_every_column_has_a_name_of_its_own(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(InvalidData, match=problem):
        read(tmp_path, content)


@pytest.mark.parametrize("content", ["ort\nKöln\n", "größe\n1\n", "a\n" + "x\n" * 999_999 + "ö\n"])
def test_the_wrong_encoding_is_refused_with_the_remedy(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidData, match=r"not utf-8.*encoding=latin-1"):
        read(tmp_path, content.encode("latin-1"))


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13"])
def test_an_unknown_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(InvalidData, match=f"encoding '{encoding}'"):
        read(tmp_path, "a,b\n1,2\n", encoding=encoding)


@pytest.mark.parametrize("delimiter", ["·", "\n"])
def test_a_delimiter_that_cannot_be_one_is_refused(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(InvalidData, match="delimiter"):
        read(tmp_path, "a,b\n1,2\n", delimiter=delimiter)


@pytest.mark.parametrize(("wanted", "row", "value"), [("number", 1, "x"), ("boolean", 0, "1")])
def test_a_cell_that_is_not_of_the_wanted_type_is_named(
    tmp_path: Path, wanted: ColumnType, row: int, value: str
) -> None:
    with pytest.raises(InvalidData) as caught:
        read(tmp_path, "a/b,c\n1,2\nx,3\n", {"a/b": wanted})
    assert caught.value.errors[0].pointer == f"/rows/{row}/a~1b"
    assert f"'{value}'" in caught.value.detail
    assert wanted in caught.value.detail


def test_types_of_a_column_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="no column 'c'") as caught:
        read(tmp_path, "a\n1\n", {"c": "number"})
    assert caught.value.errors[0].pointer == "/types/c"


@pytest.mark.parametrize("wanted", ["number", "boolean", "category"])
def test_a_column_without_a_value_takes_any_type_however_it_came(
    tmp_path: Path, wanted: ColumnType
) -> None:
    types: dict[str, ColumnType] = {"empty": wanted}
    from_json = tables.from_rows([{"a": 1, "empty": None}], types)
    assert types_of(from_json)["empty"] == wanted
    assert read(tmp_path, "a,empty\n1,NA\n", types).equals(from_json)


# ---------------------------------------------------------------- JSON


def test_absent_keys_are_missing_and_columns_stand_in_order_of_appearance() -> None:
    table = tables.from_rows([{"b": 1}, {"a": True, "b": None}, {"c": "x"}])
    assert table.column_names == ["b", "a", "c"]
    assert table.to_pydict() == {
        "b": [1, None, None],
        "a": [None, True, None],
        "c": [None, None, "x"],
    }


def test_whole_and_fractional_numbers() -> None:
    table = tables.from_columns({"whole": [1, 2.0], "half": [1, 0.5]})
    assert table.schema.types == [pa.int64(), pa.float64()]


@pytest.mark.parametrize(
    ("rows", "pointer", "got"),
    [
        ([{"a": 1}, {"a": "x"}], "/source/rows/1/a", "the string 'x'"),
        ([{"a": 1}, {"a": True}], "/source/rows/1/a", "the boolean true"),
        ([{"a": True}, {"a": 0}], "/source/rows/1/a", "the number 0"),
        ([{"a": None}, {"a": "x"}, {"a": 2.5}], "/source/rows/2/a", "the number 2.5"),
        ([{"a": [1]}], "/source/rows/0/a", "a list"),
        ([{"a": {"b": 1}}], "/source/rows/0/a", "an object"),
        ([{"a/b~c": 1}, {"a/b~c": "x"}], "/source/rows/1/a~1b~0c", "the string 'x'"),
    ],
)
def test_mixed_types_are_refused_at_the_first_that_differs(
    rows: list[dict[str, Any]], pointer: str, got: str
) -> None:
    with pytest.raises(InvalidData) as caught:
        tables.from_rows(rows)
    assert caught.value.errors[0].pointer == pointer
    assert got in caught.value.detail


def test_mixed_types_in_columns_are_refused_with_a_pointer() -> None:
    with pytest.raises(InvalidData) as caught:
        tables.from_columns({"a": [1, 2, "x"]})
    assert caught.value.errors[0].pointer == "/source/columns/a/2"


def test_a_long_value_is_quoted_in_part() -> None:
    with pytest.raises(InvalidData) as caught:
        tables.from_rows([{"a": 1}, {"a": "x" * 10_000}])
    assert len(caught.value.detail) < 500


def test_mixed_types_named_category_become_text() -> None:
    table = tables.from_columns({"a": [1, True, "x", 1.5, None]}, {"a": "category"})
    assert table["a"].to_pylist() == ["1", "true", "x", "1.5", None]


def test_a_value_that_is_not_of_the_wanted_type_is_refused() -> None:
    with pytest.raises(InvalidData) as caught:
        tables.from_columns({"a": ["1", "2"]}, {"a": "number"})
    assert caught.value.errors[0].pointer == "/source/columns/a/0"


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(InvalidData, match="1 values where the first has 2") as caught:
        tables.from_columns({"a": [1, 2], "b/c": [1]})
    assert caught.value.errors[0].pointer == "/source/columns/b~1c"


def test_no_rows_are_refused() -> None:
    with pytest.raises(InvalidData, match="at least one"):
        tables.from_rows([])
    with pytest.raises(InvalidData, match="at least one"):
        tables.from_columns({"a": []})
    with pytest.raises(InvalidData, match="at least one"):
        tables.from_columns({})


def test_nan_and_infinity_are_missing() -> None:
    table = tables.from_columns({"a": [1.5, math.nan, math.inf, -math.inf]})
    assert table["a"].to_pylist() == [1.5, None, None, None]


# ---------------------------------------------------------------- equal content, equal bytes

_LETTERS = st.characters(exclude_categories=["C"], include_characters="\n", max_codepoint=0x2FFF)
_NUMBERS = st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
_SMALL_NUMBERS = st.integers(-1000, 1000)
_CATEGORIES = st.text(_LETTERS, max_size=12).map("c{}".format)  # no number, boolean or marker


@st.composite
def columns(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Named columns of one length, each of one type with gaps."""
    names = draw(st.lists(_CATEGORIES, min_size=1, max_size=4, unique=True))
    rows = draw(st.integers(1, 12))
    kinds = [_NUMBERS, _SMALL_NUMBERS, st.booleans(), _CATEGORIES]
    return {
        name: draw(
            st.sampled_from(kinds).flatmap(
                lambda kind: st.lists(st.none() | kind, min_size=rows, max_size=rows)
            )
        )
        for name in names
    }


def as_csv(values: dict[str, list[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(values)
    writer.writerows(zip(*values.values(), strict=True))
    return text.getvalue().encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def stored(table: pa.Table, folder: Path) -> bytes:
    tables.write(table, folder / tables.FILE)
    return (folder / tables.FILE).read_bytes()


@given(columns())
def test_csv_rows_and_columns_give_the_same_bytes(
    folder: Path, values: dict[str, list[Any]]
) -> None:
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    from_columns = stored(tables.from_columns(values), folder)
    assert stored(tables.from_rows(rows), folder) == from_columns
    assert stored(read(folder, as_csv(values)), folder) == from_columns


@given(columns())
def test_a_stored_table_reads_back_as_it_was(folder: Path, values: dict[str, list[Any]]) -> None:
    table = tables.from_columns(values)
    tables.write(table, folder / tables.FILE)
    assert tables.read(folder / tables.FILE).equals(table)
    chosen = list(values)[::-1][:2]
    assert tables.read(folder / tables.FILE, chosen).equals(table.select(chosen))


# ---------------------------------------------------------------- rows in pages


@pytest.fixture(scope="module")
def long_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """140,000 rows: three row groups."""
    path = tmp_path_factory.mktemp("long") / tables.FILE
    numbers = np.arange(140_000)
    tables.write(pa.table({"n": numbers, "odd": numbers % 2 == 1}), path)
    return path


@pytest.mark.parametrize(
    ("offset", "limit", "expected"),
    [
        (0, 3, [0, 1, 2]),
        (65_534, 4, [65_534, 65_535, 65_536, 65_537]),
        (65_536, 1, [65_536]),
        (139_998, 100, [139_998, 139_999]),
        (140_000, 10, []),
        (999_999, 10, []),
        (5, 0, []),
    ],
)
def test_pages_cross_row_groups(
    long_table: Path, offset: int, limit: int, expected: list[int]
) -> None:
    rows = tables.read_rows(long_table, offset, limit)
    assert rows == [{"n": n, "odd": n % 2 == 1} for n in expected]


def test_a_page_may_span_a_whole_row_group(long_table: Path) -> None:
    rows = tables.read_rows(long_table, 60_000, 75_000)
    assert [row["n"] for row in rows] == list(range(60_000, 135_000))


# ---------------------------------------------------------------- profile and warnings


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=3, max_size=40))
def test_the_profile_of_numbers_is_numpys(values: list[float | None]) -> None:
    table = tables.from_columns({"a": values}, {"a": "number"})
    facts = tables.profile(table)[0]
    present = np.array([value for value in values if value is not None])
    assert facts["missing"] == len(values) - len(present)
    assert facts["distinct"] == len(np.unique(present))
    if len(present) < 2:
        assert facts["std"] is None
        return
    assert facts["min"] == present.min()
    assert facts["max"] == present.max()
    assert facts["mean"] == pytest.approx(present.mean(), rel=1e-9, abs=1e-9)
    assert facts["std"] == pytest.approx(present.std(ddof=1), rel=1e-9, abs=1e-6)


def test_the_profile_of_large_whole_numbers_does_not_overflow() -> None:
    values = [2**52 + i for i in range(5000)]
    facts = tables.profile(tables.from_columns({"a": values}))[0]
    assert facts["mean"] == pytest.approx(2**52 + 2499.5, abs=1)
    assert facts["std"] == pytest.approx(np.arange(5000).std(ddof=1))


def test_the_profile_says_whether_numbers_are_whole() -> None:
    table = tables.from_columns({"whole": [1, 2], "half": [0.5, 1]})
    assert [column["integer"] for column in tables.profile(table)] == [True, False]


def test_the_profile_of_categories_counts_the_most_frequent_first() -> None:
    values = ["b", "a", "b", None, "c", "a"] + [f"z{i:02}" for i in range(20)]
    facts = tables.profile(tables.from_columns({"a": values}))[0]
    assert facts["type"] == "category"
    assert facts["missing"] == 1
    assert facts["distinct"] == 23
    assert facts["top"][:4] == [["a", 2], ["b", 2], ["c", 1], ["z00", 1]]
    assert len(facts["top"]) == 10


def test_the_profile_of_booleans() -> None:
    facts = tables.profile(tables.from_columns({"a": [True, False, True, None]}))[0]
    assert facts["type"] == "boolean"
    assert facts["top"] == [[True, 2], [False, 1]]


def warned(values: dict[str, list[Any]]) -> list[str]:
    table = tables.from_columns(values)
    return tables.warnings(tables.profile(table), table.num_rows)


def test_constant_and_empty_columns_are_warned_of() -> None:
    notes = warned({"same": [1, 1, 1], "empty": [None, None, None], "fine": [1, 2, 2]})
    assert notes == ["column 'same' is constant", "column 'empty' is empty"]


def test_a_single_row_is_not_called_constant() -> None:
    assert warned({"a": [1]}) == []


def test_names_and_row_numbers_look_like_identifiers() -> None:
    numbers = list(range(30))
    notes = warned(
        {
            "id": numbers,
            "customer_id": numbers,
            "name": [f"n{i}" for i in numbers],
            "price": numbers,
            "width_id": [0.5 + i for i in numbers],
            "few": [i % 7 for i in numbers],
        }
    )
    assert notes == [
        f"column '{name}' looks like an identifier" for name in ("id", "customer_id", "name")
    ]
