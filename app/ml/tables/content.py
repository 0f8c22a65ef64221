"""A stored table as CSV or as an Arrow stream, a few rows in memory at a time."""

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from app.ml.tables import parquet
from app.ml.tables.canonical import as_strings

CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"
MEDIA = {CSV: "csv", PARQUET: "parquet", ARROW: "arrows"}
"""Media types that a table comes in, the default first, and how such files are called."""


def stream(path: Path, media: str) -> Iterator[bytes]:
    """Return the table at ``path`` as ``media``, piece by piece.

    The first rows are read before this returns, so that a damaged file is refused in time: raises
    ArtifactCorrupt.
    """
    batches = parquet.batches(path)
    first = next(batches)
    return _pieces(first, batches, media)


def _pieces(first: pa.Table, rest: Iterator[pa.Table], media: str) -> Iterator[bytes]:
    with io.BytesIO() as sink:
        with _writer(sink, first, media) as writer:
            for table in chain([first], rest):
                writer.write_table(_for_csv(table) if media == CSV else table)
                yield _taken(sink)
        yield _taken(sink)


def _writer(sink: io.BytesIO, first: pa.Table, media: str) -> Any:
    if media == ARROW:
        return pa.ipc.new_stream(sink, first.schema)
    return pacsv.CSVWriter(sink, _for_csv(first).schema)


def _for_csv(table: pa.Table) -> pa.Table:
    """Datetimes in ISO 8601; the gaps of a single column quoted, since an empty line is no row."""
    columns = [as_strings(c) if pa.types.is_temporal(c.type) else c for c in table.columns]
    if len(columns) == 1:
        columns = [pc.fill_null(as_strings(columns[0]), "")]
    return pa.table(columns, names=table.column_names)


def _taken(sink: io.BytesIO) -> bytes:
    """What was written since the last call."""
    piece = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return piece
