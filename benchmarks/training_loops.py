"""The same training by hand and by libraries: one contestant in a process of its own.

``python -m benchmarks.training_loops NAME ARRAYS.npz EPOCHS`` trains the multilayer perceptron (or,
for ``tabular``, our own module) on one thread in batches of ``BATCH`` rows, measures the validation
loss and RMSE after each epoch, and prints the seconds that took, imports and arrays left out.
"""

import copy
import logging
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BATCH = 256
"""Rows."""
Arrays = dict[str, Any]
"""``x`` and ``x_held`` are ``(rows, 20)``, ``y`` and ``y_held`` ``(rows, 1)``."""


def mlp() -> nn.Module:
    """Return the perceptron 20-64-64-1."""
    return nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )


def tight(data: Arrays, epochs: int) -> float:
    """The tightest eager loop: slices of tensors, fused Adam, losses read once per epoch."""
    x, y, x_held, y_held = (torch.from_numpy(data[k]) for k in ("x", "y", "x_held", "y_held"))
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    loss_fn = nn.MSELoss()
    started = time.perf_counter()
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(x))
        x_epoch, y_epoch, seen = x[order], y[order], []
        for start in range(0, len(x), BATCH):
            loss = loss_fn(model(x_epoch[start : start + BATCH]), y_epoch[start : start + BATCH])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            seen.append(loss.detach())
        torch.stack(seen).mean().item()
        model.eval()
        with torch.inference_mode():
            held = loss_fn(model(x_held), y_held)
            held.sqrt().item()
    return time.perf_counter() - started


def tabular(data: Arrays, epochs: int) -> float:
    """Our default module in a tight loop of its own: fused AdamW, cosine, moving average."""
    from app.ml.nn import modules
    from app.ml.specs import Inputs, TabularSpec

    x, y, x_held, y_held = (torch.from_numpy(data[k]) for k in ("x", "y", "x_held", "y_held"))
    model = modules.build(TabularSpec(bins=48), Inputs(20, (), tuple(range(20))), 1, seed=0)
    modules.fit(model, x)
    average = copy.deepcopy(model)
    current: list[Tensor] = [*model.parameters()]
    averaged: list[Tensor] = [*average.parameters()]
    optimizer = torch.optim.AdamW(current, lr=2e-3, weight_decay=0.3, fused=True)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    loss_fn = nn.MSELoss()
    started = time.perf_counter()
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(x))
        x_epoch, y_epoch, seen = x[order], y[order], []
        for start in range(0, len(x), BATCH):
            answers = model(x_epoch[start : start + BATCH])
            target = y_epoch[start : start + BATCH, None].expand_as(answers)
            loss = loss_fn(answers, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(averaged, current, 0.01)
            seen.append(loss.detach())
        torch.stack(seen).mean().item()
        average.eval()
        with torch.inference_mode():
            held = loss_fn(average(x_held), y_held)
            held.sqrt().item()
        rates.step()
    return time.perf_counter() - started


def dataloader(data: Arrays, epochs: int) -> float:
    """What tutorials show: a Dataset, a DataLoader, and ``item()`` every step."""
    from torch.utils.data import DataLoader, TensorDataset

    train = TensorDataset(torch.from_numpy(data["x"]), torch.from_numpy(data["y"]))
    held = TensorDataset(torch.from_numpy(data["x_held"]), torch.from_numpy(data["y_held"]))
    batches = DataLoader(train, batch_size=BATCH, shuffle=True)
    held_batches = DataLoader(held, batch_size=BATCH)
    model, loss_fn = mlp(), nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters())
    started = time.perf_counter()
    for _ in range(epochs):
        total = 0.0
        for x, y in batches:
            loss = loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        with torch.no_grad():
            sum(loss_fn(model(x), y).item() for x, y in held_batches)
    return time.perf_counter() - started


def lightning(data: Arrays, epochs: int) -> float:
    """A LightningModule in a Trainer without logger, bar and checkpoints."""
    import lightning as pl
    from torch.utils.data import DataLoader, TensorDataset

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = mlp()

        def training_step(self, batch: Any, _: int) -> Tensor:
            x, y = batch
            loss = nn.functional.mse_loss(self.model(x), y)
            self.log("train_loss", loss, on_epoch=True, on_step=False)
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            x, y = batch
            self.log("validation_loss", nn.functional.mse_loss(self.model(x), y))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters())

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    train = TensorDataset(torch.from_numpy(data["x"]), torch.from_numpy(data["y"]))
    held = TensorDataset(torch.from_numpy(data["x_held"]), torch.from_numpy(data["y_held"]))
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    batches = DataLoader(train, batch_size=BATCH, shuffle=True)
    started = time.perf_counter()
    trainer.fit(Module(), batches, DataLoader(held, batch_size=len(held)))
    return time.perf_counter() - started


def skorch(data: Arrays, epochs: int) -> float:
    """A NeuralNetRegressor with its default callbacks but the printing."""
    from skorch import NeuralNetRegressor
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

    net = NeuralNetRegressor(
        mlp,
        max_epochs=epochs,
        batch_size=BATCH,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        iterator_train__shuffle=True,
        train_split=predefined_split(Dataset(data["x_held"], data["y_held"])),
        verbose=0,
    )
    started = time.perf_counter()
    net.fit(data["x"], data["y"])
    return time.perf_counter() - started


def keras(data: Arrays, epochs: int) -> float:
    """Keras on torch: ``compile`` and ``fit``."""
    import os

    os.environ["KERAS_BACKEND"] = "torch"
    import keras as k

    layers = [k.layers.Dense(64, "relu"), k.layers.Dense(64, "relu"), k.layers.Dense(1)]
    model = k.Sequential([k.Input((20,)), *layers])
    model.compile(optimizer="adam", loss="mse")
    held = (data["x_held"], data["y_held"])
    started = time.perf_counter()
    model.fit(
        data["x"], data["y"], batch_size=BATCH, epochs=epochs, validation_data=held, verbose=0
    )
    return time.perf_counter() - started


CONTESTANTS: dict[str, Callable[[Arrays, int], float]] = {
    "tight": tight,
    "tabular": tabular,
    "dataloader": dataloader,
    "lightning": lightning,
    "skorch": skorch,
    "keras": keras,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    name, arrays, epochs = sys.argv[1:]
    print(CONTESTANTS[name](dict(np.load(arrays)), int(epochs)))
