"""Cells of a table as a text file has them, each a string or missing, and what of it is no row."""

import re
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.column_types.arrays import hits, matches
from app.ml.column_types.text_parsing import first_present

_MOST_TRIED = 400
"""Cells of a column that tell whether it holds numbers or dates."""
_NUMBER = re.compile(r"\s*[-+]?[0-9.,]+\s*")
_BEGINS = r"^[^A-Za-z]{0,3}[0-9]"
_MOST_EMPTY = 10_000
"""Rows at the end of a file that are looked at."""
_WRAPPED = '^="(?P<cell>[^"]*)"$'


def unwrapped(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return ``001`` for ``="001"``, as programs write it so that Excel keeps the zeros, where all
    cells are written so."""
    if not (first_present(column) or "").startswith('="'):
        return column
    if not pc.all(matches(column, _WRAPPED)).as_py():
        return column
    return pc.replace_substring_regex(column, _WRAPPED, r"\1")


def repeated_headers(table: pa.Table, unnamed: Collection[str]) -> NDArray[np.int64]:
    """Return the rows that say the names of the columns again, as files put together do;
    ``unnamed`` are columns whose name the file does not have.

    Only beside numbers: labels may be called as their columns are.
    """
    again = None
    named = [name for name in table.column_names if name not in unnamed]
    if any(map(_NUMBER.fullmatch, named)):
        return np.empty(0, np.int64)
    for name in named:
        if again is None and pc.index(table[name], name).as_py() < 0:
            break
        same = pc.equal(table[name], name).fill_null(False)
        again = same if again is None else pc.and_(again, same)
        if not pc.any(again).as_py():
            return np.empty(0, np.int64)
    rows = np.empty(0, np.int64) if again is None else np.flatnonzero(again.to_numpy())
    others = without_rows(table, rows).slice(0, _MOST_TRIED) if len(rows) else table
    return rows if len(rows) and any(map(_holds_numbers, others.columns)) else rows[:0]


def _holds_numbers(column: pa.ChunkedArray) -> bool:
    """Whether most cells are numbers; others may mark a gap."""
    return bool(4 * hits(column, _BEGINS).sum() >= 3 * (len(column) - column.null_count) > 0)


def may_be_codes(column: pa.ChunkedArray) -> bool:
    """Return whether labels are codes of two letters, as countries have them, with gaps."""
    if not column.null_count:
        return False
    labels = pc.unique(column).drop_null()
    return len(labels) > 1 and bool(pc.all(matches(labels, "^[A-Z]{2}$")).as_py())


def na_among_codes(name: str, cells: pa.ChunkedArray) -> list[str]:
    """Return the warning of a column of such codes whose ``cells`` as they are hold NA."""
    count = pc.sum(pc.equal(pc.utf8_trim_whitespace(cells), "NA")).as_py()
    if not count:
        return []
    held = "cell holds NA and was" if count == 1 else "cells hold NA and were"
    return [
        f"column '{name[:64]}' has codes of two letters; {count} {held} taken as missing, "
        "send keep_na=NA where that is one of the codes, as Namibia's"
    ]


def without_rows(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Return the table without these rows."""
    if not len(rows):
        return table
    mask = np.ones(table.num_rows, bool)
    mask[rows] = False
    return table.filter(pa.array(mask))


def empty_at_end(table: pa.Table) -> int:
    """Return how many rows at the end hold nothing, as spreadsheets leave them."""
    if any(column[-1].is_valid for column in table.columns):
        return 0
    last = table.slice(max(0, table.num_rows - _MOST_EMPTY))
    filled = np.zeros(last.num_rows, bool)
    for column in last.columns:
        filled |= column.is_valid().to_numpy()
    used = int(np.flatnonzero(filled)[-1]) + 1 if filled.any() else 0
    return int(last.num_rows) - used
