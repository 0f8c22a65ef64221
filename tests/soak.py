"""How often: a few times in `make test`, the full count in `make soak`."""

import os

SOAK = bool(os.environ.get("FITSERVE_SOAK"))


def rounds(few: int, many: int) -> int:
    """``few``, or ``many`` where there is time."""
    return many if SOAK else few
