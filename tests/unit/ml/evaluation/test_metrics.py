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
from tests.support.workbench import table_of


def column(*values: float) -> Any:
    return np.array(values, dtype=np.float64)[:, None]


# ---------------------------------------------------------------- regression


def test_regression_by_hand() -> None:
    found = metrics.regression(column(1, 2, 3, 6), column(1, 3, 3, 4))
    assert found["mae"] == pytest.approx(0.75)
    assert found["rmse"] == pytest.approx(np.sqrt(5 / 4))
    assert found["r2"] == pytest.approx(1 - 5 / 14)


def test_several_targets_are_averaged() -> None:
    true = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    guess = np.array([[1.0, 11.0], [3.0, 20.0], [4.0, 43.0]])
    each = [metrics.regression(true[:, [i]], guess[:, [i]]) for i in range(2)]
    both = metrics.regression(true, guess)
    for name in ("mae", "rmse", "r2"):
        assert both[name] == pytest.approx(np.mean([one[name] or 0.0 for one in each]))


def test_one_row_has_no_r2() -> None:
    assert metrics.regression(column(1), column(2)) == {"mae": 1.0, "rmse": 1.0, "r2": None}


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
    assert metrics.score(target, table, outputs) == {"mae": None, "rmse": None, "r2": None}


# ---------------------------------------------------------------- classification

SHARES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3], [0.2, 0.2, 0.6]])


def test_classification_is_scikit_learns() -> None:
    true = np.array([0, 1, 0, 2])
    found = metrics.classification(true, SHARES)
    assert found["accuracy"] == 0.75
    assert found["f1_macro"] == pytest.approx(sk.f1_score(true, [0, 1, 1, 2], average="macro"))
    assert found["auc"] == pytest.approx(sk.roc_auc_score(true, SHARES, multi_class="ovr"))
    assert found["log_loss"] == pytest.approx(-np.log([0.7, 0.8, 0.3, 0.6]).mean())


def test_two_classes_by_hand() -> None:
    true = np.array([0, 0, 1, 1])
    second = np.array([0.1, 0.6, 0.4, 0.9])
    found = metrics.classification(true, np.column_stack([1 - second, second]))
    assert found["accuracy"] == 0.5
    assert found["auc"] == 0.75  # three of the four pairs are in order
    assert found["f1_macro"] == pytest.approx(0.5)


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=20))
def test_classification_is_defined_for_whatever_classes_are_there(classes: list[int]) -> None:
    true = np.array(classes)
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], len(classes))
    found = metrics.classification(true, shares)
    assert (found["auc"] is None) == (len(set(classes)) < 3)
    assert found["accuracy"] == pytest.approx((shares.argmax(axis=1) == true).mean())
    assert found["log_loss"] == pytest.approx(-np.log(shares[np.arange(len(true)), true]).mean())


def test_one_class_alone_has_no_auc() -> None:
    shares = np.array([[0.6, 0.4], [0.3, 0.7]])
    assert metrics.classification(np.array([0, 0]), shares)["auc"] is None


def test_a_certain_and_wrong_answer_has_a_finite_log_loss() -> None:
    found = metrics.classification(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert found["log_loss"] is not None
    assert np.isfinite(found["log_loss"])


# ---------------------------------------------------------------- several labels


def test_multilabel_by_hand() -> None:
    true = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    shares = np.array([[0.9, 0.2], [0.6, 0.4], [0.8, 0.3]])
    found = metrics.multilabel(true, shares)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["f1_macro"] == pytest.approx((0.8 + 0.0) / 2)
    assert found["auc"] == pytest.approx((1.0 + 0.5) / 2)
    right = np.where(true == 1, shares, 1 - shares)
    assert found["log_loss"] == pytest.approx(-np.log(right).mean())


def test_a_label_of_one_class_is_left_out_of_the_auc() -> None:
    true = np.array([[1.0, 0.0], [1.0, 1.0]])
    shares = np.array([[0.9, 0.2], [0.6, 0.4]])
    assert metrics.multilabel(true, shares)["auc"] == 1.0
    assert metrics.multilabel(true[:, :1], shares[:, :1])["auc"] is None


def test_the_macro_f1_of_one_label_is_that_labels() -> None:
    """As it is with several: of the label, and not of its absence too."""
    true, shares = column(1, 0, 1, 1), column(0.9, 0.6, 0.3, 0.8)
    twice = metrics.multilabel(np.hstack([true, true]), np.hstack([shares, shares]))
    assert metrics.multilabel(true, shares)["f1_macro"] == pytest.approx(twice["f1_macro"])


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
    known = metrics.classification(np.array([0, 1]), SHARES[:2])
    found = metrics.classification(np.array([0, 1, -1, -1]), SHARES)
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
    assert metrics.classification(true, shares)["f1_macro"] == pytest.approx(expected)
