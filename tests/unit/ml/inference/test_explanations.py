"""What features add to a prediction, and how much a model relies on them."""

from typing import Any

import numpy as np
import pytest

from app.errors import InvalidRequest
from app.ml.inference import explanations
from app.ml.inference.explanations import Background
from tests.support.workbench import Run, Workbench, table_of

RANDOM = np.random.default_rng(13)
ROWS = 400
A, B = RANDOM.normal(size=(2, ROWS)).round(3)
COLORS = [["red", "blue", "green"][i % 3] for i in range(ROWS)]
SHIFT = {"red": 5.0, "blue": 0.0, "green": -5.0}
TABLE = table_of(
    {
        "a": A.tolist(),
        "b": B.tolist(),
        "color": COLORS,
        "noise": RANDOM.normal(size=ROWS).tolist(),
        "y": (10 * A + B + np.array([SHIFT[c] for c in COLORS])).tolist(),
        "kind": [["no", "yes", "maybe"][int(v > 0) + int(v > 1)] for v in A],
        "flag": (A + 0.3 * B > 0).tolist(),
        "count": RANDOM.poisson(np.exp(A)).tolist(),
    }
)
FEATURES = ["a", "b", "color", "noise"]
QUICK: dict[str, Any] = {"features": FEATURES, "epochs": 12, "early_stopping": None}


def explained(run: Run, rows: int = 20, most: int = 10) -> tuple[Any, Any, list[Any]]:
    predictor = run.predictor
    x = predictor.encode(TABLE.select(FEATURES).slice(0, rows))
    outputs = predictor.forward(x)
    return predictor, outputs, predictor.explain(x, outputs, most)


def total(explanation: Any) -> float:
    return float(explanation["base"] + sum(explanation["contributions"].values()))


# ---------------------------------------------------------------- the method


def test_a_sum_is_what_it_is_made_of() -> None:
    """Of a linear model a feature adds its coefficient times how far it is from the background."""
    x = RANDOM.normal(size=(5, 3)).astype(np.float32)
    background = Background.of(RANDOM.normal(size=(100, 3)).astype(np.float32), seed=0)
    weights = np.array([1.0, -2.0, 0.5])
    base, found = explanations.contributions(
        x, background, [(0, 1), (1, 2), (2, 3)], lambda rows: rows @ weights + 7
    )
    mean = background.rows.mean(axis=0)
    assert base == pytest.approx(np.full(5, mean @ weights + 7), rel=1e-5)
    assert found == pytest.approx((x - mean) * weights, rel=1e-4, abs=1e-6)


def test_orders_and_their_reverses_are_walked() -> None:
    """From each row of the background one way; of a product the order matters."""
    orders: list[list[int]] = []

    def answer(rows: Any) -> Any:
        if len(rows) > 2:
            walk = np.concatenate([rows.reshape(3, 2, 3)[:, 0], x[:1]])
            orders.append([int(np.flatnonzero(step)[0]) for step in np.diff(walk, axis=0)])
        return rows.prod(axis=1)

    x = np.full((2, 3), 5.0, np.float32)
    background = Background.of(RANDOM.normal(size=(50, 3)).astype(np.float32), seed=1)
    base, found = explanations.contributions(x, background, [(0, 1), (1, 2), (2, 3)], answer)
    assert len(orders) == background.count == 4
    assert orders[1] == orders[0][::-1]
    assert orders[3] == orders[2][::-1]
    assert base + found.sum(axis=1) == pytest.approx(x.prod(axis=1), rel=1e-5)
    assert base == pytest.approx(np.full(2, background.rows.prod(axis=1).mean()), rel=1e-5)


def test_pieces_cover_all_rows_and_are_bounded() -> None:
    for rows, features, inputs in ((0, 3, 3), (1000, 20, 40), (10, 5_000, 5_000), (7, 1, 1)):
        pieces = list(explanations.pieces(rows, features, inputs))
        found = [place for piece in pieces for place in range(rows)[piece]]
        assert found == list(range(rows))
        assert all((p.stop - p.start) * (features + 1) <= 65_536 for p in pieces)


def test_the_largest_are_named_and_the_rest_is_their_sum() -> None:
    told = explanations.largest(["a", "b", "c"], 1.0, [0.5, -3.0, 1.0], 2)
    assert told == {"base": 1.0, "contributions": {"b": -3.0, "c": 1.0, "other": 0.5}}
    assert "other" not in explanations.largest(["a"], 1.0, [0.5], 5)["contributions"]


# ---------------------------------------------------------------- a model's


@pytest.mark.parametrize("model", ["linear", "mlp", "tabular"])
def test_they_add_up_to_the_prediction(workbench: Workbench, model: str) -> None:
    run = workbench.train(TABLE, **QUICK, model=model)
    predictor, outputs, found = explained(run)
    for value, explanation in zip(predictor.predictions(outputs), found, strict=True):
        assert total(explanation) == pytest.approx(value, rel=1e-4, abs=1e-3)
        assert explanation["contributions"].keys() == set(FEATURES)
    again = explained(run)[2]
    assert again == found
    assert explained(run, most=1)[2][0]["contributions"].keys() == {
        next(iter(found[0]["contributions"])),
        "other",
    }


def test_they_say_what_matters(workbench: Workbench) -> None:
    run = workbench.train(TABLE, **QUICK, model="linear", optimizer={"kind": "adam", "lr": 0.3})
    _, _, found = explained(run, rows=ROWS)
    sizes = {name: np.mean([abs(one["contributions"][name]) for one in found]) for name in FEATURES}
    assert sorted(sizes, key=lambda name: -sizes[name]) == ["a", "color", "b", "noise"]
    reds = [
        one["contributions"]["color"] for one, c in zip(found, COLORS, strict=True) if c == "red"
    ]
    greens = [
        one["contributions"]["color"] for one, c in zip(found, COLORS, strict=True) if c == "green"
    ]
    assert np.mean(reds) - np.mean(greens) == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("target", ["kind", "flag"])
def test_of_classes_the_logit_of_the_answer_is_explained(workbench: Workbench, target: str) -> None:
    run = workbench.train(TABLE, **QUICK, target=target)
    predictor, outputs, found = explained(run)
    shares = predictor.shares(outputs)
    chosen = predictor.target.chosen(shares)
    for row, explanation in enumerate(found):
        share = shares[row, chosen[row]]
        assert total(explanation) == pytest.approx(np.log(share / (1 - share)), rel=1e-3, abs=1e-3)


def test_several_targets_and_counts(workbench: Workbench) -> None:
    run = workbench.train(TABLE, **{**QUICK, "features": ["b", "color"]}, target=["y", "a"])
    predictor = run.predictor
    x = predictor.encode(TABLE.select(["b", "color"]).slice(0, 5))
    outputs = predictor.forward(x)
    for value, told in zip(
        predictor.predictions(outputs), predictor.explain(x, outputs, 5), strict=True
    ):
        for name in ("y", "a"):
            assert total(told[name]) == pytest.approx(value[name], rel=1e-3, abs=1e-3)
    counts = workbench.train(TABLE, **QUICK, target="count", loss="poisson_nll", model="mlp")
    predictor, outputs, found = explained(counts)
    for value, explanation in zip(predictor.predictions(outputs), found, strict=True):
        assert total(explanation) == pytest.approx(value, rel=1e-3, abs=1e-3)


def test_an_older_model_has_none(workbench: Workbench) -> None:
    run = workbench.train(TABLE, **QUICK, model="linear")
    predictor = run.predictor
    predictor.card = predictor.card.model_copy(update={"background": None})
    x = predictor.encode(TABLE.select(FEATURES).slice(0, 2))
    with pytest.raises(InvalidRequest, match="kept no rows to hold others against"):
        predictor.explain(x, predictor.forward(x), 3)


# ---------------------------------------------------------------- importance


@pytest.mark.parametrize("model", ["linear", "tabular"])
@pytest.mark.parametrize("target", ["y", "flag"])
def test_importance_is_of_what_the_model_relies_on(
    workbench: Workbench, model: str, target: str
) -> None:
    found = workbench.train(TABLE, **QUICK, target=target, model=model).ended.importance
    assert found is not None
    assert found.metric == ("rmse" if target == "y" else "log_loss")
    assert found.rows == 40
    assert {item.feature for item in found.features} == set(FEATURES)
    assert found.features[0].feature == "a"
    assert found.features[0].mean > 3 * abs(
        next(item.mean for item in found.features if item.feature == "noise")
    )
    means = [item.mean for item in found.features]
    assert means == sorted(means, reverse=True)


def test_importance_does_not_change_what_is_trained(workbench: Workbench) -> None:
    first, second = (workbench.train(TABLE, **QUICK, model="mlp") for _ in range(2))
    assert first.weights_sha256 == second.weights_sha256
    assert first.ended.importance == second.ended.importance
