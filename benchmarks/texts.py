"""What a column of text adds to a job of nothing but ``dataset`` and ``target``, and what it costs.

Four tables of texts that come with Python and its packages, three seeds of an 80/20 split each; the
same job with the column and without it. Errors on the 20 %: RMSE for numbers, the share of wrong
answers for classes. scikit-learn's tf-idf with logistic or ridge regression, fitted on the text of
all of the 80 %, stands beside.

Targets: better with the column than without by more than two standard errors of the paired
differences on three of the four tables; a row of numbers as fast as it was.
"""

import ast
import sys
import time
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median, stdev
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from app.ml.training.fit import fit
from benchmarks.harness import Scale, console, rounds, table

PACKAGES = ("numpy", "scipy", "sklearn", "pandas", "matplotlib", "torch")
_LONGEST = 600
"""Characters of a docstring."""


def _functions(package: str) -> Iterator[tuple[str, int]]:
    """Yield docstring and number of parameters of the public functions of a package."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    for path in sorted(Path(spec.origin).parent.rglob("*.py")):
        if "test" in str(path):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                text = ast.get_docstring(node)
                if text and len(text.split()) >= 5:
                    arguments = node.args
                    count = len(arguments.args) + len(arguments.kwonlyargs)
                    yield text.replace(node.name, "it")[:_LONGEST], count


def docstrings() -> pd.DataFrame:
    """The package that a function is of, by its docstring."""
    rows = [(text, count, name) for name in PACKAGES for text, count in _functions(name)]
    return pd.DataFrame(rows, columns=["text", "parameters", "y"])


def parameters() -> pd.DataFrame:
    """How many parameters a function has, by its docstring."""
    rows = [(text, len(text), count) for name in PACKAGES for text, count in _functions(name)]
    return pd.DataFrame(rows, columns=["text", "length", "y"])


def characters() -> pd.DataFrame:
    """What kind of character it is, by its name in Unicode."""
    rows = []
    for code in range(sys.maxunicode):
        name = unicodedata.name(chr(code), "")
        if name and len(name.split()) >= 5 and "-" not in name:
            rows.append((name, code % 16, unicodedata.category(chr(code))))
    frame = pd.DataFrame(rows, columns=["text", "digit", "y"])
    return frame[frame["y"].isin(frame["y"].value_counts().index[:6])]


def exceptions() -> pd.DataFrame:
    """What is raised, by its message, in Python's own library."""
    rows = []
    for path in sorted(Path(ast.__file__).parent.rglob("*.py")):
        if "site-packages" in str(path) or "test" in str(path):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                said = ast.unparse(node.exc.args[0]).strip("f'\"")
                if isinstance(node.exc.func, ast.Name) and len(said.split()) >= 3:
                    rows.append((said, node.col_offset, node.exc.func.id))
    common = [name for name, count in Counter(row[2] for row in rows).items() if count >= 60]
    frame = pd.DataFrame(rows, columns=["text", "indent", "y"])
    return frame[frame["y"].isin(common)]


TABLES: dict[str, tuple[Callable[[], pd.DataFrame], bool]] = {
    "docstrings": (docstrings, True),
    "parameters": (parameters, False),
    "characters": (characters, True),
    "exceptions": (exceptions, True),
}
"""How to make it, and whether its target ``y`` is a class."""


@dataclass(frozen=True)
class Size:
    seeds: int
    rows: int
    models: tuple[str, ...] = ("tabular", "mlp", "linear")
    tables: tuple[str, ...] = tuple(TABLES)


SIZES = {
    Scale.FULL: Size(seeds=3, rows=1_000),
    Scale.QUICK: Size(seeds=2, rows=500, models=("tabular",), tables=("docstrings", "characters")),
    Scale.TINY: Size(seeds=1, rows=200, models=("linear",), tables=("characters",)),
}


def error(predicted: Any, truth: Any, classes: bool) -> float:
    """Return the share of wrong answers, or the RMSE."""
    if classes:
        return float(np.mean(np.array(predicted) != np.array(truth)))
    return float(np.sqrt(np.mean((np.array(predicted) - np.array(truth)) ** 2)))


def by_fitserve(model: str, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> Any:
    """Return the answers for ``test`` of a job at its defaults."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "train.ndjson"
        train.to_json(path, orient="records", lines=True)
        predictor = fit(path, "y", Path(folder) / "work", model=model, seed=seed)
        rows = test.drop(columns="y").to_dict("records")
        return predictor.predictions(predictor.outputs(predictor.tables.of_rows(rows)))


def by_hand(train: pd.DataFrame, test: pd.DataFrame, classes: bool) -> Any:
    """Return the answers of scikit-learn by the text alone."""
    last = LogisticRegression(max_iter=1000, C=10) if classes else Ridge()
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
    return make_pipeline(words, last).fit(train["text"], train["y"]).predict(test["text"])


def compare(name: str, model: str, size: Size) -> tuple[list[float], list[float], list[float]]:
    """Return the errors with the text, without it, and by hand, one a seed."""
    make, classes = TABLES[name]
    whole = make()
    found: tuple[list[float], list[float], list[float]] = ([], [], [])
    for seed in rounds(size.seeds, f"{name}, {model}"):
        frame = whole.sample(min(size.rows, len(whole)), random_state=seed)
        train, test = train_test_split(
            frame, test_size=0.2, random_state=seed, stratify=frame["y"] if classes else None
        )
        answers = (
            by_fitserve(model, train, test, seed),
            by_fitserve(model, train.drop(columns="text"), test.drop(columns="text"), seed),
            by_hand(train, test, classes),
        )
        for errors, answer in zip(found, answers, strict=True):
            errors.append(error(answer, test["y"], classes))
    return found


def microseconds_a_row(rows: int) -> tuple[float, float]:
    """Return what encoding one row takes with a text of 12 words, and without."""
    frame = characters().sample(rows, random_state=0)
    frame["text"] = [" ".join([*text.split(), *text.split()[::-1]][:12]) for text in frame["text"]]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "train.ndjson"
        frame.to_json(path, orient="records", lines=True)
        predictor = fit(path, "y", Path(folder) / "work", model="linear", epochs=1)
    row = {"text": str(frame.iloc[0]["text"]), "digit": int(frame.iloc[0]["digit"])}

    def taken(values: dict[str, Any]) -> float:
        times = []
        for _ in range(300):
            started = time.perf_counter()
            assert predictor.row.of_object(values) is not None
            times.append(time.perf_counter() - started)
        return 1e6 * median(times)

    return taken(row), taken({**row, "text": None})


def run(scale: Scale) -> None:
    """Print each row as it comes, then the table."""
    size = SIZES[scale]
    rows = table(
        f"A column of text, {size.rows:,} rows, {size.seeds} seeds",
        *("table", "model", "with it", "without", "difference in standard errors"),
        "tf-idf and a linear model by hand",
    )
    better: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in size.tables:
            for model in size.models:
                own, without, hand = compare(name, model, size)
                gains = [b - a for a, b in zip(own, without, strict=True)]
                spread = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
                away = mean(gains) / spread if spread else float("inf")
                better[model] += away > 2
                cells = [f"{mean(e):.4g}" for e in (own, without, hand)]
                console.print(name, model, *cells, f"{away:.1f}")
                rows.add_row(name, model, *cells[:2], f"{away:.1f}", cells[2])
        whole, bare = microseconds_a_row(min(size.rows, 1_000))
    console.print(rows)
    for model in size.models:
        console.print(f"{model}: better by more than two on {better[model]} (target: 3 of 4)")
    console.print(f"one row: {whole:.0f} us with a text of 12 words, {bare:.0f} without one")
