"""What a person is told of how a column was read."""

from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa
import pytest

from app.ml.column_types.notations.notation import CellOptions
from app.ml.tables import json_rows
from app.ml.tables.csv_files import read_csv
from app.ml.tables.csv_layout import CSVOptions
from app.ml.tables.typed import ColumnOptions
from tests.support.files import column_of, csv_of


def test_codes_with_leading_zeros_are_a_category_with_a_warning(tmp_path: Path) -> None:
    typed = column_of(tmp_path, ["10115", "04109", "20095"])
    assert typed.types["c"] == "category"
    [note] = typed.notes
    assert "line 3 holds '04109' with leading zeros" in note
    assert 'types={"c":"number"}' in note


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("c,d\n1,2\n2,2\nx,2\n3,2\n", 4),
        pytest.param("\n\nc,d\n1,2\n\n2,2\nx,2\n3,2\n", 7, id="after blank lines"),
        pytest.param('c,d\n1,"a\nb"\n2,"c\r\nd\ne"\nx,2\n3,2\n', 7, id="after quoted breaks"),
        pytest.param('"c","d\ne"\n1,2\n2,2\nx,2\n3,2\n', 5, id="after a header of two lines"),
        pytest.param("c,d\r\n1,2\r\n\r\n2,2\r\nx,2\r\n3,2\r\n", 5, id="with CRLF"),
    ],
)
def test_a_column_that_is_almost_numbers_tells_its_first_odd_cell(
    tmp_path: Path, content: str, line: int
) -> None:
    typed = csv_of(tmp_path, content)
    assert typed.types["c"] == "category"
    [note] = [note for note in typed.notes if note.startswith("column 'c'")]
    assert f"line {line} holds 'x'" in note
    assert "most of its cells are numbers" in note


def test_numbers_written_as_strings_are_a_category_with_a_warning() -> None:
    typed = json_rows.from_columns({"c": ["1", "2", "3"]})
    assert typed.types == {"c": "category"}
    assert 'types={"c":"number"}' in typed.notes[0]
    almost = json_rows.from_columns({"c": ["1", "2", "x"]})
    assert almost.types == {"c": "category"}
    assert "row 2 holds 'x', the only one that is no number; mend it" in almost.notes[0]
    assert json_rows.from_columns({"c": ["a1", "b2", "c"]}).notes == []


@pytest.mark.parametrize(
    ("options", "cells", "values"),
    [
        ({"decimal": ","}, ["1,5", "1.037,25"], [1.5, 1037.25]),
        ({"decimal": "."}, ["1.5", "2"], [1.5, 2]),
        ({"thousands": "."}, ["1.037", "2.500"], [1037, 2500]),
        ({"thousands": "'"}, ["1'037", "2"], [1037, 2]),
    ],
)
def test_what_is_said_of_numbers_holds_for_strings_of_json(
    options: dict[str, Any], cells: list[str], values: list[float]
) -> None:
    found = json_rows.from_columns({"c": cells}, cells=CellOptions(**options))
    assert found.table["c"].to_pylist() == values


def test_integers_of_twenty_digits_are_warned_of(tmp_path: Path) -> None:
    typed = column_of(tmp_path, ["12345678901234567890", "1"])
    assert typed.table["c"].type == pa.float64()
    assert 'types={"c":"category"}' in typed.notes[0]
    assert column_of(tmp_path, ["1e300", "1"]).notes == []


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["5%", "7.5 %", "x"], "line 4 holds 'x'"),
        (["€5", "$ 7.50"], "like 1234.5"),
        (["1.000", "1,25", "1,2,3"], "line 4 holds '1,2,3'"),
        (["01/15/2024", "28/02/2024", "01/16/2024", "31/12/2024"], "date_format="),
        (["15.01.2024", "28.02.2024", "soon"], "on_error=missing"),
    ],
)
def test_other_notations_are_warned_of(tmp_path: Path, cells: list[str], said: str) -> None:
    source = tmp_path / "table.csv"
    source.write_text("\n".join(["a;c", *(f"1;{cell}" for cell in cells)]))
    typed = read_csv(source, CSVOptions(), ColumnOptions())
    assert typed.types["c"] == "category"
    assert said in typed.notes[0]


@pytest.mark.parametrize("cells", [["a", "b"], ["A-1", "B-2"], ["10115", "0815"], ["1.2.3.4"]])
def test_codes_are_not_called_numbers(tmp_path: Path, cells: list[str]) -> None:
    typed = column_of(tmp_path, cells)
    assert not any("another notation" in note for note in typed.notes)


def test_sentences_are_text_and_labels_are_not(tmp_path: Path) -> None:
    sentences = [f"this is the review with the number {i}" for i in range(10)]
    assert column_of(tmp_path, sentences).types["c"] == "text"
    assert column_of(tmp_path, sentences[:1] * 10).types["c"] == "category"
    assert column_of(tmp_path, ["New York", "Los Angeles", "Rome"]).types["c"] == "category"
    assert column_of(tmp_path, sentences, c="category").types["c"] == "category"
    assert column_of(tmp_path, ["Rome", "Paris"], c="text").types["c"] == "text"


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param("2026-11-23T09" + "0" * 25 + "!", id="hours without end"),
        pytest.param("1" * 12_000 + "x", id="digits without end"),
        pytest.param(" " * 12_000 + "x", id="blanks without end"),
        pytest.param("1" * 12_000, id="a number of 12,000 digits"),
    ],
)
def test_no_cell_takes_long_to_be_typed(tmp_path: Path, cell: str) -> None:
    """A pattern that goes back and forth would be a way to stop the server."""
    begun = perf_counter()
    assert column_of(tmp_path, [cell, "2"]).types["c"] in ("category", "text")
    assert perf_counter() - begun < 1


# ---------------------------------------------------------------- labels


def test_labels_that_differ_in_case_or_blanks_are_one(tmp_path: Path) -> None:
    typed = column_of(tmp_path, ["Yes", "yes ", "YES", "no", "No", "no", "Yes"] * 2)
    assert typed.table["c"].to_pylist() == ["Yes", "Yes", "Yes", "no", "no", "no", "Yes"] * 2
    assert "6 cells were read as labels" in typed.notes[0]
    assert "the first 'yes ' in line 3 as 'Yes'" in typed.notes[0]
    assert typed.cells["c"].as_dict()["notation"] == {"folded": True}
    kept = column_of(tmp_path, ["Yes", "yes ", "no"], c="category")
    assert kept.table["c"].to_pylist() == ["Yes", "yes ", "no"]


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(["AA", "Aa", "aa", "AA"] * 3, id="genotypes"),
        pytest.param([f"{'xX'[i % 2]}id{i // 2}" for i in range(20)], id="names of things"),
    ],
)
def test_labels_that_may_mean_different_things_stay_apart(tmp_path: Path, cells: list[str]) -> None:
    typed = column_of(tmp_path, cells)
    assert typed.table["c"].to_pylist() == cells
    assert "are different labels" in typed.notes[0]


def test_labels_of_formats_with_types_stay_apart() -> None:
    typed = json_rows.from_columns({"c": ["Yes", "yes", "no", "no", "no"]})
    assert typed.table["c"].to_pylist() == ["Yes", "yes", "no", "no", "no"]
    assert "are different labels" in typed.notes[0]


def test_the_first_cell_that_was_taken_as_missing_is_told_by_its_line(tmp_path: Path) -> None:
    typed = csv_of(tmp_path, 'a,b\n1,"x\ny"\n2,z\n-,z\n?,z\n3,z\n')
    assert "('-' 1, '?' 1), the first in line 5; types=" in typed.notes[0]


def test_what_may_be_meant_otherwise_is_warned_of_first(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i},{'?' if i % 2 else i},{'-' if i == 7 else i}\n" for i in range(9))
    typed = csv_of(tmp_path, "plain,odd,many,one\n" + rows + "1,soon,2,3\n")
    assert [note.split("'")[1] for note in typed.notes] == ["odd", "many", "one"]
