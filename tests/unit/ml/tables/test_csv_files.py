"""CSV files in UTF-8: their form, and every way in which one can be wrong, by line."""

from pathlib import Path

import pyarrow.compute as pc
import pytest

from app.errors import InvalidData
from app.ml.column_types.notations.notation import CellOptions
from tests.support.files import csv_of, ingested, pointers
from tests.support.soak import soak_only

MEGABYTE = 1 << 20


def refused(folder: Path, content: str | bytes, **options: object) -> InvalidData:
    with pytest.raises(InvalidData) as caught:
        csv_of(folder, content, **options)  # type: ignore[arg-type]
    assert len(caught.value.detail) < 700
    return caught.value


# ---------------------------------------------------------------- form


def test_quoted_fields_may_hold_the_delimiter_quotes_and_line_breaks(tmp_path: Path) -> None:
    table = csv_of(tmp_path, 'note,n\n"one, two\nthree",1\n"say ""hi""",2\n').table
    assert table.to_pydict() == {"note": ["one, two\nthree", 'say "hi"'], "n": [1, 2]}


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert csv_of(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n").table.column_names == ["a", "b"]
    assert csv_of(tmp_path, b'\xef\xbb\xbf"a","b"\n1,2\n').table.column_names == ["a", "b"]


def test_without_a_header_columns_are_numbered(tmp_path: Path) -> None:
    table = csv_of(tmp_path, "1,x\n2,y\n", header=False).table
    assert table.to_pydict() == {"f0": [1, 2], "f1": ["x", "y"]}


@pytest.mark.parametrize("delimiter", [";", "\t", "|", " ", "~"])
def test_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    table = csv_of(tmp_path, f"a{delimiter}b\n1,5{delimiter}2\n", delimiter=delimiter).table
    assert table.to_pydict() == {"a": [1.5], "b": [2]}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a;b;c\n1,5;2,5;3\n", ["a", "b", "c"]),
        ("a\tb\nx,y\tz\n", ["a", "b"]),
        ("a|b|c,d\n1|2|3\n", ["a", "b", "c,d"]),
        ('"a;b;c",d\nx,1\n', ["a;b;c", "d"]),
        ("a,b;c\n1,2\n", ["a", "b;c"]),
        ("\n\na;b\n1;2\n", ["a", "b"]),
        ("\r\n\r\na;b\r\n1;2\r\n", ["a", "b"]),
        ("a\n1\n", ["a"]),
    ],
)
def test_the_delimiter_is_found_in_the_header_line(
    tmp_path: Path, content: str, names: list[str]
) -> None:
    assert csv_of(tmp_path, content).table.column_names == names


def test_a_delimiter_that_was_named_is_not_guessed(tmp_path: Path) -> None:
    assert csv_of(tmp_path, "a;b,c\n1;2,3\n", delimiter=",").table.column_names == ["a;b", "c"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_endings_and_a_missing_last_one(tmp_path: Path, ending: str, last: bool) -> None:
    content = ending.join(["a,b", "1,x", "2,y"]) + (ending if last else "")
    assert csv_of(tmp_path, content).table.to_pydict() == {"a": [1, 2], "b": ["x", "y"]}


def test_many_blocks_are_one_table(tmp_path: Path) -> None:
    """Arrow reads 8 MiB at a time."""
    rows = 1_200_000
    table = csv_of(tmp_path, "n,label\n" + "".join(f"{i},row {i % 7}\n" for i in range(rows))).table
    assert table.num_rows == rows
    assert table["n"][rows - 1].as_py() == rows - 1
    assert table["label"][rows - 1].as_py() == f"row {(rows - 1) % 7}"


@pytest.mark.parametrize(
    "content",
    [
        'a,b\n1,"x"\n',
        'a,b\n1,"x\n"\n',
        'a,b\n1,"x\n"',
        'a,b\n1,""\n',
        'a,b\n1,""',
        'a,b\n1,"say ""x"""',
        "a,b\n1,NA",
        "a,b\n1,",
        'a\n""\n1\n""',
        'a,b\n1,5" pipe',
        "a,b\n1," + "x" * 9000,
        'a,b\n1,"' + 'x"",\n' * 3000 + '"',
    ],
)
def test_quotes_that_are_closed_are_not_taken_for_open_ones(tmp_path: Path, content: str) -> None:
    assert csv_of(tmp_path, content).table.num_rows in (1, 3)


# ---------------------------------------------------------------- errors


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    for content in ("", "\n", "\n\r\n\n"):
        assert "empty" in refused(tmp_path, content).detail


@pytest.mark.parametrize("content", ["a,b\n", "a,b\r\n", "a,b", '"a","b"', "\n\na,b\n\n\n"])
def test_a_header_alone_is_refused_with_the_remedy(tmp_path: Path, content: str) -> None:
    assert "no row; send at least one" in refused(tmp_path, content).detail


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ("a,b\n1\n", 2, 1),
        ("a,b\n1,2\n3\n4,5\n", 3, 1),
        ("a,b\n1,2\n3,4\n5,6,7\n", 4, 3),
        pytest.param("a,b\n1,2\n\n3\n", 4, 1, id="after a blank line"),
        pytest.param('a,b\n"x\ny",2\n3\n', 4, 1, id="after a quoted line break"),
        pytest.param("\n\na,b\n1,2\n3\n", 5, 1, id="after blank lines before the header"),
        pytest.param("a,b\r\n1,2\r\n3\r\n", 3, 1, id="with CRLF"),
    ],
)
def test_a_ragged_line_is_named_by_its_number(
    tmp_path: Path, content: str, line: int, found: int
) -> None:
    error = refused(tmp_path, content)
    fields = "1 field" if found == 1 else f"{found} fields"
    assert f"line {line} has {fields}, expected 2" in error.detail
    assert pointers(error) == [f"/line/{line}"]
    assert error.errors[0].code == "ragged"


@pytest.mark.parametrize("extra", ["\xff", "é", "x" * 1000])
def test_a_ragged_line_of_any_bytes_says_little_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], extra: str
) -> None:
    error = refused(tmp_path, f"a,b\n1,2\n3,{extra},5\n".encode("latin-1"))
    assert error.detail.startswith("the CSV is ragged: line 3 has 3 fields, expected 2")
    assert len(error.detail) < 200
    assert capfd.readouterr() == ("", "")


def test_a_ragged_line_far_down_is_named_too(tmp_path: Path) -> None:
    error = refused(tmp_path, "a,b\n" + "xyz,2\n" * 300_000 + "1\n")
    assert "line 300002 has 1 field," in error.detail


def test_a_ragged_file_tells_the_delimiter_that_was_guessed(tmp_path: Path) -> None:
    assert "between ','; if another" in refused(tmp_path, "a,b\n1,2\n3\n").detail
    assert "between a tab; if another" in refused(tmp_path, "a\tb\n1\t2\n3\n").detail
    assert "between" not in refused(tmp_path, "a,b\n1,2\n3\n", delimiter=",").detail


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a,\0\n1,2\n", "the name of column 2 holds a NUL"),
        ("a," + "b" * 257 + "\n1,2\n", "has 257 characters; at most 256"),
    ],
)
def test_every_column_has_a_name_of_its_own(tmp_path: Path, content: str, problem: str) -> None:
    assert problem in refused(tmp_path, content).detail


@pytest.mark.parametrize(
    ("content", "names", "said"),
    [
        ("a,a\n1,2\n", ["a", "a_2"], "the second 'a' is 'a_2' here"),
        ("a,a,a_2\n1,2,3\n", ["a", "a_3", "a_2"], "the second 'a' is 'a_3' here"),
        ("a,b,b,a\n1,2,3,4\n", ["a", "b", "b_2", "a_2"], "stand twice"),
        ("a,\n1,2\n", ["a", "column_2"], "column 2 has no name"),
        ("a,  \n1,2\n", ["a", "column_2"], "column 2 has no name"),
        ("a,b,,\n1,2,3,\n", ["a", "b", "column_3"], "column 3 has no name"),
        (",b\n1,2\n", ["index", "b"], ""),
        (",b\n,2\n", ["b"], ""),
    ],
)
def test_names_that_are_missing_or_stand_twice(
    tmp_path: Path, content: str, names: list[str], said: str
) -> None:
    typed = csv_of(tmp_path, content)
    assert typed.table.column_names == names
    assert said in " ".join(typed.notes)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("ort\nKöln\n", 2),
        ("größe\n1\n", 1),
        ("a,b\n1,2\n3,4\nKöln,ö\n", 4),
        pytest.param("a\n" + "x\n" * 999_999 + "ö\n", 1_000_001, id="far down"),
    ],
)
def test_the_wrong_encoding_is_refused_with_the_line_and_the_remedy(
    tmp_path: Path, content: str, line: int
) -> None:
    error = refused(tmp_path, content.encode("latin-1"))
    assert f"line {line} is not UTF-8" in error.detail
    assert "encoding=cp1252" in error.detail
    assert pointers(error) == [f"/line/{line}"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param('a,b\n1,2\n3,"x', 3, id="last line without newline"),
        pytest.param('a,b\n1,2\n3,"x\n', 3, id="last line with newline"),
        pytest.param('a,b\n1,2\n3,"x\r\n', 3, id="last line with CRLF"),
        pytest.param('a,b\n1,2\n3,"', 3, id="a quote at the very end"),
        pytest.param('a,b\n1,2\n3,"\n', 3, id="a quote and a newline at the end"),
        pytest.param('a,b\n1,"x\n2,y\n3,z\n', 2, id="in the middle of the last column"),
        pytest.param('a,b\n1,2\n3,"x""', 3, id="a doubled quote at the end"),
        pytest.param('a,b\n1,2\n3,"NA', 3, id="a marker of missing values"),
        pytest.param('a\n1\n"x\n', 3, id="one column"),
        pytest.param('a,"b\n1,2\n3,4\n', 1, id="in the header"),
        pytest.param('"a,b\n1,2\n3,4\n', 1, id="at the start of the header"),
        pytest.param('a,b\n1,2\n"3,4\n5,6\n', 3, id="in the middle of the first column"),
        pytest.param('a,b\n1,2\n"3,4', 3, id="in the first column of the last line"),
        pytest.param('a,b\n1,"' + "x" * 9000, 2, id="longer than what is looked at first"),
    ],
)
def test_a_quote_that_is_never_closed_is_refused_with_its_line(
    tmp_path: Path, content: str, line: int
) -> None:
    error = refused(tmp_path, content)
    assert f"line {line}" in error.detail
    assert pointers(error) == [f"/line/{line}"]


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_cell_of_50_megabytes_is_refused_with_its_line(tmp_path: Path, quote: str) -> None:
    cell = quote + "x" * (50 * MEGABYTE) + quote
    error = refused(tmp_path, f"a,b\n1,2\n3,{cell}\n4,5\n")
    assert "line 3" in error.detail
    assert "8 MiB" in error.detail
    assert pointers(error) == ["/line/3"]


@pytest.mark.parametrize("before", ["", "\n", "\r\n\r\n", "\r", "\n" * 5000])
def test_a_hundred_thousand_columns_are_refused(tmp_path: Path, before: str) -> None:
    content = before + ",".join(f"c{i}" for i in range(100_000)) + "\n" + "1," * 99_999 + "1\n"
    assert "100000 columns are too many; at most 10000" in refused(tmp_path, content).detail


@soak_only
def test_ten_thousand_columns_are_not_too_many(tmp_path: Path) -> None:
    content = ",".join(f"c{i}" for i in range(10_000)) + "\n" + "1," * 9_999 + "1\n"
    assert csv_of(tmp_path, content).table.num_columns == 10_000


def test_commas_within_quotes_are_no_columns(tmp_path: Path) -> None:
    content = 'text,n\n"' + "," * 20_000 + '",1\n'
    assert csv_of(tmp_path, content).table.num_columns == 2
    headless = content.partition("\n")[2]
    assert csv_of(tmp_path, headless, header=False).table.num_columns == 2


def test_the_guess_looks_past_empty_lines_however_they_end(tmp_path: Path) -> None:
    assert csv_of(tmp_path, "\r\ra;b\r1;2\r").table.column_names == ["a", "b"]


def test_the_guess_reads_a_quoted_name_of_two_lines_to_its_end(tmp_path: Path) -> None:
    assert csv_of(tmp_path, '"x\ny";"z"\n1;2\n').table.column_names == ["x\ny", "z"]


def test_na_among_codes_of_two_letters_is_told(tmp_path: Path) -> None:
    cells = ["DE", "NA", "FR", "NA", "US", ""] * 4
    content = "land,y\n" + "".join(f"{c},{i}\n" for i, c in enumerate(cells))
    found = ingested(tmp_path, content)
    (warning,) = [warning for warning in found.summary.warnings if "keep_na=NA" in warning]
    assert "'land'" in warning
    assert "8 cells hold NA" in warning
    kept = ingested(tmp_path, content, cells=CellOptions(keep_na=("NA",)))
    assert pc.sum(pc.equal(kept.table["land"], "NA")).as_py() == 8
    assert not any("keep_na" in warning for warning in kept.summary.warnings)


@pytest.mark.parametrize("cells", [["DE", "", "FR"], ["NA", "low", "high"], ["NA", "1", "2"]])
def test_else_it_is_not(tmp_path: Path, cells: list[str]) -> None:
    content = "land,y\n" + "".join(f"{c},{i}\n" for i, c in enumerate(cells * 5))
    found = ingested(tmp_path, content)
    assert not any("keep_na" in warning for warning in found.summary.warnings)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_delimiters_beyond_the_columns_are_passed_over_and_told(
    tmp_path: Path, mark: str, end: str
) -> None:
    rows = ["a,b", "1,2", "3,4,", '5,"x,y"', '7,"x', "z,,,", '"', "9,2,,", "10,3"]
    content = end.join(row.replace(",", mark) for row in rows) + end
    found = ingested(tmp_path, content)
    assert found.table["a"].to_pylist() == [1, 3, 5, 7, 9, 10]
    assert found.table["b"][2].as_py() == f"x{mark}y"
    assert found.table["b"][3].as_py() == f"x{end}z{mark * 3}{end}"
    assert "2 lines end with delimiters beyond the columns" in found.summary.warnings[0]


@pytest.mark.parametrize("row", ["3,4,5", "3,4,,5", '3,4," "', "3"])
def test_cells_beyond_the_columns_are_refused(tmp_path: Path, row: str) -> None:
    error = refused(tmp_path, f"a,b\n1,2\n5,6,\n{row}\n7,8\n")
    assert [field.code for field in error.errors] == ["ragged"]
    assert error.errors[0].pointer == "/line/4"
