"""A request meets a table: gaps are filled, and what cannot work is refused with the remedy."""

from typing import Any

import pytest

from app import names
from app.errors import FitserveError, InvalidData, InvalidRequest
from app.ml.column_types.categories import ONE_HOT_LIMIT
from app.ml.data.preparation import prepare
from app.ml.nn import modules
from app.ml.specs import (
    AdamWSpec,
    CosineSpec,
    CrossEntropySpec,
    EarlyStoppingSpec,
    MSESpec,
    TabularSpec,
)
from tests.support.workbench import planned, spec_for, table_of

ROWS = 100
TABLE = table_of(
    {
        "carat": [0.2 + i % 37 / 10 for i in range(ROWS)],
        "cut": [["Ideal", "Good", "Fair"][i % 3] for i in range(ROWS)],
        "sold": [i % 4 == 0 for i in range(ROWS)],
        "gift": [i % 5 == 0 for i in range(ROWS)],
        "grade": [i % 4 for i in range(ROWS)],
        "pair": [i % 2 for i in range(ROWS)],
        "price": [10.5 * i for i in range(ROWS)],
        "constant": [1] * ROWS,
        "empty": [None] * ROWS,
        "id": list(range(ROWS)),
        "name": [f"stone {i}" for i in range(ROWS)],
    }
)


def refused(expected: type[FitserveError], pointer: str, **fields: Any) -> str:
    """The detail of the one error, which stands at ``pointer``."""
    with pytest.raises(expected) as caught:
        planned(TABLE, **fields)
    assert [error.pointer for error in caught.value.errors] == [pointer]
    return caught.value.errors[0].detail


# ---------------------------------------------------------------- defaults


def test_every_gap_is_filled_for_regression() -> None:
    spec = spec_for(TABLE, target="price")
    assert spec.task == "regression"
    assert spec.features == ["carat", "cut", "sold", "gift", "grade", "pair"]
    assert (spec.split.train, spec.split.validation, spec.split.test) == (0.8, 0.1, 0.1)
    assert spec.split.strategy == "random"
    assert spec.preprocessing.target == "standard"
    assert spec.model == TabularSpec(bins=2)
    assert spec.loss == MSESpec()
    assert spec.optimizer == AdamWSpec(lr=2e-3, weight_decay=0.3)
    assert spec.scheduler == CosineSpec()
    assert spec.ema_decay == 0.99
    assert spec.epochs == 100
    assert spec.batch_size == 32
    assert spec.early_stopping == EarlyStoppingSpec(patience=10, min_delta=0)
    assert spec.register_as is None


def test_every_gap_is_filled_for_classification() -> None:
    spec = spec_for(TABLE, target="cut")
    assert spec.task == "multiclass"
    assert spec.split.strategy == "stratified"
    assert spec.preprocessing.target == "none"
    assert spec.loss == CrossEntropySpec()


def test_what_was_given_is_kept() -> None:
    fields: dict[str, Any] = {
        "target": "cut",
        "features": ["price", "carat"],
        "split": {"train": 0.5, "validation": 0.25, "test": 0.25, "strategy": "random", "seed": 9},
        "model": {"kind": "mlp", "hidden": [3]},
        "optimizer": {"kind": "sgd", "lr": 0.5},
        "epochs": 7,
        "batch_size": 11,
        "early_stopping": None,
        "register_as": "cuts",
        "metadata": {"a": "b"},
    }
    spec = spec_for(TABLE, **fields).model_dump(mode="json")
    for name in ("target", "features", "epochs"):
        assert spec[name] == fields[name]
    assert spec["split"] == fields["split"]
    assert spec["model"]["hidden"] == [3]
    assert spec["optimizer"]["lr"] == 0.5
    assert (spec["batch_size"], spec["register_as"]) == (11, "cuts")
    assert spec["early_stopping"] is None
    assert spec["metadata"] == {"a": "b"}


@pytest.mark.parametrize(
    ("target", "task", "loss"),
    [
        ("price", "regression", "mse"),
        ("grade", "regression", "mse"),
        ("cut", "multiclass", "cross_entropy"),
        ("sold", "binary", "bce_with_logits"),
        (["sold", "gift"], "multilabel", "bce_with_logits"),
        (["price", "carat"], "regression", "mse"),
    ],
)
def test_the_task_follows_from_the_targets(target: Any, task: str, loss: str) -> None:
    spec = spec_for(TABLE, target=target)
    assert (spec.task, spec.loss.kind) == (task, loss)


@pytest.mark.parametrize(
    ("target", "task"),
    [("grade", "multiclass"), ("pair", "binary"), ("pair", "multiclass"), ("sold", "multiclass")],
)
def test_whole_numbers_and_booleans_may_be_classes_when_asked(target: str, task: str) -> None:
    assert spec_for(TABLE, target=target, task=task).task == task


def test_two_classes_of_text_are_binary() -> None:
    table = table_of({"x": list(range(40)), "y": ["a", "b"] * 20})
    assert spec_for(table).task == "binary"


@pytest.mark.parametrize(
    ("rows", "batch"), [(10, 8), (50, 32), (6000, 64), (32_000, 256), (200_000, 1024)]
)
def test_the_automatic_batch_grows_with_the_table(rows: int, batch: int) -> None:
    table = table_of({"x": list(range(rows)), "y": [i / 2 for i in range(rows)]})
    assert spec_for(table).batch_size == batch


def test_null_is_one_step_with_all_rows() -> None:
    assert spec_for(TABLE, target="price", batch_size=None).batch_size is None


def test_early_stopping_is_the_default_only_with_a_validation_part() -> None:
    split = {"train": 0.8, "validation": 0.0, "test": 0.2}
    assert spec_for(TABLE, target="price", split=split).early_stopping is None
    assert spec_for(TABLE, target="price").early_stopping is not None
    assert spec_for(TABLE, target="price", early_stopping=None).early_stopping is None


# ---------------------------------------------------------------- what is left out


def test_constants_and_identifiers_are_left_out_with_a_warning() -> None:
    made = planned(TABLE, target="price")
    assert [warning.split("'")[1] for warning in made.warnings] == [
        "constant",
        "empty",
        "id",
        "name",
    ]


def test_features_that_were_named_stay() -> None:
    made = planned(TABLE, target="price", features=["constant", "id", "name"])
    assert made.spec.features == ["constant", "id", "name"]
    assert made.warnings == []


def test_rows_without_a_target_are_dropped_and_counted() -> None:
    table = table_of(
        {
            "x": list(range(50)),
            "y": [None if i % 10 == 0 else i / 2 for i in range(50)],
            "z": [None if i < 5 else i / 3 for i in range(50)],
        }
    )
    one = planned(table, features=["x"])
    assert one.warnings == ["5 rows without a target were left out"]
    assert one.split == {"train": 36, "validation": 4, "test": 5}
    two = planned(table, target=["y", "z"])
    assert two.warnings == ["9 rows without a target were left out"]
    assert sum(two.split.values()) == 41


# ---------------------------------------------------------------- refusals


def test_an_unknown_column_is_refused_with_a_guess() -> None:
    assert refused(InvalidRequest, "/target", target="pricce") == (
        "unknown column 'pricce'; did you mean 'price'?"
    )
    assert "'carat'" in refused(InvalidRequest, "/target", target="zzz")
    assert "did you mean 'cut'" in refused(
        InvalidRequest, "/features/1", target="price", features=["carat", "cutt"]
    )
    assert "did you mean 'gift'" in refused(InvalidRequest, "/target/1", target=["sold", "gifts"])


def test_a_guess_is_never_long() -> None:
    assert len(names.unknown("column", "x" * 1000, ["x" * 1001])) < 300
    assert len(names.unknown("column", "q" * 1000, [str(i) * 500 for i in range(500)])) < 2000


def test_the_target_is_no_feature() -> None:
    refused(InvalidRequest, "/features/0", target="price", features=["price"])


@pytest.mark.parametrize(
    ("target", "found"), [("constant", "only one value"), ("empty", "no value")]
)
def test_a_constant_target_is_refused(target: str, found: str) -> None:
    assert found in refused(InvalidData, "/target", target=target)


def test_a_table_without_features_is_refused() -> None:
    table = table_of({"y": [1, 2, 3], "c": [1, 1, 1]})
    with pytest.raises(InvalidRequest, match="no column is left"):
        planned(table)


@pytest.mark.parametrize(
    ("target", "loss", "remedy"),
    [
        ("price", "cross_entropy", "'mse' or 'l1'"),
        ("price", "bce_with_logits", "'mse' or 'l1'"),
        ("cut", "mse", "'cross_entropy'"),
        ("cut", "bce_with_logits", "'cross_entropy'"),
        (["sold", "gift"], "cross_entropy", "'bce_with_logits'"),
    ],
)
def test_a_loss_that_does_not_fit_the_task_is_refused(target: Any, loss: str, remedy: str) -> None:
    assert remedy in refused(InvalidRequest, "/loss", target=target, loss=loss)


@pytest.mark.parametrize(
    ("target", "task", "remedy"),
    [
        ("cut", "regression", '"task": "multiclass"'),
        ("sold", "regression", '"task": "binary"'),
        ("cut", "binary", '"multiclass"'),
        ("price", "multiclass", '"regression"'),
        ("cut", "multilabel", "boolean"),
        (["sold", "gift"], "binary", "multilabel"),
    ],
)
def test_a_task_that_does_not_fit_the_target_is_refused(
    target: Any, task: str, remedy: str
) -> None:
    assert remedy in refused(InvalidRequest, "/task", target=target, task=task)


def test_targets_of_different_types_are_refused() -> None:
    refused(InvalidRequest, "/target", target=["price", "cut"])


def test_stratified_is_refused_for_regression() -> None:
    split = {"strategy": "stratified"}
    assert "random" in refused(InvalidRequest, "/split/strategy", target="price", split=split)


def test_scaling_a_class_is_refused() -> None:
    refused(
        InvalidRequest, "/preprocessing/target", target="cut", preprocessing={"target": "standard"}
    )


@pytest.mark.parametrize("part", ["validation", "test"])
def test_an_empty_part_is_refused(part: str) -> None:
    fractions = {"train": 0.995, "validation": 0.0, "test": 0.0} | {part: 0.005}
    if part == "test":  # the rest is test's, so it takes few rows to leave none
        fractions = {"train": 1 - 1e-12, "validation": 0.0, "test": 1e-12}
    refused(InvalidRequest, f"/split/{part}", target="price", split=fractions)


def test_an_empty_training_part_is_refused() -> None:
    split = {"train": 0.001, "validation": 0.0, "test": 0.999}
    refused(InvalidRequest, "/split/train", target="price", split=split)


def test_a_batch_larger_than_the_training_part_is_refused() -> None:
    assert "80" in refused(InvalidRequest, "/batch_size", target="price", batch_size=81)
    assert spec_for(TABLE, target="price", batch_size=80).batch_size == 80


def test_early_stopping_without_a_validation_part_is_refused() -> None:
    refused(
        InvalidRequest,
        "/early_stopping",
        target="price",
        split={"train": 0.8, "validation": 0.0, "test": 0.2},
        early_stopping={"patience": 3},
    )


def test_batch_norm_with_batches_of_one_row_is_refused() -> None:
    """torch cannot normalise one row, so the job could only fail later."""
    with pytest.raises(InvalidRequest):
        planned(TABLE, target="price", model={"kind": "mlp", "norm": "batch"}, batch_size=1)


# ---------------------------------------------------------------- what is known beforehand


@pytest.mark.parametrize(
    "fields",
    [
        {"target": "price"},
        {"target": "price", "model": "linear"},
        {"target": "cut", "features": ["price", "grade"]},
        {"target": "sold", "loss": "cross_entropy"},
        {"target": "sold"},
        {"target": ["sold", "gift"], "model": {"kind": "mlp", "hidden": [5], "norm": "layer"}},
        {"target": ["price", "carat"]},
    ],
)
def test_the_predicted_size_is_the_real_one(fields: dict[str, Any]) -> None:
    made = planned(TABLE, **fields)
    fitted = prepare(made.spec, TABLE)
    inputs, outputs = fitted.preprocessing.features.inputs, fitted.preprocessing.target.outputs
    module = modules.build(made.spec.model, inputs, outputs, seed=0)
    assert made.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert made.memory_bytes > 4 * made.parameters
    parts = (fitted.train, fitted.validation, fitted.test)
    assert list(made.split.values()) == [len(part) for part in parts]


def test_many_categories_are_counted_up_to_the_limit() -> None:
    rows = 3 * ONE_HOT_LIMIT
    table = table_of(
        {
            "c": [f"c{i % (2 * ONE_HOT_LIMIT)}" for i in range(rows)],
            "y": [i / 2 for i in range(rows)],
        }
    )
    made = planned(table, model="linear", preprocessing={"categories": "one_hot"})
    assert made.parameters == ONE_HOT_LIMIT + 1
