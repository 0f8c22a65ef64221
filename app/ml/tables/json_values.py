"""Values of JSON as columns: each holds one of JSON's types, or gaps.

Strings that are all ISO 8601 become datetimes, and strings of numbers among numbers become numbers.
Members of objects are columns of their own, ``user.age``; lists are left out with a warning.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.errors import InvalidData, escape
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.cells import Found
from app.ml.column_types.notations.notation import AS_USUAL
from app.ml.tables import strings
from app.ml.tables.labels import Place
from app.ml.tables.typed import TypedTable, Wanted, assemble

Types = dict[str, TypeName]
"""Types by the column's name, where a client says them."""


def flat(row: dict[str, Any], at: str, nested: Container[str] | None = None) -> dict[str, Any]:
    """Return an object with the members of its objects beside its own: ``user.age``.

    ``at`` is where it stands; ``nested`` names the objects whose members are columns, all of them
    where it is left out. Raises InvalidData where two members have one name then.
    """
    if not any(type(value) is dict for value in row.values()):
        return row
    found: dict[str, Any] = {}
    for name, value in row.items():
        inner = {name: value}
        if isinstance(value, dict) and (nested is None or name in nested):
            inner = flat({f"{name}.{key}": item for key, item in value.items()}, at, nested)
        if twice := found.keys() & inner.keys():
            name = min(twice)
            detail = f"the name '{name[:64]}' stands for two members; rename one"
            raise InvalidData.at(f"{at}/{escape(name)}", detail)
        found |= inner
    return found


def objects_among(names: Iterable[str]) -> frozenset[str]:
    """Return the names of the objects that hold members called so: ``user`` for ``user.age``."""
    found: set[str] = set()
    for name in names:
        parts = name.split(".")
        found |= {".".join(parts[:end]) for end in range(1, len(parts))}
    return frozenset(found)


def has_list(values: Sequence[Any]) -> bool:
    """Return whether one of the values is a list."""
    return any(type(value) is list for value in values)


def typed(
    columns: dict[str, pa.ChunkedArray],
    wanted: Wanted,
    place: Place,
    lists: set[str],
    threads: int = 1,
) -> TypedTable:
    """Return the table, with a warning of ``lists``, columns that were left out."""
    table = assemble(columns, wanted, place, has_types=True, threads=threads)
    notes = [
        f"column '{name[:64]}' holds lists, which no feature can be, and was left out; spread them "
        "into columns to have them"
        for name in sorted(lists)
    ]
    reading = table.reading | ({"left_out": sorted(lists)} if lists else {})
    return replace(table, notes=[*notes, *table.notes], reading=reading)


# ---------------------------------------------------------------- one column


def array(
    name: str, values: list[Any], start: int, requested: TypeName | None, place: Place
) -> pa.Array:
    """Return JSON values, the first of them in row ``start``, as an Arrow array of one type.

    Raises InvalidData at the first that differs from those before it, or that is no single value.
    """
    if requested in ("category", "text"):
        return _texts(name, values, start, place)
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError):
        array = None
    if array is None or not _is_plain(array.type) or _hides_booleans(array.type, values):
        values = _with_strings_as_numbers(values)
        _refuse_mixture(name, values, start, requested, place)
        array = pa.array([None if v is None else float(v) for v in values])  # integers and floats
    return array


def _with_strings_as_numbers(values: list[Any]) -> list[Any]:
    """Return values of which the strings among numbers are numbers too, where all of them are."""
    if {type(value) for value in values} - {int, float, str, type(None)}:
        return values
    places = [row for row, value in enumerate(values) if type(value) is str]
    numbers = _as_numbers(pa.array([values[row] for row in places], pa.string()))
    if numbers is None or len(places) == len(values):
        return values
    found = dict(zip(places, numbers.to_pylist(), strict=True))
    return [found.get(row, value) for row, value in enumerate(values)]


def _as_numbers(texts: pa.Array) -> pa.Array | None:
    found = strings.read_as(pa.chunked_array([texts]), "number", AS_USUAL)
    return found.values.combine_chunks() if isinstance(found, Found) else None


def _hides_booleans(kind: pa.DataType, values: list[Any]) -> bool:
    """Arrow takes true among floats for 1."""
    return bool(pa.types.is_floating(kind)) and any(type(value) is bool for value in values)


def _is_plain(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_null(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_int64(kind)
        or pa.types.is_float64(kind)
        or pa.types.is_string(kind)
    )


def _refuse_mixture(
    name: str, values: list[Any], start: int, requested: TypeName | None, place: Place
) -> None:
    """Raise InvalidData at the first value that differs from those before it."""
    kinds = {bool: "boolean", int: "number", float: "number", str: "string"}
    expected = None
    for row, value in enumerate(values, start):
        if value is None:
            continue
        found = kinds.get(type(value))
        expected = expected or found
        if found is None or found != expected:
            raise _mixed(name, expected, value, row, requested, place)


def _mixed(
    name: str,
    expected: str | None,
    value: Any,
    row: int,
    requested: TypeName | None,
    place: Place,
) -> InvalidData:
    where, pointer = place(name, row)
    remedy = "make the column one type or name it in 'types'"
    if requested is not None:
        remedy = f"make every value a {requested}, or null where it is unknown"
    if isinstance(value, dict | list):
        remedy = "a cell is a single value"
    return InvalidData.at(
        pointer,
        f"column '{name[:64]}' wants a {expected or 'number, string or boolean'}, "
        f"got {_described(value)} in {where}; {remedy}",
        "wrong_type",
    )


def joined(
    name: str, arrays: list[pa.Array], requested: TypeName | None, place: Place
) -> pa.ChunkedArray:
    """Return blocks of one column as one: integers beside floats are floats. Raises InvalidData."""
    common = pa.null()
    if {array.type for array in arrays} > {pa.string()} and requested not in ("category", "text"):
        numbers = [_as_numbers(a) if pa.types.is_string(a.type) else a for a in arrays]
        arrays = arrays if any(array is None for array in numbers) else numbers
    row = 0
    for array in arrays:
        if pa.types.is_null(common):
            common = array.type
        elif array.type not in (common, pa.null()):
            if {common, array.type} != {pa.int64(), pa.float64()}:
                first = pc.index(array.is_valid(), True).as_py()
                value = array[first].as_py()
                raise _mixed(name, _kind(common), value, row + first, requested, place)
            common = pa.float64()
        row += len(array)
    return pa.chunked_array([pc.cast(array, common, safe=False) for array in arrays], common)


def _kind(values: pa.DataType) -> str:
    return {pa.bool_(): "boolean", pa.string(): "string"}.get(values, "number")


def _texts(name: str, values: list[Any], start: int, place: Place) -> pa.Array:
    """Values of any type as the strings of a category; floats as CSV would have them."""
    for row, value in enumerate(values, start):
        if isinstance(value, dict | list):
            raise _mixed(name, None, value, row, "category", place)
    floats = pa.array([value if type(value) is float else None for value in values], pa.float64())
    others = [None if v is None or type(v) is float else _text(v) for v in values]
    return pc.coalesce(pc.cast(floats, pa.string()), pa.array(others, pa.string()))


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _described(value: Any) -> str:
    kinds = {
        dict: "an object",
        list: "a list",
        bool: f"the boolean {str(value).lower()}",
    }
    text = f"the string '{value[:64]}'" if isinstance(value, str) else f"the number {value}"
    return kinds.get(type(value), text)
