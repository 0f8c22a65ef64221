"""Tables as users have them, and random ones in random shapes: read as they are meant."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidData
from app.ml.tables.ingest import Limits, Options, ingest
from tests.support.csv_tables import read_text
from tests.support.files import csv_of

CASES = Path(__file__).parents[3] / "fixtures" / "tables"
WORDS = ["red", "a b", "x;y", 'say "hi"', "1,5"]


@given(
    st.lists(
        st.tuples(
            st.integers(-999, 999), st.sampled_from(["red", "a b", "x;y", 'say "hi"', "1,5"])
        ),
        min_size=2,
        max_size=20,
    ),
    st.sampled_from(",;\t|"),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
def test_random_tables_in_random_shapes_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, str]],
    delimiter: str,
    title: bool,
    trailing: bool,
    end: str,
) -> None:
    def line(*cells: object) -> str:
        quoted = ['"' + str(cell).replace('"', '""') + '"' for cell in cells]
        return delimiter.join(quoted) + (delimiter if trailing else "")

    lines = [line("n", "word", "m"), *(line(n, word, n) for n, word in rows)]
    content = end.join([*(["A title", ""] if title else []), *lines, ""])
    found = read_text(tmp_path_factory.mktemp("shape"), content).table
    assert found["n"].to_pylist() == [n for n, _ in rows]
    if {word for _, word in rows} != {"1,5"}:
        assert found["word"].to_pylist() == [word for _, word in rows]


# ---------------------------------------------------------------- tables of users


@pytest.mark.parametrize(
    ("name", "rows", "types", "facts"),
    [
        ("decimal-comma", 12, "a=number b=number n=number", {"a": (0.25, 11.25)}),
        ("thousand-dot-beside-decimal-comma", 12, "sold=number", {"sold": (1037, 12444)}),
        ("thousand-dot-only", 12, "people=number", {"people": (1.037, 12.444)}),
        ("thousand-comma", 12, "price=number", {"price": (1037, 12444)}),
        ("currency-dollar", 12, "price=number", {"price": (3037.5, 36444.5)}),
        ("percent", 12, "rate=number", {"rate": (0, 27.5)}),
        ("infinity", 24, "b=number", {}),
        ("missing-question", 24, "b=number", {"b": (0, 57.5)}),
        ("missing-dot", 24, "b=number", {"b": (0, 57.5)}),
        ("missing-none", 24, "b=number", {"b": (0, 57.5)}),
        ("missing-blank-space", 24, "b=number", {"b": (0, 57.5)}),
        ("one-nil-in-thousands", 2000, "v=number", {}),
        ("less-than", 24, "ppm=category", {}),
        ("date-dmy-slash", 20, "day=datetime", {"day": ("2023-01-01", "2023-02-28")}),
        ("date-ambiguous", 20, "day=category", {}),
        (
            "date-dmy-dot-time",
            20,
            "ts=datetime",
            {"ts": ("2021-01-01T14:55:00", "2021-02-28T14:55:00")},
        ),
        ("date-month-name", 24, "date=datetime", {"date": ("2000-01-01", "2001-06-01")}),
        ("date-yyyymmdd", 20, "date=datetime", {}),
        ("date-epoch-seconds", 24, "ts=number", {}),
        ("date-only-feature", 336, "day=datetime", {}),
        ("range-not-a-date", 40, "age=category", {}),
        ("excel-sep-line", 12, "a=number b=number g=category", {}),
        ("trailing-delimiter-rows", 12, "A=number B=number C=number", {}),
        ("trailing-delimiter-all", 12, "A=number B=number C=number", {}),
        ("excel-empty-rows-at-end", 14, "a=number", {}),
        ("blank-line-of-spaces", 12, "a=number", {}),
        ("index-column", 24, "index=number", {}),
        ("no-header-numbers", 12, "f0=number", {"f0": (0.1, 1.2)}),
        ("preamble", 12, "item=category qty=number price=number", {}),
        ("footer-total", 13, "qty=number", {}),
        ("semicolons-header-comma", 12, "Name=category Value, EUR=number", {}),
        ("space-separated", 12, "t=number status=number sex=number", {}),
        ("padded-header-and-cells", 24, "Name=category Country=category Time=number", {}),
        ("backslash-quotes", 12, "b=category", {}),
        ("repeated-names", 12, "val=number val_2=number", {}),
        ("target-currency", 60, "price=number", {}),
    ],
)
def test_small_tables_of_users(
    tmp_path: Path, name: str, rows: int, types: str, facts: dict[str, tuple[Any, Any]]
) -> None:
    source = CASES / f"{name}.csv"
    found = ingest(source, tmp_path, Options(format="csv"), Limits(decoded_bytes=1 << 28))
    columns = {column["name"]: column for column in found.columns}
    assert found.rows == rows
    for word in types.replace(", ", ",\0").split(" "):
        column, _, kind = word.replace("\0", " ").partition("=")
        assert columns[column]["type"] == kind
    for column, ends in facts.items():
        assert (columns[column]["min"], columns[column]["max"]) == ends
    if "missing" in name:
        assert columns["b"]["missing"] == 4
        assert any("4 cells were taken as missing" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("name", "column", "role", "said"),
    [
        ("id-camel-case", "PassengerId", "identifier", "looks like an identifier"),
        ("index-column-unnamed0", "Unnamed: 0", "index", "looks like an identifier"),
        ("index-column", "index", "index", "looks like an identifier"),
        ("id-in-predict", "id", "identifier", "looks like an identifier"),
        ("id-nearly-unique", "passage", "identifier", "looks like an identifier"),
        (
            "categories-with-blanks",
            "city",
            "feature",
            "they differ in case or blanks",
        ),
    ],
)
def test_columns_of_users_that_are_no_features(
    tmp_path: Path, name: str, column: str, role: str, said: str
) -> None:
    source = CASES / f"{name}.csv"
    found = ingest(source, tmp_path, Options(format="csv"), Limits(decoded_bytes=1 << 28))
    assert {item["name"]: item["role"] for item in found.columns}[column] == role
    assert any(f"'{column}'" in warning and said in warning for warning in found.warnings)


def test_a_file_that_is_not_utf_8_names_the_encoding(tmp_path: Path) -> None:
    limits = Limits(decoded_bytes=1 << 28)
    source = CASES / "latin1.csv"
    with pytest.raises(InvalidData, match="encoding=cp1252"):
        ingest(source, tmp_path, Options(format="csv"), limits)
    found = ingest(source, tmp_path, Options(format="csv", encoding="cp1252"), limits)
    assert found.columns[0]["top"][0][0] in ("Françoise", "Müller")


@pytest.mark.parametrize(
    "content",
    [
        "ann,31\nbob,42\ncid,53\n",
        "39, State-gov, 77516, Bachelors\n50, Private, 83311, Masters\n38, Private, 215646, HS\n",
        "2021-01-01,3,a\n2021-01-02,4,b\n2021-01-03,5,a\n",
        "a,$3.50\nb,$4.20\nc,$5.00\n",
        "a;3,5\nb;4,2\nc;5,1\n",
        "red,1,yes\nblue,2,no\nred,3,yes\n",
    ],
)
def test_a_first_line_of_values_is_a_row_and_told(tmp_path: Path, content: str) -> None:
    table = csv_of(tmp_path, content)
    assert table.table.num_rows == 3
    assert any("header=true" in note for note in table.notes)
    assert csv_of(tmp_path, content, header=True).table.num_rows == 2


@pytest.mark.parametrize(
    "content",
    [
        "country,2019,2020\na,1,2\nb,3,4\n",
        "subject,1,2,3\na,5,6,7\nb,8,9,1\n",
        "id,7,x\n1,2,3\n4,5,6\n",
        "day,2021-01-01,2021-02-01\na,1,2\nb,3,4\n",
        "name,age\nann,31\nbob,42\n",
    ],
)
def test_a_first_line_of_names_is_none(tmp_path: Path, content: str) -> None:
    assert csv_of(tmp_path, content).table.num_rows == 2


@pytest.mark.parametrize(
    "content",
    [
        ",,,\n,,,\n,,name,age\n,,ann,31\n,,bob,42\n",
        "Report 2021\n\nname,age\nann,31\nbob,42\n",
        "Report 2021,\n,\nname,age\nann,31\nbob,42\n",
    ],
)
def test_what_stands_above_a_narrow_table_is_no_part_of_it(tmp_path: Path, content: str) -> None:
    table = csv_of(tmp_path, content).table
    assert table.to_pydict() == {"name": ["ann", "bob"], "age": [31, 42]}


def test_one_cell_more_than_the_header_has_names_is_told(tmp_path: Path) -> None:
    found = csv_of(tmp_path, "name,price\nann,1,50\nbob,2,75\n")
    assert any("quote cells that hold the delimiter" in note for note in found.notes)
    assert csv_of(tmp_path, "a,b\n1,5,6\n2,7,8\n").notes == []


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (
            '"age" "price" "city"\n"1" 31 1.5 "New Oslo"\n"2" 42 2.75 "Rome"\n',
            "index age price city",
        ),
        ('"id" "age" "city"\n"a 1" 31 "x"\n"b 2" 42 "y"\n', "id age city"),
        ("age price\nMazda 31 1.5\nFord 42 2.75\n", "index age price"),
        ("  name  age\n0  ann   31\n1  bob   42\n", "index name age"),
    ],
)
def test_tables_of_r_and_of_pandas_prints(tmp_path: Path, content: str, names: str) -> None:
    table = csv_of(tmp_path, content).table
    assert table.column_names == names.split()
    assert table["age"].to_pylist() == [31, 42]
    if "New" in content:
        assert table["city"].to_pylist() == ["New Oslo", "Rome"]
