"""The defaults of `mlp` and `sequential` beside those of scikit-learn's MLP."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.support.soak import soak_only
from tests.support.workbench import Workbench, table_of

SPLITS = 5
SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
NEAR = 0.05
"""How far behind in R² or accuracy a default may be."""
TABLES: dict[str, tuple[Callable[[], Any], bool]] = {
    "twenty": (lambda: datasets.make_regression(20, 2, noise=5.0, random_state=0), False),
    "iris": (lambda: datasets.load_iris(return_X_y=True), True),
    "wine": (lambda: datasets.load_wine(return_X_y=True), True),
    "breast_cancer": (lambda: datasets.load_breast_cancer(return_X_y=True), True),
    "diabetes": (lambda: datasets.load_diabetes(return_X_y=True), False),
    "digits": (lambda: _first(datasets.load_digits(return_X_y=True), 1000), True),
    "friedman1": (lambda: datasets.make_friedman1(500, noise=1.0, random_state=0), False),
    "regression": (lambda: datasets.make_regression(200, 10, noise=20.0, random_state=0), False),
    "moons": (lambda: datasets.make_moons(300, noise=0.2, random_state=0), True),
    "classification": (lambda: datasets.make_classification(1000, random_state=0), True),
}


def _first(table: Any, rows: int) -> Any:
    return table[0][:rows], table[1][:rows]


@soak_only
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", TABLES)
def test_they_come_within_five_hundredths(workbench: Workbench, name: str) -> None:
    load, classifies = TABLES[name]
    x, y = load()
    columns = {f"f{i}": x[:, i].tolist() for i in range(x.shape[1])}
    labels = [f"c{value}" for value in y] if classifies else y.tolist()
    table = table_of({**columns, "y": labels})
    metric = "accuracy" if classifies else "r2"
    models: dict[str, Any] = {
        "mlp": {"kind": "mlp"},
        "sequential": {
            "kind": "sequential",
            "layers": [{"kind": "Linear", "out_features": 100}, "ReLU", "Linear"],
        },
    }
    found = {
        kind: np.mean(
            [
                score(workbench, table, metric, model=models[kind], split={**SHARES, "seed": seed})
                for seed in range(SPLITS)
            ]
        )
        for kind in models
    }
    theirs = np.mean(cross_val_score(peer(classifies), x, y, cv=splits(y, classifies)))
    print(f"{name}: {metric} {found}, scikit-learn {theirs:.3f}")
    for kind, ours in found.items():
        assert ours >= theirs - NEAR, kind


def score(workbench: Workbench, table: Any, metric: str, **fields: Any) -> float:
    """Of the test part."""
    ended = workbench.train(table, **fields).ended
    assert ended.test is not None
    value = ended.test[metric]
    assert value is not None
    return value


def peer(classifies: bool) -> Any:
    """scikit-learn's, with its target scaled as ours is: without that it learns little."""
    if classifies:
        return make_pipeline(StandardScaler(), MLPClassifier(random_state=0, max_iter=1000))
    network = make_pipeline(StandardScaler(), MLPRegressor(random_state=0, max_iter=1000))
    return TransformedTargetRegressor(network, transformer=StandardScaler())


def splits(y: Any, classifies: bool) -> Any:
    """As many splits as ours are, with test parts as large."""
    kind = StratifiedShuffleSplit if classifies else ShuffleSplit
    return kind(SPLITS, test_size=SHARES["test"], random_state=0)
