"""Plots are whole images, whatever the names and numbers in them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from app.ml import plots
from app.ml.drawing import BLUE, GREEN, GREY, MAX_POINTS, Format, Points, color
from app.ml.plots import canvas
from tests.support.soak import SOAK, soak_only

FORMATS: list[Format] = ["png", "svg"]
ODD_NAMES = [
    "$",
    "$x$",
    "$\\frac{$",
    "a_b^c",
    "_hidden",
    "50 % of {x}",
    "back\\slash",
    "a--b-->",
    "<b>&amp;",
    "two\nlines",
    "größe µ Ω",
    "long " * 100,
]


def check(image: bytes, wanted: Format) -> None:
    """A PNG from signature to end chunk, or an SVG that parses."""
    if wanted == "png":
        assert image.startswith(b"\x89PNG\r\n\x1a\n")
        assert b"IEND" in image[-12:]
    else:
        assert ElementTree.fromstring(image).tag == "{http://www.w3.org/2000/svg}svg"


def points(count: int) -> Points:
    return np.linspace(0, 1, count), np.linspace(1, 3, count) ** 2


def test_long_names_that_begin_alike_stay_apart() -> None:
    names = [f"a rather long product class {i}" for i in range(30)]
    shown = [canvas.label_text(name, 22) for name in names]
    assert len(set(shown)) == 30
    assert max(map(len, shown)) <= 22


# ---------------------------------------------------------------- every plot


def test_loss_curve() -> None:
    image: Format = "svg"
    series = {"train_loss": points(50), "validation_loss": points(50)}
    check(plots.loss_curve(series, "line: loss by epoch", "l1", 40, image), image)


@pytest.mark.parametrize("image", FORMATS)
def test_scatter(image: Format) -> None:
    clouds = {"training data": (points(40), BLUE), "testing data": (points(10), GREEN)}
    check(plots.scatter(clouds, "line", "x", "y", image), image)


def test_a_scatter_of_classes_names_them() -> None:
    clouds = {"training data": ((np.arange(3.0), np.array([0.0, 1.0, 0.0])), BLUE)}
    image = plots.labelled_scatter(clouds, "t", "x", "y", ["north", "south"], "svg")
    assert b"<!-- north -->" in image
    assert b"<!-- south -->" in image


def test_predicted_against_true() -> None:
    image: Format = "svg"
    clouds = {"untrained": (points(40), GREY), "trained": (points(40), GREEN)}
    check(plots.predicted_against_true(clouds, "line", "y", image), image)


@pytest.mark.parametrize(("count", "image"), [(1, "svg"), (2, "png"), (30, "svg")])
def test_class_counts(count: int, image: Format) -> None:
    labels = [f"class {i}" for i in range(count)]
    bars = {"true": ([3.0] * count, GREY), "predicted": ([2.0] * count, GREEN)}
    check(plots.class_counts(labels, bars, "flowers", "kind", image), image)


@pytest.mark.parametrize(("count", "image"), [(1, "png"), (5, "svg")])
def test_residuals(count: int, image: Format) -> None:
    clouds = {f"residuals of {i}": (points(40), color(i)) for i in range(count)}
    check(plots.residuals(clouds, "line", "y", image), image)


def squares(count: int, rows: int = 0) -> tuple[Any, Any]:
    """Counts and shares of as many classes, one of which has no row."""
    counts = np.arange(count * (rows or count)).reshape(rows or count, count) ** 3
    counts[0] = 0
    with np.errstate(invalid="ignore"):
        return counts, counts / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("rows", "columns", "image"),
    [
        (1, 1, "svg"),
        (2, 2, "png"),
        (12, 12, "svg"),
        (13, 13, "png"),
        *([(31, 31, "png")] if SOAK else []),
    ],
)
@pytest.mark.filterwarnings("error")
def test_confusion(rows: int, columns: int, image: Format) -> None:
    counts, shares = squares(columns, rows)
    names = [ODD_NAMES[i % len(ODD_NAMES)] for i in range(rows)]
    odd = ODD_NAMES[2]
    made = plots.confusion(counts, shares, (names, names[:columns]), (odd, odd), odd, image)
    check(made, image)


def test_a_confusion_writes_shares_where_there_is_room() -> None:
    counts = np.array([[3, 1], [0, 123_456]])
    pair = (["a", "b"], ["a", "b"])
    few = plots.confusion(counts, counts / [[4], [123_456]], pair, ("t", "p"), "t", "svg")
    for text in (b"75%", b"25%", b"123k", b"<!-- 100% -->"):
        assert text in few
    counts, shares = squares(13)
    names = [f"c{i}" for i in range(13)]
    many = plots.confusion(counts, shares, (names, names), ("t", "p"), "t", "svg")
    assert b"<!-- 2k -->" in many
    assert b"<!-- 7% -->" not in many


def test_a_loss_that_spans_decades_is_drawn_on_a_log_scale() -> None:
    series = {"train_loss": (np.arange(4), np.array([1e30, 1.0, 1e-3, 1e-8]))}
    check(plots.loss_curve(series, "t", "mse", None, "svg"), "svg")


def test_of_many_points_it_is_drawn_how_dense_they_are() -> None:
    few = plots.scatter({"a": (points(MAX_POINTS), BLUE)}, "t", "x", "y", "svg")
    many = plots.scatter({"a": (points(50 * MAX_POINTS), BLUE)}, "t", "x", "y", "svg")
    assert len(many) < len(few)
    assert b"PolyCollection" in many
    two = {"a": (points(50 * MAX_POINTS), BLUE), "b": (points(9), GREEN)}
    beside = plots.scatter(two, "t", "x", "y", "svg")
    assert b"PolyCollection" not in beside, "cells would hide the other cloud"
    assert len(beside) < 1.5 * len(few)


def test_importance() -> None:
    image: Format = "svg"
    names = [f"feature {i}" for i in range(30)]
    means = np.linspace(3, -0.1, 30)
    check(plots.importance(names, means, abs(means) / 10, "t", "rise of rmse", image), image)
    check(plots.importance([], np.array([]), np.array([]), "t", "rise", image), image)


def test_effect() -> None:
    image: Format = "svg"
    means = np.array([1.0, np.nan, 3.0])
    ends = (means - 1, means + 1e200)
    days = np.array(["2020-01-01", "2021-01-01", "2022-01-01"], "datetime64[us]")
    for places in (np.arange(3.0), days):
        check(plots.effect(places, [], means, ends, 2.0, "t", "x", "y", image), image)
    labels = ["north", "$south$", "west"]
    check(plots.effect(np.arange(3.0), labels, means, ends, None, "t", "x", "y", image), image)
    check(
        plots.effect(np.arange(1.0), [], means[:1], (means[:1],) * 2, np.nan, "t", "x", "y", image),
        image,
    )


def test_the_kept_epoch_is_marked() -> None:
    with_mark = plots.loss_curve({"train_loss": points(50)}, "t", "mse", 40, "svg")
    assert b"kept: epoch 40" in with_mark
    assert b"kept" not in plots.loss_curve({"train_loss": points(50)}, "t", "mse", None, "svg")


# ---------------------------------------------------------------- plots of datasets


@pytest.mark.parametrize(
    "ends",
    [
        (0, 1),
        (-1.7e308, 1.7e308),
        (5, 5),
        (0, 0),
        (1e308, 1e308),
        (0, 1e-322),
        (1e-300, 1e-300),
        (1e17, 1e17 + 16),
    ],
)
@pytest.mark.filterwarnings("error")
def test_histogram(ends: tuple[float, float]) -> None:
    shares = np.linspace(0, 1, 5)
    edges = ends[0] * (1 - shares) + ends[1] * shares
    image = FORMATS[ends[0] == ends[1]]
    check(plots.histogram(edges, np.array([3, 0, 1, 1000]), "t", "x", image), image)


@pytest.mark.parametrize(
    "days",
    [
        (0, 365),
        (20_000, 20_000.5),
        (20_000, 20_000 + 1e-10),
        (20_000, 20_000),
        (-719_162, 2_932_896),
        (-719_162, -719_162),
        (2_932_896.99, 2_932_896.99),
    ],
)
@pytest.mark.filterwarnings("error")
def test_date_histogram(days: tuple[float, float]) -> None:
    counts, image = np.array([3, 0, 1, 1000]), FORMATS[days[0] == days[1]]
    check(plots.date_histogram(np.linspace(*days, 5), counts, "t", "when", image), image)


def test_dates_are_told_as_dates() -> None:
    image = plots.date_histogram(np.linspace(19_723, 20_453, 5), np.ones(4), "t", "when", "svg")
    assert b"<!-- 2025 -->" in image


@pytest.mark.parametrize(("count", "image"), [(1, "svg"), (2, "png"), (12, "svg")])
@pytest.mark.filterwarnings("error")
def test_value_counts(count: int, image: Format) -> None:
    groups = {"values": [(ODD_NAMES[i], 10 - i) for i in range(count)], "rest": [("missing", 2)]}
    check(plots.value_counts(groups, ODD_NAMES[2], ODD_NAMES[2], image), image)


@pytest.mark.parametrize(("count", "image"), [(2, "png"), (12, "svg"), (30, "svg")])
@pytest.mark.filterwarnings("error")
def test_heatmap(count: int, image: Format) -> None:
    values = np.eye(count)
    values[0, 1] = values[1, 0] = np.nan
    names = [ODD_NAMES[i % len(ODD_NAMES)] for i in range(count)]
    check(plots.heatmap(values, names, ODD_NAMES[2], ODD_NAMES[1], image), image)


def test_a_heatmap_writes_numbers_where_there_is_room() -> None:
    few, many = (
        plots.heatmap(np.full((count, count), -0.25), ["x"] * count, "t", "correlation", "svg")
        for count in (12, 13)
    )
    assert few.count(b"<!-- -0.25 -->") == 144
    assert b"<!-- -0.25 -->" not in many


# ---------------------------------------------------------------- odd names


@pytest.mark.parametrize("first", range(0, len(ODD_NAMES), 3))
def test_odd_titles_and_axes_do_not_break_a_plot(first: int) -> None:
    title, x, y = ODD_NAMES[first : first + 3]
    check(plots.scatter({"data": (points(5), BLUE)}, title, x, y, "svg"), "svg")


def test_odd_titles_and_axes_do_not_break_the_other_plots() -> None:
    name = "$\\frac{$ 50 % <b>"
    clouds = {"trained": (points(5), BLUE)}
    check(plots.predicted_against_true(clouds, name, name, "svg"), "svg")
    check(plots.loss_curve({"train_loss": points(5)}, name, name, 3, "svg"), "svg")


def test_odd_class_labels_do_not_break_a_plot() -> None:
    bars = {"true": ([1.0] * len(ODD_NAMES), BLUE)}
    check(plots.class_counts(ODD_NAMES, bars, "t", "y", "svg"), "svg")


@pytest.mark.parametrize("name", ["$x$", "$\\frac{$", "_hidden", "<b>&amp;"])
def test_odd_names_in_the_legend_do_not_break_a_plot(name: str) -> None:
    check(plots.scatter({name: (points(5), BLUE)}, "t", "x", "y", "svg"), "svg")


@pytest.mark.filterwarnings("ignore:Glyph")  # a box in place of a letter is fine
@pytest.mark.parametrize("name", ["数量", "🙂", "tab\there", "bell\x07", "\x1b[31m"])
def test_characters_without_a_glyph_do_not_break_a_plot(name: str) -> None:
    check(plots.scatter({"data": (points(5), BLUE)}, name, name, name, "svg"), "svg")


# ---------------------------------------------------------------- empty and odd values

NOTHING: Points = (np.array([]), np.array([]))
ODD: Points = (np.array([0.0, 1.0, 2.0]), np.array([np.nan, np.inf, 1.0]))
ALL_NAN: Points = (np.array([np.nan, np.nan]), np.array([np.nan, np.nan]))
ONE: Points = (np.array([1.0]), np.array([1.0]))


@pytest.mark.parametrize("values", [NOTHING, ODD, ALL_NAN, ONE])
def test_empty_and_odd_values_do_not_break_a_scatter(values: Points) -> None:
    check(plots.scatter({"data": (values, BLUE)}, "t", "x", "y", "svg"), "svg")


@pytest.mark.parametrize("values", [NOTHING, ODD, ALL_NAN, ONE])
def test_empty_and_odd_values_do_not_break_a_loss_curve(values: Points) -> None:
    check(plots.loss_curve({"train_loss": values}, "t", "mse", None, "svg"), "svg")


@pytest.mark.parametrize("values", [NOTHING, ODD, ALL_NAN, ONE])
def test_empty_and_odd_values_do_not_break_predictions(values: Points) -> None:
    check(plots.predicted_against_true({"trained": (values, BLUE)}, "t", "y", "svg"), "svg")


@pytest.mark.parametrize("values", [NOTHING, ODD, ALL_NAN, ONE])
def test_empty_and_odd_values_do_not_break_residuals(values: Points) -> None:
    check(plots.residuals({"one": (values, BLUE)}, "t", "y", "svg"), "svg")


@pytest.mark.parametrize(
    "ends", [(5, 5), (0, 0), (1e17, 1e17 + 16), (0, 1e-322), (-1e149, 1e149), (-1e200, 1e200)]
)
@pytest.mark.filterwarnings("error")
def test_residuals_of_any_size(ends: tuple[float, float]) -> None:
    values = (np.array([0.0, 1.0, 2.0]), np.array([*ends, ends[0]]))
    check(plots.residuals({"one": (values, BLUE)}, "t", "y", "png"), "png")


def test_losses_as_large_as_float32_holds_are_drawn() -> None:
    series = {"train_loss": (np.arange(3), np.array([1e-3, 1.0, 3e38]))}
    check(plots.loss_curve(series, "t", "mse", None, "png"), "png")


# ---------------------------------------------------------------- threads


@soak_only
def test_eight_threads_draw_what_one_draws() -> None:
    def draw(i: int) -> bytes:
        clouds = {f"cloud {i % 4}": (points(10 + i % 4), BLUE)}
        return plots.scatter(clouds, f"plot {i % 4}", "x", "y", "png")

    alone = [draw(i) for i in range(4)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(draw, range(8)))
    assert together == alone * 2
