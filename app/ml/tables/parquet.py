"""Tables as they are stored: one Parquet file, written so that equal tables give equal bytes, and
read back a group of rows at a time. Importable without torch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import ArtifactCorrupt
from app.ml.column_types.canonical import objects

FILE = "table.parquet"
"""The one file of a dataset's artifact."""

_CELLS_A_GROUP = 4 * 1024 * 1024
_ROWS_A_GROUP = 65_536
_BUFFER_BYTES = 64 * 1024
_CELLS_AT_ONCE = 64 * 1024
_ROWS_AT_ONCE = 8_192
_BYTES_AT_ONCE = 256 * 1024
"""Of what is read to be sent: a client that takes none of it holds so much, a few times over."""


# ---------------------------------------------------------------- writing


def write(table: pa.Table, path: Path, before_group: Callable[[], object] = lambda: None) -> None:
    """Write a canonical table; equal tables give equal bytes, however their columns are chunked.

    ``before_group`` is called before every group of rows (to look at the disk, for example).
    """
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    rows = max(1, min(_ROWS_A_GROUP, _CELLS_A_GROUP // table.num_columns))
    with (
        _sink(path) as sink,
        pq.ParquetWriter(
            sink,
            table.schema,
            compression="zstd",
            use_dictionary=texts,
            use_byte_stream_split=floats,  # numbers of one magnitude share their exponents' bytes
            store_schema=False,
            write_page_checksum=True,
        ) as writer,
    ):
        for start in range(0, table.num_rows, rows):
            before_group()
            writer.write_table(table.slice(start, rows).combine_chunks(), row_group_size=rows)


@contextmanager
def _sink(path: Path) -> Iterator[Any]:
    """A file that is written in few pieces: a small table has more headers than rows."""
    with pa.OSFile(str(path), "wb") as file, pa.BufferedOutputStream(file, _BUFFER_BYTES) as sink:
        yield sink


# ---------------------------------------------------------------- reading


@contextmanager
def _opened(path: Path, **options: Any) -> Iterator[pq.ParquetFile]:
    """A stored table whose pages are checked as they are read, one after the other: buffered ahead,
    a group would be in memory twice. Raises ArtifactCorrupt."""
    options = {"page_checksum_verification": True, "pre_buffer": False, **options}
    try:
        with pq.ParquetFile(path, **options) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise ArtifactCorrupt(
            f"the table {path.parent.name} is missing or damaged on disk; restore it from a backup"
        ) from error


def read(path: Path, columns: Sequence[str] | None = None, *, encoded: bool = False) -> pa.Table:
    """Return a stored table, or only some of its columns.

    ``encoded`` gives strings as dictionaries. Raises ArtifactCorrupt.
    """
    texts: list[str] = []
    if encoded:
        with _opened(path) as file:
            texts = [item.name for item in file.schema_arrow if pa.types.is_string(item.type)]
    with _opened(path, read_dictionary=texts) as file:
        table = file.read(columns=list(columns) if columns is not None else None)
    return table.unify_dictionaries() if encoded else table


def names(path: Path) -> list[str]:
    """Return the names of a stored table's columns. Raises ArtifactCorrupt."""
    with _opened(path) as file:
        return list(file.schema_arrow.names)


def groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield a stored table by groups of rows, one in memory at a time. Raises ArtifactCorrupt."""
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, list(columns) if columns is not None else None)


def cut(pieces: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield the same rows in tables of ``rows`` (the last may have fewer), nothing copied."""
    begun: list[pa.Table] = []
    size = 0
    for piece in pieces:
        while size + piece.num_rows >= rows:
            yield pa.concat_tables([*begun, piece.slice(0, rows - size)])
            piece = piece.slice(rows - size)
            begun, size = [], 0
        if piece.num_rows:
            begun.append(piece)
            size += piece.num_rows
    if begun:
        yield pa.concat_tables(begun)


def batches(
    path: Path, offset: int = 0, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield a stored table from row ``offset`` on, all columns or some, a few rows at a time: all
    that is in memory of a table that may have many columns and long texts. Raises ArtifactCorrupt.
    """
    with _opened(path, buffer_size=_BUFFER_BYTES) as file:
        groups, skip = _groups_from(file, offset)
        for batch in file.iter_batches(_rows_at_once(file), groups, columns):
            left = pa.Table.from_batches([batch.slice(skip)])
            left = left if columns is None else left.select(columns)
            skip = max(0, skip - batch.num_rows)
            # few bytes on disk may have been a long text in every row
            rows = max(1, left.num_rows * _BYTES_AT_ONCE // max(1, left.nbytes))
            for start in range(0, left.num_rows, rows):
                yield left.slice(start, rows)


def _rows_at_once(file: pq.ParquetFile) -> int:
    """Return how many rows are little enough, by the cells and bytes that they have on average."""
    rows = _CELLS_AT_ONCE // len(file.schema_arrow)
    for group in map(file.metadata.row_group, range(file.num_row_groups)):
        rows = min(rows, group.num_rows * _BYTES_AT_ONCE // max(1, group.total_byte_size))
    return max(1, min(rows, _ROWS_AT_ONCE))


def read_rows(
    path: Path, offset: int, limit: int, columns: Sequence[str] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield ``limit`` rows from ``offset`` as JSON objects, some at a time, of all or some columns.

    Raises ArtifactCorrupt.
    """
    left = limit
    for table in batches(path, offset, columns) if limit else ():
        yield objects(table.slice(0, left))
        left -= table.num_rows
        if left <= 0:
            return


def _groups_from(file: pq.ParquetFile, offset: int) -> tuple[list[int], int]:
    """Return the groups that have rows from ``offset`` on, and how many rows of them come before
    it."""
    start, found, skip = 0, list[int](), 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if start + rows > offset:
            skip = skip if found else offset - start
            found.append(group)
        start += rows
    return found, skip
