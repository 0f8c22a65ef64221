"""What a client may ask for: closed, strict, and counted by arithmetic."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.errors import InvalidRequest
from app.ml.nn import modules
from app.ml.specs import (
    AdamWSpec,
    HuberSpec,
    Inputs,
    JobRequest,
    JobSpec,
    L1Spec,
    LinearSpec,
    MLPSpec,
    SGDSpec,
    SplitSpec,
    field_names,
    hints,
    size_of,
)
from app.ml.specs.base import plain
from app.ml.specs.mistakes import checked
from tests.support.workbench import request, spec_for, table_of


def refused(fields: dict[str, Any]) -> list[tuple[str, str]]:
    """``(place, kind)`` of each error."""
    with pytest.raises(ValidationError) as caught:
        request(**fields)
    return [(".".join(str(p) for p in e["loc"]), e["type"]) for e in caught.value.errors()]


# ---------------------------------------------------------------- defaults


def test_only_dataset_and_target_are_required() -> None:
    with pytest.raises(ValidationError) as caught:
        JobRequest.model_validate({})
    assert {error["loc"] for error in caught.value.errors()} == {("dataset",), ("target",)}


def test_defaults_are_the_contracts() -> None:
    asked = request()
    assert asked.split.model_dump() == {
        "train": 0.8,
        "validation": 0.1,
        "test": 0.1,
        "strategy": "random",
        "seed": 0,
    }
    assert asked.preprocessing.model_dump() == {
        "numbers": "standard",
        "categories": "auto",
        "missing": "impute",
        "target": None,
    }
    assert (asked.epochs, asked.batch_size, asked.seed) == (100, "auto", 0)
    assert (asked.device, asked.threads, asked.priority) == ("auto", 1, 0)
    assert asked.checkpoint.model_dump() == {"every_seconds": 30.0, "keep": 2}
    assert asked.metadata == {}


def test_optimizer_defaults_are_torchs() -> None:
    assert SGDSpec().lr == AdamWSpec().lr == 1e-3
    assert AdamWSpec().betas == [0.9, 0.999]
    assert AdamWSpec().weight_decay == 1e-2


def test_a_name_is_short_for_an_object() -> None:
    asked = request(model="linear", loss="huber", optimizer="sgd")
    assert asked.model == LinearSpec()
    assert asked.loss == HuberSpec(delta=1.0)
    assert asked.optimizer == SGDSpec()


@pytest.mark.parametrize("loss", ["mae", {"kind": "mae"}, "l1", {"kind": "l1"}])
def test_mae_is_l1(loss: Any) -> None:
    assert request(loss=loss).loss == L1Spec()


def test_targets_are_a_list_however_they_were_named() -> None:
    assert request(target="a").targets == ["a"]
    assert request(target=["a", "b"]).targets == ["a", "b"]


# ---------------------------------------------------------------- strictness


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"epochs": "3"}, "epochs"),
        ({"epochs": 3.5}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"epochs": -1}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"split": {"train": "0.8"}}, "split.train"),
        ({"optimizer": {"kind": "sgd", "lr": "0.1"}}, "optimizer.sgd.lr"),
        ({"optimizer": {"kind": "sgd", "lr": 0}}, "optimizer.sgd.lr"),
        ({"optimizer": {"kind": "sgd", "lr": float("inf")}}, "optimizer.sgd.lr"),
        ({"optimizer": {"kind": "adam", "betas": [0.9]}}, "optimizer.adam.betas"),
        ({"optimizer": {"kind": "adam", "betas": [0.9, 1.0]}}, "optimizer.adam.betas.1"),
        ({"model": {"kind": "mlp", "hidden": []}}, "model.mlp.hidden"),
        ({"model": {"kind": "mlp", "hidden": [0]}}, "model.mlp.hidden.0"),
        ({"model": {"kind": "mlp", "dropout": 1.0}}, "model.mlp.dropout"),
        ({"early_stopping": {"patience": 0}}, "early_stopping.patience"),
        ({"gradient_clip_norm": 0}, "gradient_clip_norm"),
        ({"max_seconds": 0}, "max_seconds"),
        ({"register_as": "no spaces"}, "register_as"),
        ({"register_as": "x\n"}, "register_as"),
        ({"features": []}, "features"),
        ({"features": ["a", "a"]}, "features"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"metadata": {f"k{i}": "" for i in range(17)}}, "metadata"),
    ],
)
def test_wrong_values_are_refused_where_they_stand(fields: dict[str, Any], place: str) -> None:
    assert [found for found, _ in refused(fields)] == [place]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"epoch": 3}, "epoch"),
        ({"split": {"training": 0.8}}, "split.training"),
        ({"model": {"kind": "linear", "hidden": [3]}}, "model.linear.hidden"),
        ({"loss": {"kind": "l1", "delta": 1.0}}, "loss.l1.delta"),
    ],
)
def test_unknown_fields_are_refused(fields: dict[str, Any], place: str) -> None:
    assert refused(fields) == [(place, "extra_forbidden")]


@pytest.mark.parametrize("field", ["model", "loss", "optimizer"])
@pytest.mark.parametrize("value", ["unheard-of", {"kind": "unheard-of"}, {"kind": 3}, {}, 3, []])
def test_unknown_kinds_are_refused(field: str, value: Any) -> None:
    assert [place for place, _ in refused({field: value})] == [field]


@pytest.mark.parametrize("field", ["model", "loss", "optimizer"])
@pytest.mark.parametrize("kind", [[], {}, None])
def test_a_kind_that_is_no_name_is_refused(field: str, kind: Any) -> None:
    assert [place for place, _ in refused({field: {"kind": kind}})] == [field]


def test_nesterov_needs_momentum() -> None:
    assert refused({"optimizer": {"kind": "sgd", "nesterov": True}})[0][1] == "nesterov"
    asked = request(optimizer={"kind": "sgd", "nesterov": True, "momentum": 0.9})
    assert asked.optimizer == SGDSpec(nesterov=True, momentum=0.9)


# ---------------------------------------------------------------- split fractions


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({}, (0.8, 0.1, 0.1)),
        ({"train": 0.7, "validation": 0.1}, (0.7, 0.1, 0.2)),
        ({"train": 0.8, "test": 0.2}, (0.8, 0.0, 0.2)),
        ({"validation": 0.1, "test": 0.2}, (0.7, 0.1, 0.2)),
        ({"train": 1, "validation": 0, "test": 0}, (1.0, 0.0, 0.0)),
        ({"train": 0.1, "validation": 0.2, "test": 0.7}, (0.1, 0.2, 0.7)),
        ({"train": 0.8, "validation": 0.1, "test": 0.1 + 5e-10}, (0.8, 0.1, 0.1)),
    ],
)
def test_fractions(given: dict[str, float], parts: tuple[float, float, float]) -> None:
    made = SplitSpec.model_validate(given)
    assert (made.train, made.validation, made.test) == pytest.approx(parts, abs=1e-9)


@pytest.mark.parametrize(
    "given",
    [
        {"train": 0.9},
        {"train": 0.5, "validation": 0.2, "test": 0.2},
        {"train": 0.9, "validation": 0.2},
        {"train": 0.8, "validation": 0.1, "test": 0.1 + 2e-9},
        {"train": 0, "validation": 0.5, "test": 0.5},
        {"train": 1.1, "validation": -0.1, "test": 0.0},
    ],
)
def test_fractions_that_do_not_sum_to_one_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SplitSpec.model_validate(given)


# ---------------------------------------------------------------- completed specs


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"loss": {"kind": "huber", "delta": 2.0}, "optimizer": {"kind": "adam", "lr": 1}},
        {"model": {"kind": "mlp", "hidden": [3], "norm": "batch"}, "metadata": {"a": "b"}},
        {"batch_size": None, "early_stopping": None, "max_seconds": 5},
    ],
)
def test_a_completed_spec_survives_json(fields: dict[str, Any]) -> None:
    table = table_of({"x": list(range(20)), "y": [0.5 * i for i in range(20)]})
    spec = spec_for(table, **fields)
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_a_loss_with_its_defaults_is_shown_by_its_name() -> None:
    table = table_of({"x": list(range(20)), "y": [0.5 * i for i in range(20)]})
    assert spec_for(table, loss="mae").model_dump()["loss"] == "l1"
    huber = spec_for(table, loss={"kind": "huber", "delta": 2.0}).model_dump()["loss"]
    assert huber == {"kind": "huber", "delta": 2.0}


def test_field_names_reach_into_every_part() -> None:
    names = field_names(JobRequest)
    assert {"dataset", "epochs", "validation", "lr", "momentum", "hidden", "delta"} <= names
    assert "kind" in names


# ---------------------------------------------------------------- counting parameters

_MLPS = st.builds(
    MLPSpec,
    hidden=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    norm=st.sampled_from([None, "batch", "layer"]),
    dropout=st.sampled_from([0.0, 0.5]),
    residual=st.booleans(),
)
_LINEARS = st.builds(LinearSpec, init=st.sampled_from(["default", "normal"]))


@given(_MLPS | _LINEARS, st.integers(1, 9), st.integers(1, 5))
def test_the_count_by_arithmetic_is_the_modules(
    spec: LinearSpec | MLPSpec, inputs: int, outputs: int
) -> None:
    module = modules.build(spec, Inputs(inputs), outputs, seed=0)
    counted = sum(parameter.numel() for parameter in module.parameters())
    assert size_of(spec, Inputs(inputs), outputs).parameters == counted


_EMBEDDINGS = st.lists(st.tuples(st.integers(3, 9), st.integers(1, 4)), max_size=3).map(tuple)


@given(_MLPS | _LINEARS, st.integers(0, 5), _EMBEDDINGS, st.integers(1, 3))
def test_embeddings_are_counted_too(
    spec: LinearSpec | MLPSpec, dense: int, embeddings: tuple[tuple[int, int], ...], outputs: int
) -> None:
    inputs = Inputs(dense, embeddings)
    if not inputs.width:
        return
    module = modules.build(spec, inputs, outputs, seed=0)
    counted = sum(parameter.numel() for parameter in module.parameters())
    assert size_of(spec, inputs, outputs).parameters == counted


@pytest.mark.parametrize(
    "split",
    [
        {"strategy": "column"},
        {"strategy": "group"},
        {"strategy": "random", "column": "part"},
        {"column": "part"},
        {"strategy": "group", "column": ""},
        {"strategy": "group", "column": 3},
    ],
)
def test_a_split_names_a_column_exactly_where_one_tells_it(split: dict[str, Any]) -> None:
    assert [place.split(".")[0] for place, _ in refused({"split": split})] == ["split"]


def test_a_spec_knows_which_columns_its_split_depends_on() -> None:
    table = table_of(
        {"x": list(range(20)), "y": [0.5 * i for i in range(20)], "g": [i // 2 for i in range(20)]}
    )
    assert spec_for(table).planning_columns == ["y"]
    grouped = spec_for(
        table, target=["y", "x"], features=["g"], split={"strategy": "group", "column": "g"}
    )
    assert grouped.planning_columns == ["y", "x", "g"]


def test_every_spec_has_a_json_schema() -> None:
    schema = TypeAdapter(JobRequest).json_schema()
    assert set(schema["required"]) == {"dataset", "target"}


@pytest.mark.parametrize("name", sorted(hints._nested()))
def test_a_field_of_a_part_is_told_its_place(name: str) -> None:
    """At the top of a job, and what is told is taken, but for what a value must be beside it."""
    part, _, field = hints._nested()[name]
    with pytest.raises(InvalidRequest) as caught:
        checked(JobRequest, {"dataset": "d", "target": "y", field: 1})
    told = caught.value.detail
    assert told.startswith(f"unknown field '{field}'; ")
    if plain(field) not in hints._BY_NAME:
        place = json.loads(told.partition("says it so: ")[2])
        assert [*place] == ["model" if part == "layers" else part]
        assert field in json.dumps(place)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"learningRate": 0.1}, '{"optimizer": {"kind": "adamw", "lr"'),
        ({"lr": 0.1, "optimizer": "sgd"}, '{"optimizer": {"kind": "sgd", "lr"'),
        (
            {"lr": 0.1, "optimizer": {"kind": "Rprop"}},
            '{"optimizer": {"kind": "rprop", "lr": 0.001}}',
        ),
        ({"lr": 0.1, "optimizer": "mine"}, '{"optimizer": {"kind": "adamw", "lr"'),
        ({"weights": [1, 2]}, '{"class_weight": {"a": 2, "b": 1}}'),
        ({"stratify": True}, '{"split": {"strategy": "stratified"}}'),
        ({"maxEpochs": 5}, '{"epochs": 100}'),
        ({"X": ["a"]}, '{"features": ["x1", "x2"]}'),
        ({"select": "val_loss"}, "did you mean 'loss'?"),
        ({"select": "validation_rmse"}, "did you mean 'rmse'?"),
        ({"select": "val_R2"}, "did you mean 'r2'?"),
    ],
)
def test_what_others_call_it(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked(JobRequest, {"dataset": "d", "target": "y", **fields})
    assert said in " ".join(error.detail for error in caught.value.errors)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"loss": "nn.MSELoss"}, {"loss": "mse"}),
        ({"optimizer": "torch.optim.AdamW"}, {"optimizer": "adamw"}),
        ({"scheduler": "lr_scheduler.ReduceLROnPlateau"}, {"scheduler": "reduce_on_plateau"}),
        ({"select": "R2"}, {"select": "r2"}),
        ({"select": "Log_Loss"}, {"select": "log_loss"}),
        ({"device": "CPU"}, {"device": "cpu"}),
        ({"task": "Binary"}, {"task": "binary"}),
        ({"class_weight": "Balanced"}, {"class_weight": "balanced"}),
        ({"batch_size": "Auto"}, {"batch_size": "auto"}),
        ({"threshold": "F1"}, {"threshold": "f1"}),
        ({"split": {"strategy": "Stratified"}}, {"split": {"strategy": "stratified"}}),
        ({"preprocessing": {"numbers": "Robust"}}, {"preprocessing": {"numbers": "robust"}}),
    ],
)
def test_names_of_a_closed_list_in_any_case(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    request, plainly = (
        checked(JobRequest, {"dataset": "d", "target": "y", **given}) for given in (fields, wanted)
    )
    assert request == plainly


def test_columns_keep_their_case() -> None:
    request = checked(JobRequest, {"dataset": "D", "target": "CPU", "register_as": "Auto"})
    assert (request.dataset, request.target, request.register_as) == ("D", "CPU", "Auto")
