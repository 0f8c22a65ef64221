"""Sharing rows out to train, validation and test: a function of the seed and the rows alone.

Randomness is the raw stream of PCG64, which numpy keeps stable across versions and machines
(its ``Generator.permutation`` is not promised to be), ordered by a stable sort.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.ml.specs import SplitSpec

Indices = NDArray[np.int64]
"""``(rows,)`` row numbers of a table, or numbers of classes, groups or parts."""
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """The row numbers of each part, in the order in which they are used."""

    train: Indices
    validation: Indices
    test: Indices

    def counts(self) -> dict[str, int]:
        """Return how many rows each part has, by the part's name."""
        return {part: len(getattr(self, part)) for part in PARTS}

    def to_bytes(self) -> bytes:
        """Return the row numbers of all parts, one part after the other, as little-endian int32."""
        return np.concatenate([getattr(self, part) for part in PARTS]).astype("<i4").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes, counts: Mapping[str, int]) -> "Split":
        """Return the split that ``to_bytes`` wrote; ``counts`` are those of its parts.

        Raises ValueError where they do not fit the content.
        """
        rows = np.frombuffer(content, "<i4").astype(np.int64)
        if len(rows) != sum(counts[part] for part in PARTS):
            raise ValueError(f"{len(rows)} rows are stored, and the parts have {dict(counts)}")
        return cls(*np.split(rows, np.cumsum([counts[part] for part in PARTS[:-1]])))


def part_sizes(spec: SplitSpec, rows: int) -> tuple[int, int, int]:
    """Return the rows of each part: floor(train·n), floor(validation·n), and the rest for test.

    Where ``test`` is 0 the rest is train's.
    """
    train = int(spec.train * rows + 1e-9)
    validation = int(spec.validation * rows + 1e-9)
    rest = rows - train - validation
    return (train, validation, rest) if spec.test > 0 else (train + rest, validation, 0)


def split_rows(spec: SplitSpec, rows: Indices, labels: Indices | None = None) -> Split:
    """Share out ``rows`` ``(rows,)``, row numbers of a table.

    ``labels`` ``(rows,)`` is each row's class (``stratified``), group (``group``), the number
    of its part in ``PARTS`` (``column``), or the place of its moment (``time``): of equal ones
    the first rows are the oldest.
    """
    if labels is not None and spec.strategy == "column":
        return Split(*(rows[labels == part] for part in range(len(PARTS))))
    if labels is not None and spec.strategy == "group":
        return _by_group(spec, rows, labels)
    train, validation, _ = part_sizes(spec, len(rows))
    ordered = rows[_order(spec, len(rows), labels)]
    return Split(
        ordered[:train],
        ordered[train : train + validation],
        ordered[train + validation :],
    )


def _by_group(spec: SplitSpec, rows: Indices, groups: Indices) -> Split:
    """Lay groups in random order along the rows; each goes, whole, to the part in which its middle
    row falls, so that parts come as close to their sizes as groups allow."""
    train, validation, _ = part_sizes(spec, len(rows))
    _, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    shuffled = np.argsort(np.random.PCG64(spec.seed).random_raw(len(sizes)), kind="stable")
    middles = np.empty(len(sizes))
    middles[shuffled] = np.cumsum(sizes[shuffled]) - sizes[shuffled] / 2
    part = (middles >= train).astype(np.int64) + (middles >= train + validation)
    return Split(*(rows[part[groups] == number] for number in range(len(PARTS))))


def _order(spec: SplitSpec, count: int, classes: Indices | None) -> Indices:
    """Return the order ``(count,)`` in which rows are shared out."""
    if spec.strategy == "sequential":
        return np.arange(count, dtype=np.int64)
    if spec.strategy == "time" and classes is not None:
        return np.argsort(classes, kind="stable")
    keys = np.random.PCG64(spec.seed).random_raw(count)
    shuffled = np.argsort(keys, kind="stable")
    if spec.strategy == "random" or classes is None:
        return shuffled
    # Interleave the classes: each row's place within its class, as a fraction, orders all rows,
    # so that every prefix holds each class in proportion and the part sizes stay exact.
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    _, starts, sizes = np.unique(classes[by_class], return_index=True, return_counts=True)
    place = np.arange(count) - np.repeat(starts, sizes)
    fraction = (place + 0.5) / np.repeat(sizes, sizes)
    return by_class[np.argsort(fraction, kind="stable")]
