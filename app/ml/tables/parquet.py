"""Typed tables and how they are stored: one Parquet file, written so that equal tables give equal
bytes, and read back a group of rows at a time. Importable without torch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import ArtifactCorrupt, InvalidData, TooLarge, escape
from app.ml.tables.canonical import ColumnType
from app.ml.tables.columns import Place, Typed, typed

FILE = "table.parquet"
"""The one file of a dataset's artifact."""

MAX_COLUMNS = 10_000
MAX_NAME = 256
_CELLS_A_GROUP = 4 * 1024 * 1024
_ROWS_A_GROUP = 65_536
_CELLS_WORTH_THREADS = 100_000
_BUFFER = 64 * 1024


@dataclass(frozen=True)
class TypedTable:
    """A canonical table, each column's type, and notes on how the types were found."""

    table: pa.Table
    types: dict[str, ColumnType]
    notes: list[str] = field(default_factory=list)


def assemble(
    columns: dict[str, pa.ChunkedArray],
    types: dict[str, ColumnType],
    place: Place,
    *,
    has_types: bool,
    threads: int = 1,
) -> TypedTable:
    """Type every column (``app.ml.tables.columns``); ``columns`` is emptied on the way.

    Raises InvalidData naming the column, and the cell where there is one.
    """
    names = list(columns)
    rows = len(next(iter(columns.values()))) if columns else 0
    check_names(names)
    check_types(types, names)
    if rows == 0:
        raise no_row()

    def one(name: str) -> Typed:
        return typed(name, columns.pop(name), types.get(name), place, has_types=has_types)

    if threads > 1 and rows * len(names) >= _CELLS_WORTH_THREADS:
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(one, names))
    else:
        found = [one(name) for name in names]
    return TypedTable(
        pa.table([column.values for column in found], names=names),
        {name: column.type for name, column in zip(names, found, strict=True)},
        [column.note for column in found if column.note],
    )


def no_row() -> InvalidData:
    return InvalidData("there is a header but no row; send at least one")


def too_much(most_bytes: int) -> TooLarge:
    return TooLarge(
        f"the file decodes to more than {most_bytes} bytes, which is more than a file of "
        "its size may; send it in parts, or raise FITSERVE_MAX_DECODED_BYTES"
    )


def too_wide(columns: int) -> InvalidData:
    return InvalidData(f"{columns} columns are too many; at most {MAX_COLUMNS}")


def check_names(names: Sequence[str]) -> None:
    """Refuse names that are empty, too long, or stand twice."""
    if len(names) > MAX_COLUMNS:
        raise too_wide(len(names))
    seen: set[str] = set()
    for position, name in enumerate(names, 1):
        if not name.strip() or "\0" in name:
            raise InvalidData(f"column {position} has no name; give every column one")
        if len(name) > MAX_NAME:
            raise InvalidData(
                f"the name of column {position}, '{name[:64]}…', has {len(name)} characters; "
                f"at most {MAX_NAME}"
            )
        if name in seen:
            raise InvalidData(f"the name '{name[:64]}' stands for two columns; rename one")
        seen.add(name)


def check_types(types: dict[str, ColumnType], names: Sequence[str]) -> None:
    """Refuse types of columns that are not there."""
    for name in types:
        if name not in names:
            detail = f"there is no column '{name[:64]}'"
            raise InvalidData.at(f"/types/{escape(name)}", detail, "no_column")


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
    with pa.OSFile(str(path), "wb") as file, pa.BufferedOutputStream(file, _BUFFER) as sink:
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
    """A stored table, or only some of its columns; ``encoded`` gives strings as dictionaries.

    Raises ArtifactCorrupt.
    """
    texts: list[str] = []
    if encoded:
        with _opened(path) as file:
            texts = [item.name for item in file.schema_arrow if pa.types.is_string(item.type)]
    with _opened(path, read_dictionary=texts) as file:
        table = file.read(columns=list(columns) if columns is not None else None)
    return table.unify_dictionaries() if encoded else table


def names(path: Path) -> list[str]:
    """Of a stored table's columns. Raises ArtifactCorrupt."""
    with _opened(path) as file:
        return list(file.schema_arrow.names)


def groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """A stored table piece by piece, in memory one at a time. Raises ArtifactCorrupt."""
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, list(columns) if columns is not None else None)


def cut(pieces: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of ``rows`` (the last may have fewer), nothing copied."""
    kept: list[pa.Table] = []
    size = 0
    for piece in pieces:
        while size + piece.num_rows >= rows:
            yield pa.concat_tables([*kept, piece.slice(0, rows - size)])
            piece = piece.slice(rows - size)
            kept, size = [], 0
        if piece.num_rows:
            kept.append(piece)
            size += piece.num_rows
    if kept:
        yield pa.concat_tables(kept)


def read_rows(path: Path, offset: int, limit: int) -> list[dict[str, Any]]:
    """``limit`` rows from ``offset`` as JSON objects; only the groups they lie in are read."""
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


def objects(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as JSON objects."""
    dated = [item.name for item in table.schema if pa.types.is_temporal(item.type)]
    rows: list[dict[str, Any]] = table.to_pylist()
    for name in dated:
        for row in rows:
            row[name] = iso(row[name])
    return rows


def iso(value: date | datetime | None) -> str | None:
    """ISO 8601 as all our answers write it: UTC as ``Z``."""
    return value.isoformat().replace("+00:00", "Z") if value is not None else None
