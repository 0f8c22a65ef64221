"""Layers by torch's names: they build, their sizes are known beforehand, and their widths agree."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from app.ml.inference import forward
from app.ml.nn import modules
from app.ml.specs import LAYERS, Inputs, JobRequest, LayerMismatch, SequentialSpec, size_of
from tests.support.workbench import planned, request, spec_for, table_of

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "Linear": [{}, {"out_features": 7}, {"in_features": 5, "out_features": 3}, {"bias": False}],
    "BatchNorm1d": [{}, {"num_features": 5}, {"affine": False}, {"eps": 0.1, "momentum": 0.5}],
    "LayerNorm": [{}, {"normalized_shape": 5}, {"elementwise_affine": False}, {"bias": False}],
    "RMSNorm": [{}, {"normalized_shape": 5}, {"elementwise_affine": False}, {"eps": 0.5}],
    "Dropout": [{}, {"p": 0.9}],
    "AlphaDropout": [{}, {"p": 0.1}],
    "GELU": [{}, {"approximate": "tanh"}],
    "LeakyReLU": [{}, {"negative_slope": 0.3}],
    "ELU": [{}, {"alpha": 0.3}],
    "CELU": [{}, {"alpha": 0.3}],
    "Softplus": [{}, {"beta": 2.0, "threshold": 3.0}],
    "PReLU": [{}, {"init": 0.7}],
}
EVERY = [(kind, fields) for kind in LAYERS for fields in VARIANTS.get(kind, [{}])]


def sequential(*layers: Any) -> SequentialSpec:
    return SequentialSpec.model_validate({"layers": list(layers)})


def built(spec: SequentialSpec, inputs: Inputs, outputs: int) -> nn.Module:
    return modules.build(spec, inputs, outputs, seed=0)


def numbers_in(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# ---------------------------------------------------------------- every layer


def test_every_layer_is_one_of_torch() -> None:
    assert all(issubclass(getattr(nn, kind), nn.Module) for kind in LAYERS)
    assert VARIANTS.keys() <= LAYERS.keys()


@pytest.mark.parametrize(("kind", "fields"), EVERY)
def test_every_layer_builds_as_large_as_was_said(kind: str, fields: dict[str, Any]) -> None:
    spec = sequential({"kind": kind, **fields}, {"kind": "Linear", "out_features": 2})
    module = built(spec, Inputs(5), 2)
    assert isinstance(module, nn.Sequential)
    assert type(module[0]) is getattr(nn, kind)
    assert size_of(spec, Inputs(5), 2).parameters == numbers_in(module)
    assert module(torch.randn(4, 5)).shape == (4, 2)


@pytest.mark.parametrize(("kind", "fields"), EVERY)
def test_what_a_layer_is_told_reaches_torch(kind: str, fields: dict[str, Any]) -> None:
    module = built(sequential({"kind": kind, **fields}, "Linear"), Inputs(5), 2)
    layer = next(iter(module.children()))
    for name, value in fields.items():
        if (kind, name) == ("PReLU", "init"):
            assert layer.weight.tolist() == pytest.approx([value])  # type: ignore[operator]
        elif name == "normalized_shape":
            assert layer.normalized_shape == (value,)
        elif name == "bias":
            assert (layer.bias is not None) == value
        else:
            assert getattr(layer, name) == value


@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer_computes_what_torchs_own_does(kind: str) -> None:
    """With torch's defaults on both sides, in evaluation."""
    torch.manual_seed(0)
    wide = {"Linear": (5, 5), "BatchNorm1d": (5,), "LayerNorm": (5,), "RMSNorm": (5,)}
    expected = getattr(nn, kind)(*wide.get(kind, ())).eval()
    torch.manual_seed(0)
    [found] = modules._layers(sequential(kind).layers, 5)
    x = torch.randn(6, 5)
    assert torch.equal(found.eval()(x), expected(x))


@pytest.mark.parametrize(("kind", "fields"), EVERY)
@pytest.mark.parametrize("rows", [1, 6])
def test_a_chain_of_layers_computes_what_the_module_does(
    kind: str, fields: dict[str, Any], rows: int
) -> None:
    module = built(sequential({"kind": kind, **fields}, "ReLU", "Linear"), Inputs(5), 2).eval()
    x = torch.randn(rows, 5)
    with torch.inference_mode():
        assert torch.equal(forward.chained(module)(x), module(x))
        assert torch.equal(forward.chained(module[1])(x), module[1](x))  # type: ignore[index]


@pytest.mark.parametrize(
    ("spelt", "kind"),
    [
        ("relu", "ReLU"),
        ("RELU", "ReLU"),
        ("leaky_relu", "LeakyReLU"),
        ("LeakyReLU", "LeakyReLU"),
        ("batch_norm1d", "BatchNorm1d"),
        ("batchnorm1d", "BatchNorm1d"),
        ("layer_norm", "LayerNorm"),
        ("rms_norm", "RMSNorm"),
        ("alpha_dropout", "AlphaDropout"),
        ("log_sigmoid", "LogSigmoid"),
        ("silu", "SiLU"),
        ("linear", "Linear"),
    ],
)
def test_names_may_be_spelt_in_snake_case(spelt: str, kind: str) -> None:
    short, long = sequential(spelt), sequential({"kind": spelt})
    assert short == long
    assert [layer.kind for layer in short.layers] == [kind]


@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer_is_understood_in_lower_case(kind: str) -> None:
    assert sequential(kind.lower()) == sequential(kind)


# ---------------------------------------------------------------- widths


def test_widths_are_inferred_from_layer_to_layer() -> None:
    spec = sequential(
        {"kind": "Linear", "out_features": 7},
        "BatchNorm1d",
        "ReLU",
        {"kind": "Linear", "out_features": 4},
        "LayerNorm",
        "Linear",
    )
    module = built(spec, Inputs(3), 2)
    shapes = [tuple(parameter.shape) for parameter in module.parameters()]
    assert shapes == [(7, 3), (7,), (7,), (7,), (4, 7), (4,), (4,), (4,), (2, 4), (2,)]


def test_a_linear_layer_in_the_middle_keeps_its_width() -> None:
    module = built(sequential("Linear", "Linear"), Inputs(3), 2)
    shapes = [tuple(p.shape) for p in module.parameters() if p.dim() == 2]
    assert shapes == [(3, 3), (2, 3)]


@pytest.mark.parametrize("width", [1, 3])
def test_the_last_linear_layer_takes_the_width_of_the_target(width: int) -> None:
    spec = sequential("Linear")
    assert built(spec, Inputs(4), width)(torch.randn(2, 4)).shape == (2, width)
    assert size_of(spec, Inputs(4), width).parameters == 5 * width
    assert spec == sequential("Linear"), "the spec itself stays open"


@pytest.mark.parametrize(
    ("layer", "field"),
    [
        ({"kind": "Linear", "in_features": 9, "out_features": 2}, "in_features"),
        ({"kind": "BatchNorm1d", "num_features": 9}, "num_features"),
        ({"kind": "LayerNorm", "normalized_shape": 9}, "normalized_shape"),
        ({"kind": "RMSNorm", "normalized_shape": 9}, "normalized_shape"),
    ],
)
def test_a_width_that_does_not_agree_is_told_with_its_place_and_remedy(
    layer: dict[str, Any], field: str
) -> None:
    spec = sequential({"kind": "Linear", "out_features": 6}, "ReLU", layer, "Linear")
    with pytest.raises(LayerMismatch) as caught:
        size_of(spec, Inputs(3), 1)
    assert caught.value.place == f"/layers/2/{field}"
    assert layer["kind"] in caught.value.detail
    assert "takes 9 columns, but 6 come in; set it to 6, or leave it out" in caught.value.detail


@pytest.mark.parametrize(
    ("layers", "gives"),
    [
        ([{"kind": "Linear", "out_features": 5}], 5),
        (["ReLU"], 3),
        (["Linear", "ReLU"], 3),
        ([{"kind": "Linear", "out_features": 4}, "BatchNorm1d"], 4),
    ],
)
def test_a_wrong_output_width_is_told_at_the_last_layer(layers: list[Any], gives: int) -> None:
    with pytest.raises(LayerMismatch) as caught:
        size_of(sequential(*layers), Inputs(3), 2)
    assert caught.value.place == f"/layers/{len(layers) - 1}"
    assert f"gives {gives} columns, and this target and loss need 2" in caught.value.detail
    assert '{"kind": "Linear", "out_features": 2}' in caught.value.detail


def test_the_last_layer_need_not_be_linear() -> None:
    spec = sequential({"kind": "Linear", "out_features": 2}, "Softplus")
    assert bool((built(spec, Inputs(3), 2)(torch.randn(9, 3)) > 0).all())


# ---------------------------------------------------------------- embeddings


def test_looked_up_categories_count_by_their_dimensions() -> None:
    inputs = Inputs(2, ((6, 3), (4, 1)))
    spec = sequential({"kind": "Linear", "in_features": 6, "out_features": 4}, "Tanh", "Linear")
    module = built(spec, inputs, 2)
    assert size_of(spec, inputs, 2).parameters == numbers_in(module)
    rows = torch.tensor([[0.5, -1.0, 5.0, 0.0], [0.1, 2.0, 0.0, 3.0]])
    assert module(rows).shape == (2, 2)
    wrong = sequential({"kind": "Linear", "in_features": 4, "out_features": 4}, "Linear")
    with pytest.raises(LayerMismatch, match="takes 4 columns, but 6 come in"):
        size_of(wrong, inputs, 2)


WIDTHS = st.integers(1, 9)
LINEARS = st.builds(
    lambda width, bias: {"kind": "Linear", "out_features": width, "bias": bias},
    st.none() | WIDTHS,
    st.booleans(),
)
ANY_LAYER = LINEARS | st.sampled_from(EVERY).map(
    lambda item: {k: v for k, v in {"kind": item[0], **item[1]}.items() if v != 5}
)


@given(
    st.lists(ANY_LAYER, max_size=6),
    WIDTHS,
    st.lists(st.tuples(st.integers(2, 5), st.integers(1, 4)), max_size=3),
    st.integers(1, 4),
)
def test_sizes_are_known_without_building(
    layers: list[dict[str, Any]], dense: int, embeddings: list[tuple[int, int]], outputs: int
) -> None:
    spec, inputs = sequential(*layers, "Linear"), Inputs(dense, tuple(embeddings))
    module = built(spec, inputs, outputs)
    assert size_of(spec, inputs, outputs).parameters == numbers_in(module)
    assert module(torch.zeros(3, inputs.width)).shape == (3, outputs)


@given(st.lists(ANY_LAYER, min_size=1, max_size=6))
def test_a_spec_told_as_json_is_the_same_spec(layers: list[dict[str, Any]]) -> None:
    asked = request(model={"kind": "sequential", "layers": layers})
    assert JobRequest.model_validate_json(asked.model_dump_json()) == asked
    assert isinstance(asked.model, SequentialSpec)
    assert SequentialSpec.model_validate(asked.model.model_dump(mode="json")) == asked.model


# ---------------------------------------------------------------- in a plan

TABLE = table_of(
    {
        "x": [i / 7 for i in range(60)],
        "y": [i / 3 for i in range(60)],
        "kind": [["a", "b", "c"][i % 3] for i in range(60)],
    }
)


def test_a_plan_keeps_the_layers_as_they_were_given() -> None:
    spec = spec_for(TABLE, model={"kind": "sequential", "layers": ["relu", "linear"]})
    assert spec.model == sequential("ReLU", "Linear")
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec


def test_a_plan_knows_the_size() -> None:
    model = {"kind": "sequential", "layers": [{"kind": "Linear", "out_features": 4}, "Linear"]}
    made = planned(TABLE, features=["x"], target="kind", model=model)
    assert made.parameters == 2 * 4 + 5 * 3


def test_the_same_seed_gives_the_same_layers() -> None:
    spec = sequential({"kind": "Linear", "out_features": 4}, "PReLU", "Linear")
    first, again, other = (
        modules.build(spec, Inputs(3), 1, seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
