"""How many rows each part of the split gets, and whether it can do with them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from app.errors import FieldError, InvalidRequest
from app.ml.data import preparation
from app.ml.data.splits import PARTS, Split, part_sizes
from app.ml.features import preprocessing
from app.ml.features.arrays import floats
from app.ml.features.preprocessing import label
from app.ml.specs import JobSpec, SplitSpec


def shared_out(spec: JobSpec, rows: int, table: pa.Table) -> tuple[JobSpec, dict[str, int]]:
    """How many rows each part gets; a split by column tells its own fractions."""
    if spec.split.column is None:
        counts = dict(zip(PARTS, part_sizes(spec.split, rows), strict=True))
    else:
        counts = preparation.split_of(spec, table).counts()
    if spec.split.strategy == "column":
        told = {part: count / max(1, rows) for part, count in counts.items()}
        spec = spec.model_copy(update={"split": spec.split.model_copy(update=told)})
    for part, size in counts.items():
        wanted = getattr(spec.split, part)
        if size == 0 and (wanted > 0 or part == "train"):
            pointer, why = _why_empty(spec.split, part, rows)
            error = FieldError(pointer, why, "empty_part")
            raise InvalidRequest(f"the {part} part would be empty", [error])
    return spec, counts


def _why_empty(split: SplitSpec, part: str, rows: int) -> tuple[str, str]:
    if split.strategy == "column":
        return "/split/column", f"no row of '{(split.column or '')[:64]}' says {part}"
    if split.strategy == "group":
        detail = (
            f"no group of '{(split.column or '')[:64]}' falls into {part}; give it a larger "
            "share, set it to 0, choose another seed, or a column with more groups"
        )
        return "/split/column", detail
    share = getattr(split, part)
    remedy = "give it a larger share, set it to 0, or send more rows"
    return f"/split/{part}", f"{share:g} of {rows} rows is no row; {remedy}"


def warnings(spec: JobSpec, split: dict[str, int]) -> list[str]:
    """What a split by column says of its parts."""
    if spec.split.strategy != "column":
        return []
    return [
        f"no row of '{spec.split.column}' says {part}"
        for part in ("validation", "test")
        if not split[part]
    ]


def require_classes(spec: JobSpec, classes: Sequence[Any], table: pa.Table) -> list[str]:
    """Raise InvalidRequest where training lacks a class, another part one of which its share of
    the class's rows would be one at least, or where no row of a part counts.

    A class too rare for a part is a warning; returns these.
    """
    if not classes and spec.sample_weight is None:
        return []
    split = preparation.split_of(spec, table)
    _require_weights(spec, table, split)
    if not classes:
        return []
    codes = preprocessing.class_codes(table[spec.targets[0]])
    found = []
    there_are = np.bincount(codes[codes >= 0], minlength=len(classes))
    for part in PARTS:
        rows = getattr(split, part)
        missing = np.bincount(codes[rows], minlength=len(classes)) == 0
        share = there_are * len(rows) / max(1, there_are.sum())
        unfair = np.flatnonzero(missing & ((part == "train") | (share >= 1)))
        if len(unfair):
            raise _lacks(spec, part, classes[unfair[0]], int(there_are[unfair[0]]))
        if len(rows) and missing.any():
            names = ", ".join(f"'{label(classes[i])[:64]}'" for i in np.flatnonzero(missing)[:5])
            found.append(
                f"the {part} part has no row of {int(missing.sum())} rare classes: {names}"
            )
    return found


def _lacks(spec: JobSpec, part: str, value: Any, rows: int) -> InvalidRequest:
    shown = f"class '{label(value)[:64]}'"
    if spec.split.strategy == "stratified":
        detail = (
            f"the {part} part would lack the {shown}, which has only {rows} rows; add rows of it, "
            "merge it with another class, or set the share of that part to 0"
        )
    elif spec.split.strategy in ("random", "sequential"):
        detail = f'the {part} part would lack the {shown}; use the strategy "stratified"'
    else:
        detail = (
            f"the {part} part would lack the {shown}; let '{(spec.split.column or '')[:64]}' "
            'give every part rows of each class, or use the strategy "stratified"'
        )
    error = FieldError("/split/strategy", detail, "missing_class")
    return InvalidRequest(detail, [error])


def _require_weights(spec: JobSpec, table: pa.Table, split: Split) -> None:
    """Raise InvalidRequest where the rows of a part count nothing."""
    counts = np.ones(table.num_rows, bool)
    if isinstance(spec.class_weight, dict):
        column = table[spec.targets[0]]
        told = [spec.class_weight.get(label(c), 1) > 0 for c in preprocessing.classes_of(column)]
        counts &= np.array(told)[preprocessing.class_codes(column)]
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
