"""A table to the matrix that a network trains on, against numpy by hand.

1,000,000 rows of 16 floats and 4 categories of 50, standardised and one-hot: (1000000, 216).
Both sides start from the same Arrow table as it is read from disk (categories as dictionaries),
learn means, deviations and categories from it, and fill a new matrix. Target: at most 3 times.
"""

import time
from statistics import median

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console

from app.ml.features.arrays import as_dictionary
from app.ml.features.encoder import Matrix, fit_features
from app.ml.specs import PreprocessingSpec
from benchmarks.ingest import CATEGORIES, FLOATS, LABELS, ROWS, make

ROUNDS = 5


def by_hand(table: pa.Table) -> Matrix:
    """The tightest numpy that does the same, for this table only."""
    out: Matrix = np.zeros((table.num_rows, FLOATS + CATEGORIES * LABELS), dtype=np.float32)
    for i in range(FLOATS):
        values = table[f"x{i}"].to_numpy()
        out[:, i] = (values - values.mean()) / values.std()
    rows = np.arange(table.num_rows)
    for i in range(CATEGORIES):
        codes = table[f"c{i}"].combine_chunks().indices.to_numpy()
        out[rows, FLOATS + i * LABELS + codes] = 1
    return out


def by_service(table: pa.Table) -> Matrix:
    """What a training process does."""
    names = table.column_names
    return fit_features(names, PreprocessingSpec(), table).encode(table)


def main() -> None:
    """Alternate the two; compare what they give."""
    table = make()
    table = pa.table([as_dictionary(column) for column in table.columns], names=table.column_names)
    ours, theirs = by_service(table), by_hand(table)
    assert np.allclose(ours[:, :FLOATS], theirs[:, :FLOATS], atol=1e-6), "not the same work"
    counts = [np.sort(side[:, FLOATS:].sum(axis=0)) for side in (ours, theirs)]
    assert np.array_equal(counts[0], counts[1]), "not the same work"
    del ours, theirs
    bare: list[float] = []
    service: list[float] = []
    for _ in range(ROUNDS):
        for work, times in ((by_hand, bare), (by_service, service)):
            started = time.perf_counter()
            torch.from_numpy(work(table))
            times.append(time.perf_counter() - started)
    ratio = median(b / a for a, b in zip(bare, service, strict=True))
    Console().print(
        f"{ROWS:,} x {FLOATS + CATEGORIES} to a ({ROWS}, {FLOATS + CATEGORIES * LABELS}) tensor: "
        f"numpy by hand {median(bare):.2f} s, fitserve {median(service):.2f} s; "
        f"ratio {ratio:.2f} (target: at most 3)\n"
    )


if __name__ == "__main__":
    main()
