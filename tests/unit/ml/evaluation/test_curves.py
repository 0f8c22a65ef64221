"""Curves against scikit-learn's, and what has none."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from app.errors import NotApplicable
from app.ml.evaluation.curves import curve, require
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets
from app.ml.specs import Task
from app.ml.specs.metrics import CurveKind

RANDOM = np.random.default_rng(3)
ROWS = 400
YES = RANDOM.random(ROWS) < 0.3
LOGITS = (RANDOM.normal(size=(ROWS, 1)) + 1.5 * YES[:, None] - 1).astype(np.float32)
TWO = ClassTarget(names=["y"], classes=["no", "yes"], outputs=1, threshold=0.4)
TABLE = pa.table({"y": np.where(YES, "yes", "no")})
SHARES = TWO.probabilities(LOGITS)[:, 1]
CODES = RANDOM.integers(0, 3, ROWS)
THREE = ClassTarget(names=["y"], classes=[10, 20, 30], outputs=3)
SCORES = (RANDOM.normal(size=(ROWS, 3)) + np.eye(3)[CODES]).astype(np.float32)
CLASSES = pa.table({"y": np.array([10, 20, 30])[CODES]})


def area(series: Any) -> float:
    return float(sk.auc(series.x, series.y))


def test_roc_of_two_classes_is_that_of_the_positive_one() -> None:
    found = curve("roc", TWO, TABLE, LOGITS)
    assert list(found.series) == ["yes"]
    assert (found.x, found.y) == ("false positive rate", "true positive rate")
    assert found.summary == {"auc": pytest.approx(sk.roc_auc_score(YES, SHARES))}
    series = found.series["yes"]
    assert area(series) == pytest.approx(found.summary["auc"])
    assert series.threshold is not None
    for x, y, at in list(zip(series.x, series.y, series.threshold, strict=True))[1::7]:
        assert x == pytest.approx((SHARES[~YES] >= at).mean())
        assert y == pytest.approx((SHARES[YES] >= at).mean())


def test_roc_of_more_classes_is_one_against_the_rest() -> None:
    found = curve("roc", THREE, CLASSES, SCORES)
    assert list(found.series) == ["10", "20", "30"]
    mean = np.mean([area(series) for series in found.series.values()])
    assert found.summary["auc"] == pytest.approx(mean)


def test_precision_and_recall() -> None:
    found = curve("precision_recall", TWO, TABLE, LOGITS)
    precision, recall, _ = sk.precision_recall_curve(YES, SHARES)
    series = found.series["yes"]
    assert series.x.tolist() == recall.tolist()
    assert series.y.tolist() == precision.tolist()
    assert found.summary["average_precision"] == sk.average_precision_score(YES, SHARES)


def test_calibration_is_in_bins() -> None:
    series = curve("calibration", TWO, TABLE, LOGITS).series["yes"]
    found, said = calibration_curve(YES, SHARES, n_bins=10)
    assert series.x == pytest.approx(said)
    assert series.y == pytest.approx(found)
    assert series.count is not None
    assert series.count.sum() == ROWS


def test_metrics_by_threshold() -> None:
    found = curve("threshold", TWO, TABLE, LOGITS)
    assert list(found.series) == ["precision", "recall", "f1"]
    assert found.summary["threshold"] == 0.4
    best, at = found.summary["best_f1"], found.summary["best_f1_threshold"] or 0.0
    assert best == pytest.approx(sk.f1_score(YES, at <= SHARES))
    everywhere = [sk.f1_score(YES, share <= SHARES) for share in SHARES]
    assert best == pytest.approx(max(everywhere))


def test_labels_have_one_each_but_those_without_both_answers() -> None:
    table = pa.table({"a": YES, "b": [False] * ROWS, "c": ~YES})
    outputs = np.concatenate([LOGITS, LOGITS, -LOGITS], axis=1)
    found = curve("roc", LabelTargets(names=["a", "b", "c"]), table, outputs)
    assert list(found.series) == ["a", "c"]
    assert area(found.series["a"]) == pytest.approx(area(found.series["c"]))


def test_residuals_are_in_the_targets_units() -> None:
    target = NumberTargets(names=["y", "z"], center=[1.0, 0.0], scale=[2.0, 1.0])
    outputs = np.array([[0.5, 1.0], [1.0, -1.0]], np.float32)
    found = curve("residuals", target, pa.table({"y": [2.0, 4.0], "z": [0.0, 0.0]}), outputs)
    assert found.series["y"].x.tolist() == [2.0, 3.0]
    assert found.series["y"].y.tolist() == [0.0, 1.0]
    assert found.series["z"].y.tolist() == [-1.0, 1.0]


def test_many_points_are_thinned_out_but_for_the_ends() -> None:
    rows = 100_000
    yes = RANDOM.random(rows) < 0.5
    outputs = RANDOM.normal(size=(rows, 1)).astype(np.float32)
    table = pa.table({"y": np.where(yes, "yes", "no")})
    series = curve("precision_recall", TWO, table, outputs).series["yes"]
    assert len(series.x) <= 1000
    assert (series.x[0], series.x[-1]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        *((kind, "regression") for kind in ("roc", "precision_recall", "calibration", "threshold")),
        *(("residuals", task) for task in ("binary", "multiclass", "multilabel")),
        ("threshold", "multilabel"),
    ],
)
def test_what_has_no_such_curve(kind: CurveKind, task: Task) -> None:
    with pytest.raises(NotApplicable):
        require(kind, task)
    require("residuals" if task == "regression" else "roc", task)


def test_a_threshold_is_of_two_classes() -> None:
    require("threshold", "multiclass")  # which may have two
    with pytest.raises(NotApplicable):
        curve("threshold", THREE, CLASSES, SCORES)


def test_an_output_that_overflows_has_none() -> None:
    outputs = LOGITS.copy()
    outputs[3] = np.inf
    with pytest.raises(NotApplicable, match="overflows"):
        curve("roc", TWO, TABLE, outputs)
