"""Which weights a run keeps, and how it ends."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from app.errors import ArtifactCorrupt, Diverged, TimeLimit
from app.ml.inference import forward, model_files
from app.ml.nn import losses
from app.ml.tables import parquet
from app.ml.training.best_weights import BestWeights
from app.ml.training.events import CheckpointSaved, EpochEnded, Event, StopReason, TrainStopped
from app.ml.training.loop import train
from tests.support.tables import MINI_BATCHES, noise, wave
from tests.support.workbench import Run, Workbench, stop_after, table_of

# ---------------------------------------------------------------- which weights are kept


def loss_on_disk(run: Run, part: str) -> float:
    """The loss of the published model over one part, in the units of training."""
    prepared = getattr(run.prepared(), part)
    outputs = forward.outputs_of(run.predictor.module, prepared.x)
    loss = losses.Objective(run.task.spec.loss)
    return float(loss(torch.from_numpy(outputs), torch.from_numpy(prepared.y)))


OVERFITS: dict[str, Any] = {
    "model": {"kind": "mlp", "hidden": [32, 32]},
    "optimizer": {"kind": "adam", "lr": 0.01},
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
}


def test_early_stopping_stops_and_keeps_the_best_weights(workbench: Workbench) -> None:
    run = workbench.train(noise(), **OVERFITS, epochs=300, early_stopping={"patience": 4})
    watched = run.series("validation_loss")
    best = int(np.argmin(watched))
    assert len(watched) == best + 1 + 4 < 300
    assert run.best.epoch == best
    assert run.best.values == run.epochs[best].values
    assert loss_on_disk(run, "validation") == pytest.approx(min(watched), rel=1e-6)
    assert model_files.load(run.folder)[0].epoch == best


def test_the_best_weights_are_kept_without_early_stopping_too(workbench: Workbench) -> None:
    run = workbench.train(noise(), **OVERFITS, epochs=40, early_stopping=None)
    watched = run.series("validation_loss")
    assert len(watched) == 40
    assert watched[-1] > min(watched)
    assert loss_on_disk(run, "validation") == pytest.approx(min(watched), rel=1e-6)


def test_without_a_validation_part_the_last_weights_are_kept(workbench: Workbench) -> None:
    fields = {**OVERFITS, "split": {"train": 0.6, "validation": 0.0, "test": 0.4}}
    run = workbench.train(noise(), **fields, epochs=40)
    losses_seen = run.series("test_loss")
    assert losses_seen[-1] > min(losses_seen)
    assert loss_on_disk(run, "test") == pytest.approx(losses_seen[-1], rel=1e-6)
    assert run.best.epoch == 39


def test_where_there_is_a_validation_part_the_test_part_is_not_watched(
    workbench: Workbench,
) -> None:
    run = workbench.train(wave(), epochs=2)
    assert set(run.epochs[0].values) == {
        "train_loss",
        "validation_loss",
        "validation_rmse",
        "learning_rate",
    }


def test_without_held_out_parts_only_training_is_measured(workbench: Workbench) -> None:
    run = workbench.train(wave(), epochs=2, split={"train": 1.0, "validation": 0.0, "test": 0.0})
    assert set(run.epochs[0].values) == {"train_loss", "learning_rate"}
    assert run.ended.test is None
    assert run.ended.baseline is None


def patience_lasts(values: list[float], patience: int, min_delta: float) -> int:
    """After how many epochs a run with these validation losses stops."""
    best = BestWeights("validation_loss", patience, min_delta)
    for epoch, value in enumerate(values):
        best.update(epoch, {"validation_loss": value}, nn.Linear(1, 1))
        if best.exhausted:
            return epoch + 1
    return len(values)


@pytest.mark.parametrize(
    ("values", "min_delta", "epochs"),
    [
        ([3.0, 2.0, 1.0, 0.5, 0.4, 0.3], 0.0, 6),
        ([3.0, 2.0, 2.0, 2.0, 1.0, 1.0], 0.0, 4),
        ([3.0, 2.0, 2.5, 1.9, 2.5, 2.5], 0.0, 6),
        ([3.0, 2.95, 2.94, 2.0, 1.0, 0.0], 0.1, 3),
    ],
)
def test_patience_counts_epochs_without_a_fall(
    values: list[float], min_delta: float, epochs: int
) -> None:
    assert patience_lasts(values, 2, min_delta) == epochs


def test_many_small_falls_are_a_fall() -> None:
    """0.06 an epoch is 0.12 in two: within the patience the loss has fallen by min_delta."""
    assert patience_lasts([3.0, 2.94, 2.88, 2.82, 2.76, 2.70], 2, 0.1) == 6


# ---------------------------------------------------------------- how a run ends


@pytest.mark.parametrize("reason", ["cancel", "shutdown"])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_should_stop_ends_the_run_before_the_next_step(
    workbench: Workbench, reason: StopReason, steps: int
) -> None:
    task = workbench.task(wave(), **MINI_BATCHES)  # 48 rows: three steps an epoch
    events = list(train(task, stop_after(steps, reason)))
    assert events[-1] == TrainStopped(reason=reason)
    assert sum(isinstance(event, EpochEnded) for event in events) == steps // 3
    assert workbench.artifacts("models") == []


def events_until_it_raises(
    workbench: Workbench, expected: type[Exception], table: pa.Table, **fields: Any
) -> tuple[list[Event], str]:
    """What a run told before it failed, and its message."""
    events: list[Event] = []
    task = workbench.task(table, **fields)
    with pytest.raises(expected) as caught:
        events.extend(train(task))  # keeps what came before the exception
    return events, str(caught.value)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(
    ("split", "epochs"),
    [
        ({"train": 0.8, "validation": 0.0, "test": 0.2}, 5),
        ({"train": 0.8, "validation": 0.2, "test": 0.0}, 1),
        ({"train": 1.0, "validation": 0.0, "test": 0.0}, 5),
        ({"train": 1.0, "validation": 0.0, "test": 0.0}, 1),
    ],
)
def test_a_run_that_diverges_fails_and_publishes_no_model(
    workbench: Workbench, optimizer: str, split: dict[str, float], epochs: int
) -> None:
    _, message = events_until_it_raises(
        workbench,
        Diverged,
        wave(),
        optimizer={"kind": optimizer, "lr": 1e308},
        split=split,
        epochs=epochs,
    )
    assert "learning rate" in message
    assert workbench.artifacts("models") == []


def test_divergence_names_the_epoch_and_tells_its_losses_first(workbench: Workbench) -> None:
    events, message = events_until_it_raises(
        workbench, Diverged, wave(), optimizer={"kind": "sgd", "lr": 1e30}, epochs=9
    )
    last = events[-1]
    assert isinstance(last, EpochEnded)
    assert f"epoch {last.epoch}" in message
    assert not all(math.isfinite(value) for value in last.values.values())


def test_clipping_gradients_tames_a_run_that_would_diverge(workbench: Workbench) -> None:
    fields: dict[str, Any] = {
        "model": "linear",
        "optimizer": {"kind": "sgd", "lr": 0.05},
        "preprocessing": {"numbers": "none", "target": "none"},
        "epochs": 200,
        "batch_size": None,
    }
    table = table_of({"x": [100.0 * i for i in range(40)], "y": list(range(40))})
    with pytest.raises(Diverged):
        workbench.train(table, **fields)
    run = workbench.train(table, **fields, gradient_clip_norm=0.01)
    assert all(math.isfinite(loss) for loss in run.series("train_loss"))


def test_the_time_limit_leaves_a_checkpoint_and_no_model(workbench: Workbench) -> None:
    events, message = events_until_it_raises(
        workbench, TimeLimit, wave(), epochs=1000, max_seconds=1e-6
    )
    saved = [event for event in events if isinstance(event, CheckpointSaved)]
    assert "1e-06 s" in message
    assert len(saved) == 1
    assert workbench.artifacts("checkpoints") == [saved[0].checkpoint_id]
    card, _ = model_files.load(workbench.storage.verified("checkpoints", saved[0].checkpoint_id))
    assert card.epoch == saved[0].epoch
    assert workbench.artifacts("models") == []


def test_what_the_time_limit_ends_may_be_content_with_the_best_weights(
    workbench: Workbench,
) -> None:
    early = workbench.train(wave(), epochs=1000, max_seconds=1e-6, at_limit="best")
    assert early.ended.best is None, "no epoch had ended"
    assert early.ended.test is not None
    steady: Any = {"early_stopping": None, "model": "linear", "optimizer": "sgd"}
    run = workbench.train(wave(), epochs=100_000, max_seconds=0.5, at_limit="best", **steady)
    epochs = run.series("validation_loss")
    assert 0 < len(epochs) < 100_000
    assert run.ended.best is not None
    assert run.ended.best.values["validation_loss"] == min(epochs)
    for ended in (early.ended, run.ended):
        assert any("max_seconds ended" in warning for warning in ended.warnings)
    whole = workbench.train(wave(), epochs=run.ended.best.epoch + 1, **steady)
    assert whole.weights_sha256 == run.weights_sha256, "the weights are those of that epoch"


def test_checkpoints_are_published_and_tell_what_they_are(workbench: Workbench) -> None:
    run = workbench.train(wave(), epochs=4, batch_size=None, checkpoint={"every_seconds": 1e-9})
    saved = [event for event in run.events if isinstance(event, CheckpointSaved)]
    assert [event.epoch for event in saved[:-1]] == [0, 0, 1, 2]
    for event in saved:
        folder = workbench.storage.verified("checkpoints", event.checkpoint_id)
        assert model_files.load(folder)[0].epoch == event.epoch
        assert (folder / "weights.safetensors").stat().st_size == event.size_bytes
    assert saved[-1].sha256 == run.weights_sha256


def test_a_damaged_dataset_is_noticed(workbench: Workbench) -> None:
    task = workbench.task(wave())
    path: Path = workbench.storage.path("datasets", task.dataset_id) / parquet.FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactCorrupt):
        list(train(task))
