"""Tables whose columns are typed and canonical, assembled from what a reader found in a file.

Importable without torch.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from app.errors import InvalidData, InvalidRequest, TooLarge, escape
from app.ml.column_types.canonical import MAX_COLUMNS, TypeName
from app.ml.column_types.notations.notation import (
    AS_FOUND,
    CellOptions,
    Cells,
    Evidence,
    Notation,
    unanimous,
)
from app.ml.tables.columns import TypedColumn, is_no_value, refuse_beyond, typed_column
from app.ml.tables.labels import Place
from app.names import nearest

MAX_NAME = 256
"""Characters in the name of a column."""
_MOST_EXPLAINED = 50
"""Columns that are looked at closely where they are labels that look like numbers or dates."""
_CELLS_WORTH_THREADS = 100_000
"""Cells from which several threads are faster than one."""


@dataclass(frozen=True)
class TypedTable:
    """A canonical table, each column's type, and notes on how the types were found."""

    table: pa.Table
    types: dict[str, TypeName]
    notes: list[str] = field(default_factory=list)
    cells: dict[str, "CellFacts"] = field(default_factory=dict)
    """Of the columns that are not written plainly."""
    reading: dict[str, Any] = field(default_factory=dict)
    """What a text file's reader has made out: delimiter, the header's line, what was left out."""


@dataclass(frozen=True)
class CellFacts:
    """How a column's cells are written, and which of them were taken as missing, how often."""

    notation: Notation | None = None
    missing_as: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as a column's profile has it, without what does not apply."""
        notation = self.notation or Notation()
        facts = {
            "format": notation.date_format,
            "unit": notation.unit,
            "missing_as": self.missing_as,
            "notation": notation.model_dump(exclude_defaults=True),
        }
        return {name: value for name, value in facts.items() if value}


def notations_of(columns: Iterable[dict[str, Any]]) -> dict[str, Notation]:
    """Return the notations that profiles of ``columns`` tell, by the column's name."""
    return {
        column["name"]: Notation.model_validate(column["notation"])
        for column in columns
        if "notation" in column
    }


@dataclass(frozen=True)
class ColumnOptions:
    """How a file's columns are read: their types by name, where the caller says them."""

    types: dict[str, TypeName] = field(default_factory=dict)
    only_typed: bool = False
    """Whether the others are left empty: rows to predict, of which a model knows the features."""

    options: CellOptions = AS_FOUND
    """What is said of how the cells are written."""

    notations: dict[str, Notation] = field(default_factory=dict)
    """How the columns were written on which a model was trained."""

    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The least and the largest number that a column may hold, where there are such."""

    nested: frozenset[str] | None = None
    """The objects of JSON whose members are columns; None: all of them."""

    types_if_there: bool = False
    """Whether a column that ``types`` names may be missing."""

    def reads(self, name: str) -> bool:
        """Return whether the values of the column ``name`` are read."""
        return not self.only_typed or name in self.types


def assemble(
    columns: dict[str, pa.ChunkedArray],
    column_options: ColumnOptions,
    place: Place,
    *,
    has_types: bool,
    threads: int = 1,
    delimiter: str | None = None,
) -> TypedTable:
    """Return the table with every column typed by ``app.ml.tables.columns``.

    ``columns`` is emptied on the way, so that no column is in memory twice. ``place`` says where a
    cell stands in its file; ``has_types`` whether the file's format has types; ``delimiter`` what
    stands between its cells. A column that can be read in two ways is read as the others are.

    Raises InvalidData naming the column, and the cell where there is one.
    """
    names = list(columns)
    rows = len(next(iter(columns.values()))) if columns else 0
    check_names(names)
    check_requested(column_options, names)
    if rows == 0:
        raise no_row()

    left_out = _leave_out(columns, column_options)
    names = list(columns)
    found = _typed_columns(columns, column_options, place, has_types, threads, delimiter)
    return TypedTable(
        pa.table([column.values for column in found], names=names),
        {name: column.type for name, column in zip(names, found, strict=True)},
        [*left_out.values(), *(c.note for c in sorted(found, key=_urgency) if c.note)],
        reading=column_options.options.for_others()
        | ({"left_out": [*left_out]} if left_out else {}),
        cells={
            name: CellFacts(column.notation, column.missing_as)
            for name, column in zip(names, found, strict=True)
            if column.notation or column.missing_as
        },
    )


def _leave_out(
    columns: dict[str, pa.ChunkedArray], column_options: ColumnOptions
) -> dict[str, str]:
    """Take the columns away that hold lists and other things that no column of ours can, but for
    the last; return warnings by their names."""
    left_out: dict[str, str] = {}
    for name in [name for name, column in columns.items() if is_no_value(column)]:
        if len(columns) > 1 and name not in column_options.types:
            kind = str(columns.pop(name).type)[:64]
            left_out[name] = (
                f"column '{name[:64]}' is of the type {kind}, which no feature can be, and was "
                "left out; store it as numbers, strings, booleans or timestamps to have it"
            )
    return left_out


def _typed_columns(
    columns: dict[str, pa.ChunkedArray],
    column_options: ColumnOptions,
    place: Place,
    has_types: bool,
    threads: int,
    delimiter: str | None,
) -> list[TypedColumn]:
    """Return every column typed, in their order; ``columns`` is emptied."""
    names = list(columns)
    rows = len(next(iter(columns.values())))
    explained = {*names[:_MOST_EXPLAINED]}

    def one(name: str, evidence: Evidence) -> TypedColumn:
        column = columns[name]
        if not column_options.reads(name):
            del columns[name]
            return TypedColumn(pa.chunked_array([pa.nulls(rows, pa.string())]), "category")
        of_model = column_options.only_typed or column_options.types_if_there
        notation = column_options.notations.get(name)
        cells = Cells(column_options.options, evidence, notation, of_model, name in explained)
        requested = column_options.types.get(name)
        typed = typed_column(name, column, requested, place, has_types=has_types, cells=cells)
        if not typed.undecided:
            del columns[name]
        if name in column_options.bounds:
            refuse_beyond(name, typed.values, column_options.bounds[name], place)
        return typed

    first = Evidence(delimiter)
    if threads > 1 and rows * len(names) >= _CELLS_WORTH_THREADS:
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda name: one(name, first), names))
    else:
        found = [one(name, first) for name in names]
    if columns and (evidence := _evidence(found, delimiter)) != first:
        found = [
            one(name, evidence) if name in columns else typed
            for name, typed in zip(names, found, strict=True)
        ]
    columns.clear()
    return found


def _urgency(column: TypedColumn) -> tuple[int, int]:
    """Return what puts warnings in order: first columns that may be meant as something else, then
    those with most cells taken as missing."""
    folded = column.notation is not None and column.notation.folded
    if column.type == "category" and not folded:
        return 0, 0
    return (1, -sum(column.missing_as.values())) if column.missing_as else (2, 0)


def _evidence(found: Sequence[TypedColumn], delimiter: str | None) -> Evidence:
    """Return what the columns that could be read say of those that can be read in two ways."""
    orders = [column.notation.date_order for column in found if column.notation]
    marks = [column.decimal for column in found if column.decimal]
    if not marks and delimiter == ",":
        marks = ["."]  # who writes decimal commas separates cells with something else
    return Evidence(
        delimiter,
        unanimous(marks),
        unanimous([order for order in orders if order in ("dmy", "mdy")]),
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
        wrong = None
        if "\0" in name:
            wrong = f"the name of column {position} holds a NUL character; rename it"
        elif not name.strip():
            wrong = f"column {position} has no name; give every column one"
        elif len(name) > MAX_NAME:
            wrong = (
                f"the name of column {position}, '{name[:64]}…', has {len(name)} characters; "
                f"at most {MAX_NAME}"
            )
        elif name in seen:
            wrong = f"the name '{name[:64]}' stands for two columns; rename one"
        if wrong is not None:
            raise InvalidData.at(f"/columns/{position - 1}", wrong, "name")
        seen.add(name)


def check_requested(column_options: ColumnOptions, names: Sequence[str]) -> None:
    """Raise InvalidData where types are said of columns that are not there, InvalidRequest where
    such a column is a feature of the model that is to predict."""
    for name in column_options.types:
        if name in names or column_options.types_if_there:
            continue
        guess = nearest(name, (other for other in names if other not in column_options.types))
        if not column_options.only_typed:
            remedy = f"did you mean '{guess[:64]}'?" if guess else "leave it out of 'types'"
            detail = f"there is no column '{name[:64]}'; {remedy}"
            raise InvalidData.at(f"/types/{escape(name)}", detail, "no_column")
        remedy = f"rename the column '{guess[:64]}', or " if guess else ""
        detail = (
            f"the feature '{name[:64]}' is missing; {remedy}send a column of that name, empty "
            "where it is unknown"
        )
        raise InvalidRequest.at(f"/columns/{escape(name)}", detail, "missing")
