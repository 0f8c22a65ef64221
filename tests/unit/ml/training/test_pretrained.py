"""Models that start from another's weights: what they keep, what starts anew, what is refused."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from app.errors import InvalidData, InvalidRequest
from app.ids import new_id
from app.ml.features.preprocessing import NumberTargets
from app.ml.inference import model_files
from app.ml.inference.model_files import StateDict
from app.ml.nn import modules
from app.ml.specs import Inputs, PretrainedSpec
from app.ml.training import loop
from tests.support.transfer import (
    NAMES,
    TABLE,
    answers,
    clouds,
    planned,
    transferred,
    weights,
)
from tests.support.workbench import Run, Workbench

MODELS: dict[str, Any] = {
    "linear": {"kind": "linear"},
    "mlp": {"kind": "mlp", "hidden": [6, 5], "norm": "layer"},
    "residual": {"kind": "mlp", "hidden": [6, 6], "residual": True},
    "sequential": {
        "kind": "sequential",
        "layers": [{"kind": "Linear", "out_features": 6}, "Tanh", "Linear"],
    },
    "told": {
        "kind": "sequential",
        "layers": [
            {"kind": "Linear", "out_features": 6},
            "PReLU",
            {"kind": "Linear", "out_features": 1},
        ],
    },
    "tabular": {"kind": "tabular", "members": 3, "width": 8, "embedding": 2, "bins": 4},
}
HEADS: dict[str, tuple[str, ...]] = {
    "linear": ("weight", "bias"),
    "mlp": ("6.",),
    "residual": ("3.",),
    "sequential": ("2.",),
    "told": ("2.",),
    "tabular": ("head", "offset", "direct."),
}
STILL: dict[str, Any] = {"optimizer": {"kind": "sgd", "lr": 1e-30}, "epochs": 2}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Workbench, Run]]:
    """A trained model of each kind, for the target ``y``."""
    bench = Workbench(tmp_path_factory.mktemp("sources"))
    return {
        name: (bench, bench.train(TABLE, features=NAMES, model=model, epochs=6))
        for name, model in MODELS.items()
    }


def parts(name: str, state: StateDict) -> tuple[StateDict, StateDict]:
    """Body and head."""
    head = {k: v for k, v in state.items() if k.startswith(HEADS[name])}
    return {k: v for k, v in state.items() if k not in head}, head


def equal(one: StateDict, other: StateDict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# ---------------------------------------------------------------- the same target


@pytest.mark.parametrize("name", MODELS)
def test_the_same_target_goes_on_where_the_source_stood(sources: Any, name: str) -> None:
    bench, run = sources[name]
    other = clouds(50, seed=2, y=[1000.0 + i for i in range(50)])
    again = transferred(bench, run, other, **STILL)
    assert equal(weights(again), weights(run))
    assert answers(again) == answers(run), "its scale is the source's as well"
    first, second = (r.predictor.card.preprocessing for r in (run, again))
    assert first == second


@pytest.mark.parametrize("name", MODELS)
def test_training_goes_on_from_there(sources: Any, name: str) -> None:
    bench, run = sources[name]
    again = transferred(bench, run, epochs=8)
    assert not equal(weights(again), weights(run))
    assert min(again.series("validation_loss")) < run.series("validation_loss")[0]


@pytest.mark.parametrize("target", ["kind", "three", "flag", ["flag", "flags"], ["y", "z"]])
@pytest.mark.parametrize("model", ["mlp", "tabular"])
def test_any_target_that_is_the_same_keeps_its_head(
    workbench: Workbench, target: Any, model: str
) -> None:
    run = workbench.train(TABLE, features=NAMES, target=target, model=MODELS[model], epochs=2)
    again = transferred(workbench, run, target=target, **STILL)
    assert equal(weights(again), weights(run))
    assert answers(again) == answers(run)


# ---------------------------------------------------------------- another target


@pytest.mark.parametrize("target", ["z", "three", ["flag", "flags"]])
@pytest.mark.parametrize("name", MODELS)
def test_another_target_keeps_the_body_and_starts_a_new_head(
    sources: Any, name: str, target: Any
) -> None:
    bench, run = sources[name]
    other = transferred(bench, run, target=target, **STILL)
    body, head = parts(name, weights(run))
    kept, new = parts(name, weights(other))
    assert equal(body, kept)
    fresh = parts(name, model_files.build(other.predictor.card).state_dict())[1]
    assert all(torch.allclose(new[key], fresh[key], atol=1e-20) for key in fresh)
    assert not any(torch.equal(v, new[k]) for k, v in head.items() if v.any())
    widths = {"three": 3} if isinstance(target, str) else {}
    assert other.predictor.card.outputs == widths.get(str(target), len(np.atleast_1d(target)))
    assert len(answers(other)) == 80


def test_another_scale_is_learnt_for_another_column(sources: Any) -> None:
    bench, run = sources["mlp"]
    other = transferred(bench, run, target="z", **STILL)
    scale = other.predictor.card.preprocessing.target
    assert isinstance(scale, NumberTargets)
    assert scale != run.predictor.card.preprocessing.target
    assert scale.center == pytest.approx([0], abs=1)


@pytest.mark.parametrize(
    ("first", "then", "heads_alike"),
    [
        ("kind", "kind", True),
        ("kind", "three", False),
        ("three", "kind", False),
        ("kind", "y", False),
    ],
)
@pytest.mark.parametrize("loss", ["cross_entropy", None])
def test_classes_may_become_others(
    workbench: Workbench, first: str, then: str, heads_alike: bool, loss: str | None
) -> None:
    run = workbench.train(
        TABLE, features=NAMES, target=first, loss=loss, model=MODELS["sequential"], epochs=2
    )
    fields: dict[str, Any] = {} if then == "y" else {"loss": loss}
    other = transferred(workbench, run, target=then, **fields, **STILL)
    assert equal(weights(run), weights(other)) == heads_alike
    assert torch.equal(weights(run)["0.weight"], weights(other)["0.weight"])


def test_classes_with_the_same_names_in_another_column_start_a_new_head(
    workbench: Workbench,
) -> None:
    run = workbench.train(TABLE, features=NAMES, target="kind", model=MODELS["mlp"], epochs=2)
    table = TABLE.append_column("again", TABLE["kind"])
    other = transferred(workbench, run, table, target="again", **STILL)
    assert not torch.equal(weights(run)["6.weight"], weights(other)["6.weight"])


@pytest.mark.parametrize(
    ("values", "then"),
    [
        ([False, True], [0, 1]),
        ([0, 1], [False, True]),
        ([0, 1], ["0", "1"]),
        ([False, True], ["false", "true"]),
        (["0", "1"], [0, 1]),
        (["no", "yes"], [False, True]),
    ],
)
def test_a_column_of_the_same_name_may_hold_classes_of_another_type(
    workbench: Workbench, values: list[Any], then: list[Any]
) -> None:
    kinds = [int(v == "yes") for v in TABLE["kind"].to_pylist()]
    first = TABLE.append_column("t", pa.array([values[k] for k in kinds]))
    second = TABLE.append_column("t", pa.array([then[k] for k in kinds]))
    fields: dict[str, Any] = {"target": "t", "task": "binary"}
    run = workbench.train(first, features=NAMES, model="linear", epochs=2, **fields)
    other = transferred(workbench, run, second, **fields, epochs=2)
    found = answers(other)
    assert {(type(v), v) for v in found} <= {(type(v), v) for v in then}
    assert len(found) == 80


def test_a_body_that_is_not_linear_at_its_end_may_keep_its_width(workbench: Workbench) -> None:
    layers = [{"kind": "Linear", "out_features": width} for width in (4, 1)]
    model = {"kind": "sequential", "layers": [layers[0], "ReLU", layers[1], "Softplus"]}
    run = workbench.train(TABLE, features=NAMES, model=model, epochs=2)
    other = transferred(workbench, run, target="z", **STILL)
    assert torch.equal(weights(run)["0.weight"], weights(other)["0.weight"])
    assert not torch.equal(weights(run)["2.weight"], weights(other)["2.weight"])
    with pytest.raises(InvalidRequest) as caught:
        planned(run, TABLE, target="three")
    [error] = caught.value.errors
    assert not error.pointer.startswith("/model/layers"), "no layers were sent"


# ---------------------------------------------------------------- frozen parts


@pytest.mark.parametrize(
    ("name", "freeze", "frozen"),
    [
        ("mlp", ["0.*"], {"0.weight", "0.bias"}),
        ("mlp", ["*.weight"], {"0.weight", "1.weight", "3.weight", "4.weight", "6.weight"}),
        ("mlp", ["[01].bias", "6.weight"], {"0.bias", "1.bias", "6.weight"}),
        ("linear", ["bias"], {"bias"}),
        ("sequential", ["0.*"], {"0.weight", "0.bias"}),
        ("tabular", ["first.*", "embed.*"], {"first.weight", "first.bias", "embed.weight"}),
        ("tabular", ["hidden", "bias"], {"hidden", "bias"}),
    ],
)
@pytest.mark.parametrize("target", ["y", "z"])
def test_what_matches_stays_bit_for_bit(
    sources: Any, name: str, freeze: list[str], frozen: set[str], target: str
) -> None:
    bench, run = sources[name]
    optimizer = {"kind": "adamw", "lr": 0.05, "weight_decay": 0.1}
    other = transferred(bench, run, freeze=freeze, target=target, optimizer=optimizer, epochs=3)
    before, after = weights(run), weights(other)
    same_head = target == "y"
    head = parts(name, before)[1].keys()
    for key in frozen:
        if same_head or key not in head:
            assert torch.equal(before[key], after[key]), key
    module = model_files.build(other.predictor.card)
    moving = {k for k, _ in module.named_parameters()} - frozen - {"embed.line", "embed.bias"}
    for key in moving:
        assert not torch.equal(before[key], after[key]), key


def test_a_frozen_batch_norm_keeps_its_running_statistics(workbench: Workbench) -> None:
    model = {"kind": "mlp", "hidden": [6, 5], "norm": "batch"}
    run = workbench.train(TABLE, features=NAMES, model=model, epochs=3)
    other = transferred(workbench, run, clouds(60, 9), freeze=["0.*", "1.*"], epochs=3)
    before, after = weights(run), weights(other)
    for key in ("running_mean", "running_var", "weight", "bias"):
        assert torch.equal(before[f"1.{key}"], after[f"1.{key}"])
        assert not torch.equal(before[f"4.{key}"], after[f"4.{key}"])


def test_codes_are_looked_up_in_the_sources_embedding(workbench: Workbench) -> None:
    run = workbench.train(
        TABLE,
        features=NAMES,
        model=MODELS["mlp"],
        preprocessing={"categories": "embedding"},
        epochs=2,
    )
    other = transferred(workbench, run, target="three", freeze=["embeddings.*"], epochs=3)
    key = "embeddings.0.weight"
    assert torch.equal(weights(run)[key], weights(other)[key])
    assert weights(other)["body.6.weight"].shape == (3, 5)
    still = transferred(workbench, run, target="three", **STILL)
    assert torch.equal(weights(run)["body.0.weight"], weights(still)["body.0.weight"])


# ---------------------------------------------------------------- on and on


def test_a_pretrained_model_may_be_started_from_too(sources: Any) -> None:
    bench, run = sources["sequential"]
    middle = transferred(bench, run, target="three", epochs=2)
    last = transferred(bench, middle, target="kind", loss="cross_entropy", **STILL)
    assert torch.equal(weights(middle)["0.weight"], weights(last)["0.weight"])
    assert weights(last)["2.weight"].shape == (2, 6)
    model = last.task.spec.model
    assert isinstance(model, PretrainedSpec)
    assert model.architecture is not None
    assert model.architecture.kind == "sequential"


@pytest.mark.parametrize("name", MODELS)
def test_the_finished_model_needs_its_source_no_more(workbench: Workbench, name: str) -> None:
    run = workbench.train(TABLE, features=NAMES, model=MODELS[name], epochs=2)
    other = transferred(workbench, run, target="kind", epochs=2)
    before = answers(other)
    workbench.storage.remove("models", run.task.model_id)
    assert answers(other) == before


@pytest.mark.parametrize("source", ["its id", None])
def test_a_source_that_is_gone_is_told(workbench: Workbench, source: str | None) -> None:
    run = workbench.train(TABLE, features=NAMES, model="linear", epochs=1)
    other = transferred(workbench, run, target="z", epochs=1)
    workbench.storage.remove("models", run.task.model_id)
    update = {"model_id": new_id("mdl"), "source": source and run.task.model_id}
    with pytest.raises(InvalidData, match="to start from"):
        list(loop.train(other.task.model_copy(update=update)))


def test_a_told_spec_can_be_planned_again(sources: Any) -> None:
    _, run = sources["tabular"]
    made = planned(run, TABLE, target="three", freeze=["first.*"])
    told = made.spec.model_dump(mode="json", exclude={"dataset"})
    assert told["model"]["model"] == "base@1", "pinned to its version"
    assert planned(run, TABLE, **told).spec == made.spec.model_copy(update={"dataset": "some-data"})
    module = modules.build(made.spec.model, Inputs(5, (), (0, 1)), 3, seed=0)
    assert made.parameters == sum(parameter.numel() for parameter in module.parameters())
