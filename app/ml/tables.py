"""Tables: JSON in, one canonical typed Arrow table out; Parquet on disk; profiles.

Canonical means that equal content gives equal Parquet bytes whatever it came in as: numbers are
int64 where every value is whole (below 2**53), else float64; categories are strings; booleans are
booleans; missing is null. Importable without torch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.errors import ArtifactCorrupt, InvalidData, escape

ColumnType = Literal["number", "category", "boolean"]

FILE = "table.parquet"
"""The one file of a dataset's artifact."""

_WHOLE_BELOW = 2**53
_ROW_GROUP = 65_536
_TOP = 10
MAX_COLUMNS = 10_000
_MOST_CELLS = 10_000_000


# ---------------------------------------------------------------- JSON


def from_rows(
    rows: Sequence[dict[str, Any]], types: dict[str, ColumnType] | None = None
) -> pa.Table:
    """A table of JSON objects; columns in order of first appearance, absent keys are missing."""
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
    columns = {name: [row.get(name) for row in rows] for name in names}
    return _from_lists(columns, types or {}, lambda name, row: f"/source/rows/{row}/{name}")


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
    columns: dict[str, list[Any]], types: dict[str, ColumnType] | None = None
) -> pa.Table:
    """A table of named lists, all of one length."""
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
    return _from_lists(columns, types or {}, lambda name, row: f"/source/columns/{name}/{row}")


def _from_lists(
    columns: dict[str, list[Any]], types: dict[str, ColumnType], pointer: Any
) -> pa.Table:
    check_names(list(columns))
    check_types(types, list(columns))
    return canonical(
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
        kind = kind or found
        # asked for, a category takes numbers and booleans as their text
        if found is None or (found != kind and wanted != "category"):
            raise InvalidData.at(
                pointer(escape(name), row),
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


def no_row() -> InvalidData:
    return InvalidData("there is a header but no row; send at least one")


def check_names(names: Sequence[str]) -> None:
    if len(names) > MAX_COLUMNS:
        raise InvalidData(f"{len(names)} columns are too many; at most {MAX_COLUMNS}")
    seen: set[str] = set()
    for position, name in enumerate(names, 1):
        if not name.strip() or "\0" in name:
            raise InvalidData(f"column {position} has no name; give every column one")
        if name in seen:
            raise InvalidData(f"the name '{name[:64]}' stands for two columns; rename one")
        seen.add(name)


def check_types(types: dict[str, ColumnType], names: Sequence[str]) -> None:
    for name in types:
        if name not in names:
            raise InvalidData.at(f"/types/{escape(name)}", f"there is no column '{name[:64]}'")


def every(mask: pa.ChunkedArray) -> bool:
    return bool(pc.all(mask, min_count=1).as_py())


def canonical(table: pa.Table) -> pa.Table:
    if table.num_rows == 0:
        raise no_row()
    columns = [_canonical_column(column) for column in table.columns]
    return pa.table(columns, names=table.column_names).combine_chunks()


def _canonical_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_floating(column.type):
        return column
    finite = pc.is_finite(column)
    column = pc.if_else(finite, column, pa.scalar(None, pa.float64()))  # NaN, infinity: missing
    whole = pc.and_(pc.equal(column, pc.trunc(column)), pc.less(pc.abs(column), _WHOLE_BELOW))
    return pc.cast(column, pa.int64()) if every(whole) else column


def column_type(column: pa.DataType) -> ColumnType:
    """The contract's name of an Arrow type of a canonical table."""
    if pa.types.is_boolean(column):
        return "boolean"
    return "category" if pa.types.is_string(column) else "number"


# ---------------------------------------------------------------- Parquet


def write(table: pa.Table, path: Path) -> None:
    """Write a canonical table; equal tables give equal bytes."""
    pq.write_table(
        table,
        path,
        compression="zstd",
        row_group_size=_ROW_GROUP,
        store_schema=False,
        write_page_checksum=True,
    )


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """A stored table whose pages are checked as they are read. Raises ArtifactCorrupt."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise ArtifactCorrupt(
            f"the table {path.parent.name} is missing or damaged on disk; restore it from a backup"
        ) from error


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a stored table, or only some of its columns. Raises ArtifactCorrupt."""
    with _opened(path) as file:
        return file.read(columns=list(columns) if columns is not None else None)


def read_rows(path: Path, offset: int, limit: int) -> list[dict[str, Any]]:
    """``limit`` rows from ``offset`` as objects; only the row groups they lie in are read."""
    with _opened(path) as file:
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
    if len(columns) == 1 and (mark := next((c for c in ";\t|" if c in columns[0]["name"]), None)):
        shown = "a tab" if mark == "\t" else f"'{mark}'"
        notes.append(
            f"there is one column only; if {shown} separates columns, send it as delimiter"
        )
    for column in columns:
        if column["missing"] == rows:
            notes.append(f"column '{column['name']}' is empty")
        elif is_constant(column) and rows > 1:
            notes.append(f"column '{column['name']}' is constant")
        elif is_identifier(column, rows):
            notes.append(f"column '{column['name']}' looks like an identifier")
    return notes


def is_constant(column: dict[str, Any]) -> bool:
    """Whether all rows are alike; one value and gaps are two, since a gap can tell something."""
    return bool(column["distinct"] + (column["missing"] > 0) <= 1)


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
    return bool(column["type"] == "category" or (named_so and column["integer"]))
