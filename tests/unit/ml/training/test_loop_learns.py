"""Every task is learnt, and a model that learnt nothing is warned of."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.workbench import Workbench, table_of

# ---------------------------------------------------------------- every task learns


def easy(rows: int = 240) -> pa.Table:
    """Targets of every kind that follow from two features."""
    random = np.random.default_rng(1)
    a, b = random.uniform(-1, 1, rows), random.uniform(-1, 1, rows)
    return table_of(
        {
            "a": a.tolist(),
            "b": b.tolist(),
            "sum": (a + b).tolist(),
            "difference": (100 * (a - b)).tolist(),
            "high": (a > 0).tolist(),
            "wide": (b > 0.3).tolist(),
            "side": np.where(a + b > 0, "right", "left").tolist(),
            "third": np.digitize(a, [-0.33, 0.33]).tolist(),
        }
    )


EASY: dict[str, Any] = {
    "features": ["a", "b"],
    "optimizer": {"kind": "adam", "lr": 0.01},
    "epochs": 40,
    "model": {"kind": "mlp", "hidden": [32]},
}


@pytest.mark.parametrize(
    "fields",
    [
        {"target": "side"},
        {"target": "side", "loss": "cross_entropy"},
        {"target": "high"},
        {"target": "third", "task": "multiclass"},
        {"target": ["high", "wide"]},
    ],
)
def test_classes_are_learnt_and_beat_the_baseline(
    workbench: Workbench, fields: dict[str, Any]
) -> None:
    run = workbench.train(easy(), **EASY, **fields)
    scores, guesses = run.ended.test, run.ended.baseline
    assert scores is not None
    assert guesses is not None
    assert scores.keys() >= {"accuracy", "f1_macro", "auc", "log_loss"}
    assert scores["accuracy"] is not None
    assert scores["accuracy"] > 0.85
    assert guesses["accuracy"] is not None
    assert scores["accuracy"] > guesses["accuracy"]
    assert (scores["log_loss"] or 9) < (guesses["log_loss"] or 0)


@pytest.mark.parametrize("target", ["sum", ["sum"], ["sum", "difference"]])
@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_numbers_are_learnt_and_beat_the_baseline(
    workbench: Workbench, target: Any, loss: str
) -> None:
    run = workbench.train(easy(), **EASY, target=target, loss=loss)
    scores, guesses = run.ended.test, run.ended.baseline
    assert scores is not None
    assert guesses is not None
    assert scores.keys() >= {"mae", "rmse", "r2"}
    assert (scores["r2"] or 0) > 0.95
    assert (scores["rmse"] or 9e9) < (guesses["rmse"] or 0)
    assert run.ended.warnings == []


def test_a_model_that_learnt_nothing_is_warned_of(workbench: Workbench) -> None:
    """Weights that hardly move answer nearly zero, far from the mean."""
    still = {"kind": "sgd", "lr": 1e-12}
    plain = {"numbers": "none", "target": "none"}
    table = table_of({"x": [i % 7 for i in range(60)], "y": [100.0 + i % 5 for i in range(60)]})
    run = workbench.train(
        table, optimizer=still, model={"kind": "linear"}, preprocessing=plain, epochs=1
    )
    (said,) = run.ended.warnings
    assert said.startswith("on the test part the model is no better than guessing: mae ")
    assert said.endswith("of always answering the mean of the training part")
