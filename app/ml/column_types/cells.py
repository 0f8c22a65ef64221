"""The distinct cells of a column of strings, and what a type has read in them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.column_types.canonical import TypeName
from app.ml.column_types.notations import missing
from app.ml.column_types.notations.notation import Cells, Decimal, Notation

_MOST_MARKERS = 100
"""Different cells that are told to have been taken as missing."""
_REPEATS_WITHIN = 10_000
"""Cells at the head of a column that tell whether they repeat."""


@dataclass(frozen=True)
class Found:
    """A column that was read as the type ``kind``."""

    kind: TypeName
    values: pa.ChunkedArray
    notation: Notation | None = None
    """None where it is written plainly."""
    missing_as: dict[str, int] = field(default_factory=dict)
    """Cells that were taken as missing, with their counts."""
    decimal: Decimal | None = None
    """What the column says of the decimal mark of its file."""
    undecided: Literal["decimal", "date_order"] | None = None
    """What another column may decide yet; until then the reading is the usual one."""


@dataclass(frozen=True)
class Open:
    """A column that can be read in two ways, and nothing in it says which."""

    undecided: Literal["decimal", "date_order"]
    example: str


class Distinct:
    """The distinct cells of a column, and the way back to its rows; all of them where they repeat
    so little that finding out would cost more than it saves."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        head = column.slice(0, _REPEATS_WITHIN)
        repeats = 2 * pc.count_distinct(head).as_py() <= len(head)
        whole = column.combine_chunks()
        self._places: pa.Array | None = None
        self.cells: pa.Array = whole
        if repeats:
            encoded = whole.dictionary_encode()
            self.cells, self._places = encoded.dictionary, encoded.indices

    @classmethod
    def of_cells(cls, cells: pa.Array) -> "Distinct":
        """Return a column of these cells, which are known to be distinct."""
        made = cls.__new__(cls)
        made.cells, made._places = cells, None
        return made

    def with_cells(self, cells: pa.Array) -> "Distinct":
        """Return the column with other cells in place of its own."""
        made = self.of_cells(cells)
        made._places = self._places
        return made

    def counted(self, which: NDArray[np.bool_]) -> dict[str, int]:
        """How often each of ``which`` cells, ``(cells,)``, stands in the column; the first 100."""
        found: dict[str, int] = {}
        counts = None
        if self._places is not None:
            counts = np.bincount(self._places.drop_null(), minlength=len(self.cells))
        for place in np.flatnonzero(which):
            cell = self.cells[int(place)].as_py()[:64]
            if cell in found or len(found) < _MOST_MARKERS:
                found[cell] = found.get(cell, 0) + (1 if counts is None else int(counts[place]))
        return found

    def rows(self, values: pa.Array) -> pa.ChunkedArray:
        """``values`` of the distinct cells as a column of all rows."""
        taken = values if self._places is None else values.take(self._places)
        return pa.chunked_array([taken])


Read = Callable[[Distinct, Cells, bool], Found | Open | None]
"""``(cells, what is known, whether the type is asked for)`` to what was read; None where a cell is
no such value."""


def set_apart(
    distinct: Distinct, among: str, known: Cells
) -> tuple[pa.Array, dict[str, int]] | None:
    """Return the cells with those null that mark a missing value, and these with their counts;
    None where no others are left."""
    options = known.options
    marks = missing.is_marker(
        distinct.cells, missing.markers(among, options.na_values, options.keep_na)
    ).fill_null(False)
    rest = pc.if_else(marks, pa.scalar(None, pa.string()), distinct.cells)
    if rest.null_count == len(rest):
        return None
    found = marks.to_numpy(zero_copy_only=False)
    if not found.any():
        return rest, {}
    return rest, distinct.counted(found)
