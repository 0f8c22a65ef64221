"""Columns of a table as numpy arrays of shape ``(rows,)``."""

import re
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_FEW = 512
"""Cells up to which Python's expressions are quicker than Arrow's, which are compiled anew."""


def floats(column: pa.ChunkedArray) -> Floats:
    """Return a numeric column as float64, missing as NaN; integers beyond 2**53 are rounded."""
    filled: Floats = pc.cast(column, pa.float64(), safe=False).to_numpy()
    return filled


def microseconds(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return a datetime column without gaps as microseconds since 1970 in UTC."""
    if pa.types.is_date32(column.type):
        column = pc.cast(column, pa.timestamp("us"))
    found: NDArray[np.int64] = pc.cast(column, pa.int64()).to_numpy()
    return found


def as_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of strings as dictionaries, one for all chunks; others stay as they are."""
    if pa.types.is_string(column.type):
        column = column.dictionary_encode()
    return column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column


def codes(column: pa.ChunkedArray, values: pa.Array) -> NDArray[np.int64]:
    """Return the position of each value among ``values``; -1 where it is missing or unknown."""
    if pa.types.is_dictionary(column.type):
        pieces = [_codes_of_chunk(chunk, values) for chunk in column.chunks]
        return np.concatenate([np.empty(0, np.int64), *pieces])
    found = pc.index_in(column, value_set=values, skip_nulls=True)
    known: NDArray[np.int64] = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    return known


def _codes_of_chunk(chunk: pa.DictionaryArray, values: pa.Array) -> NDArray[np.int64]:
    """``codes`` of one chunk: only the dictionary is looked up; -1, its last place, is missing."""
    found = pc.index_in(chunk.dictionary, value_set=values, skip_nulls=True)
    of_dictionary = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    indices = pc.fill_null(chunk.indices, len(of_dictionary)).to_numpy(zero_copy_only=False)
    known: NDArray[np.int64] = np.append(of_dictionary, -1)[indices]
    return known


def matches(cells: pa.Array | pa.ChunkedArray, pattern: str) -> pa.Array | pa.ChunkedArray:
    """Return ``(cells,)`` whether a regular expression is found in each string, null where it is.

    Arrow compiles an expression anew for every call, which takes longer than trying it on a few
    hundred cells; Python remembers it. It means the same to both: ``\\s`` is ASCII's, and what ends
    in a line break, before which Python's ``$`` matches, is left to Arrow.
    """
    if (texts := _few(cells)) is None:
        return pc.match_substring_regex(cells, pattern)
    search = _compiled(pattern).search
    found = [None if text is None else search(text) is not None for text in texts]
    return pa.array(found, pa.bool_())


def hits(cells: pa.Array | pa.ChunkedArray, pattern: str) -> NDArray[np.bool_]:
    """Return the same as an array, false where a string is null."""
    if (texts := _few(cells)) is None:
        found = pc.match_substring_regex(cells, pattern).fill_null(False)
        return np.asarray(found, bool)
    search = _compiled(pattern).search
    return np.array([text is not None and search(text) is not None for text in texts], bool)


def groups(cells: pa.Array, pattern: str) -> pa.StructArray:
    """Return what the named groups of a regular expression have found in each string, "" where a
    group took no part; null where the string is null or the expression is not found in it."""
    if (texts := _few(cells)) is None:
        return pc.extract_regex(cells, pattern)
    compiled = _compiled(pattern)
    found = [None if text is None else compiled.search(text) for text in texts]
    names = list(compiled.groupindex)
    columns = [pa.array(["" if m is None else m[name] or "" for m in found]) for name in names]
    nowhere = pa.array([match is None for match in found], pa.bool_())
    return pa.StructArray.from_arrays(columns, names, mask=nowhere)


def replaced(cells: pa.Array, pattern: str, replacement: str) -> pa.Array:
    r"""Return strings with what a regular expression finds replaced, groups as ``\1``."""
    if (texts := _few(cells)) is None:
        return pc.replace_substring_regex(cells, pattern, replacement)
    substitute = _compiled(pattern).sub
    found = [None if text is None else substitute(replacement, text) for text in texts]
    return pa.array(found, pa.string())


def _few(cells: pa.Array | pa.ChunkedArray) -> list[str | None] | None:
    """Return cells that are few enough for Python, and mean the same to it; None for others."""
    if len(cells) > _FEW:
        return None
    texts: list[str | None] = cells.to_pylist()
    return None if any(text is not None and text.endswith("\n") for text in texts) else texts


@lru_cache(256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def mask(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Return a boolean column without gaps as an array."""
    found: NDArray[np.bool_] = column.to_numpy()
    return found
