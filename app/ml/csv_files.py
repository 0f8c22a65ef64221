"""CSV files as canonical tables: every column's type is inferred from all of its rows."""

import codecs
import csv
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from app.errors import FieldError, InvalidData, escape
from app.ml.tables import (
    MAX_COLUMNS,
    ColumnType,
    canonical,
    check_names,
    check_types,
    every,
    no_row,
)

MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]
"""Cells that stand for a missing value."""

_BLOCK = 8 * 1024 * 1024
_ENCODINGS = re.compile(
    r"utf-(8|8-sig|16|16-le|16-be|32|32-le|32-be)|ascii|iso8859-\d+|cp\d+|mac-roman|koi8-[rtu]|"
    r"gb(2312|k|18030)|big5|shift_jis|euc_(jp|kr)"
)
_BOOLEAN = r"^(?i:true|false)$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_LEADING_ZERO = r"^[+-]?0[0-9]"


@dataclass(frozen=True)
class CSVOptions:
    """How to read a CSV file: one-character delimiter, a Python codec, header line or none."""

    delimiter: str = ","
    encoding: str = "utf-8"
    header: bool = True


def read_csv(
    source: Path, options: CSVOptions, types: dict[str, ColumnType] | None = None
) -> pa.Table:
    """Read a CSV file and infer each column's type from all its rows (``types`` overrides).

    Raises InvalidData naming the line or column and the remedy.
    """
    if source.stat().st_size == 0:
        raise InvalidData("the file is empty; send a header line and at least one row")
    _check_options(options)
    _check_width(source, options)
    names = _csv_names(source, options)
    text = _read_as_text(source, options, names)
    check_names(text.column_names)
    check_types(types or {}, text.column_names)
    columns = [_parse_text(name, text[name], (types or {}).get(name)) for name in text.column_names]
    return canonical(pa.table(dict(zip(text.column_names, columns, strict=True))))


def _read_options(options: CSVOptions) -> pacsv.ReadOptions:
    return pacsv.ReadOptions(
        encoding=options.encoding,
        autogenerate_column_names=not options.header,
        block_size=_BLOCK,
        use_threads=False,  # so that a ragged line is reported with its number
    )


def _parse_options(
    options: CSVOptions, on_ragged: Callable[[pacsv.InvalidRow], str]
) -> pacsv.ParseOptions:
    return pacsv.ParseOptions(
        delimiter=options.delimiter, newlines_in_values=True, invalid_row_handler=on_ragged
    )


def _csv_names(source: Path, options: CSVOptions) -> list[str]:
    """The column names alone: Arrow needs them before it can be told that all is text."""
    try:
        with pacsv.open_csv(
            source,
            read_options=_read_options(options),
            parse_options=_parse_options(options, lambda _: "skip"),
        ) as reader:
            return [str(name) for name in reader.schema.names]
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise _csv_error(error, options) from error


def _read_as_text(source: Path, options: CSVOptions, names: list[str]) -> pa.Table:
    ragged: list[pacsv.InvalidRow] = []

    def refuse(row: pacsv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    try:
        return pacsv.read_csv(
            source,
            read_options=_read_options(options),
            parse_options=_parse_options(options, refuse),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                null_values=MISSING,
            ),
        )
    except (pa.ArrowInvalid, UnicodeError) as error:
        if ragged:
            raise _ragged(source, options, ragged[0]) from error
        raise _csv_error(error, options) from error


def _check_options(options: CSVOptions) -> None:
    if not _is_encoding_of_files(options.encoding):
        detail = f"unknown encoding '{options.encoding[:64]}'; try utf-8 or latin-1"
        raise InvalidData.at("/encoding", detail)
    if options.delimiter == "\0" or not options.delimiter.isascii() or options.delimiter in '\r\n"':
        raise InvalidData.at(
            "/delimiter",
            "the delimiter must be one ASCII character other than a quote or a line break",
        )


def _check_width(source: Path, options: CSVOptions) -> None:
    """Count the first line's delimiters: Arrow takes a lot of memory for a lot of columns."""
    with suppress(UnicodeError), source.open(encoding=options.encoding, newline="") as file:
        width = file.readline(_BLOCK).count(options.delimiter) + 1
        if width > MAX_COLUMNS:
            raise InvalidData(f"{width} columns are too many; at most {MAX_COLUMNS}")


def _is_encoding_of_files(name: str) -> bool:
    """Whether files are written in it; Python's codecs also compress, escape and encrypt."""
    try:
        return _ENCODINGS.fullmatch(codecs.lookup(name).name) is not None
    except (LookupError, ValueError):
        return False


def _ragged(source: Path, options: CSVOptions, row: pacsv.InvalidRow) -> InvalidData:
    """Arrow counts records; people count lines, so the file is read once more to find it."""
    line = row.number
    with suppress(csv.Error), source.open(encoding=options.encoding, newline="") as file:
        reader = csv.reader(file, delimiter=options.delimiter)
        start = 1
        for fields in reader:
            if fields and len(fields) != row.expected_columns:
                line = start
                break
            start = reader.line_num + 1
    detail = f"line {line} has {row.actual_columns} fields, expected {row.expected_columns}"
    return InvalidData(
        f"the CSV is ragged: {detail}", [FieldError(f"/line/{line}", detail, "ragged")]
    )


def _csv_error(error: Exception, options: CSVOptions) -> InvalidData:
    said = str(error)
    if "Empty CSV" in said:
        return no_row()
    if "straddling" in said:
        return InvalidData(f"a cell or line is longer than {_BLOCK >> 20} MiB; shorten it")
    if isinstance(error, UnicodeError) or "UTF8" in said:
        return InvalidData(
            f"the file is not {options.encoding}; name its encoding, for example ?encoding=latin-1"
        )
    return InvalidData(f"the file is no CSV: {said.splitlines()[0][:200]}")


def _parse_text(name: str, column: pa.ChunkedArray, wanted: ColumnType | None) -> pa.ChunkedArray:
    """A column of strings as the type it holds, or as the type that was asked for."""
    if wanted == "category":
        return column
    trimmed = pc.utf8_trim_whitespace(column)
    for kind, pattern in (("boolean", _BOOLEAN), ("number", _NUMBER)):
        fits = pc.match_substring_regex(trimmed, pattern)
        if wanted == kind:
            _require_every(name, fits, trimmed, wanted)
        if wanted == kind or (wanted is None and every(fits)):
            if kind == "boolean":
                return pc.equal(pc.utf8_lower(trimmed), "true")
            if wanted is None and _any(pc.match_substring_regex(trimmed, _LEADING_ZERO)):
                return column  # "001" is a code, not a number
            numbers = pc.cast(pc.replace_substring_regex(trimmed, r"^\+", ""), pa.float64())
            _require_every(name, pc.is_finite(numbers), trimmed, "number of 64 bits")
            return numbers
    return column


def _require_every(name: str, fits: pa.ChunkedArray, cells: pa.ChunkedArray, wanted: str) -> None:
    """Raise InvalidData naming the first cell that does not fit; missing ones do."""
    row = pc.index(pc.fill_null(fits, True), False).as_py()
    if row >= 0:
        value = cells[row].as_py()
        detail = f"column '{name[:64]}' holds '{value[:64]}' in row {row}, which is no {wanted}"
        error = FieldError(f"/rows/{row}/{escape(name)}", detail, "wrong_type")
        raise InvalidData(detail, [error])


def _any(mask: pa.ChunkedArray) -> bool:
    return bool(pc.any(mask).as_py())
