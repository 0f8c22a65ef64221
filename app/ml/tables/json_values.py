"""Values of JSON as columns: each holds one of JSON's types and gaps, or a mixture of them.

Members of objects are columns of their own, ``user.age``; lists are left out with a warning.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.errors import InvalidData, escape
from app.ml.column_types.canonical import TypeName
from app.ml.tables.labels import Place
from app.ml.tables.mixtures import as_mixture, mixture, texts
from app.ml.tables.typed import ColumnOptions, TypedTable, assemble

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
    column_options: ColumnOptions,
    place: Place,
    lists: set[str],
    threads: int = 1,
) -> TypedTable:
    """Return the table, with a warning of ``lists``, columns that were left out."""
    table = assemble(columns, column_options, place, has_types=True, threads=threads)
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
    """Return JSON values, the first of them in row ``start``, as an Arrow array: of one type, or a
    mixture. Raises InvalidData at the first that is no single value."""
    if requested in ("category", "text"):
        _refuse_nested(name, values, start, place)
        return texts(values)
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError):
        array = None
    if array is not None and _is_plain(array.type) and not _hides_booleans(array.type, values):
        return array
    _refuse_nested(name, values, start, place)
    if {type(value) for value in values} <= {int, float, type(None)}:  # integers of any size
        return pa.array([None if v is None else float(v) for v in values])
    return mixture(values)


def _refuse_nested(name: str, values: list[Any], start: int, place: Place) -> None:
    for row, value in enumerate(values, start):
        if isinstance(value, dict | list):
            where, pointer = place(name, row)
            raise InvalidData.at(
                pointer,
                f"column '{name[:64]}' wants a number, string or boolean, got "
                f"{'a list' if isinstance(value, list) else 'an object'} in {where}; a cell is a "
                "single value",
                "wrong_type",
            )


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


def joined(arrays: list[pa.Array]) -> pa.ChunkedArray:
    """Return blocks of one column as one: integers beside floats are floats, other types beside
    each other a mixture."""
    kinds = {array.type for array in arrays} - {pa.null()}
    if len(kinds) > 1 and kinds != {pa.int64(), pa.float64()}:
        arrays = [as_mixture(array) for array in arrays]
        return pa.chunked_array(arrays)
    common = pa.float64() if len(kinds) > 1 else next(iter(kinds), pa.null())
    return pa.chunked_array([pc.cast(array, common, safe=False) for array in arrays], common)
