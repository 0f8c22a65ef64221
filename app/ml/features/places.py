"""Where a value of a feature stands in what a client sent, as a JSON pointer (RFC 6901).

Every dialect lays its rows out in its own way, and an error points into the dialect's own.
"""

from collections.abc import Callable, Sequence

from app.errors import escape

Place = Callable[[str, int], str]
"""``(feature, row)`` to a JSON pointer."""


def in_rows(at: str = "/rows") -> Place:
    """Return the places of ``[{"x": 0.5}]``, a list that stands ``at`` a place of the request."""
    return lambda name, row: f"{at}/{row}/{escape(name)}"


def in_columns(at: str = "/columns") -> Place:
    """Return the places of ``{"x": [0.5]}``, an object that stands ``at`` a place."""
    return lambda name, row: f"{at}/{escape(name)}/{row}"


def in_lists(names: Sequence[str], at: str = "/instances") -> Place:
    """Return the places of ``[[0.5]]``, values in the order of ``names``."""
    numbers = {name: number for number, name in enumerate(names)}
    return lambda name, row: f"{at}/{row}/{numbers[name]}"
