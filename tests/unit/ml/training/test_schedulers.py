"""Schedulers and optimizers are torch's: rates and weights are those of a loop by hand."""

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from app.ml.data.batches import Rows, batches
from app.ml.specs import OptimizerSpec, SchedulerSpec
from app.ml.training import optimizers
from tests.support.workbench import Run, Workbench, spec_for, table_of

EPOCHS, STEPS, RATE = 7, 4, 0.05
_RANDOM = np.random.default_rng(2)
X = _RANDOM.normal(size=(40, 2)).round(3)
Y = (X @ [0.5, -1.0] + 0.2).round(4)
TABLE = table_of({"a": X[:, 0].tolist(), "b": X[:, 1].tolist(), "y": Y.tolist()})
FIELDS: dict[str, Any] = {
    "features": ["a", "b"],
    "split": {"train": 0.8, "validation": 0.2, "test": 0.0, "strategy": "sequential"},
    "preprocessing": {"numbers": "none", "target": "none"},
    "model": "linear",
    "batch_size": 8,
    "epochs": EPOCHS,
    "early_stopping": None,
}
Options = dict[str, Any]


def trained(workbench: Workbench, **fields: Any) -> Run:
    return workbench.train(TABLE, **{**FIELDS, **fields})


def parameter() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(1))]


def by_hand(
    optimizer: Optimizer, rates: lr_scheduler.LRScheduler, *, by_batch: bool
) -> list[float]:
    """The rate of the last step of each epoch."""
    series = []
    for _ in range(EPOCHS):
        for _ in range(STEPS):
            optimizer.step()
            last = optimizer.param_groups[0]["lr"]
            if by_batch and rates.last_epoch + 1 < EPOCHS * STEPS:
                rates.step()
        series.append(last)
        if not by_batch:
            rates.step()
    return series


# ---------------------------------------------------------------- by epoch

BY_EPOCH: list[tuple[str, Options, type[lr_scheduler.LRScheduler], Options]] = [
    ("step", {"step_size": 2}, lr_scheduler.StepLR, {"step_size": 2}),
    (
        "step",
        {"step_size": 3, "gamma": 0.5},
        lr_scheduler.StepLR,
        {"step_size": 3, "gamma": 0.5},
    ),
    ("multi_step", {"milestones": [1, 4]}, lr_scheduler.MultiStepLR, {"milestones": [1, 4]}),
    ("exponential", {"gamma": 0.8}, lr_scheduler.ExponentialLR, {"gamma": 0.8}),
    ("constant", {}, lr_scheduler.ConstantLR, {}),
    (
        "constant",
        {"factor": 0.5, "total_iters": 2},
        lr_scheduler.ConstantLR,
        {"factor": 0.5, "total_iters": 2},
    ),
    ("linear", {}, lr_scheduler.LinearLR, {}),
    (
        "linear",
        {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 4},
        lr_scheduler.LinearLR,
        {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 4},
    ),
    ("polynomial", {}, lr_scheduler.PolynomialLR, {"total_iters": EPOCHS}),
    (
        "polynomial",
        {"total_iters": 3, "power": 2.0},
        lr_scheduler.PolynomialLR,
        {"total_iters": 3, "power": 2.0},
    ),
    ("cosine", {}, lr_scheduler.CosineAnnealingLR, {"T_max": EPOCHS}),
    (
        "cosine",
        {"T_max": 3, "eta_min": 0.01},
        lr_scheduler.CosineAnnealingLR,
        {"T_max": 3, "eta_min": 0.01},
    ),
    ("cosine_warm_restarts", {"T_0": 2}, lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 2}),
    (
        "cosine_warm_restarts",
        {"T_0": 1, "T_mult": 2, "eta_min": 0.001},
        lr_scheduler.CosineAnnealingWarmRestarts,
        {"T_0": 1, "T_mult": 2, "eta_min": 0.001},
    ),
]


@pytest.mark.parametrize(("kind", "asked", "torchs", "options"), BY_EPOCH)
def test_rates_by_epoch_are_torchs(
    workbench: Workbench,
    kind: str,
    asked: Options,
    torchs: type[lr_scheduler.LRScheduler],
    options: Options,
) -> None:
    run = trained(
        workbench, optimizer={"kind": "sgd", "lr": RATE}, scheduler={"kind": kind, **asked}
    )
    optimizer = torch.optim.SGD(parameter(), lr=RATE)
    expected = by_hand(optimizer, torchs(optimizer, **options), by_batch=False)
    assert run.series("learning_rate") == expected


def test_without_a_scheduler_the_rate_stays(workbench: Workbench) -> None:
    run = trained(workbench, optimizer={"kind": "sgd", "lr": RATE})
    assert run.task.spec.scheduler is None
    assert run.series("learning_rate") == [RATE] * EPOCHS


# ---------------------------------------------------------------- one after another


def test_a_warm_up_then_a_cosine_over_the_epochs_that_are_left(workbench: Workbench) -> None:
    schedulers = [{"kind": "linear", "total_iters": 3}, "cosine"]
    run = trained(workbench, optimizer={"kind": "sgd", "lr": RATE}, scheduler=schedulers)
    optimizer = torch.optim.SGD(parameter(), lr=RATE)
    warm_up = lr_scheduler.LinearLR(optimizer, total_iters=3)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS - 3)
    rates = lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], [3])
    expected = by_hand(optimizer, rates, by_batch=False)
    assert run.series("learning_rate") == expected
    assert expected[0] == pytest.approx(RATE / 3)
    assert expected[3] == RATE
    assert expected[-1] < RATE / 2


def test_three_schedulers_each_have_their_turn(workbench: Workbench) -> None:
    schedulers = [
        {"kind": "constant", "factor": 0.5, "total_iters": 2},
        {"kind": "cosine_warm_restarts", "T_0": 2},
        {"kind": "exponential", "gamma": 0.5},
    ]
    run = trained(workbench, optimizer={"kind": "sgd", "lr": RATE}, scheduler=schedulers)
    halves = [RATE, RATE / 2, RATE / 4]
    assert run.series("learning_rate") == pytest.approx(
        [RATE / 2, RATE / 2, RATE, RATE / 2, *halves]
    )


def test_a_list_of_one_is_that_one(workbench: Workbench) -> None:
    optimizer = {"kind": "sgd", "lr": RATE}
    alone = trained(workbench, optimizer=optimizer, scheduler="cosine")
    listed = trained(workbench, optimizer=optimizer, scheduler=["cosine"])
    assert listed.series("learning_rate") == alone.series("learning_rate")


# ---------------------------------------------------------------- by batch

ONE_CYCLES: list[Options] = [
    {},
    {"max_lr": 0.3},
    {"pct_start": 0.0},
    {"pct_start": 1.0},
    {"anneal_strategy": "linear", "three_phase": True},
    {"div_factor": 2.0, "final_div_factor": 10.0, "cycle_momentum": False},
]


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("asked", ONE_CYCLES)
def test_one_cycle_is_torchs_over_all_steps(
    workbench: Workbench, kind: str, asked: Options
) -> None:
    run = trained(
        workbench,
        optimizer={"kind": kind, "lr": RATE},
        scheduler={"kind": "one_cycle", **asked},
    )
    optimizer: Optimizer = torch.optim.SGD(parameter(), lr=RATE, momentum=0.5)
    rates = lr_scheduler.OneCycleLR(
        optimizer, **{"max_lr": RATE, **asked}, total_steps=EPOCHS * STEPS
    )
    assert run.series("learning_rate") == by_hand(optimizer, rates, by_batch=True)


CYCLES: list[Options] = [
    {"step_size_up": 3},
    {"step_size_up": 2, "step_size_down": 5},
    {"step_size_up": 3, "mode": "triangular2"},
    {"step_size_up": 3, "mode": "exp_range", "gamma": 0.9},
]


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("asked", CYCLES)
def test_cyclic_is_torchs_by_batch(workbench: Workbench, kind: str, asked: Options) -> None:
    bounds: Options = {"base_lr": 0.001, "max_lr": 0.1}
    run = trained(
        workbench,
        optimizer={"kind": kind, "lr": RATE},
        scheduler={"kind": "cyclic", **bounds, **asked},
    )
    optimizer = torch.optim.SGD(parameter(), lr=RATE, momentum=0.5)
    rates = lr_scheduler.CyclicLR(optimizer, **bounds, **asked)
    assert run.series("learning_rate") == by_hand(optimizer, rates, by_batch=True)


@pytest.mark.parametrize(("gathered", "steps"), [(1, 4), (3, 2), (4, 1), (100, 1)])
def test_one_cycle_counts_steps_of_gathered_batches(
    workbench: Workbench, gathered: int, steps: int
) -> None:
    run = trained(workbench, scheduler="one_cycle", optimizer="sgd", gradient_accumulation=gathered)
    optimizer = torch.optim.SGD(parameter(), lr=1e-3)
    rates = lr_scheduler.OneCycleLR(
        optimizer, 1e-3, total_steps=EPOCHS * steps, cycle_momentum=False
    )
    expected = []
    for step in range(EPOCHS * steps):
        optimizer.step()
        expected.append(optimizer.param_groups[0]["lr"])
        if step + 1 < EPOCHS * steps:
            rates.step()
    assert run.series("learning_rate") == expected[steps - 1 :: steps]


def names(union: Any) -> list[str]:
    members = get_args(get_args(union)[0])
    return [get_args(member.model_fields["kind"].annotation)[0] for member in members]


@pytest.mark.parametrize("optimizer", names(OptimizerSpec))
@pytest.mark.parametrize("kind", ["one_cycle", "cyclic"])
def test_rates_by_batch_go_with_every_optimizer(
    workbench: Workbench, optimizer: str, kind: str
) -> None:
    scheduler = {"one_cycle": {}, "cyclic": {"base_lr": 0.001, "max_lr": 0.01}}[kind]
    run = trained(workbench, optimizer=optimizer, scheduler={"kind": kind, **scheduler}, epochs=2)
    assert len(set(run.series("learning_rate"))) == 2
    assert all(math.isfinite(value) for value in run.series("train_loss"))


@pytest.mark.parametrize(
    ("optimizer", "option", "cycled"),
    [("sgd", "momentum", 0.95), ("adam", "betas", (0.95, 0.999)), ("adagrad", "eps", 1e-10)],
)
def test_momentum_is_cycled_where_the_optimizer_knows_one(
    optimizer: str, option: str, cycled: Any
) -> None:
    spec = spec_for(TABLE, **{**FIELDS, "optimizer": optimizer, "scheduler": "one_cycle"})
    built = optimizers.build(spec.optimizer, parameter())
    optimizers.Scheduler(spec, built, STEPS)
    assert built.param_groups[0][option] == cycled


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_momentum_is_left_alone_where_that_is_asked_for(optimizer: str) -> None:
    scheduler = {"kind": "one_cycle", "cycle_momentum": False}
    spec = spec_for(TABLE, **{**FIELDS, "optimizer": optimizer, "scheduler": scheduler})
    built = optimizers.build(spec.optimizer, parameter())
    before = {k: built.param_groups[0].get(k) for k in ("momentum", "betas")}
    optimizers.Scheduler(spec, built, STEPS)
    assert {k: built.param_groups[0].get(k) for k in ("momentum", "betas")} == before


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("kind", [*names(SchedulerSpec)])
def test_the_shortest_jobs_have_a_rate_too(workbench: Workbench, kind: str, epochs: int) -> None:
    needs: dict[str, Options] = {
        "step": {"step_size": 1},
        "multi_step": {"milestones": [1]},
        "exponential": {"gamma": 0.5},
        "cosine_warm_restarts": {"T_0": 1},
        "cyclic": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 1},
    }
    scheduler = {"kind": kind, **needs.get(kind, {})}
    run = trained(workbench, scheduler=scheduler, batch_size=None, epochs=epochs, model="linear")
    assert all(rate > 0 for rate in run.series("learning_rate"))


# ---------------------------------------------------------------- by what is seen


@pytest.mark.parametrize("with_validation", [True, False])
def test_a_plateau_is_seen_by_the_validation_loss(
    workbench: Workbench, with_validation: bool
) -> None:
    """And by the training loss where no part is held out for that, not by the test part's."""
    options = {"patience": 0, "factor": 0.5, "threshold": 0.9}
    told = {"train": 0.8, "strategy": "sequential"}
    share = (
        {"validation": 0.2, "test": 0.0} if with_validation else {"validation": 0.0, "test": 0.2}
    )
    run = trained(
        workbench,
        split={**told, **share},
        optimizer={"kind": "sgd", "lr": RATE},
        scheduler={"kind": "reduce_on_plateau", **options},
        epochs=20,
    )
    optimizer = torch.optim.SGD(parameter(), lr=RATE)
    rates = lr_scheduler.ReduceLROnPlateau(optimizer, **options)  # type: ignore[arg-type]
    expected = []
    for loss in run.series("validation_loss" if with_validation else "train_loss"):
        expected.append(optimizer.param_groups[0]["lr"])
        rates.step(loss)
    assert run.series("learning_rate") == expected
    assert len(set(expected)) > 2, "it has come to a plateau"


def test_a_plateau_counts_with_its_own_options(workbench: Workbench) -> None:
    options = {"patience": 1, "threshold": 1e9, "threshold_mode": "abs", "min_lr": 0.02}
    scheduler = {"kind": "reduce_on_plateau", "factor": 0.5, "cooldown": 2, **options}
    run = trained(workbench, optimizer={"kind": "sgd", "lr": RATE}, scheduler=scheduler, epochs=12)
    # never 1e9 better than the first epoch: two bad epochs, a cut, two of rest, and again
    assert run.series("learning_rate") == [0.05] * 3 + [0.025] * 4 + [0.02] * 5


# ---------------------------------------------------------------- optimizers

OPTIMIZERS: list[tuple[str, Options, type[Optimizer], Options]] = [
    ("sgd", {}, torch.optim.SGD, {"lr": 1e-3}),
    (
        "sgd",
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    ("adam", {}, torch.optim.Adam, {}),
    (
        "adam",
        {"betas": [0.5, 0.9], "amsgrad": True},
        torch.optim.Adam,
        {"betas": (0.5, 0.9), "amsgrad": True},
    ),
    ("adamw", {}, torch.optim.AdamW, {}),
    ("nadam", {}, torch.optim.NAdam, {}),
    ("radam", {}, torch.optim.RAdam, {}),
    ("adamax", {}, torch.optim.Adamax, {}),
    ("adagrad", {}, torch.optim.Adagrad, {}),
    ("adadelta", {}, torch.optim.Adadelta, {}),
    ("adafactor", {}, torch.optim.Adafactor, {}),
    (
        "rmsprop",
        {"momentum": 0.5, "centered": True},
        torch.optim.RMSprop,
        {"momentum": 0.5, "centered": True},
    ),
    ("rprop", {}, torch.optim.Rprop, {}),
    ("asgd", {}, torch.optim.ASGD, {}),
]


def test_every_optimizer_is_tried() -> None:
    assert list(dict.fromkeys(kind for kind, *_ in OPTIMIZERS)) == names(OptimizerSpec)


@pytest.mark.parametrize(("kind", "asked", "torchs", "options"), OPTIMIZERS)
def test_weights_are_those_of_a_loop_by_hand(
    workbench: Workbench, kind: str, asked: Options, torchs: type[Optimizer], options: Options
) -> None:
    """With torch's own defaults where nothing is asked for."""
    split = {"train": 0.8, "validation": 0.0, "test": 0.2, "strategy": "sequential"}
    run = trained(workbench, optimizer={"kind": kind, **asked}, split=split)
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torchs(model.parameters(), **options)
    rows = Rows(torch.tensor(X[:32]).float(), torch.tensor(Y[:32]).float()[:, None])
    for epoch in range(EPOCHS):
        for x, y, _ in batches(rows, run.task.spec, epoch):
            loss = ((model(x) - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = load_file(run.folder / "weights.safetensors")
    torch.testing.assert_close(found["weight"], model.weight.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["bias"], model.bias.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gathered", [2, 3, 100])
def test_gathered_gradients_are_those_of_a_loop_by_hand(
    workbench: Workbench, gathered: int
) -> None:
    """The last step of an epoch has the batches that are left, and means over them."""
    split = {"train": 0.8, "validation": 0.0, "test": 0.2, "strategy": "sequential"}
    run = trained(workbench, optimizer="adam", split=split, gradient_accumulation=gathered)
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    rows = Rows(torch.tensor(X[:32]).float(), torch.tensor(Y[:32]).float()[:, None])
    for epoch in range(EPOCHS):
        parts = list(batches(rows, run.task.spec, epoch))
        seen = []
        for start in range(0, len(parts), gathered):
            step = parts[start : start + gathered]
            optimizer.zero_grad()
            for x, y, _ in step:
                loss = ((model(x) - y) ** 2).mean()
                (loss / len(step)).backward()
                seen.append(loss.item())
            optimizer.step()
        assert run.series("train_loss")[epoch] == pytest.approx(sum(seen) / len(seen), rel=1e-5)
    found = load_file(run.folder / "weights.safetensors")
    torch.testing.assert_close(found["weight"], model.weight.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["bias"], model.bias.detach(), rtol=1e-4, atol=1e-6)


def test_equal_batches_gathered_into_one_step_learn_what_all_rows_in_one_step_do(
    workbench: Workbench,
) -> None:
    split = {"train": 0.8, "validation": 0.0, "test": 0.2, "strategy": "sequential"}
    gathered = trained(workbench, split=split, gradient_accumulation=4)
    whole = trained(workbench, split=split, batch_size=None)
    assert gathered.series("train_loss") == pytest.approx(whole.series("train_loss"), rel=1e-5)
