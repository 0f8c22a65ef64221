"""Small tables that tests of training share."""

from typing import Any

import numpy as np
import pyarrow as pa

from tests.support.workbench import table_of

LINE = table_of(
    {"x": np.arange(0, 1, 0.02).tolist(), "y": (0.7 * np.arange(0, 1, 0.02) + 0.3).tolist()}
)


def wave(rows: int = 60) -> pa.Table:
    """Two features and a target that is a smooth function of them."""
    random = np.random.default_rng(7)
    a, b = random.normal(3, 2, rows), random.normal(-1, 0.5, rows)
    return table_of({"a": a.tolist(), "b": b.tolist(), "y": (np.sin(a) + 2 * b + 5).tolist()})


def noise(rows: int = 80) -> pa.Table:
    """A target that has nothing to do with the features: training longer only overfits."""
    random = np.random.default_rng(3)
    columns = {name: random.normal(size=rows).tolist() for name in ("a", "b", "c", "d", "y")}
    return table_of(columns)


MINI_BATCHES: dict[str, Any] = {
    "model": {"kind": "mlp", "hidden": [8, 8], "dropout": 0.3, "norm": "batch"},
    "batch_size": 16,
    "epochs": 3,
}
