"""Ranges of metrics: each resample's metrics are those of the rows that it drew."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ml.evaluation import bootstrap, metrics
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets, TargetEncoder

ROWS = 12


def case(kind: str, seed: int) -> tuple[TargetEncoder, pa.Table, Any]:
    """A target, a table of it, and answers with ties and, of classes, one that is unknown."""
    random = np.random.default_rng(seed)
    if kind == "numbers":
        true = random.integers(1, 9, (ROWS, 2)).astype(float)
        ones = [1.0, 1.0]
        target: TargetEncoder = NumberTargets(
            names=["y0", "y1"], center=ones, scale=ones, quantile=0.8
        )
        table = pa.table({"y0": true[:, 0], "y1": true[:, 1]})
        return target, table, true + random.integers(-3, 4, true.shape)
    if kind == "labels":
        truth = random.integers(0, 2, (ROWS, 2)) == 1
        table = pa.table({"y0": truth[:, 0], "y1": truth[:, 1]})
        return LabelTargets(names=["y0", "y1"]), table, random.integers(1, 10, truth.shape) / 10
    count = 2 if kind == "two" else 3
    codes = random.integers(0, count, ROWS)
    if kind == "unknown":
        codes[0] = 7
    shares = random.integers(1, 5, (ROWS, count)).astype(float)
    shares /= shares.sum(axis=1, keepdims=True)
    target = ClassTarget(names=["y"], classes=list(range(count)), outputs=count, threshold=0.5)
    return target, pa.table({"y": codes}), shares


@pytest.mark.parametrize("kind", ["numbers", "two", "three", "unknown", "labels"])
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_weights_are_rows_that_are_there_so_often(kind: str, seed: int) -> None:
    target, table, answers = case(kind, seed)
    random = np.random.default_rng(seed)
    drawn = np.sort(random.integers(ROWS, size=(3, ROWS)))
    weights = np.stack([np.bincount(rows, minlength=ROWS) for rows in drawn]).astype(float)
    found = bootstrap.weighted(metrics.case_of(target, table, answers), weights)
    for place, rows in enumerate(drawn):
        expected = metrics.measured(target, table.take(pa.array(rows)), answers[rows])
        assert expected.keys() <= found.keys()
        for name, value in expected.items():
            if value is None:
                assert not np.isfinite(found[name][place]), name
            else:
                assert found[name][place] == pytest.approx(value, abs=1e-9), name


def test_ranges_are_as_wide_as_theory_has_it() -> None:
    """An accuracy of 0.8 on 1,000 rows has a standard error of 0.0126."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 2, 1000)
    right = np.arange(1000) % 5 != 0
    logits = np.where(right == (codes == 1), 1.0, -1.0).astype(np.float32)
    target = ClassTarget(names=["y"], classes=[0, 1], outputs=1)
    table, outputs = pa.table({"y": codes}), logits[:, None]
    found = bootstrap.confidence(target, table, outputs, metrics.score(target, table, outputs))
    assert found is not None
    ends = found.metrics["accuracy"]
    assert ends.low < 0.8 < ends.high
    assert ends.high - ends.low == pytest.approx(2 * 1.96 * 0.01265, rel=0.25)
    assert (found.level, found.resamples, found.rows) == (0.95, 200, 1000)


def test_of_many_rows_some_are_resampled() -> None:
    """And the ranges are as narrow as of all of them."""
    random = np.random.default_rng(0)
    true = random.normal(size=60_000)
    outputs = (true + random.normal(size=60_000))[:, None].astype(np.float32)
    target = NumberTargets(names=["y"], center=[0.0], scale=[1.0])
    table = pa.table({"y": true})
    scores = metrics.score(target, table, outputs)
    found = bootstrap.confidence(target, table, outputs, scores)
    assert found is not None
    ends = found.metrics["rmse"]
    assert ends.low < (scores["rmse"] or 0) < ends.high
    assert ends.high - ends.low == pytest.approx(2 * 1.96 / np.sqrt(2 * 60_000), rel=0.25)


def test_what_is_not_defined_has_no_range() -> None:
    target = NumberTargets(names=["y"], center=[0.0], scale=[1.0])
    table = pa.table({"y": [float(i) for i in range(12)]})
    outputs = np.array([[i + 0.5 * (i % 2)] for i in range(12)], dtype=np.float32)
    found = bootstrap.confidence(target, table, outputs, metrics.score(target, table, outputs))
    assert found is not None
    assert "mape" not in found.metrics, "a true value is 0"
    assert {"mae", "rmse", "r2"} <= found.metrics.keys()
    assert bootstrap.confidence(target, table, np.full_like(outputs, np.inf), {}) is None
    assert bootstrap.confidence(target, table[:9], outputs[:9], {}) is None
