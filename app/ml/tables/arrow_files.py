"""Parquet files and Arrow streams as typed tables, read batch by batch and counted as they come."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.errors import InvalidData, escape
from app.ml.tables.columns import MAX_CELL_BYTES, cell_too_long
from app.ml.tables.parquet import cut
from app.ml.tables.typed import ColumnOptions, TypedTable, assemble, check_names, no_row, too_much

_ROWS_AT_ONCE = 65_536
_BYTES_A_VALUE = 8
_EXTENSION = b"ARROW:extension:name"
_PANDAS_INDEX = re.compile(r"__index_level_(\d+)__")
_FILE = b"ARROW1\0\0"
_DICTIONARY, _BATCH = 2, 3  # kinds of messages: MessageHeader in format/Message.fbs
_OF_ANY_LENGTH = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
)


def read_parquet(
    path: Path, column_options: ColumnOptions, most_bytes: int, threads: int = 1
) -> TypedTable:
    """Return the table of a Parquet file.

    Raises InvalidData, or TooLarge where it decodes to more than ``most_bytes``.
    """
    with explained("Parquet file"), pq.ParquetFile(path) as file:
        _check_schema(file.schema_arrow)
        texts = _with_dictionaries(file)
    # as dictionaries: a few bytes may say that a long text stands in every row
    with explained("Parquet file"), pq.ParquetFile(path, read_dictionary=texts) as file:
        batches = file.iter_batches(_ROWS_AT_ONCE, use_threads=threads > 1)
        table = _checked(batches, file.schema_arrow, most_bytes)
    return _assembled(table, column_options, threads)


def _with_dictionaries(file: pq.ParquetFile) -> list[str]:
    """The names of text columns that are stored as dictionaries."""
    if not file.metadata.num_row_groups:
        return []
    group = file.metadata.row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    encoded = {
        chunk.path_in_schema
        for chunk in chunks
        if {"PLAIN_DICTIONARY", "RLE_DICTIONARY"} & {*chunk.encodings}
    }
    texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
    return [name for name in texts if name in encoded]


def _is_text(kind: pa.DataType) -> bool:
    return any(is_of_kind(kind) for is_of_kind in _OF_ANY_LENGTH)


def read_arrow(
    path: Path, column_options: ColumnOptions, most_bytes: int, threads: int = 1
) -> TypedTable:
    """Return the table of an Arrow IPC stream or file (Feather).

    Raises InvalidData, or TooLarge where it decodes to more than ``most_bytes``.
    """
    with (
        explained("Arrow stream"),
        pa.OSFile(str(path)) as file,
        pa.ipc.open_stream(_at_stream(file)) as stream,
    ):
        _check_schema(stream.schema)
        table = _checked(stream, stream.schema, most_bytes)
    return _assembled(table, column_options, threads)


def _at_stream(file: pa.NativeFile) -> pa.NativeFile:
    """Return ``file`` where its stream begins: an Arrow file is a stream between two magic words,
    with a table of contents behind it."""
    file.seek(0)
    if file.read(len(_FILE)) != _FILE:
        file.seek(0)
    return file


class Stream(NamedTuple):
    """An IPC stream that is open."""

    names: list[str]
    rows: int
    """As many as its batches claim to have."""
    pieces: Iterator[pa.Table]


def is_plain(path: Path) -> bool:
    """Return whether a file is an IPC stream that can be mapped: none of its parts is compressed.

    False for whatever cannot be read as one.
    """
    try:
        with explained("Arrow stream"), pa.memory_map(str(path)) as file:
            return _claimed_rows(file) is not None
    except InvalidData:
        return False


@contextmanager
def stream(path: Path, rows: int, most_bytes: int) -> Iterator[Stream]:
    """Open an IPC stream as pieces of ``rows`` rows, mapped, not copied.

    It is to be plain: what is compressed could unpack to anything. Raises InvalidData, or TooLarge
    where a piece takes more than ``most_bytes`` once its dictionaries are written out.
    """
    with explained("Arrow stream"):
        file = pa.memory_map(str(path))
    with file:
        with explained("Arrow stream"):
            claimed = _claimed_rows(file) or 0
            batches = pa.ipc.open_stream(_at_stream(file))
            _check_extensions(batches.schema)
        with batches:
            yield Stream(
                plain_names(batches.schema.names), claimed, _pieces(batches, rows, most_bytes)
            )


def _pieces(batches: pa.RecordBatchReader, rows: int, most_bytes: int) -> Iterator[pa.Table]:
    with explained("Arrow stream"):
        for piece in cut(_validated(batches), rows):
            hiding = [column for column in piece.columns if _hides_size(column.type)]
            if (
                sum(_decoded_bytes(part) for column in hiding for part in column.chunks)
                > most_bytes
            ):
                raise too_much(most_bytes)
            yield piece


def _validated(batches: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """The batches without empty ones, of which millions fit into a file."""
    for batch in batches:
        if batch.num_rows:
            for name, column in zip(batches.schema.names, batch.columns, strict=True):
                _validate(name, column)
            table = pa.Table.from_batches([batch])
            yield table.rename_columns(plain_names(table.column_names))


def _hides_size(kind: pa.DataType) -> bool:
    """Whether few bytes may stand for many."""
    return bool(pa.types.is_dictionary(kind) or pa.types.is_string_view(kind))


def _claimed_rows(file: pa.NativeFile) -> int | None:
    """Of all batches, by their heads; None where one is compressed: Arrow allocates what such claim
    to be."""
    messages = pa.ipc.MessageReader.open_stream(_at_stream(file))
    rows = 0
    with suppress(StopIteration):
        while True:
            message = messages.read_next_message()
            head = message.metadata.to_pybytes()
            if _is_compressed(head):
                return None
            rows += _length(head)
    return rows


def _is_compressed(data: bytes) -> bool:
    """Whether a record batch or dictionary names a ``BodyCompression``.

    The head is a flatbuffer that Arrow has verified (format/Message.fbs): a ``Message`` whose
    header is a ``RecordBatch``, or a ``DictionaryBatch`` around one.
    """
    kind, header = _header(data)
    batch = _table(data, header, 1) if kind == _DICTIONARY and header is not None else header
    return (
        kind in (_DICTIONARY, _BATCH) and batch is not None and _field(data, batch, 3) is not None
    )


def _length(data: bytes) -> int:
    """The rows that a record batch says it has; 0 for other messages."""
    kind, header = _header(data)
    place = _field(data, header, 0) if kind == _BATCH and header is not None else None
    rows = 0 if place is None else int.from_bytes(data[place : place + 8], "little", signed=True)
    return max(0, rows)


def _header(data: bytes) -> tuple[int | None, int | None]:
    """``(kind, where)`` of what a message is about."""
    message = int.from_bytes(data[:4], "little")
    kind = _field(data, message, 1)
    return None if kind is None else data[kind], _table(data, message, 2)


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a field of a flatbuffer's table stands; ``None`` where it is left out."""
    places = table - int.from_bytes(data[table : table + 4], "little", signed=True)
    slot = 4 + 2 * number
    if slot >= int.from_bytes(data[places : places + 2], "little"):
        return None
    offset = int.from_bytes(data[places + slot : places + slot + 2], "little")
    return table + offset if offset else None


def _table(data: bytes, table: int, number: int) -> int | None:
    """Where the table stands that a field refers to."""
    at = _field(data, table, number)
    return None if at is None else at + int.from_bytes(data[at : at + 4], "little")


def plain_names(names: Sequence[str]) -> list[str]:
    """Return names with pandas' ``__index_level_0__`` as ``index``, where nothing is called so."""
    found = list(names)
    for place, name in enumerate(names):
        if match := _PANDAS_INDEX.fullmatch(name):
            plain = "index" if match[1] == "0" else f"index_{match[1]}"
            found[place] = name if plain in names else plain
    return found


def _check_schema(schema: pa.Schema) -> None:
    check_names(schema.names)
    _check_extensions(schema)


def _check_extensions(schema: pa.Schema) -> None:
    for field in schema:
        extended = isinstance(field.type, pa.BaseExtensionType)
        if extended or _EXTENSION in (field.metadata or {}):
            raise InvalidData.at(
                f"/{escape(field.name)}",
                f"column '{field.name[:64]}' is of the extension type {str(field.type)[:64]}; "
                "store it as numbers, strings, booleans or timestamps",
                "wrong_type",
            )


def _checked(batches: Iterable[pa.RecordBatch], schema: pa.Schema, most_bytes: int) -> pa.Table:
    """The batches as a table, once their claims hold and while they are not too much."""
    checked: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        for name, column in zip(schema.names, batch.columns, strict=True):
            _validate(name, column)
            size += _decoded_bytes(column)
            if _longest(column) > MAX_CELL_BYTES:
                pointer = f"/{escape(name[:64])}"
                raise cell_too_long(f"column '{name[:64]}'", pointer)
        if size > most_bytes:
            raise too_much(most_bytes)
        checked.append(batch)
    return pa.Table.from_batches(checked, schema)


def _validate(name: str, column: pa.Array) -> None:
    """Offsets and UTF-8 are the sender's claims; what follows would trust them."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise InvalidData.at(
            f"/{escape(name[:64])}",
            f"column '{name[:64]}' is damaged, or holds strings that are no UTF-8: "
            f"{str(error).splitlines()[0][:100]}",
        ) from error


def _decoded_bytes(column: pa.Array) -> int:
    """What the column takes once every value stands for itself; dictionaries and views hide it."""
    kind, rows = column.type, len(column)
    if pa.types.is_dictionary(kind):
        values = column.dictionary
        if not _is_text(values.type):
            return _BYTES_A_VALUE * rows
        lengths = pc.take(pc.binary_length(values), column.indices)
        return _BYTES_A_VALUE * rows + int(pc.sum(lengths).as_py() or 0)
    if pa.types.is_string_view(kind):
        views = np.frombuffer(column.buffers()[1], np.int32)[4 * column.offset :: 4]
        return _BYTES_A_VALUE * rows + int(views[:rows].sum(dtype=np.int64))
    return max(_BYTES_A_VALUE * rows, int(column.nbytes))


def _longest(column: pa.Array) -> int:
    """Bytes of the longest text in a column; 0 where it holds none."""
    values = column.dictionary if pa.types.is_dictionary(column.type) else column
    if pa.types.is_string_view(values.type):
        views = np.frombuffer(values.buffers()[1], np.int32)[4 * values.offset :: 4][: len(values)]
        return int(views.max(initial=0))
    return int(pc.max(pc.binary_length(values)).as_py() or 0) if _is_text(values.type) else 0


def _assembled(table: pa.Table, column_options: ColumnOptions, threads: int) -> TypedTable:
    if table.num_rows == 0:
        raise no_row()

    def place(name: str, row: int) -> tuple[str, str]:
        return f"row {row}", f"/rows/{row}/{escape(name)}"

    columns = dict(zip(plain_names(table.column_names), table.columns, strict=True))
    return assemble(columns, column_options, place, has_types=True, threads=threads)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Raise what Arrow cannot read as InvalidData; memory that ran out stays a MemoryError."""
    try:
        yield
    except MemoryError:  # Arrow's is an ArrowException too
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        message = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InvalidData(
            f"this {what} cannot be read; it is damaged or cut off: {message}"
        ) from error
