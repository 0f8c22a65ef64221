"""What a table holds, column by column, and what a person should know before training on it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.finite import finite, finite_values
from app.ml.tables.canonical import ColumnType, iso
from app.ml.tables.roles import doubt, role_of
from app.ml.tables.typed import TypedTable

Column = dict[str, Any]
"""One column's profile: ``name``, ``type``, ``count`` (values), ``missing``, ``distinct``; numbers
and datetimes have ``min``, ``max``, ``quantiles`` and a ``histogram``, numbers also ``mean`` and
``std`` (n - 1); categories and booleans ``top``, the most frequent values."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 20
_TOP_VALUES = 10
_LONGEST_TOP = 256  # characters of a frequent value
_MOST_DETAILED = 1_000  # columns
_MOST_WARNINGS = 100
_EPOCH = datetime(1970, 1, 1)


def profile(typed: TypedTable, threads: int = 1) -> list[Column]:
    """Return the profile of every column; tables wider than 1,000 columns go without quantiles and
    histograms."""
    table = typed.table
    detailed = table.num_columns <= _MOST_DETAILED

    def one(name: str) -> Column:
        found = _column(name, table[name], typed.types[name], detailed)
        found |= typed.cells[name].told() if name in typed.cells else {}
        return found | {"role": role_of(found, table.num_rows)}

    if threads == 1 or table.num_rows * table.num_columns < 100_000:
        return [one(name) for name in table.column_names]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, table.column_names))


def _column(name: str, values: pa.ChunkedArray, kind: ColumnType, detailed: bool) -> Column:
    missing = values.null_count
    facts = {"name": name, "type": kind, "count": len(values) - missing, "missing": missing}
    match kind:
        case "number":
            return {**facts, **_numbers(values, detailed)}
        case "datetime":
            return {**facts, **_datetimes(values, detailed)}
        case _:
            return {**facts, **_labels(values, kind)}


# ---------------------------------------------------------------- numbers and datetimes


def _numbers(column: pa.ChunkedArray, detailed: bool) -> Column:
    integer = pa.types.is_integer(column.type)
    values = np.sort(column.drop_null().to_numpy())
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(np.mean(values)) if len(values) else None
        std = float(np.std(values, ddof=1, dtype=np.float64)) if len(values) > 1 else None
    facts: Column = {
        "distinct": _distinct(values),
        "integer": integer,
        "min": values[0].item() if len(values) else None,
        "max": values[-1].item() if len(values) else None,
        **finite_values({"mean": mean, "std": std}),
    }
    if detailed:
        facts["quantiles"] = finite_values({f"{q:g}": _quantile(values, q) for q in QUANTILES})
        edges, counts = _histogram(values)
        facts["histogram"] = {"edges": [finite(edge) for edge in edges], "counts": counts}
    return facts


def _datetimes(column: pa.ChunkedArray, detailed: bool) -> Column:
    """``time`` says whether there are times of day, ``zone`` whether zones were given."""
    days = pa.types.is_date32(column.type)
    zoned = not days and column.type.tz is not None
    values = np.sort(
        pc.cast(pc.cast(column.drop_null(), pa.timestamp("us")), pa.int64()).to_numpy()
    )

    def text(microseconds: int) -> str | None:
        moment = _EPOCH + timedelta(microseconds=microseconds)
        value: date | datetime = moment.replace(tzinfo=UTC) if zoned else moment
        return iso(moment.date() if days else value)

    facts: Column = {
        "distinct": _distinct(values),
        "time": not days,
        "zone": "UTC" if zoned else None,
        "min": text(int(values[0])) if len(values) else None,
        "max": text(int(values[-1])) if len(values) else None,
    }
    if detailed and len(values):
        first = int(values[0])  # counted from here, floats are exact for 285 years
        since = values - first

        def near(microseconds: float) -> str | None:
            return text(first + min(round(microseconds), int(since[-1])))

        facts["quantiles"] = {f"{q:g}": near(_quantile(since, q) or 0) for q in QUANTILES}
        edges, counts = _histogram(since)
        facts["histogram"] = {"edges": [near(edge) for edge in edges], "counts": counts}
    return facts


def _distinct(ordered: NDArray[Any]) -> int:
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + (len(ordered) > 0)


def _quantile(ordered: NDArray[Any], q: float) -> float | None:
    """Linear between the two nearest values, as ``numpy.quantile`` does by default."""
    if not len(ordered):
        return None
    place = q * (len(ordered) - 1)
    below = int(place)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    share = place - below
    between = low * (1 - share) + high * share  # high - low might overflow
    # no further than the outermost values, which floats may have rounded
    return float(min(max(between, ordered[0].item()), ordered[-1].item()))


def bin_edges(low: float, high: float) -> NDArray[np.float64]:
    """Return the ``BINS`` + 1 edges of bins of equal width from ``low`` to ``high``, which never
    fall."""
    if np.isfinite(high - low):
        edges = np.linspace(low, high, BINS + 1)
    else:
        shares = np.linspace(0, 1, BINS + 1)
        edges = low * (1 - shares) + high * shares
    ordered: NDArray[np.float64] = np.maximum.accumulate(edges)  # the least floats lie close
    return ordered


def _histogram(ordered: NDArray[Any]) -> tuple[list[float], list[int]]:
    """``BINS`` bins of equal width, the last one closed; a single one for a single value."""
    if not len(ordered):
        return [], []
    low, high = float(ordered[0]), float(ordered[-1])
    if low == high:
        return [low, high], [len(ordered)]
    edges = bin_edges(low, high)
    places = np.searchsorted(ordered, edges[1:-1], side="left")
    counts = np.diff([0, *places, len(ordered)])
    return edges.tolist(), counts.tolist()


# ---------------------------------------------------------------- labels


def _labels(column: pa.ChunkedArray, kind: ColumnType) -> Column:
    counted = pa.Table.from_struct_array(column.drop_null().value_counts())
    facts: Column = {"distinct": counted.num_rows}
    if kind == "text":
        lengths = pc.utf8_length(column)
        facts["mean_length"] = pc.mean(lengths).as_py()
        return facts
    if kind == "boolean":
        counted = counted.set_column(0, "values", pc.cast(counted["values"], pa.string()))
    order = [("counts", "descending"), ("values", "ascending")]
    best = pc.select_k_unstable(counted, k=min(_TOP_VALUES, counted.num_rows), sort_keys=order)
    top = counted.take(best).to_pylist()
    facts["top"] = [[_label(item["values"], kind), item["counts"]] for item in top]
    return facts


def _label(value: str, kind: ColumnType) -> str | bool:
    return value == "true" if kind == "boolean" else value[:_LONGEST_TOP]


# ---------------------------------------------------------------- warnings


def warnings(columns: Sequence[Column], rows: int, notes: Sequence[str] = ()) -> list[str]:
    """Return ``notes`` of the typing and what the profile warns of; at most 100 in all."""
    found = list(notes)
    if len(columns) == 1 and (mark := next((c for c in ";\t|" if c in columns[0]["name"]), None)):
        quoted = "a tab" if mark == "\t" else f"'{mark}'"
        found.append(
            f"there is one column only; if {quoted} separates columns, send it as delimiter"
        )
    for column in columns:
        name = column["name"]
        if column["missing"] == rows:
            found.append(f"column '{name}' is empty")
        elif rows > 1 and (note := _note_of_role(column, rows)):
            found.append(note)
    if len(found) > _MOST_WARNINGS:
        left_out = len(found) - _MOST_WARNINGS
        found = [*found[:_MOST_WARNINGS], f"and {left_out} more warnings"]
    return found


def _note_of_role(column: Column, rows: int) -> str | None:
    name = column["name"]
    match column["role"]:
        case "constant":
            return f"column '{name}' is constant"
        case "identifier" | "index":
            return f"column '{name}' looks like an identifier"
        case _:
            return doubt(column, rows)
