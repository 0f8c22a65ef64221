"""The moving average of the weights: what it is, where it is measured and kept, and going on."""

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from app.ml.data.batches import Rows, batches
from app.ml.inference import forward
from app.ml.training.ema import EMA
from tests.support.resume import FIELDS, MIDDLE, same_as_undisturbed
from tests.support.workbench import Run, Workbench, table_of

_RANDOM = np.random.default_rng(2)
X = _RANDOM.normal(size=(40, 2)).round(3)
Y = (X @ [0.5, -1.0] + 0.2).round(4)
TABLE = table_of({"a": X[:, 0].tolist(), "b": X[:, 1].tolist(), "y": Y.tolist()})
PLAIN: dict[str, Any] = {
    "features": ["a", "b"],
    "split": {"train": 0.8, "validation": 0.2, "test": 0.0, "strategy": "sequential"},
    "preprocessing": {"numbers": "none", "target": "none"},
    "model": "linear",
    "optimizer": {"kind": "sgd", "lr": 0.1},
    "batch_size": 8,
    "epochs": 5,
    "early_stopping": None,
}


def weights(run: Run) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(run.folder / "weights.safetensors")
    return found


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_the_average_is_the_one_by_hand(workbench: Workbench, decay: float) -> None:
    """In step n at most (1 + n) / (10 + n) of what was."""
    split = {"train": 0.8, "validation": 0.0, "test": 0.2, "strategy": "sequential"}
    run = workbench.train(TABLE, **{**PLAIN, "ema_decay": decay, "split": split})
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    kept = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rows = Rows(torch.tensor(X[:32]).float(), torch.tensor(Y[:32]).float()[:, None])
    steps, measured = 0, []
    for epoch in range(5):
        for x, y, _ in batches(rows, run.task.spec, epoch):
            loss = ((model(x) - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            share = min(decay, (1 + steps) / (10 + steps))
            kept = [
                share * a + (1 - share) * b.detach()
                for a, b in zip(kept, model.parameters(), strict=True)
            ]
        outputs = torch.tensor(X[32:]).float() @ kept[0].T + kept[1]
        measured.append(float(((outputs - torch.tensor(Y[32:]).float()[:, None]) ** 2).mean()))
    found = weights(run)
    torch.testing.assert_close(found["weight"], kept[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["bias"], kept[1], rtol=1e-4, atol=1e-6)
    assert run.series("test_loss") == pytest.approx(measured, rel=1e-3)


def test_an_average_that_forgets_at_once_is_none(workbench: Workbench) -> None:
    none = workbench.train(TABLE, **PLAIN, ema_decay=None)
    zero = workbench.train(TABLE, **PLAIN, ema_decay=0.0)
    for name, tensor in weights(none).items():
        torch.testing.assert_close(weights(zero)[name], tensor, rtol=1e-6, atol=1e-7)


def test_the_average_does_not_disturb_what_it_averages(workbench: Workbench) -> None:
    none = workbench.train(TABLE, **PLAIN, ema_decay=None)
    some = workbench.train(TABLE, **PLAIN, ema_decay=0.9)
    assert none.series("train_loss") == some.series("train_loss")
    assert none.series("validation_loss") != some.series("validation_loss")


def test_what_is_measured_is_what_is_kept(workbench: Workbench) -> None:
    run = workbench.train(
        TABLE, **{**PLAIN, "model": {"kind": "mlp", "hidden": [8], "norm": "batch"}}, ema_decay=0.9
    )
    part = run.prepared().validation
    outputs = forward.outputs_of(run.predictor.module, part.x)
    loss = float(((outputs - part.y) ** 2).mean())
    assert min(run.series("validation_loss")) == pytest.approx(loss, rel=1e-5)


def test_running_statistics_are_the_newest() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = EMA(model, 0.9)
    model(torch.randn(9, 2))
    average.copy_buffers()
    for kept, newest in zip(average.module.buffers(), model.buffers(), strict=True):
        assert torch.equal(kept, newest)
    assert average.module is not model
    assert EMA(model, None).module is model


SMALL_TABULAR = {"kind": "tabular", "members": 2, "width": 4, "embedding": 2, "bins": 3}


@pytest.mark.parametrize(
    "fields",
    [
        {"ema_decay": 0.9},
        {"ema_decay": 0.0, "split": {"train": 0.8, "test": 0.2}},
        {"ema_decay": 0.99, "early_stopping": {"patience": 2}, "epochs": 30},
        {"ema_decay": 0.9, "batch_size": None},
        {"model": SMALL_TABULAR},
        {"model": SMALL_TABULAR, "target": "kind", "class_weight": "balanced"},
        {"model": SMALL_TABULAR, "target": "kind", "loss": "cross_entropy"},
        {"model": SMALL_TABULAR, "ema_decay": None, "split": {"train": 0.8, "test": 0.2}},
        {"model": SMALL_TABULAR, "precision": "bfloat16"},
    ],
)
def test_a_run_goes_on_with_its_average(workbench: Workbench, fields: dict[str, Any]) -> None:
    """Stopped again and again, it ends with the weights of a run that nobody stopped."""
    told = {name: value for name, value in FIELDS.items() if name not in fields}
    if fields.get("model"):
        told.pop("optimizer")
    same_as_undisturbed(workbench, MIDDLE, **told, **fields)
