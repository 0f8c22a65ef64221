"""What stands at the end of a text file and is no row of its table, or may be none."""

from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidData
from app.ml.tables.typed import ColumnOptions
from tests.support.csv_tables import read_text
from tests.support.files import ingested
from tests.support.sheets import workbook

ROWS = "a,b,c\n1,2.5,x\n2,5.0,y\n3,7.5,z\n"
QUANTITIES = "".join(f"a{i},{i},{2 * i}\n" for i in range(12))


def test_notes_below_two_columns_stand_behind_an_empty_line(tmp_path: Path) -> None:
    found = read_text(tmp_path, "a,b\nx,1\ny,2\n\nNote: by hand\n")
    assert found.reading["notes"] == ["Note: by hand"]
    with pytest.raises(InvalidData, match="ragged"):
        read_text(tmp_path, "a,b\nx,1\ny,2\nby hand\n")


@pytest.mark.parametrize(
    "last",
    ["Gesamtsumme,66,132", "Итого,66,132", "Total général,66,132", "66,132,Total", ",66,132"],
)
def test_totals_are_warned_of(tmp_path: Path, last: str) -> None:
    assert any(
        "a total" in note for note in read_text(tmp_path, f"i,q,p\n{QUANTITIES}{last}\n").notes
    )
    other = read_text(tmp_path, f"i,q,p\n{QUANTITIES},65,131\n")
    assert not any("a total" in note for note in other.notes)


@pytest.mark.parametrize(
    "below", ["", "\nSource: the shops\n", "By hand,,\n", ",,\n*estimated,,\n", "(14 rows)\n"]
)
def test_totals_above_notes_are_warned_of(tmp_path: Path, below: str) -> None:
    found = read_text(tmp_path, f"i,q,p\n{QUANTITIES}Subtotal,66,132\nTotal,66,132\n{below}")
    assert "each of the last 2 rows looks like a total ('Total')" in " ".join(found.notes)
    assert found.table.num_rows == 14
    found = read_text(tmp_path, f"i,q,p\n{QUANTITIES},66,132\n{below}")
    assert "the last row looks like a total" in " ".join(found.notes)


@pytest.mark.parametrize(
    ("below", "notes"),
    [
        ("Source: the shops,,\n", ["Source: the shops"]),
        ("by hand,,\n", ["by hand"]),
        (",,\nSource: the shops,,\nas of May,,\n,,\n", ["Source: the shops", "as of May"]),
        ("*estimated,,\n\n(3 rows)\n", ["(3 rows)", "*estimated"]),
    ],
)
def test_notes_as_wide_as_rows_are_no_rows(tmp_path: Path, below: str, notes: list[str]) -> None:
    found = read_text(tmp_path, f"{ROWS}{below}")
    assert found.table.to_pydict() == read_text(tmp_path, ROWS).table.to_pydict()
    assert found.reading["notes"] == notes
    assert any("below the table left no row" in note for note in found.notes)


@pytest.mark.parametrize(
    "note",
    ["\nNote: values, rounded", "Source: A", "* preliminary", "Source: A, B, C", "\nby hand"],
)
def test_notes_below_two_columns(tmp_path: Path, note: str) -> None:
    rows = "a,b\n1,2\n3,4\n5,6\n"
    found = read_text(tmp_path, f"{rows}{note}\n")
    assert found.table.to_pydict() == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert found.reading["notes"] == [note.strip()]
    asked = ColumnOptions({"a": "number", "b": "number"}, only_typed=True)
    assert read_text(tmp_path, f"{rows}{note}\n", asked).table.num_rows == 3


def test_rows_that_all_begin_as_notes_are_rows(tmp_path: Path) -> None:
    found = read_text(tmp_path, "text,n\nNote: x,1\nNote: y,2\nNote: z,3\n")
    assert found.table.num_rows == 3


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "N,10\nN,20\nN Total,30\nS,5\nS,7\nS Total,12\n",
            "2 rows look like totals, the first is line 4 ('N Total')",
        ),
        ("x,2\ny,4\nTotal,6\nz,6\n", "a row looks like a total, line 4 ('Total')"),
    ],
)
def test_totals_among_rows_are_warned_of(tmp_path: Path, rows: str, said: str) -> None:
    assert said in " ".join(read_text(tmp_path, f"region,units\n{rows}").notes)


def test_a_label_that_speaks_of_totals_is_none(tmp_path: Path) -> None:
    assert read_text(tmp_path, "film,n\nTotal Recall,5\nHeat,5\nSum of us,7\n").notes == []


def test_a_row_of_words_among_such_is_kept_and_warned_of(tmp_path: Path) -> None:
    rows = "name,age,city\nAnna Berg,30,Oslo\nJon Dal,31,Bergen\n"
    found = read_text(tmp_path, f"{rows}Kim Lie,,\n")
    assert found.table.num_rows == 3
    assert "the last row holds 'Kim Lie' alone" in " ".join(found.notes)
    assert not any("alone" in note for note in read_text(tmp_path, f"{ROWS}4,,\n").notes)


def test_each_row_of_a_file_to_predict_has_an_answer(tmp_path: Path) -> None:
    asked = ColumnOptions({"a": "category", "b": "number"}, only_typed=True)
    found = read_text(tmp_path, f"{ROWS}by hand,,\n", asked)
    assert found.table.num_rows == 4


def test_a_note_and_totals_of_a_sheet(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["i", "q", "p"], *([f"a{i}", i, 2 * i] for i in range(12))]
    below: list[list[Any]] = [["Total", 66, 132], ["Source: the shops"]]
    found = ingested(tmp_path, workbook(Data=[*rows, *below]), "spreadsheet").summary
    assert found.rows == 13
    assert found.reading["notes"] == ["Source: the shops"]
    assert "the last row looks like a total ('Total')" in " ".join(found.warnings)


def test_empty_rows_of_a_sheet_are_told(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["Title"], [], ["i", "q", "p"], ["a", 1, 2], [], ["b", 2, 4]]
    book = workbook(Data=[*rows, [], ["Note: by hand"]])
    found = ingested(tmp_path, book, "spreadsheet").summary
    assert found.rows == 2
    said = "an empty row among the others left no row, the first is row 5 of the sheet"
    assert said in found.warnings


def test_a_total_and_rows_of_nothing_are_warned_of(tmp_path: Path) -> None:
    found = read_text(tmp_path, f"{ROWS}Total,15,\n")
    assert any("looks like a total ('Total')" in note for note in found.notes)
    found = read_text(tmp_path, f"{ROWS},,\n,,\n")
    assert any("the last 2 rows hold nothing" in note for note in found.notes)
