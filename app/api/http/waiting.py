"""Waiting for a job's end: ``Prefer: wait=N`` (RFC 7240) and ``?wait=N``."""

import re

from app.errors import InvalidRequest

_LONGEST_SECONDS = 60.0
_NUMBER = re.compile(r"[0-9.]+([eE][+-]?[0-9]+)?")


def preferred_wait(prefer: str | None) -> float | None:
    """Return N of ``Prefer: wait=N`` in seconds, at most 60; ``None`` where it is left out.

    Raises InvalidRequest.
    """
    for preference in (prefer or "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            return parse_wait(value.strip().strip('"'), "/Prefer")
    return None


def parse_wait(value: str, pointer: str) -> float:
    """Return a number of seconds from 0; more than 60 is taken as 60.

    Raises InvalidRequest at ``pointer``.
    """
    try:
        seconds = float(value) if _NUMBER.fullmatch(value) else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InvalidRequest.at(pointer, f"wait wants a number of seconds, got '{value[:64]}'")
    return min(seconds, _LONGEST_SECONDS)
