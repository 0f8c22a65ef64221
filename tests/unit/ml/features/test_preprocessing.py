"""Columns to matrices and back, fitted on the training part only."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRequest
from app.ml.column_types.categories import ONE_HOT_LIMIT
from app.ml.column_types.numbers import NumberFeature
from app.ml.data import preparation
from app.ml.data.preparation import Prepared
from app.ml.features import preprocessing
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets, Preprocessing
from tests.support.workbench import spec_for, table_of

HALVES = {"train": 0.5, "validation": 0.0, "test": 0.5, "strategy": "sequential"}
"""The first half of the rows trains, the second tests."""


def prepare(table: pa.Table, **fields: Any) -> Prepared:
    return preparation.prepare(spec_for(table, **{"split": HALVES, **fields}), table)


def prepare_one(values: list[Any], **fields: Any) -> Prepared:
    """One feature ``x`` and a target that nobody looks at."""
    targets = [float(i) for i in range(len(values))]
    return prepare(table_of({"x": values, "y": targets}), features=["x"], **fields)


def numbers(**options: Any) -> dict[str, Any]:
    return {"preprocessing": options}


# ---------------------------------------------------------------- numbers


def test_standardisation_is_fitted_on_the_training_part_only() -> None:
    train, test = [1.0, 2.0, 3.0, 6.0], [100.0, 0.0, -50.0, 3.0]
    made = prepare_one(train + test)
    mean, std = np.mean(train), np.std(train)
    assert made.train.x[:, 0] == pytest.approx((np.array(train) - mean) / std)
    assert made.test.x[:, 0] == pytest.approx((np.array(test) - mean) / std)
    assert made.train.x.dtype == np.float32


def test_robust_scaling_is_by_median_and_quartiles() -> None:
    train, test = [1.0, 2.0, 3.0, 1000.0], [2.0, 2.0, 4.0, 5.0]
    made = prepare_one(train + test, **numbers(numbers="robust"))
    low, middle, high = np.quantile(train, [0.25, 0.5, 0.75])
    assert made.test.x[:, 0] == pytest.approx((np.array(test) - middle) / (high - low))


def test_robust_scaling_falls_back_where_the_quartiles_agree() -> None:
    train = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 8.0]
    made = prepare_one([*train, *train], **numbers(numbers="robust"))
    assert made.train.x[-1, 0] == pytest.approx(8 / np.std(train))


def test_none_leaves_numbers_as_they_are() -> None:
    values = [1.0, 2.5, -3.0, 6.0]
    made = prepare_one(values, **numbers(numbers="none"))
    assert made.train.x[:, 0].tolist() == values[:2]


@pytest.mark.parametrize(
    ("value", "count"), [(0.1, 3), (0.7, 100), (123456.789, 10), (5.0, 10), (0.0, 10)]
)
def test_a_column_that_is_constant_in_training_is_not_blown_up(value: float, count: int) -> None:
    """The mean of equal floats may be off by one bit; that is no spread to divide by."""
    made = prepare_one([value] * count + [value + 1] * count)
    assert np.abs(made.train.x).max() < 1e-3
    assert made.test.x == pytest.approx(1.0, abs=1e-3)


def test_missing_numbers_are_imputed_and_indicated() -> None:
    made = prepare_one([1.0, None, 5.0, 3.0, None, 9.0, 1.0, 1.0])
    assert made.train.x.shape == (4, 2)
    assert made.train.x[:, 1].tolist() == [0, 1, 0, 0]
    assert made.train.x[1, 0] == 0.0  # the mean, standardised
    assert made.test.x[0].tolist() == [0.0, 1.0]


def test_the_median_is_imputed_where_scaling_is_robust() -> None:
    made = prepare_one([1.0, None, 2.0, 90.0] * 2, **numbers(numbers="robust"))
    feature = made.preprocessing.features.features[0]
    assert isinstance(feature, NumberFeature)
    assert feature.fill == 2.0


def test_what_is_missing_only_outside_training_has_no_indicator() -> None:
    made = prepare_one([1.0, 3.0, None, 1.0])
    assert made.train.x.shape[1] == 1
    assert made.test.x[0, 0] == 0.0


def test_a_number_that_is_missing_throughout_training() -> None:
    made = prepare_one([None, None, 7.0, None])
    assert made.train.x.tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert np.isfinite(made.test.x).all()


def test_numbers_beyond_float32_are_refused_with_the_column() -> None:
    with pytest.raises(InvalidRequest, match=r"'x'.*float32"):
        prepare_one([1e39, 2.0, 3.0, 4.0], **numbers(numbers="none"))
    assert np.isfinite(prepare_one([1e39, 2.0, 3.0, 4.0]).train.x).all()


def test_numbers_whose_spread_overflows_are_refused_not_warned_of() -> None:
    with pytest.raises(InvalidRequest, match="'x'"):
        prepare_one([1e200, -1e200, 1e200, 4.0])


# ---------------------------------------------------------------- booleans and categories


def test_booleans_are_0_and_1_and_missing_is_the_more_frequent() -> None:
    made = prepare_one([True, True, False, None, False, None, True, False])
    assert made.train.x.tolist() == [[1, 0], [1, 0], [0, 0], [1, 1]]
    assert made.test.x.tolist() == [[0, 0], [1, 1], [1, 0], [0, 0]]


def test_categories_have_one_slot_each_the_most_frequent_first() -> None:
    made = prepare_one(["b", "a", "a", "c", "c", "unseen", "b", "a"])
    assert made.train.x.tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert made.test.x.tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_a_missing_category_has_its_own_slot_where_training_knew_it() -> None:
    made = prepare_one(["a", None, "b", "a", None, "a", "b", "unseen"])
    assert made.train.x.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert made.test.x.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_missing_category_that_training_did_not_know_is_the_zero_vector() -> None:
    made = prepare_one(["a", "b", None, "a"])
    assert made.test.x.tolist() == [[0, 0], [1, 0]]


def test_a_category_that_is_missing_throughout_training() -> None:
    made = prepare_one([None, None, "a", None])
    assert made.train.x.tolist() == [[1], [1]]
    assert made.test.x.tolist() == [[0], [1]]


def test_rare_categories_beyond_the_limit_share_the_zero_vector() -> None:
    frequent = [f"f{i:03}" for i in range(ONE_HOT_LIMIT)]
    train = frequent * 2 + [f"rare{i}" for i in range(20)]
    made = prepare_one(train + train, **numbers(categories="one_hot"))
    assert made.train.x.shape[1] == ONE_HOT_LIMIT
    assert made.train.x[: len(frequent)].sum(axis=1).tolist() == [1] * ONE_HOT_LIMIT
    assert not made.train.x[-20:].any()


# ---------------------------------------------------------------- the whole


def mixed_table(rows: int = 60) -> pa.Table:
    random = np.random.default_rng(0)
    return table_of(
        {
            "n": [None if i % 7 == 0 else float(v) for i, v in enumerate(random.normal(size=rows))],
            "w": random.integers(0, 100, rows).tolist(),
            "c": [None if i % 11 == 0 else "xyz"[i % 3] for i in range(rows)],
            "b": [None if i % 13 == 0 else i % 2 == 0 for i in range(rows)],
            "y": random.normal(50, 9, rows).tolist(),
            "z": random.normal(0, 1e-6, rows).tolist(),
            "label": [f"class {i % 3}" for i in range(rows)],
            "flag": [i % 3 == 0 for i in range(rows)],
        }
    )


@pytest.mark.parametrize("target", ["y", ["y", "z"], "label", "flag", ["flag"]])
@pytest.mark.parametrize("scaling", ["standard", "robust", "quantile", "none"])
def test_preprocessing_survives_json_exactly(target: Any, scaling: str) -> None:
    table = mixed_table()
    fields: dict[str, Any] = {"target": target, "features": ["n", "w", "c", "b"]}
    if target == ["flag"]:
        fields["task"] = "multilabel"
    made = prepare(table, **fields, **numbers(numbers=scaling))
    again = Preprocessing.model_validate_json(made.preprocessing.model_dump_json())
    assert again == made.preprocessing
    for part, half in ((made.train, table.slice(0, 30)), (made.test, table.slice(30))):
        assert again.features.encode(half).tobytes() == part.x.tobytes()
        assert again.target.encode(half).tobytes() == part.y.tobytes()


def test_rows_without_a_target_are_in_no_part() -> None:
    table = table_of({"x": list(range(8)), "y": [None, 1.0, 2.0, None, 4.0, 5.0, 6, 7]})
    made = prepare(table, **numbers(numbers="none"))
    assert made.train.x[:, 0].tolist() == made.train.table["y"].to_pylist() == [1, 2, 4]
    assert made.test.x[:, 0].tolist() == made.test.table["y"].to_pylist() == [5, 6, 7]


# ---------------------------------------------------------------- targets


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=30),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
)
def test_decoding_undoes_encoding(values: list[float], center: float, scale: float) -> None:
    table = pa.table({"y": pa.array(values, pa.float64())})
    target = NumberTargets(names=["y"], center=[center], scale=[scale])
    again = target.decode(target.encode(table))[:, 0]
    assert again == pytest.approx(
        values, rel=1e-6, abs=1e-6 * max(1.0, abs(center), *np.abs(values))
    )


def test_the_target_is_scaled_by_the_training_part_only() -> None:
    table = table_of({"x": [1, 2, 3, 4], "y": [1.0, 3.0, 100.0, -100.0]})
    made = prepare(table)
    assert made.train.y.tolist() == [[-1.0], [1.0]]
    assert made.test.y.tolist() == [[98.0], [-102.0]]


def test_a_target_that_is_constant_in_training_keeps_its_scale() -> None:
    made = prepare(table_of({"x": [1, 2, 3, 4], "y": [3.0, 3.0, 5.0, 3.0]}))
    assert made.train.y.tolist() == [[0.0], [0.0]]
    assert made.test.y.tolist() == [[2.0], [0.0]]


def test_a_target_beyond_float32_is_refused() -> None:
    table = table_of({"x": [1, 2, 3, 4], "y": [1e39, 3.0, 5.0, 3.0]})
    with pytest.raises(InvalidRequest, match=r"'y'.*float32"):
        prepare(table, **numbers(target="none"))


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([2, 1, 3, 1, 3, 1, 3, 2], [1, 2, 3]),
        (["b", "a", "c", "a", "c", "a", "c", "b"], ["a", "b", "c"]),
        ([True, False] * 4, [False, True]),
        (["true", "1"] * 4, ["1", "true"]),
    ],
)
def test_class_labels_keep_their_type_through_json(
    values: list[Any], classes: list[bool | int | str]
) -> None:
    task = "binary" if len(classes) == 2 else "multiclass"
    table = table_of({"x": list(range(8)), "y": values})
    made = prepare(table, task=task, split={**HALVES, "strategy": "sequential"})
    again = Preprocessing.model_validate_json(made.preprocessing.model_dump_json()).target
    assert isinstance(again, ClassTarget)
    assert again.classes == classes
    assert [type(label) for label in again.classes] == [type(label) for label in classes]
    assert again.codes(table).tolist() == [classes.index(value) for value in values]


def test_two_classes_have_one_logit_or_two_outputs_by_the_loss() -> None:
    table = table_of({"x": list(range(8)), "y": ["a", "b"] * 4})
    one, two = prepare(table), prepare(table, loss="cross_entropy")
    assert one.train.y.shape == (4, 1)
    assert one.train.y.dtype == np.float32
    assert two.train.y.shape == (4,)
    assert two.train.y.dtype == np.int64


@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1))
def test_class_probabilities_are_the_softmax(logits: list[list[float]]) -> None:
    target = ClassTarget(names=["y"], classes=["a", "b", "c"], outputs=3)
    shares = target.probabilities(np.array(logits, dtype=np.float32))
    assert shares.sum(axis=1) == pytest.approx(1.0)
    assert (shares >= 0).all()
    assert (shares[np.arange(len(logits)), np.argmax(logits, axis=1)] == shares.max(axis=1)).all()


def test_one_logit_gives_the_sigmoid() -> None:
    target = ClassTarget(names=["y"], classes=["a", "b"], outputs=1)
    shares = target.probabilities(np.array([[0.0], [2.0], [-1000.0]], dtype=np.float32))
    assert shares[:, 1] == pytest.approx([0.5, 1 / (1 + np.exp(-2)), 0.0])
    assert shares[:, 0] == pytest.approx(1 - shares[:, 1])


@pytest.mark.parametrize(("logit", "share"), [(0.0, 0.5), (1000.0, 1.0), (-1000.0, 0.0)])
def test_label_probabilities_are_sigmoids_however_far_out(logit: float, share: float) -> None:
    target = LabelTargets(names=["a"])
    assert target.probabilities(np.array([[logit]], dtype=np.float32))[0, 0] == share


def test_complete_rows_and_class_codes() -> None:
    table = table_of({"y": ["b", None, "a"], "x": [1, 2, 3]})
    spec = spec_for(table_of({"y": ["b", "c", "a"] * 9, "x": list(range(27))}), features=["x"])
    assert preprocessing.complete_rows(spec, table).tolist() == [0, 2]
    assert preprocessing.classes_of(table["y"]) == ["a", "b"]
    assert preprocessing.class_codes(table["y"]).tolist() == [1, -1, 0]
