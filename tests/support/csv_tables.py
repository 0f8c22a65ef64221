"""Text of CSV as the table that is read of it."""

from pathlib import Path
from typing import Any

from app.ml.tables.csv_files import read_csv
from app.ml.tables.csv_layout import CSVOptions
from app.ml.tables.typed import ColumnOptions, TypedTable


def read_text(
    folder: Path, content: str, wanted: ColumnOptions | None = None, **options: Any
) -> TypedTable:
    path = folder / "table.csv"
    path.write_text(content)
    return read_csv(path, CSVOptions(**options), wanted or ColumnOptions())
