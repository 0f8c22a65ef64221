"""Sizes by arithmetic are those of what torch makes: modules on its meta device, where nothing is
allocated, and the state of its optimizers."""

from itertools import product
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from app.ml.nn import modules
from app.ml.specs import (
    LAYERS,
    Architecture,
    Inputs,
    Layer,
    MLPSpec,
    OptimizerSpec,
    SequentialSpec,
    size_of,
)
from app.ml.specs.models import NORM_CLASSES, Activation, Norm
from app.ml.training import optimizers

INPUTS = Inputs(1_000, ((50_000, 64), (300, 39)), tuple(range(0, 1_000, 3)))
"""Numbers, marks, and the codes of two columns."""


def parameters(model: Architecture, inputs: Inputs, outputs: int) -> int:
    """Trainable numbers of the module."""
    with torch.device("meta"):
        module = modules.build(model, inputs, outputs, seed=0)
    weights = [*module.parameters()]
    assert all(weight.is_meta for weight in weights)
    return sum(weight.numel() for weight in weights)


def members(union: Any) -> list[Any]:
    return list(get_args(get_args(union)[0]))


# ---------------------------------------------------------------- modules

MODELS: dict[str, list[dict[str, Any]]] = {
    "linear": [{}, {"init": "normal"}],
    "mlp": [
        {"hidden": hidden, "norm": norm, "dropout": dropout, "residual": residual}
        for hidden in ([4_096], [2_048, 2_048, 16])
        for norm in (None, *get_args(Norm))
        for dropout, residual in product((0.0, 0.5), (False, True))
    ],
    "sequential": [
        {"layers": [{"kind": "Linear", "out_features": 3_000}, "batch_norm1d", "prelu", "Linear"]}
    ],
    "tabular": [{}, {"members": 32, "width": 1_024, "embedding": 24, "bins": 48}],
}


def test_every_kind_of_model_is_counted() -> None:
    assert [spec.model_fields["kind"].default for spec in members(Architecture)] == list(MODELS)


@pytest.mark.parametrize("outputs", [1, 300])
@pytest.mark.parametrize("inputs", [INPUTS, Inputs(7)], ids=["coded", "dense"])
@pytest.mark.parametrize("spec", members(Architecture))
def test_the_size_of_every_model_is_torchs(spec: Any, inputs: Inputs, outputs: int) -> None:
    for fields in MODELS[spec.model_fields["kind"].default]:
        model = spec.model_validate(fields)
        assert size_of(model, inputs, outputs).parameters == parameters(model, inputs, outputs)


def variants(layer: type[Layer], kind: str) -> list[dict[str, Any]]:
    """The layer with each of its switches on and off; the rest, but for widths, changes no size."""
    switches = [name for name, field in layer.model_fields.items() if field.annotation is bool]
    choices = product((False, True), repeat=len(switches))
    return [{"kind": kind, **dict(zip(switches, choice, strict=True))} for choice in choices]


@pytest.mark.parametrize("kind", LAYERS)
def test_the_size_of_every_layer_is_torchs(kind: str) -> None:
    for fields in variants(LAYERS[kind], kind):
        model = SequentialSpec.model_validate({"layers": [fields, "Linear"]})
        assert size_of(model, INPUTS, 3).parameters == parameters(model, INPUTS, 3)


@pytest.mark.parametrize("activation", get_args(Activation))
def test_hidden_layers_are_those_of_torch_by_default(activation: Activation) -> None:
    activations = {
        "relu": nn.ReLU(),
        "gelu": nn.GELU(),
        "silu": nn.SiLU(),
        "tanh": nn.Tanh(),
        "sigmoid": nn.Sigmoid(),
        "leaky_relu": nn.LeakyReLU(),
        "elu": nn.ELU(),
    }
    norms: dict[str | None, list[nn.Module]] = {
        None: [],
        "batch": [nn.BatchNorm1d(9)],
        "layer": [nn.LayerNorm(9)],
    }
    assert {*norms} == {None, *NORM_CLASSES} == {None, *get_args(Norm)}
    for norm, layers in norms.items():
        spec = MLPSpec.model_validate(
            {"hidden": [9], "activation": activation, "norm": norm, "dropout": 0.25}
        )
        module = modules.build(spec, Inputs(4), 2, seed=0)
        expected = [
            nn.Linear(4, 9),
            *layers,
            activations[activation],
            nn.Dropout(0.25),
            nn.Linear(9, 2),
        ]
        assert [str(layer) for layer in module.children()] == [str(layer) for layer in expected]


# ---------------------------------------------------------------- optimizers

WEIGHTS = 7
SLOTS = [
    {"kind": spec.model_fields["kind"].default, **fields}
    for spec in members(OptimizerSpec)
    for fields in ({}, *({name: 0.5 if name == "momentum" else True} for name in spec.slots_for))
]


@pytest.mark.parametrize("fields", SLOTS, ids=str)
def test_an_optimizer_remembers_as_much_as_its_spec_says(fields: dict[str, Any]) -> None:
    spec: Any = TypeAdapter(OptimizerSpec).validate_python(fields)
    weights = nn.Parameter(torch.linspace(-1, 1, WEIGHTS))
    built = optimizers.build(spec, [weights])
    weights.grad = torch.ones(WEIGHTS)
    built.step()
    tensors = [value for value in built.state[weights].values() if isinstance(value, torch.Tensor)]
    remembered = sum(tensor.numel() for tensor in tensors if tensor.shape == weights.shape)
    assert remembered == WEIGHTS * spec.numbers_per_weight
    assert bool(built.param_groups[0].get("fused")) == ("cpu" in spec.fused_on)
