"""Whole families of the tables that users have sent are read as their owners mean them."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.errors import FitserveError
from app.ml.tables.notations.notation import CellOptions
from tests.support.files import ingested
from tests.support.relatives import FAMILIES, Relative
from tests.support.soak import SOAK

SHARE = 0.95
"""Of each family that is read as meant, at least."""
MOST = 30
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
