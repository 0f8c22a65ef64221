"""JSON as tables: rows and columns of a request, and one object a line."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidData, InvalidJSON, TooLarge
from app.ml.column_types.notations.notation import CellOptions
from app.ml.tables import json_files, json_rows
from app.ml.tables.json_values import Types
from tests.support.files import as_ndjson, ingested, pointers, refusal

BLOCK = 100
"""Lines that are made columns of at once, here."""


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "_ROWS_AT_ONCE", BLOCK)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# ---------------------------------------------------------------- in a request


def test_absent_keys_are_missing_and_columns_stand_in_order_of_appearance() -> None:
    table = json_rows.from_rows([{"b": 1}, {"a": True, "b": None}, {"c": "x"}]).table
    assert table.column_names == ["b", "a", "c"]
    assert table.to_pydict() == {
        "b": [1, None, None],
        "a": [None, True, None],
        "c": [None, None, "x"],
    }


def test_whole_and_fractional_numbers() -> None:
    values: dict[str, list[Any]] = {
        "whole": [1, 2.0],
        "half": [1, 0.5],
        "large": [2**53 + 1, 1],
        "both": [2**53, 0.5],
    }
    table = json_rows.from_columns(values).table
    assert table.schema.types == [pa.int64(), pa.float64(), pa.int64(), pa.float64()]
    assert table["large"].to_pylist() == [2**53 + 1, 1]


@pytest.mark.parametrize(
    ("rows", "pointer", "got"),
    [
        ([{"a": 1}, {"a": "x"}], "/source/rows/1/a", "the string 'x'"),
        ([{"a": 1}, {"a": True}], "/source/rows/1/a", "the boolean true"),
        ([{"a": 1.5}, {"a": True}], "/source/rows/1/a", "the boolean true"),
        ([{"a": True}, {"a": 0}], "/source/rows/1/a", "the number 0"),
        ([{"a": None}, {"a": "x"}, {"a": 2.5}], "/source/rows/2/a", "the number 2.5"),
        ([{"a": [1]}], "/source/rows/0/a", "a list"),
        ([{"a/b~c": 1}, {"a/b~c": "x"}], "/source/rows/1/a~1b~0c", "the string 'x'"),
    ],
)
def test_mixed_types_are_refused_at_the_first_that_differs(
    rows: list[dict[str, Any]], pointer: str, got: str
) -> None:
    with pytest.raises(InvalidData) as caught:
        json_rows.from_rows(rows)
    assert pointers(caught.value) == [pointer]
    assert got in caught.value.detail


@pytest.mark.parametrize(
    ("values", "expected", "missing_as"),
    [
        ([1, "N/A", 3], [1, None, 3], {"N/A": 1}),
        ([1.037, "-", "2.5"], [1.037, None, 2.5], {"-": 1}),
        ([1.037, "n/a", "2,5"], [1.037, None, 2.5], {"n/a": 1}),
        ([1, "2", None], [1, 2, None], {}),
        ([True, "N/A", False], [True, None, False], {"N/A": 1}),
    ],
)
def test_strings_beside_values_are_read_where_all_of_them_can_be(
    values: list[Any], expected: list[Any], missing_as: dict[str, int]
) -> None:
    """Whatever their marks, JSON's own numbers are what they are."""
    typed = json_rows.from_columns({"a": values})
    assert typed.table["a"].to_pylist() == expected
    assert (typed.cells["a"].missing_as if "a" in typed.cells else {}) == missing_as
    assert any("taken as missing" in note for note in typed.notes) == bool(missing_as)


def test_options_hold_for_strings_beside_numbers() -> None:
    values = {"a": [1.037, "gone", "2.500,5", 7]}
    with pytest.raises(InvalidData, match="on_error=missing") as caught:
        json_rows.from_columns(values)
    assert pointers(caught.value) == ["/source/columns/a/1"]
    for options in (CellOptions(na_values=("gone",)), CellOptions(on_error="missing")):
        types: Types = {} if options.na_values else {"a": "number"}
        typed = json_rows.from_columns(values, types, options)
        assert typed.table["a"].to_pylist() == [1.037, None, 2500.5, 7]


def test_what_a_string_may_change_is_not_changed() -> None:
    """0.1 may be 10%, and floats do not tell large integers apart."""
    with pytest.raises(InvalidData):
        json_rows.from_columns({"a": [0.12, "12%", 0.2]})
    large = json_rows.from_columns({"a": [2**60, "N/A", 2**60 + 3]})
    assert large.table["a"].to_pylist() == [2**60, None, 2**60 + 3]
    marked = json_rows.from_columns({"a": ["?", None]}, {"a": "number"})
    assert marked.table["a"].to_pylist() == [None, None]
    assert marked.cells["a"].missing_as == {"?": 1}
    with pytest.raises(InvalidData, match="'1,037'"):
        json_rows.from_columns({"a": [1500, "1,037"]}, {"a": "number"})
    said = CellOptions(date_format="%M:%S")
    assert json_rows.from_columns({"a": ["3:45"]}, {}, said).table["a"].to_pylist() == [225]


def test_mixed_types_in_columns_are_refused_with_a_pointer() -> None:
    with pytest.raises(InvalidData) as caught:
        json_rows.from_columns({"a": [1, 2, "x"]})
    assert pointers(caught.value) == ["/source/columns/a/2"]


def test_a_long_value_is_quoted_in_part() -> None:
    with pytest.raises(InvalidData) as caught:
        json_rows.from_rows([{"a": 1}, {"a": "x" * 10_000}])
    assert len(caught.value.detail) < 500


def test_mixed_types_named_category_become_text() -> None:
    table = json_rows.from_columns({"a": [1, True, "x", 1.5, None]}, {"a": "category"}).table
    assert table["a"].to_pylist() == ["1", "true", "x", "1.5", None]


@pytest.mark.parametrize("value", [[1], {"b": 1}])
def test_nested_values_are_no_category_either(value: Any) -> None:
    with pytest.raises(InvalidData) as caught:
        json_rows.from_columns({"a": ["x", value]}, {"a": "category"})
    assert pointers(caught.value) == ["/source/columns/a/1"]


def test_strings_are_read_as_what_was_asked_for() -> None:
    """JSON has types, so numbers in quotes are strings unless a request says otherwise."""
    assert json_rows.from_columns({"a": ["1", "2"]}).types == {"a": "category"}
    asked = json_rows.from_columns({"a": ["1", "2"]}, {"a": "number"})
    assert asked.table["a"].to_pylist() == [1, 2]
    with pytest.raises(InvalidData) as caught:
        json_rows.from_columns({"a": ["1", "x"]}, {"a": "number"})
    assert pointers(caught.value) == ["/source/columns/a/1"]


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(InvalidData, match="1 values where the first has 2") as caught:
        json_rows.from_columns({"a": [1, 2], "b/c": [1]})
    assert pointers(caught.value) == ["/source/columns/b~1c"]


def test_what_is_no_row_or_no_column_is_pointed_at() -> None:
    with pytest.raises(InvalidData) as caught:
        json_rows.from_rows([{"a": 1}, [1]])  # type: ignore[list-item]
    assert pointers(caught.value) == ["/source/rows/1"]
    with pytest.raises(InvalidData) as caught:
        json_rows.from_columns({"a": [1], "b": 1})  # type: ignore[dict-item]
    assert pointers(caught.value) == ["/source/columns/b"]


@pytest.mark.parametrize("rows", [[], [{}, {}]])
def test_no_rows_are_refused(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidData, match="at least one"):
        json_rows.from_rows(rows)


@pytest.mark.parametrize("columns", [{}, {"a": []}, {"a": [], "b": []}])
def test_no_columns_are_refused(columns: dict[str, list[Any]]) -> None:
    with pytest.raises(InvalidData, match="at least one"):
        json_rows.from_columns(columns)


def test_rows_with_keys_of_their_own_are_too_many_cells() -> None:
    with pytest.raises(InvalidData, match="too many cells") as caught:
        json_rows.from_rows([{f"c{i}": 1} for i in range(5_000)])
    assert pointers(caught.value) == ["/source/rows"]
    with pytest.raises(InvalidData, match="10000 columns are too many"):
        json_rows.from_rows([{f"c{i}": 1} for i in range(10_001)])


def test_nan_and_infinity_are_missing() -> None:
    """JSON knows neither; they can only come from Python."""
    assert json_rows.from_columns({"a": [1.5, math.nan]}).table["a"].to_pylist() == [1.5, None]
    for odd in (math.inf, -math.inf):
        typed = json_rows.from_columns({"a": [1.5, odd]})
        assert typed.table["a"].to_pylist() == [1.5, None]
        assert "1 cell holds infinity" in typed.notes[0]
        with pytest.raises(InvalidData, match="infinity in row 1") as caught:
            json_rows.from_columns({"a": [1.5, odd]}, {"a": "number"})
        assert pointers(caught.value) == ["/source/columns/a/1"]


def test_members_of_objects_are_columns() -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "user": {"age": 3, "geo": {"lat": 0.5}}},
        {"id": 2, "user": {}},
        {"id": 3},
    ]
    typed = json_rows.from_rows(rows)
    assert typed.table.to_pydict() == {
        "id": [1, 2, 3],
        "user.age": [3, None, None],
        "user.geo.lat": [0.5, None, None],
    }


def test_lists_are_left_out_with_a_warning() -> None:
    typed = json_rows.from_rows([{"a": 1, "l": [1]}, {"a": 2, "l": None}])
    assert typed.table.column_names == ["a"]
    assert "column 'l' holds lists" in typed.notes[0]
    with pytest.raises(InvalidData, match="a cell is a single value"):
        json_rows.from_rows([{"a": 1, "l": [1]}], {"l": "category"})


# ---------------------------------------------------------------- one object a line


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    stored = ingested(tmp_path, '\n{"a":1}\n\n  \r\n{"a":2,"b":"x"}\r\n\n', "ndjson")
    assert stored.table.to_pydict() == {"a": [1, 2], "b": [None, "x"]}


def test_columns_may_begin_late(tmp_path: Path) -> None:
    content = '{"a":1}\n' * (BLOCK + 5) + '{"b":"x","a":2}\n' + '{"a":3}\n' * BLOCK
    table = ingested(tmp_path, content, "ndjson").table
    assert table["a"].null_count == 0
    assert table["b"].drop_null().to_pylist() == ["x"]
    assert table["b"][BLOCK + 5].as_py() == "x"


@pytest.mark.parametrize("first", [1, 1.5, None])
@pytest.mark.parametrize("later", [1, 1.5, None])
def test_numbers_of_both_kinds_are_one_column_across_blocks(
    tmp_path: Path, first: float | None, later: float | None
) -> None:
    content = lines(*[{"a": first, "n": 0}] * BLOCK, *[{"a": later, "n": 0}] * 5)
    together = ingested(tmp_path, content, "ndjson")
    assert together.types["a"] == ("category" if first is later is None else "number")
    ends = [together.table["a"][row].as_py() for row in (0, BLOCK - 1, BLOCK, BLOCK + 4)]
    assert ends == [first, first, later, later]


@pytest.mark.parametrize("first", [1, 1.5, "x", True])
@pytest.mark.parametrize("later", [1, 1.5, "x", "7", True])
@pytest.mark.parametrize("between", [[], [2.5]])
def test_types_that_differ_between_blocks_are_refused_at_their_line(
    tmp_path: Path, first: Any, later: Any, between: list[Any]
) -> None:
    kinds = {int: "number", float: "number", str: "string", bool: "boolean"}
    if between and kinds[type(first)] != "number":
        return
    values = [first] * BLOCK + between * BLOCK + [None, later]
    content = lines(*[{"a": value, "n": 0} for value in values])
    same = kinds[type(first)] == kinds[type(later)]
    if same or (kinds[type(first)] == "number" and later == "7"):
        ingested(tmp_path, content, "ndjson")
        return
    error = refusal(tmp_path, InvalidData, content, "ndjson")
    assert pointers(error) == [f"/line/{len(values)}/a"]
    assert f"wants a {kinds[type(first)]}" in error.detail


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ('{"a":1,"a":2}', "'a' stands twice"),
        ('{"a":1,"\\u0061":2}', "'a' stands twice"),
        ('{"a":1, "b":{"c":1,"c":2}}', "'c' stands twice"),
        ('{"a":Infinity}', "Infinity is no JSON number"),
        ('{"a":-Infinity}', "-Infinity is no JSON number"),
        ('{"a":1e999}', "beyond float64"),
        ('{"a":9223372036854775808}', "beyond 63 bits"),
        ('{"a":18446744073709551616}', "beyond 63 bits"),
        ('{"a":-9223372036854775809}', "beyond 63 bits"),
        ('{"a":-9223372036854776832}', "beyond 63 bits"),
        ('{"a":' + "1" * 5000 + "}", "beyond 63 bits"),
        ('{"a":"\\ud800"}', "lone surrogate"),
        ('{"\\udfff":1}', "lone surrogate"),
        ('{"a":1', "cut off"),
        ('{"a":1}}', "Extra data"),
        ('{"a":1} {"a":2}', "Extra data"),
        ("{'a':1}", "Expecting"),
        ('{"a":01}', "Expecting"),
        ('{"a":"x\ty"}', "control character"),
        ('{"a":1,}', ""),
        ("[" * 100 + "]" * 100, "nested deeper"),
    ],
)
def test_a_line_that_is_no_strict_json_is_named(tmp_path: Path, bad: str, problem: str) -> None:
    error = refusal(tmp_path, InvalidJSON, f'{{"a":1}}\n\n{bad}\n', "ndjson")
    assert error.detail.startswith("line 3: ")
    assert problem in error.detail


def test_a_line_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path, InvalidData, b'{"a":"x"}\n{"a":"K\xf6ln"}\n', "ndjson")
    assert error.detail.startswith("line 2 is not UTF-8")
    assert "encoding=cp1252" in error.detail


@pytest.mark.parametrize("bad", ["[1,2]", "3", '"x"', "null", "true"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, bad: str) -> None:
    error = refusal(tmp_path, InvalidData, f'{{"a":1}}\n{bad}\n', "ndjson")
    assert pointers(error) == ["/line/2"]


@pytest.mark.parametrize("nested", ["[1]", "[]"])
def test_lists_alone_are_refused_at_their_line(tmp_path: Path, nested: str) -> None:
    error = refusal(tmp_path, InvalidData, f'{{"a/b":1}}\n\n{{"a/b":{nested}}}\n', "ndjson")
    assert pointers(error) == ["/line/3/a~1b"]


def test_a_line_that_is_too_long_is_refused(tmp_path: Path) -> None:
    content = '{"a":"x"}\n{"a":"' + "x" * (9 << 20) + '"}\n'
    error = refusal(tmp_path, InvalidData, content, "ndjson")
    assert pointers(error) == ["/line/2"]
    assert "8 MiB" in error.detail


def test_rows_of_many_different_keys_are_refused_by_what_their_gaps_take(tmp_path: Path) -> None:
    content = lines(*({f"c{i % 1000}": 1} for i in range(3000)))
    error = refusal(tmp_path, TooLarge, content, "ndjson", most=1_000_000)
    assert "rows of 400 columns are too many cells" in error.detail
    lone = lines(*({f"c{i * 200 + j}": 1 for j in range(200)} for i in range(51)))
    assert "columns are too many" in refusal(tmp_path, InvalidData, lone, "ndjson").detail


@pytest.mark.parametrize("name", ["", "  ", "x" * 257])
def test_names_are_those_of_other_formats(tmp_path: Path, name: str) -> None:
    refusal(tmp_path, InvalidData, lines({"a": 1, name: 2}), "ndjson")


@pytest.mark.parametrize("encoding", [None, "utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_passed_over_with_and_without_a_charset(
    tmp_path: Path, encoding: str | None
) -> None:
    content = b'\xef\xbb\xbf{"a":1}\n'
    assert ingested(tmp_path, content, "ndjson", encoding=encoding).table["a"].to_pylist() == [1]


_PLAIN = st.none() | st.booleans() | st.text(max_size=5) | st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=4), _PLAIN), min_size=1, max_size=5))
def test_a_line_means_what_pythons_reader_says(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        text = json.dumps(row, ensure_ascii=False)
        if not any("\ud800" <= letter <= "\udfff" for letter in text):
            assert json_files._row(text.encode(), 1) == row
            assert json_files._row(as_ndjson({"k": [1]}), 1) == {"k": 1}


@pytest.mark.parametrize("text", ["{}", "{}\n{}\n", "[{}]"])
def test_rows_without_a_column_are_told_so(tmp_path: Path, text: str) -> None:
    assert "no row has a column" in refusal(tmp_path, InvalidData, text, "ndjson").detail
