"""Intervals and sets hold what is true as often as they say, and what has none says so."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRequest
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets
from app.ml.inference import conformal
from app.ml.inference.conformal import Conformal
from tests.support.workbench import Workbench, table_of

RANDOM = np.random.default_rng(11)
ONE = NumberTargets(names=["y"], center=[10.0], scale=[2.0])


def fitted(errors: Any) -> Conformal:
    """Of a model that says 10 where the true value is that far off."""
    outputs = np.zeros((len(errors), 1), np.float32)
    found = conformal.fit(ONE, pa.table({"y": 10.0 + np.array(errors)}), outputs)
    assert found is not None
    return found


def test_the_bound_is_the_score_of_its_rank() -> None:
    found = fitted([3.0, -1.0, 2.0, -4.0])
    assert found.rows == 4
    assert found.scores == [[1.0, 2.0, 3.0, 4.0]]
    for level, bound in ((0.1, 1.0), (0.2, 1.0), (0.21, 2.0), (0.5, 3.0), (0.8, 4.0)):
        assert found.bounds(level).tolist() == [bound], level  # ceil(5 * level) of 4
    with pytest.raises(InvalidRequest, match=r"a level of 0.9 needs 9 rows .* had 4; .* most 0.8"):
        found.bounds(0.9)


@given(st.integers(1, 5_000), st.sampled_from([0.05, 0.5, 0.9, 0.99]))
def test_many_scores_are_thinned_out_upwards(rows: int, level: float) -> None:
    found = fitted(np.arange(1, rows + 1, dtype=float))
    assert len(found.scores[0]) == min(rows, 1000)
    rank = int(np.ceil((rows + 1) * level - 1e-9))
    if rank > rows:
        with pytest.raises(InvalidRequest):
            found.bounds(level)
    else:
        bound = found.bounds(level)[0]
        assert rank <= bound <= rank + rows / 1000 + 1


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_intervals_cover_what_they_promise(level: float) -> None:
    held = []
    for _ in range(60):
        seen, new = RANDOM.standard_t(3, size=(2, 200))
        reach = fitted(seen).bounds(level)[0]
        held.append(np.mean(np.abs(new) <= reach))
    assert np.mean(held) == pytest.approx(level, abs=0.02)


def test_sets_of_classes_cover_what_they_promise() -> None:
    target = ClassTarget(names=["y"], classes=["a", "b", "c"], outputs=3)
    logits = RANDOM.normal(size=(4000, 3)).astype(np.float32) * 2
    shares = target.probabilities(logits)
    codes = np.array([RANDOM.choice(3, p=row) for row in shares])
    table = pa.table({"y": np.array(target.classes)[codes]})
    found = conformal.fit(target, table.slice(0, 2000), logits[:2000])
    assert found is not None
    rest = conformal.measured(found, target, table.slice(2000), logits[2000:])
    assert [item.level for item in rest.coverage] == [0.5, 0.8, 0.9, 0.95]
    for item in rest.coverage[1:]:
        assert item.coverage == pytest.approx(item.level, abs=0.03)
    sets = conformal.sets(found, target, logits, 0.8)
    assert sets.any(axis=1).all(), "no set is empty"
    assert sets[np.arange(4000), shares.argmax(axis=1)].all(), "the answer is in it"


def test_what_has_none() -> None:
    labels = LabelTargets(names=["a", "b"])
    table = pa.table({"a": [True], "b": [False]})
    assert conformal.fit(labels, table, np.zeros((1, 2), np.float32)) is None
    assert conformal.fit(ONE, pa.table({"y": [1.0]}).slice(1), np.zeros((0, 1), np.float32)) is None
    assert conformal.fit(ONE, pa.table({"y": [1.0]}), np.array([[np.inf]], np.float32)) is None


# ---------------------------------------------------------------- a job's

X = RANDOM.normal(size=(600, 2)).round(3)
TABLE = table_of(
    {
        "a": X[:, 0].tolist(),
        "b": X[:, 1].tolist(),
        "y": (X[:, 0] * 3 + RANDOM.normal(size=600)).tolist(),
        "z": (X[:, 1] * 100 + RANDOM.normal(size=600) * 50).tolist(),
        "count": RANDOM.poisson(np.exp(X[:, 0])).tolist(),
        "kind": [["no", "yes"][int(v > 0)] for v in X[:, 0] + RANDOM.normal(size=600)],
    }
)
FIELDS: dict[str, Any] = {"features": ["a", "b"], "model": "mlp", "epochs": 20}


def test_a_jobs_model_tells_its_coverage_and_gives_intervals(workbench: Workbench) -> None:
    run = workbench.train(TABLE, **FIELDS)
    predictor = run.predictor
    assert run.ended.coverage == predictor.card.coverage
    assert [item.level for item in run.ended.coverage] == [0.5, 0.8, 0.9, 0.95]
    assert all(item.rows == 60 for item in run.ended.coverage)
    outputs = predictor.outputs(TABLE.select(["a", "b"]))
    found, said = predictor.intervals(outputs, 0.9), predictor.predictions(outputs)
    assert all(one["low"] < value < one["high"] for one, value in zip(found, said, strict=True))
    columns = predictor.answers(outputs, level=0.9)
    assert columns["low"].to_pylist() == [one["low"] for one in found]
    assert columns["high"].to_pylist() == [one["high"] for one in found]
    wider = predictor.intervals(outputs, 0.95)
    assert wider[0]["high"] >= found[0]["high"]


def test_several_targets_have_one_each(workbench: Workbench) -> None:
    predictor = workbench.train(TABLE, **FIELDS, target=["y", "z"]).predictor
    outputs = predictor.outputs(TABLE.select(["a", "b"]).slice(0, 3))
    [first, *_] = predictor.intervals(outputs, 0.8)
    assert first.keys() == {"y", "z"}
    assert first["z"]["high"] - first["z"]["low"] > 5 * (first["y"]["high"] - first["y"]["low"])
    names = predictor.answers(outputs, level=0.8).column_names
    assert names == ["y", "z", "low_y", "low_z", "high_y", "high_z"]


def test_counts_are_not_below_0(workbench: Workbench) -> None:
    predictor = workbench.train(TABLE, **FIELDS, target="count", loss="poisson_nll").predictor
    outputs = predictor.outputs(TABLE.select(["a", "b"]))
    lows = [one["low"] for one in predictor.intervals(outputs, 0.9)]
    assert min(lows) == 0.0


def test_classes_have_sets(workbench: Workbench) -> None:
    predictor = workbench.train(TABLE, **FIELDS, target="kind").predictor
    outputs = predictor.outputs(TABLE.select(["a", "b"]))
    found, said = predictor.intervals(outputs, 0.9), predictor.predictions(outputs)
    assert all(answer in one for answer, one in zip(said, found, strict=True))
    assert {len(one) for one in found} == {1, 2}
    columns = predictor.answers(outputs, probabilities=True, level=0.9)
    assert columns.column_names == ["prediction", "probability_no", "probability_yes", "set"]
    assert columns["set"][0].as_py() == str(found[0]).replace("'", '"').replace(", ", ",")


def test_without_a_validation_part_there_are_none(workbench: Workbench) -> None:
    run = workbench.train(TABLE, **{**FIELDS, "split": {"train": 0.8, "test": 0.2}})
    predictor = run.predictor
    outputs = predictor.outputs(TABLE.select(["a", "b"]).slice(0, 1))
    assert run.ended.coverage == []
    with pytest.raises(InvalidRequest, match=r"train it with a validation part"):
        predictor.intervals(outputs, 0.9)


@pytest.mark.parametrize("strategy", ["group", "time", "random"])
def test_where_it_promises_too_much_a_warning_says_so(workbench: Workbench, strategy: str) -> None:
    random = np.random.default_rng(3)
    x = random.normal(size=300)
    columns = {"x": x.tolist(), "y": (2 * x + random.normal(size=300)).tolist()}
    columns["g"] = [float(i // 10) for i in range(300)]
    split: dict[str, Any] = {"strategy": strategy}
    if strategy != "random":
        split["column"] = "g"
    run = workbench.train(table_of(columns), features=["x"], model="linear", epochs=5, split=split)
    told = [warning for warning in run.ended.warnings if "intervals" in warning]
    assert bool(told) is (strategy != "random"), told
    assert all("'g'" in warning for warning in told)


def test_intervals_that_did_not_hold_are_told(workbench: Workbench) -> None:
    x = np.linspace(-1, 1, 400)
    noise = np.random.default_rng(0).normal(size=400) * np.where(np.arange(400) < 360, 0.01, 5)
    split = {"strategy": "sequential"}
    run = workbench.train(
        table_of({"x": x.tolist(), "y": (x + noise).tolist()}),
        model="linear",
        epochs=40,
        split=split,
    )
    assert any("held what is true in" in warning for warning in run.ended.warnings)
