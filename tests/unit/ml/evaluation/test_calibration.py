"""How sure a model says it is, and from when on it says yes."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from app.errors import InvalidData, InvalidRequest
from app.ml.evaluation import calibration, metrics
from app.ml.features.preprocessing import ClassTarget, LabelTargets
from app.ml.specs.metrics import RecallSpec
from tests.support.workbench import Workbench, planned, spec_for, table_of

RANDOM = np.random.default_rng(7)
TWO = ClassTarget(names=["y"], classes=["no", "yes"], outputs=1)
THREE = ClassTarget(names=["y"], classes=["a", "b", "c"], outputs=3)


def drawn(logits: Any) -> Any:
    """Class numbers as likely as ``softmax(logits)`` says."""
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.array([RANDOM.choice(len(row), p=row) for row in shares])


# ---------------------------------------------------------------- temperature


@pytest.mark.parametrize("factor", [0.4, 1.0, 5.0])
def test_a_temperature_undoes_what_made_a_model_too_sure(factor: float) -> None:
    logits = RANDOM.normal(size=(4000, 3)) * 2
    table = pa.table({"y": np.array(THREE.classes)[drawn(logits)]})
    outputs = (logits * factor).astype(np.float32)
    found = calibration.temperature(THREE, table, outputs, None)
    assert found == pytest.approx(factor, rel=0.1)
    calibrated = THREE.model_copy(update={"temperature": found})
    before, after = (metrics.score(t, table, outputs) for t in (THREE, calibrated))
    assert after["accuracy"] == before["accuracy"]
    assert (after["log_loss"] or 1) <= (before["log_loss"] or 0)


def test_one_logit_is_that_of_two_classes() -> None:
    logits = RANDOM.normal(size=(4000, 1)) * 2
    both = np.concatenate([np.zeros_like(logits), logits], axis=1)
    table = pa.table({"y": np.array(TWO.classes)[drawn(both)]})
    outputs = (3 * logits).astype(np.float32)
    assert calibration.temperature(TWO, table, outputs, None) == pytest.approx(3, rel=0.1)


def test_several_labels_share_one() -> None:
    logits = RANDOM.normal(size=(3000, 2))
    yes = RANDOM.random((3000, 2)) < 1 / (1 + np.exp(-logits))
    table = pa.table({"a": yes[:, 0], "b": yes[:, 1]})
    target = LabelTargets(names=["a", "b"])
    outputs = (2 * logits).astype(np.float32)
    assert calibration.temperature(target, table, outputs, None) == pytest.approx(2, rel=0.15)


def test_a_few_rows_that_are_all_right_make_nobody_certain() -> None:
    table = pa.table({"y": ["no", "yes"] * 4})
    outputs = np.array([[-1.0], [1.0]] * 4, np.float32)
    found = calibration.temperature(TWO, table, outputs, None)
    shares = TWO.model_copy(update={"temperature": found}).probabilities(outputs)
    assert shares.max() == pytest.approx(9 / 10, abs=1e-3)  # as Laplace would say


def test_rows_that_weigh_nothing_say_nothing() -> None:
    logits = RANDOM.normal(size=(2000, 3)) * 2
    right = np.array(THREE.classes)[drawn(logits)]
    table = pa.table({"y": np.concatenate([right, RANDOM.choice(THREE.classes, 2000)])})
    outputs = np.concatenate([logits, logits]).astype(np.float32)
    weight = np.repeat([2.0, 0.0], 2000).astype(np.float32)
    assert calibration.temperature(THREE, table, outputs, weight) == pytest.approx(1, rel=0.1)


# ---------------------------------------------------------------- threshold


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=60).filter(
        lambda rows: len({yes for yes, _ in rows}) == 2
    ),
    st.sampled_from(["f1", "balanced_accuracy", "mcc"]),
)
def test_no_threshold_is_better(rows: list[tuple[bool, int]], rule: str) -> None:
    true = np.array([yes for yes, _ in rows])
    shares = np.array([share / 20 for _, share in rows])
    score: Any = {
        "f1": sk.f1_score,
        "balanced_accuracy": sk.balanced_accuracy_score,
        "mcc": sk.matthews_corrcoef,
    }[rule]
    found = score(true, shares >= calibration.threshold(rule, true, shares))
    others = [score(true, shares >= at) for at in np.unique(shares)]
    assert found == pytest.approx(max(others))


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=60).filter(
        lambda rows: len({yes for yes, _ in rows}) == 2
    ),
    st.sampled_from([0.1, 0.5, 0.9, 1.0]),
)
def test_the_highest_threshold_that_reaches_a_recall(
    rows: list[tuple[bool, int]], recall: float
) -> None:
    true = np.array([yes for yes, _ in rows])
    shares = np.array([share / 20 for _, share in rows])
    at = calibration.threshold(RecallSpec(recall=recall), true, shares)
    assert sk.recall_score(true, shares >= at) >= recall
    higher = [share for share in np.unique(shares) if share > at + 0.025]
    assert all(sk.recall_score(true, shares >= share) < recall for share in higher[1:])


def test_where_all_are_of_one_class_it_is_half() -> None:
    for yes in (True, False):
        assert calibration.threshold("f1", np.array([yes] * 3), np.array([0.1, 0.2, 0.3])) == 0.5


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        ([False, True], True),
        ([0, 1], 1),
        ([1, 2], 1),
        ([1.0, 3.0], 1.0),
        (["no", "yes"], "yes"),
        (["1", "x"], "1"),
        (["a", "b", "c"], None),
    ],
)
def test_the_positive_class(classes: list[Any], positive: Any) -> None:
    target = ClassTarget(names=["y"], classes=classes, outputs=len(classes))
    place = target.positive
    assert (None if place is None else classes[place]) == positive
    assert target.decision.positive == positive


def test_a_row_at_the_threshold_is_of_the_positive_class() -> None:
    target = ClassTarget(names=["y"], classes=[1, 2], outputs=2, threshold=0.2)
    shares = np.array([[0.2, 0.8], [0.19, 0.81], [0.9, 0.1]])
    assert target.chosen(shares).tolist() == [0, 1, 0]


# ---------------------------------------------------------------- a job's

ROWS = 1500
X = RANDOM.normal(size=(ROWS, 3)).round(4)
RARE = np.where(RANDOM.random(ROWS) < 1 / (1 + np.exp(4.0 - 1.6 * X[:, 0])), "ill", "well")
COMMON = np.where(X[:, 0] + RANDOM.normal(size=ROWS) > 0, "ill", "well")
TABLE = table_of(
    {
        **{f"x{i}": X[:, i].tolist() for i in range(3)},
        "rare": RARE.tolist(),
        "common": COMMON.tolist(),
        "kind": [["a", "b", "c"][int(v > 0) + int(v > 1)] for v in X[:, 1]],
        "y": X[:, 2].tolist(),
    }
)
FEATURES = {"features": ["x0", "x1", "x2"]}
UNVALIDATED = {"split": {"train": 0.8, "test": 0.2}}


def test_defaults_by_model_and_class() -> None:
    assert (RARE == "ill").mean() < 0.1
    rare = planned(TABLE, **FEATURES, target="rare")
    assert (rare.spec.select, rare.spec.calibrate, rare.spec.threshold) == ("loss", True, "f1")
    assert any("training rows are 'ill', so the threshold" in said for said in rare.warnings)
    common = spec_for(TABLE, **FEATURES, target="common", model="mlp")
    assert (common.calibrate, common.threshold) == (False, 0.5)
    classes = spec_for(TABLE, **FEATURES, target="kind")
    assert (classes.calibrate, classes.threshold) == (True, 0.5)
    numbers = spec_for(TABLE, **FEATURES, target="y")
    assert (numbers.calibrate, numbers.threshold) == (False, 0.5)
    blind = planned(TABLE, **FEATURES, target="rare", **UNVALIDATED)
    assert (blind.spec.calibrate, blind.spec.threshold) == (False, 0.5)
    assert any("there is no validation part" in said for said in blind.warnings)


@pytest.mark.parametrize(
    ("pointer", "fields"),
    [
        ("/select", {"target": "y", "select": "accuracy"}),
        ("/select", {"target": "common", "select": "rmse"}),
        ("/select", {"target": "kind", "select": "f1"}),
        ("/select", {"target": "y", "select": "pinball"}),
        ("/select", {"target": "y", "select": "mae", **UNVALIDATED}),
        ("/calibrate", {"target": "y", "calibrate": True}),
        ("/calibrate", {"target": "kind", "calibrate": True, **UNVALIDATED}),
        ("/threshold", {"target": "kind", "threshold": 0.3}),
        ("/threshold", {"target": "y", "threshold": "f1"}),
        ("/threshold", {"target": "common", "threshold": "f1", **UNVALIDATED}),
    ],
)
def test_what_does_not_suit_is_refused_with_the_remedy(
    pointer: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        planned(TABLE, **FEATURES, **fields)
    assert [error.pointer for error in caught.value.errors] == [pointer]


@pytest.mark.parametrize("at", [0.0, 1.0, "nonsense", {"recall": 0}, {"precision": 0.5}, True])
def test_what_is_no_threshold(at: Any) -> None:
    with pytest.raises(ValueError, match="threshold"):
        planned(TABLE, **FEATURES, target="common", threshold=at)


@pytest.mark.parametrize("at", [0.2, "f1", "mcc", {"recall": 0.9}])
def test_a_jobs_model_answers_from_its_threshold_on(workbench: Workbench, at: Any) -> None:
    run = workbench.train(TABLE, **FEATURES, target="rare", model="mlp", threshold=at, epochs=30)
    predictor = run.predictor
    target = predictor.target
    assert isinstance(target, ClassTarget)
    assert run.ended.decision == target.decision == predictor.card.decision
    outputs = predictor.outputs(TABLE.select(["x0", "x1", "x2"]))
    shares = predictor.shares(outputs)[:, 0 if target.classes[0] == "ill" else 1]
    assert target.classes[target.positive or 0] == "well", "the last in sorted order"
    answers = np.array(predictor.predictions(outputs))
    assert (answers == np.where(1 - shares >= target.threshold, "well", "ill")).all()
    assert predictor.answers(outputs)["prediction"].to_pylist() == answers.tolist()
    one = [predictor.predictions(outputs[i : i + 1])[0] for i in range(50)]
    assert one == answers[:50].tolist()
    if at == 0.2:
        assert target.threshold == 0.2
    part = run.prepared().validation
    true = part.table["rare"].to_numpy() == "well"
    scores = 1 - predictor.shares(predictor.forward(part.x))[:, 0]
    if isinstance(at, dict):
        assert sk.recall_score(true, scores >= target.threshold) >= 0.9


def test_a_calibrated_model_is_as_right_and_surer_by_log_loss(workbench: Workbench) -> None:
    """Label smoothing makes the default model too modest; a temperature undoes that."""
    fields: dict[str, Any] = {**FEATURES, "target": "kind", "epochs": 6}
    plain = workbench.train(TABLE, **fields, calibrate=False)
    fitted = workbench.train(TABLE, **fields)
    assert fitted.weights_sha256 == plain.weights_sha256
    assert plain.ended.decision is not None
    assert fitted.ended.decision is not None
    assert plain.ended.decision.temperature == 1.0
    assert fitted.ended.decision.temperature < 1.0
    assert fitted.ended.test is not None
    assert plain.ended.test is not None
    assert fitted.ended.test["accuracy"] == plain.ended.test["accuracy"]
    assert (fitted.ended.test["log_loss"] or 9) < (plain.ended.test["log_loss"] or 0)


# ---------------------------------------------------------------- select


@pytest.mark.parametrize(
    ("select", "target", "best"),
    [("auc", "common", max), ("log_loss", "common", min), ("mae", "y", min), ("r2", "y", max)],
)
def test_the_best_weights_are_those_of_the_best_epoch_by_that(
    workbench: Workbench, select: str, target: str, best: Any
) -> None:
    run = workbench.train(
        TABLE, **FEATURES, target=target, model="mlp", select=select, epochs=12, early_stopping=None
    )
    series = run.series(f"validation_{select}")
    assert (run.best.by, run.best.epoch) == (f"validation_{select}", series.index(best(series)))
    part, predictor = run.prepared().validation, run.predictor
    again = metrics.score(predictor.target, part.table, predictor.forward(part.x), [select])
    assert again[select] == pytest.approx(best(series), rel=1e-5)


def test_patience_is_counted_by_it(workbench: Workbench) -> None:
    run = workbench.train(
        TABLE,
        **FEATURES,
        target="common",
        model="mlp",
        select="auc",
        epochs=500,
        early_stopping={"patience": 3, "min_delta": 0.001},
    )
    series, reference, waited = run.series("validation_auc"), -np.inf, 0
    for value in series:
        waited += 1
        if value > reference + 0.001:
            reference, waited = value, 0
    assert waited == 3
    assert len(series) < 500


def test_a_metric_that_is_not_defined_ends_the_job_with_the_reason(workbench: Workbench) -> None:
    """A class that the validation part lacks is known only when the rows are there."""
    kinds = ["rare" if i == 0 else "abc"[i % 3] for i in range(60)]
    table = table_of({"x": [i / 9 for i in range(60)], "y": kinds})
    with pytest.raises(InvalidData, match="'auc', which 'select' names, is not defined"):
        workbench.train(table, features=["x"], model="linear", select="auc", epochs=2)


def test_a_share_of_nothing_is_refused_when_the_job_is_made() -> None:
    table = table_of({"x": [i / 9 for i in range(50)], "y": [float(i % 5) for i in range(50)]})
    with pytest.raises(InvalidRequest, match="select by 'mae'"):
        planned(table, features=["x"], model="linear", select="mape")


def test_rows_that_say_nothing_of_how_sure_to_be_leave_it() -> None:
    """Where all are wrong the least loss is far away."""
    table = pa.table({"y": ["a"] * 20})
    outputs = np.tile(np.array([-5.0, 5.0, 0.0], np.float32), (20, 1))
    assert calibration.temperature(THREE, table, outputs, None) == 1.0
