"""Tables as they are stored: equal bytes for equal tables, and rows in pages."""

from datetime import UTC, date, datetime
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import ArtifactCorrupt, InvalidData
from app.ml.tables import parquet
from app.ml.tables.typed import check_names

# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["a", ""], "column 2 has no name"),
        (["a", " \t"], "column 2 has no name"),
        (["a\0"], "the name of column 1 holds a NUL"),
        (["a", "b", "a"], "'a' stands for two columns"),
        (["a" * 257], "257 characters"),
        ([f"c{i}" for i in range(10_001)], "10001 columns are too many"),
    ],
)
def test_names_that_no_table_has_are_refused(names: list[str], problem: str) -> None:
    with pytest.raises(InvalidData, match=problem):
        check_names(names)


def test_names_may_hold_anything_else() -> None:
    check_names(["a" * 256, "größe µ", "a/b~c", 'say "hi"', "two\nlines", "∀x∃y", "😀"])


# ---------------------------------------------------------------- equal tables, equal bytes


def stored(table: pa.Table, folder: Path) -> bytes:
    parquet.write(table, folder / parquet.FILE)
    return (folder / parquet.FILE).read_bytes()


def long_table(rows: int = 140_000) -> pa.Table:
    """Every canonical type, with gaps, in three groups of rows."""
    numbers = np.arange(rows)
    gaps = numbers % 11 == 0
    moments = pa.array(numbers * 1_000_003, pa.timestamp("us"))
    return pa.table(
        {
            "n": numbers,
            "odd": numbers % 2 == 1,
            "x": pa.array(np.sqrt(numbers), mask=gaps),
            "label": pa.array([f"label {i % 1000}" for i in range(rows)], mask=gaps),
            "day": pa.array(numbers % 30_000, pa.int32()).cast(pa.date32()),
            "at": moments,
            "utc": moments.cast(pa.timestamp("us", "UTC")),
        }
    )


def test_the_chunks_of_a_table_leave_no_trace_in_its_bytes(tmp_path: Path) -> None:
    whole = long_table()
    cuts = [0, 1, 1000, 65_535, 70_000, 140_000]
    pieces = [whole.slice(a, b - a) for a, b in pairwise(cuts)]
    assert stored(pa.concat_tables(pieces), tmp_path) == stored(whole, tmp_path)
    shifted = pa.concat_tables([whole.slice(0, 10), whole]).slice(10)
    assert stored(shifted, tmp_path) == stored(whole, tmp_path)


def test_what_lies_under_a_gap_leaves_no_trace(tmp_path: Path) -> None:
    gaps = np.array([False, True, False])
    for one, other in (([1.5, 2.5, 3.5], [1.5, 9.5, 3.5]), ([1, 2, 3], [1, 9, 3])):
        made = [pa.table({"x": pa.array(np.array(v), mask=gaps)}) for v in (one, other)]
        assert stored(made[0], tmp_path) == stored(made[1], tmp_path)


def test_a_stored_table_reads_back_as_it_was(tmp_path: Path) -> None:
    table = long_table()
    path = tmp_path / parquet.FILE
    parquet.write(table, path)
    assert parquet.read(path).equals(table)
    assert parquet.read(path, ["utc", "n"]).equals(table.select(["utc", "n"]))
    assert pa.concat_tables(list(parquet.groups(path))).equals(table)
    assert pa.concat_tables(list(parquet.groups(path, ["x"]))).equals(table.select(["x"]))
    encoded = parquet.read(path, ["label", "n"], encoded=True)
    assert pa.types.is_dictionary(encoded["label"].type)
    assert encoded["label"].cast(pa.string()).equals(table["label"])
    assert encoded["n"].equals(table["n"])


def test_groups_hold_at_most_so_many_rows_and_cells(tmp_path: Path) -> None:
    path = tmp_path / parquet.FILE
    parquet.write(long_table(), path)
    assert [group.num_rows for group in parquet.groups(path)] == [65_536, 65_536, 8_928]
    wide = pa.table({f"c{i}": np.arange(1000) for i in range(8192)})
    parquet.write(wide, path)
    assert [group.num_rows for group in parquet.groups(path)] == [512, 488]


def test_the_disk_is_looked_at_before_every_group(tmp_path: Path) -> None:
    looks: list[int] = []
    parquet.write(long_table(), tmp_path / parquet.FILE, lambda: looks.append(1))
    assert len(looks) == 3


def test_a_damaged_table_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / parquet.FILE
    table = long_table(1000)
    parquet.write(table, path)
    whole = path.read_bytes()
    page = pq.read_metadata(path).row_group(0).column(2).data_page_offset
    for content in (b"", whole[:-1], whole[: len(whole) // 2], whole[4:]):
        path.write_bytes(content)
        with pytest.raises(ArtifactCorrupt):
            parquet.read(path)
    path.write_bytes(whole[: page + 500] + bytes([whole[page + 500] ^ 255]) + whole[page + 501 :])
    with pytest.raises(ArtifactCorrupt):
        parquet.read(path)
    path.unlink()
    with pytest.raises(ArtifactCorrupt):
        next(parquet.read_rows(path, 0, 1))
    with pytest.raises(ArtifactCorrupt):
        next(parquet.groups(path))


# ---------------------------------------------------------------- rows in pages


@pytest.fixture(scope="module")
def paged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """140,000 rows: three row groups."""
    path = tmp_path_factory.mktemp("long") / parquet.FILE
    numbers = np.arange(140_000)
    parquet.write(pa.table({"n": numbers, "odd": numbers % 2 == 1}), path)
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
def test_pages_cross_row_groups(paged: Path, offset: int, limit: int, expected: list[int]) -> None:
    rows = [*chain(*parquet.read_rows(paged, offset, limit))]
    assert rows == [{"n": n, "odd": n % 2 == 1} for n in expected]


def test_a_page_may_span_a_whole_row_group(paged: Path) -> None:
    rows = [*chain(*parquet.read_rows(paged, 60_000, 75_000))]
    assert [row["n"] for row in rows] == list(range(60_000, 135_000))


def test_rows_tell_datetimes_in_iso_8601(tmp_path: Path) -> None:
    table = pa.table(
        {
            "day": [date(2026, 11, 23), date(1, 1, 1), None],
            "at": pa.array(
                [datetime(2026, 11, 23, 9, 30), datetime(1969, 1, 1, 0, 0, 0, 5), None],
                pa.timestamp("us"),
            ),
            "utc": pa.array(
                [datetime(9999, 12, 31, 23, 59, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), None],
                pa.timestamp("us", "UTC"),
            ),
        }
    )
    parquet.write(table, tmp_path / parquet.FILE)
    assert [*chain(*parquet.read_rows(tmp_path / parquet.FILE, 0, 3))] == [
        {"day": "2026-11-23", "at": "2026-11-23T09:30:00", "utc": "9999-12-31T23:59:00Z"},
        {"day": "0001-01-01", "at": "1969-01-01T00:00:00.000005", "utc": "0001-01-01T00:00:00Z"},
        {"day": None, "at": None, "utc": None},
    ]
