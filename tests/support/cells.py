"""Columns of cells as a file has them, read without a file."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from app.ml.column_types.canonical import TypeName
from app.ml.column_types.notations.notation import CellOptions, Cells, Evidence, Notation
from app.ml.tables.columns import TypedColumn, typed_column
from app.ml.tables.typed import ColumnOptions, TypedTable, assemble


def place(name: str, row: int) -> tuple[str, str]:
    return f"line {row + 2}", f"/line/{row + 2}/{name}"


def typed_cells(
    cells: Sequence[str | None],
    delimiter: str | None = ",",
    wanted: TypeName | None = None,
    notation: Notation | None = None,
    **options: Any,
) -> TypedColumn:
    known = Cells(CellOptions(**options), Evidence(delimiter), notation)
    column = pa.chunked_array([pa.array(cells, pa.string())])
    return typed_column("c", column, wanted, place, has_types=False, cells=known)


def typed_table(delimiter: str = ";", **columns: list[str]) -> TypedTable:
    chunked = {name: pa.chunked_array([pa.array(cells)]) for name, cells in columns.items()}
    return assemble(chunked, ColumnOptions(), place, has_types=False, delimiter=delimiter)
