"""Identifiers: sortable, unique, recognisable."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app import ids
from app.ids import Prefix, continue_after, is_id, new_id

PREFIXES: list[Prefix] = ["ds", "job", "mdl", "ckpt"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_id_has_its_prefix_and_is_one(prefix: Prefix) -> None:
    made = new_id(prefix)
    assert made.startswith(f"{prefix}_")
    assert is_id(made)


def test_later_ids_sort_after_earlier_ones() -> None:
    made = [new_id("job") for _ in range(5000)]
    assert made == sorted(made)


def test_ids_are_unique_and_sorted_within_each_of_many_threads() -> None:
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [new_id("mdl") for _ in range(1000)], range(8)))
    assert all(batch == sorted(batch) for batch in batches)
    assert len({made for batch in batches for made in batch}) == 8000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "line",
        "job_",
        "job_123",
        "run_01k0xewf7vdz9aq71q57mcxc",  # no prefix of ours
        "job_01k0xewf7vdz9aq71q57mcx",  # one short
        "job_01k0xewf7vdz9aq71q57mcxcc",  # one long
        "job_01K0XEWF7VDZ9AQ71Q57MCXC",  # upper case
        "job_01k0xewf7vdz9aq71q57mcxu",  # no letter of Crockford's
        "job_01k0xewf7vdz9aq71q57mcxc\n",
        " job_01k0xewf7vdz9aq71q57mcxc",
    ],
)
def test_other_text_is_no_id(text: str) -> None:
    assert not is_id(text)


def test_a_known_id_is_one() -> None:
    assert is_id("job_01k0xewf7vdz9aq71q57mcxc")


def test_ids_go_on_from_one_that_a_clock_was_ahead_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last", 0)
    before = new_id("job")
    monkeypatch.setattr(ids, "_last", ids._last + 3_600_000_000)
    ahead = new_id("ds")
    monkeypatch.setattr(ids, "_last", 0)  # another process, an hour behind
    continue_after(before, ahead, "no id", "")
    made = [new_id("ds") for _ in range(3)]
    assert [before, ahead.replace("ds_", "job_")] == sorted([before, ahead.replace("ds_", "job_")])
    assert [ahead, *made] == sorted([ahead, *made])
