"""How many rows each part of the split gets, and whether it can do with them."""

import json
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa

from app.errors import FieldError, InvalidRequest
from app.ml.column_types.arrays import floats
from app.ml.data import preparation
from app.ml.data.splits import PARTS, Split
from app.ml.features import preprocessing
from app.ml.features.preprocessing import label
from app.ml.specs import JobSpec, SplitSpec

_LEAST_ROWS = 10
"""Rows from which on the usual split leaves no part empty."""


def for_few_rows(spec: JobSpec, table: pa.Table) -> tuple[JobSpec, list[str]]:
    """Return the spec with a split that leaves no part of a very small table empty, and a warning
    of it; the caller has seen that the client asked for no split."""
    rows = len(preprocessing.complete_rows(spec, table))
    if not 0 < rows < _LEAST_ROWS:
        return spec, []
    fractions = that_works(spec.split, rows)
    split = spec.split.model_copy(update=fractions)
    shares = ", ".join(f"{part} {share:g}" for part, share in fractions.items())
    return spec.model_copy(update={"split": split}), [
        f"of {rows} rows the usual split would leave a part empty; it is {shares}"
    ]


def assigned(spec: JobSpec, table: pa.Table) -> tuple[JobSpec, Split]:
    """Return the rows of each part, and the spec with the fractions that a split by column has.

    Raises InvalidRequest where a part that is to have rows gets none.
    """
    split = preparation.split_of(spec, table)
    counts = split.counts()
    rows = sum(counts.values())
    if spec.split.strategy == "column":
        fractions = {part: count / max(1, rows) for part, count in counts.items()}
        spec = spec.model_copy(update={"split": spec.split.model_copy(update=fractions)})
    for part, size in counts.items():
        if size == 0 and (getattr(spec.split, part) > 0 or part == "train"):
            pointer, why = _why_empty(spec.split, part, rows)
            error = FieldError(pointer, why, "empty_part")
            raise InvalidRequest(f"the {part} part would be empty: {why}", [error])
    return spec, split


def _why_empty(split: SplitSpec, part: str, rows: int) -> tuple[str, str]:
    """Return the field to change, and why the part is empty."""
    if split.strategy == "column":
        return "/split/column", f"no row of '{(split.column or '')[:64]}' says {part}"
    if split.strategy == "group":
        detail = (
            f"no group of '{(split.column or '')[:64]}' falls into {part}; give it a larger "
            "share, set it to 0, choose another seed, or a column with more groups"
        )
        return "/split/column", detail
    share = getattr(split, part)
    works = json.dumps({"split": that_works(split, rows)})
    remedy = f"send more rows, or a split such as {works}"
    return f"/split/{part}", f"{share:g} of {rows} rows is no row; {remedy}"


def that_works(split: SplitSpec, rows: int) -> dict[str, float]:
    """Return fractions like those of ``split`` that leave no part of so few rows empty."""
    sizes = {
        part: max(1, int(getattr(split, part) * rows)) if getattr(split, part) > 0 else 0
        for part in PARTS[1:]
    }
    for part in sizes:  # there has to be a row to train on
        if sum(sizes.values()) >= rows:
            sizes[part] = 0
    train = rows - sum(sizes.values())
    # rounded up: a part has the whole rows in its fraction
    train_share, share = (ceil(size / rows * 1e4) / 1e4 for size in (train, sizes["validation"]))
    if not sizes["test"]:  # then train takes what remains
        return {"train": round(1 - share, 4), "validation": share, "test": 0.0}
    test = round(1 - train_share - share, 4)
    return {"train": train_share, "validation": share, "test": test}


def warnings(spec: JobSpec, split: Split) -> list[str]:
    """Return a warning for each part that a split by column leaves without rows."""
    if spec.split.strategy != "column":
        return []
    counts = split.counts()
    return [
        f"no row of '{spec.split.column}' says {part}"
        for part in ("validation", "test")
        if not counts[part]
    ]


def require_classes(
    spec: JobSpec, classes: Sequence[Any], table: pa.Table, split: Split
) -> list[str]:
    """Return a warning for each part that lacks classes that are too rare to be in it.

    Raises InvalidRequest where training lacks a class, where another part lacks one although its
    share of the class's rows is one row at least, or where every row of a part weighs 0.
    """
    if not classes and spec.sample_weight is None:
        return []
    _require_weights(spec, table, split)
    if not classes:
        return []
    codes = preprocessing.class_codes(table[spec.targets[0]])
    rare = []
    class_sizes = np.bincount(codes[codes >= 0], minlength=len(classes))
    for part in PARTS:
        rows = getattr(split, part)
        missing = np.bincount(codes[rows], minlength=len(classes)) == 0
        share = class_sizes * len(rows) / max(1, class_sizes.sum())
        unfair = np.flatnonzero(missing & ((part == "train") | (share >= 1)))
        if len(unfair):
            raise _lacks(spec, part, classes[unfair[0]], int(class_sizes[unfair[0]]))
        if len(rows) and missing.any():
            names = ", ".join(f"'{label(classes[i])[:64]}'" for i in np.flatnonzero(missing)[:5])
            rare.append(f"the {part} part has no row of {int(missing.sum())} rare classes: {names}")
    return rare


def _lacks(spec: JobSpec, part: str, value: Any, rows: int) -> InvalidRequest:
    name = f"class '{label(value)[:64]}'"
    if spec.split.strategy == "stratified":
        detail = (
            f"the {part} part would lack the {name}, which has only {rows} rows; add rows of it, "
            "merge it with another class, or set the share of that part to 0"
        )
    elif spec.split.strategy in ("random", "sequential", "time"):
        detail = f'the {part} part would lack the {name}; use the strategy "stratified"'
    else:
        detail = (
            f"the {part} part would lack the {name}; let '{(spec.split.column or '')[:64]}' "
            'give every part rows of each class, or use the strategy "stratified"'
        )
    error = FieldError("/split/strategy", detail, "missing_class")
    return InvalidRequest(detail, [error])


def _require_weights(spec: JobSpec, table: pa.Table, split: Split) -> None:
    """Raise InvalidRequest where every row of a part weighs 0."""
    counts = np.ones(table.num_rows, bool)
    if isinstance(spec.class_weight, dict):
        column = table[spec.targets[0]]
        counting = [
            spec.class_weight.get(label(value), 1) > 0 for value in preprocessing.classes_of(column)
        ]
        counts &= np.array(counting)[preprocessing.class_codes(column)]
    if spec.sample_weight is not None:
        counts &= floats(table[spec.sample_weight]) > 0
    for part in PARTS:
        rows = getattr(split, part)
        if len(rows) and not counts[rows].any():
            raise InvalidRequest.at(
                "/sample_weight" if spec.sample_weight is not None else "/class_weight",
                f"every row of the {part} part has the weight 0 and none would count; "
                "use another split or other weights",
            )
