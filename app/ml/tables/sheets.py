"""Spreadsheets (xlsx, xls, ods) as text tables: one sheet, read by calamine.

The cells of a sheet are written as CSV and read like every other: titles above a table, notes below
it, unnamed columns and cells that hold text for numbers are the same there.
"""

import csv
import re
import zipfile
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from xml.parsers import expat

import python_calamine as calamine

from app.errors import InvalidData
from app.ml.tables import packing
from app.ml.tables.typed import too_much
from app.storage import require_room

_CHUNK_BYTES = 1024 * 1024
_PARTS = re.compile(r"content\.xml|xl/workbook\.xml|xl/sharedStrings\.xml|xl/worksheets/[^/]+\.xml")
_CELL = re.compile(rb'<c r="([A-Z]{1,20})([0-9]{1,20})"')
DELIMITER = ";"
"""Of the text; beside it a decimal comma is as likely as a dot."""
_DECIMAL_COMMA = re.compile(r"\d,(\d{1,2}|\d{4,})\D*$")
_LIKE_THOUSANDS = re.compile(r"-?[0-9]+\.[0-9]{3}")
_LONGEST_NAME = 64
_MOST_ROWS, _MOST_LETTERS = 1_048_576, 3
"""Of a sheet, and of the name of a column, as Excel has them."""
_MOST_NAMED = 20
"""Sheets that are told."""
_CHECKED_ROWS = 10_000
"""After which the room on the disk is looked at."""


def write_csv(
    source: Path, sheet: str | None, target: Path, most_bytes: int, free_disk_bytes: int | None
) -> tuple[dict[str, Any], list[str]]:
    """Write a sheet, ``sheet`` or the first that holds a table, as CSV; return what a dataset tells
    of it, and warnings.

    Raises InvalidData where it cannot be read or there is no such sheet, TooLarge, StorageFull.
    """
    if zipfile.is_zipfile(source):
        _require_whole(source, most_bytes)
    try:
        with calamine.CalamineWorkbook.from_path(source) as book:
            name, rows = _chosen(book, sheet)
            names = book.sheet_names
    except calamine.CalamineError as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InvalidData(
            f"this spreadsheet cannot be read; it is damaged or protected: {reason}"
        ) from error
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=DELIMITER, lineterminator="\n")
        rows = _from_first_column(rows)
        commas = _with_commas(rows)
        notes = _first_note(rows)
        warnings = _empty_among(rows[:notes])
        for number, row in enumerate(rows):
            if any(value != "" for value in row):
                cells = [_cell(value, place in commas) for place, value in enumerate(row)]
                writer.writerow(cells if number < notes else cells[:1])
            else:
                file.write("\n")  # no row, but a line: errors name the sheet's own
            if number % _CHECKED_ROWS == 0:
                require_room(target.parent, free_disk_bytes)
                if file.tell() > most_bytes:
                    raise too_much(most_bytes)
    reading: dict[str, Any] = {"sheet": name}
    if len(names) == 1:
        return reading, warnings
    others = ", ".join(f"'{other[:64]}'" for other in names[:_MOST_NAMED] if other != name)
    warning = f"sheet '{name[:64]}' was read; the file has others: {others} (send sheet= for one)"
    others_too = [] if sheet else [warning]
    return reading | {"sheets": names[:_MOST_NAMED]}, [*others_too, *warnings]


def _require_whole(source: Path, most_bytes: int) -> None:
    """Raise InvalidData for a part that is no XML or claims cells where no sheet has any, and
    TooLarge for more than ``most_bytes``: calamine reads on for ever where a part ends too early,
    and makes room for whatever a cell's name says."""
    with zipfile.ZipFile(source) as archive:
        parts = [name for name in archive.namelist() if _PARTS.fullmatch(name)]
    left = most_bytes
    for part in parts:
        parser, tail = expat.ParserCreate(), b""
        try:
            for chunk in packing.content_of(source, part):
                left -= len(chunk)
                if left < 0:
                    raise too_much(most_bytes)
                parser.Parse(chunk, False)
                _require_cells_of_sheets(part, tail + chunk)
                tail = chunk[-_LONGEST_NAME:]
            parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise InvalidData(
                f"this spreadsheet cannot be read; it is damaged: {error} in {part[:64]}"
            ) from error


def _require_cells_of_sheets(part: str, content: bytes) -> None:
    for letters, row in _CELL.findall(content):
        if len(letters) > _MOST_LETTERS or int(row) > _MOST_ROWS:
            raise InvalidData(f"{part[:64]} names a cell that no sheet has; save it again")


def _chosen(book: calamine.CalamineWorkbook, sheet: str | None) -> tuple[str, list[list[Any]]]:
    """Return the name and the rows of a sheet. Raises InvalidData."""
    names = book.sheet_names
    first = None
    if sheet is not None:
        if sheet not in names:
            listed = ", ".join(f"'{name[:64]}'" for name in names[:_MOST_NAMED])
            detail = f"there is no sheet '{sheet[:64]}'; there are {listed}"
            raise InvalidData.at("/sheet", detail, "unknown_value")
        names = [sheet]
    for name in names:
        found = book.get_sheet_by_name(name)
        rows = found.to_python(skip_empty_area=False)
        _fill_merged(rows, found.merged_cell_ranges or ())
        if rows and (sheet is not None or _is_table(rows)):
            return name, rows
        first = first or ((name, rows) if rows else None)
    if first is not None:
        return first
    if sheet is not None:
        raise InvalidData.at("/sheet", f"the sheet '{sheet[:64]}' is empty; name another", "empty")
    raise InvalidData("the spreadsheet is empty; send a header and at least one row")


def _from_first_column(rows: list[list[Any]]) -> list[list[Any]]:
    """Return rows without the empty columns before a table that begins further right."""
    used = (next((i for i, value in enumerate(row) if value != ""), None) for row in rows)
    first = min((place for place in used if place is not None), default=0)
    return [row[first:] for row in rows] if first else rows


def _is_table(rows: list[list[Any]]) -> bool:
    """Whether two rows have two cells or more: a sheet of remarks has not."""
    wide = (row for row in rows if sum(value != "" for value in row) > 1)
    return len([*islice(wide, 2)]) == 2


def _fill_merged(rows: list[list[Any]], ranges: Sequence[tuple[Any, Any]]) -> None:
    """Have each row of a merged cell that is one column wide hold its value, as who merged them
    means it; one that is wider is a title."""
    left = sum(map(len, rows))
    for (top, column), (bottom, last) in ranges:
        if column != last:
            continue
        for row in rows[top + 1 : bottom + 1]:
            if column < len(row) and column < len(rows[top]) and left:
                row[column] = rows[top][column]
                left -= 1


def _first_note(rows: list[list[Any]]) -> int:
    """Return the row from which on there is nothing but notes in the first column, behind an empty
    row: lines of one cell are no rows of a text file either."""
    place = len(rows)
    found = place
    while place:
        place -= 1
        filled = [number for number, value in enumerate(rows[place]) if value != ""]
        if filled and filled != [0]:
            break
        if not filled and place + 1 < len(rows):
            found = place
    return found if place else len(rows)


def _empty_among(rows: list[list[Any]]) -> list[str]:
    """A warning of empty rows between such as fill half of the widest or more; those around titles
    are usual."""
    counts = [sum(value != "" for value in row) for row in rows]
    most = max(counts, default=0)
    wide = [place for place, count in enumerate(counts) if 2 * count > most]
    empty = [place for place in range(wide[0], wide[-1]) if not counts[place]] if wide else []
    if not empty:
        return []
    several = f"{len(empty)} empty rows among the others"
    which = several if len(empty) > 1 else "an empty row among the others"
    return [f"{which} left no row, the first is row {empty[0] + 1} of the sheet"]


def _with_commas(rows: list[list[Any]]) -> set[int]:
    """Return the columns where texts have decimal commas, so that numbers beside them need one."""
    cells = ((place, cell) for row in rows for place, cell in enumerate(row))
    texts = ((place, cell) for place, cell in cells if isinstance(cell, str))
    return {place for place, text in texts if _DECIMAL_COMMA.search(text)}


def _cell(value: Any, comma: bool) -> str:
    """Return a cell as JSON and ISO 8601 have it; a whole number without its fraction, others so
    that no dot of theirs can be taken for a mark of thousands. ``comma``: with a decimal comma."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case float():
            text = str(value)
            text = f"{text}0" if _LIKE_THOUSANDS.fullmatch(text) else text
            return text.replace(".", ",") if comma else text
        case datetime():
            midnight = value.time() == time()
            return value.date().isoformat() if midnight else value.isoformat(sep=" ")
        case date():
            return value.isoformat()
        case time():
            return value.isoformat(timespec="seconds")
        case timedelta():
            return f"{value.total_seconds():g}"
    return str(value)
