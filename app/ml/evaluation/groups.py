"""How a model does on the rows of each value of a column, or of each fifth of its numbers."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.column_types.arrays import floats, microseconds
from app.ml.column_types.canonical import column_type, iso
from app.ml.column_types.fitted import Matrix
from app.ml.evaluation import metrics
from app.ml.features.preprocessing import TargetEncoder, label
from app.ml.finite import Metrics

MOST_GROUPS = 50
"""Values that are told, the most frequent ones; numbers and dates of more are told by fifths."""
_FEW = 20
"""Different numbers or dates up to which each is a group."""
_PARTS = 5
"""Groups of equally many rows that there are of more."""


class Group(NamedTuple):
    """The rows of one value."""

    value: str | None
    """``None`` where it is missing; of a fifth its ends."""
    rows: int
    metrics: Metrics


def by_column(
    target: TargetEncoder, table: pa.Table, outputs: Matrix, column: pa.ChunkedArray
) -> list[Group]:
    """Return the metrics of each group of rows of ``column`` ``(rows,)``: labels by how frequent
    they are, numbers and dates in their order, missing last."""
    names, places = _parted(column)
    found = []
    for number, name in enumerate(names):
        rows = np.flatnonzero(places == number)
        scores = metrics.score(target, table.take(pa.array(rows)), outputs[rows])
        found.append(Group(name, len(rows), scores))
    return found


def _parted(column: pa.ChunkedArray) -> tuple[list[str | None], NDArray[np.int64]]:
    """Return the groups' names, and ``(rows,)`` the number of each row's, -1 for none."""
    kind = column_type(column.type)
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    present = column.drop_null().unique()
    if kind in ("number", "datetime") and len(present) > _FEW:
        return _fifths(column, kind)
    counted = [(item["values"], item["counts"]) for item in column.value_counts().to_pylist()]
    if kind in ("number", "datetime"):
        counted.sort(key=lambda item: (item[0] is None, item[0]))
    else:
        counted.sort(key=lambda item: (item[0] is None, -item[1], item[0]))
    values = [value for value, _ in counted[:MOST_GROUPS]]
    if None not in values and column.null_count:
        values[-1:] = [None]
    typed = pa.array(values, present.type)
    places = pc.index_in(pc.cast(column, present.type), value_set=typed)
    found: NDArray[np.int64] = pc.fill_null(places, -1).to_numpy().astype(np.int64)
    return [None if value is None else _named(value) for value in values], found


def _named(value: Any) -> str:
    return str(iso(value)) if hasattr(value, "isoformat") else label(value)


def _fifths(column: pa.ChunkedArray, kind: str) -> tuple[list[str | None], NDArray[np.int64]]:
    present = column.drop_null()
    numbers = microseconds(present).astype(float) if kind == "datetime" else floats(present)
    ordered = present.take(pa.array(np.argsort(numbers, kind="stable")))
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _PARTS + 1)))
    inside = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    places = np.full(len(column), -1)
    places[np.flatnonzero(column.is_valid().to_numpy())] = inside
    ends = np.cumsum(np.bincount(inside, minlength=len(edges) - 1))
    names: list[str | None] = []
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        low, high = ordered[int(begin)].as_py(), ordered[int(end) - 1].as_py()
        names.append(f"{_named(low)} to {_named(high)}")
    if column.null_count:
        places[np.flatnonzero(column.is_null().to_numpy())] = len(names)
        names.append(None)
    return names, places
