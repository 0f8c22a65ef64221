"""What a column is for: a feature, or something that says nothing of other rows, by its name and by
its values."""

import re
from typing import Any, Literal

Column = dict[str, Any]
"""One column's profile, as ``app.ml.tables.profile`` gives it."""
Role = Literal["feature", "index", "identifier", "constant", "text"]

_LEAST_ROWS = 20
"""Rows from which on values that all differ say something."""
_NEARLY = 0.9
"""Share of different values among labels from which on they are names."""
_MANY = 0.4
"""Share from which on a person should look."""
_INDEX_NAMES = re.compile(
    r"index|unnamed: \d+( \d+)*|__index_level_\d+__|level 0|idx|pk|#|rownum|obs no|"
    r"row ?(id|no|nr|num|number|names?)?|(s|sr|sl|ser|serial)? ?(no|nr|num)|serial( number)?|"
    r"lfd ?(nr)?|laufende nummer"
)
_ID_WORDS = {"id", "ids", "uid", "uuid", "guid"}
_OWNERS = (
    "user|customer|client|order|product|item|account|patient|person|employee|member|student|"
    "household|transaction|session|case|record|row|sample|subject|invoice|ticket|device|store|"
    "company|movie|track|object|unique"
)
_OWN_ID = re.compile(f"({_OWNERS}) ?(id|nr|no|num|number|nummer)|kundennummer|matrikelnummer")


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case: ``PassengerId``, ``passenger_id`` and
    ``passenger id`` have the same."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.split(r"[\s_.-]+", spaced.strip(" _.-").lower())


def role_of(column: Column, rows: int) -> Role:
    """Return what a column of a table of so many ``rows`` is for, by its profile: a feature, or
    something that says nothing of other rows."""
    if column["type"] == "text":
        return "text"
    if is_constant(column):
        return "constant"
    if column["type"] not in ("number", "category"):
        return "feature"
    words = words_of(column["name"])
    named_index = _INDEX_NAMES.fullmatch(" ".join(words)) is not None
    if rows < _LEAST_ROWS:
        counts = named_index and rows > 2 and _counts_rows(column, rows)
        return "index" if counts else "feature"
    present, distinct = rows - column["missing"], column["distinct"]
    whole = column["type"] == "category" or column["integer"]
    if whole and distinct >= present and named_index:
        return "index"
    named_so = (
        (words[-1] in _ID_WORDS and words != ["ids"])
        or (len(words) > 1 and words[0] in _ID_WORDS)
        or _OWN_ID.fullmatch(" ".join(words)) is not None
    )
    if distinct >= _NEARLY * present and (column["type"] == "category" or (whole and named_so)):
        return "identifier"
    return "feature"


def _counts_rows(column: Column, rows: int) -> bool:
    """Whether every number from 0, or from 1, to that of the last row stands there once."""
    if column["type"] != "number" or not column["integer"] or column["distinct"] < rows:
        return False
    return column["min"] in (0, 1) and column["max"] == column["min"] + rows - 1


def is_constant(column: Column) -> bool:
    """Return whether all rows are alike; one value and gaps are two, since a gap can mean
    something."""
    return bool(column["distinct"] + (column["missing"] > 0) <= 1)


def doubt(column: Column, rows: int) -> str | None:
    """Return a warning of a feature that may be none: labels of which most stand in few rows."""
    name, present = column["name"], rows - column["missing"]
    if rows < _LEAST_ROWS or not present:
        return None
    if column["type"] == "category" and column["distinct"] >= _MANY * present:
        return (
            f"column '{name[:64]}' has {column['distinct']} different values in {present} rows; if "
            "they are names or numbers of things, leave it out of the features"
        )
    return None
