"""Ways in: packed files, spreadsheets, Feather, JSON arrays and nested objects are read as the same
table, or refused with what to do."""

import bz2
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import FitserveError, InvalidData, InvalidJSON, TooLarge, UnsupportedMediaType
from app.ml.column_types.notations.notation import CellOptions
from app.ml.tables.formats import Format, format_of
from app.ml.tables.ingest import Limits, Options, Summary, ingest
from tests.support.sheets import workbook

PLAIN = b"a,b,g\n" + b"\n".join(b"%d,%d.5,%s" % (i, i, b"xy"[i % 2 :][:1]) for i in range(12))


def read(folder: Path, content: bytes, kind: Format, **options: Any) -> Summary:
    source, into = folder / "source", folder / "into"
    source.write_bytes(content)
    into.mkdir(exist_ok=True)
    limits = Limits(decoded_bytes=options.pop("most", 1 << 26))
    return ingest(source, into, Options(format=kind, **options), limits)


def table(folder: Path) -> pa.Table:
    return pq.read_table(folder / "into" / "table.parquet")


def zipped(*files: tuple[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return sink.getvalue()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


PACKED = {
    "gzip": gzip.compress(PLAIN),
    "bzip2": bz2.compress(PLAIN),
    "two bzip2": bz2.compress(PLAIN[:20]) + bz2.compress(PLAIN[20:]),
    "zstd": zstd(PLAIN),
    "zip": zipped(("some/table.csv", PLAIN)),
    "zip of a Mac": zipped(("t.csv", PLAIN), ("__MACOSX/._t.csv", b"x"), (".DS_Store", b"x")),
}


@pytest.mark.parametrize("packing", PACKED)
def test_packed_text_is_the_same_table(tmp_path: Path, packing: str) -> None:
    expected = read(tmp_path, PLAIN, "csv")
    found = read(tmp_path, PACKED[packing], "csv")
    assert (found.rows, found.columns) == (expected.rows, expected.columns)
    assert {path.name for path in (tmp_path / "into").iterdir()} == {"table.parquet"}


def test_packed_text_may_have_another_encoding_and_another_format(tmp_path: Path) -> None:
    found = read(tmp_path, bz2.compress("é,b\n1,2\n".encode("cp1252")), "csv", encoding="cp1252")
    assert [column["name"] for column in found.columns] == ["é", "b"]
    lines = b'{"x":1}\n{"x":2}\n'
    assert read(tmp_path, zipped(("rows.jsonl", lines)), "csv").rows == 2
    assert read(tmp_path, zstd(lines), "ndjson").rows == 2


@pytest.mark.parametrize("packing", PACKED)
def test_what_is_cut_off_or_damaged_is_refused(tmp_path: Path, packing: str) -> None:
    content = PACKED[packing]
    for broken in (content[:-9], content[: len(content) // 2]):
        with pytest.raises(InvalidData, match=r"cut off|damaged"):
            read(tmp_path, broken, "csv")
    for place in range(12, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 0x55
        with suppress(FitserveError):  # and nothing else
            read(tmp_path, bytes(flipped), "csv")
    assert not (tmp_path / "into" / "unpacked").exists()


@pytest.mark.parametrize("pack", [bz2.compress, zstd, lambda content: zipped(("t.csv", content))])
def test_bombs_are_refused_before_they_are_unpacked(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    bomb = pack(b"1\n" * 2_000_000)
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge, match="decodes to more"):
        read(tmp_path, bomb, "csv", most=1_000_000)


def test_archives_that_hold_no_single_table(tmp_path: Path) -> None:
    for archive, said in (
        (zipped(("a.csv", PLAIN), ("b.csv", PLAIN)), "of 2 files"),
        (zipped(), "of 0 files"),
        (zipped(("a.csv", gzip.compress(PLAIN))), "gzip within zip"),
        (gzip.compress(gzip.compress(PLAIN)), "gzip within gzip"),
    ):
        with pytest.raises((UnsupportedMediaType, InvalidData), match=said):
            read(tmp_path, archive, "csv")


# ---------------------------------------------------------------- spreadsheets


ROWS: list[list[Any]] = [
    ["item", "qty", "price", "sold", "when", "at", "paid"],
    *(
        [
            f"n{i % 3}",
            i,
            i + 0.5,
            date(2023, 1, i + 1),
            datetime(2023, 1, 2, i),
            time(i),
            i % 2 == 0,
        ]
        for i in range(12)
    ),
]


def test_a_sheet_is_read_like_text(tmp_path: Path) -> None:
    found = read(tmp_path, workbook(Data=[["Sales of the year"], [], *ROWS]), "spreadsheet")
    assert {c["name"]: c["type"] for c in found.columns} == {
        "item": "category",
        "qty": "number",
        "price": "number",
        "sold": "datetime",
        "when": "datetime",
        "at": "number",  # seconds
        "paid": "boolean",
    }
    assert found.rows == 12
    assert found.reading["sheet"] == "Data"
    assert found.reading["header_row"] == 3
    assert table(tmp_path)["qty"].to_pylist() == list(range(12))
    assert any("the table begins in line 3" in warning for warning in found.warnings)


def test_a_sheet_of_remarks_is_not_the_table(tmp_path: Path) -> None:
    remarks: list[list[Any]] = [["About this file"], ["Made in May", "by hand"], ["see Data"]]
    found = read(tmp_path, workbook(About=remarks, Data=ROWS), "spreadsheet")
    assert (found.rows, found.reading["sheet"]) == (12, "Data")
    assert any("others: 'About'" in warning for warning in found.warnings)
    alone = read(tmp_path, workbook(About=[["x"], [1], [2]]), "spreadsheet")
    assert alone.rows == 2


def test_a_table_need_not_begin_in_the_first_cell(tmp_path: Path) -> None:
    inner: list[list[Any]] = [["t", "site", "m"], ["s", None, "kg"]]
    inner += [[i, "ab"[i % 2], i + 0.5] for i in range(4)]
    rows = [[], *([None, *row] for row in [*inner, [], ["Note: by hand"]])]
    found = read(tmp_path, workbook(Data=rows), "spreadsheet")
    assert (found.rows, [c["name"] for c in found.columns]) == (4, ["t", "site", "m"])
    assert found.reading["units"] == {"t": "s", "m": "kg"}
    assert found.reading["notes"] == ["Note: by hand"]
    assert not any("repeat" in warning for warning in found.warnings)


def test_merged_cells_hold_their_value_in_every_row(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["Sales", None, None], ["region", "shop", "sold"]]
    rows += [[("north", None, "south", None)[i], f"s{i}", i] for i in range(4)]
    book = openpyxl.load_workbook(io.BytesIO(workbook(Data=rows)))
    for merged in ("A1:C1", "A3:A4", "A5:A6"):
        book["Data"].merge_cells(merged)
    sink = io.BytesIO()
    book.save(sink)
    read(tmp_path, sink.getvalue(), "spreadsheet")
    assert table(tmp_path)["region"].to_pylist() == ["north", "north", "south", "south"]


def test_notes_below_a_sheets_table_are_no_rows(tmp_path: Path) -> None:
    below: list[list[Any]] = [[], ["Source: the books"], [], ["By hand"]]
    found = read(tmp_path, workbook(Data=[*ROWS, *below]), "spreadsheet")
    assert found.rows == 12
    assert found.reading["notes"] == ["By hand", "Source: the books"]
    alone: list[list[Any]] = [["x", "y", "z"], ["a", 1, 2], ["b", 3, 4], ["c"]]
    assert read(tmp_path, workbook(Data=alone), "spreadsheet").rows == 3


def test_a_sheet_is_chosen(tmp_path: Path) -> None:
    book = workbook(Cover=[], First=[["x"], [1], [2]], Second=[["y"], [3], [4], [5]])
    found = read(tmp_path, book, "spreadsheet")
    assert (found.reading["sheet"], found.rows) == ("First", 2)
    assert any("'Second'" in warning and "sheet=" in warning for warning in found.warnings)
    found = read(tmp_path, book, "spreadsheet", sheet="Second")
    assert found.rows == 3
    assert not any("sheet=" in warning for warning in found.warnings)
    with pytest.raises(
        InvalidData, match=r"no sheet 'Third'; there are 'Cover', 'First'"
    ) as refused:
        read(tmp_path, book, "spreadsheet", sheet="Third")
    assert refused.value.errors[0].pointer == "/sheet"


def test_an_ods_is_read_too(tmp_path: Path) -> None:
    found = read(
        tmp_path, (Path(__file__).parents[3] / "fixtures" / "flats.ods").read_bytes(), "spreadsheet"
    )
    assert [(c["name"], c["type"]) for c in found.columns] == [
        ("size", "number"),
        ("moved in", "datetime"),
        ("city", "category"),
    ]


def test_what_is_no_sheet(tmp_path: Path) -> None:
    book = workbook(Data=ROWS)
    for content in (book[: len(book) // 2], book[:100], workbook(Empty=[])):
        with pytest.raises(InvalidData, match=r"damaged|empty|cut off"):
            read(tmp_path, content, "spreadsheet")
    with pytest.raises(UnsupportedMediaType, match="a spreadsheet, not csv"):
        read(tmp_path, book, "csv")
    assert read(tmp_path, PLAIN, "spreadsheet").rows == 12  # so Windows calls a CSV


# ---------------------------------------------------------------- Feather, pandas


def test_feather_and_arrow_files(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(24), "g": list("abcd") * 6})
    for compression in ("uncompressed", "lz4", "zstd"):
        frame.to_feather(tmp_path / "t.feather", compression=compression)
        found = read(tmp_path, (tmp_path / "t.feather").read_bytes(), "arrow")
        assert [(c["name"], c["type"]) for c in found.columns] == [
            ("x", "number"),
            ("g", "category"),
        ]
    assert format_of("t.feather") == format_of("T.ARROW") == "arrow"


def test_pandas_index_has_a_plain_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": range(30)}, index=pd.date_range("2020-01-01", periods=30))
    sink = io.BytesIO()
    frame.to_parquet(sink)
    found = read(tmp_path, sink.getvalue(), "parquet")
    assert [c["name"] for c in found.columns] == ["x", "index"]
    frame["index"] = 1
    sink = io.BytesIO()
    frame.to_parquet(sink)
    found = read(tmp_path, sink.getvalue(), "parquet")
    assert [c["name"] for c in found.columns] == ["x", "index", "__index_level_0__"]


def test_odd_columns_do_not_refuse_the_file(tmp_path: Path) -> None:
    sink = io.BytesIO()
    columns = {
        "x": pa.array(range(3)),
        "inf": pa.array([1.0, float("inf"), float("-inf")]),
        "big": pa.array([1, 2**63 + 1, 2**64 - 1], pa.uint64()),
        "list": pa.array([[1], [2], [3]]),
        "struct": pa.array([{"a": 1}] * 3),
        "map": pa.array([[("k", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
    }
    pq.write_table(pa.table(columns), sink)
    found = read(tmp_path, sink.getvalue(), "parquet")
    assert [c["name"] for c in found.columns] == ["x", "inf", "big"]
    assert found.columns[1]["missing_as"] == {"inf": 2}
    assert any("2 cells hold infinity" in w for w in found.warnings)
    assert any("'big' holds integers that a 64-bit float" in w for w in found.warnings)
    assert sum("was left out" in w for w in found.warnings) == 3
    with pytest.raises(InvalidData, match="infinity in row 1"):
        read(tmp_path, sink.getvalue(), "parquet", types={"inf": "number"})


# ---------------------------------------------------------------- JSON


def test_an_array_is_a_table(tmp_path: Path) -> None:
    rows = [{"a": i, "b": {"c": i / 2, "d": {"e": "xy"[i % 2]}}, "l": [i]} for i in range(30)]
    for content in (json.dumps(rows), json.dumps(rows, indent=2), "\n".join(map(json.dumps, rows))):
        found = read(tmp_path, content.encode(), "ndjson")
        assert [c["name"] for c in found.columns] == ["a", "b.c", "b.d.e"]
        assert any("'l' holds lists" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("content", "pointer", "said"),
    [
        ('[{"a":1},{"a":1,"a":2}]', "/1/a", "stands twice"),
        ('[{"a":1},[2]]', "/1", "row 1 is no object"),
        ('[{"a":1},{"a":Infinity}]', "/1/a", "send null"),
        ('[{"a":1}', "", "cut off"),
        ("[]", "", "no rows"),
        ('[{"a":true},{"a":3}]', "/1/a", "got the number 3 in row 1"),
        ('[{"a":{"b":1},"a.b":2}]', "/0/a.b", "stands for two members"),
        ('[{"a":[1]},{"a":[2]}]', "/0/a", "a cell is a single value"),
    ],
)
def test_what_is_wrong_in_an_array_has_its_place(
    tmp_path: Path, content: str, pointer: str, said: str
) -> None:
    with pytest.raises((InvalidData, InvalidJSON), match=said) as refused:
        read(tmp_path, content.encode(), "ndjson")
    assert [error.pointer for error in refused.value.errors][:1] == ([pointer] if pointer else [])


def test_nan_in_a_file_is_a_gap(tmp_path: Path) -> None:
    rows = [{"a": i, "b": float("nan") if i % 2 else i / 2} for i in range(10)]
    for content in (json.dumps(rows), "\n".join(map(json.dumps, rows))):
        found = read(tmp_path, content.encode(), "ndjson")
        assert [c["missing"] for c in found.columns] == [0, 5]


def test_numbers_among_strings_of_numbers(tmp_path: Path) -> None:
    rows = [{"v": i / 2 if i % 3 else f"{i / 2}"} for i in range(30)]
    found = read(tmp_path, "\n".join(map(json.dumps, rows)).encode(), "ndjson")
    assert (found.columns[0]["type"], found.columns[0]["max"]) == ("number", 14.5)
    apart = [{"v": "1.5"}] * 20_000 + [{"v": 2}] * 10  # two blocks
    found = read(tmp_path, "\n".join(map(json.dumps, apart)).encode(), "ndjson")
    assert (found.columns[0]["type"], found.columns[0]["max"]) == ("number", 2.0)


@pytest.mark.parametrize("broken", ["</table:table-row>", "<table:table-row>"])
def test_a_sheet_that_ends_too_early_is_refused_at_once(tmp_path: Path, broken: str) -> None:
    """calamine would read on for ever."""
    given = zipfile.ZipFile(Path(__file__).parents[3] / "fixtures" / "flats.ods")
    sink = io.BytesIO()
    with given, zipfile.ZipFile(sink, "w") as archive:
        for name in given.namelist():
            content = given.read(name).decode("latin-1")
            if name == "content.xml":
                content = content[: content.index(broken) + len(broken)]
            archive.writestr(name, content.encode("latin-1"))
    with pytest.raises(InvalidData, match="damaged"):
        read(tmp_path, sink.getvalue(), "spreadsheet")


def test_rows_of_nothing_in_a_sheet_are_no_rows(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["x", "y"], [1, 2], [], [3, 4], *[[]] * 50, [5, "oops"]]
    found = read(tmp_path, workbook(Data=rows), "spreadsheet")
    assert found.rows == 3
    with pytest.raises(InvalidData, match="line 55"):
        read(tmp_path, workbook(Data=rows), "spreadsheet", types={"y": "number"})


def test_cells_that_no_sheet_has(tmp_path: Path) -> None:
    book = zipfile.ZipFile(io.BytesIO(workbook(Data=[["x"], [1]])))
    sink = io.BytesIO()
    with book, zipfile.ZipFile(sink, "w") as archive:
        for name in book.namelist():
            content = book.read(name)
            if name.startswith("xl/worksheets/"):
                content = content.replace(b'r="A2"', b'r="ZZZZZZZ4294967295"')
            archive.writestr(name, content)
    with pytest.raises(InvalidData, match="no sheet has"):
        read(tmp_path, sink.getvalue(), "spreadsheet")


def test_json_that_is_sent_as_csv_is_told(tmp_path: Path) -> None:
    for content in (b'{"a":1}\n{"a":2}\n', b'[{"a":1}]'):
        with pytest.raises(UnsupportedMediaType, match="the content is JSON"):
            read(tmp_path, content, "csv")


def test_a_damaged_part_of_a_sheet_is_refused(tmp_path: Path) -> None:
    book = workbook(Data=[["x", "y"], *([i, i / 7] for i in range(200))])
    for place in range(30, len(book), 61):
        flipped = bytearray(book)
        flipped[place] ^= 0x55
        with suppress(FitserveError):  # and nothing else
            read(tmp_path, bytes(flipped), "spreadsheet")


SPOKEN: list[list[Any]] = [["p", "t"], [1.125, "1.250,50"], [2.375, "2,50"], [3.625, "17,00"]]


@pytest.mark.parametrize("options", [{}, {"cells": CellOptions(decimal=",")}])
def test_numbers_of_a_sheet_are_what_they_are_whatever_its_texts_say(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    read(tmp_path, workbook(Data=SPOKEN), "spreadsheet", **options)
    assert table(tmp_path).to_pydict() == {"p": [1.125, 2.375, 3.625], "t": [1250.5, 2.5, 17]}


def test_texts_of_a_sheet_are_read_as_those_of_a_file_are(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["a", "b"], ["2,5", "1.234"], ["3,75", "2.345"], ["4,5", "7.000"]]
    read(tmp_path, workbook(Data=rows), "spreadsheet")
    assert table(tmp_path)["b"].to_pylist() == [1234, 2345, 7000]
    rows = [["x"], [1.5], ["2,5"], ["3,75"], [4.125]]
    read(tmp_path, workbook(Data=rows), "spreadsheet")
    assert table(tmp_path)["x"].to_pylist() == [1.5, 2.5, 3.75, 4.125]
    rows = [["x", "y"], *([number, "z"] for number in (1500, "2.500", "3.750", 45))]
    found = read(tmp_path, workbook(Data=rows), "spreadsheet")
    assert any("send decimal=," in warning for warning in found.warnings)
