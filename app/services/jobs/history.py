"""The loss history, both sides of it: epochs into chunks of float64, chunks into series.

A chunk holds consecutive epochs, series after series; the newest grows to 1,024 epochs. So a
million epochs are 8 MB a series, a window is one ``frombuffer``, and NaN survives. When each was
recorded stands beside them, in 4 bytes: seconds after the chunk's first.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from app.db.models import HistoryChunk, now
from app.ml import finite
from app.ml.specs import JobSpec
from app.ml.training.events import EpochEnded

_NO_END = 2**62
"""An epoch that no job reaches."""
_MOST_EPOCHS_PER_CHUNK = 1024
Series = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Epochs and values, both ``(points,)``."""


class Nonfinite(NamedTuple):
    """A point whose value is NaN or infinite, for which JSON has no number."""

    epoch: int
    name: str
    kind: finite.Kind


@dataclass(frozen=True)
class History:
    """Series by name: epochs and values, both ``(points,)``; values may be NaN or infinite."""

    series: dict[str, Series]

    def nonfinite(self) -> list[Nonfinite]:
        """Return the points that are NaN or infinite, series after series."""
        return [
            Nonfinite(int(epochs[place]), name, finite.kind(float(values[place])))
            for name, (epochs, values) in self.series.items()
            for place in np.flatnonzero(~np.isfinite(values))
        ]

    def downsampled(self, max_points: int) -> "History":
        """Return a history of at most ``max_points`` epochs, the same of every series.

        Of each of equal buckets they are those where a series has its minimum or maximum; where
        those are fewer, since series turn together, evenly spaced ones besides. Of more, which a
        few points for several series may be, evenly spaced ones are left.
        """
        if not self.series or len(epochs := next(iter(self.series.values()))[0]) <= max_points:
            return self
        buckets = max(1, max_points // (2 * len(self.series)))
        extremes = [_extremes(values, buckets) for _, values in self.series.values()]
        places = np.unique(np.concatenate(extremes))
        evenly = _evenly(len(epochs), max(0, max_points - len(places)))
        places = np.union1d(places, evenly)
        places = places[_evenly(len(places), min(max_points, len(places)))]
        return History({name: (epochs[places], v[places]) for name, (_, v) in self.series.items()})


@dataclass(frozen=True)
class Chunk:
    """Consecutive epochs, as they are stored."""

    first_epoch: int
    names: list[str]
    """Names of the series, in order."""
    values: NDArray[np.float64]
    """``(series, epochs)``."""
    created_at: datetime
    """When the first of these epochs was recorded."""
    seconds: NDArray[np.float32]
    """From then until each epoch was recorded, ``(epochs,)``; 0 in chunks of an older fitserve."""

    def recorded_at(self, place: int) -> datetime:
        """Return when the epoch at this place of the chunk was recorded."""
        return self.created_at + timedelta(seconds=float(self.seconds[place]))


# ---------------------------------------------------------------- recorded


def append(session: Session, job_id: str, epochs: Sequence[EpochEnded]) -> None:
    """Append consecutive epochs, of the same series each, to the job's history."""
    names = list(epochs[0].values)
    table = np.array([[epoch.values[name] for name in names] for epoch in epochs], dtype="<f8").T
    newest = session.scalars(
        select(HistoryChunk)
        .where(HistoryChunk.job_id == job_id)
        .order_by(HistoryChunk.first_epoch.desc())
        .limit(1)
    ).one_or_none()
    grows = newest is not None and newest.epochs + len(epochs) <= _MOST_EPOCHS_PER_CHUNK
    if newest is not None and grows and newest.names == names:
        since = (now() - newest.created_at).total_seconds()
        newest.seconds = _seconds(newest).tobytes() + _all_at(since, epochs)
        newest.values = _pack(np.concatenate([_unpack(newest), table], axis=1))
        newest.epochs += len(epochs)
    else:
        chunk = HistoryChunk(job_id=job_id, first_epoch=epochs[0].epoch, names=names)
        chunk.created_at, chunk.seconds = now(), _all_at(0.0, epochs)
        chunk.epochs, chunk.values = len(epochs), _pack(table)
        session.add(chunk)


def _all_at(seconds: float, epochs: Sequence[EpochEnded]) -> bytes:
    """Return the same time for each of ``epochs``: they came within a moment of each other."""
    return np.full(len(epochs), seconds, "<f4").tobytes()


def _seconds(chunk: "HistoryChunk | Row[Any]") -> NDArray[np.float32]:
    """Return the seconds ``(epochs,)`` of a stored chunk; zeros where they were not kept."""
    if chunk.seconds is None:
        return np.zeros(chunk.epochs, "<f4")
    return np.frombuffer(chunk.seconds, "<f4")


def _pack(table: NDArray[np.float64]) -> bytes:
    """Return a table ``(series, epochs)`` as little-endian bytes, series after series."""
    return np.ascontiguousarray(table, "<f8").tobytes()


def _unpack(chunk: "HistoryChunk | Row[Any]") -> NDArray[np.float64]:
    """Return the values ``(series, epochs)`` of a stored chunk."""
    return np.frombuffer(chunk.values, "<f8").reshape(len(chunk.names), chunk.epochs)


# ---------------------------------------------------------------- read


def chunks(
    session: Session, job_id: str, after_epoch: int = -1, before_epoch: int = _NO_END
) -> list[Chunk]:
    """Return the chunks with an epoch between the two, neither of them included, in order."""
    found = session.execute(
        select(
            HistoryChunk.first_epoch,
            HistoryChunk.epochs,
            HistoryChunk.names,
            HistoryChunk.values,
            HistoryChunk.created_at,
            HistoryChunk.seconds,
        )
        .where(
            HistoryChunk.job_id == job_id,
            HistoryChunk.first_epoch < before_epoch,
            HistoryChunk.first_epoch + HistoryChunk.epochs > after_epoch + 1,
        )
        .order_by(HistoryChunk.first_epoch)
    )
    return [
        Chunk(row.first_epoch, row.names, _unpack(row), row.created_at, _seconds(row))
        for row in found
    ]


def read(
    session: Session,
    job_id: str,
    *,
    names: Collection[str] | None = None,
    after_epoch: int = -1,
) -> History:
    """Return all series of a job, or those of ``names``, from the epoch after ``after_epoch``."""
    found = chunks(session, job_id, after_epoch)
    if not found:
        return History({})
    first, last = found[0].first_epoch, found[-1].first_epoch + found[-1].values.shape[1]
    epochs = np.arange(first, last)  # there is no gap between chunks
    later = slice(max(0, after_epoch + 1 - first), None)
    return History(
        {
            name: (epochs[later], np.concatenate([chunk.values[row] for chunk in found])[later])
            for row, name in enumerate(found[0].names)
            if names is None or name in names
        }
    )


def series_of(spec: JobSpec) -> list[str]:
    """Return the names of the series that a job's history has, or will have."""
    part = "validation" if spec.split.validation else "test"
    metric = "rmse" if spec.task == "regression" else "accuracy"
    measured = dict.fromkeys([f"{part}_loss", f"{part}_{metric}", f"{part}_{spec.select}"])
    return ["train_loss", *measured, "learning_rate"]


def of_epoch(session: Session, job_id: str, epoch: int) -> dict[str, float]:
    """Return the values of one epoch by series; none where it has not ended yet."""
    for chunk in chunks(session, job_id, epoch - 1, epoch + 1):
        values = chunk.values[:, epoch - chunk.first_epoch]
        return dict(zip(chunk.names, values.tolist(), strict=True))
    return {}


def _evenly(count: int, points: int) -> NDArray[np.int64]:
    """Return so many of ``count`` places, the first and the last among them."""
    return np.linspace(0, count - 1, points).astype(np.int64)


def _extremes(values: NDArray[np.float64], buckets: int) -> NDArray[np.int64]:
    """Return where each of ``buckets`` of equal size has its minimum and its maximum."""
    edges = np.linspace(0, len(values), buckets + 1).astype(int)[:-1]
    # NaN counts as the extreme of its bucket on both sides, so it is never lost
    low = _extreme_positions(np.where(np.isnan(values), -np.inf, values), edges, np.minimum)
    high = _extreme_positions(np.where(np.isnan(values), np.inf, values), edges, np.maximum)
    return np.concatenate([low, high])


def _extreme_positions(
    values: NDArray[np.float64], edges: NDArray[np.int64], extreme: np.ufunc
) -> NDArray[np.int64]:
    """Return where each bucket's extreme stands first, ``(buckets,)`` of ``(points,)``."""
    sizes = np.diff(np.append(edges, len(values)))
    is_extreme = values == np.repeat(extreme.reduceat(values, edges), sizes)
    positions = np.flatnonzero(is_extreme)
    bucket = np.repeat(np.arange(len(edges)), sizes)[positions]
    first: NDArray[np.int64] = positions[np.unique(bucket, return_index=True)[1]]
    return first
