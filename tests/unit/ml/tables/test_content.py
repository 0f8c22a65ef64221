"""Equal content is one table, whatever it came in as, and comes out as it went in."""

import io
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import ArtifactCorrupt
from app.hashes import sha256_of
from app.ml.tables import content, json_rows, parquet
from app.ml.tables.content import ARROW, CSV
from app.ml.tables.csv_files import MISSING
from app.ml.tables.ingest import Limits, store
from app.ml.tables.typed import TypedTable
from tests.support.files import (
    Lists,
    as_arrow,
    as_arrow_csv,
    as_csv,
    as_ndjson,
    as_parquet,
    ingested,
    rows_of,
    shown,
)

ZONED = pa.timestamp("us", tz="UTC")
ARROW_TYPES = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    date: pa.date32(),
}


def arrow_type(values: Sequence[Any]) -> pa.DataType:
    """What a program that knows its types would write."""
    kinds = {type(value) for value in values if value is not None}
    if datetime in kinds:
        zones = {value.tzinfo for value in values if value is not None}
        return ZONED if zones == {UTC} else pa.timestamp("us")
    if kinds == {int, float}:
        return pa.float64()
    return ARROW_TYPES[kinds.pop()] if kinds else pa.null()


def as_table(values: Lists) -> pa.Table:
    def array(column: list[Any]) -> pa.Array:
        kind = arrow_type(column)
        if kind == pa.float64():
            column = [None if value is None else float(value) for value in column]
        return pa.array(column, kind)

    return pa.table([array(column) for column in values.values()], names=list(values))


# ---------------------------------------------------------------- what a table may hold

_LETTERS = st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\r\t\x01\x7f")
_TEXT = st.text(_LETTERS, max_size=12)
_CATEGORIES = _TEXT.map("c{}".format)  # no number, boolean, datetime or marker of missing values
_NAMES = st.text(_LETTERS, min_size=1, max_size=12).map("n{}".format) | st.sampled_from(
    ["größe µ", 'say "hi"', "a,b;c\td|e", "two\nlines", "∀x∃y", "😀", " padded ", "a/b~c"]
)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [1.7976931348623157e308, -1.7976931348623157e308, 5e-324, 2.2250738585072014e-308, 0.1, -0.0]
)
_MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
_KINDS: list[st.SearchStrategy[Any]] = [
    _FLOATS,
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-1000, 1000),
    st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e6, 1e6),
    st.booleans(),
    _CATEGORIES,
    st.dates(),
    _MOMENTS,
    _MOMENTS.map(lambda moment: moment.replace(tzinfo=UTC)),
    st.none(),
]


@st.composite
def lists(draw: st.DrawFn) -> Lists:
    """Named columns of one length, each of one type with gaps."""
    names = draw(st.lists(_NAMES, min_size=1, max_size=4, unique=True))
    rows = draw(st.integers(1, 12))
    return {
        name: draw(
            st.sampled_from(_KINDS).flatmap(
                lambda kind: st.lists(st.none() | kind, min_size=rows, max_size=rows)
            )
        )
        for name in names
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def has_no_empty_line(values: Lists) -> bool:
    """A gap alone in its row is an empty line of CSV, which is no row."""
    return len(values) > 1 or None not in next(iter(values.values()))


def stored(typed: TypedTable, folder: Path) -> tuple[pa.Table, str]:
    store(typed, folder, Limits(decoded_bytes=1 << 30, free_disk_bytes=0))
    return parquet.read(folder / parquet.FILE), sha256_of(folder / parquet.FILE)


# ---------------------------------------------------------------- equal content, equal bytes


@given(lists())
@example({"a": [2.0**53, 1.0]})
@example({"a": [2.0**62, None], "b": [1e16, 1e15]})
@example({"a": [-(2**63), 2**63 - 1, 2**53 + 1]})
@example({"a": [1e300, 2.0**53 + 2], "b": [5e-324, -0.0]})
@example({"a": [datetime(999, 1, 1, 1, 2, 3, 4)], "b": [date(999, 1, 1)]})
@example({"a": [datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)], "b": [date(1969, 12, 31)]})
@example({"a": [datetime(2026, 1, 1, tzinfo=UTC)], "b": [datetime(2026, 1, 1)]})
def test_a_table_is_the_same_whatever_it_came_in_as(folder: Path, values: Lists) -> None:
    in_json = {name: [shown(value) for value in column] for name, column in values.items()}
    expected, sha256 = stored(json_rows.from_columns(in_json), folder)
    table = as_table(values)
    if has_no_empty_line(values):
        for text in (as_csv(values), as_csv(values, lineterminator="\n"), as_arrow_csv(table)):
            # the first of two names may be quoted over two lines, where no delimiter is found
            found = ingested(folder, text, "csv", delimiter=",")
            assert found.table.equals(expected)
            assert found.sha256 == sha256
        with_quotes = as_csv(values, quoting=1, delimiter=";")
        assert ingested(folder, with_quotes, "csv", delimiter=";").sha256 == sha256
    for found in (
        ingested(folder, as_ndjson(values), "ndjson"),
        ingested(folder, as_parquet(table), "parquet"),
        ingested(folder, as_parquet(table, row_group_size=3, compression="none"), "parquet"),
        ingested(folder, as_arrow(table), "arrow"),
    ):
        assert found.table.equals(expected)
        assert found.sha256 == sha256
    by_rows, again = stored(json_rows.from_rows(rows_of(in_json)), folder)
    assert by_rows.equals(expected)
    assert again == sha256


@given(lists())
@example({"a": [2.0**53, 1.0]})
@example({"a": [None, None]})
@example({"a": [None, 1.5, None]})
@example({"a": [datetime(999, 1, 1, 1, 2, 3, 4)], "b": [date(999, 1, 1)]})
@example({"two\nlines": ["c,;\n"], "b": ["c|"]})
def test_what_is_downloaded_can_be_uploaded_again(folder: Path, values: Lists) -> None:
    in_json = {name: [shown(value) for value in column] for name, column in values.items()}
    _, sha256 = stored(json_rows.from_columns(in_json), folder)
    path = folder / parquet.FILE
    by_csv, by_arrow = (b"".join(content.stream(path, media)) for media in (CSV, ARROW))
    again = path.read_bytes()
    assert ingested(folder, by_csv, "csv", delimiter=",").sha256 == sha256
    assert ingested(folder, by_arrow, "arrow").sha256 == sha256
    assert ingested(folder, again, "parquet").sha256 == sha256


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (pa.int8(), [1, 2, None]),
        (pa.uint64(), [1, 2, None]),
        (pa.float32(), [1.0, 2.0, None]),
        (pa.float16(), [1.0, 2.0, None]),
        (pa.decimal128(10, 2), [1, 2, None]),
        (pa.dictionary(pa.int8(), pa.int64()), [1, 2, None]),
        (pa.large_string(), ["a", "b", None]),
        (pa.string_view(), ["a", "b", None]),
        (pa.binary(), [b"a", b"b", None]),
        (pa.large_binary(), [b"a", b"b", None]),
        (pa.dictionary(pa.int32(), pa.string()), ["a", "b", None]),
        (pa.date64(), [date(2026, 11, 23), date(1969, 1, 1), None]),
        (pa.timestamp("s"), [datetime(2026, 11, 23), datetime(1969, 1, 1), None]),
        (pa.timestamp("ns"), [datetime(2026, 11, 23, 9), datetime(1969, 1, 1), None]),
        (pa.timestamp("ms", "Europe/Berlin"), [datetime(2026, 11, 23, 9, tzinfo=UTC), None, None]),
    ],
)
def test_arrows_other_types_become_the_canonical_ones(
    folder: Path, written: pa.DataType, kind: list[Any]
) -> None:
    plain = [value.decode() if isinstance(value, bytes) else value for value in kind]
    _, sha256 = stored(
        json_rows.from_columns({"a": [shown(v) for v in plain], "b": [1, 2, 3]}), folder
    )
    table = pa.table({"a": pa.array(kind, written), "b": [1, 2, 3]})
    assert ingested(folder, as_arrow(table), "arrow").sha256 == sha256
    if written != pa.string_view():
        assert ingested(folder, as_parquet(table), "parquet").sha256 == sha256


@pytest.mark.parametrize("cell", MISSING)
def test_markers_of_missing_values_are_missing(folder: Path, cell: str) -> None:
    assert ingested(folder, f"a,b\n{cell},1\nx,2\n").table["a"].to_pylist() == [None, "x"]


# ---------------------------------------------------------------- our own CSV

_MARKS = st.sampled_from([*MISSING, " ", "\\N", 'say "NA"', "a,b", "two\nlines"])


@st.composite
def marked(draw: st.DrawFn) -> Lists:
    """Columns of strings among which are marks of missing values and gaps, perhaps with numbers."""
    rows = draw(st.integers(1, 8))
    cells = st.lists(st.none() | _MARKS | _CATEGORIES, min_size=rows, max_size=rows)
    numbers = st.lists(st.none() | st.integers(-9, 9), min_size=rows, max_size=rows)
    names = draw(st.lists(_NAMES, min_size=1, max_size=3, unique=True))
    return {name: draw(cells if i == 0 else cells | numbers) for i, name in enumerate(names)}


@given(marked())
@example({"a": ["", "NA", None]})
@example({"a": ["", "NA", None], "b": [1, None, 2]})
@example({"a": [None, None], "b": ["nan", ""]})
@example({"a;b": ["null"], "\ufeffc": ["x"]})
def test_our_own_csv_is_read_back_with_its_strings_and_gaps(folder: Path, values: Lists) -> None:
    _, sha256 = stored(json_rows.from_columns(values), folder)
    text = b"".join(content.stream(folder / parquet.FILE, CSV))
    assert ingested(folder, text).sha256 == sha256


def test_others_read_our_csv_too(folder: Path) -> None:
    values: Lists = {"k": ["a", "NA", "", None], "n": [1, None, 3, 4]}
    stored(json_rows.from_columns(values), folder)
    text = b"".join(content.stream(folder / parquet.FILE, CSV))
    assert text == b'k,n\n"a",1\n"NA",\n"",3\n,4\n'
    frame = pd.read_csv(io.BytesIO(text), keep_default_na=False, na_values={"n": [""]})
    assert frame["k"].tolist() == ["a", "NA", "", ""]
    assert frame["n"].isna().tolist() == [False, True, False, False]
    strict = pacsv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    assert pacsv.read_csv(io.BytesIO(text), convert_options=strict).to_pydict() == values


@pytest.mark.parametrize(
    ("text", "k"),
    [
        ('k,n\n"NA",1\n"",2\nNA,3\n', ["NA", "", None]),
        ('"k","n"\n"NA",1\n"",2\nx,3\n', [None, None, "x"]),  # which quotes a gap like all else
        ('k,n\n"NA",1\n7,2\n"",3\n', [None, 7, None]),  # among numbers it is no string
        ('k;n\n"NA";1\nx;2\n', ["NA", "x"]),
    ],
)
def test_a_quoted_mark_is_a_string_among_strings_where_quotes_mean_something(
    folder: Path, text: str, k: list[Any]
) -> None:
    assert ingested(folder, text).table["k"].to_pylist() == k


# ---------------------------------------------------------------- the stream itself


def test_a_long_table_is_streamed_group_by_group(tmp_path: Path) -> None:
    rows = 140_000
    table = json_rows.from_columns({"n": list(range(rows)), "half": [i / 2 for i in range(rows)]})
    parquet.write(table.table, tmp_path / parquet.FILE)
    for media in (CSV, ARROW):
        pieces = list(content.stream(tmp_path / parquet.FILE, media))
        assert len(pieces) >= 3
        assert max(len(piece) for piece in pieces) < 0.6 * sum(len(piece) for piece in pieces)


def test_csv_tells_datetimes_in_iso_8601_and_quotes_what_needs_it(tmp_path: Path) -> None:
    first = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    moments = [first, first + timedelta(microseconds=1500)]
    table = pa.table({"at": pa.array(moments, ZONED), 'a "b",\nc': ["x,y", None]})
    parquet.write(table, tmp_path / parquet.FILE)
    text = b"".join(content.stream(tmp_path / parquet.FILE, CSV)).decode()
    header, *rows = text.splitlines()[1:]
    assert text.startswith('at,"a ""b"",\nc"\n')
    assert header == 'c"'
    assert rows == ['"2026-11-23T09:30:00Z","x,y"', '"2026-11-23T09:30:00.001500Z",']


def test_a_damaged_table_is_refused_before_the_first_piece(tmp_path: Path) -> None:
    (tmp_path / parquet.FILE).write_bytes(b"PAR1 but no more")
    with pytest.raises(ArtifactCorrupt):
        content.stream(tmp_path / parquet.FILE, CSV)


def test_what_json_calls_a_row_is_what_was_sent(tmp_path: Path) -> None:
    sent = [{"a": 1.5, "b": "x", "at": "2026-11-23T09:30:00Z"}, {"a": None, "b": "y", "at": None}]
    typed = json_rows.from_rows(json.loads(json.dumps(sent)))
    parquet.write(typed.table, tmp_path / parquet.FILE)
    assert [*chain(*parquet.read_rows(tmp_path / parquet.FILE, 0, 10))] == sent
