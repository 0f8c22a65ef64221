"""Training on a GPU: every kind of model, resumed, in mixed precision, and what does not fit.

Skipped where there is none; nothing here needs more than the library and its packages.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.executors.training import _failure
from app.ml.inference import model_files
from app.ml.nn import devices
from tests.support.resume import FIELDS, MIDDLE, Interrupted, clouds
from tests.support.workbench import Workbench

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

MODELS: dict[str, Any] = {
    "linear": {"kind": "linear"},
    "mlp": {"kind": "mlp", "hidden": [16, 16], "norm": "batch", "residual": True},
    "sequential": {"kind": "sequential", "layers": [{"kind": "Linear", "out_features": 8}, "GELU"]},
    "tabular": {"kind": "tabular", "members": 4, "width": 16},
}
TASKS: dict[str, dict[str, Any]] = {
    "regression": {"target": "y"},
    "binary": {"target": "kind"},
    "multiclass": {"target": "c", "features": ["a", "b"]},
}


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("task", TASKS)
def test_every_model_learns_what_it_learns_on_the_cpu(
    workbench: Workbench, kind: str, task: str
) -> None:
    model = MODELS[kind]
    if kind == "sequential":
        model = {**model, "layers": [*model["layers"], "Linear"]}
    fields = {"features": ["a", "b", "c"], "model": model, "epochs": 8, "batch_size": 16}
    fields |= TASKS[task]
    table = clouds(400)
    on = {name: workbench.train(table, **fields, device=name) for name in ("cuda", "cpu")}
    losses = {name: run.series("train_loss") for name, run in on.items()}
    assert losses["cuda"][-1] < losses["cuda"][0]
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=0.02, atol=1e-3)
    assert np.isfinite(on["cuda"].predictor.outputs(table)).all()


def test_auto_is_the_gpu(workbench: Workbench) -> None:
    assert devices.pick("auto").type == "cuda"
    card, module = model_files.load(workbench.train(clouds(), target="y", epochs=1).folder)
    assert card.spec.device == "auto"
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "nadam", "adagrad", "rmsprop"])
@pytest.mark.parametrize("kind", ["mlp", "tabular"])
def test_a_stopped_run_goes_on_where_it_was(
    workbench: Workbench, kind: str, optimizer: str
) -> None:
    """Epochs, places and random state are the same; sums may come in another order on a GPU."""
    model = FIELDS["model"] if kind == "mlp" else MODELS["tabular"]
    fields = {**FIELDS, "model": model, "optimizer": optimizer, "target": "y", "device": "cuda"}
    fields |= {"scheduler": "cosine", "ema_decay": 0.9, "gradient_clip_norm": 1.0}
    whole, stopped = Interrupted(workbench, **fields), Interrupted(workbench, **fields)
    whole.attempt(10**9, "cancel")
    for after, reason in [*MIDDLE, (10**9, "cancel")]:
        if stopped.ended is None:
            stopped.attempt(after, reason)
    assert stopped.history.keys() == whole.history.keys()
    for epoch, values in whole.history.items():
        for name, value in values.items():
            assert stopped.history[epoch][name] == pytest.approx(value, rel=1e-3, abs=1e-5)
    print("bit for bit" if stopped.weights == whole.weights else "equal within rounding")


def test_mixed_precision_learns(workbench: Workbench) -> None:
    fields = {**FIELDS, "target": "kind", "device": "cuda", "epochs": 20}
    runs = [
        workbench.train(clouds(400), **fields, precision=name) for name in ("bfloat16", "float32")
    ]
    mixed, full = (run.ended.test for run in runs)
    assert mixed is not None
    assert full is not None
    assert mixed["accuracy"] == pytest.approx(full["accuracy"], abs=0.15)


def test_what_does_not_fit_is_said(workbench: Workbench) -> None:
    with pytest.raises(torch.OutOfMemoryError) as error:
        torch.empty(1 << 45, device="cuda")
    failed = _failure(error.value)
    assert failed.code == "out_of_memory"
    assert workbench.train(clouds(), target="y", epochs=1, device="cuda").ended.test is not None
