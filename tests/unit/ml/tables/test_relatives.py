"""Whole families of the tables that users have sent are read as their owners mean them, and random
tables in random notations."""

import random
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import FitserveError
from app.ml.column_types.notations.notation import CellOptions
from tests.support.files import ingested
from tests.support.relative import LOCALES, MARKERS, Locale, Relative, lines
from tests.support.relatives import FAMILIES, FORMS
from tests.support.soak import SOAK, rounds

SHARE = 0.95
"""Of each family that is read as meant, at least."""
MOST = 20
"""Of a family that are read, drawn with one seed; `make soak` reads all."""


def some(relatives: Sequence[Relative]) -> Sequence[Relative]:
    return relatives if SOAK or len(relatives) <= MOST else random.Random(0).sample(relatives, MOST)


@pytest.mark.parametrize("family", FAMILIES)
def test_relatives_are_read_as_they_are_meant(tmp_path: Path, family: str) -> None:
    wrong = []
    relatives = some(list(FAMILIES[family]()))
    for number, relative in enumerate(relatives):
        options = {**relative.options}
        if "cells" in options:
            options["cells"] = CellOptions(**options["cells"])
        try:
            right = relative.right(ingested(tmp_path, relative.content, relative.kind, **options))
        except FitserveError as error:
            right, wrong_by = False, error.detail
        else:
            wrong_by = ""
        if not right:
            wrong.append((number, relative.content[:300], wrong_by))
    print(f"{family}: {len(relatives) - len(wrong)} of {len(relatives)}")
    assert len(wrong) <= (1 - SHARE) * len(relatives), wrong


# ---------------------------------------------------------------- random tables

_UNITS = ["{}"] * 4 + ["${}", "{} €", "€ {}", "{}%", "{} kg", "CHF {}"]
Column = tuple[list[Any], list[str]]
"""Values, and how they are written."""


@st.composite
def columns(draw: st.DrawFn, locale: Locale, forms: list[str], rows: int) -> Column:
    """One column of numbers, dates or labels, all of its cells in one notation."""
    gap = st.none() if draw(st.booleans()) else st.nothing()
    marker = draw(st.sampled_from(MARKERS))
    kind = draw(st.sampled_from(["number", "whole", "date", "label"]))
    cell: st.SearchStrategy[Any]
    write: Callable[[Any], str]
    if kind == "number":
        digits, unit = draw(st.integers(1, 4)), draw(st.sampled_from(_UNITS))
        cell = st.integers(-(10**8), 10**8).map(lambda n: n / 10**digits)
        write = lambda v: unit.format(locale.number(v, digits))  # noqa: E731
    elif kind == "whole":
        cell, write = st.integers(-(10**6), 10**6), str
    elif kind == "date":
        form = draw(st.sampled_from(forms))
        cell = st.dates(date(1970, 1, 1), date(2068, 1, 1))
        write = lambda v: v.strftime(form)  # noqa: E731
    else:
        cell, write, marker = st.sampled_from(["red", "green", "light blue", "Zürich"]), str, ""
    values = draw(st.lists(cell | gap, min_size=rows, max_size=rows))
    return values, [marker if v is None else write(v) for v in values]


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, dict[str, Column]]:
    locale = draw(st.sampled_from(LOCALES))
    rows = draw(st.integers(2, 12))
    other = draw(st.sampled_from(["%d", "%m"]))  # who writes the day first does so throughout
    forms = [form for form in FORMS if not form.startswith(other) or "%b" in form.lower()]
    made = draw(st.lists(columns(locale, forms, rows), min_size=2, max_size=5))
    named = {f"c{i}": column for i, column in enumerate(made)}
    return lines(locale.delimiter, [*named], *(cells for _, cells in named.values())), named


def same(read: Any, value: Any) -> bool:
    if isinstance(read, int | float) and isinstance(value, int | float):
        return abs(read - value) < 1e-6
    return bool(read == value)


@settings(
    max_examples=rounds(40, 5000),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tables())
def test_random_tables_are_read_back_equal_or_warned_of(
    tmp_path: Path, drawn: tuple[str, dict[str, Column]]
) -> None:
    """A column without a value says nothing of what its gaps are."""
    content, named = drawn
    if all(value is None for values, _ in named.values() for value in values):
        return
    found = ingested(tmp_path, content)
    for name, (values, _) in named.items():
        if any(name in warning for warning in found.summary.warnings):
            continue
        read = found.table[name].to_pylist() if name in found.table.column_names else None
        assert read is not None or not any(values)
        if read is None or all(value is None for value in values):
            continue
        assert all(map(same, read, values)), (name, read, values, found.summary.warnings)
