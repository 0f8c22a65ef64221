"""Names that somebody may have meant."""

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import islice

_MOST_COMPARED = 1000
"""Names among which the nearest is looked for; comparing takes time."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of ``known`` that is most like ``name``, whatever case and blanks they are
    written in; None where none is like it."""
    spelt: dict[str, str] = {}
    for item in islice(known, _MOST_COMPARED):
        spelt.setdefault(_plain(item), item)
    found = get_close_matches(_plain(name), spelt, n=1)
    return spelt[found[0]] if found else None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name[:64]).casefold().strip()


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Return ``unknown column 'cutt'; did you mean 'cut'?``, or the names that there are."""
    if guess := nearest(name, known):
        return f"unknown {what} '{name[:64]}'; did you mean '{guess[:64]}'?"
    listed = ", ".join(f"'{item[:64]}'" for item in known[:20])
    return f"unknown {what} '{name[:64]}'; there are {listed}"
