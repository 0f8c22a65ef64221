"""Plots of a dataset, from its profile or group by group of its rows, never from the whole table.

``app.ml.plots`` draws them, in another process.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from app.errors import InvalidRequest, NotApplicable
from app.ml.column_types.canonical import TypeName
from app.ml.drawing import BLUE, Drawing, Picture, drawing
from app.ml.tables import associations, summaries
from app.ml.tables.profile import Column
from app.names import unknown
from app.runtime.artifacts import unless_deleted
from app.runtime.context import Context
from app.services.datasets import datasets

Plot = Literal["scatter", "histogram", "correlation"]

_MOST_CORRELATED = 30
"""Columns in a correlation; the others are left out."""
_MOST_COUNTED = 1_000_000
"""Rows of a scatter; where they are too many for points, how dense they are is drawn."""

_SCALES = "correlation; with categories the correlation ratio, among them Cramér's V"


@dataclass(frozen=True)
class PlotSource:
    """What a plot is drawn from: a stored table, its profile and its name."""

    path: Path
    columns: list[Column]
    rows: int
    name: str

    def of(self, kind: TypeName) -> list[Column]:
        """Return the profiles of the columns of a type that have a value."""
        filled = (column for column in self.columns if column["missing"] < self.rows)
        return [column for column in filled if column["type"] == kind]

    def column(self, name: str, pointer: str) -> Column:
        """Return one column's profile. Raises InvalidRequest at ``pointer`` where there is none."""
        for column in self.columns:
            if column["name"] == name:
                return column
        names = [column["name"] for column in self.columns]
        raise InvalidRequest.at(pointer, unknown("column", name, names), "unknown_column")

    def title(self, what: str) -> str:
        """Return a plot's title: the dataset's name, and ``what`` is drawn."""
        return f"{_short(self.name, 40)}: {what}"


def picture(context: Context, ref: str, plot: Plot, x: str | None, y: str | None) -> Picture:
    """Return one plot of a dataset, to be gathered.

    Raises NotFound; gathering it raises InvalidRequest for a column that is not there or not asked
    for, and NotApplicable where it can never be drawn.
    """
    dataset, path = datasets.file_of(context, ref)
    source = PlotSource(path, dataset.columns, dataset.rows, dataset.name or dataset.id)
    identity = repr((dataset.id, source.name, plot, x, y))

    def gather() -> Drawing:
        with unless_deleted(context, "datasets", dataset.id):
            return _gather(source, plot, x, y)

    return Picture(identity, gather)


def _gather(source: PlotSource, plot: Plot, x: str | None, y: str | None) -> Drawing:
    match plot:
        case "scatter":
            return scatter(source, x, y)
        case "histogram":
            _refuse_axis("y", y, "a histogram shows one column")
            return histogram(source, x)
        case "correlation":
            _refuse_axis("x", x, "the correlation is of all columns")
            _refuse_axis("y", y, "the correlation is of all columns")
            return correlation(source)


def _refuse_axis(axis: str, name: str | None, why: str) -> None:
    if name is not None:
        raise InvalidRequest.at(f"/{axis}", f"{why}; leave {axis} out")


# ---------------------------------------------------------------- scatter


def scatter(source: PlotSource, x: str | None, y: str | None) -> Drawing:
    """Draw two columns of numbers or dates against each other, by default the first and the last of
    numbers."""
    across, up = _axes(source, x, y)
    points = summaries.spaced_pairs(source.path, source.rows, across, up, _MOST_COUNTED)
    drawn = len(points[0])
    label = f"{drawn:,} rows" if drawn == source.rows else f"{drawn:,} of {source.rows:,} rows"
    title = source.title(f"{_short(up['name'])} against {_short(across['name'])}")
    names = [_with_zone(column) for column in (across, up)]
    return drawing("scatter", {label: (points, BLUE)}, title, *names)


def _axes(source: PlotSource, x: str | None, y: str | None) -> tuple[Column, Column]:
    named = {}
    for axis, name in (("x", x), ("y", y)):
        if name is None:
            continue
        named[axis] = source.column(name, f"/{axis}")
        if named[axis]["type"] not in ("number", "datetime"):
            raise NotApplicable.at(
                f"/{axis}", f"'{name[:64]}' has no numbers or dates; choose a column that has"
            )
    able = source.of("number") or source.of("datetime")
    if not able:
        raise NotApplicable("the dataset has no numbers or dates to draw; try plots/histogram")
    return named.get("x", able[0]), named.get("y", able[-1])


def _with_zone(column: Column) -> str:
    return f"{column['name']} ({column['zone']})" if column.get("zone") else str(column["name"])


# ---------------------------------------------------------------- histogram


def histogram(source: PlotSource, x: str | None) -> Drawing:
    """Draw how often the values of one column occur, by default of the first number column."""
    column = _histogram_column(source, x)
    name = column["name"]
    missing = f" ({column['missing']:,} missing)" if column["missing"] else ""
    title = source.title(f"{_short(name)}{missing}")
    if column["type"] not in ("number", "datetime"):
        return drawing("value_counts", _bars(column, source.rows), title, name)
    edges, counts = summaries.histogram(source.path, column)
    if column["type"] == "number":
        return drawing("histogram", edges, counts, title, name)
    return drawing("date_histogram", edges, counts, title, _with_zone(column))


def _histogram_column(source: PlotSource, x: str | None) -> Column:
    if x is None:
        able = [column for column in source.columns if not _why_no_histogram(source, column)]
        numbers = [column for column in able if column["type"] == "number"]
        if not able:
            raise NotApplicable("all columns are empty or text, so there is no histogram to draw")
        return (numbers or able)[0]
    column = source.column(x, "/x")
    if reason := _why_no_histogram(source, column):
        raise NotApplicable.at("/x", f"'{x[:64]}' {reason}; choose another column")
    return column


def _why_no_histogram(source: PlotSource, column: Column) -> str | None:
    if column["missing"] >= source.rows:
        return "has no value"
    return "is text, of which there is no histogram" if column["type"] == "text" else None


def _bars(column: Column, rows: int) -> dict[str, list[tuple[str, int]]]:
    """Return ``(label, rows)`` of the most frequent values, and of what they leave over."""
    top = [(_short(_label(value), 30), count) for value, count in column["top"]]
    others = rows - column["missing"] - sum(count for _, count in top)
    left_over = []
    if others:
        left_over.append((f"{column['distinct'] - len(top):,} others", others))
    if column["missing"]:
        left_over.append(("missing", column["missing"]))
    return {"values": top, "left over": left_over}


def _label(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---------------------------------------------------------------- correlation


def correlation(source: PlotSource) -> Drawing:
    """Draw how columns go together, each pair on the rows that have both values."""
    able = [column for column in source.columns if associations.able(column)]
    if len(able) < 2:
        raise NotApplicable(
            "a correlation needs at least 2 columns of numbers, dates, booleans or few labels; the "
            f"dataset has {len(able)}"
        )
    first, left_out = able[:_MOST_CORRELATED], len(able) - _MOST_CORRELATED
    of = f"the first {len(first)} columns, {left_out:,} left out" if left_out > 0 else ""
    title = source.title(f"correlation of {of}" if of else "correlation")
    return drawing(
        "heatmap",
        associations.associations(source.path, first),
        [_short(c["name"]) for c in first],
        title,
        _SCALES if any(c["type"] == "category" for c in first) else "correlation",
    )


# ---------------------------------------------------------------- small things


def _short(name: str, length: int = 25) -> str:
    """Cut a name in the middle: names that begin alike often differ at the end."""
    half = length // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"
