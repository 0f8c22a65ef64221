"""A table to the matrix that a network trains on, against numpy by hand.

1,000,000 rows of 16 floats and 4 categories of 50, standardised and one-hot: (1000000, 216).
Both sides start from the same Arrow table as it is read from disk (categories as dictionaries),
learn means, deviations and categories from it, and fill a new matrix. Target: at most 3 times.
"""

from dataclasses import dataclass
from statistics import median

import numpy as np
import pyarrow as pa
import torch

from app.ml.column_types.arrays import as_dictionary
from app.ml.column_types.fitted import Matrix
from app.ml.features.fitting import fit_features
from app.ml.specs import PreprocessingSpec
from benchmarks.harness import Scale, console, rounds, seconds
from benchmarks.ingest import CATEGORIES, FLOATS, LABELS, random_table

WIDTH = FLOATS + CATEGORIES * LABELS
"""Columns of the matrix."""


@dataclass(frozen=True)
class Size:
    rows: int
    rounds: int


SIZES = {
    Scale.FULL: Size(rows=1_000_000, rounds=5),
    Scale.QUICK: Size(rows=1_000_000, rounds=2),
    Scale.TINY: Size(rows=10_000, rounds=1),
}


def by_hand(table: pa.Table) -> Matrix:
    """Return the ``(rows, WIDTH)`` matrix by the tightest numpy, for this table only."""
    out: Matrix = np.zeros((table.num_rows, WIDTH), dtype=np.float32)
    for i in range(FLOATS):
        values = table[f"x{i}"].to_numpy()
        out[:, i] = (values - values.mean()) / values.std()
    rows = np.arange(table.num_rows)
    for i in range(CATEGORIES):
        codes = table[f"c{i}"].combine_chunks().indices.to_numpy()
        out[rows, FLOATS + i * LABELS + codes] = 1
    return out


def by_service(table: pa.Table) -> Matrix:
    """Return the ``(rows, WIDTH)`` matrix as a training process makes it."""
    names = table.column_names
    return fit_features(names, PreprocessingSpec(), table).encode(table)


def run(scale: Scale) -> None:
    """Compare what the two give, then alternate them."""
    size = SIZES[scale]
    table = random_table(size.rows)
    table = pa.table([as_dictionary(column) for column in table.columns], names=table.column_names)
    _check(by_service(table), by_hand(table))
    bare, service = [], []
    for _ in rounds(size.rounds, "matrices"):
        bare.append(seconds(lambda: torch.from_numpy(by_hand(table))))
        service.append(seconds(lambda: torch.from_numpy(by_service(table))))
    ratio = median(b / a for a, b in zip(bare, service, strict=True))
    console.print(
        f"{size.rows:,} x {FLOATS + CATEGORIES} to a ({size.rows}, {WIDTH}) tensor: "
        f"numpy by hand {median(bare):.2f} s, fitserve {median(service):.2f} s; "
        f"ratio {ratio:.2f} (target: at most 3)"
    )


def _check(ours: Matrix, theirs: Matrix) -> None:
    """Raise unless both are the same but for the order of categories."""
    assert np.allclose(ours[:, :FLOATS], theirs[:, :FLOATS], atol=1e-6), "not the same work"
    counts = [np.sort(side[:, FLOATS:].sum(axis=0)) for side in (ours, theirs)]
    assert np.array_equal(counts[0], counts[1]), "not the same work"
