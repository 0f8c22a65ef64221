"""How a job is trained where its request leaves that open."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ml.plan import training
from app.ml.specs import AdamWSpec, CosineSpec, EarlyStoppingSpec, SGDSpec, TabularSpec
from tests.support.workbench import request, spec_for, table_of

ROWS = 100
TABLE = table_of(
    {
        "x": [i / 7 for i in range(ROWS)],
        "z": [(i * 31) % 17 for i in range(ROWS)],
        "y": [i / 3 for i in range(ROWS)],
        "kind": [["a", "b", "c"][i % 3] for i in range(ROWS)],
        "flag": [i % 2 == 0 for i in range(ROWS)],
        "flags": [i % 5 == 0 for i in range(ROWS)],
    }
)
ALL_TRAIN = {"train": 1.0, "validation": 0.0, "test": 0.0}


def numbers(rows: int) -> pa.Table:
    return table_of({"x": list(range(rows)), "y": [i / 2 for i in range(rows)]})


@pytest.mark.parametrize("model", [None, "tabular", {"kind": "tabular", "width": 32}])
def test_tabular_brings_optimizer_scheduler_and_average(model: Any) -> None:
    fields = {} if model is None else {"model": model}
    spec = spec_for(TABLE, **fields)
    assert isinstance(spec.model, TabularSpec)
    assert spec.optimizer == AdamWSpec(lr=2e-3, weight_decay=0.3)
    assert spec.scheduler == CosineSpec()
    assert spec.ema_decay == 0.99


@pytest.mark.parametrize(
    ("model", "lr"),
    [("linear", 0.03), ("mlp", 3e-3), ({"kind": "sequential", "layers": ["Linear"]}, 3e-3)],
)
def test_other_models_bring_a_learning_rate(model: Any, lr: float) -> None:
    spec = spec_for(TABLE, model=model)
    assert spec.optimizer == AdamWSpec(lr=lr)
    assert spec_for(TABLE, model=model, optimizer="adamw").optimizer == AdamWSpec()
    assert spec.scheduler is None
    assert spec.ema_decay is None
    assert spec.epochs == 100


@pytest.mark.parametrize(
    ("field", "asked", "found"),
    [
        ("optimizer", "adamw", AdamWSpec()),
        ("optimizer", {"kind": "sgd", "lr": 0.5}, SGDSpec(lr=0.5)),
        ("scheduler", None, None),
        ("scheduler", {"kind": "cosine", "eta_min": 0.1}, CosineSpec(eta_min=0.1)),
        ("ema_decay", None, None),
        ("ema_decay", 0.0, 0.0),
        ("ema_decay", 0.5, 0.5),
        ("epochs", 3, 3),
        ("epochs", 1000, 1000),
        ("batch_size", 7, 7),
        ("batch_size", None, None),
        ("early_stopping", None, None),
        ("early_stopping", {"patience": 2}, EarlyStoppingSpec(patience=2)),
    ],
)
def test_every_field_that_is_given_wins_alone(field: str, asked: Any, found: Any) -> None:
    spec = spec_for(TABLE, **{field: asked})
    assert getattr(spec, field) == found
    plain = spec_for(TABLE)
    others = {"optimizer", "scheduler", "ema_decay", "early_stopping"} - {field}
    assert all(getattr(spec, name) == getattr(plain, name) for name in others)


@pytest.mark.parametrize(
    ("rows", "bins"), [(3, 2), (96, 2), (144, 3), (480, 10), (2304, 48), (9000, 48)]
)
def test_bins_follow_the_training_rows(rows: int, bins: int) -> None:
    spec = spec_for(numbers(rows), split=ALL_TRAIN, features=["x"])
    assert isinstance(spec.model, TabularSpec)
    assert spec.model.bins == bins
    asked = {"kind": "tabular", "bins": 5}
    told = spec_for(numbers(rows), split=ALL_TRAIN, features=["x"], model=asked).model
    assert isinstance(told, TabularSpec)
    assert told.bins == 5


@pytest.mark.parametrize(
    ("rows", "batch_size", "epochs"),
    [
        (80, "auto", 100),
        (800, "auto", 100),
        (10_000, "auto", 32),
        (100_000, "auto", 26),
        (400_000, "auto", 15),
        (10_000, None, 100),
        (10_000, 10, 15),
        (10_000, 100, 25),
    ],
)
def test_large_tables_take_fewer_epochs(rows: int, batch_size: Any, epochs: int) -> None:
    """About 2,500 steps, in at least 15 epochs and at most 100."""
    asked = request(features=["x"], batch_size=batch_size)
    spec = spec_for(TABLE, features=["x"])
    found = training.complete(asked, spec.model_copy(update={"epochs": 100}), rows)
    assert found.epochs == epochs


@given(st.integers(1, 10**8))
def test_batches_are_a_power_of_two_or_all_rows(rows: int) -> None:
    spec = spec_for(TABLE, features=["x"], model="linear")
    size = training.complete(request(model="linear"), spec, rows).batch_size
    assert size is not None
    assert size == rows or (size in (8, 16, 32, 64, 128, 256, 512, 1024) and size <= rows)
    tabular = training.complete(request(), spec_for(TABLE, features=["x"]), rows).batch_size
    assert tabular is not None
    assert tabular == min(rows, max(32, size)), "small batches are for the others"


@pytest.mark.parametrize("target", ["y", "kind", "flag", ["flag", "flags"], ["y", "x"]])
def test_a_told_spec_is_planned_to_itself(target: Any) -> None:
    spec = spec_for(TABLE, target=target)
    again = spec_for(TABLE, **spec.model_dump(mode="json", exclude={"dataset"}))
    assert again == spec.model_copy(update={"dataset": again.dataset})
