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
    r"index|unnamed: \d+|__index_level_\d+__|row ?(id|no|nr|num|number|names?)?|rownum|obs no"
)
_ID_WORDS = {"id", "ids", "uid", "uuid", "guid"}


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case: ``PassengerId``, ``passenger_id`` and
    ``passenger id`` have the same."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.split(r"[\s_.-]+", spaced.strip().lower())


def role_of(column: Column, rows: int) -> Role:
    """Return what a column is for."""
    if column["type"] == "text":
        return "text"
    if is_constant(column):
        return "constant"
    if column["type"] not in ("number", "category") or rows < _LEAST_ROWS:
        return "feature"
    present, distinct = rows - column["missing"], column["distinct"]
    words = words_of(column["name"])
    whole = column["type"] == "category" or column["integer"]
    if whole and distinct >= present and _INDEX_NAMES.fullmatch(" ".join(words)):
        return "index"
    named_so = words[-1] in _ID_WORDS and words != ["ids"]
    if distinct >= _NEARLY * present and (column["type"] == "category" or (whole and named_so)):
        return "identifier"
    return "feature"


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
