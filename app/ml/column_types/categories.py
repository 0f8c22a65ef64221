"""Categories: a place for each label, one-hot or in an embedding."""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.ml.column_types.arrays import as_dictionary, codes, mask
from app.ml.column_types.base import ColumnType, Put, Width
from app.ml.column_types.fitted import FittedPart, Matrix
from app.ml.specs import PreprocessingSpec

ONE_HOT_AUTO = 64
"""Categories up to which ``auto`` is one-hot; columns with more get an embedding."""
ONE_HOT_LIMIT = 1_000
EMBEDDING_LIMIT = 100_000
"""Categories with a place of their own, most frequent first; the rest share that of unseen ones."""
UNKNOWN_CODE, MISSING_CODE, FIRST_CODE = 0, 1, 2  # of an embedding
LONG = 1 << 20
"""Characters of a string from which on the table is asked whether it is too long for a cell."""
_TOP_VALUES = 10
_FEW = 500
"""Labels that Python puts in order sooner than Arrow."""
_LONGEST_TOP = 256  # characters of a frequent value


class CategoryFeature(FittedPart):
    """A slot for each category of the training part, most frequent first, and one for missing.

    Without ``embedding`` the slots are columns, one of them 1 (missing only where there were any;
    unseen is all zeros). With it they are rows of an embedding of that many dimensions, and the
    column is their number: 0 for unseen, 1 for missing.
    """

    type: Literal["category"] = "category"
    name: str
    categories: list[str]
    indicator: bool
    embedding: int | None = None
    folded: bool = False
    """Whether a label that differs from one of them in case or blanks only is that one."""

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return 1 if self.embedding else len(self.categories) + self.indicator

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width), which holds zeros, from strings or dictionaries of them."""
        found = codes(column, pa.array(self.categories, pa.string()))
        if ((found < 0) & ~mask(pc.is_null(column))).any():  # written otherwise, perhaps
            plain = folded_labels if self.folded else plain_labels
            known = plain(pa.array(self.categories, pa.string()))
            alike = codes(_written(column, plain), known)
            found = np.where(found < 0, alike, found)
        if self.embedding:
            out[:, 0] = np.where(found >= 0, found + FIRST_CODE, UNKNOWN_CODE)
            out[mask(pc.is_null(column)), 0] = MISSING_CODE
            return
        rows = np.flatnonzero(found >= 0)
        out[rows, found[rows]] = 1
        if self.indicator:
            out[:, -1] = mask(pc.is_null(column))

    def put(self, at: int) -> Put:
        """Return what encodes one value of JSON into a row, from column ``at`` on, bit for bit as
        ``encode`` does."""
        places = {name: place for place, name in enumerate(self.categories)}
        is_unknown = _stranger(self.categories, self.folded)
        last = at + self.width - 1

        def one_hot(value: Any, out: list[float]) -> bool:
            if value is None:
                if self.indicator:
                    out[last] = 1.0
                return True
            if type(value) is not str:
                return False
            place = places.get(value)
            if place is not None:
                out[at + place] = 1.0
                return True
            return is_unknown(value)

        def embedded(value: Any, out: list[float]) -> bool:
            if value is None:
                out[at] = MISSING_CODE
                return True
            if type(value) is not str:
                return False
            place = places.get(value)
            if place is not None:
                out[at] = place + FIRST_CODE
                return True
            out[at] = UNKNOWN_CODE
            return is_unknown(value)

        return embedded if self.embedding else one_hot


def plain_labels(labels: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return labels without blanks around them, accents composed."""
    return pc.utf8_normalize(pc.utf8_trim_whitespace(labels), form="NFC")


def folded_labels(labels: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return them in lower case, too."""
    return pc.utf8_lower(plain_labels(labels))


def _written(column: pa.ChunkedArray, plain: Callable[[Any], Any]) -> pa.ChunkedArray:
    """Return strings, or dictionaries of them, in another way of writing them."""
    if not pa.types.is_dictionary(column.type):
        return plain(column)
    chunks = [
        pa.DictionaryArray.from_arrays(chunk.indices, plain(chunk.dictionary))
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, column.type)


def _stranger(labels: Sequence[str], folded: bool) -> Callable[[str], bool]:
    """Return what says whether a string is surely none of ``labels``, however it is written; the
    table is asked of the others."""
    plain = {spelt(label, folded=False) for label in labels}
    return lambda value: (
        not folded
        and len(value) < LONG
        and "\0" not in value
        and spelt(value, folded=False) not in plain
    )


def spelt(label: str, folded: bool) -> str:
    """Return a label as ``plain_labels`` does, or as ``folded_labels``."""
    plain = unicodedata.normalize("NFC", label.strip())
    return plain.lower() if folded else plain


def respelt(column: pa.ChunkedArray, labels: Sequence[str], folded: bool) -> pa.ChunkedArray:
    """Return strings with those as one of ``labels`` that differ from it only in blanks or in how
    an accent is composed, or if ``folded`` in case; the first of several."""
    ways = [{label: label for label in labels}]
    cases = (False, True) if folded else (False,)
    ways += [{spelt(label, lower): label for label in reversed(labels)} for lower in cases]
    encoded = column.combine_chunks().dictionary_encode()
    values = [_known_as(value, ways) for value in encoded.dictionary.to_pylist()]
    return pa.chunked_array([pa.array(values, pa.string()).take(encoded.indices)])


def _known_as(value: str, ways: Sequence[dict[str, str]]) -> str:
    for lower, labels in zip((None, False, True), ways, strict=False):
        written = value if lower is None else spelt(value, lower)
        if written in labels:
            return labels[written]
    return value


class Category(ColumnType):
    """Labels, as they are written."""

    name = "category"
    arrow = pa.string()
    example = "a string"

    def profile(self, column: pa.ChunkedArray, detailed: bool) -> dict[str, Any]:
        """Return how many labels there are, and the most frequent ones."""
        return frequencies(column)

    def fit(self, name: str, column: pa.ChunkedArray, spec: PreprocessingSpec) -> CategoryFeature:
        """Return the feature, one-hot or with an embedding as ``spec.categories`` says."""
        encoded = as_dictionary(column).combine_chunks()
        values = encoded.dictionary.to_pylist()
        counts = np.bincount(encoded.indices.drop_null().to_numpy(), minlength=len(values))
        seen = [i for i in range(len(values)) if counts[i]]
        seen.sort(key=lambda i: (-counts[i], values[i]))
        dimensions = embedding_size(spec.categories, len(seen))
        limit = EMBEDDING_LIMIT if dimensions else ONE_HOT_LIMIT
        return CategoryFeature(
            name=name,
            categories=[values[i] for i in seen[:limit]],
            indicator=column.null_count > 0,
            embedding=dimensions,
        )

    def width(self, column: dict[str, Any], spec: PreprocessingSpec) -> Width:
        """Return a mark for each label and one of gaps, or one code."""
        labels = column["distinct"]
        if size := embedding_size(spec.categories, labels):
            return Width(0, embedding=(min(labels, EMBEDDING_LIMIT) + FIRST_CODE, size))
        return Width(min(labels, ONE_HOT_LIMIT) + bool(column["missing"]))


def embedding_size(encoding: str, categories: int) -> int | None:
    """Return the dimensions of an embedding of so many categories, by fastai's rule.

    ``encoding`` is the ``categories`` of a preprocessing; returns ``None`` where it is one-hot.
    """
    if encoding == "one_hot" or (encoding == "auto" and categories <= ONE_HOT_AUTO):
        return None
    size: float = 1.6 * min(categories, EMBEDDING_LIMIT) ** 0.56
    return min(64, max(1, round(size)))


def frequencies(column: pa.ChunkedArray) -> dict[str, Any]:
    """Return how many different strings there are, and the 10 most frequent with their counts."""
    counted = column.drop_null().value_counts()
    distinct = len(counted)
    if distinct > _FEW:
        table = pa.Table.from_struct_array(counted)
        order = [("counts", "descending"), ("values", "ascending")]
        counted = table.take(pc.select_k_unstable(table, k=_TOP_VALUES, sort_keys=order))
    found = sorted(counted.to_pylist(), key=lambda item: (-item["counts"], item["values"]))
    listed = [[item["values"][:_LONGEST_TOP], item["counts"]] for item in found[:_TOP_VALUES]]
    return {"distinct": distinct, "top": listed}
