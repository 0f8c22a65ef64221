"""Sharing out rows: sizes, partitions, and an order that must never change."""

import json
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.ml.data.splits import PARTS, part_sizes, split_rows
from app.ml.plan.parts import that_works
from app.ml.specs import SplitSpec

Strategy = Literal["random", "stratified", "sequential"]


def spec(train: float, validation: float, test: float, **fields: Any) -> SplitSpec:
    return SplitSpec(train=train, validation=validation, test=test, **fields)


@pytest.mark.parametrize(
    ("fractions", "rows", "sizes"),
    [
        ((0.8, 0.0, 0.2), 50, (40, 0, 10)),
        ((0.8, 0.1, 0.1), 10, (8, 1, 1)),
        ((0.8, 0.1, 0.1), 19, (15, 1, 3)),
        ((0.7, 0.3, 0.0), 10, (7, 3, 0)),
        ((0.7, 0.3, 0.0), 11, (8, 3, 0)),  # the rest is train's where there is no test part
        ((1.0, 0.0, 0.0), 7, (7, 0, 0)),
        ((0.29, 0.0, 0.71), 100, (29, 0, 71)),  # 0.29 * 100 is 28.999999999999996
        ((0.1, 0.2, 0.7), 30, (3, 6, 21)),  # 0.1 * 30 is 3.0000000000000004
        ((0.8, 0.1, 0.1), 1, (0, 0, 1)),
    ],
)
def test_part_sizes(
    fractions: tuple[float, float, float], rows: int, sizes: tuple[int, int, int]
) -> None:
    assert part_sizes(spec(*fractions), rows) == sizes


@st.composite
def splits(draw: st.DrawFn) -> tuple[SplitSpec, int]:
    train = draw(st.integers(1, 100))
    validation = draw(st.integers(0, 100 - train))
    strategy: Strategy = draw(st.sampled_from(["random", "stratified", "sequential"]))
    made = spec(
        train / 100,
        min(validation / 100, 0.99),
        max(0.0, round(1 - train / 100 - validation / 100, 12)),
        strategy=strategy,
        seed=draw(st.integers(0, 2**63 - 1)),
    )
    return made, draw(st.integers(1, 300))


@given(splits(), st.randoms(use_true_random=False))
def test_each_row_is_in_exactly_one_part_of_the_right_size(
    chosen: tuple[SplitSpec, int], random: Any
) -> None:
    made, count = chosen
    rows = np.sort(np.array(random.sample(range(1000), count), dtype=np.int64))
    classes = np.array([random.randrange(3) for _ in range(count)], dtype=np.int64)
    split = split_rows(made, rows, classes)
    parts = [split.train, split.validation, split.test]
    assert tuple(len(part) for part in parts) == part_sizes(made, count)
    assert split.counts() == {p: len(x) for p, x in zip(PARTS, parts, strict=True)}
    assert np.array_equal(np.sort(np.concatenate(parts)), rows)


def test_sequential_keeps_the_order_of_the_rows() -> None:
    split = split_rows(spec(0.5, 0.25, 0.25, strategy="sequential"), np.arange(8))
    assert split.train.tolist() == [0, 1, 2, 3]
    assert split.validation.tolist() == [4, 5]
    assert split.test.tolist() == [6, 7]


def test_the_random_order_is_pinned() -> None:
    """Written out: a change of numpy, machine or code that moved rows would be noticed here."""
    made = spec(0.6, 0.2, 0.2, strategy="random", seed=0)
    split = split_rows(made, np.arange(10))
    assert split.train.tolist() == RANDOM_SEED_0[:6]
    assert split.validation.tolist() == RANDOM_SEED_0[6:8]
    assert split.test.tolist() == RANDOM_SEED_0[8:]
    other = split_rows(spec(1, 0, 0, strategy="random", seed=2026), np.arange(10))
    assert other.train.tolist() == RANDOM_SEED_2026


RANDOM_SEED_0 = [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
RANDOM_SEED_2026 = [7, 0, 9, 4, 3, 2, 1, 8, 5, 6]
STRATIFIED_SEED_0 = [2, 3, 1, 8, 6, 7, 4, 5, 0, 9]


def test_the_stratified_order_is_pinned() -> None:
    classes = np.array([0, 1, 1, 0, 1, 1, 0, 1, 1, 1])
    split = split_rows(spec(1, 0, 0, strategy="stratified"), np.arange(10), classes)
    assert split.train.tolist() == STRATIFIED_SEED_0


@pytest.mark.parametrize("strategy", ["random", "stratified"])
def test_the_same_seed_gives_the_same_order_and_another_does_not(strategy: Strategy) -> None:
    rows, classes = np.arange(200), np.arange(200) % 3
    first, again, other = (
        split_rows(spec(0.8, 0.1, 0.1, strategy=strategy, seed=seed), rows, classes).train.tolist()
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@given(st.lists(st.integers(1, 60), min_size=2, max_size=5), st.integers(0, 1000))
def test_stratified_keeps_the_proportion_of_every_class_in_every_part(
    sizes: list[int], seed: int
) -> None:
    classes = np.repeat(np.arange(len(sizes)), sizes)
    made = spec(0.6, 0.2, 0.2, strategy="stratified", seed=seed)
    split = split_rows(made, np.arange(len(classes)), classes)
    for part in (split.train, split.validation, split.test):
        found = np.bincount(classes[part], minlength=len(sizes))
        wanted = np.array(sizes) * len(part) / len(classes)
        assert np.abs(found - wanted).max() < 1 + len(sizes) / 2


def test_stratified_shares_equal_classes_out_equally() -> None:
    classes = np.arange(150) % 3
    split = split_rows(spec(0.8, 0.1, 0.1, strategy="stratified"), np.arange(150), classes)
    for part, each in ((split.train, 40), (split.validation, 5), (split.test, 5)):
        assert np.bincount(classes[part]).tolist() == [each] * 3


def test_stratified_gives_a_class_of_one_row_to_training() -> None:
    classes = np.array([0] * 60 + [1] + [2] * 39)
    split = split_rows(spec(0.8, 0.1, 0.1, strategy="stratified"), np.arange(100), classes)
    assert 60 in split.train


# ---------------------------------------------------------------- by group

GROUPS = np.array([5, 5, 3, 3, 3, 9, 9, 1, 7, 7, 7, 7])
GROUP_SEED_0 = ([0, 1, 8, 9, 10, 11], [2, 3, 4], [5, 6, 7])


def test_the_split_by_group_is_pinned() -> None:
    made = spec(0.6, 0.2, 0.2, strategy="group", column="g", seed=0)
    split = split_rows(made, np.arange(12), GROUPS)
    assert (split.train.tolist(), split.validation.tolist(), split.test.tolist()) == GROUP_SEED_0


def test_what_a_group_is_called_does_not_matter_but_their_order_does() -> None:
    made = spec(0.6, 0.2, 0.2, strategy="group", column="g", seed=0)
    split, renamed = (split_rows(made, np.arange(12), g) for g in (GROUPS, GROUPS * 10 + 3))
    assert split.train.tolist() == renamed.train.tolist()


@given(st.lists(st.integers(0, 12), min_size=1, max_size=120), splits())
def test_no_group_is_on_two_sides(groups: list[int], chosen: tuple[SplitSpec, int]) -> None:
    made = chosen[0].model_copy(update={"strategy": "group", "column": "g"})
    labels = np.array(groups, dtype=np.int64)
    rows = np.arange(len(groups)) * 3 + 1  # row numbers of a table with gaps
    split = split_rows(made, rows, labels)
    parts = [split.train, split.validation, split.test]
    assert np.array_equal(np.sort(np.concatenate(parts)), rows)
    sides = [set(labels[(part - 1) // 3].tolist()) for part in parts]
    assert sum(len(side) for side in sides) == len(set(groups))
    assert all((np.diff(part) > 0).all() for part in parts)
    again = split_rows(made, rows, labels)
    assert [again.train.tolist(), again.test.tolist()] == [parts[0].tolist(), parts[2].tolist()]
    if made.test == 0:
        assert not len(split.test)
    largest = max(groups.count(group) for group in groups)
    for part, size in zip(parts, part_sizes(made, len(groups)), strict=True):
        assert abs(len(part) - size) <= largest


def test_many_small_groups_come_close_to_the_sizes_asked_for() -> None:
    groups = np.arange(3000) // 3
    split = split_rows(spec(0.8, 0.1, 0.1, strategy="group", column="g"), np.arange(3000), groups)
    for part, size in zip(PARTS, (2400, 300, 300), strict=True):
        assert split.counts()[part] == pytest.approx(size, abs=3)


def test_another_seed_groups_otherwise() -> None:
    groups = np.arange(300) // 3
    first, other = (
        split_rows(
            spec(0.8, 0.1, 0.1, strategy="group", column="g", seed=seed), np.arange(300), groups
        )
        for seed in (0, 1)
    )
    assert first.train.tolist() != other.train.tolist()


# ---------------------------------------------------------------- by a column


def test_a_column_tells_the_part_of_every_row() -> None:
    made = spec(0.8, 0.1, 0.1, strategy="column", column="part")
    rows = np.array([3, 5, 6, 9])
    split = split_rows(made, rows, np.array([0, 2, 0, 1]))
    assert (split.train.tolist(), split.validation.tolist(), split.test.tolist()) == (
        [3, 6],
        [9],
        [5],
    )


@given(splits())
def test_the_split_that_an_error_names_leaves_no_part_empty(chosen: tuple[SplitSpec, int]) -> None:
    made, rows = chosen
    named = SplitSpec.model_validate(that_works(made, rows))
    sizes = dict(zip(PARTS, part_sizes(named, rows), strict=True))
    assert sum(sizes.values()) == rows
    assert sizes["train"] > 0
    assert all((size > 0) == (getattr(named, part) > 0) for part, size in sizes.items())


@given(
    st.fixed_dictionaries(
        {}, optional={part: st.sampled_from([0, 0.05, 0.1, 0.2, 0.5, 0.9]) for part in PARTS}
    )
)
def test_the_fractions_that_an_error_names_are_taken(given: dict[str, float]) -> None:
    try:
        SplitSpec.model_validate(given)
    except ValidationError as error:
        (first, *_) = error.errors()
        if first["type"] == "fractions":
            SplitSpec.model_validate(json.loads(first["ctx"]["example"]))


@pytest.mark.parametrize("moments", [[5, 1, 3, 3, 0, 3, 9, 2, 3, 4]])
def test_the_oldest_train_and_of_equal_moments_the_first_rows(moments: list[int]) -> None:
    by_time = spec(0.5, 0.2, 0.3, strategy="time", column="t")
    split = split_rows(by_time, np.arange(10), np.array(moments))
    assert split.train.tolist() == [4, 1, 7, 2, 3]
    assert split.validation.tolist() == [5, 8]
    assert split.test.tolist() == [9, 0, 6]
