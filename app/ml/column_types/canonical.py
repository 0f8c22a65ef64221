"""Columns in their canonical form. Equal content becomes equal Arrow arrays, whatever it came in:

==========  ====================================================================================
number      int64 where every value is whole (a float below 2**53, or an integer of 64 bits),
            else float64; NaN is missing
boolean     bool
datetime    date32 where there is no time of day, else timestamp[us], in UTC where zones were given
category    string
text        string: sentences rather than labels
==========  ====================================================================================

Importable without torch, like all that reads tables.
"""

from datetime import date, datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

TypeName = Literal["number", "category", "boolean", "datetime", "text"]

MAX_COLUMNS = 10_000
"""Of a table."""
WHOLE_BELOW = 2**53
ZONED = pa.timestamp("us", tz="UTC")
MOMENT = pa.timestamp("us")
_DAY_MICROSECONDS = 86_400_000_000
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, from 1970


def column_type(values: pa.DataType) -> TypeName:
    """Return the contract's name of the Arrow type of a canonical column (text is a category)."""
    if pa.types.is_boolean(values):
        return "boolean"
    if pa.types.is_temporal(values):
        return "datetime"
    if pa.types.is_string(values) or pa.types.is_dictionary(values):
        return "category"
    return "number"


def whole_as_integers(column: pa.ChunkedArray, *, small: bool = False) -> pa.ChunkedArray:
    """Return float64 as int64 where that loses nothing; minus zero is zero. ``small`` values are
    known to be below 2**53."""
    column = pc.add(column, 0.0)
    if not small:
        spread = pc.min_max(column)
        low, high = spread["min"].as_py(), spread["max"].as_py()
        if low is None or max(-low, high) >= WHOLE_BELOW:
            return column
    try:
        return pc.cast(column, pa.int64())  # refuses fractions, at the first
    except pa.ArrowInvalid:
        return column


def canonical_datetime(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return dates or timestamps as date32 or timestamp[us]; finer parts are cut off.

    Raises ArrowInvalid outside the years 1 to 9999.
    """
    if pa.types.is_date32(column.type):
        return _within_years(column, 1)
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        return _within_years(_cut(column, ZONED), _DAY_MICROSECONDS)
    moments = _within_years(_cut(column, MOMENT), _DAY_MICROSECONDS)
    days = pc.cast(moments, pa.date32())
    at_midnight = pc.all(pc.equal(pc.cast(days, MOMENT), moments), min_count=0).as_py()
    return days if at_midnight else moments


def _cut(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = pc.floor_temporal(column, unit="microsecond")  # a cast goes towards 1970
    return pc.cast(column, options=pc.CastOptions(kind, allow_time_truncate=True))


def _within_years(column: pa.ChunkedArray, per_day: int) -> pa.ChunkedArray:
    """Python's and ISO's four-digit years. Raises ArrowInvalid."""
    spread = pc.min_max(column.cast(pa.int32() if per_day == 1 else pa.int64()))
    low, high = spread["min"].as_py(), spread["max"].as_py()
    if low is not None and not (_FIRST_DAY * per_day <= low <= high < (_LAST_DAY + 1) * per_day):
        raise pa.ArrowInvalid("a date is outside the years 1 to 9999")
    return column


def as_strings(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return every value as CSV and JSON would write it; datetimes in ISO 8601."""
    if not pa.types.is_temporal(column.type) or pa.types.is_date32(column.type):
        return pc.cast(column, pa.string())
    suffix = "Z" if column.type.tz else ""
    texts = pc.strftime(pc.cast(column, MOMENT), format=f"%Y-%m-%dT%H:%M:%S{suffix}")
    return pc.replace_substring_regex(texts, r"\.0+(Z?)$", r"\1")


def objects(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a canonical table as JSON objects."""
    dated = [item.name for item in table.schema if pa.types.is_temporal(item.type)]
    rows: list[dict[str, Any]] = table.to_pylist()
    for name in dated:
        for row in rows:
            row[name] = iso(row[name])
    return rows


def iso(value: date | datetime | None) -> str | None:
    """Return ISO 8601 as all our answers write it: UTC as ``Z``."""
    return value.isoformat().replace("+00:00", "Z") if value is not None else None
