"""Modules, losses and optimizers are torch's own, made from specs."""

from typing import get_args

import pytest
import torch
from torch import nn

from app.ml.inference import forward
from app.ml.nn import losses, modules
from app.ml.specs import (
    LOSSES_FOR_TASK,
    AdamSpec,
    AdamWSpec,
    BCEWithLogitsSpec,
    CrossEntropySpec,
    HuberSpec,
    Inputs,
    L1Spec,
    LinearSpec,
    LossSpec,
    MLPSpec,
    MSESpec,
    MultiMarginSpec,
    OptimizerSpec,
    SGDSpec,
    SmoothL1Spec,
)
from app.ml.specs.models import Activation
from app.ml.training import optimizers

THREE = Inputs(3)


def test_normal_init_draws_weights_then_bias_right_after_seeding() -> None:
    torch.manual_seed(42)
    weight, bias = torch.randn(2, 3), torch.randn(2)
    layer = modules.build(LinearSpec(init="normal"), THREE, 2, seed=42)
    assert isinstance(layer, nn.Linear)
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.bias, bias)


def test_default_init_is_torchs() -> None:
    torch.manual_seed(42)
    expected = nn.Linear(3, 2)
    layer = modules.build(LinearSpec(), THREE, 2, seed=42)
    assert torch.equal(next(layer.parameters()), expected.weight)


def test_the_same_seed_gives_the_same_module() -> None:
    spec = MLPSpec(hidden=[4, 4], norm="layer")
    first, again, other = (modules.build(spec, THREE, 1, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_every_mlp_maps_rows_to_outputs(activation: str, norm: str | None) -> None:
    spec = MLPSpec.model_validate(
        {"hidden": [5, 5], "activation": activation, "norm": norm, "dropout": 0.1}
    )
    module = modules.build(spec, THREE, 2, seed=0)
    assert module(torch.randn(7, 3)).shape == (7, 2)
    assert activation.replace("_", "") in {type(x).__name__.lower() for x in module.modules()}


def test_a_residual_layer_adds_its_input_only_where_widths_agree() -> None:
    module = modules.build(MLPSpec(hidden=[4, 4], residual=True), THREE, 2, seed=0)
    wider, activation, same, head = module.children()
    assert isinstance(same, modules.Residual)
    x = torch.randn(2, 3)
    h = activation(wider(x))
    assert torch.equal(module(x), head(h + nn.Sequential(*same.children())(h)))


def test_the_summary_names_every_layer_with_its_shape_and_count() -> None:
    module = modules.build(MLPSpec(hidden=[4], norm="batch", dropout=0.5), THREE, 2, seed=0)
    layers = modules.summary(module, 3)
    assert [layer["type"] for layer in layers] == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Dropout",
        "Linear",
    ]
    assert [layer["output_shape"] for layer in layers] == [[None, 4]] * 4 + [[None, 2]]
    assert [layer["parameters"] for layer in layers] == [16, 8, 0, 0, 10]
    assert len({layer["name"] for layer in layers}) == 5


def test_the_summary_of_a_single_layer_has_a_name() -> None:
    [layer] = modules.summary(modules.build(LinearSpec(), THREE, 1, seed=0), 3)
    assert layer == {"name": "linear", "type": "Linear", "output_shape": [None, 1], "parameters": 4}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (L1Spec(), nn.L1Loss()),
        (MSESpec(), nn.MSELoss()),
        (HuberSpec(delta=0.3), nn.HuberLoss(delta=0.3)),
        (SmoothL1Spec(beta=0.3), nn.SmoothL1Loss(beta=0.3)),
        (BCEWithLogitsSpec(), nn.BCEWithLogitsLoss()),
    ],
)
def test_losses_are_torchs(spec: LossSpec, expected: nn.Module) -> None:
    outputs, targets = torch.randn(9, 2), torch.rand(9, 2)
    assert torch.equal(losses.Objective(spec)(outputs, targets), expected(outputs, targets))


def test_multi_margin_is_torchs() -> None:
    outputs, classes = torch.randn(9, 3), torch.arange(9) % 3
    built = losses.Objective(MultiMarginSpec(p=2, margin=0.5))
    expected = nn.MultiMarginLoss(p=2, margin=0.5)
    assert torch.equal(built(outputs, classes), expected(outputs, classes))


def test_losses_suit_tasks_and_the_first_is_the_default() -> None:
    assert LOSSES_FOR_TASK == {
        "regression": ("mse", "l1", "smooth_l1", "huber", "quantile", "poisson_nll"),
        "binary": ("bce_with_logits", "cross_entropy", "multi_margin"),
        "multiclass": ("cross_entropy", "multi_margin"),
        "multilabel": ("bce_with_logits",),
    }


def test_cross_entropy_takes_label_smoothing() -> None:
    outputs, classes = torch.randn(9, 3), torch.arange(9) % 3
    built = losses.Objective(CrossEntropySpec(label_smoothing=0.2))
    expected = nn.CrossEntropyLoss(label_smoothing=0.2)
    assert torch.equal(built(outputs, classes), expected(outputs, classes))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            SGDSpec(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
            lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True, weight_decay=0.01),
        ),
        (
            AdamSpec(lr=0.1, betas=[0.8, 0.9], amsgrad=True),
            lambda p: torch.optim.Adam(p, 0.1, (0.8, 0.9), amsgrad=True),
        ),
        (AdamWSpec(lr=0.1, eps=1e-3), lambda p: torch.optim.AdamW(p, 0.1, eps=1e-3)),
    ],
)
def test_optimizers_take_the_steps_of_torchs(
    spec: OptimizerSpec, expected: type[torch.optim.Optimizer]
) -> None:
    ours, theirs = (modules.build(MLPSpec(hidden=[4]), THREE, 1, seed=0) for _ in range(2))
    steps = [
        (ours, optimizers.build(spec, [*ours.parameters()])),
        (theirs, expected(theirs.parameters())),  # type: ignore[call-arg]
    ]
    x = torch.randn(8, 3)
    for _ in range(5):
        for module, optimizer in steps:
            optimizer.zero_grad()
            module(x).square().mean().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_long_inputs_are_computed_in_slices_with_the_same_outputs() -> None:
    module = modules.build(MLPSpec(hidden=[4], norm="batch"), Inputs(2), 1, seed=0)
    x = torch.randn(150_000, 2).numpy()
    outputs = forward.outputs_of(module, x)
    assert outputs.shape == (150_000, 1)
    assert outputs[-5:] == pytest.approx(forward.outputs_of(module, x[-5:]), abs=1e-6)


# ---------------------------------------------------------------- embeddings

CODED = Inputs(2, ((5, 3), (4, 1)))
"""Two numbers, and the codes of two columns."""


def rows_of(*codes: tuple[int, int]) -> torch.Tensor:
    torch.manual_seed(5)
    return torch.cat([torch.randn(len(codes), 2), torch.tensor(codes).float()], dim=1)


@pytest.mark.parametrize("spec", [LinearSpec(), LinearSpec(init="normal"), MLPSpec(hidden=[4])])
def test_codes_are_looked_up_beside_the_numbers(spec: LinearSpec | MLPSpec) -> None:
    module = modules.build(spec, CODED, 2, seed=0)
    assert isinstance(module, modules.Embedded)
    x = rows_of((0, 0), (4, 3), (2, 1))
    first, second = (embedding.weight for embedding in module.embeddings)
    assert (first.shape, second.shape) == ((5, 3), (4, 1))
    looked_up = torch.cat([x[:, :2], first[[0, 4, 2]], second[[0, 3, 1]]], dim=1)  # type: ignore[index]
    assert CODED.looked_up == looked_up.shape[1] == 6
    assert torch.equal(module(x), module.body(looked_up))
    assert module(x).shape == (3, 2)


def test_an_unseen_category_starts_without_an_opinion() -> None:
    module = modules.build(LinearSpec(), CODED, 1, seed=3)
    assert isinstance(module, modules.Embedded)
    for embedding in module.embeddings:
        weight = embedding.weight
        assert isinstance(weight, torch.Tensor)
        assert not weight[0].any()
        assert weight[1:].abs().min() > 0
    module(rows_of((0, 0), (0, 1))).sum().backward()
    assert module.embeddings[0].weight.grad is not None  # it may learn one


def test_the_same_seed_gives_the_same_embeddings() -> None:
    first, again, other = (
        modules.build(MLPSpec(hidden=[4]), CODED, 1, seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embeddings.0.weight"], other["embeddings.0.weight"])


def test_only_codes_are_enough() -> None:
    module = modules.build(MLPSpec(hidden=[4]), Inputs(0, ((7, 2),)), 1, seed=0)
    assert module(torch.tensor([[6.0], [0.0]])).shape == (2, 1)


def test_the_summary_shows_embeddings_too() -> None:
    layers = modules.summary(modules.build(LinearSpec(), CODED, 1, seed=0), CODED.width)
    assert [layer["type"] for layer in layers] == ["Embedding", "Embedding", "Linear"]
    assert [layer["parameters"] for layer in layers] == [15, 4, 7]
