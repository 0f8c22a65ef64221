"""Losses are torch's and scikit-learn's, and what they are for comes out."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_pinball_loss, mean_poisson_deviance

from app.ml.features.preprocessing import NumberTargets
from app.ml.nn.losses import Objective, by_row
from app.ml.specs.losses import PoissonNLLSpec, QuantileSpec
from tests.support.soak import soak_only
from tests.support.workbench import Workbench, table_of

RANDOM = np.random.default_rng(5)
ROWS = 1000
X = RANDOM.uniform(-1, 1, ROWS).round(3)
COUNTS = RANDOM.poisson(np.exp(1.0 + 1.5 * X))
NOISY = (2 * X + RANDOM.exponential(1.0, ROWS)).round(3)
TABLE = table_of({"x": X.tolist(), "count": COUNTS.tolist(), "y": NOISY.tolist()})
SPLIT = {"train": 0.8, "validation": 0.0, "test": 0.2, "strategy": "sequential"}


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
def test_the_quantile_loss_is_scikit_learns(q: float) -> None:
    true, predicted = RANDOM.normal(size=(2, 50, 3)).astype(np.float32)
    outputs, y = torch.from_numpy(predicted), torch.from_numpy(true)
    expected = mean_pinball_loss(true, predicted, alpha=q)
    assert Objective(QuantileSpec(q=q))(outputs, y).item() == pytest.approx(expected, rel=1e-5)
    rows = by_row(QuantileSpec(q=q), outputs, y)
    assert rows.shape == (50,)
    assert rows.mean().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("full", [False, True])
def test_the_poisson_loss_is_torchs_of_logarithms(full: bool) -> None:
    outputs, y = torch.randn(40, 1), torch.arange(40.0)[:, None]
    expected = torch.nn.PoissonNLLLoss(full=full)(outputs, y)
    assert Objective(PoissonNLLSpec(full=full))(outputs, y) == expected


@pytest.mark.parametrize(
    ("kind", "q"),
    [("linear", 0.9), ("mlp", 0.1), pytest.param("tabular", 0.9, marks=soak_only)],
)
def test_a_share_of_rows_lies_below_their_quantile(
    workbench: Workbench, kind: str, q: float
) -> None:
    run = workbench.train(
        TABLE,
        features=["x"],
        split=SPLIT,
        model=kind,
        loss={"kind": "pinball", "q": q},
        epochs=40,
    )
    predictor = run.predictor
    predicted = predictor.predictions(predictor.outputs(TABLE.select(["x"])))
    assert (predicted > NOISY).mean() == pytest.approx(q, abs=0.05)
    # and it is judged as what it is: beside the constant quantile, by the pinball loss
    [baseline] = run.predictor.card.baseline or []
    assert baseline == pytest.approx(np.quantile(NOISY[:800], q), abs=1e-6)
    assert run.ended.importance is not None
    assert run.ended.importance.metric == "pinball"
    assert not any("no better than guessing" in warning for warning in run.ended.warnings)


@pytest.mark.parametrize(
    ("kind", "scaled"),
    [("linear", "standard"), ("linear", "none"), ("linear", None), ("mlp", None)],
)
def test_counts_are_learnt_as_scikit_learn_does(
    workbench: Workbench, kind: str, scaled: str | None
) -> None:
    run = workbench.train(
        TABLE,
        target="count",
        features=["x"],
        split=SPLIT,
        model=kind,
        loss="poisson",
        epochs=50,
        preprocessing={} if scaled is None else {"target": scaled},
    )
    target = run.predictor.target
    assert isinstance(target, NumberTargets)
    assert target.center == [0.0]
    assert target.scale == [1.0 if scaled == "none" else COUNTS[:800].mean()]
    predictor = run.predictor
    outputs = predictor.outputs(TABLE.select(["x"]).slice(800))
    predicted = predictor.predictions(outputs)
    assert predictor.predictions(outputs[:1]) == predicted[:1]
    assert predictor.answers(outputs)["prediction"].to_pylist() == predicted
    theirs = PoissonRegressor(alpha=0).fit(X[:800, None], COUNTS[:800]).predict(X[800:, None])
    ours, peer = (mean_poisson_deviance(COUNTS[800:], p) for p in (predicted, theirs))
    assert ours < 1.1 * peer
    rmse = float(np.sqrt(np.mean((COUNTS[800:] - predicted) ** 2)))
    assert run.series("test_rmse")[-1] == pytest.approx(rmse, rel=1e-4)
    assert run.ended.test is not None
    assert run.ended.test["rmse"] == pytest.approx(rmse, rel=1e-6)


def test_an_output_far_beyond_float32_is_a_number_still() -> None:
    target = NumberTargets(names=["y"], center=[0.0], scale=[2.0], link="log")
    decoded = target.decode(np.array([[1e30], [-1e30], [0.0]], np.float32))
    assert np.isfinite(decoded).all()
    assert decoded[1:].tolist() == [[0.0], [2.0]]


def test_large_counts_are_reached_from_the_start(workbench: Workbench) -> None:
    """An output of 0 means the mean, so that the first epochs need not climb to its logarithm."""
    large = table_of({"x": X.tolist(), "count": (COUNTS * 100_000).tolist()})
    run = workbench.train(
        large, target="count", features=["x"], split=SPLIT, model="linear", loss="poisson"
    )
    assert run.ended.test is not None
    assert (run.ended.test["r2"] or 0) > 0.5
