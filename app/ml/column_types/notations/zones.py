"""Zones of times by their offset, their letters, or a place: ``+01:00``, ``CET``,
``Europe/Berlin``."""

from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

ZONE = "z|[a-z]{2,4}|(?:utc|gmt)?[+-][0-9]{2}:?[0-9]{2}|[a-z]{3,10}/[a-z_/-]{3,30}"
"""Any zone in lower case, as a regular expression has it."""
NO_ZONE = -10_000
"""Stands for minutes where no zone is."""
_BY_LETTERS = {
    **dict.fromkeys(("z", "utc", "gmt", "wet"), 0),
    **dict.fromkeys(("bst", "cet", "mez", "west"), 60),
    **dict.fromkeys(("cest", "mesz", "eet"), 120),
    **dict.fromkeys(("eest", "msk"), 180),
    "jst": 540,
    "aest": 600,
    "est": -300,
    "edt": -240,
    "cst": -360,
    "cdt": -300,
    "mst": -420,
    "mdt": -360,
    "pst": -480,
    "pdt": -420,
}
"""Minutes to the east of Greenwich; Americans' by RFC 822."""


def minutes_east(zones: pa.Array, local: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return ``(cells,)`` how far to the east of Greenwich ``zones`` are at ``local`` times, in
    microseconds since 1970, ``NO_ZONE`` where there is none; None where one is unknown."""
    texts = zones.fill_null("")
    minutes: dict[str, int] = {"": NO_ZONE}
    for zone in pc.unique(texts).to_pylist():
        offset = zone.removeprefix("utc").removeprefix("gmt").replace(":", "")
        if offset[:1] in ("+", "-"):
            sign = -1 if offset[0] == "-" else 1
            minutes[zone] = sign * (int(offset[1:3]) * 60 + int(offset[3:5]))
        elif zone in _BY_LETTERS:
            minutes[zone] = _BY_LETTERS[zone]
        elif zone and zone not in _places():
            return None
    return np.array(
        [
            minutes[zone] if zone in minutes else _minutes_at(_places()[zone], int(time))
            for zone, time in zip(texts.to_pylist(), local, strict=True)
        ],
        np.int64,
    )


@cache
def _places() -> dict[str, str]:
    """Return the names of zones by what they are in lower case."""
    return {name.lower(): name for name in available_timezones() if "/" in name}


def _minutes_at(place: str, microseconds: int) -> int:
    """Return the minutes at a local time; where that comes twice a year, those of the first."""
    local = datetime(1970, 1, 1, tzinfo=ZoneInfo(place)) + timedelta(microseconds=microseconds)
    offset = local.utcoffset()
    assert offset is not None
    return round(offset / timedelta(minutes=1))
