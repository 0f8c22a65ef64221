"""How the table in a text file is to be read: what a client says of it, and what was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.ml.tables.csv_blanks import Span


@dataclass(frozen=True)
class CSVOptions:
    """How to read a CSV file; what is None is found out. ``delimiter`` may be ``space``: runs of
    blanks."""

    delimiter: str | None = None
    header: bool | None = None
    skip_rows: int | None = None
    """Lines before the header."""
    comment: str | None = None
    """Lines that begin so are no rows."""
    expected: tuple[str, ...] = ()
    """Columns that a model needs of rows to predict, in its order."""
    units: Mapping[str, str] = field(default_factory=dict)
    """In what they were when it was trained, by name."""
    commas: frozenset[str] = frozenset()
    """Those that had decimal commas then."""


@dataclass(frozen=True)
class Shape:
    """How the table of one file is to be read."""

    delimiter: str = ","
    guessed: bool = True
    """Whether the delimiter was found out rather than named."""
    header: bool = True
    skip_lines: int = 0
    """Lines before the header, or before the first row where there is none."""
    names: list[str] | None = None
    """Names of all columns, where those of the header will not do."""
    nameless: frozenset[str] = frozenset()
    """Those of ``names`` that the file left empty: dropped where their column is empty too."""
    padded: bool = False
    """Whether blanks make cells equally wide, and are no part of them."""
    escapes: bool = False
    r"""Whether a quote in a cell is written ``\"``."""
    gaps: bool = False
    """Whether blanks stand between a delimiter and the quote that begins a cell."""
    spaces: int = 0
    """How many blanks, or more, separate cells; 0: something else does."""
    spans: Sequence[Span] = ()
    """Where the cells of columns of fixed width stand; none: they do not."""
    units: dict[str, str] = field(default_factory=dict)
    """What a line below the header says the numbers of a column are in."""
    records_below_header: int = 0
    """Rules and units between the header and the first row."""
    lines_below_header: int = 0
    """The same with empty lines."""
    notes: frozenset[str] = frozenset()
    """Lines below the table that are no rows."""
    padded_notes: int = 0
    """The last rows, as wide as the others, that are none: one cell of them is a note."""
    has_odd_lines: bool = False
    """Whether there are lines of nothing but blanks, rules or comments among the rows."""
    wraps: bool = True
    """Whether cells may be written ``="001"``."""
    reading: dict[str, Any] = field(default_factory=dict)
    """What the dataset says of it."""
    warnings: list[str] = field(default_factory=list)
