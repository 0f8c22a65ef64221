"""The loss history: chunks of float64 in the database, series out."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import HistoryChunk

Series = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class History:
    """Every series as ``(epochs, values)``; values may be NaN or infinite."""

    series: dict[str, Series]

    def downsampled(self, max_points: int) -> "History":
        """At most ``max_points`` points of each; every bucket keeps its minimum and maximum."""
        return History({name: _downsample(s, max_points) for name, s in self.series.items()})


def read(
    session: Session,
    job_id: str,
    *,
    names: Collection[str] | None = None,
    after_epoch: int = -1,
) -> History:
    """The series of a job, or those of ``names``, from the epoch after ``after_epoch``."""
    chunks = session.scalars(
        select(HistoryChunk)
        .where(
            HistoryChunk.job_id == job_id,
            HistoryChunk.first_epoch + HistoryChunk.epochs > after_epoch + 1,
        )
        .order_by(HistoryChunk.first_epoch)
    ).all()
    if not chunks:
        return History({})
    epochs = np.concatenate([c.first_epoch + np.arange(c.epochs) for c in chunks])
    values = np.concatenate(
        [np.frombuffer(c.values, "<f8").reshape(len(c.names), c.epochs) for c in chunks], axis=1
    )
    fresh = epochs > after_epoch
    return History(
        {
            name: (epochs[fresh], row[fresh])
            for name, row in zip(chunks[0].names, values, strict=True)
            if names is None or name in names
        }
    )


def _downsample(series: Series, max_points: int) -> Series:
    epochs, values = series
    if len(values) <= max_points:
        return series
    buckets = max(1, max_points // 2)
    edges = np.linspace(0, len(values), buckets + 1).astype(int)[:-1]
    # what is not finite is kept too: it sorts as the extreme of its bucket
    low = _extreme_positions(np.where(np.isnan(values), -np.inf, values), edges, np.minimum)
    high = _extreme_positions(np.where(np.isnan(values), np.inf, values), edges, np.maximum)
    kept = np.unique(np.concatenate([low, high]))
    return epochs[kept], values[kept]


def _extreme_positions(
    values: NDArray[np.float64], edges: NDArray[np.int64], extreme: np.ufunc
) -> NDArray[np.int64]:
    """The first position of each bucket's extreme value."""
    sizes = np.diff(np.append(edges, len(values)))
    is_extreme = values == np.repeat(extreme.reduceat(values, edges), sizes)
    positions = np.flatnonzero(is_extreme)
    bucket = np.repeat(np.arange(len(edges)), sizes)[positions]
    first: NDArray[np.int64] = positions[np.unique(bucket, return_index=True)[1]]
    return first
