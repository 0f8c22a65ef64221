"""What a table holds, against numpy; and what a person is warned of."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.ml.column_types.canonical import TypeName
from app.ml.tables import json_rows, profile
from app.ml.tables.typed import TypedTable
from tests.support.files import column_of, csv_of
from tests.support.workbench import profile_of, table_of

FRACTIONS = [0.05, 0.25, 0.5, 0.75, 0.95]


def facts_of(values: list[Any], kind: TypeName | None = None) -> dict[str, Any]:
    """The profile of one column."""
    return profile.profile(json_rows.from_columns({"a": values}, {"a": kind} if kind else {}))[0]


def in_bins(present: NDArray[Any], edges: list[float]) -> list[int]:
    """How many values lie in each bin, counted one by one; the last bin is closed."""
    counts = [0] * (len(edges) - 1)
    for value in present.tolist():
        place = next((i for i in range(1, len(edges) - 1) if value < edges[i]), len(edges) - 1)
        counts[place - 1] += 1
    return counts


# ---------------------------------------------------------------- numbers


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=3, max_size=40))
def test_the_profile_of_numbers_is_numpys(values: list[float | None]) -> None:
    facts = facts_of(values, "number")
    present = np.array([value for value in values if value is not None])
    assert facts["count"] == len(present)
    assert facts["missing"] == len(values) - len(present)
    assert facts["distinct"] == len(np.unique(present))
    if not len(present):
        assert (facts["min"], facts["max"], facts["mean"], facts["std"]) == (None,) * 4
        assert facts["histogram"] == {"edges": [], "counts": []}
        assert set(facts["quantiles"].values()) == {None}
        return
    assert (facts["min"], facts["max"]) == (present.min(), present.max())
    assert facts["mean"] == pytest.approx(present.mean(), rel=1e-9, abs=1e-9)
    if len(present) == 1:
        assert facts["std"] is None
    else:
        assert facts["std"] == pytest.approx(present.std(ddof=1), rel=1e-9, abs=1e-6)
    assert list(facts["quantiles"]) == ["0.05", "0.25", "0.5", "0.75", "0.95"]
    expected = np.quantile(present, FRACTIONS)
    assert list(facts["quantiles"].values()) == pytest.approx(expected, rel=1e-9, abs=1e-9)


_ANY = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(_ANY | st.none(), min_size=1, max_size=30))
@example([1.0, 1.0000000000000002])
@example([0.1, 0.1, 0.30000000000000004, 0.1])
@example([5e-324, 1e-323])
@example([1e308, -1e308, 0.0])
@example([1.7976931348623157e308, -1.7976931348623157e308])
def test_a_histogram_counts_every_value_once(values: list[float | None]) -> None:
    histogram = facts_of(values, "number")["histogram"]
    present = np.array([value for value in values if value is not None])
    edges, counts = histogram["edges"], histogram["counts"]
    assert sum(counts) == len(present)
    if not len(present):
        return
    assert min(counts) >= 0
    assert len(edges) == len(counts) + 1
    assert edges == sorted(edges)
    assert (edges[0], edges[-1]) == (present.min(), present.max())
    if len(counts) > 1:
        assert counts == in_bins(present, edges)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=200, unique=True))
def test_a_histogram_of_ordinary_numbers_is_numpys(values: list[float]) -> None:
    histogram = facts_of(values)["histogram"]
    if max(values) - min(values) < 1e-3:
        return  # numpy's edges are rounded in another way
    counts, edges = np.histogram(values, bins=20)
    assert histogram["edges"] == pytest.approx(edges, rel=1e-12, abs=1e-9)
    near = np.abs(np.subtract.outer(np.array(values), edges[1:-1])).min()
    if near > 1e-9:  # no value on an edge, where a rounding may decide
        assert histogram["counts"] == counts.tolist()


@pytest.mark.parametrize("top", [20, 100, 2000])
def test_a_histogram_of_whole_numbers_has_no_comb(top: int) -> None:
    """Values on an edge belong to the bin that begins there, whatever the edge is rounded to."""
    histogram = facts_of(list(range(top + 1)))["histogram"]
    assert histogram["counts"] == [top // 20] * 19 + [top // 20 + 1]
    assert histogram["counts"] == np.histogram(range(top + 1), bins=20)[0].tolist()


@given(st.lists(_ANY, min_size=1, max_size=20))
def test_quantiles_lie_within_the_values_and_do_not_fall(values: list[float]) -> None:
    facts = facts_of(values, "number")
    found = list(facts["quantiles"].values())
    assert found == sorted(found)
    assert facts["min"] <= found[0]
    assert found[-1] <= facts["max"]


def test_the_extremes_of_a_double_do_not_overflow() -> None:
    facts = facts_of([1e308, -1e308, 1.7e308, -1.7e308, 0.5])
    assert (facts["min"], facts["max"]) == (-1.7e308, 1.7e308)
    assert facts["std"] is None
    assert sum(facts["histogram"]["counts"]) == 5
    assert facts_of([1.5e308, 1.5e308, 1.6e308])["mean"] is None


def test_the_profile_of_large_whole_numbers_does_not_overflow() -> None:
    facts = facts_of([2**52 + i for i in range(5000)])
    assert facts["mean"] == pytest.approx(2**52 + 2499.5, abs=1)
    assert facts["std"] == pytest.approx(np.arange(5000).std(ddof=1))


def test_integers_beyond_doubles_are_told_exactly() -> None:
    facts = facts_of([2**63 - 1, 2**63 - 2, -(2**63), None])
    assert (facts["min"], facts["max"]) == (-(2**63), 2**63 - 1)
    assert facts["distinct"] == 3
    assert facts["integer"] is True
    assert sum(facts["histogram"]["counts"]) == 3
    near = facts_of([2**62, 2**62 + 1])
    assert near["distinct"] == 2
    assert sum(near["histogram"]["counts"]) == 2


def test_the_profile_of_one_repeated_value() -> None:
    facts = facts_of([0.1] * 7)
    assert facts["distinct"] == 1
    assert facts["histogram"] == {"edges": [0.1, 0.1], "counts": [7]}
    assert set(facts["quantiles"].values()) == {0.1}
    assert facts["std"] == pytest.approx(0, abs=1e-12)


def test_the_profile_says_whether_numbers_are_whole() -> None:
    table = table_of({"whole": [1, 2], "half": [0.5, 1]})
    assert [column["integer"] for column in profile_of(table)] == [True, False]


# ---------------------------------------------------------------- datetimes


def test_the_profile_of_days() -> None:
    days = [f"2026-11-{day:02}" for day in range(1, 22)]
    facts = facts_of([*days, None, "2026-11-01"])
    assert facts["type"] == "datetime"
    assert (facts["count"], facts["missing"], facts["distinct"]) == (22, 1, 21)
    assert (facts["time"], facts["zone"]) == (False, None)
    assert (facts["min"], facts["max"]) == ("2026-11-01", "2026-11-21")
    assert facts["quantiles"]["0.5"] in ("2026-11-10", "2026-11-11")
    assert facts["histogram"]["edges"] == days
    assert facts["histogram"]["counts"] == [2] + [1] * 18 + [2]


@pytest.mark.parametrize(("zone", "told"), [("", None), ("Z", "UTC"), ("+02:00", "UTC")])
def test_the_profile_of_moments(zone: str, told: str | None) -> None:
    facts = facts_of([f"2026-11-23T{hour:02}:00:00{zone}" for hour in (12, 10, 11)])
    assert (facts["time"], facts["zone"]) == (True, told)
    first = 8 if zone == "+02:00" else 10
    mark = "Z" if told else ""
    assert facts["min"] == f"2026-11-23T{first:02}:00:00{mark}"
    assert facts["max"] == f"2026-11-23T{first + 2:02}:00:00{mark}"
    assert facts["quantiles"]["0.5"] == f"2026-11-23T{first + 1:02}:00:00{mark}"
    assert sum(facts["histogram"]["counts"]) == 3


@pytest.mark.parametrize("zone", ["", "Z"])
@pytest.mark.parametrize(
    "ends",
    [
        ("0001-01-01T00:00:00", "0001-01-01T00:00:00.000001"),
        ("0001-01-01T00:00:00.000001", "9999-12-31T23:59:59.999999"),
        ("9999-12-31T23:59:59.999998", "9999-12-31T23:59:59.999999"),
        ("2026-11-23T09:30:00", "9999-12-31T23:59:59.999999"),
    ],
)
def test_the_first_and_the_last_moment_have_a_profile(zone: str, ends: tuple[str, str]) -> None:
    facts = facts_of([f"{end}{zone}" for end in ends])
    assert (facts["min"], facts["max"]) == tuple(f"{end}{zone}" for end in ends)
    assert sum(facts["histogram"]["counts"]) == 2
    assert facts["histogram"]["edges"][-1] == f"{ends[1]}{zone}"
    shown = [*facts["quantiles"].values(), facts["max"]]
    moments = [datetime.fromisoformat(moment) for moment in (facts["min"], *shown)]
    assert moments == sorted(moments)


def test_the_profile_of_datetimes_without_a_value() -> None:
    facts = facts_of([None, None], "datetime")
    assert facts["type"] == "datetime"
    assert (facts["count"], facts["missing"], facts["distinct"]) == (0, 2, 0)
    assert (facts["min"], facts["max"]) == (None, None)


# ---------------------------------------------------------------- labels


def test_the_profile_of_categories_counts_the_most_frequent_first() -> None:
    values = ["b", "a", "b", None, "c", "a"] + [f"z{i:02}" for i in range(20)]
    facts = facts_of(values)
    assert facts["type"] == "category"
    assert facts["missing"] == 1
    assert facts["distinct"] == 23
    assert facts["top"][:4] == [["a", 2], ["b", 2], ["c", 1], ["z00", 1]]
    assert len(facts["top"]) == 10


def test_long_labels_are_told_in_part() -> None:
    assert facts_of(["x" * 1000, "y"])["top"][0] == ["x" * 256, 1]


def test_the_profile_of_booleans() -> None:
    facts = facts_of([True, False, True, None])
    assert facts["type"] == "boolean"
    assert facts["top"] == [[True, 2], [False, 1]]


def test_the_profile_of_text_and_of_nothing(tmp_path: Path) -> None:
    [text, _] = profile.profile(column_of(tmp_path, ["one two", "three", ""], c="text"))
    assert (text["type"], text["count"], text["distinct"]) == ("text", 2, 2)
    assert text["mean_length"] == 6
    empty = facts_of([None, None])
    assert (empty["type"], empty["count"], empty["distinct"], empty["top"]) == (
        "category",
        0,
        0,
        [],
    )


# ---------------------------------------------------------------- wide tables and threads


def test_wide_tables_go_without_quantiles_and_histograms() -> None:
    wide = pa.table({f"c{i}": [1.5, 2.5] for i in range(1001)})
    assert not {"quantiles", "histogram"} & profile_of(wide)[0].keys()
    assert {"mean", "min", "distinct"} <= profile_of(wide)[0].keys()
    assert {"quantiles", "histogram"} <= profile_of(wide.select(range(1000)))[0].keys()


def test_threads_change_nothing() -> None:
    random = np.random.default_rng(0)
    table = pa.table({f"c{i}": random.normal(size=30_000).round(2) for i in range(5)})
    typed = TypedTable(table, dict.fromkeys(table.column_names, "number"))
    assert profile.profile(typed, threads=2) == profile.profile(typed)


# ---------------------------------------------------------------- warnings


def warned(values: dict[str, list[Any]]) -> list[str]:
    typed = json_rows.from_columns(values)
    return profile.warnings(profile.profile(typed), typed.table.num_rows, typed.notes)


def test_constant_and_empty_columns_are_warned_of() -> None:
    notes = warned({"same": [1, 1, 1], "empty": [None, None, None], "fine": [1, 2, 2]})
    assert notes == ["column 'same' is constant", "column 'empty' is empty"]


def test_one_value_and_gaps_are_no_constant() -> None:
    assert warned({"a": [1, None, 1], "b": [1, 2, 3]}) == []


def test_a_single_row_is_not_called_constant() -> None:
    assert warned({"a": [1]}) == []


def test_names_and_row_numbers_look_like_identifiers() -> None:
    numbers = list(range(30))
    notes = warned(
        {
            "id": numbers,
            "customer_id": numbers,
            "name": [f"n{i}" for i in numbers],
            "price": numbers,
            "width_id": [0.5 + i for i in numbers],
            "few": [i % 7 for i in numbers],
        }
    )
    assert notes == [
        f"column '{name}' looks like an identifier, which no job learns from unless its "
        "features name it"
        for name in ("id", "customer_id", "name")
    ]


def test_free_text_needs_no_warning() -> None:
    sentences = [f"this is the review with the number {i}" for i in range(5)]
    assert warned({"review": sentences, "n": [1, 2, 3, 4, 5]}) == []


@pytest.mark.parametrize(("mark", "shown"), [(";", "';'"), ("\t", "a tab"), ("|", "'|'")])
def test_a_single_column_that_holds_another_delimiter_is_warned_of(
    tmp_path: Path, mark: str, shown: str
) -> None:
    typed = csv_of(tmp_path, f"a{mark}b\n1{mark}2\n3{mark}4\n", delimiter=",")
    found = profile.warnings(profile.profile(typed), 2)
    assert f"if {shown} separates columns, send it as delimiter" in found[0]


def test_at_most_a_hundred_warnings_are_told() -> None:
    found = warned({f"c{i}": [1, 1] for i in range(250)})
    assert len(found) == 101
    assert found[-1] == "and 150 more warnings"
    assert len(warned({f"c{i}": [1, 1] for i in range(100)})) == 100
