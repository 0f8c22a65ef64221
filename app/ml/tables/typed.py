"""Tables whose columns are typed and canonical, assembled from what a reader found in a file.

Importable without torch.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from app.errors import InvalidData, TooLarge, escape
from app.ml.tables.canonical import ColumnType
from app.ml.tables.columns import Place, TypedColumn, refuse_beyond, typed_column

MAX_COLUMNS = 10_000
MAX_NAME = 256
"""Characters in the name of a column."""
_CELLS_WORTH_THREADS = 100_000
"""Cells from which several threads are faster than one."""


@dataclass(frozen=True)
class TypedTable:
    """A canonical table, each column's type, and notes on how the types were found."""

    table: pa.Table
    types: dict[str, ColumnType]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a file's columns: their types by name, where the caller says them."""

    types: dict[str, ColumnType] = field(default_factory=dict)
    only_typed: bool = False
    """Whether the others are left empty: rows to predict, of which a model knows the features."""

    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The least and the largest number that a column may hold, where there are such."""

    def reads(self, name: str) -> bool:
        """Return whether the values of the column ``name`` are wanted."""
        return not self.only_typed or name in self.types


def assemble(
    columns: dict[str, pa.ChunkedArray],
    wanted: Wanted,
    place: Place,
    *,
    has_types: bool,
    threads: int = 1,
) -> TypedTable:
    """Return the table with every column typed by ``app.ml.tables.columns``.

    ``columns`` is emptied on the way, so that no column is in memory twice. ``place`` says where a
    cell stands in its file; ``has_types`` whether the file's format has types.

    Raises InvalidData naming the column, and the cell where there is one.
    """
    names = list(columns)
    rows = len(next(iter(columns.values()))) if columns else 0
    check_names(names)
    check_types(wanted.types, names)
    if rows == 0:
        raise no_row()

    def one(name: str) -> TypedColumn:
        column = columns.pop(name)
        if not wanted.reads(name):
            return TypedColumn(pa.chunked_array([pa.nulls(rows, pa.string())]), "category")
        typed = typed_column(name, column, wanted.types.get(name), place, has_types=has_types)
        if name in wanted.bounds:
            refuse_beyond(name, typed.values, wanted.bounds[name], place)
        return typed

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
    """Return the error of a table without a row."""
    return InvalidData("there is a header but no row; send at least one")


def too_much(most_bytes: int) -> TooLarge:
    """Return the error of a file that decodes to more than ``most_bytes``."""
    return TooLarge(
        f"the file decodes to more than {most_bytes} bytes, which is more than a file of "
        "its size may; send it in parts, or raise FITSERVE_MAX_DECODED_BYTES"
    )


def too_wide(columns: int) -> InvalidData:
    """Return the error of a table with too many ``columns``."""
    return InvalidData(f"{columns} columns are too many; at most {MAX_COLUMNS}")


def check_names(names: Sequence[str]) -> None:
    """Raise InvalidData where names are too many, empty, too long, or stand twice."""
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
    """Raise InvalidData where ``types`` names columns that are not there."""
    for name in types:
        if name not in names:
            detail = f"there is no column '{name[:64]}'"
            raise InvalidData.at(f"/types/{escape(name)}", detail, "no_column")
