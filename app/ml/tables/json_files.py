"""Files of JSON objects as tables: one a line (NDJSON), or an array of them."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pyarrow as pa

from app.errors import InvalidData, InvalidJSON, InvalidRequest, TooLarge, escape
from app.ml.column_types.canonical import MAX_COLUMNS
from app.ml.tables.json_values import Types, array, flat, has_list, joined, typed
from app.ml.tables.labels import Place
from app.ml.tables.typed import ColumnOptions, TypedTable, check_requested
from app.strict_json import parse_fast, parse_strict

_LONGEST_LINE_BYTES = 8 * 1024 * 1024
_ROWS_AT_ONCE = 20_000
_HEAD_BYTES = 4096
_BYTES_A_GAP = 8
_MEMBER = re.compile(rb'"\s*:')
_BEYOND = 2**63


def read_ndjson(
    path: Path, column_options: ColumnOptions, most_bytes: int, threads: int = 1
) -> TypedTable:
    """Return the table of a UTF-8 file with one JSON object a line, or with a JSON array of them;
    empty lines are passed over, and NaN is a gap.

    Rows to predict are read as JSON in requests to predict: of equal keys the last counts, integers
    of any size are numbers, and each row has every feature.
    ``most_bytes`` bounds what gaps may take: rows of which each has keys of its own are many cells.
    Raises InvalidJSON, InvalidData, InvalidRequest or TooLarge naming the line.
    """
    with path.open("rb") as file:
        rows = _Array(file, column_options) if _Array.begins(file) else _Lines(file, column_options)
        columns, lists = _columns(rows, column_options, most_bytes)
    return typed(columns, column_options, rows.place, lists, threads)


def _columns(
    rows: "_Lines | _Array", column_options: ColumnOptions, most_bytes: int
) -> tuple[dict[str, pa.ChunkedArray], set[str]]:
    """Return the columns, and the names of those that hold lists and were left out."""
    blocks: dict[str, list[pa.Array]] = {}
    gaps: dict[str, int] = {}
    lists: set[str] = set()
    done = 0
    objects = iter(rows)
    while some := list(islice(objects, _ROWS_AT_ONCE)):
        if column_options.only_typed:
            _note_gaps(gaps, column_options.types, some, done)
        _widen(blocks, some, done, most_bytes)
        for name, arrays in blocks.items():
            values = [row.get(name) for row in some]
            if name not in column_options.types and has_list(values):
                lists.add(name)
            if column_options.reads(name) and (name not in lists or len(blocks) == 1):
                arrays.append(array(name, values, done, column_options.types.get(name), rows.place))
            else:
                arrays.append(pa.nulls(len(some)))
        done += len(some)
    if not done:
        raise InvalidData("the file has no rows; send at least one")
    _refuse_gap({name: row for name, row in gaps.items() if name in blocks}, rows.place)
    if not blocks:
        check_requested(column_options, [])
        raise InvalidData('no row has a column; send objects such as {"x": 1}')
    if lists >= blocks.keys():
        raise InvalidData("every column holds lists, which no feature can be; spread them")
    columns = {name: joined(blocks.pop(name)) for name in list(blocks) if name not in lists}
    return columns, lists


class _Lines:
    """The objects of a file, one a line."""

    def __init__(self, file: BinaryIO, column_options: ColumnOptions) -> None:
        self._file, self._nested = file, column_options.nested
        self._parse = _row_to_predict if column_options.only_typed else _row
        self._empty_before: list[int] = []  # rows before which an empty line stands

    def place(self, name: str, row: int) -> tuple[str, str]:
        line = row + 1 + bisect_right(self._empty_before, row)
        return f"line {line}", f"/line/{line}/{escape(name)}"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        count = line = 0
        while text := self._file.readline(_LONGEST_LINE_BYTES + 1):
            line += 1
            if len(text) > _LONGEST_LINE_BYTES:
                raise InvalidData.at(
                    f"/line/{line}",
                    f"line {line} is longer than {_LONGEST_LINE_BYTES >> 20} MiB; split it",
                )
            if text.isspace():
                self._empty_before.append(count)
                continue
            yield flat(self._parse(text, line), f"/line/{line}", self._nested)
            count += 1


class _Array:
    """The objects of a file that is one JSON array."""

    def __init__(self, file: BinaryIO, column_options: ColumnOptions) -> None:
        file.seek(0)
        content = file.read()
        if column_options.only_typed:
            rows = parse_fast(content, "the file", nan_is_null=True)
        else:
            rows = _array_of_objects(content)
        if not isinstance(rows, list):  # never: it begins as one
            raise InvalidData("the file holds no JSON array")
        self._rows, self._nested = rows, column_options.nested

    @staticmethod
    def begins(file: BinaryIO) -> bool:
        """Return whether a file that is open at its start begins as an array does."""
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        return head.lstrip().startswith(b"[")

    def place(self, name: str, row: int) -> tuple[str, str]:
        return f"row {row}", f"/{row}/{escape(name)}"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(self._rows):
            if not isinstance(row, dict):
                detail = f"row {number} is no object; an array holds one object a row"
                raise InvalidData.at(f"/{number}", detail)
            yield flat(row, f"/{number}", self._nested)


def _array_of_objects(content: bytes) -> Any:
    """Return the value by the fast decoder, and by the strict one wherever the two could differ."""
    try:
        rows = orjson.loads(content)
    except orjson.JSONDecodeError:
        rows = None
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        members = sum(map(len, rows))
        plain = not any(_has_unusual(row) for row in rows)
        if plain and len(_MEMBER.findall(content)) == members:
            return rows
    return parse_strict(content, "the file", nan_is_null=True)


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


def _row_to_predict(text: bytes, line: int) -> dict[str, Any]:
    """One line by the fast decoder alone."""
    try:
        row = parse_fast(text, "it", nan_is_null=True)
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
            row = parse_strict(text, "it", nan_is_null=True)
    except InvalidJSON as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            detail = f"line {line} is not UTF-8; name the encoding, for example ?encoding=cp1252"
            raise InvalidData.at(f"/line/{line}", detail, "encoding") from error
        raise InvalidJSON(f"line {line}: {error.detail}") from error
    if not isinstance(row, dict):
        raise InvalidData.at(
            f"/line/{line}",
            f"line {line} is no object of columns; send one such object a line, or an array of "
            "them",
        )
    return row


def _needs_care(text: bytes, row: dict[str, Any]) -> bool:
    """Keys that stand twice, integers beyond 63 bits, or nesting."""
    return len(_MEMBER.findall(text)) != len(row) or _has_unusual(row)


def _has_unusual(row: dict[str, Any]) -> bool:
    """Integers beyond 63 bits, or nesting."""
    return any(
        isinstance(value, dict | list)
        or (isinstance(value, int | float) and not -_BEYOND < value < _BEYOND)
        for value in row.values()
    )
