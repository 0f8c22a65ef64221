"""A server with small models of every kind, for the tests of how predictions are asked for."""

from dataclasses import dataclass
from math import sin
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.server import Json, Server

MOST_ROWS = 2_200
MOST_JSON = 256 * 1024
MOST_DECODED = 2 * 1024 * 1024

NUMBERS = [f"n{i}" for i in range(8)]
MIXED = ["size", "color", "new", "at", "day", "zip/code"]
COLORS = ["rot", "grün", "青", "bleu ciel", "o'range"]
CITIES = [f"city {i}" for i in range(80)]
"""More than are one-hot, so that this feature is embedded."""

KINDS = ["Klein", "groß", "大"]

_QUICK: Json = {"epochs": 3, "model": {"kind": "mlp", "hidden": [8]}, "early_stopping": None}


@dataclass(frozen=True)
class Zoo:
    """``numbers``: 8 numbers to one, in two versions. ``mixed``: features of every type, with gaps,
    to a string; ``score``, the default model: the same to a number. ``pair``: two numbers to two.
    ``flags``: two numbers to two booleans."""

    server: Server

    def predict(self, model: str, rows: list[Json], **options: Any) -> list[Any]:
        """By JSON rows."""
        body = {"rows": rows}
        found = self.server.ok("POST", f"/v1/models/{model}/predict", json=body, **options)
        predictions: list[Any] = found["predictions"]
        return predictions


def number_row(i: int) -> Json:
    """Of ``numbers``, without its target."""
    return {name: round(sin(1 + i * (k + 1)) * 10 ** (k % 4), 6) for k, name in enumerate(NUMBERS)}


def mixed_row(i: int) -> Json:
    """Of ``mixed``, without its target; every seventh value is missing."""
    row = {
        "size": i / 7,
        "color": COLORS[i * 3 % 5],
        "new": i % 3 == 0,
        "at": f"2026-{1 + i % 12:02}-{1 + i % 28:02}T{i % 24:02}:30:00Z",
        "day": f"20{10 + i % 15}-{1 + i % 12:02}-{1 + i % 28:02}",
        "zip/code": CITIES[i * 7 % len(CITIES)],
    }
    return {
        name: None if (i + k) % 7 == 0 else value for k, (name, value) in enumerate(row.items())
    }


def start(folder: Path) -> Server:
    """Limits are small, so that tests may go beyond them."""
    return Server(
        folder,
        FITSERVE_DEFAULT_MODEL="score",
        FITSERVE_MAX_PREDICT_ROWS=str(MOST_ROWS),
        FITSERVE_MAX_JSON_BYTES=str(MOST_JSON),
        FITSERVE_MAX_DECODED_BYTES=str(MOST_DECODED),
    )


def train(server: Server) -> Zoo:
    """All of them."""
    numbers = [number_row(i) for i in range(120)]
    numbers = [{**row, "y": 3 * row["n0"] + row["n1"]} for row in numbers]
    mixed = [
        {**mixed_row(i), "kind": KINDS[i * 3 % 5 % 3], "points": i + 10 * (i * 3 % 5)}
        for i in range(100)
    ]
    pair = [
        {"u": i / 10, "v": -i, "a": 2 * i, "b": 1e-3 * i, "p": i > 30, "q": i % 2 == 0}
        for i in range(60)
    ]
    for name, rows in (("numbers", numbers), ("mixed", mixed), ("pair", pair)):
        body = {"name": name, "source": {"kind": "inline", "rows": rows}}
        server.ok("POST", "/v1/datasets", json=body)
    for _ in range(2):
        server.train(dataset="numbers", target="y", register_as="numbers", **_QUICK)
    of_mixed = {"dataset": "mixed", "features": MIXED, **_QUICK, "epochs": 60}
    server.train(**of_mixed, target="kind", register_as="mixed")
    server.train(**of_mixed, target="points", register_as="score")
    two = {"dataset": "pair", "features": ["u", "v"], **_QUICK}
    server.train(**two, target=["a", "b"], register_as="pair")
    server.train(**two, target=["p", "q"], register_as="flags")
    return Zoo(server)


ROWS = [number_row(i) for i in range(7)]
VALUES = np.array([list(row.values()) for row in ROWS])
"""What ``numbers`` is asked in tests of tensors."""
WHOLE = [row for row in map(mixed_row, range(200)) if None not in row.values()][:5]
"""Rows of ``mixed`` without gaps, which tensors of the client cannot say."""
DATATYPES = {"size": "FP64", "new": "BOOL"}
"""Of its features; the others are ``BYTES``."""
