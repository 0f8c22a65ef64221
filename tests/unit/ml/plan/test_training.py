"""How a job is trained: what is refused before it runs, and what it will take."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.errors import FitserveError, InvalidData, InvalidRequest
from tests.support.workbench import planned, request, spec_for, table_of

ROWS = 100
TABLE = table_of(
    {
        "x": [i / 7 for i in range(ROWS)],
        "z": [(i * 31) % 17 for i in range(ROWS)],
        "y": [i / 3 for i in range(ROWS)],
        "kind": [["a", "b", "c"][i % 3] for i in range(ROWS)],
        "flag": [i % 2 == 0 for i in range(ROWS)],
        "flags": [i % 5 == 0 for i in range(ROWS)],
        "sorted": [["a", "b", "c", "d"][i * 4 // ROWS] for i in range(ROWS)],
        "rare": ["r" if i == 50 else ["a", "b"][i % 2] for i in range(ROWS)],
        "one": ["same"] * ROWS,
    }
)
LINEAR = {"kind": "Linear", "out_features": 4}


def refused(
    pointer: str,
    table: pa.Table = TABLE,
    expected: type[FitserveError] = InvalidRequest,
    **fields: Any,
) -> str:
    """The detail of the one error, which stands at ``pointer``."""
    with pytest.raises(expected) as caught:
        planned(table, **{"features": ["x", "z"], **fields})
    assert [error.pointer for error in caught.value.errors] == [pointer]
    return caught.value.errors[0].detail


def numbers(rows: int) -> pa.Table:
    return table_of({"x": list(range(rows)), "y": [i / 2 for i in range(rows)]})


def layers(*told: Any) -> dict[str, Any]:
    return {"kind": "sequential", "layers": list(told)}


# ---------------------------------------------------------------- names that are unknown


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "tabluar"},
        {"model": {"kind": "tabular", "widht": 3}},
        {"model": {"kind": "tabular", "members": 0}},
        {"model": {"kind": "tabular", "label_smoothing": 1.0}},
        {"model": {"kind": "mlp", "bins": 3}},
        {"model": layers()},
        {"model": layers("Conv1d")},
        {"model": layers("Softmax")},
        {"model": layers("Linear", {"kind": "Linear", "out_feature": 3})},
        {"model": layers({"kind": "ReLU", "inplace": True})},
        {"model": layers({"kind": "Dropout", "p": 1.0})},
        {"model": layers({"out_features": 3})},
        {"model": layers(*["ReLU"] * 257)},
        {"model": {"kind": "pretrained"}},
        {"model": {"kind": "pretrained", "model": "m", "freeze": "0.*"}},
        {"optimizer": "lbfgs"},
        {"optimizer": {"kind": "adam", "lr": 0.0}},
        {"optimizer": {"kind": "adam", "momentum": 0.9}},
        {"optimizer": {"kind": "adam", "betas": [0.9]}},
        {"optimizer": {"kind": "sgd", "nesterov": True}},
        {"optimizer": {"kind": "rprop", "etas": [1.2, 0.5]}},
        {"scheduler": "warmup"},
        {"scheduler": "step"},
        {"scheduler": {"kind": "step", "step_size": 0}},
        {"scheduler": {"kind": "cosine", "t_max": 3}},
        {"scheduler": {"kind": "multi_step", "milestones": [3, 1]}},
        {"scheduler": {"kind": "cyclic", "base_lr": 1.0, "max_lr": 0.1}},
        {"scheduler": {"kind": "reduce_on_plateau", "factor": 1.0}},
        {"loss": "hinge"},
        {"loss": {"kind": "mse", "delta": 1.0}},
        {"ema_decay": 1.0},
        {"ema_decay": -0.1},
        {"class_weight": "even"},
        {"class_weight": {"a": -1.0}},
        {"sample_weight": ""},
        {"gradient_clip_norm": 0.0},
        {"batch_size": "large"},
        {"batch_size": 0},
        {"precision": "float16"},
    ],
)
def test_what_is_unknown_or_out_of_range_is_no_request(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        request(**fields)
    [name] = fields
    assert {error["loc"][0] for error in caught.value.errors()} == {name}


# ---------------------------------------------------------------- what does not go together


@pytest.mark.parametrize(
    ("target", "loss", "remedy"),
    [
        ("y", "cross_entropy", "use 'mse' or 'l1' or 'smooth_l1' or 'huber'"),
        ("y", "multi_margin", "use 'mse'"),
        ("kind", "mse", "use 'cross_entropy' or 'multi_margin'"),
        ("kind", "huber", "use 'cross_entropy'"),
        ("flag", "l1", "use 'bce_with_logits'"),
        (["flag", "flags"], "multi_margin", "use 'bce_with_logits'"),
    ],
)
@pytest.mark.parametrize("model", ["tabular", layers("Linear")])
def test_a_loss_for_another_task_is_refused(
    target: Any, loss: str, remedy: str, model: Any
) -> None:
    assert remedy in refused("/loss", target=target, loss=loss, model=model)


@pytest.mark.parametrize(
    ("target", "told", "outputs", "loss"),
    [
        ("kind", 2, 3, None),
        ("y", 3, 1, None),
        ("flag", 2, 1, None),
        ("flag", 1, 2, "cross_entropy"),
        (["y", "x"], 1, 2, None),
    ],
)
def test_a_last_width_that_does_not_suit_the_target_is_refused(
    target: Any, told: int, outputs: int, loss: str | None
) -> None:
    model = layers(LINEAR, "ReLU", {"kind": "Linear", "out_features": told})
    detail = refused("/model/layers/2", target=target, model=model, loss=loss, features=["z"])
    assert f"gives {told} columns, and this target and loss need {outputs}" in detail
    assert f'{{"kind": "Linear", "out_features": {outputs}}}' in detail


def test_a_width_that_does_not_agree_is_refused_where_it_stands() -> None:
    model = layers(LINEAR, {"kind": "BatchNorm1d", "num_features": 9}, "Linear")
    assert "set it to 4" in refused("/model/layers/1/num_features", model=model)


@pytest.mark.parametrize("told", [["ReLU"], ["Dropout", "Tanh"], ["Identity"]])
def test_layers_with_nothing_to_train_are_refused(told: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        planned(TABLE, features=["x"], model=layers(*told))
    assert caught.value.errors[0].pointer.startswith("/model")


@pytest.mark.parametrize("rows", [81, 1000])
def test_a_batch_larger_than_the_training_part_is_refused(rows: int) -> None:
    detail = refused("/batch_size", batch_size=rows)
    assert f"a batch of {rows} is more than the 80 training rows" in detail
    assert "null for all rows" in detail
    assert spec_for(TABLE, batch_size=80).batch_size == 80


@pytest.mark.parametrize(
    ("model", "pointer", "remedy"),
    [
        ({"kind": "mlp", "norm": "batch"}, "/model/norm", '"layer"'),
        (layers(LINEAR, "BatchNorm1d", "Linear"), "/model/layers/1", '"LayerNorm"'),
        (layers("BatchNorm1d", "Linear"), "/model/layers/0", '"LayerNorm"'),
    ],
)
def test_batch_norm_wants_batches_of_more_than_one_row(
    model: Any, pointer: str, remedy: str
) -> None:
    assert remedy in refused(pointer, model=model, batch_size=1)
    single = numbers(2)
    halves = {"train": 0.5, "validation": 0.0, "test": 0.5}
    for size in ("auto", None, 1):
        refused(pointer, single, features=["x"], model=model, batch_size=size, split=halves)
    assert spec_for(TABLE, model=model, batch_size=2).batch_size == 2


@pytest.mark.parametrize("model", ["tabular", {"kind": "mlp", "norm": "layer"}, layers("Linear")])
def test_other_models_take_batches_of_one_row(model: Any) -> None:
    assert spec_for(TABLE, model=model, batch_size=1).batch_size == 1


def test_early_stopping_watches_a_validation_part() -> None:
    detail = refused(
        "/early_stopping", split={"train": 0.8, "validation": 0.0}, early_stopping={"patience": 3}
    )
    assert "give split.validation a share, or set early_stopping to null" in detail


# ---------------------------------------------------------------- classes and parts


def test_one_class_is_refused() -> None:
    assert "has only one value" in refused("/target", expected=InvalidData, target="one")


def test_sorted_classes_in_order_are_refused_with_the_remedy() -> None:
    split = {"train": 0.6, "validation": 0.2, "test": 0.2, "strategy": "sequential"}
    detail = refused("/split/strategy", target="sorted", split=split)
    assert "the train part would lack the class 'd'" in detail
    assert '"stratified"' in detail
    spec = spec_for(TABLE, target="sorted", split={**split, "strategy": "stratified"})
    assert spec.split.strategy == "stratified"


def test_training_wants_every_class_however_rare() -> None:
    split = {"train": 0.5, "validation": 0.0, "test": 0.5, "strategy": "sequential"}
    detail = refused("/split/strategy", target="rare", split=split)
    assert "the train part would lack the class 'r'" in detail


@pytest.mark.parametrize("strategy", ["column", "group"])
def test_a_column_that_leaves_a_class_out_is_told(strategy: str) -> None:
    part = ["train" if i < 60 else "test" for i in range(ROWS)]
    table = TABLE.append_column("part", pa.array(part))
    if strategy == "group":
        part = [f"g{i // 25}" for i in range(ROWS)]
        table = TABLE.append_column("part", pa.array(part))
    split = {"strategy": strategy, "column": "part"}
    if strategy == "group":
        split |= {"train": 0.5, "validation": 0.0, "test": 0.5}  # type: ignore[dict-item]
    detail = refused("/split/strategy", table, target="sorted", split=split)
    assert "let 'part' give every part rows of each class" in detail


def test_a_rare_class_that_is_not_in_every_part_is_a_warning() -> None:
    split = {"train": 0.6, "validation": 0.2, "test": 0.2, "strategy": "sequential"}
    made = planned(TABLE, target="rare", features=["x"], split=split)
    assert made.warnings == [
        "the validation part has no row of 1 rare classes: 'r'",
        "the test part has no row of 1 rare classes: 'r'",
    ]


@pytest.mark.parametrize(
    ("split", "part"),
    [
        ({"train": 0.001, "validation": 0.0, "test": 0.999}, "train"),
        ({"train": 0.995, "validation": 0.005, "test": 0.0}, "validation"),
        ({"train": 1 - 1e-12, "validation": 0.0, "test": 1e-12}, "test"),
    ],
)
@pytest.mark.parametrize("target", ["y", "kind"])
def test_an_empty_part_is_refused(split: dict[str, float], part: str, target: str) -> None:
    detail = refused(f"/split/{part}", split=split, target=target)
    assert "send more rows, or a split such as" in detail


# ---------------------------------------------------------------- what it takes

WIDE = {"kind": "mlp", "hidden": [256, 256]}


def taken(**fields: Any) -> int:
    return planned(TABLE, **{"features": ["x", "z"], "model": WIDE, **fields}).memory_bytes


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"optimizer": "sgd"}, {"optimizer": {"kind": "sgd", "momentum": 0.9}}),
        ({"optimizer": {"kind": "sgd", "momentum": 0.9}}, {"optimizer": "adam"}),
        ({"optimizer": "adam"}, {"optimizer": {"kind": "adam", "amsgrad": True}}),
        ({"optimizer": "rmsprop"}, {"optimizer": {"kind": "rmsprop", "centered": True}}),
        ({"optimizer": "rmsprop"}, {"optimizer": {"kind": "rmsprop", "momentum": 0.5}}),
        ({"batch_size": 8}, {"batch_size": 80}),
        ({"batch_size": 79}, {"batch_size": None}),
        ({"model": {"kind": "mlp", "hidden": [8]}}, {"model": {"kind": "mlp", "hidden": [9]}}),
        ({"model": {"kind": "tabular", "width": 8}}, {"model": {"kind": "tabular", "width": 9}}),
        ({"model": {"kind": "tabular", "members": 1}}, {"model": "tabular"}),
        ({"model": layers("Linear")}, {"model": layers(LINEAR, "Linear")}),
        ({"split": {"train": 0.8, "validation": 0.0, "test": 0.2}}, {}),
        ({"ema_decay": None}, {"ema_decay": 0.9}),
    ],
)
def test_more_takes_more_memory(less: dict[str, Any], more: dict[str, Any]) -> None:
    assert taken(**less) < taken(**more)


@given(
    st.sampled_from(["linear", "mlp", "tabular", WIDE, layers(LINEAR, "Linear")]),
    st.sampled_from(["sgd", "adam", "adafactor"]),
    st.none() | st.integers(1, 80),
    st.sampled_from(["y", "kind", ["y", "x"]]),
)
def test_memory_is_weights_and_gradients_at_the_least(
    model: Any, optimizer: str, batch_size: int | None, target: Any
) -> None:
    made = planned(
        TABLE,
        features=["z"],
        model=model,
        optimizer=optimizer,
        batch_size=batch_size,
        target=target,
    )
    assert made.memory_bytes >= 2 * 4 * made.parameters


def test_triangular2_is_refused_where_nothing_would_be_left_of_it() -> None:
    table = table_of({"x": list(range(200)), "y": [i / 3 for i in range(200)]})
    cyclic = {"kind": "cyclic", "base_lr": 0.001, "max_lr": 0.01, "mode": "triangular2"}
    short = {**cyclic, "step_size_up": 2, "step_size_down": 2}
    with pytest.raises(InvalidRequest, match="longer cycles") as caught:
        planned(table, scheduler=short, batch_size=8, epochs=300)
    assert caught.value.errors[0].pointer == "/scheduler/step_size_up"
    assert planned(table, scheduler={**short, "mode": "triangular"}, batch_size=8, epochs=300)


def test_a_loss_for_counts_refuses_what_is_below_0() -> None:
    table = table_of({"x": [1.0, 2.0] * 20, "y": [3, -2] * 20})
    told = refused("/loss", table, features=["x"], loss="poisson_nll")
    assert told.startswith("'poisson_nll' is for counts and other numbers from 0, and 'y' holds -2")


def test_a_scheduler_that_would_never_begin_is_told() -> None:
    told = refused("/scheduler", scheduler=["linear", "cosine"], epochs=5)
    assert told.startswith("the schedulers before the last take 5 epochs and the job has 5")
    assert planned(TABLE, features=["x"], scheduler=["linear", "cosine"], epochs=6)
    assert planned(TABLE, features=["x"], scheduler=["linear", "cosine"], epochs=0)


@pytest.mark.parametrize(
    ("schedulers", "detail"),
    [
        (["cosine", "linear"], "'cosine' has no end, .* give its 'T_max', or put it last"),
        ([{"kind": "step", "step_size": 1}, "cosine"], "'step' has no end, .*; put it last"),
        (["one_cycle", "cosine"], "'one_cycle' cannot follow another"),
        (["linear", "reduce_on_plateau"], "'reduce_on_plateau' cannot follow another"),
    ],
)
def test_schedulers_that_cannot_follow_each_other(schedulers: list[Any], detail: str) -> None:
    with pytest.raises(ValidationError, match=detail):
        request(scheduler=schedulers)
