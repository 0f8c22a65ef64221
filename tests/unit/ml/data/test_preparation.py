"""A table and a spec as arrays: splits that columns tell, and rows that stand on two sides."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import InvalidData
from app.ml.column_types.arrays import as_dictionary
from app.ml.data.preparation import Prepared, prepare, row_hashes, split_of
from app.ml.data.splits import Split
from app.ml.specs import SplitSpec
from tests.support.workbench import spec_for, table_of

BY_COLUMN = {"strategy": "column", "column": "part"}
HALVES = {"train": 0.5, "validation": 0.0, "test": 0.5, "strategy": "sequential"}


def split_by(parts: list[str | None], **columns: list[Any]) -> Split:
    """The split of a table whose column ``part`` holds these, with a target that says nothing."""
    rows = len(parts)
    values: dict[str, list[Any]] = {
        "x": list(range(rows)),
        "y": [0.5 * i for i in range(rows)],
        **columns,
    }
    spec = spec_for(
        table_of({"x": [1, 2, 3], "y": [0.5, 1, 2], "part": ["train", "validation", "test"]}),
        features=["x"],
        split=BY_COLUMN,
    )
    return split_of(spec, table_of({**values, "part": parts}))


# ---------------------------------------------------------------- by a column


def test_a_column_says_where_each_row_goes() -> None:
    split = split_by(["train", "test", "validation", "train"])
    assert split.train.tolist() == [0, 3]
    assert split.validation.tolist() == [2]
    assert split.test.tolist() == [1]


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ("train", "train"),
        ("training", "train"),
        (" TRAIN ", "train"),
        ("validation", "validation"),
        ("val", "validation"),
        ("Valid", "validation"),
        ("test", "test"),
        ("Testing", "test"),
    ],
)
def test_parts_have_other_names_too(said: str, part: str) -> None:
    split = split_by(["train", "test", said])
    assert 2 in getattr(split, part)


@pytest.mark.parametrize(
    ("said", "told"), [("dev", "'dev'"), ("trian", "'trian'"), (None, "nothing"), ("0", "'0'")]
)
def test_a_row_that_says_something_else_is_named(said: str | None, told: str) -> None:
    with pytest.raises(InvalidData, match=f"row 2 says {told}") as caught:
        split_by(["train", "test", said, "train", "nonsense"])
    assert [error.pointer for error in caught.value.errors] == ["/split/column"]


def test_a_row_without_a_target_may_say_anything() -> None:
    split = split_by(["train", "test", "nonsense", "train"], y=[1.5, 2.5, None, 3.5])
    assert split.train.tolist() == [0, 3]


# ---------------------------------------------------------------- by group


@pytest.mark.parametrize(
    "groups",
    [
        [f"patient {i // 3}" for i in range(60)],
        [i // 3 for i in range(60)],
        [i // 3 / 2 for i in range(60)],
        [f"2026-11-{1 + i // 3:02}" for i in range(60)],
        [None if i < 9 else f"g{i // 3}" for i in range(60)],
    ],
)
def test_rows_of_a_group_stay_on_one_side_whatever_it_is(groups: list[Any]) -> None:
    table = table_of({"x": list(range(60)), "y": [i / 2 for i in range(60)], "g": groups})
    spec = spec_for(table, features=["x"], split={"strategy": "group", "column": "g"})
    split = split_of(spec, table)
    sides = [{groups[row] for row in part} for part in (split.train, split.validation, split.test)]
    assert all(sides)
    assert sum(len(side) for side in sides) == len(set(groups))
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7)])
    again = split_of(spec, chunked)
    encoded = split_of(spec, table.set_column(2, "g", as_dictionary(chunked["g"])))
    assert split.train.tolist() == again.train.tolist() == encoded.train.tolist()


# ---------------------------------------------------------------- golden rows


def golden(**split: Any) -> list[list[int]]:
    table = table_of(
        {
            "x": list(range(20)),
            "y": [["a", "b", "c"][i * i % 3] for i in range(20)],
            "g": [f"g{i // 2}" for i in range(20)],
        }
    )
    fractions = {"train": 0.6, "validation": 0.2, "test": 0.2}
    asked = SplitSpec.model_validate({**fractions, "seed": 7, **split})
    spec = spec_for(table, features=["x"]).model_copy(update={"split": asked})
    made = split_of(spec, table)
    return [made.validation.tolist(), made.test.tolist()]


def test_rows_of_every_strategy_are_pinned() -> None:
    """Written out: whoever trains again next year gets the same parts."""
    assert golden(strategy="random") == GOLDEN["random"]
    assert golden(strategy="stratified") == GOLDEN["stratified"]
    assert golden(strategy="sequential") == [[12, 13, 14, 15], [16, 17, 18, 19]]
    assert golden(strategy="group", column="g") == GOLDEN["group"]


GOLDEN = {
    "random": [[2, 17, 8, 7], [5, 1, 19, 16]],
    "stratified": [[15, 7, 5, 18], [1, 19, 0, 16]],
    "group": [[14, 15, 16, 17], [2, 3, 10, 11]],
}


# ---------------------------------------------------------------- the training part alone

MIXED: dict[str, list[Any]] = {
    "n": [1.5, None, 2.5, 9.0, 3.0, 4.0, 5.0, 6.0],
    "b": [True, False, None, True, True, False, True, None],
    "c": ["x", "y", None, "x", "z", "z", "y", "new"],
    "d": ["2026-11-23", "2024-02-29", None, "1969-01-01", "2026-01-01", None, "2000-01-01", None],
    "y": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
}
OTHERS: dict[str, Any] = {"n": -1e9, "b": False, "c": "odd", "d": "1492-10-12", "y": 1e6}


@pytest.mark.parametrize("numbers", ["standard", "robust", "quantile"])
@pytest.mark.parametrize("categories", ["one_hot", "embedding"])
@pytest.mark.parametrize("column", MIXED)
def test_a_test_row_changes_nothing_that_is_fitted(
    numbers: str, categories: str, column: str
) -> None:
    fields: dict[str, Any] = {
        "split": HALVES,
        "features": ["n", "b", "c", "d"],
        "preprocessing": {"numbers": numbers, "categories": categories},
    }
    changed = {**MIXED, column: [*MIXED[column][:6], OTHERS[column], OTHERS[column]]}
    first, other = (
        prepare(spec_for(table_of(values), **fields), table_of(values))
        for values in (MIXED, changed)
    )
    assert first.preprocessing == other.preprocessing
    assert first.train.x.tobytes() == other.train.x.tobytes()
    assert first.train.y.tobytes() == other.train.y.tobytes()
    assert first.test.x.tobytes() != other.test.x.tobytes() or column == "y"


# ---------------------------------------------------------------- rows on two sides


def prepared(xs: list[Any], ys: list[Any], **more: list[Any]) -> Prepared:
    table = table_of({"x": xs, "y": ys, **more})
    return prepare(spec_for(table, features=["x", *more], split=HALVES), table)


def test_rows_that_stand_in_training_and_test_are_warned_of() -> None:
    made = prepared([1, 2, 3, 4, 1, 9, 3, 8], [1.5, 2.5, 3.5, 4.5, 1.5, 2.5, 3.5, 4.5])
    [warning] = made.warnings
    assert warning.startswith("2 of the 4 rows of the test part (50.0%) stand in the training part")
    assert "split by group" in warning


def test_rows_that_differ_in_a_feature_or_in_the_target_are_not_warned_of() -> None:
    assert prepared([1, 2, 3, 4] * 2, [float(i) for i in range(8)]).warnings == []
    assert prepared([float(i) for i in range(8)], [1.5, 2.5, 3.5, 4.5] * 2).warnings == []
    gap = prepared([1, 2, 3, 4, None, 2, 3, 4], [1.5, 2, 3, 4, 1.5, 5, 6, 7])
    assert gap.warnings == []


def test_rows_that_repeat_within_a_part_are_not_warned_of() -> None:
    assert prepared([1, 1, 1, 1, 2, 2, 2, 2], [1.5, 1.5, 2, 2, 1.5, 1.5, 2, 2]).warnings == []


def test_without_a_test_part_there_is_no_warning() -> None:
    table = table_of({"x": [1, 1, 1, 1], "y": [1, 1, 2, 2]})
    split = {"train": 0.5, "validation": 0.5, "test": 0.0}
    assert prepare(spec_for(table, features=["x"], split=split), table).warnings == []


_NUMBERS = st.sampled_from([None, 0.0, 0.5, -0.5, 1.5, 1e300, 5e-324])
_SCHEMA = pa.schema(
    {
        "f": pa.float64(),
        "i": pa.int64(),
        "b": pa.bool_(),
        "c": pa.string(),
        "d": pa.date32(),
        "t": pa.timestamp("us", "UTC"),
    }
)
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "f": _NUMBERS,
            "i": st.sampled_from([None, 0, 1, -1, 2**63 - 1, -(2**63)]),
            "b": st.sampled_from([None, True, False]),
            "c": st.sampled_from([None, "", "a", "b"]),
            "d": st.sampled_from([None, date(1970, 1, 1), date(1969, 12, 31)]),
            "t": st.sampled_from([None, datetime(1970, 1, 1, tzinfo=UTC)]),
        }
    ),
    min_size=1,
    max_size=25,
)


@given(_ROWS, st.lists(st.sampled_from(_SCHEMA.names), min_size=1, unique=True), st.data())
@example([dict.fromkeys(_SCHEMA.names), {**dict.fromkeys(_SCHEMA.names), "i": 0}], ["i"], None)
@example([{"i": -(2**63)}, {"i": None}], ["i"], None)
def test_hashes_are_equal_exactly_where_rows_are(
    rows: list[dict[str, Any]], names: list[str], data: st.DataObject | None
) -> None:
    table = pa.Table.from_pylist(rows, _SCHEMA).select(names)
    hashes = row_hashes(table)
    tuples = [tuple(row.get(name) for name in names) for row in rows]
    numbers = {values: i for i, values in enumerate(dict.fromkeys(tuples))}
    first = {values: hashes[tuples.index(values)] for values in numbers}
    assert [first[values] for values in tuples] == hashes.tolist()
    assert len(set(hashes.tolist())) == len(numbers)
    cut = data.draw(st.integers(0, len(rows))) if data else 0
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    assert row_hashes(chunked).tobytes() == hashes.tobytes()


def test_a_million_different_rows_have_different_hashes() -> None:
    count = np.arange(1_000_000)
    table = pa.table({"a": count % 1000, "b": count // 1000, "c": (count % 7).astype(np.float64)})
    assert len(np.unique(row_hashes(table))) == len(count)
