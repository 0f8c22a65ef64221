"""The records of a CSV file by Python's reader, which knows their lines: where a cell stands, and
what is wrong with a file that Arrow could not read."""

import csv
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from app.errors import FieldError, InvalidData
from app.ml.tables.csv_layout import Shape
from app.ml.tables.csv_lines import not_utf8
from app.ml.tables.labels import QUICKLY_PLACED
from app.ml.tables.typed import no_row

BLOCK_BYTES = 8 * 1024 * 1024
"""Of a file, read at once; no record is larger."""

_DECIMALS = re.compile(r"[-+]?\d+,\d+([ ;|\t]+[-+]?\d+,\d+)*")

csv.field_size_limit(BLOCK_BYTES)


class Records:
    """The records of one file of so many ``columns``."""

    def __init__(self, path: Path, shape: Shape, delimiter: str, columns: int) -> None:
        self._path, self._shape = path, shape
        self._delimiter, self._columns = delimiter, columns
        self._lines: list[int] | None = None

    def line(self, record: int) -> int:
        """Return the line of a record, from 0: the file is read once more, since quoted cells may
        span lines."""
        if record < QUICKLY_PLACED and self._lines is None:
            self._lines = self._first_lines()
        if self._lines is not None and record < len(self._lines):
            return self._lines[record]
        try:
            return next(line for i, (line, _) in enumerate(self.all()) if i == record)
        except BadRecord as bad:  # too long for Python's reader: it is that one
            return bad.line

    def _first_lines(self) -> list[int]:
        """The lines of the first records, up to one that cannot be read."""
        found: list[int] = []
        with suppress(BadRecord):
            found.extend(line for line, _ in islice(self.all(), QUICKLY_PLACED))
        return found

    def all(self, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
        """Yield ``(line, cells)`` of every record. Raises BadRecord."""
        above = self._shape.skip_lines
        start = above + 1
        escape = "\\" if self._shape.escapes else None
        with self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for _ in range(above):
                file.readline()
            reader = csv.reader(file, delimiter=self._delimiter, strict=strict, escapechar=escape)
            try:
                for cells in reader:
                    if cells and not (len(cells) == 1 < self._columns and not cells[0].strip()):
                        yield start, cells
                    start = above + reader.line_num + 1
            except csv.Error as error:
                raise BadRecord(start, str(error)) from error

    def _bad_record(self, *, strict: bool) -> "BadRecord | None":
        try:
            for _ in self.all(strict=strict):
                pass
        except BadRecord as bad:
            return bad
        return None

    def refuse_open_quote(self) -> None:
        """Raise InvalidData where a quote never ends."""
        bad = self._bad_record(strict=True)
        if bad is not None and "end of data" in bad.reason:
            detail = (
                f"the record of line {bad.line} opens a quote that is never closed; close it, or "
                'double a quote ("") that is part of a cell'
            )
            raise InvalidData.at(f"/line/{bad.line}", detail, "unclosed_quote")

    def ragged(self, expected: int) -> InvalidData:
        """Return the error of a file whose records have not all ``expected`` cells."""
        self.refuse_open_quote()
        line, found = self._first_of_other_width(expected)
        fields = "1 field" if found == 1 else f"{found} fields"
        detail = f"line {line} has {fields}, expected {expected}"
        detail += self._remedy(self._text_of(line), found, expected)
        return InvalidData(
            f"the CSV is ragged: {detail}", [FieldError(f"/line/{line}", detail, "ragged")]
        )

    def _remedy(self, text: str, found: int, expected: int) -> str:
        if found == 1 and text.startswith("#"):
            return "; comment=# leaves out lines that begin so"
        if not self._shape.guessed:
            return "; quote a field that holds the delimiter"
        mark = "a tab" if self._delimiter == "\t" else f"'{self._delimiter}'"
        if self._delimiter == "," and found > expected and _DECIMALS.fullmatch(text.strip()):
            return (
                f" between {mark}; if commas are decimal marks, name what separates the cells, as "
                "in delimiter=;"
            )
        if found > expected:
            return f" between {mark}; quote a field that holds it, or name another delimiter"
        return f" between {mark}; if another character separates them, name it as delimiter"

    def _text_of(self, line: int) -> str:
        with self._path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            return next(islice(file, line - 1, line), "")

    def _first_of_other_width(self, expected: int) -> tuple[int, int]:
        with suppress(BadRecord):
            for line, cells in self.all():
                if len(cells) != expected:
                    return line, len(cells)
        return 1, expected

    def explained(self, error: Exception) -> InvalidData:
        """Return what an error of Arrow's means."""
        message = str(error)
        if "Empty CSV" in message:
            self.refuse_open_quote()
            return no_row()
        if "straddling" in message:
            return self.too_long()
        if isinstance(error, UnicodeError) or "UTF8" in message:
            return not_utf8(self._path)
        return InvalidData(
            f"the file is no CSV: {message.splitlines()[0][:64]}; name its delimiter and encoding"
        )

    def too_long(self) -> InvalidData:
        """Return the error of a cell larger than a block; often a quote that was never closed."""
        bad = self._bad_record(strict=False)
        where = f"line {bad.line}" if bad else "a line"
        return InvalidData.at(
            f"/line/{bad.line}" if bad else "",
            f"{where} holds a cell or record longer than {BLOCK_BYTES >> 20} MiB; shorten it, "
            "or close the quote that it opens",
            "too_long",
        )


class BadRecord(Exception):
    """Raised at a record that Python's reader cannot read; ``line`` is where it begins."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line, self.reason = line, reason
