"""Columns of text as a few numbers each: latent semantic analysis (Deerwester and others, 1990).

A text's words, pairs of words and the pieces of its words, the 4,096 most frequent ones, are
weighed by how often they stand in it and how rare they are in the training part (tf-idf). A module
sees where that lies along the directions in which the training part's texts differ most.
"""

import base64
import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator

from app.ml.column_types.arrays import as_dictionary, mask
from app.ml.column_types.base import ColumnType, Put, Width
from app.ml.column_types.categories import LONG
from app.ml.column_types.fitted import FittedPart, Matrix
from app.ml.specs import PreprocessingSpec

DIMENSIONS = 48
"""Numbers a text becomes at the most."""
_LONGEST = 20_000
"""Characters of a text that are looked at."""
_MOST_TEXTS = 50_000
"""Texts of the training part that are learnt from; more change little."""
_MOST_WORDS, _MOST_PIECES = 3072, 1024
_MOST_COUNTED = 500_000
"""Terms that are counted at once."""
_MOST_REMEMBERED = 50_000
"""Words of which it is remembered what is known of them."""
_LEAST_SHARE = 0.25
"""Of the largest spread of a direction: smaller ones are scaled by that much, or noise would be
as loud as what matters."""
_WORD = re.compile(r"\w+")
_OFTEN = (1 + np.log(np.arange(1, 10_001))).astype(np.float32)
"""How much a term counts that stands in a text so often."""

Floats = NDArray[np.float32]


def _packed(values: Floats) -> str:
    return base64.b64encode(values.astype("<f2").tobytes()).decode()


def _unpacked(value: Any) -> Floats:
    """Return numbers that were written in half precision, which is more than texts are worth."""
    if isinstance(value, np.ndarray):
        return value.astype("<f2").astype(np.float32)
    return np.frombuffer(base64.b64decode(value), "<f2").astype(np.float32)


PackedFloats = Annotated[
    Floats, PlainValidator(_unpacked), PlainSerializer(_packed, return_type=str)
]


class TextFeature(FittedPart):
    """A text's place along the training part's directions; missing and what has no known term is
    all zeros, missing told apart by an indicator column."""

    type: Literal["text"] = "text"
    name: str
    terms: list[str]
    weights: PackedFloats
    """``(terms,)`` how rare each is: 1 + ln((1 + n) / (1 + df))."""
    directions: PackedFloats
    """``(terms * dimensions,)``, row by row."""
    center: PackedFloats
    """``(dimensions,)`` the training part's mean."""
    scale: PackedFloats
    """``(dimensions,)`` its spread."""
    indicator: bool

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return len(self.center) + self.indicator

    @cached_property
    def _lexicon(self) -> "_Lexicon":
        return _Lexicon(self.terms, self.weights)

    @cached_property
    def _directions(self) -> Floats:
        return self.directions.reshape(len(self.terms), -1)

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width), which holds zeros, from strings or dictionaries of them."""
        encoded = as_dictionary(column).combine_chunks()
        rows = pc.fill_null(encoded.indices, -1).to_numpy()
        used = np.unique(rows[rows >= 0])
        places = np.zeros(len(encoded.dictionary), np.int64)
        places[used] = np.arange(len(used))
        known = np.array([self.of_text(encoded.dictionary[int(i)].as_py()) for i in used])
        present = rows >= 0
        if len(used):
            out[present, : len(self.center)] = known[places[rows[present]]]
        if self.indicator:
            out[:, -1] = mask(pc.is_null(column))

    def put(self, at: int) -> Put:
        """Return what encodes one value of JSON into a row, from column ``at`` on, bit for bit as
        ``encode`` does."""
        last = at + self.width - 1

        def put(value: Any, out: list[float]) -> bool:
            if value is None:
                if self.indicator:
                    out[last] = 1.0
                return True
            if type(value) is not str or len(value) >= LONG or "\0" in value:
                return False
            place = self.of_text(value)
            out[at : at + len(place)] = place.tolist()
            return True

        return put

    def of_text(self, text: str) -> Floats:
        """Return one text as ``(dimensions,)``."""
        places, weights = self._lexicon.weighed(text)
        if not len(places):
            return np.zeros(len(self.center), np.float32)
        place = weights @ self._directions[places]
        return (place - self.center) / self.scale


class Text(ColumnType):
    """Sentences rather than labels."""

    name = "text"
    arrow = pa.string()
    example = "a string"

    def profile(self, column: pa.ChunkedArray, detailed: bool) -> dict[str, Any]:
        """Return how many texts there are, and their mean length in characters."""
        distinct = pc.count_distinct(column, mode="only_valid").as_py()
        return {"distinct": distinct, "mean_length": pc.mean(pc.utf8_length(column)).as_py()}

    def fit(self, name: str, column: pa.ChunkedArray, spec: PreprocessingSpec) -> TextFeature:
        """Return the feature: the terms and directions of the training part's texts."""
        return fit_text(name, column, indicator=column.null_count > 0)

    def width(self, column: dict[str, Any], spec: PreprocessingSpec) -> Width:
        """Return the directions, and a mark of gaps."""
        return Width(DIMENSIONS + bool(column["missing"]))


def fit_text(name: str, column: pa.ChunkedArray, *, indicator: bool) -> TextFeature:
    """Learn the terms and directions of a column of texts ``(rows,)``, those of the training part;
    a text without a term that stands in two rows says nothing."""
    texts = _some(column.drop_null())
    terms, counts = _vocabulary(texts)
    weights = (1 + np.log((1 + len(texts)) / (1 + counts))).astype(np.float32)
    weights = _unpacked(weights)
    directions = _directions(texts, terms, weights)
    found = TextFeature(
        name=name,
        terms=terms,
        weights=weights,
        directions=directions.ravel(),
        center=np.zeros(directions.shape[1], np.float32),
        scale=np.ones(directions.shape[1], np.float32),
        indicator=indicator,
    )
    places = np.array([found.of_text(text) for text in texts] or np.zeros((1, directions.shape[1])))
    spread = places.std(axis=0)
    scale = np.maximum(spread, _LEAST_SHARE * spread.max(initial=0.0))
    scale[scale < 1e-3] = 1.0
    return found.model_copy(
        update={
            "center": _unpacked(places.mean(axis=0)),
            "scale": np.maximum(_unpacked(scale), np.float32(1e-3)),
        }
    )


# ---------------------------------------------------------------- terms


def words_of(text: str) -> list[str]:
    """Return a text's words in lower case."""
    return _WORD.findall(text[:_LONGEST].lower())


def pairs_of(words: Sequence[str]) -> list[str]:
    """Return pairs of words, one behind the other."""
    return [f"{one} {two}" for one, two in pairwise(words)]


def pieces_of(word: str) -> list[str]:
    """Return the pieces of 3 and 4 characters of a word with a blank on either side; they stand
    behind a NUL, since they are no words."""
    padded = f" {word} "
    return [
        "\0" + padded[start : start + size]
        for size in (3, 4)
        for start in range(len(padded) - size + 1)
    ]


class _Lexicon:
    """The terms of a fit, and how rare each is. Words come again and again, so what is known of
    each is remembered."""

    def __init__(self, terms: Sequence[str], weights: Floats) -> None:
        self._places = {term: place for place, term in enumerate(terms)}
        self._weights = weights
        self._of_word: dict[str, NDArray[np.int64]] = {}

    def weighed(self, text: str) -> tuple[NDArray[np.int64], Floats]:
        """Return the places of a text's known terms in order, and their weights, of length 1."""
        words = words_of(text)
        get = self._places.get
        pairs = [place for pair in pairs_of(words) if (place := get(pair)) is not None]
        terms = [self._known(word) for word in words]
        if pairs or not terms:
            terms.append(np.array(pairs, np.int64))
        counts = np.bincount(np.concatenate(terms))
        places = np.flatnonzero(counts)
        if not len(places):
            return places, np.zeros(0, np.float32)
        often = np.minimum(counts[places], len(_OFTEN))
        weighed = _OFTEN[often - 1] * self._weights[places]
        return places, weighed / np.sqrt(weighed @ weighed)

    def _known(self, word: str) -> NDArray[np.int64]:
        found = self._of_word.get(word)
        if found is None:
            get = self._places.get
            terms = (word, *pieces_of(word))
            known = [place for term in terms if (place := get(term)) is not None]
            found = np.array(known, np.int64)
            if len(self._of_word) < _MOST_REMEMBERED:
                self._of_word[word[:]] = found
        return found


def _some(column: pa.ChunkedArray) -> list[str]:
    """Return texts from all over the column."""
    places = np.linspace(0, len(column) - 1, min(len(column), _MOST_TEXTS)).astype(np.int64)
    texts: list[str] = pc.cast(column.take(places), pa.string()).to_pylist()
    return texts


def _vocabulary(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the terms that stand in the most texts, in two at least, and in how many."""
    counts: Counter[str] = Counter()
    pieces: dict[str, list[str]] = {}
    for text in texts:
        words = words_of(text)
        distinct = set(words)
        found = {*distinct, *pairs_of(words)}
        for word in distinct:
            if word not in pieces:
                if len(pieces) >= _MOST_REMEMBERED:
                    pieces.clear()
                pieces[word] = pieces_of(word)
            found.update(pieces[word])
        counts.update(found)
        if len(counts) > _MOST_COUNTED:  # what is rare by now stays rare
            counts = Counter({term: count for term, count in counts.items() if count > 1})
    common = [(-count, term) for term, count in counts.items() if count > 1]
    words_first = sorted(pair for pair in common if not pair[1].startswith("\0"))[:_MOST_WORDS]
    chosen = words_first + sorted(p for p in common if p[1].startswith("\0"))[:_MOST_PIECES]
    return [term for _, term in chosen], np.array([-count for count, _ in chosen], np.int64)


def _directions(texts: Sequence[str], terms: list[str], weights: Floats) -> Floats:
    """Return the ``(terms, dimensions)`` right singular vectors of the texts' weighed terms."""
    from scipy import sparse
    from sklearn.utils.extmath import randomized_svd

    lexicon = _Lexicon(terms, weights)
    starts, columns, values = [0], list[NDArray[np.int64]](), list[Floats]()
    for text in texts:
        found, weighed = lexicon.weighed(text)
        columns.append(found)
        values.append(weighed)
        starts.append(starts[-1] + len(found))
    dimensions = min(DIMENSIONS, len(terms), max(1, len(texts) - 1))
    if not starts[-1]:
        return np.zeros((len(terms), 1), np.float32)
    matrix = sparse.csr_matrix(
        (np.concatenate(values), np.concatenate(columns), np.array(starts)),
        (len(texts), len(terms)),
    )
    _, _, right = randomized_svd(matrix, dimensions, random_state=0)
    return np.ascontiguousarray(right.T, dtype=np.float32)
