"""Tables: bytes or JSON in, one canonical typed Arrow table out; Parquet on disk; profiles.

Canonical means that equal content gives equal Parquet bytes whatever it came in as: numbers are
int64 where every value is whole (below 2**53), else float64; categories are strings; booleans are
booleans; missing is null. Importable without torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from app.errors import FieldError, InvalidData

ColumnType = Literal["number", "category", "boolean"]
MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]

FILE = "table.parquet"
"""The one file of a dataset's artifact."""

_WHOLE_BELOW = 2**53
_ROW_GROUP = 65_536
_TOP = 10
_MAX_COLUMNS = 10_000
_BOOLEAN = r"^(?i:true|false)$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_LEADING_ZERO = r"^[+-]?0[0-9]"


@dataclass(frozen=True)
class CSVOptions:
    """How to read a CSV file: one-character delimiter, a Python codec, header line or none."""

    delimiter: str = ","
    encoding: str = "utf-8"
    header: bool = True


# ---------------------------------------------------------------- CSV


def read_csv(
    source: Path, options: CSVOptions, types: dict[str, ColumnType] | None = None
) -> pa.Table:
    """Read a CSV file and infer each column's type from all its rows (``types`` overrides).

    Raises InvalidData naming the line or column and the remedy.
    """
    if source.stat().st_size == 0:
        raise InvalidData("the file is empty; send a header line and at least one row")
    names = _csv_names(source, options)
    text = _read_as_text(source, options, names)
    _check_names(text.column_names)
    _check_types(types or {}, text.column_names)
    columns = [_parse_text(name, text[name], (types or {}).get(name)) for name in text.column_names]
    return _canonical(pa.table(dict(zip(text.column_names, columns, strict=True))))


def _read_options(options: CSVOptions) -> dict[str, Any]:
    return {
        "encoding": options.encoding,
        "autogenerate_column_names": not options.header,
        "use_threads": False,  # so that a ragged line is reported with its number
    }


def _csv_names(source: Path, options: CSVOptions) -> list[str]:
    """The column names alone: Arrow needs them before it can be told that all is text."""
    try:
        with pacsv.open_csv(
            source,
            read_options=pacsv.ReadOptions(**_read_options(options)),
            parse_options=pacsv.ParseOptions(
                delimiter=options.delimiter,
                newlines_in_values=True,
                invalid_row_handler=lambda _: "skip",
            ),
        ) as reader:
            return [str(name) for name in reader.schema.names]
    except (pa.ArrowInvalid, UnicodeError, LookupError) as error:
        raise _csv_error(error, options) from error


def _read_as_text(source: Path, options: CSVOptions, names: list[str]) -> pa.Table:
    ragged: list[FieldError] = []

    def refuse(row: Any) -> str:
        where = f"line {row.number}" if row.number else "a line"
        detail = f"{where} has {row.actual_columns} fields, expected {row.expected_columns}"
        ragged.append(FieldError(f"/line/{row.number}", detail, "ragged"))
        return "error"

    try:
        return pacsv.read_csv(
            source,
            read_options=pacsv.ReadOptions(**_read_options(options)),
            parse_options=pacsv.ParseOptions(
                delimiter=options.delimiter,
                newlines_in_values=True,
                invalid_row_handler=refuse,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                null_values=MISSING,
            ),
        )
    except (pa.ArrowInvalid, UnicodeError) as error:
        if ragged:
            raise InvalidData(f"the CSV is ragged: {ragged[0].detail}", ragged) from error
        raise _csv_error(error, options) from error


def _csv_error(error: Exception, options: CSVOptions) -> InvalidData:
    if isinstance(error, LookupError):
        return InvalidData(f"unknown encoding '{options.encoding[:64]}'; try utf-8 or latin-1")
    if isinstance(error, UnicodeError) or "UTF8" in str(error):
        return InvalidData(
            f"the file is not {options.encoding}; name its encoding, for example ?encoding=latin-1"
        )
    return InvalidData(f"the file is no CSV: {str(error).splitlines()[0][:200]}")


def _parse_text(name: str, column: pa.ChunkedArray, wanted: ColumnType | None) -> pa.ChunkedArray:
    """A column of strings as the type it holds, or as the type that was asked for."""
    if wanted == "category":
        return column
    trimmed = pc.utf8_trim_whitespace(column)
    for kind, pattern in (("boolean", _BOOLEAN), ("number", _NUMBER)):
        fits = pc.match_substring_regex(trimmed, pattern)
        if wanted == kind and not _all(fits):
            line = pc.index(pc.fill_null(fits, True), False).as_py()
            raise _wrong_cell(name, line, str(trimmed[line].as_py()), wanted)
        if wanted == kind or (wanted is None and _all(fits)):
            if kind == "boolean":
                return pc.equal(pc.utf8_lower(trimmed), "true")
            if wanted is None and _any(pc.match_substring_regex(trimmed, _LEADING_ZERO)):
                return column  # "001" is a code, not a number
            return pc.cast(pc.replace_substring_regex(trimmed, r"^\+", ""), pa.float64())
    return column


def _all(mask: pa.ChunkedArray) -> bool:
    return bool(pc.all(mask, min_count=1).as_py())


def _any(mask: pa.ChunkedArray) -> bool:
    return bool(pc.any(mask).as_py())


def _wrong_cell(name: str, row: int, value: str, wanted: str) -> InvalidData:
    detail = f"column '{name[:64]}' holds '{value[:64]}' in row {row}, which is no {wanted}"
    return InvalidData(detail, [FieldError(f"/rows/{row}/{_escape(name)}", detail, "wrong_type")])


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


# ---------------------------------------------------------------- JSON


def from_rows(
    rows: Sequence[dict[str, Any]], types: dict[str, ColumnType] | None = None
) -> pa.Table:
    """A table of JSON objects; columns in order of first appearance, absent keys are missing."""
    if not rows:
        raise InvalidData.at("/source/rows", "there are no rows; send at least one")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return _from_lists(columns, types or {}, lambda name, row: f"/source/rows/{row}/{name}")


def from_columns(
    columns: dict[str, list[Any]], types: dict[str, ColumnType] | None = None
) -> pa.Table:
    """A table of named lists, all of one length."""
    lengths = {name: len(values) for name, values in columns.items()}
    if not lengths or not any(lengths.values()):
        raise InvalidData.at("/source/columns", "there are no rows; send at least one")
    first, *_ = lengths.values()
    for name, length in lengths.items():
        if length != first:
            raise InvalidData.at(
                f"/source/columns/{_escape(name)}",
                f"column '{name[:64]}' has {length} values where the first has {first}",
            )
    return _from_lists(columns, types or {}, lambda name, row: f"/source/columns/{name}/{row}")


def _from_lists(
    columns: dict[str, list[Any]], types: dict[str, ColumnType], pointer: Any
) -> pa.Table:
    _check_names(list(columns))
    _check_types(types, list(columns))
    return _canonical(
        pa.table(
            {
                name: _typed_list(name, values, types.get(name), pointer)
                for name, values in columns.items()
            }
        )
    )


_JSON_TYPES: dict[type, ColumnType] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "category",
}


def _typed_list(
    name: str, values: list[Any], wanted: ColumnType | None, pointer: Any
) -> pa.ChunkedArray:
    """One column of JSON values, all of one type; the first that differs is named."""
    kind = wanted
    for row, value in enumerate(values):
        if value is None:
            continue
        found = _JSON_TYPES.get(type(value))
        if kind is None:
            kind = found
        if (
            found is None
            or (found != kind and kind != "category")
            or (found != kind and not wanted)
        ):
            raise InvalidData.at(
                pointer(_escape(name), row),
                f"column '{name[:64]}' wants a {kind or 'number, string or boolean'}, "
                f"got {_shown(value)}; make the column one type or name it in 'types'",
                "wrong_type",
            )
    if kind == "number":
        return pa.chunked_array([pa.array([_float(v) for v in values], pa.float64())])
    if kind == "boolean":
        return pa.chunked_array([pa.array(values, pa.bool_())])
    texts = [_text(value) for value in values]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _shown(value: Any) -> str:
    kinds = {
        dict: "an object",
        list: "a list",
        bool: f"the boolean {str(value).lower()}",
    }
    shown = f"the string '{value[:64]}'" if isinstance(value, str) else f"the number {value}"
    return kinds.get(type(value), shown)


# ---------------------------------------------------------------- the canonical table


def _check_names(names: Sequence[str]) -> None:
    if len(names) > _MAX_COLUMNS:
        raise InvalidData(f"{len(names)} columns are too many; at most {_MAX_COLUMNS}")
    seen: set[str] = set()
    for position, name in enumerate(names, 1):
        if not name.strip() or "\0" in name:
            raise InvalidData(f"column {position} has no name; give every column one")
        if name in seen:
            raise InvalidData(f"the name '{name[:64]}' stands for two columns; rename one")
        seen.add(name)


def _check_types(types: dict[str, ColumnType], names: Sequence[str]) -> None:
    for name in types:
        if name not in names:
            raise InvalidData.at(f"/types/{_escape(name)}", f"there is no column '{name[:64]}'")


def _canonical(table: pa.Table) -> pa.Table:
    if table.num_rows == 0:
        raise InvalidData("there is a header but no row; send at least one")
    columns = [_canonical_column(column) for column in table.columns]
    return pa.table(columns, names=table.column_names).combine_chunks()


def _canonical_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_floating(column.type):
        return column
    finite = pc.is_finite(column)
    column = pc.if_else(finite, column, pa.scalar(None, pa.float64()))  # NaN, infinity: missing
    whole = pc.and_(pc.equal(column, pc.trunc(column)), pc.less(pc.abs(column), _WHOLE_BELOW))
    return pc.cast(column, pa.int64()) if _all(whole) else column


def column_type(column: pa.DataType) -> ColumnType:
    """The contract's name of an Arrow type of a canonical table."""
    if pa.types.is_boolean(column):
        return "boolean"
    return "category" if pa.types.is_string(column) else "number"


# ---------------------------------------------------------------- Parquet


def write(table: pa.Table, path: Path) -> None:
    """Write a canonical table; equal tables give equal bytes."""
    pq.write_table(table, path, compression="zstd", row_group_size=_ROW_GROUP, store_schema=False)


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a stored table, or only some of its columns."""
    with pq.ParquetFile(path) as file:
        return file.read(columns=list(columns) if columns is not None else None)


def read_rows(path: Path, offset: int, limit: int) -> list[dict[str, Any]]:
    """``limit`` rows from ``offset`` as objects; only the row groups they lie in are read."""
    with pq.ParquetFile(path) as file:
        found: list[dict[str, Any]] = []
        for group, skip in _groups_from(file, offset):
            found += file.read_row_group(group).slice(skip, limit - len(found)).to_pylist()
            if len(found) >= limit:
                break
        return found


def _groups_from(file: pq.ParquetFile, offset: int) -> Iterator[tuple[int, int]]:
    start = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if start + rows > offset:
            yield group, max(0, offset - start)
        start += rows


# ---------------------------------------------------------------- profile


def profile(table: pa.Table) -> list[dict[str, Any]]:
    """What each column holds: name, type, missing, and its numbers or its most frequent values."""
    return [_profile_column(name, table[name]) for name in table.column_names]


def _profile_column(name: str, column: pa.ChunkedArray) -> dict[str, Any]:
    kind = column_type(column.type)
    facts: dict[str, Any] = {"name": name, "type": kind, "missing": column.null_count}
    if kind == "number":
        spread = pc.min_max(column)
        facts["distinct"] = pc.count_distinct(column).as_py()
        facts["integer"] = pa.types.is_integer(column.type)
        facts["min"], facts["max"] = spread["min"].as_py(), spread["max"].as_py()
        facts["mean"] = pc.mean(column).as_py()
        facts["std"] = pc.stddev(column, ddof=1).as_py()
        return facts
    counts = sorted(
        (
            (item["values"], item["counts"])
            for item in pc.value_counts(column.drop_null()).to_pylist()
        ),
        key=lambda pair: (-pair[1], str(pair[0])),
    )
    facts["distinct"] = len(counts)
    facts["top"] = [[value, count] for value, count in islice(counts, _TOP)]
    return facts


def warnings(columns: list[dict[str, Any]], rows: int) -> list[str]:
    """What a person should know about the columns before training on them."""
    notes = []
    for column in columns:
        if column["missing"] == rows:
            notes.append(f"column '{column['name']}' is empty")
        elif column["distinct"] == 1 and rows > 1:
            notes.append(f"column '{column['name']}' is constant")
        elif is_identifier(column, rows):
            notes.append(f"column '{column['name']}' looks like an identifier")
    return notes


_IDENTIFIER_NAMES = {
    "id",
    "index",
    "rowid",
    "row_id",
    "rownames",
    "rowname",
    "uuid",
    "guid",
}


def is_identifier(column: dict[str, Any], rows: int) -> bool:
    """Whether every row has its own value and the value says nothing: names, row numbers."""
    if column["type"] == "boolean" or rows < 20 or column["distinct"] < rows - column["missing"]:
        return False
    name = column["name"].lower()
    named_so = name in _IDENTIFIER_NAMES or name.endswith("_id")
    return column["type"] == "category" or (named_so and bool(column["integer"]))
