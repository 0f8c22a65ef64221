"""Lines of a text file that are no rows of its table: comments and titles above, rules and units
below the header; and copies of files without what Arrow cannot read."""

import codecs
import csv
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from app.errors import InvalidData
from app.storage import explain_os_errors

DELIMITERS = ",;\t|"
"""The delimiters that are looked for where none was named."""
NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?\s*")
VALUES = (
    re.compile(r"\s*[-+(]?[€$£]?\s?\d[\d.,]*([eE][-+]?\d+)?\s?%?\)?\s*"),
    re.compile(r"\s*(\d{4}-\d\d-\d\d([T ].*)?|\d{1,2}[./-]\d{1,2}[./-](\d\d|\d{4}))\s*"),
)
"""What cells of numbers and of dates look like."""
_GROUPED = re.compile(r"[-+(]?[€$£]?\s?\d[\d.,'\u2019_\s]*([eE][-+]?\d+)?\s?%?\)?")
"""A number whose thousands may stand apart."""
_HEAD_BYTES = 256 * 1024
_TAIL_BYTES = 16 * 1024
_RULES = "-=_" + "".join(map(chr, range(0x2500, 0x2580)))
_UNIT = re.compile(r"[^\d\s.,][^\s,]{0,11}( ?[^\s\d,]{1,8})?")
_BRACKETED = re.compile(r"\[[^\]]{1,16}\]|\([^)]{1,16}\)")
_UNITS = re.compile(
    "[smhgldt%$€£]|(?i:sec|min|hrs?|[mun]s|days?|yr|years?|[cmknuµ]m|in|inch|ft|mi|[mk]g|"
    "lbs?|oz|ml|[cmk]?m[23²³]|[mk]m?/[sh]|mph|kn|kt|[kmg]?hz|m[va]|[mk]w|[mk]?wh|kj|k?cal|[kmh]?pa|"
    "m?bar|psi|[°˚][kcf]|deg ?[cf]?|pct|percent|pp[mb]|m?mol(/l)?|[mgµ]g?/[dm]?l|[µmk]g/m[3³]|dbm?|"
    "lx|usd|eur|gbp|rad|(m|deg)/s[2²]?|w/m[2²]|l/min|rpm)"
)
"""Those that are known without brackets."""
_OF_WORDS = {"text", "string", "str", "name", "label", "code", "date", "time", "utc", "datetime"}
_NOTHING = {"", "-", "--", "n/a", "na", "none", "nan", "null", "1"}
"""What stands in place of a unit where there is none."""


def head(path: Path) -> list[str]:
    """Return the first lines, whole ones."""
    with path.open("rb") as file:
        content = file.read(_HEAD_BYTES)
        whole = not file.read(1)
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    lines = text.splitlines()
    return lines if whole or len(lines) < 2 else lines[:-1]


def tail(path: Path) -> list[str]:
    """Return the last lines, whole ones."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "surrogateescape").splitlines()
    return lines if size <= _TAIL_BYTES else lines[1:]


def is_comment(line: str, mark: str | None) -> bool:
    """Whether a line at the head is a comment; one that holds a table's names (``# x y``) is not
    told from one, so only lines of words are, unless the client names the mark."""
    if mark is not None:
        return line.startswith(mark)
    return line.startswith("#") and not any(d in line for d in DELIMITERS)


def is_rule(line: str) -> bool:
    """Whether a line is drawn between the lines of a table, as ``|---|---|`` and ``+----+``; ``--``
    marks missing values."""
    return not line.strip(f" \t\r\n|+:{_RULES}") and any(mark * 3 in line for mark in _RULES)


def units_below(rows: Sequence[Sequence[str]], width: int) -> dict[int, str] | None:
    """Return the units in the first of ``rows``, by the place of their column, where it holds units
    of the numbers below it; None where it is a row like the others."""
    first, others = rows[0], [row for row in rows[1:] if len(row) == width]  # no notes
    if len(first) != width or not others or any(NUMBER.fullmatch(c) for c in first if c != "1"):
        return None
    units = {place: cell.strip() for place, cell in enumerate(first) if not _is_nothing(cell)}
    if not any(map(_is_known, units.values())) or not all(map(_UNIT.fullmatch, units.values())):
        return None
    of_numbers = {place: unit for place, unit in units.items() if _are_numbers(others, place)}
    words = [unit for place, unit in units.items() if place not in of_numbers]
    if not any(map(_is_known, of_numbers.values())) or not all(map(_says_no_unit, words)):
        return None
    return {
        place: unit[1:-1] if _BRACKETED.fullmatch(unit) else unit
        for place, unit in of_numbers.items()
    }


def _is_known(unit: str) -> bool:
    return bool(_BRACKETED.fullmatch(unit) or _UNITS.fullmatch(unit))


def _says_no_unit(cell: str) -> bool:
    """Whether it may stand in a line of units above a column of words."""
    return cell.lower() in _OF_WORDS or (len(cell) > 1 and _is_known(cell))


def _is_nothing(cell: str) -> bool:
    cell = cell.strip().lower()
    return (cell[1:-1] if _BRACKETED.fullmatch(cell) else cell) in _NOTHING


def _are_numbers(rows: Sequence[Sequence[str]], place: int) -> bool:
    """Whether most cells of a column are; others may mark a gap."""
    cells = [row[place] for row in rows if len(row) > place and row[place].strip()]
    numbers = sum(_GROUPED.fullmatch(cell.strip()) is not None for cell in cells)
    return bool(cells) and 4 * numbers >= 3 * len(cells)


def without_gaps(path: Path, delimiter: str) -> IO[str]:
    """Return a copy of a file without the blanks behind its delimiters; it goes when it is closed.

    Raises csv.Error for a cell that is too long or a quote that does not end.
    """
    copy = NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    source = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    with source as file, explain_os_errors():
        writer = csv.writer(copy, delimiter=delimiter, lineterminator="\n")
        for cells in csv.reader(file, delimiter=delimiter, skipinitialspace=True):
            writer.writerow(cells) if cells else copy.write("\n")
        copy.flush()
    return copy


def without_empty_ends(path: Path, delimiter: str, columns: int) -> tuple[IO[str], int]:
    """Return a copy of a file without the delimiters that end a line beyond its ``columns``, as
    spreadsheets leave them behind some rows, and how many lines had such; it goes when it is
    closed."""
    copy = NamedTemporaryFile(  # noqa: SIM115
        "w", dir=path.parent, encoding="utf-8", errors="surrogateescape", newline=""
    )
    count, quoted = 0, False
    source = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    with source as file, explain_os_errors():
        for line in file:
            text = line.rstrip("\r\n")
            extra = "".join(text.split('"')[::2]).count(delimiter) - columns + 1
            odd = text.count('"') % 2 == 1
            if not (quoted or odd) and extra > 0 and text.endswith(delimiter * extra):
                line, count = text[:-extra] + line[len(text) :], count + 1
            quoted ^= odd
            copy.write(line)
        copy.flush()
    return copy, count


def not_utf8(path: Path) -> InvalidData:
    """Return the error that names the first line that is no UTF-8."""
    line = 1
    with path.open("rb") as file:
        for text in file:
            try:
                text.decode()
            except UnicodeDecodeError:
                break
            line += 1
    return InvalidData.at(
        f"/line/{line}",
        f"line {line} is not UTF-8; name the file's encoding, for example ?encoding=cp1252",
        "encoding",
    )
