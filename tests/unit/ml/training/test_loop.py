"""The training loop: reference numbers, determinism, what is kept, and how a run ends."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from app.errors import ArtifactCorrupt, Diverged, TimeLimit
from app.ml.data.batches import Rows, batches, bounds
from app.ml.inference import forward, model_files
from app.ml.nn import losses
from app.ml.tables import parquet
from app.ml.training.best_weights import BestWeights
from app.ml.training.events import CheckpointSaved, EpochEnded, Event, StopReason, TrainStopped
from app.ml.training.loop import train
from tests.support.workbench import LINE_REQUEST, Run, Workbench, spec_for, stop_after, table_of

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

# ---------------------------------------------------------------- the straight line


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Workbench(tmp_path_factory.mktemp("line")).train(LINE, **LINE_REQUEST)


@pytest.mark.parametrize(
    ("epoch", "train_loss", "test_loss"),
    [
        (0, 0.3128814, 0.4810652),
        (10, 0.1976713, 0.3463552),
        (50, 0.0416786, 0.0991995),
        (90, 0.0278874, 0.0647356),
    ],
)
def test_the_straight_lines_losses(
    line: Run, epoch: int, train_loss: float, test_loss: float
) -> None:
    assert line.series("train_loss")[epoch] == pytest.approx(train_loss, abs=1e-6)
    assert line.series("test_loss")[epoch] == pytest.approx(test_loss, abs=1e-6)


def test_the_straight_lines_weights(line: Run) -> None:
    weights = load_file(line.folder / "weights.safetensors")
    assert weights["weight"].item() == pytest.approx(0.5784404, abs=1e-6)
    assert weights["bias"].item() == pytest.approx(0.3513099, abs=1e-6)


def test_the_straight_lines_events(line: Run) -> None:
    assert [event.epoch for event in line.epochs] == list(range(100))
    assert line.series("learning_rate") == [0.01] * 100
    assert line.ended.parameters == 2
    assert line.ended.best.epoch == 99
    assert line.ended.best.values == line.epochs[-1].values


def test_the_straight_lines_metrics_are_measured_with_the_last_weights(line: Run) -> None:
    """By hand: after the last step, over x from 0.8, against the mean of the training part."""
    weights = load_file(line.folder / "weights.safetensors")
    x = np.arange(0, 1, 0.02)
    y = 0.7 * x + 0.3
    errors = weights["weight"].item() * x[40:] + weights["bias"].item() - y[40:]
    scores, guesses = line.ended.test, line.ended.baseline
    assert scores is not None
    assert guesses is not None
    assert scores["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-4)
    assert scores["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-4)
    assert guesses["mae"] == pytest.approx(np.abs(y[:40].mean() - y[40:]).mean())


# ---------------------------------------------------------------- determinism


def test_the_same_spec_gives_the_same_weights_and_another_seed_does_not(
    workbench: Workbench,
) -> None:
    first = workbench.train(wave(), **MINI_BATCHES, seed=5)
    torch.rand(17)  # what the process drew meanwhile must not matter
    again = workbench.train(wave(), **MINI_BATCHES, seed=5)
    other = workbench.train(wave(), **MINI_BATCHES, seed=6)
    assert first.weights_sha256 == again.weights_sha256
    assert [e.values for e in first.epochs] == [e.values for e in again.epochs]
    assert first.weights_sha256 != other.weights_sha256


def test_a_hand_written_loop_has_the_same_losses(workbench: Workbench) -> None:
    """Nothing but torch and numpy, apart from the order of the batches."""
    table = wave()
    run = workbench.train(
        table,
        features=["a", "b"],
        split={"train": 0.75, "validation": 0.0, "test": 0.25, "strategy": "sequential"},
        model={"kind": "mlp", "hidden": [8], "activation": "tanh"},
        optimizer={"kind": "adam", "lr": 0.02},
        batch_size=10,
        epochs=6,
        seed=11,
    )
    matrix = np.column_stack([table[name].to_numpy() for name in ("a", "b", "y")])
    scaled = (matrix - matrix[:45].mean(axis=0)) / matrix[:45].std(axis=0)
    tensor = torch.tensor(scaled, dtype=torch.float32)
    x, y, x_test, y_test = tensor[:45, :2], tensor[:45, 2:], tensor[45:, :2], tensor[45:, 2:]

    torch.manual_seed(11)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    train_losses, test_losses = [], []
    for epoch in range(6):
        total = 0.0
        for x_batch, y_batch, _ in batches(Rows(x, y), run.task.spec, epoch):
            loss = ((model(x_batch) - y_batch) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x_batch)
        train_losses.append(total / 45)
        with torch.no_grad():
            test_losses.append(((model(x_test) - y_test) ** 2).mean().item())

    assert run.series("train_loss") == pytest.approx(train_losses, rel=1e-4)
    assert run.series("test_loss") == pytest.approx(test_losses, rel=1e-4)


# ---------------------------------------------------------------- batches


@given(st.integers(1, 300), st.none() | st.integers(1, 320))
def test_batches_cover_every_row_once_and_none_is_a_lone_leftover(
    rows: int, size: int | None
) -> None:
    found = bounds(rows, size)
    assert found[0][0] == 0
    assert found[-1][1] == rows
    assert all(end == start for (_, end), (start, _) in pairwise(found))
    lengths = [end - start for start, end in found]
    assert all(length == (size or rows) for length in lengths[:-1])
    assert lengths[-1] <= (size or rows) + 1
    if size != 1 and rows > 1:
        assert min(lengths) > 1


def test_batches_of_one_row_are_of_one_row() -> None:
    """No row is left over there, so none has to join the batch before it."""
    assert bounds(3, 1) == [(0, 1), (1, 2), (2, 3)]


def test_the_training_part_is_shuffled_anew_each_epoch() -> None:
    spec = spec_for(wave(), batch_size=16, seed=4)
    rows = torch.arange(48.0)[:, None]

    def order(epoch: int) -> list[float]:
        seen = [batch.x for batch in batches(Rows(rows, rows), spec, epoch)]
        return [float(value) for value in torch.cat(seen).flatten()]

    assert sorted(order(0)) == rows.flatten().tolist()
    assert order(0) == order(0)
    assert order(0) != order(1)


def test_x_and_y_are_shuffled_together() -> None:
    spec = spec_for(wave(), batch_size=7)
    rows = torch.arange(48.0)[:, None]
    for x, y, _ in batches(Rows(rows, -rows), spec, 3):
        assert torch.equal(x, -y)


def test_one_step_takes_all_rows_in_their_order() -> None:
    spec = spec_for(wave(), batch_size=None)
    rows = torch.arange(48.0)[:, None]
    [(x, y, _)] = batches(Rows(rows, rows), spec, 0)
    assert torch.equal(x, rows)
    assert torch.equal(y, rows)


@pytest.mark.parametrize("rows", [9, 10, 11])
def test_batch_norm_learns_whatever_is_left_over(workbench: Workbench, rows: int) -> None:
    run = workbench.train(
        wave(rows),
        split={"train": 1.0, "validation": 0.0, "test": 0.0},
        model={"kind": "mlp", "hidden": [4], "norm": "batch"},
        batch_size=4,
        epochs=2,
    )
    assert all(math.isfinite(loss) for loss in run.series("train_loss"))


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
    assert run.ended.best.epoch == best
    assert run.ended.best.values == run.epochs[best].values
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
    assert run.ended.best.epoch == 39


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


# ---------------------------------------------------------------- every task learns


def easy(rows: int = 240) -> pa.Table:
    """Targets of every kind that follow from two features."""
    random = np.random.default_rng(1)
    a, b = random.uniform(-1, 1, rows), random.uniform(-1, 1, rows)
    return table_of(
        {
            "a": a.tolist(),
            "b": b.tolist(),
            "sum": (a + b).tolist(),
            "difference": (100 * (a - b)).tolist(),
            "high": (a > 0).tolist(),
            "wide": (b > 0.3).tolist(),
            "side": np.where(a + b > 0, "right", "left").tolist(),
            "third": np.digitize(a, [-0.33, 0.33]).tolist(),
        }
    )


EASY: dict[str, Any] = {
    "features": ["a", "b"],
    "optimizer": {"kind": "adam", "lr": 0.01},
    "epochs": 40,
    "model": {"kind": "mlp", "hidden": [32]},
}


@pytest.mark.parametrize(
    "fields",
    [
        {"target": "side"},
        {"target": "side", "loss": "cross_entropy"},
        {"target": "high"},
        {"target": "third", "task": "multiclass"},
        {"target": ["high", "wide"]},
    ],
)
def test_classes_are_learnt_and_beat_the_baseline(
    workbench: Workbench, fields: dict[str, Any]
) -> None:
    run = workbench.train(easy(), **EASY, **fields)
    scores, guesses = run.ended.test, run.ended.baseline
    assert scores is not None
    assert guesses is not None
    assert scores.keys() == {"accuracy", "f1_macro", "auc", "log_loss"}
    assert scores["accuracy"] is not None
    assert scores["accuracy"] > 0.85
    assert guesses["accuracy"] is not None
    assert scores["accuracy"] > guesses["accuracy"]
    assert (scores["log_loss"] or 9) < (guesses["log_loss"] or 0)


@pytest.mark.parametrize("target", ["sum", ["sum"], ["sum", "difference"]])
@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_numbers_are_learnt_and_beat_the_baseline(
    workbench: Workbench, target: Any, loss: str
) -> None:
    run = workbench.train(easy(), **EASY, target=target, loss=loss)
    scores, guesses = run.ended.test, run.ended.baseline
    assert scores is not None
    assert guesses is not None
    assert scores.keys() == {"mae", "rmse", "r2"}
    assert (scores["r2"] or 0) > 0.95
    assert (scores["rmse"] or 9e9) < (guesses["rmse"] or 0)
    assert run.ended.warnings == []


def test_a_model_that_learnt_nothing_is_warned_of(workbench: Workbench) -> None:
    """Weights that hardly move answer nearly zero, far from the mean."""
    still = {"kind": "sgd", "lr": 1e-12}
    plain = {"numbers": "none", "target": "none"}
    table = table_of({"x": [i % 7 for i in range(60)], "y": [100.0 + i % 5 for i in range(60)]})
    run = workbench.train(
        table, optimizer=still, model={"kind": "linear"}, preprocessing=plain, epochs=1
    )
    (said,) = run.ended.warnings
    assert said.startswith("on the test part the model is no better than guessing: mae ")
    assert said.endswith("of always answering the mean of the training part")
