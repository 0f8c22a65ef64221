"""Columns of JSON whose values are of several types: numbers beside strings, say.

Each cell is kept as its text, and as its number where it is one, until the whole column is seen.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.errors import InvalidData
from app.ml.column_types.arrays import hits
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.registry import COLUMN_TYPES
from app.ml.tables.labels import Place

_TEXT, _NUMBER = "\0text", "\0number"
"""No file has columns of such names."""
_BOOLEAN = "(?i)^(true|false|yes|no)$"
_MIXTURE = pa.struct([(_TEXT, pa.string()), (_NUMBER, pa.float64())])


def mixture(values: list[Any]) -> pa.Array:
    """Return values of JSON, each a number, string, boolean or ``None``, as a mixture."""
    numbers = [float(v) if type(v) in (int, float) else None for v in values]
    return _made(texts(values), pa.array(numbers, pa.float64()))


def as_mixture(values: pa.Array) -> pa.Array:
    """Return an array of one of these types as a mixture; one that is a mixture stays as it is."""
    if is_mixture(values.type):
        return values
    numeric = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    numbers = values if numeric else pa.nulls(len(values))
    return _made(pc.cast(values, pa.string()), pc.cast(numbers, pa.float64(), safe=False))


def _made(text: pa.Array, numbers: pa.Array) -> pa.Array:
    return pa.StructArray.from_arrays([text, numbers], fields=list(_MIXTURE))


def is_mixture(kind: pa.DataType) -> bool:
    """Return whether a column of this type is a mixture."""
    return bool(kind == _MIXTURE)


def parts(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return ``(texts, numbers)`` of a mixture: every cell's text, and those that are numbers."""
    return pc.struct_field(column, _TEXT), pc.struct_field(column, _NUMBER)


def several_types(
    name: str, texts: pa.ChunkedArray, numbers: pa.ChunkedArray, place: Place
) -> InvalidData:
    """Return the error of a mixture, at the first value of another type than the first."""
    numeric = numbers.is_valid()
    if numbers.null_count == len(numbers):
        numeric = pc.is_in(texts, value_set=pa.array(["true", "false"]))
    first = pc.index(texts.is_valid(), True).as_py()
    others = pc.and_(texts.is_valid(), pc.not_equal(numeric, numeric[first]))
    row = pc.index(others, True).as_py()
    (kind, _), (_, got) = (_described(texts[i].as_py(), numbers[i].is_valid) for i in (first, row))
    where, pointer = place(name, row)
    short, most = name[:64], _most(texts, numbers)
    return InvalidData.at(
        pointer,
        f"column '{short}' wants a {kind}, got {got} in {where}; "
        f'send types={{"{short}":"category"}} to have labels, or types={{"{short}":"{most}"}} and '
        f"on_error=missing to take what is no {most} as missing",
        "wrong_type",
    )


def _most(texts: pa.ChunkedArray, numbers: pa.ChunkedArray) -> TypeName:
    """Return what most values of a mixture are, as far as a word or a look says it."""
    written = texts.filter(numbers.is_null())
    shares: dict[TypeName, int] = {
        "number": len(numbers) - numbers.null_count,
        "boolean": int(hits(written, _BOOLEAN).sum()),
        "datetime": int(hits(written, COLUMN_TYPES["datetime"].plain).sum()),
    }
    return max(shares, key=lambda kind: shares[kind])


def _described(text: str, is_number: bool) -> tuple[str, str]:
    """Return the type of a cell and what it is, for people."""
    if is_number:
        return "number", f"the number {text[:64]}"
    if text in ("true", "false"):
        return "boolean", f"the boolean {text}"
    return "string", f"the string '{text[:64]}'"


def texts(values: list[Any]) -> pa.Array:
    """Return single values of JSON as strings; floats as CSV would have them."""
    floats = pa.array([v if type(v) is float else None for v in values], pa.float64())
    others = [None if v is None or type(v) is float else _text(v) for v in values]
    return pc.coalesce(pc.cast(floats, pa.string()), pa.array(others, pa.string()))


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
