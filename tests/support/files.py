"""What the tests of files share: tables written in every format, and files read as uploads are."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from app.errors import FitserveError
from app.ml.column_types.canonical import TypeName
from app.ml.tables import parquet
from app.ml.tables.csv_files import read_csv
from app.ml.tables.csv_layout import CSVOptions
from app.ml.tables.formats import Format
from app.ml.tables.ingest import Limits, Options, Summary, ingest
from app.ml.tables.typed import ColumnOptions, TypedTable

Error = TypeVar("Error", bound=FitserveError)
ROOMY = 1 << 30
"""Bytes that no test's file decodes to."""


@dataclass(frozen=True)
class Stored:
    """What a file became."""

    summary: Summary
    table: pa.Table
    sha256: str

    @property
    def types(self) -> dict[str, str]:
        return {column["name"]: column["type"] for column in self.summary.columns}


def ingested(
    folder: Path, content: bytes | str, kind: Format = "csv", most: int = ROOMY, **options: Any
) -> Stored:
    """The content of a file as ``ingest`` stores it; nothing but the table is left behind."""
    into = folder / "into"
    summary = _ingest(folder, content, kind, most, options)
    assert [path.name for path in into.iterdir()] == [parquet.FILE]
    path = into / parquet.FILE
    return Stored(summary, parquet.read(path), hashlib.sha256(path.read_bytes()).hexdigest())


def refusal(
    folder: Path,
    expected: type[Error],
    content: bytes | str,
    kind: Format = "csv",
    most: int = ROOMY,
    **options: Any,
) -> Error:
    """The error that ``ingest`` raises, exactly of that type; nothing is left behind."""
    with pytest.raises(expected) as caught:
        _ingest(folder, content, kind, most, options)
    assert type(caught.value) is expected
    assert [path.name for path in (folder / "into").iterdir() if path.name != parquet.FILE] == []
    assert len(caught.value.detail) < 700
    return caught.value


def pointers(error: FitserveError) -> list[str]:
    return [item.pointer for item in error.errors]


def _ingest(
    folder: Path, content: bytes | str, kind: Format, most: int, options: dict[str, Any]
) -> Summary:
    source, into = folder / "source", folder / "into"
    into.mkdir(exist_ok=True)
    for left in into.iterdir():
        left.unlink()
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    limits = Limits(decoded_bytes=most, free_disk_bytes=0)
    return ingest(source, into, Options(format=kind, **options), limits)


def csv_of(
    folder: Path,
    content: str | bytes,
    types: dict[str, TypeName] | None = None,
    **options: Any,
) -> TypedTable:
    """The typed table of a CSV file in UTF-8."""
    source = folder / "table.csv"
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_csv(source, CSVOptions(**options), ColumnOptions(types or {}))


def column_of(folder: Path, cells: Sequence[str], **types: TypeName) -> TypedTable:
    """A CSV file's column ``c`` of these cells, the first in line 2, beside a column ``other``."""
    return csv_of(folder, "c,other\n" + "".join(f"{cell},x\n" for cell in cells), types)


# ---------------------------------------------------------------- writing every format

Lists = dict[str, list[Any]]


def rows_of(values: Lists) -> list[dict[str, Any]]:
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def shown(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


def as_csv(values: Lists, **options: Any) -> bytes:
    """By Python's own writer; a row of one gap is quoted, since an empty line is no row."""
    text = io.StringIO()
    writer = csv.writer(text, **options)
    for row in chain([list(values)], zip(*values.values(), strict=True)):
        cells = [str(v).lower() if isinstance(v, bool) else shown(v) for v in row]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue().encode()


def as_arrow_csv(table: pa.Table) -> bytes:
    with io.BytesIO() as sink:
        pacsv.write_csv(table, sink)
        return sink.getvalue()


def as_ndjson(values: Lists) -> bytes:
    def lines() -> Iterator[str]:
        for row in rows_of(values):
            yield json.dumps({name: shown(value) for name, value in row.items()})

    return "\n".join(lines()).encode()


def as_parquet(table: pa.Table, **options: Any) -> bytes:
    with io.BytesIO() as sink:
        pq.write_table(table, sink, **options)
        return sink.getvalue()


def as_arrow(table: pa.Table, batch_rows: int | None = None) -> bytes:
    """A stream of batches of at most so many rows, or of one."""
    with io.BytesIO() as sink:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=batch_rows)
        return sink.getvalue()
