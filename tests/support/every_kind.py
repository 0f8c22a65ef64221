"""Models of every kind on features of every type, trained for a moment, and rows for them."""

import random
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from app.ml.training import loop
from tests.support.workbench import Run, Workbench, table_of

ROWS = 240
RANDOM = random.Random(4)
WORDS = ["warm", "heller", "Küche", "ruhig", "laut", "Straße", "new", "old", "garden", "no"]
BEGIN = datetime(2023, 12, 30, 5, 7, 9, 250_000)


def maybe(value: Any, i: int) -> Any:
    return None if i % 11 == 3 else value


FEATURES: dict[str, list[Any]] = {
    "number": [maybe(RANDOM.gauss(3, 20), i) for i in range(ROWS)],
    "count": [RANDOM.randrange(9) for _ in range(ROWS)],
    "flag": [maybe(RANDOM.random() < 0.4, i) for i in range(ROWS)],
    "color": [maybe(RANDOM.choice(["rot", "grün", " blau ", "BLAU"]), i) for i in range(ROWS)],
    "city": [f"city {RANDOM.randrange(70)}" for _ in range(ROWS)],
    "town": [maybe(f"Town {RANDOM.randrange(65)}", i) for i in range(ROWS)],
    "day": [maybe((BEGIN + timedelta(days=37 * i)).date().isoformat(), i) for i in range(ROWS)],
    "at": [(BEGIN + timedelta(seconds=98_765.4321 * i)).isoformat() for i in range(ROWS)],
    "text": [maybe(" ".join(RANDOM.choices(WORDS, k=6)), i) for i in range(ROWS)],
}
"""Features of every type, most with gaps; ``town`` has more labels than are one-hot."""
SCORE = [(n or 0) / 9 + c for n, c in zip(FEATURES["number"], FEATURES["count"], strict=True)]
TARGETS: dict[str, list[Any]] = {
    "score": SCORE,
    "half": [value / 2 + 7 for value in SCORE],
    "amount": [max(0, round(value)) for value in SCORE],
    "sign": ["up" if value > 4 else "down" for value in SCORE],
    "kind": [["a", "b", "c"][round(value) % 3] for value in SCORE],
    "grade": [round(value) % 4 for value in SCORE],
    "left": [value > 3 for value in SCORE],
    "right": [value < 6 for value in SCORE],
}
TABLE = table_of({**FEATURES, **TARGETS})
MODELS: dict[str, dict[str, Any]] = {
    "linear": {"model": "linear"},
    "mlp": {"model": {"kind": "mlp", "hidden": [8, 8, 4], "activation": "leaky_relu"}},
    "deep": {
        "model": {
            "kind": "mlp",
            "hidden": [8, 8, 8],
            "activation": "SiLU",
            "norm": "batch",
            "dropout": 0.2,
            "residual": True,
        }
    },
    "sequential": {
        "model": {
            "kind": "sequential",
            "layers": [
                {"kind": "Linear", "out_features": 12},
                {"kind": "RMSNorm"},
                {"kind": "PReLU"},
                {"kind": "BatchNorm1d"},
                {"kind": "Dropout", "p": 0.1},
                {"kind": "Linear", "out_features": 6, "bias": False},
                {"kind": "LayerNorm"},
                "GELU",
                "Linear",
            ],
        }
    },
    "tabular": {},
    "robust": {"preprocessing": {"numbers": "robust", "categories": "embedding"}},
    "quantile": {"preprocessing": {"numbers": "quantile"}, "model": "linear"},
    "one hot": {"preprocessing": {"categories": "one_hot", "target": "none"}, "model": "mlp"},
    "several": {"target": ["score", "half"]},
    "counts": {"target": "amount", "loss": "poisson_nll"},
    "pinball": {"loss": {"kind": "quantile", "q": 0.8}},
    "binary": {"target": "sign"},
    "two logits": {"target": "sign", "loss": "cross_entropy", "model": "mlp"},
    "classes": {"target": "kind"},
    "margin": {"target": "kind", "loss": "multi_margin", "model": "mlp"},
    "numbers as classes": {"target": "grade", "task": "multiclass"},
    "a boolean": {"target": "left", "model": "linear"},
    "labels": {"target": ["left", "right"]},
}


def trained(workbench: Workbench, **fields: Any) -> Run:
    asked = {"features": [*FEATURES], "target": "score", "epochs": 3, **fields}
    texts = [name for name in asked["features"] if name == "text"]
    task = workbench.task(TABLE, **asked).model_copy(update={"texts": texts})
    return Run(task, workbench.storage, list(loop.train(task)))


def in_json(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.select([*FEATURES]).to_pylist()
    for row in rows:
        row["day"], row["at"] = row["day"] and row["day"].isoformat(), row["at"].isoformat()
    rows[0]["color"], rows[1]["city"], rows[2]["text"] = "Rot", "nowhere", "…"
    rows[3]["number"], rows[4]["at"] = 1e9, "2024-02-29T23:30:00+05:30"
    return rows
