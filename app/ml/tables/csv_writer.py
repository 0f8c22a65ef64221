"""Tables as CSV that ``csv_files`` reads back as they are. Importable without torch.

A missing value is an empty cell, and a string stands in quotes, so that ``"NA"`` is none; that the
header quotes only what must be tells a reader that quotes have this meaning.
"""

from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from app.ml.column_types.canonical import as_strings
from app.ml.tables.csv_files import header_line


class CSVWriter:
    """Writes tables of one ``schema``, canonical or of plain numbers, into ``sink``."""

    def __init__(self, sink: BinaryIO, schema: pa.Schema) -> None:
        self._sink = sink
        sink.write(header_line(schema.names).encode() + b"\n")

    def write_table(self, table: pa.Table) -> None:
        """Append the rows of ``table``."""
        if table.num_columns == 1:  # an empty line is no row
            self._sink.write(_lines(table.column(0)))
            return
        columns = [as_strings(c) if pa.types.is_temporal(c.type) else c for c in table.columns]
        options = pacsv.WriteOptions(include_header=False)
        pacsv.write_csv(pa.table(columns, table.column_names), self._sink, options)

    def close(self) -> None:
        """Do nothing: every row has been written, and the sink is the caller's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _lines(column: pa.ChunkedArray) -> bytes:
    """A single column, whose gaps are ``NA``."""
    texts = as_strings(column)
    if pa.types.is_string(column.type):
        escaped = pc.replace_substring(texts, '"', '""')
        texts = pc.binary_join_element_wise('"', escaped, '"', "")
    return "".join(f"{text}\n" for text in pc.fill_null(texts, "NA").to_pylist()).encode()
