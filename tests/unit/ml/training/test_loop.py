"""The loop: the straight line, determinism, batches."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from app.ml.data.batches import Rows, batches, bounds
from tests.support.tables import LINE, MINI_BATCHES, wave
from tests.support.workbench import LINE_REQUEST, Run, Workbench, spec_for

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
    assert line.best.epoch == 99
    assert line.best.values == line.epochs[-1].values


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
