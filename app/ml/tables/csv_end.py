"""What stands at the end of a text file and is no row of its table, or may be none: notes, counts
of rows, totals."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.ml.tables.csv_lines import NUMBER, is_rule

COUNT = re.compile(r"\(\d+ rows?( affected)?\)")
"""How databases count the rows that they have printed."""
_TOTAL = re.compile(
    r"\s*(grand |sub|sum |overall )?(total|totals|sum|summe|gesamt|gesamtsumme|zwischensumme|"
    r"insgesamt|average|mean|durchschnitt|mittelwert|somme|suma|soma|totale?|moyenne|media|média|"
    r"promedio|totaal|gemiddelde|razem|celkem|summa|yhteensä|toplam|összesen|итого|всего|合計|总计|"
    r"總計|合计|합계)( g[eé]n[eé]ral|e? generale| general| geral)?\s*:?\s*",
    re.IGNORECASE,
)
_SAYS_TOTAL = re.compile(
    rf"^(?:{_TOTAL.pattern}|.*\s(sub)?(totals?|summe|gesamt)|(sub)?totals?\s.*)$",
    re.IGNORECASE | re.MULTILINE,
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
        sure = (COUNT.fullmatch(line.strip()) or _NOTE.match(line) for line in found)
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
    if _SAYS_TOTAL.search("\n".join("\n".join(row) for row in rows)) is None:
        return []
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
