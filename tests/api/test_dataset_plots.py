"""Plots of a dataset, over HTTP and from a stored table."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats.contingency import association

from app.errors import NotApplicable
from app.ml import plots
from app.ml.column_types.canonical import column_type
from app.ml.drawing import MAX_POINTS
from app.ml.tables import associations, parquet, profile, summaries
from app.ml.tables.typed import TypedTable
from app.services.datasets import plots as dataset_plots
from tests.support.server import Json, Server, problem

ROWS: list[Json] = [
    {
        "carat": None if i == 3 else 0.1 * i,
        "price": 1000 * i,
        "stars": i % 5,
        "fixed": 7,
        "cut": None if i == 5 else f"cut {i % 13}",
        "sold": i % 3 == 0,
        "day": f"2026-01-{i % 28 + 1:02d}",
        "when": f"2026-01-{i % 28 + 1:02d}T10:00:00Z",
        "notes": f"a sentence of more than five words {i}",
        "$\\frac{$<b>": i * i,
    }
    for i in range(60)
]
FORMATS: list[Literal["png", "svg"]] = ["png", "svg"]


@pytest.fixture(scope="module")
def stones(server: Server) -> str:
    """The path of a dataset with columns of every type."""
    columns: Json = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    columns["empty"] = [None] * len(ROWS)
    types = {"notes": "text", "day": "datetime", "when": "datetime"}
    body = {"source": {"kind": "inline", "columns": columns}, "types": types}
    return f"/v1/datasets/{server.ok('POST', '/v1/datasets', json=body)['id']}/plots"


# ---------------------------------------------------------------- over HTTP


@pytest.mark.parametrize("image", FORMATS)
@pytest.mark.parametrize(
    "plot",
    [
        "scatter",
        "scatter?x=stars&y=stars",
        "scatter?x=when",
        "scatter?x=day&y=when",
        "histogram",
        *(f"histogram?x={name}" for name in ROWS[0] if name.isalpha() and name != "notes"),
        "histogram?x=$%5Cfrac%7B$%3Cb%3E",
        "correlation",
    ],
)
def test_plots(server: Server, stones: str, plot: str, image: str) -> None:
    kind, _, query = plot.partition("?")
    response = server.client.get(f"{stones}/{kind}.{image}?{query}")
    assert response.status_code == 200, response.text
    starts = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml"}
    media = {"png": "image/png", "svg": "image/svg+xml"}
    assert response.headers["content-type"] == media[image]
    assert response.content.startswith(starts[image])


@pytest.mark.parametrize(
    ("plot", "pointer", "remedy"),
    [
        ("scatter.png?y=prices", "/y", "did you mean 'price'?"),
        ("histogram.png?x=prices", "/x", "did you mean 'price'?"),
        ("histogram.png?x=price&y=carat", "/y", "leave y out"),
        ("correlation.png?x=price", "/x", "leave x out"),
        ("correlation.svg?y=price", "/y", "leave y out"),
    ],
)
def test_columns_that_do_not_fit(
    server: Server, stones: str, plot: str, pointer: str, remedy: str
) -> None:
    found = problem(server.client.get(f"{stones}/{plot}"), 422, "invalid_request")
    assert [error["pointer"] for error in found["errors"]] == [pointer]
    assert remedy in found["detail"]


@pytest.mark.parametrize(
    ("plot", "pointer", "remedy"),
    [
        ("scatter.png?x=cut", "/x", "choose a column that has"),
        ("scatter.png?y=sold", "/y", "choose a column that has"),
        ("histogram.png?x=notes", "/x", "choose another column"),
        ("histogram.png?x=empty", "/x", "choose another column"),
    ],
)
def test_columns_that_can_never_be_drawn(
    server: Server, stones: str, plot: str, pointer: str, remedy: str
) -> None:
    found = problem(server.client.get(f"{stones}/{plot}"), 422, "not_applicable")
    assert [error["pointer"] for error in found["errors"]] == [pointer]
    assert remedy in found["detail"]


def test_nothing_to_draw(server: Server) -> None:
    columns: Json = {"a": ["x", "y"], "b": [None, None]}
    body = {"source": {"kind": "inline", "columns": columns}}
    made = f"/v1/datasets/{server.ok('POST', '/v1/datasets', json=body)['id']}/plots"
    problem(server.client.get(f"{made}/scatter.png"), 422, "not_applicable")
    found = problem(server.client.get(f"{made}/correlation.png"), 422, "not_applicable")
    assert "at least 2 columns" in found["detail"]
    assert server.client.get(f"{made}/histogram.png").status_code == 200
    assert server.client.get(f"{made}/pie.png").status_code == 422


def test_numbers_at_the_edge(server: Server) -> None:
    columns = {"x": [1e308, -1e308] * 10, "y": [1.7e308] * 20, "z": [*range(20)]}
    body = {"source": {"kind": "inline", "columns": columns}}
    made = f"/v1/datasets/{server.ok('POST', '/v1/datasets', json=body)['id']}/plots"
    for plot in ("scatter.svg", "histogram.png?x=x", "histogram.svg?x=y", "correlation.png"):
        assert server.client.get(f"{made}/{plot}").status_code == 200


# ---------------------------------------------------------------- from a stored table


def source(folder: Path, *, detailed: bool = True, **columns: Any) -> dataset_plots.PlotSource:
    """A stored table of several row groups; without ``detailed`` as older profiles are."""
    table = pa.table(columns)
    path = folder / parquet.FILE
    parquet.write(table, path)
    types = {name: column_type(table[name].type) for name in columns}
    found = profile.profile(TypedTable(table, types))
    if not detailed:
        extra = ("histogram", "quantiles", "count")
        found = [{k: v for k, v in column.items() if k not in extra} for column in found]
    return dataset_plots.PlotSource(path, found, table.num_rows, "stones")


def test_correlations_are_those_of_complete_pairs(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(4, 200_000)).cumsum(axis=0) * [[1], [1e-9], [1e12], [3]] + 1e3
    gaps = random.random(values.shape) < [[0.0], [0.1], [0.5], [0.0]]
    columns = {str(i): pa.array(values[i], mask=gaps[i]) for i in range(4)}
    stored = source(tmp_path, **columns)
    found = associations.associations(stored.path, stored.columns)
    for i in range(4):
        for j in range(4):
            both = ~gaps[i] & ~gaps[j]
            expected = np.corrcoef(values[i][both], values[j][both])[0, 1]
            assert found[i, j] == pytest.approx(expected, abs=1e-6 if 1 in (i, j) else 1e-12)


def test_correlations_of_what_does_not_vary_are_missing(tmp_path: Path) -> None:
    half = np.arange(1000) % 2 == 0
    stored = source(
        tmp_path,
        falling=-np.arange(1000) * 1e305,
        rising=np.arange(1000),
        constant=np.full(1000, 3.7),
        constant_with_other=np.where(half, 0.1, np.arange(1000)),
        other=pa.array(np.arange(1000.0), mask=~half),
    )
    found = associations.associations(stored.path, stored.columns)
    assert found[0, :2] == pytest.approx([1, -1])
    assert np.isnan(found[2]).all()
    assert np.isnan(found[3, 4])
    assert found[3, 3] == pytest.approx(1)
    assert np.allclose(found, found.T, equal_nan=True)


def test_labels_are_held_against_numbers_and_one_another(tmp_path: Path) -> None:
    """Against SciPy and by hand, on rows that have both values, over several row groups."""
    random = np.random.default_rng(0)
    count = 150_000
    shop = random.integers(0, 4, count)
    city = np.where(random.random(count) < 0.7, shop % 3, random.integers(0, 3, count))
    price = shop * 2.0 + random.normal(size=count)
    gap = random.random(count) < 0.1
    stored = source(
        tmp_path,
        price=price,
        shop=pa.array([f"shop {i}" for i in shop], mask=gap),
        open=pa.array(city == 1),
        city=[f"city {i}" for i in city],
        day=(shop * 86_400_000_000).astype("datetime64[us]"),
        same=["x"] * count,
    )
    found = associations.associations(stored.path, stored.columns)
    table = pd.crosstab(shop[~gap], city[~gap]).to_numpy()
    assert found[1, 3] == pytest.approx(association(table, method="cramer"), rel=1e-9)
    known, labels = price[~gap], shop[~gap]
    means = np.array([known[labels == i].mean() for i in range(4)])[labels]
    assert found[0, 1] == pytest.approx(np.sqrt(means.var() / known.var()), rel=1e-9)
    assert found[0, 4] == pytest.approx(np.corrcoef(price, shop)[0, 1], rel=1e-9)
    assert found[0, 2] == pytest.approx(np.corrcoef(price, city == 1)[0, 1], rel=1e-9)
    assert found[1, 4] == pytest.approx(1), "a day for each shop"
    assert found[1, 1] == pytest.approx(1)
    assert np.isnan(found[5]).all()
    assert np.allclose(found, found.T, equal_nan=True)


@pytest.mark.parametrize("image", FORMATS)
def test_histograms_without_a_stored_one_are_the_same(
    tmp_path: Path, image: Literal["png", "svg"]
) -> None:
    random = np.random.default_rng(0)
    count = 100_000
    columns = {
        "number": pa.array(random.normal(size=count), mask=random.random(count) < 0.1),
        "whole": random.integers(-3, 4, count),
        "moment": random.integers(0, 2**55, count).astype("datetime64[us]"),
        "day": random.integers(20_000, 20_009, count).astype("datetime64[D]"),
    }
    stored = source(tmp_path, **columns)
    bare = source(tmp_path, detailed=False, **columns)
    for name in columns:
        edges, counts = summaries.histogram(stored.path, stored.column(name, "/x"))
        again = summaries.histogram(bare.path, bare.column(name, "/x"))
        assert edges.tolist() == again[0].tolist()
        assert counts.tolist() == again[1].tolist()
        assert counts.sum() == count - stored.column(name, "/x")["missing"]
        assert len(plots.draw(dataset_plots.histogram(bare, name), image)) > 5000


def test_few_whole_numbers_have_a_bar_each(tmp_path: Path) -> None:
    stars = [1, 2, 2, 3, 3, 3, 5]
    days = np.array(stars, dtype="datetime64[D]")
    stored = source(tmp_path, stars=stars, days=days)
    for column in stored.columns:
        edges, counts = summaries.histogram(stored.path, column)
        assert edges.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
        assert counts.tolist() == [1, 2, 3, 0, 1]


def test_bars_add_up_to_all_rows(tmp_path: Path) -> None:
    cuts = [None if i % 7 == 0 else f"cut {i % 13}" for i in range(1000)]
    stored = source(tmp_path, cut=cuts)
    bars = dataset_plots._bars(stored.columns[0], 1000)
    assert len(bars["values"]) == 10
    assert [label for label, _ in bars["left over"]] == ["3 others", "missing"]
    assert sum(count for group in bars.values() for _, count in group) == 1000


def test_points_are_spaced_over_all_rows(tmp_path: Path) -> None:
    count = 300_000
    rows = np.arange(count)
    stored = source(tmp_path, x=rows, y=pa.array(rows * 2.0, mask=rows < 1000))
    across, up = stored.columns
    x, y = summaries.spaced_pairs(stored.path, stored.rows, across, up, MAX_POINTS)
    assert MAX_POINTS - 20 < len(x) < MAX_POINTS
    assert (x.min(), x.max()) == (pytest.approx(1000, abs=60), count - 1)
    assert set(np.diff(x)) == {60, 61} or set(np.diff(x)) == {59, 60}
    assert (y == 2 * x).all()


def test_a_default_histogram_is_of_what_can_be_drawn(tmp_path: Path) -> None:
    names = ["b", "a", "b"]
    empty = pa.array([None] * 3, pa.float64())
    assert (
        dataset_plots._histogram_column(source(tmp_path, a=names, n=[1, 2, 3]), None)["name"] == "n"
    )
    assert dataset_plots._histogram_column(source(tmp_path, n=empty, a=names), None)["name"] == "a"
    with pytest.raises(NotApplicable):
        dataset_plots._histogram_column(source(tmp_path, n=empty), None)
