"""A stored table as CSV or as an Arrow stream, a few rows in memory at a time."""

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.ml.tables import parquet
from app.ml.tables.csv_writer import CSVWriter

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
        with _writer(sink, first.schema, media) as writer:
            for table in chain([first], rest):
                writer.write_table(table)
                yield _taken(sink)
        yield _taken(sink)


def _writer(sink: io.BytesIO, schema: pa.Schema, media: str) -> Any:
    return pa.ipc.new_stream(sink, schema) if media == ARROW else CSVWriter(sink, schema)


def _taken(sink: io.BytesIO) -> bytes:
    """What was written since the last call."""
    piece = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return piece
