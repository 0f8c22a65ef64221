"""Lines of a text file that are no rows of its table: comments and titles above, rules and units
below the header, notes and totals at the end."""

import codecs
import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from app.errors import InvalidData
from app.storage import explain_os_errors

Span = tuple[int, int | None]
"""Where the cells of a column begin and end in a line; the last column's end with it."""
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
_COUNT = re.compile(r"\(\d+ rows?( affected)?\)")
_TOTAL = re.compile(
    r"\s*(grand |sub|sum |overall )?(total|totals|sum|summe|gesamt|gesamtsumme|zwischensumme|"
    r"insgesamt|average|mean|durchschnitt|mittelwert|somme|suma|soma|totale?|moyenne|media|média|"
    r"promedio|totaal|gemiddelde|razem|celkem|summa|yhteensä|toplam|összesen|итого|всего|合計|总计|"
    r"總計|合计|합계)( g[eé]n[eé]ral|e? generale| general| geral)?\s*:?\s*",
    re.IGNORECASE,
)
_SAYS_TOTAL = re.compile(
    rf"{_TOTAL.pattern}|.*\s(sub)?(totals?|summe|gesamt)|(sub)?totals?\s.*", re.I
)
_MOST_NOTES = 50
"""Lines below a table that are taken for notes."""
_NOTE_WORDS = (
    "source|sources|note|notes|remark|remarks|n\\.b|quelle|quellen|anmerkung|anmerkungen|hinweis|"
    "stand|fuente|nota|notas|fonte|bron|źródło|uwaga|zdroj|källa|kilde|lähde|kaynak|forrás|"
    "источник|примечание|출처|出典|来源|來源|注"
)
_NOTE = re.compile(rf"\s*([*©†]|\(?({_NOTE_WORDS})\b)", re.IGNORECASE)
"""How notes begin below a table."""
_NOTED = re.compile(rf"\s*\"?\(?({_NOTE_WORDS})\s*[:\uff1a]", re.IGNORECASE)
"""The same with a colon, which no row begins with unless others do."""
_MOST_LONE = 3
"""Rows of one cell of words at the end that are notes where no other row begins with words."""
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


def names_columns(line: str, below: str) -> bool:
    """Whether a comment holds the names of the numbers between blanks ``below`` it, as numpy writes
    them."""
    names, cells = split_at_blanks(line.removeprefix("#")), split_at_blanks(below)
    return (
        1 < len(names) == len(cells)
        and all(map(NUMBER.fullmatch, cells))
        and not any(map(NUMBER.fullmatch, names))
    )


def is_rule(line: str) -> bool:
    """Whether a line is drawn between the lines of a table, as ``|---|---|`` and ``+----+``; ``--``
    marks missing values."""
    return not line.strip(f" \t\r\n|+:{_RULES}") and any(mark * 3 in line for mark in _RULES)


@dataclass(frozen=True)
class Ending:
    """What stands at the end of a file and may be no row of its table; the last of each first."""

    notes: list[str]
    """Lines that are no rows."""
    padded_notes: list[str]
    """Cells that are notes alone in rows as wide as the others."""
    padded_rows: int
    """How many rows those are, and empty ones among and below them."""
    totals: list[str]
    """Of rows that look like totals the cells that say so."""
    lone: str | None
    """The only cell of a last row of words, which may be a note."""


def ending(last: Sequence[str], width: int, delimiter: str, keeps_rows: bool) -> Ending:
    """Return what the ``last`` lines of a file with rows of ``width`` cells hold beside rows.
    ``keeps_rows``: whether one that may be a row is no note, as where each row gets an answer."""
    notes = _notes_below(last, width, delimiter)
    lines = _above(last, notes)
    rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    place, lone = len(rows), []
    while place and (text := _alone(rows[place - 1], width, delimiter)) is not None:
        place -= 1
        lone += [text] * bool(text)
    filled = [row for row in rows[:place] if any(map(str.strip, row))]
    says_so = all(map(_NOTED.match, lone)) and not any(_NOTED.match(row[0]) for row in filled)
    are_notes = 0 < len(lone) < len(filled)
    are_notes = are_notes and (says_so or (not keeps_rows and _are_notes(lone, filled)))
    totals: list[str] = []
    while len(filled) > 1 and (total := _total(filled, width)) is not None:
        totals.append(total)
        filled.pop()
    return Ending(
        notes,
        padded_notes=lone if are_notes else [],
        padded_rows=len(rows) - place if are_notes else 0,
        totals=totals,
        lone=lone[0] if lone and not are_notes else None,
    )


def _notes_below(last: Sequence[str], width: int, delimiter: str) -> list[str]:
    """Return the lines at the end of a file that hold one cell, behind an empty line where rows
    have two, and counts of rows as databases print them; the last one first."""
    found: list[str] = []
    apart = False
    for line in reversed(last):
        cells = _cells(line, delimiter)
        filled = [cell for cell in cells if cell.strip()]
        is_row = len(filled) > 1 or len(cells) == width
        if len(cells) != width and _NOTED.match(line):
            is_row = False
        if filled and is_row and not is_rule(line):
            break
        if filled and len(cells) != width and not is_rule(line):
            found.append(line)
        apart = not filled  # whether an empty line is above the first of them
        if len(found) > _MOST_NOTES:
            return []
    if width < 3:  # a row may have lost a cell
        sure = (_COUNT.fullmatch(line.strip()) or _NOTE.match(line) for line in found)
        return [
            line
            for line, is_note in zip(found, sure, strict=True)
            if is_note or (apart and " " in line)
        ]
    return found


def _above(last: Sequence[str], notes: Sequence[str]) -> list[str]:
    """Return the lines before the first of the ``notes`` at the end."""
    left = len(notes)
    place = len(last)
    while left:
        place -= 1
        left -= last[place] in notes
    return [line for line in last[:place] if not is_rule(line)]


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _alone(cells: Sequence[str], width: int, delimiter: str) -> str | None:
    """Return the first cell of a row that has no other, where it is of words or empty, or all of a
    row that begins as a note does; None where it is another row."""
    if len(cells) == width > 1 and _NOTED.match(cells[0]):
        return delimiter.join(cells).rstrip(delimiter)
    if width < 3 or len(cells) != width or any(map(str.strip, cells[1:])):
        return None
    cell = cells[0].strip()
    return cell if not cell or " " in cell or _NOTE.match(cell) else None


def _are_notes(lone: Sequence[str], above: Sequence[Sequence[str]]) -> bool:
    """Whether lone cells of words are notes: they say so, or no row above begins with words."""
    if all(map(_NOTE.match, lone)):
        return not any(_NOTE.match(row[0]) for row in above[1:] if row)
    return len(lone) <= _MOST_LONE and not any(" " in row[0].strip() for row in above[1:] if row)


def totals_among(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return which of ``rows`` look like totals: a cell says so, and a number is the
    sum of the rows above, of all or of those since the total before."""
    found: list[int] = []
    plain: list[Sequence[str]] = []
    since: list[Sequence[str]] = []
    for place, row in enumerate(rows):
        if len(row) != width:
            continue
        if any(map(_SAYS_TOTAL.fullmatch, row)) and (
            _sums([*since, row], 1) or _sums([*plain, row], 1)
        ):
            found.append(place)
            since = []
        else:
            plain.append(row)
            since.append(row)
    return found


def _total(rows: Sequence[Sequence[str]], width: int) -> str | None:
    """Return the cell of the last of ``rows`` that says it is a total, or that it has a sum where
    its first cell is empty; None where neither holds."""
    cells = rows[-1]
    if len(cells) != width:
        return None
    named = next((cell for cell in cells if _TOTAL.fullmatch(cell)), None)
    if named is not None or cells[0].strip():
        return named
    return "a sum of the rows above" if _sums([r for r in rows if len(r) == width]) else None


def _sums(rows: Sequence[Sequence[str]], least: int = 3) -> bool:
    """Whether a number in the last of ``rows`` is the sum of the numbers above it, ``least`` or
    more."""
    *above, last = rows
    for place, cell in enumerate(last):
        numbers = [_number(row[place]) for row in above if NUMBER.fullmatch(row[place])]
        # the header may be among the rows
        if len(numbers) < max(least, len(above) - 1) or not NUMBER.fullmatch(cell):
            continue
        if _number(cell) and math.isclose(_number(cell), math.fsum(numbers), rel_tol=1e-9):
            return True
    return False


def _number(cell: str) -> float:
    return float(cell.replace(",", "."))


def units_below(rows: Sequence[Sequence[str]], width: int) -> dict[int, str] | None:
    """Return the units in the first of ``rows``, by the place of their column, where it holds units
    of the numbers below it; None where it is a row like the others."""
    first, others = rows[0], rows[1:]
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


def split_at_blanks(line: str, least: int = 1) -> list[str]:
    """Return the cells of a line between runs of blanks, ``least`` of them or more; some cells are
    in quotes where one blank is enough."""
    plain = line.replace("\t", " ").strip()
    if least > 1:
        return re.split(f" {{{least},}}", plain) if plain else []
    return next(csv.reader([plain], delimiter=" ", skipinitialspace=True), []) if plain else []


def spans_of(lines: Sequence[str]) -> list[Span]:
    """Return where the columns of a table of fixed width stand: below the dashes of a rule behind
    the header, as databases print it, else between the places that are blank in every line; none
    where that gives no table with a name for each column, and numbers in one."""
    lines = [line.rstrip() for line in lines if not _is_no_row(line)]
    if len(lines) < 3 or any("\t" in line for line in lines):
        return []
    rule = lines[1] if is_rule(lines[1]) else ""
    drawn = [rule] if rule else [line for line in lines if not is_rule(line)]
    width = max(map(len, drawn))
    filled = [any(line[i : i + 1].strip() for line in drawn) for i in range(width)]
    starts = [i for i in range(width) if filled[i] and not (i and filled[i - 1])]
    ends = [i + 1 for i in range(width) if filled[i] and not (i + 1 < width and filled[i + 1])]
    spans: list[Span] = [*zip(starts, ends[:-1], strict=False), (starts[-1], None)]
    header, *rows = (split_at_spans(line, spans) for line in lines if not is_rule(line))
    named = all(header) or (len(header) > 2 and all(header[1:]))  # R names no names of rows
    if len(spans) < 2 or not rows or not all(rows) or not named:
        return []
    columns = [[cell for cell in column if cell] for column in zip(*rows, strict=True)]
    numeric = any(2 * len(c) > len(rows) and all(map(NUMBER.fullmatch, c)) for c in columns)
    return spans if numeric else []


def _is_no_row(line: str) -> bool:
    return not line.strip() or _COUNT.fullmatch(line.strip()) is not None


def split_at_spans(line: str, spans: Sequence[Span]) -> list[str]:
    """Return the cells of a line that stand in ``spans``; none where it holds something between
    them."""
    between = zip([0, *(end for _, end in spans)], [start for start, _ in spans], strict=False)
    if any(line[end:start].strip() for end, start in between):
        return []
    return [line[start:end].strip() for start, end in spans]


def with_tabs(path: Path, least: int, spans: Sequence[Span]) -> IO[str]:
    """Return a copy of a file with tabs in place of runs of blanks, or between ``spans``; it goes
    when it is closed. Raises InvalidData at a line that holds something between them."""
    copy = NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file, explain_os_errors():
        writer = csv.writer(copy, delimiter="\t", lineterminator="\n")
        for number, line in enumerate(file, 1):  # an empty one stays one: lines keep their numbers
            if is_rule(line) or (spans and _is_no_row(line)):
                cells = []
            elif not spans:
                cells = split_at_blanks(line, least)
            elif not (cells := split_at_spans(line.rstrip("\r\n"), spans)):
                copy.close()
                detail = (
                    f"line {number} does not keep to the columns of fixed width that the lines "
                    "above it have; save the file with a delimiter"
                )
                raise InvalidData.at(f"/line/{number}", detail, "ragged")
            writer.writerow(cells) if cells else copy.write("\n")
        copy.flush()
    return copy


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
