"""``tabular``: its size, its bends, its ensemble, and small tables."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from app.ml.inference import forward
from app.ml.nn import losses, modules
from app.ml.nn.tabular import PiecewiseLinear, Tabular, _clipped
from app.ml.specs import (
    BCEWithLogitsSpec,
    CrossEntropySpec,
    Inputs,
    MSESpec,
    PretrainedSpec,
    TabularSpec,
    size_of,
)
from tests.support.soak import soak_only
from tests.support.workbench import Run, Workbench, table_of

SMALL = TabularSpec(members=3, width=5, embedding=2, bins=4)


def tabular(
    inputs: Inputs, outputs: int = 1, loss: str = "mse", seed: int = 0, spec: TabularSpec = SMALL
) -> Tabular:
    module = modules.build(spec, inputs, outputs, seed, loss)
    assert isinstance(module, Tabular)
    return module


# ---------------------------------------------------------------- size and shape


@st.composite
def any_inputs(draw: st.DrawFn) -> Inputs:
    dense = draw(st.integers(0, 6))
    embeddings = draw(st.lists(st.tuples(st.integers(2, 5), st.integers(1, 4)), max_size=3))
    if not dense and not embeddings:
        dense = 1
    numbers = [place for place in range(dense) if draw(st.booleans())]
    return Inputs(dense, tuple(embeddings), tuple(numbers))


SPECS = st.builds(
    TabularSpec,
    members=st.integers(1, 5),
    width=st.integers(1, 9),
    embedding=st.integers(1, 5),
    bins=st.none() | st.integers(1, 9),
)


@given(SPECS, any_inputs(), st.integers(1, 4))
def test_sizes_are_known_without_building(spec: TabularSpec, inputs: Inputs, outputs: int) -> None:
    module = modules.build(spec, inputs, outputs, seed=0)
    count = sum(parameter.numel() for parameter in module.parameters())
    assert size_of(spec, inputs, outputs).parameters == count


@given(SPECS, any_inputs(), st.integers(1, 4), st.integers(1, 6))
def test_members_answer_apart_in_training_and_as_one_otherwise(
    spec: TabularSpec, inputs: Inputs, outputs: int, rows: int
) -> None:
    module = modules.build(spec, inputs, outputs, seed=0)
    x = torch.zeros(rows, inputs.width)
    assert module.train()(x).shape == (rows, spec.members, outputs)
    assert module.eval()(x).shape == (rows, outputs)


def test_the_same_seed_gives_the_same_weights() -> None:
    inputs = Inputs(3, (), (0, 2))
    first, again, other = (tabular(inputs, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["first.weight"], other["first.weight"])


def test_members_differ_from_the_start() -> None:
    answers = tabular(Inputs(2, (), (0,)), outputs=2).train()(torch.randn(4, 2))
    assert not torch.allclose(answers[:, 0], answers[:, 1])


def test_members_answer_apart_where_their_own_parts_are_frozen() -> None:
    """What stays in evaluation is a norm's statistics; here there are none."""
    module = tabular(Inputs(2, (), (0,)))
    own = ["scale", "shift", "hidden", "bias", "head", "offset"]
    modules.freeze(module, PretrainedSpec(model="base", freeze=own))
    modules.training_mode(module)
    assert module(torch.randn(4, 2)).shape == (4, 3, 1)


def test_at_the_start_a_number_is_a_straight_line() -> None:
    """Nothing bends before the first step, wherever the bends are."""
    x = torch.linspace(-3, 3, 50)[:, None]
    before, after = tabular(Inputs(1, (), (0,))), tabular(Inputs(1, (), (0,)))
    modules.fit(after, x)
    assert torch.equal(before.eval()(x), after.eval()(x))
    assert not torch.equal(before.embed.slope, after.embed.slope)


# ---------------------------------------------------------------- what members say together


def answers(loss: str, outputs: int) -> tuple[Tensor, Tensor]:
    """``(rows, members, outputs)`` one by one, and ``(rows, outputs)`` together."""
    module = tabular(Inputs(3, (), (0, 1)), outputs, loss, spec=SMALL)
    with torch.no_grad():
        module.head.mul_(9)  # opinions that differ
        x = torch.randn(7, 3)
        return module.train()(x).double(), module.eval()(x).double()


def test_values_are_averaged_as_values() -> None:
    apart, together = answers("mse", 2)
    torch.testing.assert_close(together, apart.mean(1), atol=1e-5, rtol=1e-5)


def test_classes_are_averaged_as_probabilities() -> None:
    apart, together = answers("cross_entropy", 4)
    torch.testing.assert_close(together.softmax(1), apart.softmax(2).mean(1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together.exp().sum(1), torch.ones(7).double())


@pytest.mark.parametrize("outputs", [1, 3])
def test_single_logits_are_averaged_as_probabilities(outputs: int) -> None:
    apart, together = answers("bce_with_logits", outputs)
    torch.testing.assert_close(together.sigmoid(), apart.sigmoid().mean(1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("loss", ["bce_with_logits", "cross_entropy", "mse"])
def test_opinions_beyond_all_doubt_stay_finite(loss: str) -> None:
    module = tabular(Inputs(2, (), (0,)), 2, loss)
    sure = torch.tensor([[[200.0, -200.0]] * 3, [[-1e4, 1e4]] * 3])
    assert bool(torch.isfinite(module._averaged(sure)).all())


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (MSESpec(), torch.randn(6, 2)),
        (BCEWithLogitsSpec(), torch.randint(0, 2, (6, 2)).float()),
        (CrossEntropySpec(), torch.randint(0, 2, (6,))),
    ],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_every_member_is_held_against_the_target(loss: Any, y: Tensor, smoothing: float) -> None:
    objective = losses.Objective(loss, smoothing)
    apart = torch.randn(6, 4, 2)
    each = torch.stack([objective(apart[:, member], y) for member in range(4)])
    torch.testing.assert_close(objective(apart, y), each.mean())
    weight = torch.rand(6) * 2
    each = torch.stack([objective(apart[:, member], y, weight) for member in range(4)])
    torch.testing.assert_close(objective(apart, y, weight), each.mean())


# ---------------------------------------------------------------- bends


def fitted(values: list[float], bins: int = 4) -> tuple[PiecewiseLinear, Tensor]:
    layer = PiecewiseLinear([0], bins, 2)
    column = torch.tensor(values, dtype=torch.float32)[:, None]
    layer.fit(column)
    return layer, column


def bends(layer: PiecewiseLinear, x: Tensor) -> Tensor:
    """``(rows, bins)`` as the layer computes them."""
    return ((x[:, :, None] - layer.low[:, 0]) * layer.slope[:, 0]).clamp(0, 1)[:, 0]


def test_a_constant_column_does_not_bend() -> None:
    layer, column = fitted([2.5] * 9)
    assert not bool(layer.slope.any())
    assert not bool(bends(layer, column).any())


def test_two_values_have_one_interval_between_them() -> None:
    layer, _ = fitted([1.0, 3.0, 3.0, 1.0, 1.0])
    assert layer.low[0, 0, 0] == 1.0
    assert layer.slope[0, 0].tolist() == [0.5, 0, 0, 0]
    assert bends(layer, torch.tensor([[0.0], [1.0], [2.0], [3.0], [9.0]]))[:, 0].tolist() == [
        0.0,
        0.0,
        0.5,
        1.0,
        1.0,
    ]


def test_few_values_are_the_edges() -> None:
    layer, _ = fitted([1.0, 2.0, 4.0, 8.0] * 5)
    assert layer.low[0, 0, :3].tolist() == [1, 2, 4]
    assert layer.slope[0, 0].tolist() == [1, 0.5, 0.25, 0]


def test_many_values_share_the_rows_out_evenly() -> None:
    values = np.random.default_rng(0).exponential(size=1000)
    layer, _ = fitted(values.tolist())
    expected = np.quantile(values.astype(np.float32), [0, 0.25, 0.5, 0.75, 1])
    assert layer.low[0, 0].tolist() == pytest.approx(expected[:-1].tolist(), rel=1e-5)
    assert layer.slope[0, 0].tolist() == pytest.approx((1 / np.diff(expected)).tolist(), rel=1e-4)


def test_a_value_that_most_rows_have_is_one_edge() -> None:
    layer, column = fitted([0.0] * 90 + [float(i) for i in range(1, 11)])
    assert bool(torch.isfinite(layer.slope).all())
    assert layer.low[0, 0].tolist() == [0.0] * 4
    assert int((layer.slope > 0).sum()) == 1
    assert float(bends(layer, column).max()) == 1


@soak_only
def test_more_rows_than_torchs_quantile_takes() -> None:
    """16,777,216 is the most that it takes."""
    rows = 17_000_000
    layer = PiecewiseLinear([0], 2, 1)
    layer.fit((torch.arange(rows) % 1001).float()[:, None])
    assert layer.low[0, 0].tolist() == [0.0, 500.0]
    assert layer.slope[0, 0].tolist() == pytest.approx([1 / 500, 1 / 500])


COLUMN = st.lists(
    st.floats(-1e4, 1e4, width=32, allow_subnormal=False).map(lambda v: v if abs(v) > 1e-30 else 0)
    | st.integers(-3, 3).map(float),
    min_size=1,
    max_size=60,
)


@given(COLUMN, st.integers(1, 9))
def test_bends_rise_from_0_to_1_and_are_numbers(values: list[float], bins: int) -> None:
    layer, column = fitted(values, bins)
    found = bends(layer, column.sort(0).values)
    assert bool(torch.isfinite(layer.slope).all())
    assert bool(torch.isfinite(layer(column)).all())
    assert bool(((found >= 0) & (found <= 1)).all())
    assert bool((found.diff(dim=0) >= 0).all()), "monotone"
    used = layer.slope[0, 0] > 0
    assert int(used.sum()) <= len(torch.unique(column)) - 1
    if bool(used.any()):
        assert not bool(found[0].any()), "the lowest value is left of all intervals"
        assert found[-1, used].tolist() == pytest.approx([1.0] * int(used.sum()), abs=1e-3)


@pytest.mark.parametrize("tiny", [1e-38, 1e-39, 1e-40, 1e-45])
def test_values_that_hardly_differ_give_no_infinite_slope(tiny: float) -> None:
    """1 / 1e-39 is more than float32 holds, and infinity times 0 is no number."""
    layer, column = fitted([0.0, tiny, 1.0] * 3)
    assert bool(torch.isfinite(layer.slope).all())
    assert bool(torch.isfinite(layer(column)).all())


def test_a_column_of_tiny_numbers_can_be_learnt_from(workbench: Workbench) -> None:
    """p-values, as they come."""
    table = table_of({"p": [0.0, 1e-40, 1.0, 0.03] * 30, "y": [float(i % 4) for i in range(120)]})
    run = workbench.train(table, features=["p"], preprocessing={"numbers": "none"}, epochs=2)
    assert all(math.isfinite(value) for value in run.series("train_loss"))


# ---------------------------------------------------------------- the clip


def clipped(values: list[float]) -> list[float]:
    found: list[float] = _clipped(torch.tensor(values)).tolist()
    return found


def test_numbers_are_clipped_smoothly_at_three() -> None:
    found = clipped([0.0, 0.5, -0.5, 3.0, 1000.0, -1000.0])
    expected = [0, 0.5 / math.sqrt(1 + 0.25 / 9), -0.5 / math.sqrt(1 + 0.25 / 9), 3 / math.sqrt(2)]
    assert found == pytest.approx([*expected, 3, -3], rel=1e-4)


@pytest.mark.parametrize("far", [1e6, 1e15, 1e19, 1e20, 1e30, 3e38])
def test_the_clip_holds_however_far_out_a_number_is(far: float) -> None:
    assert clipped([far, -far]) == pytest.approx([3, -3], rel=1e-4)


@given(st.lists(st.floats(-(2.0**49), 2.0**49, width=32), min_size=2, max_size=20))
def test_the_clip_never_turns_back(values: list[float]) -> None:
    found = clipped(sorted(values))
    assert all(b >= a - 1e-6 for a, b in pairwise(found))
    assert all(abs(value) <= 3.000001 for value in found)


# ---------------------------------------------------------------- label smoothing


def test_smoothing_is_the_models_and_reaches_through_a_pretrained_one() -> None:
    spec = TabularSpec(label_smoothing=0.2)
    assert modules.smoothing(spec) == 0.2
    assert modules.smoothing(PretrainedSpec(model="m", architecture=spec)) == 0.2


def test_smoothed_classes_are_torchs() -> None:
    logits, y = torch.randn(8, 3), torch.randint(0, 3, (8,))
    expected = nn.functional.cross_entropy(logits, y, label_smoothing=0.1)
    assert torch.equal(losses.Objective(CrossEntropySpec(), 0.1)(logits, y), expected)
    own = losses.Objective(CrossEntropySpec(label_smoothing=0.3), 0.1)
    assert torch.equal(own(logits, y), nn.functional.cross_entropy(logits, y, label_smoothing=0.3))


def test_smoothed_single_logits_are_drawn_towards_a_half() -> None:
    logits, y = torch.randn(8, 1), torch.randint(0, 2, (8, 1)).float()
    expected = nn.functional.binary_cross_entropy_with_logits(logits, 0.8 * y + 0.1)
    assert torch.equal(losses.Objective(BCEWithLogitsSpec(), 0.2)(logits, y), expected)


def test_numbers_are_never_smoothed() -> None:
    a, b = torch.randn(5, 1), torch.randn(5, 1)
    assert torch.equal(losses.Objective(MSESpec(), 0.5)(a, b), nn.functional.mse_loss(a, b))


def test_the_validation_loss_is_not_smoothed(workbench: Workbench) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=100)
    table = table_of({"x": x.tolist(), "y": [["no", "yes"][int(v > 0)] for v in x]})
    run = workbench.train(
        table, model={"kind": "tabular", "label_smoothing": 0.4}, loss="cross_entropy", epochs=3
    )
    part = run.prepared().validation
    outputs = torch.from_numpy(forward.outputs_of(run.predictor.module, part.x))
    plain = float(nn.functional.cross_entropy(outputs, torch.from_numpy(part.y)))
    assert run.best.values["validation_loss"] == pytest.approx(plain, rel=1e-5)


# ---------------------------------------------------------------- small and odd tables


def trained(workbench: Workbench, table: pa.Table, **fields: Any) -> Run:
    run = workbench.train(table, model="tabular", **{"epochs": 3, **fields})
    assert all(math.isfinite(v) for epoch in run.epochs for v in epoch.values.values())
    return run


@pytest.mark.parametrize("rows", [3, 20])
@pytest.mark.parametrize("target", ["y", "kind"])
def test_small_tables_train(workbench: Workbench, rows: int, target: str) -> None:
    table = table_of(
        {
            "x": [i / 3 for i in range(rows)],
            "y": [i * i / 2 for i in range(rows)],
            "kind": ["ab"[i % 2] for i in range(rows)],
        }
    )
    parts = {"train": 1.0, "validation": 0.0, "test": 0.0}
    split = parts if rows == 3 else {"train": 0.6, "validation": 0.2, "test": 0.2}
    run = trained(workbench, table, features=["x"], target=target, split=split)
    outputs = run.predictor.outputs(table)
    assert outputs.shape == (rows, 1)
    assert bool(np.isfinite(outputs).all())


@pytest.mark.parametrize("categories", ["one_hot", "embedding"])
def test_a_table_without_a_number_trains(workbench: Workbench, categories: str) -> None:
    table = table_of(
        {
            "c": ["abc"[i % 3] for i in range(60)],
            "b": [i % 2 == 0 for i in range(60)],
            "y": [float(i % 3) + i % 2 for i in range(60)],
        }
    )
    fields: dict[str, Any] = {"preprocessing": {"categories": categories}, "epochs": 60}
    run = trained(workbench, table, **fields, optimizer={"kind": "adamw", "lr": 0.02})
    assert run.ended.test is not None
    assert run.ended.baseline is not None
    error, guess = run.ended.test["rmse"], run.ended.baseline["rmse"]
    assert error is not None
    assert guess is not None
    assert error < 0.5 * guess


def test_what_was_looked_at_travels_with_the_weights(workbench: Workbench) -> None:
    table = table_of({"x": [i / 7 for i in range(200)], "y": [math.sin(i / 9) for i in range(200)]})
    run = trained(workbench, table)
    layer = run.predictor.module.embed
    assert bool((layer.slope > 0).any())
    ordered = np.sort(run.prepared().train.x[:, 0])
    soft = ordered / np.sqrt(1 + (ordered / 3) ** 2)
    assert float(layer.low[0, 0, 0]) == pytest.approx(float(soft[0]), rel=1e-5)


def test_the_summary_counts_every_parameter() -> None:
    module = tabular(Inputs(3, (), (0, 1)), 2)
    layers = modules.summary(module, 3)
    count = sum(parameter.numel() for parameter in module.parameters())
    assert sum(layer["parameters"] for layer in layers) == count
