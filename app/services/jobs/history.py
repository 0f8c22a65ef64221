"""The loss history: chunks of float64 in the database, series out."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import HistoryChunk

_NO_END = 2**62
Series = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class History:
    """Every series as ``(epochs, values)``; values may be NaN or infinite."""

    series: dict[str, Series]

    def downsampled(self, max_points: int) -> "History":
        """At most ``max_points`` points of each; every bucket keeps its minimum and maximum."""
        return History({name: _downsample(s, max_points) for name, s in self.series.items()})


@dataclass(frozen=True)
class Chunk:
    """Consecutive epochs: ``values`` is (series, epochs)."""

    first_epoch: int
    names: list[str]
    values: NDArray[np.float64]
    created_at: datetime


def chunks(
    session: Session, job_id: str, after_epoch: int = -1, before_epoch: int = _NO_END
) -> list[Chunk]:
    """The stored chunks that have an epoch between the two, in order."""
    found = session.execute(
        select(
            HistoryChunk.first_epoch,
            HistoryChunk.epochs,
            HistoryChunk.names,
            HistoryChunk.values,
            HistoryChunk.created_at,
        )
        .where(
            HistoryChunk.job_id == job_id,
            HistoryChunk.first_epoch < before_epoch,
            HistoryChunk.first_epoch + HistoryChunk.epochs > after_epoch + 1,
        )
        .order_by(HistoryChunk.first_epoch)
    )
    return [
        Chunk(first, names, np.frombuffer(values, "<f8").reshape(len(names), epochs), created_at)
        for first, epochs, names, values, created_at in found
    ]


def read(
    session: Session,
    job_id: str,
    *,
    names: Collection[str] | None = None,
    after_epoch: int = -1,
) -> History:
    """The series of a job, or those of ``names``, from the epoch after ``after_epoch``."""
    found = chunks(session, job_id, after_epoch)
    if not found:
        return History({})
    first, last = found[0].first_epoch, found[-1].first_epoch + found[-1].values.shape[1]
    epochs = np.arange(first, last)  # there is no gap between chunks
    fresh = slice(max(0, after_epoch + 1 - first), None)
    return History(
        {
            name: (epochs[fresh], np.concatenate([chunk.values[row] for chunk in found])[fresh])
            for row, name in enumerate(found[0].names)
            if names is None or name in names
        }
    )


def of_epoch(session: Session, job_id: str, epoch: int) -> dict[str, float]:
    """What was recorded of one epoch; nothing where it has not ended yet."""
    for chunk in chunks(session, job_id, epoch - 1, epoch + 1):
        values = chunk.values[:, epoch - chunk.first_epoch]
        return dict(zip(chunk.names, values.tolist(), strict=True))
    return {}


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
