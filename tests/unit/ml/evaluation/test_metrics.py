"""Metrics against scikit-learn and by hand; what is not defined is None."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from app.ml.evaluation import metrics
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets
from app.ml.finite import Metrics
from app.ml.specs.metrics import METRICS
from tests.support.workbench import table_of


def column(*values: float) -> Any:
    return np.array(values, dtype=np.float64)[:, None]


def regression(true: Any, predicted: Any, quantile: float | None = None) -> Metrics:
    """Of ``(rows, targets)``."""
    names = [f"y{i}" for i in range(true.shape[1])]
    ones = [1.0] * len(names)
    target = NumberTargets(names=names, center=ones, scale=ones, quantile=quantile)
    table = pa.table(dict(zip(names, true.T, strict=True)))
    return metrics.measured(target, table, predicted)


def classification(true: Any, shares: Any, threshold: float = 0.5) -> Metrics:
    """Of class numbers ``(rows,)``, those below 0 unknown, and ``(rows, classes)``."""
    count = shares.shape[1]
    target = ClassTarget(
        names=["y"], classes=list(range(count)), outputs=count, threshold=threshold
    )
    return metrics.measured(target, pa.table({"y": true}), shares)


def multilabel(true: Any, shares: Any) -> Metrics:
    """Of ``(rows, labels)``."""
    names = [f"y{i}" for i in range(true.shape[1])]
    table = pa.table(dict(zip(names, true.T == 1, strict=True)))
    return metrics.measured(LabelTargets(names=names), table, shares)


# ---------------------------------------------------------------- regression


def test_regression_by_hand() -> None:
    found = regression(column(1, 2, 3, 6), column(1, 3, 3, 4))
    assert found["mae"] == pytest.approx(0.75)
    assert found["rmse"] == pytest.approx(np.sqrt(5 / 4))
    assert found["r2"] == pytest.approx(1 - 5 / 14)


def test_several_targets_are_averaged() -> None:
    true = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    guess = np.array([[1.0, 11.0], [3.0, 20.0], [4.0, 43.0]])
    each = [regression(true[:, [i]], guess[:, [i]]) for i in range(2)]
    both = regression(true, guess)
    for name in ("mae", "rmse", "r2"):
        assert both[name] == pytest.approx(np.mean([one[name] or 0.0 for one in each]))


def test_one_row_has_no_r2() -> None:
    found = regression(column(1), column(2))
    assert (found["mae"], found["rmse"], found["r2"]) == (1.0, 1.0, None)


def test_the_other_metrics_of_numbers_are_scikit_learns() -> None:
    true, guess = column(1, 2, -3, 6), column(1.5, 3, -3, 4)
    found = regression(true, guess, quantile=0.9)
    assert found["r2"] == pytest.approx(sk.r2_score(true, guess))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(true, guess))
    assert found["median_absolute_error"] == sk.median_absolute_error(true, guess)
    assert found["mape"] == pytest.approx(sk.mean_absolute_percentage_error(true, guess))
    assert found["pinball"] == pytest.approx(sk.mean_pinball_loss(true, guess, alpha=0.9))
    assert "pinball" not in regression(true, guess), "nothing says of which quantile"
    assert regression(column(1, 0), column(1, 1))["mape"] is None, "a share of nothing"


def test_r2_of_what_does_not_vary_is_scikit_learns() -> None:
    true = np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    for guess in (true, true + np.array([[0, 1], [0, 0], [1, 0]])):
        assert regression(true, guess)["r2"] == pytest.approx(sk.r2_score(true, guess))


def test_metrics_are_in_the_targets_own_units() -> None:
    target = NumberTargets(names=["y"], center=[100.0], scale=[10.0])
    table = table_of({"y": [90.0, 115.0]})
    outputs = np.array([[-1.0], [1.0]], dtype=np.float32)  # 90 and 110
    found = metrics.score(target, table, outputs)
    assert found["mae"] == pytest.approx(2.5)


def test_what_is_not_finite_is_none() -> None:
    """An output can overflow on a test row although every watched loss was finite."""
    target = NumberTargets(names=["y"], center=[0.0], scale=[1.0])
    table = table_of({"y": [1.0, 2.0]})
    outputs = np.array([[np.inf], [1.0]], dtype=np.float32)
    found = metrics.score(target, table, outputs)
    assert {"mae", "rmse", "r2"} < found.keys()
    assert set(found.values()) == {None}
    assert metrics.score(target, table, outputs, ["rmse"]) == {"rmse": None}


# ---------------------------------------------------------------- classification

SHARES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3], [0.2, 0.2, 0.6]])


def test_classification_is_scikit_learns() -> None:
    true = np.array([0, 1, 0, 2])
    found = classification(true, SHARES)
    assert found["accuracy"] == 0.75
    assert found["f1_macro"] == pytest.approx(sk.f1_score(true, [0, 1, 1, 2], average="macro"))
    assert found["auc"] == pytest.approx(sk.roc_auc_score(true, SHARES, multi_class="ovr"))
    assert found["log_loss"] == pytest.approx(-np.log([0.7, 0.8, 0.3, 0.6]).mean())


def test_two_classes_by_hand() -> None:
    true = np.array([0, 0, 1, 1])
    second = np.array([0.1, 0.6, 0.4, 0.9])
    found = classification(true, np.column_stack([1 - second, second]))
    assert found["accuracy"] == 0.5
    assert found["auc"] == 0.75  # three of the four pairs are in order
    assert found["f1_macro"] == pytest.approx(0.5)


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=20))
def test_classification_is_defined_for_whatever_classes_are_there(classes: list[int]) -> None:
    true = np.array(classes)
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], len(classes))
    found = classification(true, shares)
    assert (found["auc"] is None) == (len(set(classes)) < 3)
    assert found["accuracy"] == pytest.approx((shares.argmax(axis=1) == true).mean())
    assert found["log_loss"] == pytest.approx(-np.log(shares[np.arange(len(true)), true]).mean())


def test_one_class_alone_has_no_auc() -> None:
    shares = np.array([[0.6, 0.4], [0.3, 0.7]])
    assert classification(np.array([0, 0]), shares)["auc"] is None


def test_the_other_metrics_of_two_classes_are_scikit_learns() -> None:
    random = np.random.default_rng(1)
    true = random.integers(0, 2, 200)
    yes = np.clip(true * 0.3 + random.random(200) * 0.7, 0, 1)
    shares, said = np.column_stack([1 - yes, yes]), yes >= 0.6
    found = classification(true, shares, threshold=0.6)
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(true, said),
            "f1_macro": sk.f1_score(true, said, average="macro"),
            "auc": sk.roc_auc_score(true, yes),
            "log_loss": sk.log_loss(true, shares),
            "balanced_accuracy": sk.balanced_accuracy_score(true, said),
            "precision": sk.precision_score(true, said),
            "recall": sk.recall_score(true, said),
            "f1": sk.f1_score(true, said),
            "mcc": sk.matthews_corrcoef(true, said),
            "average_precision": sk.average_precision_score(true, yes),
            "brier": sk.brier_score_loss(true, yes),
            "ece": found["ece"],
        }
    )


def test_the_other_metrics_of_more_classes_are_scikit_learns() -> None:
    random = np.random.default_rng(2)
    true, shares = random.integers(0, 4, 300), random.dirichlet(np.ones(4), 300)
    said = shares.argmax(axis=1)
    found = classification(true, shares)
    assert not {"precision", "recall", "f1"} & found.keys()
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(true, said))
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(true, said))
    onehot = np.eye(4)[true]
    assert found["average_precision"] == pytest.approx(
        sk.average_precision_score(onehot, shares, average="macro")
    )
    assert found["brier"] == pytest.approx(((shares - onehot) ** 2).sum(axis=1).mean())


def test_the_calibration_error_by_hand() -> None:
    sure = np.array([0.95, 0.95, 0.95, 0.95, 0.62, 0.62])
    right = np.array([1, 1, 1, 0, 1, 0])
    found = classification(right, np.column_stack([1 - sure, sure]))
    assert found["ece"] == pytest.approx((4 * abs(0.75 - 0.95) + 2 * abs(0.5 - 0.62)) / 6)


def test_only_what_is_wanted_is_computed() -> None:
    target = ClassTarget(names=["y"], classes=["a", "b"], outputs=1)
    table, outputs = table_of({"y": ["a", "b"]}), np.array([[-1.0], [1.0]], np.float32)
    assert metrics.score(target, table, outputs, ["f1", "mae"]) == {"f1": 1.0}
    whole = metrics.score(target, table, outputs)
    binary = {name for name, metric in METRICS.items() if "binary" in metric.tasks}
    assert whole.keys() == binary


def test_a_certain_and_wrong_answer_has_a_finite_log_loss() -> None:
    found = classification(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert found["log_loss"] is not None
    assert np.isfinite(found["log_loss"])


# ---------------------------------------------------------------- several labels


def test_multilabel_by_hand() -> None:
    true = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    shares = np.array([[0.9, 0.2], [0.6, 0.4], [0.8, 0.3]])
    found = multilabel(true, shares)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["f1_macro"] == pytest.approx((0.8 + 0.0) / 2)
    assert found["auc"] == pytest.approx((1.0 + 0.5) / 2)
    right = np.where(true == 1, shares, 1 - shares)
    assert found["log_loss"] == pytest.approx(-np.log(right).mean())


def test_a_label_of_one_class_is_left_out_of_the_auc() -> None:
    true = np.array([[1.0, 0.0], [1.0, 1.0]])
    shares = np.array([[0.9, 0.2], [0.6, 0.4]])
    assert multilabel(true, shares)["auc"] == 1.0
    assert multilabel(true[:, :1], shares[:, :1])["auc"] is None


def test_the_macro_f1_of_one_label_is_that_labels() -> None:
    """As it is with several: of the label, and not of its absence too."""
    true, shares = column(1, 0, 1, 1), column(0.9, 0.6, 0.3, 0.8)
    twice = multilabel(np.hstack([true, true]), np.hstack([shares, shares]))
    assert multilabel(true, shares)["f1_macro"] == pytest.approx(twice["f1_macro"])


# ---------------------------------------------------------------- the baseline


def test_the_baseline_of_numbers_guesses_the_training_parts_mean() -> None:
    target = NumberTargets(names=["y", "z"], center=[9.0, 9.0], scale=[9.0, 9.0])
    train = table_of({"y": [1.0, 3.0], "z": [0.0, 10.0]})
    test = table_of({"y": [2.0, 5.0, 0.0], "z": [5.0, 6.0, 7.0]})
    found = metrics.baseline_scores(target, metrics.constant_prediction(target, train), test)
    assert found["mae"] == pytest.approx(((0 + 3 + 2) / 3 + (0 + 1 + 2) / 3) / 2)


def test_the_baseline_of_classes_guesses_the_training_parts_shares() -> None:
    target = ClassTarget(names=["y"], classes=["a", "b", "c"], outputs=3)
    train = table_of({"y": ["a", "a", "b", "c"]})
    test = table_of({"y": ["a", "b", "a", "a"]})
    found = metrics.baseline_scores(target, metrics.constant_prediction(target, train), test)
    assert found["accuracy"] == 0.75
    assert found["log_loss"] == pytest.approx(-np.log([0.5, 0.25, 0.5, 0.5]).mean())
    assert found["auc"] is None


def test_the_baseline_of_two_classes_has_the_auc_of_a_coin() -> None:
    target = ClassTarget(names=["y"], classes=[False, True], outputs=1)
    train = table_of({"y": [True, True, False]})
    found = metrics.baseline_scores(target, metrics.constant_prediction(target, train), train)
    assert found["auc"] == 0.5


def test_the_baseline_knows_a_class_that_training_did_not_see() -> None:
    target = ClassTarget(names=["y"], classes=["a", "b"], outputs=2)
    train = table_of({"y": ["a", "a"]})
    test = table_of({"y": ["a", "b"]})
    found = metrics.baseline_scores(target, metrics.constant_prediction(target, train), test)
    assert found["accuracy"] == 0.5
    assert found["log_loss"] is not None
    assert np.isfinite(found["log_loss"])


def test_the_baseline_of_labels_guesses_their_shares() -> None:
    target = LabelTargets(names=["a", "b"])
    table = pa.table({"a": [True, True, True, False], "b": [False, False, False, True]})
    found = metrics.baseline_scores(target, metrics.constant_prediction(target, table), table)
    assert found["accuracy"] == 0.75
    assert found["auc"] == 0.5
    assert found["log_loss"] == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))


# ---------------------------------------------------------------- better than the baseline


def test_better_is_less_of_an_error_and_more_of_the_others() -> None:
    scores = {"rmse": 1.0, "mae": 2.0, "r2": 0.5, "auc": 0.5, "accuracy": None, "log_loss": 0.1}
    guesses = {"rmse": 2.0, "mae": 2.0, "r2": 0.0, "auc": 0.5, "accuracy": 0.5, "log_loss": None}
    assert metrics.better(scores, guesses) == {
        "rmse": True,
        "mae": False,
        "r2": True,
        "auc": False,
    }


def test_what_does_not_beat_a_guess_is_said_with_numbers() -> None:
    target = ClassTarget(names=["y"], classes=["a", "b"], outputs=1)
    guesses: Metrics = {"accuracy": 0.9, "f1_macro": 0.47, "auc": 0.5, "log_loss": 0.325}
    scores: Metrics = {"accuracy": 0.9, "f1_macro": 0.6, "auc": 0.75, "log_loss": 0.4}
    assert metrics.baseline_warnings(target, scores, guesses) == [
        "no better than guessing by some metrics: accuracy 0.9 against 0.9, log_loss 0.4 against "
        "0.325 of always answering the shares of the classes in the training part; better by "
        "f1_macro, auc"
    ]
    assert (
        metrics.baseline_warnings(target, {**scores, "accuracy": 0.95, "log_loss": 0.3}, guesses)
        == []
    )
    assert metrics.baseline_warnings(target, dict.fromkeys(scores), guesses) == []


def test_a_class_that_the_model_does_not_know_is_wrong() -> None:
    known = classification(np.array([0, 1]), SHARES[:2])
    found = classification(np.array([0, 1, -1, -1]), SHARES)
    assert found["accuracy"] == 0.5
    assert found["log_loss"] == known["log_loss"]
    assert found["f1_macro"] == pytest.approx((1 + 2 / 3 + 0 + 0) / 4)


def test_classes_that_the_model_does_not_know_are_counted_apart() -> None:
    """As scikit-learn counts them."""
    true = ["a", "b", "pear", "fig", "fig", "a"]
    answers = np.array([0, 1, 0, 1, 1, 0])
    target = ClassTarget(names=["y"], classes=["a", "b", "c"], outputs=3)
    outputs = np.log(np.eye(3)[answers] + 1e-3).astype(np.float32)
    found = metrics.score(target, pa.table({"y": true}), outputs)
    labels = [target.classes[place] for place in answers]
    assert found["f1_macro"] == pytest.approx(
        sk.f1_score(true, labels, average="macro", zero_division=0)
    )
    guessed = metrics.baseline_scores(target, [1.0, 0.0, 0.0], pa.table({"y": true}))
    assert guessed["f1_macro"] == pytest.approx(
        sk.f1_score(true, ["a"] * 6, average="macro", zero_division=0)
    )


def test_macro_f1_is_of_the_classes_that_occur() -> None:
    true, shares = np.array([0, 0, 2, 2]), np.eye(5)[[0, 2, 2, 2]]
    expected = sk.f1_score([0, 0, 2, 2], [0, 2, 2, 2], average="macro")
    assert classification(true, shares)["f1_macro"] == pytest.approx(expected)
