"""Text files as spreadsheets, reports and other programs write them: the table in them is found."""

from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidData
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.notations.notation import Notation
from app.ml.tables.json_values import Types
from app.ml.tables.typed import ColumnOptions
from tests.support.csv_tables import read_text
from tests.support.files import ingested

ROWS = "a,b,c\n1,2.5,x\n2,5.0,y\n3,7.5,z\n"
PLAIN = {"a": [1, 2, 3], "b": [2.5, 5.0, 7.5], "c": ["x", "y", "z"]}


@pytest.mark.parametrize(
    ("content", "reading"),
    [
        (ROWS, {"delimiter": ",", "header_row": 1}),
        (f"sep=,\n{ROWS}", {"header_row": 2}),
        ("sep=;\n" + ROWS.replace(",", ";"), {"delimiter": ";", "header_row": 2}),
        (f"Report of May\n\n{ROWS}", {"header_row": 3, "skipped": ["Report of May"]}),
        (f"Report of May,,\nall shops,,\n{ROWS}", {"header_row": 3}),
        (f"# made by a program\n# in May\n{ROWS}", {"header_row": 3}),
        (ROWS.replace("\n", ",\n"), {}),
        (ROWS.replace("x\n", "x,\n").replace("y\n", "y,\n").replace("z\n", "z,\n"), {}),
        (ROWS.replace("2,5.0", "   \n2,5.0"), {}),
        (f"{ROWS}\nSource: the shops\n", {"notes": ["Source: the shops"]}),
        (f"{ROWS}Source: the shops\nas of May\n", {"notes": ["Source: the shops", "as of May"]}),
        (ROWS.replace(",", "\t"), {"delimiter": "\t"}),
        (ROWS.replace(",", "|"), {"delimiter": "|"}),
        (ROWS.replace(",", "   "), {"delimiter": "space"}),
        (
            "  " + ROWS.replace(",", " ").replace("\n", "\n   ").rstrip() + "\n",
            {"delimiter": "space"},
        ),
        ("a , b , c\n1 , 2.5 , x \n2 , 5.0 , y \n3 , 7.5 , z \n", {}),
        (ROWS.replace("\n", "\r\n"), {}),
        ("\ufeff" + ROWS, {}),
        (f"Station,Oslo\nElevation,94\n{ROWS}", {"header_row": 3}),
        (f"Station,Oslo,\nElevation,94,\n\n{ROWS}", {"header_row": 4}),
        (f"# made by a program\nStation,Oslo\n\n{ROWS}", {"header_row": 4}),
        (
            "| a | b | c |\n|---|---:|:--|\n| 1 | 2.5 | x |\n| 2 | 5.0 | y |\n| 3 | 7.5 | z |\n",
            {"delimiter": "|", "header_row": 1},
        ),
        (
            " a |  b  | c\n---+-----+---\n 1 | 2.5 | x\n 2 | 5.0 | y\n 3 | 7.5 | z\n(3 rows)\n",
            {"delimiter": "|", "notes": ["(3 rows)"]},
        ),
        (
            "+---+-----+---+\n| a | b   | c |\n+---+-----+---+\n| 1 | 2.5 | x |\n| 2 | 5.0 | y |\n"
            "| 3 | 7.5 | z |\n+---+-----+---+\n3 rows in set\n",
            {"delimiter": "|", "header_row": 2},
        ),
        (ROWS.replace("2,5.0", "a,b,c\n2,5.0").replace("3,7.5", "a,b,c\n3,7.5"), {}),
    ],
)
def test_the_table_is_found(tmp_path: Path, content: str, reading: dict[str, Any]) -> None:
    found = read_text(tmp_path, content)
    assert found.table.to_pydict() == PLAIN
    assert {name: found.reading[name] for name in reading} == reading


@pytest.mark.parametrize(
    "content",
    [
        ",a,b\n0,1,x\n1,2,y\n2,3,z\n",
        '"","a","b"\n"1",1,"x"\n"2",2,"y"\n"3",3,"z"\n',
        "a,b\n1,1,x\n2,2,y\n3,3,z\n",
        '"a" "b"\n"1" 1 "x"\n"2" 2 "y"\n"3" 3 "z"\n'.replace(" ", "\t"),
    ],
)
def test_a_column_of_row_numbers_without_a_name_is_the_index(tmp_path: Path, content: str) -> None:
    found = read_text(tmp_path, content)
    assert found.table.column_names == ["index", "a", "b"]
    assert found.table["a"].to_pylist() == [1, 2, 3]


def test_a_file_of_numbers_without_names(tmp_path: Path) -> None:
    content = "0.5,1\n1.5,2\n2.5,3\n"
    found = read_text(tmp_path, content)
    assert found.table.to_pydict() == {"f0": [0.5, 1.5, 2.5], "f1": [1, 2, 3]}
    assert "header=true" in found.notes[0]
    assert read_text(tmp_path, content, header=True).table.column_names == ["0.5", "1"]
    years = read_text(tmp_path, "2019,2020\n1.5,2\n2.5,3\n")
    assert years.table.column_names == ["2019", "2020"]
    assert "header=false" in years.notes[0]


def test_a_first_line_of_measurements_and_a_name_is_a_row(tmp_path: Path) -> None:
    content = "".join(f"{18.5 + i},8,307.0,car {i}\n" for i in range(9))
    found = read_text(tmp_path, content)
    assert found.table.num_rows == 9
    assert "header=true" in found.notes[0]
    named = read_text(tmp_path, "name,2019,2020\na,1.5,2\nb,2.5,3\n")
    assert named.table.column_names == ["name", "2019", "2020"]


def test_facts_above_a_narrow_table_end_with_an_empty_line(tmp_path: Path) -> None:
    found = read_text(tmp_path, "Station,Oslo\nElevation,94\n\nhour,temp\n0,1.5\n1,2.5\n")
    assert found.table.to_pydict() == {"hour": [0, 1], "temp": [1.5, 2.5]}
    assert found.reading["skipped"] == ["Station,Oslo", "Elevation,94"]
    whole = read_text(tmp_path, "name,kind\nfoo,bar\nbaz,1\n")
    assert whole.table.column_names == ["name", "kind"]


@pytest.mark.parametrize(
    ("line", "units"),
    [
        ("s,m/s,", {"a": "s", "b": "m/s"}),
        ("(s),(degC),-", {"a": "s", "b": "degC"}),
        ("[s],[-],text", {"a": "s"}),
        ("s,°C,name", {"a": "s", "b": "°C"}),
    ],
)
def test_a_line_of_units_below_the_header_is_no_row(
    tmp_path: Path, line: str, units: dict[str, str]
) -> None:
    content = ROWS.replace("a,b,c\n", f"a,b,c\n{line}\n")
    found = read_text(tmp_path, content)
    assert found.table.to_pydict() == PLAIN
    assert found.reading["units"] == units
    assert {n: f.notation.unit for n, f in found.cells.items() if f.notation} == units
    assert any("units" in note and "s" in note for note in found.notes)
    with pytest.raises(InvalidData, match="line 5"):
        read_text(tmp_path, content.replace("3,7.5", "3,x"), ColumnOptions({"b": "number"}))


@pytest.mark.parametrize("line", ["x,y,z", "NA,NA,k", "4,,w", "?,-,s", "m,12,s", "M,M,F"])
def test_a_first_row_is_no_line_of_units(tmp_path: Path, line: str) -> None:
    found = read_text(tmp_path, ROWS.replace("a,b,c\n", f"a,b,c\n{line}\n"))
    assert found.table.num_rows == 4
    assert "units" not in found.reading


def test_lines_that_repeat_the_header_are_told_and_keep_the_others_lines(tmp_path: Path) -> None:
    content = ROWS + ROWS + "4,x,w\n"
    with pytest.raises(InvalidData, match="line 9"):
        read_text(tmp_path, content, ColumnOptions({"b": "number"}))
    found = read_text(tmp_path, ROWS + ROWS)
    assert found.table.num_rows == 6
    assert any("the first is line 5; send header=true" in note for note in found.notes)
    assert read_text(tmp_path, ROWS + ROWS, header=True).table.num_rows == 7
    words = read_text(tmp_path, "word\nword\nother\n")
    assert words.table["word"].to_pylist() == ["word", "other"]


def test_cells_that_are_wrapped_for_a_spreadsheet(tmp_path: Path) -> None:
    found = read_text(tmp_path, 'id,zip\n1,="00123"\n2,"=""01234"""\n')
    assert found.table["zip"].to_pylist() == ["00123", "01234"]
    kept = read_text(tmp_path, 'id,f\n1,="001"\n2,=A1\n')
    assert kept.table["f"].to_pylist() == ['="001"', "=A1"]


@pytest.mark.parametrize("odd", ["-" * 200_000 + "x", "1" + " " * 200_000 + "x", "(" * 200_000])
def test_a_long_line_is_looked_at_once(tmp_path: Path, odd: str) -> None:
    """It took hours where an expression tried all ways to split it."""
    found = read_text(tmp_path, f"a,b\nm,{odd}\n1,2\n{odd},{odd}\n")
    assert found.table.num_rows == 3


def test_cells_with_blanks_stand_one_below_the_other(tmp_path: Path) -> None:
    content = (
        "    id        school   years   div\n"
        "     9   12-15 years  10.546    No\n"
        "    11    < 12 years   4.943    No\n"
        "    13     16+ years   2.834   Yes\n"
    )
    found = read_text(tmp_path, content)
    assert found.table.to_pydict() == {
        "id": [9, 11, 13],
        "school": ["12-15 years", "< 12 years", "16+ years"],
        "years": [10.546, 4.943, 2.834],
        "div": ["No", "No", "Yes"],
    }
    one = "".join(content.splitlines(keepends=True)[:2])
    asked = read_text(tmp_path, one, ColumnOptions({"school": "category"}, only_typed=True))
    assert asked.table["school"].to_pylist() == ["12-15 years"]


YES = "yes,no\nno,yes\nyes,no\nno,no\n"
NUMBERS: Types = {"grade": "category", "h": "number"}


def test_rows_to_predict_are_all_there(tmp_path: Path) -> None:
    """What looks like a header or a line of units may be a row, and each row wants an answer."""
    rows = read_text(
        tmp_path, YES, ColumnOptions({"yes": "category", "no": "category"}, only_typed=True)
    )
    assert rows.table["yes"].to_pylist() == ["no", "yes", "no"]
    with pytest.raises(InvalidData, match="'m' in line 2"):
        read_text(tmp_path, "grade,h\nA,m\nB,5\n", ColumnOptions(NUMBERS, only_typed=True))
    learnt = ColumnOptions(NUMBERS, only_typed=True, notations={"h": Notation(unit="m")})
    found = read_text(tmp_path, "grade,h\n,m\nB,5\n", learnt)
    assert found.table["h"].to_pylist() == [5]
    with pytest.raises(InvalidData, match="'ft' in line 2"):
        read_text(tmp_path, "grade,h\n,ft\nB,5\n", learnt)


@pytest.mark.parametrize(
    "content",
    [
        YES,
        "true,false\ntrue,true\ntrue,false\nfalse,false\n",
        "1,2\n3,4\n1,2\n",
        "player,pts\nAnn,A\nBob,35\nCy,36\n",
        "station,tmpf\nOSL,M\nOSL,40\n",
        "a,b\n(none),(none)\n1,2\n",
        "x,y\nN,N\n1,2\n",
        "c0\tc1\nred\tred\n\t\nred\tred\nred\t\n\tred\n",
        "x y\n-- --\n1 2\n3 4\n",
        "x\ty\n--\t--\n1\t2\n3\t4\n",
    ],
)
def test_no_row_is_taken_for_something_else(tmp_path: Path, content: str) -> None:
    assert read_text(tmp_path, content).table.num_rows == content.count("\n") - 1


def test_a_line_of_units_stays_a_row_where_that_is_said(tmp_path: Path) -> None:
    content = ROWS.replace("a,b,c\n", "a,b,c\ns,m/s,\n")
    assert any("header=true" in note for note in read_text(tmp_path, content).notes)
    assert read_text(tmp_path, content, header=True).table.num_rows == 4


@pytest.mark.parametrize("mark", ["\t", ",", ";"])
@pytest.mark.parametrize("before", ["", "\n"])
def test_a_row_of_delimiters_alone_is_a_row(tmp_path: Path, mark: str, before: str) -> None:
    content = f"a{mark}b\n{before}{mark}\n1{mark}2\n\n3{mark}4\n"
    found = read_text(tmp_path, content)
    assert found.table.to_pydict() == {"a": [None, 1, 3], "b": [None, 2, 4]}


@pytest.mark.parametrize("above", ["", "\n", "\n\n", "Sales\n\n"])
@pytest.mark.parametrize("below", ["", "\n"])
def test_empty_lines_around_a_header_change_nothing(tmp_path: Path, above: str, below: str) -> None:
    head = f"{above}a,b,c\n{below}s,m/s,\n{below}"
    found = read_text(tmp_path, ROWS.replace("a,b,c\n", head))
    assert found.table.to_pydict() == PLAIN
    assert found.reading["units"] == {"a": "s", "b": "m/s"}
    assert not any("repeats" in note for note in found.notes)
    drawn = "| a | b | c |\n|---|---|---|\n| 1 | 2.5 | x |\n| 2 | 5.0 | y |\n| 3 | 7.5 | z |\n"
    assert read_text(tmp_path, above + drawn).table.to_pydict() == PLAIN
    with pytest.raises(InvalidData) as error:
        read_text(tmp_path, (head + ROWS[6:]).replace("7.5", "z"), ColumnOptions({"b": "number"}))
    lines = (head + ROWS[6:]).splitlines()
    assert error.value.errors[0].pointer == f"/line/{lines.index('3,7.5,z') + 1}/b"


def test_blank_cells_of_printed_tables_are_missing(tmp_path: Path) -> None:
    found = read_text(tmp_path, " a | b \n---+---\n x |   \n y | q \n z | q \n")
    assert found.table["b"].to_pylist() == [None, "q", "q"]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("Station,Oslo,,\nHeight,12,,\nt,T,P,v\n(s),(C),(hPa),(V)\n1,2,3,4\n2,3,4,5\n", "tTPv"),
        ("Station,Oslo,\nt,T,P\ns,C,hPa\n1,2,3\n2,3,4\n", "tTP"),
        ("# t T P\n0 1 2\n1 2 3\n2 3 5\n", "tTP"),
        ("t     s\n----  ----\n0.0   Oslo\n0.5   Roma\n", "ts"),
        ("t T P\n(s) (degC) (hPa)\n0 1 2\n1 2 3\n", "tTP"),
    ],
)
def test_tables_of_instruments_and_databases(tmp_path: Path, content: str, names: str) -> None:
    found = read_text(tmp_path, content)
    assert found.table.column_names == [*names]
    assert found.types[names[0]] == "number"
    assert found.table.num_rows == sum(line[0].isdigit() for line in content.splitlines())


def test_a_comment_among_rows_names_its_option(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="comment=#"):
        read_text(tmp_path, "a,b\nx,1\n# a note\ny,2\n")


def test_rows_without_names_are_of_the_features_in_their_order(tmp_path: Path) -> None:
    wanted = ColumnOptions({"h": "number", "grade": "category"}, only_typed=True)
    found = read_text(tmp_path, "5,A\n6,B\n", wanted, header=False)
    assert found.table.to_pydict() == {"h": [5, 6], "grade": ["A", "B"]}


def test_comments_among_the_rows_where_their_mark_is_said(tmp_path: Path) -> None:
    content = ROWS.replace("2,5.0", "# a break\n2,5.0")
    assert read_text(tmp_path, content, comment="#").table.to_pydict() == PLAIN
    with pytest.raises(InvalidData, match="line 3"):
        read_text(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("5.1,3.5\n", {"f0": [5.1], "f1": [3.5]}),
        ("5.1,3.5\n4.9,3\n", {"f0": [5.1, 4.9], "f1": [3.5, 3]}),
        ("5.1   3.5\n", {"f0": [5.1], "f1": [3.5]}),
        ("a b\n1 2\n", {"a": [1], "b": [2]}),
        ("b  a\n1  2\n", {"b": [1], "a": [2]}),
        ("f1,f0\n5.1,3.5\n", {"f1": [5.1], "f0": [3.5]}),
    ],
)
def test_one_row_to_predict_is_read_by_the_names_that_a_model_knows(
    tmp_path: Path, content: str, wanted: dict[str, list[float]]
) -> None:
    wants = ColumnOptions(dict.fromkeys(sorted(wanted), "number"), only_typed=True)
    found = read_text(tmp_path, content, wants)
    assert found.table.to_pydict() == wanted


def test_what_separates_cells_is_decided_by_all_rows(tmp_path: Path) -> None:
    found = read_text(tmp_path, "Name;Value, EUR\na;1,5\nb;2,5\n")
    assert found.table.to_pydict() == {"Name": ["a", "b"], "Value, EUR": [1.5, 2.5]}
    found = read_text(tmp_path, "a,b;c,d\n1,2,3\n4,5,6\n")
    assert found.table.column_names == ["a", "b;c", "d"]


def test_quotes_behind_backslashes(tmp_path: Path) -> None:
    found = read_text(tmp_path, 'a,b\n1,"say \\"hi\\" 0"\n2,"no, never"\n')
    assert found.table["b"].to_pylist() == ['say "hi" 0', "no, never"]
    found = read_text(tmp_path, 'a,b\n1,"C:\\"\n2,"x"\n')
    assert found.table["b"].to_pylist() == ["C:\\", "x"]


def test_blanks_before_quotes_are_no_part_of_cells(tmp_path: Path) -> None:
    lines = "".join(f'{i}, "Smith{i}, John", "{i}.5"\n' for i in range(4))
    found = read_text(tmp_path, f'"id", "name", "v"\n{lines}')
    assert found.table.column_names == ["id", "name", "v"]
    assert found.table["name"].to_pylist() == [f"Smith{i}, John" for i in range(4)]
    assert found.table["v"].to_pylist() == [0.5, 1.5, 2.5, 3.5]
    plain = read_text(tmp_path, 'a,b\n1,"he said, ""hi"", twice"\n2,x\n')
    assert plain.table["b"].to_pylist() == ['he said, "hi", twice', "x"]


@pytest.mark.parametrize(
    ("content", "first"),
    [
        ('n,x,g\n"0,55","1,000",a\n"1,55","2,037",b\n', 1.0),
        ('n,x,g\n"0,99 €","1,000 kg",a\n"1,55 €","2,037 kg",b\n', 1.0),
        ('n,x,g\n0.55,"1,000",a\n1.55,"2,037",b\n', 1000),
        ('x,g\n"1,000",a\n"2,037",b\n', 1000),
        ("n\tx\n0,55\t1,000\n1,55\t2,037\n", 1.0),
    ],
)
def test_other_columns_say_what_a_comma_is(tmp_path: Path, content: str, first: float) -> None:
    assert read_text(tmp_path, content).table["x"].to_pylist()[0] == first


def test_columns_that_contradict_each_other_leave_it_open(tmp_path: Path) -> None:
    found = read_text(tmp_path, 'm,n,x\n0.5,"0,55","1,000"\n1.5,"1,55","2,037"\n')
    assert found.types["x"] == "category"
    assert any("send decimal=. or decimal=," in note for note in found.notes)


@pytest.mark.parametrize(
    ("cells", "years"),
    [
        (["1991", "2004"], ["1991-01-01", "2004-01-01"]),
        (["202102", "202111"], ["2021-02-01", "2021-11-01"]),
    ],
)
def test_years_asked_for_as_dates(tmp_path: Path, cells: list[str], years: list[str]) -> None:
    content = "when,v\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(cells))
    found = read_text(tmp_path, content, ColumnOptions(types={"when": "datetime"}))
    assert [str(day)[:10] for day in found.table["when"].to_pylist()] == years
    with pytest.raises(InvalidData, match="holds '44928'"):
        read_text(tmp_path, "when,v\n44928,1\n44929,2\n", ColumnOptions(types={"when": "datetime"}))


def test_commas_in_cells_that_are_not_quoted_are_warned_of(tmp_path: Path) -> None:
    for content in ("id,city\n1,Paris, France\n2,Rome, Italy\n", "id,price\n1,1,50\n2,2,50\n"):
        assert "quote cells that hold the delimiter" in " ".join(read_text(tmp_path, content).notes)
    counted = read_text(tmp_path, "a,b\n1,x,y\n2,v,w\n")
    assert counted.notes == []


def test_lines_above_can_be_said(tmp_path: Path) -> None:
    content = f"x,y,z\n{ROWS}"
    assert read_text(tmp_path, content, skip_rows=1).table.to_pydict() == PLAIN
    assert read_text(tmp_path, f"%a,b,c\n{ROWS}", comment="%").table.to_pydict() == PLAIN


def test_a_cell_is_named_by_its_line_below_a_title(tmp_path: Path) -> None:
    found = read_text(tmp_path, f"Title\n\n{ROWS}4,soon,x\n")
    assert any("line 7 holds 'soon'" in note for note in found.notes)


def test_units_above_a_single_row_and_a_note(tmp_path: Path) -> None:
    content = "Report\n\nTime,Temp,y\ns,°C,kg\n5,10.5,3\n\nSource: me\n"
    found = read_text(tmp_path, content)
    assert found.table.to_pydict() == {"Time": [5], "Temp": [10.5], "y": [3]}
    assert found.reading["units"] == {"Time": "s", "Temp": "°C", "y": "kg"}


@pytest.mark.parametrize(
    ("name", "kind", "cells"),
    [
        ("city", "category", ["New York", "San Jose"]),
        ("when", "datetime", ["2023-01-12 10:30", "2023-01-13 11:00"]),
        ("price", "number", ["1 234", "2 345"]),
        ("price", "number", ["1,50", "2,50"]),
        ("my city", "category", ["New York", "San Jose"]),
    ],
)
def test_a_lone_feature_is_one_column_whatever_its_cells_hold(
    tmp_path: Path, name: str, kind: TypeName, cells: list[str]
) -> None:
    learnt = {name: Notation(decimal=",")} if "," in cells[0] else {}
    asked = ColumnOptions({name: kind}, notations=learnt, only_typed=True)
    found = read_text(tmp_path, "\n".join([name, *cells]) + "\n", asked)
    assert found.table.column_names == [name]
    assert found.table.num_rows == 2


@pytest.mark.parametrize(
    ("content", "table"),
    [
        (
            "name    age  city\nAnna    30   Oslo\nJon          Bergen\nKim     41   Oslo\n",
            {
                "name": ["Anna", "Jon", "Kim"],
                "age": [30, None, 41],
                "city": ["Oslo", "Bergen", "Oslo"],
            },
        ),
        (
            "               mpg cyl\nMazda RX4     21.0   6\nMazda RX4 Wag 20.5   6\n"
            "Datsun 710    22.8   4\n",
            {
                "index": ["Mazda RX4", "Mazda RX4 Wag", "Datsun 710"],
                "mpg": [21.0, 20.5, 22.8],
                "cyl": [6, 6, 4],
            },
        ),
        (
            "id    name    paid\n----- ------- ------\n    1 Ann B    12.50\n    2 NULL     3.25\n"
            "    3 Cid       NULL\n\n(3 rows affected)\n",
            {"id": [1, 2, 3], "name": ["Ann B", None, "Cid"], "paid": [12.5, 3.25, None]},
        ),
    ],
)
def test_columns_of_one_width_with_gaps_and_blanks(
    tmp_path: Path, content: str, table: dict[str, list[Any]]
) -> None:
    assert read_text(tmp_path, content).table.to_pydict() == table


def test_a_line_that_leaves_the_columns_is_named(tmp_path: Path) -> None:
    content = "name    age  city\n" + "Anna    30   Oslo\nJon          Bergen\n" * 300
    with pytest.raises(InvalidData, match="line 602 does not keep to the columns of fixed width"):
        read_text(tmp_path, f"{content}Anna-Maria 3 Oslo\n")


@pytest.mark.parametrize(
    "prose",
    ["just some text\nmore text here\nand 5 more lines\n", "a  b\nof the best\nx 5 times\n"],
)
def test_prose_is_one_column(tmp_path: Path, prose: str) -> None:
    found = ingested(tmp_path, prose)
    assert len(found.types) == 1
    assert ("delimiter=space" in " ".join(found.summary.warnings)) == ("  " in prose)
