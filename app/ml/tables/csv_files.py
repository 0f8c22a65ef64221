"""CSV files as typed tables. Arrow reads; what it only calls "invalid" is found again, by line."""

import codecs
import csv
import mmap
import re
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from app.errors import InvalidData, escape
from app.ml.column_types.canonical import MAX_COLUMNS
from app.ml.column_types.notations.notation import CellOptions, Notation
from app.ml.tables.columns import typed_column
from app.ml.tables.csv_blanks import with_tabs
from app.ml.tables.csv_cells import (
    empty_at_end,
    may_be_codes,
    na_among_codes,
    repeated_headers,
    unwrapped,
    without_rows,
)
from app.ml.tables.csv_layout import CSVOptions, Shape
from app.ml.tables.csv_lines import (
    DELIMITERS,
    is_rule,
    not_utf8,
    without_empty_ends,
    without_gaps,
)
from app.ml.tables.csv_records import BLOCK_BYTES, BadRecord, Records
from app.ml.tables.csv_shape import shape_of
from app.ml.tables.typed import (
    CellFacts,
    ColumnOptions,
    TypedTable,
    assemble,
    check_names,
    no_row,
    too_wide,
)

MISSING = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL"]
"""Cells that stand for a missing value."""

_RAGGED = re.compile(r"Expected ([0-9]+) columns, got")
_TAIL_BYTES = 4096


def header_line(names: Sequence[str], delimiter: str = ",") -> str:
    """Return the header of a file that quotes only what must be: names with a quote, a break or
    what could be taken for the delimiter."""
    special = {*DELIMITERS, delimiter, '"', "\r", "\n", "\ufeff"}
    return delimiter.join(
        '"' + name.replace('"', '""') + '"' if special & {*name} else name for name in names
    )


def read_csv(
    path: Path, options: CSVOptions, column_options: ColumnOptions, threads: int = 1
) -> TypedTable:
    """Read a UTF-8 CSV file and infer each column's type from all its rows, where
    ``column_options`` do not say it.

    In a file that quotes only what must be, a quoted ``""`` or ``"NA"`` is a string where its
    column is one of strings; else it is missing. Raises InvalidData naming the line or column and
    the remedy.
    """
    if column_options.only_typed:
        units = {
            n: kept.unit for n, kept in column_options.notations.items() if kept.unit is not None
        }
        commas = frozenset(n for n, kept in column_options.notations.items() if kept.decimal == ",")
        expected = tuple(column_options.types)
        options = replace(options, expected=expected, units=units, commas=commas)
    with closing(_File(path, options, column_options.options)) as file:
        columns = file.columns(threads)
        if file.means_quotes:
            for name in filter(column_options.reads, columns):
                columns[name] = _with_quoted(name, columns[name], column_options, file)
        typed = assemble(
            columns,
            column_options,
            file.place,
            has_types=False,
            threads=threads,
            delimiter=file.delimiter,
        )
        return replace(
            typed,
            notes=[*file.warnings(typed.table), *typed.notes, *file.codes(typed, column_options)],
            reading=file.shape.reading | typed.reading,
            cells=typed.cells | _with_units(typed, file.shape.units),
        )


def _with_units(typed: TypedTable, units: dict[str, str]) -> dict[str, CellFacts]:
    """Return what is known of the cells of numbers whose unit stands below the header."""
    found = {}
    for name, unit in units.items():
        known = typed.cells.get(name, CellFacts())
        notation = known.notation or Notation()
        if typed.types.get(name) == "number" and notation.unit is None:
            found[name] = replace(known, notation=notation.model_copy(update={"unit": unit}))
    return found


def _with_quoted(
    name: str, column: pa.ChunkedArray, column_options: ColumnOptions, file: "_File"
) -> pa.ChunkedArray:
    """Return the column with quoted marks of a missing value as strings, if it is of strings."""
    marks = pc.is_in(column, value_set=pa.array(file.missing))
    if not pc.any(marks).as_py():
        return column
    cleared = pc.if_else(marks, pa.scalar(None, pa.string()), column)
    kind = column_options.types.get(name)
    if kind is None:
        kind = typed_column(name, cleared, None, file.place, has_types=False).type
    return column if kind in ("category", "text") else cleared


def _plainer(path: Path, shape: Shape) -> IO[str] | None:
    """Return a copy of a file as Arrow can read it, where it cannot read the file itself."""
    if shape.spaces:
        return with_tabs(path, shape.spaces, shape.spans)
    with suppress(csv.Error):  # the reader says where the cell is that is too long
        return without_gaps(path, shape.delimiter) if shape.gaps else None
    return None


class _File:
    """One file, its delimiter, and how to find a row's line in it."""

    def __init__(self, path: Path, options: CSVOptions, cells: CellOptions) -> None:
        self.shape = shape_of(path, options)
        self._copy = _plainer(path, self.shape)
        self.path = Path(self._copy.name) if self._copy else path
        kept = {*cells.keep_na}
        self.missing = [mark for mark in MISSING if mark not in kept] + [*cells.na_values]
        self.header = self.shape.header
        self._records_above = self.header + self.shape.records_below_header
        self._options = options
        self._names_read: list[str] = []
        self._empty_ends = 0
        """Lines that ended with delimiters beyond the columns."""
        self._headers: list[int] = []
        """Rows that repeat the header, and are none."""
        first = self._first_line()
        self.delimiter = "\t" if self.shape.spaces else self.shape.delimiter
        self.guessed = self.shape.guessed
        self.means_quotes = False
        """Whether a quoted mark of a missing value was meant as a string, once it has been read."""
        self._width = width = first.count(self.delimiter) + 1
        if width > MAX_COLUMNS:  # Arrow takes a lot of memory for a lot of columns
            raise too_wide(width)
        self.records = self._records()

    def _records(self) -> Records:
        return Records(self.path, self.shape, self.delimiter, self._width)

    def _first_line(self) -> str:
        """The first line that is not empty, without what stands in quotes."""
        head = self._head()
        if not head and self._options.skip_rows:
            detail = f"skip_rows={self._options.skip_rows} leaves no line of the file; skip fewer"
            raise InvalidData.at("/skip_rows", detail)
        if not head:
            raise InvalidData("the file is empty; send a header line and at least one row")
        plain = head if b'"' not in head else b"".join(head.split(b'"')[::2])
        return plain.partition(b"\n")[0].partition(b"\r")[0].decode("latin-1")

    def _head(self) -> bytes:
        with self.path.open("rb") as file:
            for _ in range(self.shape.skip_lines):
                file.readline(BLOCK_BYTES)
            return file.read(BLOCK_BYTES).removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")

    def _means_quotes(self, names: Sequence[str]) -> bool:
        """Whether the file quotes only what must be, by its header; what quotes all (as some tools
        do) quotes a missing value too."""
        with (
            self.path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            if not self.header or content.find(b'"') < 0:
                return False
        head = self._head()
        plain = b'"' not in head.partition(b"\n")[0]
        return plain or head.startswith(header_line(names, self.delimiter).encode())

    # ------------------------------------------------------------ reading

    def columns(self, threads: int) -> dict[str, pa.ChunkedArray]:
        """Every column as text, by name."""
        names = self._names()
        check_names(names)
        self.means_quotes = self._means_quotes(names)
        table = self._read(names, threads)
        if (
            self.shape.names is None and table.column_names != names
        ):  # Arrow saw the first line with other eyes
            names = [str(name) for name in table.column_names]
            check_names(names)
            table = self._read(names, threads)
        table = table.slice(0, table.num_rows - self.shape.padded_notes)
        if table.num_rows == 0:
            raise no_row()
        self._require_closed_quotes(table)
        if self.shape.padded:
            table = pa.table([_unpadded(column) for column in table.columns], names)
        if self.header and self._options.header is None and not self._options.expected:
            self._headers = repeated_headers(table, self.shape.nameless).tolist()
            table = without_rows(table, np.array(self._headers, np.int64))
        self._names_read = names
        return {
            name: unwrapped(column) if self.shape.wraps else column
            for name, column in zip(names, table.columns, strict=True)
            if name not in self.shape.nameless or column.null_count < len(column)
        }

    def codes(self, typed: TypedTable, column_options: ColumnOptions) -> list[str]:
        """Return warnings of codes of two letters among which NA may be one; such columns are read
        once more."""
        found = []
        for name, kind in typed.types.items() if "NA" in self.missing else ():
            if (
                kind == "category"
                and column_options.reads(name)
                and may_be_codes(typed.table[name])
            ):
                cells = self._read(self._names_read, 1, only=name)[name]
                found += na_among_codes(name, cells)
        return found

    def warnings(self, table: pa.Table) -> list[str]:
        """Return warnings of lines that are no rows, or hold nothing."""
        found = [*self.shape.warnings]
        if headers := len(self._headers):
            first = self.records.line(self._headers[0] + self._records_above)
            lines = "1 line repeats" if headers == 1 else f"{headers} lines repeat"
            found.append(
                f"{lines} the header and left no row, the first is line {first}; send header=true "
                "to keep them"
            )
        if self._empty_ends:
            ends = "1 line ends" if self._empty_ends == 1 else f"{self._empty_ends} lines end"
            found.append(f"{ends} with delimiters beyond the columns; nothing stands between them")
        if table.num_columns > 1 and (count := empty_at_end(table)):
            found.append(f"the last {count} rows hold nothing; leave them out of the file")
        return found

    def _names(self) -> list[str]:
        """Arrow needs the names before it can be told that all columns are text."""
        if self.shape.names is not None:
            return self.shape.names
        try:
            _, first = next(self.records.all())
            "".join(first).encode()
        except StopIteration:
            raise no_row() from None
        except UnicodeEncodeError:
            raise not_utf8(self.path) from None
        except BadRecord:
            self.records.refuse_open_quote()
            raise self.records.too_long() from None
        return first if self.header else [f"f{i}" for i in range(len(first))]

    def _read(self, names: list[str], threads: int, only: str | None = None) -> pa.Table:
        """Every column, or ``only`` one with its marks of missing values as they are."""
        # a handler cannot be given what is not UTF-8, so there is none where it would do nothing
        loose = self.shape.notes or self.shape.has_odd_lines
        try:
            return pacsv.read_csv(
                self.path,
                read_options=self._read_options(names, threads),
                parse_options=pacsv.ParseOptions(
                    delimiter=self.delimiter,
                    newlines_in_values=True,
                    escape_char="\\" if self.shape.escapes else False,
                    invalid_row_handler=self._skip_or_fail if loose else None,
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=not self.means_quotes,
                    null_values=self.missing if only is None else [],
                    include_columns=None if only is None else [only],
                ),
            )
        except (pa.ArrowInvalid, UnicodeError) as error:
            if ragged := _RAGGED.search(str(error)):
                if self._cut_empty_ends(int(ragged[1])):
                    return self._read(names, threads, only)
                raise self.records.ragged(int(ragged[1])) from error
            raise self.records.explained(error) from error

    def _cut_empty_ends(self, columns: int) -> bool:
        """Go on with a copy whose lines have no empty cells beyond the ``columns``; return whether
        that changed anything."""
        if self._empty_ends or self.shape.escapes:
            return False
        copy, self._empty_ends = without_empty_ends(self.path, self.delimiter, columns)
        self.close()
        self._copy, self.path = copy, Path(copy.name)
        self.records = self._records()
        return self._empty_ends > 0

    def close(self) -> None:
        """Let go of the copy that was read instead of the file, if there is one."""
        if self._copy is not None:
            self._copy.close()

    def _skip_or_fail(self, row: pacsv.InvalidRow) -> str:
        """Lines of blanks, rules, comments and notes below the table are no rows."""
        text, mark = row.text.strip(), self._options.comment
        passed = not text or text in self.shape.notes or is_rule(text)
        return "skip" if passed or (mark is not None and text.startswith(mark)) else "error"

    def _read_options(self, names: list[str], threads: int) -> pacsv.ReadOptions:
        shaped = self.shape.names is not None
        return pacsv.ReadOptions(
            skip_rows=self.shape.skip_lines,
            column_names=names if shaped else None,
            skip_rows_after_names=self.header + self.shape.lines_below_header if shaped else 0,
            autogenerate_column_names=not shaped and not self.header,
            # no larger than the file: a block's memory is touched whole
            block_size=min(BLOCK_BYTES, self.path.stat().st_size + 1),
            use_threads=threads > 1,
        )

    # ------------------------------------------------------------ lines

    def place(self, name: str, row: int) -> tuple[str, str]:
        """The line of a cell; the file is read once more, since quoted cells may span lines."""
        for header in self._headers:
            row += header <= row
        line = self.records.line(row + self._records_above)
        return f"line {line}", f"/line/{line}/{escape(name)}"

    # ------------------------------------------------------------ what was wrong

    def _require_closed_quotes(self, table: pa.Table) -> None:
        """Arrow ends an open quote at the end of the file without a word."""
        cell = table.columns[-1][-1].as_py() or ""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - _TAIL_BYTES))
            tail = file.read()
        if tail.endswith((b"\n", b"\r")):
            closed = not cell.endswith(("\n", "\r"))
        else:
            quoted = '"' + cell.replace('"', '""') + '"'
            forms = [
                f"{before}{form}" for before in f"{self.delimiter}\n\r" for form in (cell, quoted)
            ]
            closed = tail.endswith(tuple(form.encode() for form in forms))
        if not closed:
            self.records.refuse_open_quote()


def _unpadded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return cells without what pads them; one of blanks alone is missing."""
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
