"""JSON as tables: rows and columns of a request, and files of newline-delimited JSON.

A column holds one of JSON's types, or gaps (``null``, or an absent key); a request's ``types`` may
make categories of mixed ones. Strings that are all ISO 8601 become datetimes.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from app.errors import InvalidData, InvalidJSON, InvalidRequest, TooLarge, escape
from app.ml.tables.canonical import MAX_COLUMNS, ColumnType
from app.ml.tables.labels import Place
from app.ml.tables.notations.notation import AS_FOUND, CellOptions
from app.ml.tables.typed import TypedTable, Wanted, assemble
from app.strict_json import parse_fast, parse_strict

Types = dict[str, ColumnType]

_MOST_CELLS = 10_000_000
_LONGEST_LINE_BYTES = 8 * 1024 * 1024
_ROWS_AT_ONCE = 20_000
_BYTES_A_GAP = 8
_MEMBER = re.compile(rb'"\s*:')
_BEYOND = 2**63


# ---------------------------------------------------------------- in a request


def from_rows(
    rows: Sequence[dict[str, Any]], types: Types | None = None, cells: CellOptions = AS_FOUND
) -> TypedTable:
    """Return the table of JSON objects.

    Columns are in order of first appearance, absent keys are missing values. Raises InvalidData.
    """
    if not rows:
        raise InvalidData.at("/source/rows", "there are no rows; send at least one")
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidData.at(f"/source/rows/{i}", "a row is an object of columns")
    names = _all_names(rows)
    if len(rows) * len(names) > _MOST_CELLS:  # rows without a key count too: a gap is a cell
        raise InvalidData.at(
            "/source/rows",
            f"{len(rows)} rows of {len(names)} columns are too many cells; send a file instead",
        )

    def place(name: str, row: int) -> tuple[str, str]:
        return f"row {row}", f"/source/rows/{row}/{escape(name)}"

    columns = {name: [row.get(name) for row in rows] for name in names}
    return _assembled(columns, types or {}, cells, place)


def _all_names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Every key of every row, in order of first appearance."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
        if len(names) > MAX_COLUMNS:
            raise InvalidData.at("/source/rows", f"more than {MAX_COLUMNS} columns are too many")
    if not names:
        raise InvalidData.at("/source/rows", "the rows have no columns; give them at least one")
    return list(names)


def from_columns(
    columns: dict[str, list[Any]], types: Types | None = None, cells: CellOptions = AS_FOUND
) -> TypedTable:
    """Return the table of named lists, all of one length. Raises InvalidData."""
    for name, values in columns.items():
        if not isinstance(values, list):
            pointer = f"/source/columns/{escape(name)}"
            raise InvalidData.at(pointer, f"column '{name[:64]}' wants a list of values")
    lengths = {name: len(values) for name, values in columns.items()}
    if not lengths or not any(lengths.values()):
        raise InvalidData.at("/source/columns", "there are no rows; send at least one")
    first, *_ = lengths.values()
    for name, length in lengths.items():
        if length != first:
            raise InvalidData.at(
                f"/source/columns/{escape(name)}",
                f"column '{name[:64]}' has {length} values where the first has {first}",
            )

    def place(name: str, row: int) -> tuple[str, str]:
        return f"row {row}", f"/source/columns/{escape(name)}/{row}"

    return _assembled(columns, types or {}, cells, place)


def _assembled(
    columns: dict[str, list[Any]], types: Types, cells: CellOptions, place: Place
) -> TypedTable:
    arrays = {
        name: pa.chunked_array([_array(name, values, 0, types.get(name), place)])
        for name, values in columns.items()
    }
    return assemble(arrays, Wanted(types, options=cells), place, has_types=True)


# ---------------------------------------------------------------- newline-delimited files


def read_ndjson(path: Path, wanted: Wanted, most_bytes: int, threads: int = 1) -> TypedTable:
    """Return the table of a UTF-8 file with one JSON object a line; empty lines are passed over.

    Rows to predict are read as JSON in requests to predict: of equal keys the last counts, and
    integers of any size are numbers.
    ``most_bytes`` bounds what gaps may take: rows of which each has keys of its own are many cells.
    Each row to predict has every feature. Raises InvalidJSON, InvalidData, InvalidRequest or
    TooLarge naming the line.
    """
    empty_before: list[int] = []  # rows before which an empty line stands

    def place(name: str, row: int) -> tuple[str, str]:
        line = row + 1 + bisect_right(empty_before, row)
        return f"line {line}", f"/line/{line}/{escape(name)}"

    blocks: dict[str, list[pa.Array]] = {}
    gaps: dict[str, int] = {}
    done = 0
    with path.open("rb") as file:
        lines = _objects(file, empty_before, _row_to_predict if wanted.only_typed else _row)
        while rows := list(islice(lines, _ROWS_AT_ONCE)):
            if wanted.only_typed:
                _note_gaps(gaps, wanted.types, rows, done)
            _widen(blocks, rows, done, most_bytes)
            for name, arrays in blocks.items():
                if wanted.reads(name):
                    values = [row.get(name) for row in rows]
                    arrays.append(_array(name, values, done, wanted.types.get(name), place))
                else:
                    arrays.append(pa.nulls(len(rows)))
            done += len(rows)
    if not done:
        raise InvalidData("the file has no rows; send at least one")
    _refuse_gap({name: row for name, row in gaps.items() if name in blocks}, place)
    columns = {
        name: _joined(name, blocks.pop(name), wanted.types.get(name), place)
        for name in list(blocks)
    }
    return assemble(columns, wanted, place, has_types=True, threads=threads)


def _note_gaps(
    gaps: dict[str, int], features: Types, rows: Sequence[dict[str, Any]], start: int
) -> None:
    """Add to ``gaps`` the first row, of which the first is number ``start``, that lacks a feature,
    by the feature's name."""
    for row, values in enumerate(rows, start):
        if not features.keys() <= values.keys():
            for name in features.keys() - values.keys():
                gaps.setdefault(name, row)


def _refuse_gap(gaps: dict[str, int], place: Place) -> None:
    """Raise InvalidRequest at the first row that lacks a feature: an absent key may be a misspelt
    one, so that a value that is not known is written as ``null``."""
    for name, row in sorted(gaps.items(), key=lambda gap: gap[1]):
        where, pointer = place(name, row)
        detail = (
            f"the feature '{name[:64]}' is missing in {where}; send a value, or null where it is "
            "unknown"
        )
        raise InvalidRequest.at(pointer, detail, "missing")


def _widen(
    blocks: dict[str, list[pa.Array]], rows: list[dict[str, Any]], done: int, most_bytes: int
) -> None:
    """Begin the columns that these rows are the first to have."""
    for row in rows:
        if not row.keys() <= blocks.keys():
            for name in row:
                blocks.setdefault(name, [pa.nulls(done)] if done else [])
            if len(blocks) > MAX_COLUMNS:
                raise InvalidData(f"more than {MAX_COLUMNS} columns are too many")
    if (done + len(rows)) * len(blocks) * _BYTES_A_GAP > most_bytes:
        raise TooLarge(f"{done + len(rows)} rows of {len(blocks)} columns are too many cells")


def _objects(
    file: BinaryIO, empty_before: list[int], parse: Callable[[bytes, int], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    count = line = 0
    while text := file.readline(_LONGEST_LINE_BYTES + 1):
        line += 1
        if len(text) > _LONGEST_LINE_BYTES:
            raise InvalidData.at(
                f"/line/{line}",
                f"line {line} is longer than {_LONGEST_LINE_BYTES >> 20} MiB; split it",
            )
        if text.isspace():
            empty_before.append(count)
            continue
        yield parse(text, line)
        count += 1


def _row_to_predict(text: bytes, line: int) -> dict[str, Any]:
    """One line by the fast decoder alone."""
    try:
        row = parse_fast(text, "it")
    except InvalidJSON as error:
        detail = f"line {line}: {error.detail}"
        raise InvalidJSON.at(f"/line/{line}", detail, "invalid_json") from error
    if not isinstance(row, dict):
        detail = f'line {line} is no object of features; send one a line, like {{"x": 0.5}}'
        raise InvalidData.at(f"/line/{line}", detail)
    return row


def _row(text: bytes, line: int) -> dict[str, Any]:
    """One line by the fast decoder, and by the strict one wherever the two could differ."""
    try:
        try:
            row = orjson.loads(text)
        except orjson.JSONDecodeError:
            row = None
        if not isinstance(row, dict) or _needs_care(text, row):
            row = parse_strict(text, "it")
    except InvalidJSON as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            detail = f"line {line} is not UTF-8; name the encoding, for example ?encoding=cp1252"
            raise InvalidData.at(f"/line/{line}", detail, "encoding") from error
        raise InvalidJSON(f"line {line}: {error.detail}") from error
    if not isinstance(row, dict):
        raise InvalidData.at(
            f"/line/{line}",
            f"line {line} is no object of columns; NDJSON has one such object a line, "
            'a JSON array goes as {"source": {"kind": "inline", "rows": […]}}',
        )
    return row


def _needs_care(text: bytes, row: dict[str, Any]) -> bool:
    """Keys that stand twice, integers beyond 63 bits, or nesting."""
    if len(_MEMBER.findall(text)) != len(row):
        return True
    return any(
        isinstance(value, dict | list)
        or (isinstance(value, int | float) and not -_BEYOND < value < _BEYOND)
        for value in row.values()
    )


# ---------------------------------------------------------------- values


def _array(
    name: str, values: list[Any], start: int, requested: ColumnType | None, place: Place
) -> pa.Array:
    """JSON values, the first of them in row ``start``, as an Arrow array of one type."""
    if requested in ("category", "text"):
        return _texts(name, values, start, place)
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError):
        array = None
    if array is None or not _is_plain(array.type) or _hides_booleans(array.type, values):
        _refuse_mixture(name, values, start, requested, place)
        array = pa.array([None if v is None else float(v) for v in values])  # integers and floats
    return array


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
    name: str, values: list[Any], start: int, requested: ColumnType | None, place: Place
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
    requested: ColumnType | None,
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


def _joined(
    name: str, arrays: list[pa.Array], requested: ColumnType | None, place: Place
) -> pa.ChunkedArray:
    """Blocks of one column as one: integers beside floats are floats."""
    common = pa.null()
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
