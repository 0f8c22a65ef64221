"""What a plan makes of text, datetimes, many categories, and of a column that tells the split."""

from typing import Any

import pyarrow as pa
import pytest

from app.errors import FitserveError, InvalidData, InvalidRequest
from app.ml import plan
from app.ml.data.preparation import prepare
from app.ml.nn import modules
from app.ml.specs import Inputs
from app.ml.tables import json_rows, profile
from tests.support.workbench import planned, request, table_of

ROWS = 120
COLUMNS: dict[str, list[Any]] = {
    "x": [i / 7 for i in range(ROWS)],
    "day": [f"2026-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(ROWS)],
    "at": [f"2026-11-23T{i % 24:02}:{i % 60:02}:00Z" for i in range(ROWS)],
    "some day": [None if i % 4 == 0 else f"2026-11-{1 + i % 9:02}" for i in range(ROWS)],
    "city": [f"city {i % 80}" for i in range(ROWS)],
    "shop": [None if i % 5 == 0 else f"shop {i % 3}" for i in range(ROWS)],
    "patient": [f"patient {i // 4}" for i in range(ROWS)],
    "part": [["train", "train", "validation", "test"][i % 4] for i in range(ROWS)],
    "odd": [["train", "train", "validation", "dev"][i % 4] for i in range(ROWS)],
    "halves": [["train", "test"][i % 2] for i in range(ROWS)],
    "untrained": [["validation", "test"][i % 2] for i in range(ROWS)],
    "two": [["a", "b"][i // 4 % 2] for i in range(ROWS)],
    "number": [i % 3 for i in range(ROWS)],
    "y": [i / 3 for i in range(ROWS)],
}
TABLE = table_of(COLUMNS)
IN_ORDER = {"train": 0.8, "validation": 0.1, "test": 0.1, "strategy": "sequential"}
BY_COLUMN = {"strategy": "column", "column": "part"}


def refused(expected: type[FitserveError], pointer: str, **fields: Any) -> str:
    """The detail of the one error, which stands at ``pointer``."""
    with pytest.raises(expected) as caught:
        planned(TABLE, **fields)
    assert [error.pointer for error in caught.value.errors] == [pointer]
    return caught.value.errors[0].detail


# ---------------------------------------------------------------- text and datetimes

TEXTS = json_rows.from_columns(
    {
        "review": [f"this is the review with the number {i}" for i in range(40)],
        "x": [i / 7 for i in range(40)],
        "y": [i / 3 for i in range(40)],
    }
)


def planned_with_text(**fields: Any) -> plan.Plan:
    asked = request(**fields)
    told = TEXTS.table.select(asked.targets)
    return plan.plan(asked, profile.profile(TEXTS), 40, told)


def test_free_text_is_a_feature() -> None:
    made = planned_with_text()
    assert made.spec.features == ["review", "x"]
    assert made.warnings == []
    assert planned_with_text(features=["review"]).spec.features == ["review"]


@pytest.mark.parametrize("task", [None, "multiclass", "regression"])
def test_free_text_is_no_target(task: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        planned_with_text(target="review", task=task)
    [error] = caught.value.errors
    assert error.pointer == ("/task" if task else "/target")
    assert "is a text, which cannot be predicted" in error.detail


@pytest.mark.parametrize("target", ["day", "at", ["day", "y"]])
@pytest.mark.parametrize("task", [None, "binary", "regression"])
def test_a_datetime_is_no_target(target: Any, task: str | None) -> None:
    detail = refused(InvalidRequest, "/task" if task else "/target", target=target, task=task)
    assert "is a datetime, which cannot be predicted" in detail


def test_datetimes_are_features_without_being_asked_for() -> None:
    assert {"day", "at", "some day"} <= set(planned(TABLE).spec.features)


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    "features",
    [
        ["day"],
        ["at"],
        ["some day"],
        ["city"],
        ["city", "shop", "x"],
        ["x", "day", "at", "some day", "city", "shop", "number"],
    ],
)
@pytest.mark.parametrize("categories", ["auto", "one_hot", "embedding"])
@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_the_predicted_size_is_the_real_one(
    features: list[str], categories: str, model: str
) -> None:
    made = planned(
        TABLE,
        features=features,
        model=model,
        preprocessing={"categories": categories},
        split=IN_ORDER,
    )
    encoder = prepare(made.spec, TABLE).preprocessing.features
    module = modules.build(made.spec.model, encoder.inputs, 1, seed=0)
    assert made.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert made.memory_bytes > 4 * made.parameters


def test_many_categories_are_embedded_and_few_are_not() -> None:
    fields: dict[str, Any] = {"features": ["city", "shop"], "model": "linear", "split": IN_ORDER}
    auto = planned(TABLE, **fields)
    inputs = prepare(auto.spec, TABLE).preprocessing.features.inputs
    assert inputs == Inputs(4, ((82, 19),))
    assert auto.parameters == 82 * 19 + (4 + 19) + 1
    hot = planned(TABLE, **fields, preprocessing={"categories": "one_hot"})
    assert hot.parameters == 80 + 4 + 1


# ---------------------------------------------------------------- a column tells the split


def test_a_column_tells_the_parts_and_their_shares() -> None:
    made = planned(TABLE, split=BY_COLUMN)
    assert made.split == {"train": 60, "validation": 30, "test": 30}
    split = made.spec.split
    assert (split.train, split.validation, split.test) == (0.5, 0.25, 0.25)
    assert "part" not in made.spec.features
    assert made.spec.early_stopping is not None
    assert type(made.spec).model_validate_json(made.spec.model_dump_json()) == made.spec


def test_a_column_that_never_says_validation_leaves_it_empty() -> None:
    made = planned(TABLE, split={"strategy": "column", "column": "halves"})
    assert made.split == {"train": 60, "validation": 0, "test": 60}
    assert made.spec.split.validation == 0
    assert made.spec.early_stopping is None


def test_early_stopping_needs_a_row_that_says_validation() -> None:
    split = {"strategy": "column", "column": "halves"}
    refused(InvalidRequest, "/early_stopping", split=split, early_stopping={"patience": 3})


def test_a_column_without_a_training_row_is_refused() -> None:
    detail = refused(
        InvalidRequest, "/split/column", split={"strategy": "column", "column": "untrained"}
    )
    assert "no row of 'untrained' says train" in detail


def test_rows_without_a_target_do_not_count() -> None:
    values = {**COLUMNS, "y": [None if i % 4 == 3 else i / 3 for i in range(ROWS)]}
    made = planned(table_of(values), split=BY_COLUMN)
    assert made.split == {"train": 60, "validation": 30, "test": 0}
    assert made.warnings[-2:] == [
        "30 rows without a target were left out",
        "no row of 'part' says test",
    ]


def test_a_value_that_is_no_part_is_refused_with_its_row() -> None:
    detail = refused(InvalidData, "/split/column", split={"strategy": "column", "column": "odd"})
    assert "row 3 says 'dev'" in detail


@pytest.mark.parametrize("strategy", ["column", "group"])
def test_a_split_column_that_is_not_there_is_refused_with_a_guess(strategy: str) -> None:
    detail = refused(
        InvalidRequest, "/split/column", split={"strategy": strategy, "column": "patent"}
    )
    assert "did you mean 'patient'?" in detail


@pytest.mark.parametrize("strategy", ["column", "group"])
@pytest.mark.parametrize("target", ["two", ["y", "two"]])
def test_the_target_does_not_tell_the_split(strategy: str, target: Any) -> None:
    split = {"strategy": strategy, "column": "two"}
    assert "is the target" in refused(InvalidRequest, "/split/column", target=target, split=split)


@pytest.mark.parametrize("column", ["number", "day", "x"])
def test_a_split_column_of_another_type_is_refused_with_the_remedy(column: str) -> None:
    detail = refused(
        InvalidRequest, "/split/column", split={"strategy": "column", "column": column}
    )
    assert '"group"' in detail


def test_a_split_column_is_no_feature() -> None:
    detail = refused(InvalidRequest, "/features/1", features=["x", "part"], split=BY_COLUMN)
    assert "leave it out of the features" in detail


def test_classes_may_be_split_by_a_column_too() -> None:
    made = planned(TABLE, target="two", split=BY_COLUMN)
    assert made.spec.split.strategy == "column"
    grouped = planned(TABLE, target="two", split={"strategy": "group", "column": "patient"})
    assert grouped.spec.split.strategy == "group"


# ---------------------------------------------------------------- by group


@pytest.mark.parametrize("column", ["patient", "day", "x", "city"])
def test_any_column_may_group(column: str) -> None:
    made = planned(TABLE, features=["x"], split={"strategy": "group", "column": column})
    assert sum(made.split.values()) == ROWS
    assert min(made.split.values()) > 0
    parts = prepare(made.spec, TABLE)
    assert [len(parts.train), len(parts.validation), len(parts.test)] == list(made.split.values())


def test_a_group_is_left_out_of_the_features_unless_asked_for() -> None:
    split = {"strategy": "group", "column": "patient"}
    assert "patient" not in planned(TABLE, split=split).spec.features
    assert planned(TABLE, features=["patient"], split=split).spec.features == ["patient"]


def test_too_few_groups_are_refused_with_the_remedy() -> None:
    detail = refused(InvalidRequest, "/split/column", split={"strategy": "group", "column": "two"})
    assert "a column with more groups" in detail
    constant = TABLE.append_column("one", pa.array(["g"] * ROWS))
    with pytest.raises(InvalidRequest) as caught:
        planned(constant, split={"strategy": "group", "column": "one"})
    assert [error.pointer for error in caught.value.errors] == ["/split/column"]


def test_two_numbers_may_be_meant_as_classes() -> None:
    table = table_of({**COLUMNS, "bit": [i // 4 % 2 for i in range(ROWS)]})
    (warning,) = planned(table, target="bit", features=["x"]).warnings
    assert "'bit' has two distinct values" in warning
    assert '"task": "binary"' in warning
    assert planned(table, target="bit", features=["x"], task="regression").warnings == []
    assert planned(table, target="bit", features=["x"], task="binary").warnings == []
    (warning,) = planned(table, target="number", features=["x"]).warnings
    assert "'number' has 3 distinct values" in warning
    assert '"task": "multiclass"' in warning
    assert planned(table, target="x", features=["number"]).warnings == []
