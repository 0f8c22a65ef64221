"""A table and a spec as arrays, split and preprocessed once; importable without torch."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.errors import InvalidData
from app.ml.column_types.arrays import as_dictionary, codes, floats, mask, microseconds
from app.ml.column_types.fitted import Matrix
from app.ml.data import leaks, row_weights
from app.ml.data.splits import PARTS, Indices, Split, split_rows
from app.ml.features import preprocessing
from app.ml.features.fitting import fit_features
from app.ml.features.preprocessing import NumberTargets, Preprocessing
from app.ml.inference.card import Card
from app.ml.specs import JobSpec

_PART_NAMES = ["train", "validation", "test", "training", "val", "valid", "testing"]
_PART_OF_NAME = np.array([0, 1, 2, 0, 1, 1, 2])
"""The number in ``PARTS`` of each of these names."""
_MIX = np.uint64(0x9E3779B97F4A7C15)
"""2**64 / golden ratio: Fibonacci hashing, Knuth, The Art of Computer Programming, 6.4."""
_SHIFT = np.uint64(29)


@dataclass(frozen=True)
class Part:
    """One part of the split: its targets as a table, and its rows as what a module sees."""

    table: pa.Table
    """The targets alone."""
    x: Matrix
    """``(rows, inputs)`` float32."""
    y: NDArray[Any]
    """``(rows, outputs)`` float32, or ``(rows,)`` int64 class numbers."""
    weight: NDArray[np.float32] | None = None
    """``(rows,)`` how much each row counts, 1 on average; ``None`` where all count the same."""

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Prepared:
    """What training needs of the data, and what travels with the model."""

    preprocessing: Preprocessing
    train: Part
    validation: Part
    test: Part
    warnings: list[str] = field(default_factory=list)


def split_of(spec: JobSpec, table: pa.Table) -> Split:
    """Return the rows of each part of a job; ``table`` needs ``spec.planning_columns`` only.

    Raises InvalidData where a split by column finds a value that is no part.
    """
    rows = preprocessing.complete_rows(spec, table)
    labels = None
    match spec.split.strategy:
        case "stratified":
            labels = preprocessing.class_codes(table[spec.targets[0]])[rows]
        case "group":
            labels = _numbered(table[spec.split.column])[rows].astype(np.int64)
        case "time":
            labels = _in_order(table[spec.split.column])[rows]
        case "column":
            labels = _parts(table[spec.split.column], rows)
    return split_rows(spec.split, rows, labels)


def _in_order(column: pa.ChunkedArray) -> Indices:
    """Return ``(rows,)`` the place of each moment among the different ones, 0 for the oldest."""
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    moments = floats(column) if is_number else microseconds(column)
    places: Indices = np.unique(moments, return_inverse=True)[1].astype(np.int64)
    return places


def _parts(column: pa.ChunkedArray, rows: Indices) -> Indices:
    """Return the number in ``PARTS`` that each row names. Raises InvalidData for another."""
    words = pc.utf8_lower(pc.utf8_trim_whitespace(pc.cast(column, pa.string())))
    found = codes(words, pa.array(_PART_NAMES))[rows]
    wrong = np.flatnonzero(found < 0)
    if len(wrong):
        row = int(rows[wrong[0]])
        value = column[row].as_py()
        word = "nothing" if value is None else f"'{str(value)[:64]}'"
        raise InvalidData.at(
            "/split/column",
            f"row {row} says {word}; a split column says train, validation or test in every row",
            "unknown_part",
        )
    return _PART_OF_NAME[found]


def columns_of(spec: JobSpec) -> list[str]:
    """Return the columns that training reads: features, targets and the weights of rows."""
    return list(dict.fromkeys([*spec.features, *spec.targets, *filter(None, [spec.sample_weight])]))


def prepare(
    spec: JobSpec,
    table: pa.Table,
    split: Split | None = None,
    source: Card | None = None,
    texts: Collection[str] = (),
    folded: Collection[str] = (),
) -> Prepared:
    """Fit preprocessing on the training part of ``table``, and apply it to all parts.

    Without ``split``, the rows of each part, they are shared out here, for which ``table`` needs
    ``spec.planning_columns`` too. The features of a ``source`` stay as they were fitted, and so
    does its target if it is the same. ``texts`` are columns of sentences, and in those that are
    ``folded`` labels differ in more than case and blanks. Raises InvalidData.
    """
    split = split_of(spec, table) if split is None else split
    names = columns_of(spec)
    table = pa.table([as_dictionary(table[name]) for name in names], names=names)
    rows = {part: table.take(getattr(split, part)) for part in PARTS}
    classes: list[Any] = []
    if spec.classifies:
        classes = preprocessing.classes_of(table[spec.targets[0]])
    target = preprocessing.fit_target(spec, rows["train"], classes)
    if source is None:
        features = fit_features(spec.features, spec.preprocessing, rows["train"], texts, folded)
    else:
        features = source.preprocessing.features
        learnt = source.preprocessing.target
        if isinstance(learnt, NumberTargets) and learnt.like(target):
            target = learnt  # in whose scale the last layer answers
    weigh = row_weights.of(spec, target, rows["train"])
    parts = {
        part: Part(
            rows[part].select(spec.targets),
            features.encode(rows[part]),
            target.encode(rows[part]),
            weigh(rows[part]),
        )
        for part in PARTS
    }
    fitted = Preprocessing(task=spec.task, features=features, target=target)
    leak_warnings = leaks.warnings(rows["train"], spec.features, spec.targets)
    return Prepared(fitted, **parts, warnings=[*leak_warnings, *_repetition_warnings(rows)])


# ---------------------------------------------------------------- rows on two sides


def _repetition_warnings(parts: dict[str, pa.Table]) -> list[str]:
    """Return a warning where rows of the test part stand in the training part as well."""
    train, test = parts["train"], parts["test"]
    if not test.num_rows:
        return []
    hashes = row_hashes(pa.concat_tables([train, test]))
    known = np.isin(hashes[train.num_rows :], hashes[: train.num_rows])
    twice = int(known.sum())
    if not twice:
        return []
    return [
        f"{twice} of the {test.num_rows} rows of the test part ({twice / test.num_rows:.1%}) stand "
        "in the training part as well, value for value; remove repeated rows, or split by group, "
        "or the test metrics may flatter the model"
    ]


def row_hashes(table: pa.Table) -> NDArray[np.uint64]:
    """Return ``(rows,)`` hashes of 64 bits of all of a row's values; equal rows have equal ones."""
    hashes = np.zeros(table.num_rows, np.uint64)
    for column in table.columns:
        values = as_dictionary(column)
        if pa.types.is_dictionary(values.type):
            numbers = _numbered(values)
        elif pa.types.is_floating(values.type):
            numbers = floats(values).view(np.uint64)
        else:
            numbers = _integers(values)
        hashes = _mixed(hashes, numbers)
        if values.null_count:  # what stands in a gap is nobody's value
            hashes = _mixed(hashes, mask(pc.is_null(values)).astype(np.uint64))
    return hashes


def _mixed(hashes: NDArray[np.uint64], numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    product: NDArray[np.uint64] = (hashes ^ numbers) * _MIX
    return product ^ (product >> _SHIFT)


def _integers(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return booleans, integers or datetimes as 64 bits, ``(rows,)``."""
    if pa.types.is_temporal(column.type):
        column = pc.cast(column, pa.timestamp("us"))
    filled = pc.fill_null(pc.cast(column, pa.int64()), 0)
    numbers: NDArray[np.uint64] = filled.to_numpy().view(np.uint64)
    return numbers


def _numbered(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Number values in order of first appearance, from 1, ``(rows,)``; 0 is missing."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries()
    pieces = [pc.fill_null(chunk.indices, -1).to_numpy() for chunk in column.chunks]
    numbers: NDArray[np.uint64] = (np.concatenate(pieces).astype(np.int64) + 1).astype(np.uint64)
    return numbers
