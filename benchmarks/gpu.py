"""The same jobs on the CPU and on a GPU, by the library alone, and a hand-written loop beside.

For whoever wonders whether a GPU pays: small networks are bound by the time it takes to start a
kernel. Run by itself where there is a GPU: ``python -m benchmarks.gpu``.
"""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from app.ml.training.events import EpochEnded, Event
from app.ml.training.fit import fit

ROWS, COLUMNS = 50_000, 20
EPOCHS = 6
ROUNDS = 3
JOBS: dict[str, dict[str, Any]] = {
    "mlp 64-64, batch 256": {"model": {"kind": "mlp", "hidden": [64, 64]}, "batch_size": 256},
    "mlp 1024 x 3, batch 4096": {
        "model": {"kind": "mlp", "hidden": [1024] * 3},
        "batch_size": 4096,
    },
    "mlp 4096 x 3, batch 8192": {
        "model": {"kind": "mlp", "hidden": [4096] * 3},
        "batch_size": 8192,
    },
    "tabular, batch 256": {"model": "tabular", "batch_size": 256},
    "tabular 512 wide, batch 2048": {
        "model": {"kind": "tabular", "members": 32, "width": 512},
        "batch_size": 2048,
    },
}


def data() -> dict[str, list[float]]:
    """Return ``ROWS`` rows of ``COLUMNS`` normal numbers and a bent sum of them."""
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, COLUMNS))
    y = np.sin(x[:, :5].sum(1)) + x[:, 5] * x[:, 6]
    return {**{f"x{i}": column.tolist() for i, column in enumerate(x.T)}, "y": y.tolist()}


def samples_per_second(columns: dict[str, list[float]], device: str, **job: Any) -> float:
    """Return the training rows per second of the epochs after the first."""
    moments: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, EpochEnded):
            moments.append(time.perf_counter())

    with TemporaryDirectory() as folder:
        options = {"epochs": EPOCHS, "early_stopping": None, "device": device, **job}
        fit(columns, "y", Path(folder), on_event=note, **options)
    return 0.8 * ROWS * (len(moments) - 1) / (moments[-1] - moments[0])


def by_hand(device: str, widths: list[int], batch: int) -> float:
    """Return the rows per second of the tightest eager loop of such an MLP: tensor slices, Adam."""
    torch.manual_seed(0)
    x, y = (
        torch.randn(int(0.8 * ROWS), COLUMNS, device=device),
        torch.randn(40_000, 1, device=device),
    )
    sizes = [COLUMNS, *widths]
    layers = [
        layer for a, b in zip(sizes, widths, strict=False) for layer in (nn.Linear(a, b), nn.ReLU())
    ]
    model = nn.Sequential(*layers, nn.Linear(widths[-1], 1)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for epoch in range(3):
        if epoch == 1:
            torch.cuda.synchronize() if device == "cuda" else None
            started = time.perf_counter()
        order = torch.randperm(len(x), device=device)
        shuffled, targets = x[order], y[order]
        for start in range(0, len(x), batch):
            rows = slice(start, start + batch)
            loss = nn.functional.mse_loss(model(shuffled[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        loss.item()
    return 2 * len(x) / (time.perf_counter() - started)


def main() -> None:
    """Print medians of a few alternated rounds."""
    device_names = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if "cuda" in device_names:
        print(torch.cuda.get_device_name(), "torch", torch.__version__)
    torch.set_num_threads(1)
    columns = data()
    for name, job in JOBS.items():
        heavy = name.startswith(("mlp 4096", "mlp 1024", "tabular 512"))
        devices = device_names[1:] if heavy and len(device_names) > 1 else device_names
        found: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for device in devices:
                found.setdefault(device, []).append(samples_per_second(columns, device, **job))
                if isinstance(job["model"], dict) and "hidden" in job["model"]:
                    hand = by_hand(device, job["model"]["hidden"], job["batch_size"])
                    found.setdefault(f"{device} by hand", []).append(hand)
        speeds = ", ".join(f"{key} {median(values):,.0f}" for key, values in found.items())
        print(f"{name}: {speeds} rows/s", flush=True)


if __name__ == "__main__":
    main()
