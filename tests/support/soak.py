"""How often: a few times in `make test`, the full count in `make soak`."""

import os

import pytest

SOAK = bool(os.environ.get("FITSERVE_SOAK"))


def rounds(few: int, many: int) -> int:
    """``few``, or ``many`` where there is time."""
    return many if SOAK else few


soak_only = pytest.mark.skipif(not SOAK, reason="takes long; `make soak` runs it")
