"""Rows that count differently: by class, by a column, or both."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from app.errors import FitserveError, InvalidData, InvalidRequest
from app.ml.data import row_weights
from app.ml.data.preparation import prepare
from app.ml.features.preprocessing import ClassTarget
from app.ml.nn import losses
from app.ml.specs import (
    BCEWithLogitsSpec,
    CrossEntropySpec,
    HuberSpec,
    L1Spec,
    MSESpec,
    MultiMarginSpec,
)
from tests.support.workbench import Run, Workbench, planned, spec_for, table_of

ROWS = 60
_RANDOM = np.random.default_rng(3)
X = _RANDOM.normal(size=ROWS).round(3)
WEIGHTS = (_RANDOM.random(ROWS) * 4).round(2) + 0.01
COLUMNS: dict[str, list[Any]] = {
    "x": X.tolist(),
    "weight": WEIGHTS.tolist(),
    "whole": [1 + i % 3 for i in range(ROWS)],
    "below": [-1.0 if i == 7 else 1.0 for i in range(ROWS)],
    "gaps": [None if i == 7 else 1.0 for i in range(ROWS)],
    "zero": [0.0 if i % 2 else 0 for i in range(ROWS)],
    "late": [0.0] * 50 + [1.0] * 10,
    "word": ["ab"[i % 2] for i in range(ROWS)],
    "kind": [("a", "a", "a", "b", "b", "c")[i % 6] for i in range(ROWS)],
    "flag": [i % 4 == 0 for i in range(ROWS)],
    "digit": [(0, 0, 1, 7)[i % 4] for i in range(ROWS)],
    "y": (np.sin(X) + 2).round(4).tolist(),
}
TABLE = table_of(COLUMNS)
IN_ORDER = {"train": 0.6, "validation": 0.2, "test": 0.2, "strategy": "sequential"}
PLAIN = {"numbers": "none"}


def weights_of(part: str = "train", **fields: Any) -> Any:
    spec = spec_for(TABLE, features=["x"], split=IN_ORDER, **fields)
    return getattr(prepare(spec, TABLE), part).weight


def mean_one(values: Any) -> Any:
    return pytest.approx((np.array(values) / np.mean(values)).tolist(), rel=1e-6)


# ---------------------------------------------------------------- the weights


def test_without_being_asked_all_rows_count_the_same() -> None:
    assert weights_of(target="kind") is None


def test_balanced_classes_count_alike() -> None:
    """rows / (classes * rows of the class), as scikit-learn does."""
    kinds = np.array(COLUMNS["kind"][:36])
    found = weights_of(target="kind", class_weight="balanced")
    totals = [found[kinds == kind].sum() for kind in "abc"]
    assert totals == pytest.approx([12.0, 12.0, 12.0], rel=1e-5)


def test_balanced_counts_the_training_part_in_every_part() -> None:
    counts = {"a": 18, "b": 12, "c": 6}
    kinds = COLUMNS["kind"][36:48]
    expected = [36 / (3 * counts[kind]) for kind in kinds]
    found = weights_of("validation", target="kind", class_weight="balanced")
    assert found.tolist() == mean_one(expected)


@pytest.mark.parametrize(
    ("target", "told", "by_value"),
    [
        ("kind", {"a": 1.0, "b": 2.0, "c": 0.5}, {"a": 1, "b": 2, "c": 0.5}),
        ("kind", {"c": 10.0}, {"a": 1, "b": 1, "c": 10}),
        ("kind", {"a": 0.0}, {"a": 0, "b": 1, "c": 1}),
        ("flag", {"true": 3.0}, {True: 3, False: 1}),
        ("flag", {"false": 0.25, "true": 4.0}, {True: 4, False: 0.25}),
        ("digit", {"7": 5.0, "1": 2.0}, {0: 1, 1: 2, 7: 5}),
    ],
)
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_classes_count_as_told(
    target: str, told: dict[str, float], by_value: dict[Any, float], part: str
) -> None:
    task = "multiclass" if target == "digit" else None
    found = weights_of(part, target=target, task=task, class_weight=told)
    rows = {"train": slice(36), "validation": slice(36, 48), "test": slice(48, 60)}[part]
    assert found.tolist() == mean_one([by_value[value] for value in COLUMNS[target][rows]])


@pytest.mark.parametrize("column", ["weight", "whole"])
def test_a_column_says_how_much_each_row_counts(column: str) -> None:
    found = weights_of(sample_weight=column)
    assert found.tolist() == mean_one(COLUMNS[column][:36])
    assert found.dtype == np.float32


def test_both_are_multiplied() -> None:
    found = weights_of(target="kind", class_weight={"b": 3.0}, sample_weight="weight")
    factors = [3 if kind == "b" else 1 for kind in COLUMNS["kind"][:36]]
    assert found.tolist() == mean_one(np.array(factors) * WEIGHTS[:36])


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=30).filter(any),
    st.sampled_from([None, "balanced", {"a": 2.0}, {"a": 0.0, "b": 0.5}]),
)
def test_weights_are_1_on_average_over_a_part(told: list[float], by_class: Any) -> None:
    rows = len(told)
    kinds = ["ab"[i % 2] for i in range(rows)]
    spec = spec_for(TABLE, target="word", class_weight=by_class, sample_weight="weight")
    part = pa.table({"word": kinds, "weight": pa.array(told, pa.float64())})
    target = ClassTarget(names=["word"], classes=["a", "b"], outputs=2)
    weigh = row_weights.of(spec, target, part)
    try:
        found = weigh(part)
    except InvalidData:
        factors = by_class if isinstance(by_class, dict) else {}
        assert not any(v * factors.get(k, 1.0) for v, k in zip(told, kinds, strict=True))
        return
    assert found is not None
    assert float(found.mean()) == pytest.approx(1, rel=1e-4)
    assert bool((found >= 0).all())


@pytest.mark.parametrize("huge", [1e300, 1e307, 1e308])
def test_huge_weights_that_are_all_the_same_change_nothing(huge: float) -> None:
    spec = spec_for(TABLE, features=["x"], sample_weight="weight")
    table = TABLE.set_column(1, "weight", pa.array([huge] * ROWS))
    found = prepare(spec, table).train.weight
    assert found is not None
    assert found.tolist() == pytest.approx([1.0] * len(found))


def test_the_weight_is_no_feature() -> None:
    spec = spec_for(TABLE, sample_weight="weight")
    assert "weight" not in spec.features
    assert "whole" in spec.features


# ---------------------------------------------------------------- the loss


@pytest.mark.parametrize(
    ("spec", "by_hand", "classes"),
    [
        (MSESpec(), nn.MSELoss, 0),
        (L1Spec(), nn.L1Loss, 0),
        (HuberSpec(delta=0.3), nn.HuberLoss, 0),
        (BCEWithLogitsSpec(), nn.BCEWithLogitsLoss, 2),
        (CrossEntropySpec(), nn.CrossEntropyLoss, 3),
        (MultiMarginSpec(), nn.MultiMarginLoss, 3),
    ],
)
def test_a_loss_is_the_weighted_mean_of_the_rows_losses(
    spec: Any, by_hand: type[nn.Module], classes: int
) -> None:
    outputs = torch.randn(9, 3)
    y = torch.randn(9, 3)
    if classes:
        y = torch.randint(0, 3, (9,)) if classes == 3 else torch.randint(0, 2, (9, 3)).float()
    weight = torch.rand(9) * 2
    one = by_hand(**({"delta": 0.3} if isinstance(spec, HuberSpec) else {}))
    rows = [one(outputs[i : i + 1], y[i : i + 1]) * weight[i] for i in range(9)]
    found = losses.Objective(spec)(outputs, y, weight)
    torch.testing.assert_close(found, torch.stack(rows).mean())


@pytest.mark.parametrize("spec", [MSESpec(), L1Spec(), BCEWithLogitsSpec()])
def test_weights_of_1_change_nothing(spec: Any) -> None:
    outputs, y = torch.randn(9, 2), torch.randint(0, 2, (9, 2)).float()
    objective = losses.Objective(spec)
    torch.testing.assert_close(objective(outputs, y, torch.ones(9)), objective(outputs, y))


def linear(workbench: Workbench, table: pa.Table = TABLE, **fields: Any) -> Run:
    """Quick and by hand: one step an epoch, nothing scaled."""
    told: dict[str, Any] = {
        "features": ["x"],
        "split": IN_ORDER,
        "preprocessing": PLAIN,
        "model": "linear",
        "batch_size": None,
        "epochs": 4,
        "optimizer": {"kind": "sgd", "lr": 0.1},
        "early_stopping": None,
    }
    return workbench.train(table, **{**told, **fields})


def test_training_and_validation_loss_are_weighted(workbench: Workbench) -> None:
    run = linear(
        workbench, sample_weight="weight", preprocessing={"numbers": "none", "target": "none"}
    )
    x = torch.tensor(X, dtype=torch.float32)[:, None]
    y = torch.tensor(COLUMNS["y"])[:, None]
    scale = torch.tensor(WEIGHTS, dtype=torch.float32)[:, None]
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen: dict[str, list[float]] = {"train_loss": [], "validation_loss": []}

    def loss(rows: slice) -> torch.Tensor:
        errors: torch.Tensor = (model(x[rows]) - y[rows]) ** 2 * scale[rows]
        return errors.sum() / scale[rows].sum()

    for _ in range(4):
        objective = loss(slice(36))
        optimizer.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen["train_loss"].append(objective.item())
        seen["validation_loss"].append(loss(slice(36, 48)).item())
    for name, values in seen.items():
        assert run.series(name) == pytest.approx(values, rel=1e-4)


def test_the_training_loss_is_the_weighted_mean_over_batches_too(workbench: Workbench) -> None:
    fields: dict[str, Any] = {"sample_weight": "weight", "optimizer": {"kind": "sgd", "lr": 1e-12}}
    whole, sliced = linear(workbench, **fields), linear(workbench, **fields, batch_size=7)
    assert sliced.series("train_loss") == pytest.approx(whole.series("train_loss"), rel=1e-5)


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize(
    "model", ["linear", {"kind": "mlp", "hidden": [4]}, {"kind": "tabular", "bins": 3}]
)
def test_a_target_that_counts_0_has_no_influence(
    workbench: Workbench, batch_size: int | None, model: Any
) -> None:
    random = np.random.default_rng(0)
    weight = [float(i % 3 > 0) for i in range(ROWS)]
    other = [v if w else float(random.normal()) for v, w in zip(COLUMNS["y"], weight, strict=True)]
    one = table_of({"x": COLUMNS["x"], "w": weight, "y": COLUMNS["y"]})
    two = table_of({"x": COLUMNS["x"], "w": weight, "y": other})
    fields: dict[str, Any] = {
        "sample_weight": "w",
        "preprocessing": {"numbers": "none", "target": "none"},
        "batch_size": batch_size,
        "model": model,
    }
    first, again = linear(workbench, one, **fields), linear(workbench, two, **fields)
    assert first.weights_sha256 == again.weights_sha256
    assert first.series("validation_loss") == again.series("validation_loss")


def test_features_of_a_row_that_counts_0_have_no_influence(workbench: Workbench) -> None:
    """Where nothing is scaled; scales are those of all rows of the training part."""
    weight = [float(i % 3 > 0) for i in range(ROWS)]
    other = [v if w else 50.0 + v for v, w in zip(COLUMNS["x"], weight, strict=True)]
    one = table_of({"x": COLUMNS["x"], "w": weight, "y": COLUMNS["y"]})
    two = table_of({"x": other, "w": weight, "y": COLUMNS["y"]})
    fields: dict[str, Any] = {
        "sample_weight": "w",
        "preprocessing": {"numbers": "none", "target": "none"},
    }
    found = [
        load_file(linear(workbench, table, **fields).folder / "weights.safetensors")
        for table in (one, two)
    ]
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name])


def test_a_class_that_counts_more_is_predicted_more(workbench: Workbench) -> None:
    random = np.random.default_rng(0)
    table = table_of(
        {"x": random.normal(size=200).tolist(), "y": ["ab"[i % 10 == 0] for i in range(200)]}
    )
    fields: dict[str, Any] = {"model": "linear", "optimizer": {"kind": "adam", "lr": 0.1}}
    plain = workbench.train(table, **fields, epochs=40)
    balanced = workbench.train(table, **fields, epochs=40, class_weight="balanced")

    def share(run: Run) -> float:
        predictor = run.predictor
        return float(predictor.target.probabilities(predictor.outputs(table))[:, 1].mean())  # type: ignore[union-attr]

    assert share(plain) < 0.25
    assert 0.35 < share(balanced) < 0.65


def test_a_batch_of_rows_that_all_count_0_is_no_trouble(workbench: Workbench) -> None:
    weight = [1.0] * 12 + [0.0] * 24 + [1.0] * 24
    table = table_of({"x": COLUMNS["x"], "w": weight, "y": COLUMNS["y"]})
    run = linear(workbench, table, sample_weight="w", batch_size=2)
    assert all(math.isfinite(value) for value in run.series("train_loss"))


# ---------------------------------------------------------------- refusals


def refused(pointer: str, expected: type[FitserveError] = InvalidRequest, **fields: Any) -> str:
    """The detail of the one error, which stands at ``pointer``."""
    with pytest.raises(expected) as caught:
        planned(TABLE, **{"features": ["x"], "split": IN_ORDER, **fields})
    assert [error.pointer for error in caught.value.errors] == [pointer]
    return caught.value.errors[0].detail


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("wieght", "did you mean 'weight'?"),
        ("word", "is a category"),
        ("flag", "is a boolean"),
        ("gaps", "is missing in 1 rows; every row needs a weight"),
        ("below", "holds -1; a weight is not below 0"),
        ("zero", "is 0 in every row"),
        ("y", "is the target; name another column"),
        ("late", "every row of the train part has the weight 0"),
    ],
)
def test_a_column_that_does_not_weigh_is_refused(column: str, said: str) -> None:
    assert said in refused("/sample_weight", sample_weight=column)


def test_a_feature_is_no_weight() -> None:
    detail = refused("/sample_weight", features=["x", "whole"], sample_weight="whole")
    assert "is a feature; leave it out" in detail


@pytest.mark.parametrize("target", ["y", ["y", "x"], ["flag", "other"]])
@pytest.mark.parametrize("told", ["balanced", {"a": 2.0}])
def test_only_classes_have_class_weights(target: Any, told: Any) -> None:
    table = TABLE.append_column("other", pa.array([i % 5 == 0 for i in range(ROWS)]))
    with pytest.raises(InvalidRequest) as caught:
        planned(table, target=target, features=["whole"], class_weight=told)
    [error] = caught.value.errors
    assert error.pointer == "/class_weight"
    assert "sample_weight" in error.detail


@pytest.mark.parametrize(
    ("target", "told", "there_are"),
    [
        ("kind", {"d": 1.0}, "'a', 'b', 'c'"),
        ("flag", {"True": 1.0}, "'false', 'true'"),
        ("digit", {"7.0": 1.0}, "'0', '1', '7'"),
    ],
)
def test_an_unknown_class_is_refused_with_those_there_are(
    target: str, told: dict[str, float], there_are: str
) -> None:
    task = "multiclass" if target == "digit" else None
    detail = refused("/class_weight", target=target, task=task, class_weight=told)
    assert there_are in detail


def test_weights_by_which_no_row_counts_are_refused() -> None:
    """Not by a job that fails later."""
    refused("/class_weight", target="kind", class_weight={"a": 0.0, "b": 0.0, "c": 0.0})


def test_weights_that_leave_nothing_together_are_refused() -> None:
    table = TABLE.append_column("only a", pa.array([float(k == "a") for k in COLUMNS["kind"]]))
    with pytest.raises(InvalidRequest) as caught:
        planned(
            table,
            target="kind",
            features=["x"],
            class_weight={"a": 0.0},
            sample_weight="only a",
        )
    assert [e.pointer for e in caught.value.errors] in (["/sample_weight"], ["/class_weight"])
