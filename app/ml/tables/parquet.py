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
from app.ml.tables.canonical import objects

FILE = "table.parquet"
"""The one file of a dataset's artifact."""

_CELLS_A_GROUP = 4 * 1024 * 1024
_ROWS_A_GROUP = 65_536
_BUFFER_BYTES = 64 * 1024


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
    """A stored table whose pages are checked as they are read. Raises ArtifactCorrupt."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, **options) as file:
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


def read_rows(path: Path, offset: int, limit: int) -> list[dict[str, Any]]:
    """Return ``limit`` rows from ``offset`` as JSON objects; only their groups are read.

    Raises ArtifactCorrupt.
    """
    with _opened(path) as file:
        found: list[dict[str, Any]] = []
        for group, skip in _groups_from(file, offset):
            found += objects(file.read_row_group(group).slice(skip, limit - len(found)))
            if len(found) >= limit:
                break
        return found


def _groups_from(file: pq.ParquetFile, offset: int) -> Iterator[tuple[int, int]]:
    start = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if start + rows > offset:
            yield group, max(0, offset - start)
        start += rows
