"""Stopped anywhere and started again: weights and history are those of a run nobody stopped."""

from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.ml.specs import OptimizerSpec, SchedulerSpec
from app.ml.training.events import StopReason
from tests.support.resume import FIELDS, MIDDLE, Interrupted, same_as_undisturbed
from tests.support.workbench import Workbench


def kinds(union: Any) -> list[str]:
    """The names in a tagged union of specs."""
    members = get_args(get_args(union)[0])
    return [get_args(member.model_fields["kind"].annotation)[0] for member in members]


SCHEDULERS: dict[str, dict[str, Any]] = {
    "step": {"step_size": 2},
    "multi_step": {"milestones": [1, 3]},
    "exponential": {"gamma": 0.7},
    "constant": {"total_iters": 2},
    "linear": {"total_iters": 3},
    "polynomial": {},
    "cosine": {},
    "cosine_warm_restarts": {"T_0": 2},
    "one_cycle": {},
    "cyclic": {"base_lr": 0.001, "max_lr": 0.1, "step_size_up": 3},
    "reduce_on_plateau": {"patience": 0, "factor": 0.5, "threshold": 0.5},
}
STEPS = 6 * 4
"""Of every run here: six epochs of four batches, or of one."""


@pytest.mark.parametrize("optimizer", kinds(OptimizerSpec))
@pytest.mark.parametrize("batch_size", [16, None])
def test_every_optimizer(workbench: Workbench, optimizer: str, batch_size: int | None) -> None:
    same_as_undisturbed(
        workbench, MIDDLE, **{**FIELDS, "optimizer": optimizer, "batch_size": batch_size}
    )


@pytest.mark.parametrize(
    "optimizer",
    [
        {"kind": "sgd", "momentum": 0.9, "nesterov": True},
        {"kind": "adam", "amsgrad": True},
        {"kind": "rmsprop", "momentum": 0.5, "centered": True},
    ],
)
def test_what_optimizers_remember_on_request(
    workbench: Workbench, optimizer: dict[str, Any]
) -> None:
    same_as_undisturbed(workbench, MIDDLE, **{**FIELDS, "optimizer": optimizer})


def test_every_scheduler_is_tried() -> None:
    assert list(SCHEDULERS) == kinds(SchedulerSpec)


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_every_scheduler(workbench: Workbench, kind: str, optimizer: str) -> None:
    scheduler = {"kind": kind, **SCHEDULERS[kind]}
    fields = {**FIELDS, "optimizer": {"kind": optimizer, "lr": 0.05}, "scheduler": scheduler}
    same_as_undisturbed(workbench, MIDDLE, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"early_stopping": {"patience": 2}, "epochs": 40},
        {"split": {"train": 0.8, "test": 0.2}},
        {"gradient_clip_norm": 0.1},
        {"scheduler": [{"kind": "linear", "total_iters": 2}, "cosine"], "optimizer": "sgd"},
        {"gradient_accumulation": 3, "scheduler": "one_cycle", "ema_decay": 0.9},
        {"loss": "poisson_nll", "target": "weight"},
        {"loss": {"kind": "quantile", "q": 0.9}},
        {"loss": {"kind": "huber", "delta": 0.3}, "sample_weight": "weight"},
        {"target": "kind", "class_weight": "balanced"},
        {"target": "kind", "loss": "cross_entropy", "features": ["b", "c"]},
        {"preprocessing": {"categories": "embedding"}},
        {"precision": "bfloat16"},
        {"ema_decay": 0.9},
        {"model": "tabular"},
        {"model": "tabular", "target": "kind", "features": ["b", "c"], "batch_size": 32},
        {
            "model": {
                "kind": "sequential",
                "layers": [
                    {"kind": "Linear", "out_features": 8},
                    "BatchNorm1d",
                    "PReLU",
                    {"kind": "AlphaDropout", "p": 0.2},
                    "Linear",
                ],
            }
        },
    ],
)
def test_everything_else_that_a_run_remembers(workbench: Workbench, fields: dict[str, Any]) -> None:
    same_as_undisturbed(workbench, MIDDLE, **{**FIELDS, **fields})


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stops=st.lists(
        st.tuples(st.integers(0, STEPS + 2), st.sampled_from(["cancel", "pause", "shutdown"])),
        max_size=6,
    ),
    often=st.booleans(),
)
def test_any_number_of_stops_anywhere(
    workbench: Workbench, stops: list[tuple[int, StopReason]], often: bool
) -> None:
    """With a checkpoint before every step, or only those that stops leave."""
    every = {"every_seconds": 1e-9 if often else 30.0}
    same_as_undisturbed(workbench, stops, **FIELDS, checkpoint=every)


def test_after_the_last_checkpoint_only_the_end_is_left(workbench: Workbench) -> None:
    """Killed between the final checkpoint and the end, nothing is trained again."""
    run = Interrupted(workbench, **FIELDS)
    run.attempt(10**9, "cancel")
    ended, run.ended, run.history = run.ended, None, {}
    weights = run.weights
    run.attempt(0, "cancel")
    assert run.history == {}
    assert run.ended == ended
    assert run.weights == weights


def test_a_damaged_checkpoint_is_passed_over(workbench: Workbench) -> None:
    whole = Interrupted(workbench, **FIELDS)
    whole.attempt(10**9, "cancel")
    run = Interrupted(workbench, **FIELDS)
    run.attempt(6, "shutdown")
    run.attempt(6, "shutdown")
    newest = run._task.checkpoints[0]
    path = workbench.storage.path("checkpoints", newest) / "training.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    run.attempt(10**9, "cancel")
    assert run.weights == whole.weights
    assert run.history == whole.history
