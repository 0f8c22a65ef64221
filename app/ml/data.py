"""A table and a spec as arrays, split and preprocessed once; importable without torch."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from app.ml import preprocessing
from app.ml.preprocessing import Matrix, Preprocessing
from app.ml.specs import JobSpec
from app.ml.splits import PARTS, Split, split_rows


@dataclass(frozen=True)
class Part:
    """One part of the split: its rows as a table, and as what a module sees."""

    table: pa.Table
    x: Matrix
    """``(rows, inputs)`` float32."""
    y: NDArray[Any]
    """``(rows, outputs)`` float32, or ``(rows,)`` int64 class numbers."""

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Prepared:
    """What training needs of the data, and what travels with the model."""

    preprocessing: Preprocessing
    train: Part
    validation: Part
    test: Part


def split_of(spec: JobSpec, table: pa.Table) -> Split:
    """The split of a job; ``table`` needs the target columns only."""
    rows = preprocessing.complete_rows(spec, table)
    classes = None
    if spec.split.strategy == "stratified":
        classes = preprocessing.class_codes(table[spec.targets[0]])[rows]
    return split_rows(spec.split, rows, classes)


def prepare(spec: JobSpec, table: pa.Table) -> Prepared:
    """Split ``table``, fit preprocessing on the training part, apply it to all parts."""
    split = split_of(spec, table)
    parts = {part: table.take(getattr(split, part)) for part in PARTS}
    features = preprocessing.fit_features(spec, parts["train"])
    classes: list[Any] = []
    if spec.task in ("binary", "multiclass"):
        classes = preprocessing.classes_of(table[spec.targets[0]])
    target = preprocessing.fit_target(spec, parts["train"], classes)
    encoded = {
        part: Part(rows, features.encode(rows), target.encode(rows)) for part, rows in parts.items()
    }
    return Prepared(Preprocessing(task=spec.task, features=features, target=target), **encoded)
