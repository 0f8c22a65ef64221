"""Where the table stands in a text file: its delimiter, its header, and what stands around it.

Spreadsheets, reports and other programs write more than a table: a ``sep=`` line, a title, a column
of row numbers without a name, delimiters at the ends of lines, notes below. Decided by the head of
the file; what is left out of the table is told.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from app.ml.column_types.canonical import MAX_COLUMNS
from app.ml.tables.csv_blanks import (
    Span,
    names_columns,
    spans_of,
    split_at_blanks,
    split_at_spans,
)
from app.ml.tables.csv_end import Ending, ending, totals_among
from app.ml.tables.csv_header import Rows, clean, first_row, has_header, names_of
from app.ml.tables.csv_layout import CSVOptions, Shape
from app.ml.tables.csv_lines import DELIMITERS, NUMBER, head, is_comment, is_rule, tail, units_below

_MOST_ROWS = 500
_INVENTED = re.compile("f[0-9]+")
"""Names of columns in files without a header."""
_SEP = re.compile(r'\ufeff?"?sep=(.)"?', re.IGNORECASE)


def shape_of(path: Path, options: CSVOptions) -> Shape:
    """Return the shape of a UTF-8 text file; a plain one where it cannot be made out."""
    lines = head(path)
    skipped = options.skip_rows or 0
    delimiter = options.delimiter
    if delimiter == "\t" and not any("\t" in line for line in lines):
        delimiter = None  # a media type may say so of blanks
    if options.skip_rows is None and lines and (sep := _SEP.fullmatch(lines[0])):
        skipped, delimiter = 1, delimiter or sep[1]
    while (
        options.skip_rows is None
        and skipped < len(lines)
        and is_comment(lines[skipped], options.comment)
        and not names_columns(lines[skipped], "".join(lines[skipped + 1 : skipped + 2]))
    ):
        skipped += 1
    try:
        return _Finder(lines[skipped:], skipped, delimiter, options, tail(path)).shape()
    except csv.Error:  # too long a cell, an open quote: the reader says where
        return Shape(
            _first_guess(lines[skipped:], delimiter),
            options.delimiter is None,
            options.header is not False,
            skipped,
        )


def _first_guess(lines: Sequence[str], named: str | None) -> str:
    if named is not None:
        return named
    first = next((line for line in lines if line.strip()), "")
    plain = "".join(first.split('"')[::2])
    return max(DELIMITERS, key=plain.count)


class _Finder:
    """Looks at the head of one file."""

    def __init__(
        self,
        lines: list[str],
        skipped: int,
        delimiter: str | None,
        options: CSVOptions,
        tail: list[str],
    ) -> None:
        self._lines, self._skipped, self._options = lines, skipped, options
        self._tail = tail
        self._escapes = _escapes(lines)
        self._has_blank_quotes = any(' "' in line for line in lines)
        self._named = delimiter is not None
        self._spaces = int(delimiter in ("space", " "))
        # a file of one column, of which the model knows the name: nothing separates cells in it
        first = next((line.strip() for line in lines if line.strip()), "")
        self._is_lone = delimiter is None and first in options.expected
        if self._is_lone and first in options.commas:
            delimiter = ";"
        self._delimiter = " " if self._spaces else delimiter or self._best_delimiter()
        self._spans: Sequence[Span] = ()
        self._warnings: list[str] = []

    def shape(self) -> Shape:
        rows = self._rows(self._delimiter)
        widths = Counter(len(cells) for _, cells in rows)
        may_be_spaced = max(widths, default=1) == 1 and not (self._named or self._is_lone)
        if may_be_spaced and (spaced := self._spaced() or self._fixed()):
            self._spaces, rows = spaced
            self._delimiter = " "
            widths = Counter(len(cells) for _, cells in rows)
        if not rows or not 1 < max(widths) <= MAX_COLUMNS:
            return self._plain()
        width = _modal(widths)
        first = 0
        if self._options.skip_rows is None and width > 1:
            first = first_row(rows, width, self._lines)
        start, header = rows[first]
        body = [cells for _, cells in rows[first + 1 :]]
        has_header = self._has_header(header, body)
        placed, records = self._lines_below(header, body, width) if has_header else ({}, 0)
        below = self._lines_until_rows(start, records) if has_header else 0
        # Arrow passes empty lines over, unless it is told how many lines to leave out
        counts = first or below or any(self._lines[:start])
        skip_lines = self._skipped + (start if counts else 0)
        body = body[records:]
        padded = _padded(header, body)
        named = [clean(name, padded) for name in header] if has_header else self._in_order(width)
        names, nameless = names_of(named, body, width, self._warnings)
        units = {names[place]: unit for place, unit in placed.items() if place < len(names)}
        end = self._end(width) if body else Ending([], [], 0, [], None)
        self._warn_of_totals(rows[first + 1 + records :], width, len(end.totals))
        notes = [*end.padded_notes, *end.notes]
        above = self._lines_before(skip_lines)
        if above:
            self._warnings.append(
                f"the table begins in line {skip_lines + 1}; what stands above was left out "
                "(skip_rows=0 reads it)"
            )
        # as Arrow would read the header
        same = has_header and not below and not nameless and names == header
        return Shape(
            self._delimiter,
            not self._named,
            has_header,
            skip_lines,
            names=None if same and not self._lines[start].startswith("#") else names,
            nameless=nameless,
            padded=padded,
            escapes=self._escapes,
            gaps=not self._spaces and self._has_gaps(self._delimiter),
            spaces=self._spaces,
            spans=self._spans,
            units=units,
            records_below_header=records,
            lines_below_header=below,
            notes=frozenset(line.strip() for line in end.notes),
            padded_notes=end.padded_rows,
            has_odd_lines=any(map(self._is_odd, (*self._lines, *self._tail))),
            wraps=any('="' in line for line in self._lines),
            reading={
                "delimiter": "space" if self._spaces else self._delimiter,
                "header_row": skip_lines + 1 if has_header else None,
                **({"skipped": above} if above else {}),
                **({"units": units} if units else {}),
                **({"notes": sorted(note.strip() for note in notes)} if notes else {}),
            },
            warnings=self._warnings,
        )

    def _in_order(self, width: int) -> list[str]:
        """Return the names of a model's features, in their order, where a client says that the rows
        to predict have none and there are as many; else none."""
        expected = [*self._options.expected] if self._options.header is False else []
        return expected if len(expected) == width else []

    def _plain(self) -> Shape:
        header = self._options.header is not False
        reading = {
            "delimiter": self._delimiter,
            "header_row": self._skipped + 1 if header else None,
        }
        return Shape(
            self._delimiter,
            not self._named,
            header,
            self._skipped,
            escapes=self._escapes,
            reading=reading,
        )

    def _end(self, width: int) -> Ending:
        """What stands below the table; a total, which may be a row, is warned of."""
        tail = [] if self._spaces else self._tail
        found = ending(tail, width, self._delimiter, keeps_rows=bool(self._options.expected))
        if notes := [*found.notes, *found.padded_notes]:
            self._warnings.append(
                f"{len(notes)} line{'s' * (len(notes) > 1)} below the table left no row, "
                f"the first: '{notes[-1][:64]}'"
            )
        if totals := found.totals:
            which = "the last row looks like a total"
            if len(totals) > 1:
                which = f"each of the last {len(totals)} rows looks like a total"
            self._warnings.append(
                f"{which} ('{totals[0][:64]}'); leave out of the file what is one"
            )
        if found.lone is not None:
            self._warnings.append(
                f"the last row holds '{found.lone[:64]}' alone; leave it out of the file if it is "
                "a note"
            )
        return found

    def _warn_of_totals(self, rows: Rows, width: int, at_end: int) -> None:
        """Warn of totals among ``rows``, but for those that were seen at the end."""
        found = totals_among([cells for _, cells in rows], width)
        found = [place for place in found if place < len(rows) - at_end]
        if not found:
            return
        line, cells = rows[found[0]]
        total = next((cell for cell in cells if cell.strip()), "")[:64]
        several = f"{len(found)} rows look like totals, the first" if len(found) > 1 else "a row"
        looks = "is" if len(found) > 1 else "looks like a total,"
        self._warnings.append(
            f"{several} {looks} line {self._skipped + line + 1} ('{total}'); leave out of the file "
            "what is one"
        )

    def _is_odd(self, line: str) -> bool:
        mark = self._options.comment
        return (
            bool(line and not line.strip())
            or is_rule(line)
            or (mark is not None and line.startswith(mark))
        )

    # ------------------------------------------------------------ rows

    def _rows(self, delimiter: str) -> list[tuple[int, list[str]]]:
        """The line before which each row begins, and its cells; rows of nothing are left out."""
        if self._spaces or delimiter == " ":
            return self._between_blanks(self._spaces or 1)
        reader = csv.reader(
            [f"{line}\n" for line in self._lines],
            delimiter=delimiter,
            escapechar="\\" if self._escapes else None,
            skipinitialspace=self._has_gaps(delimiter),
        )
        rows, start = [], 0
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((start, cells))
            start = reader.line_num
            if len(rows) == _MOST_ROWS:
                break
        return rows

    def _has_gaps(self, delimiter: str) -> bool:
        """Whether blanks stand before the quotes of cells."""
        gap = re.compile(rf'{re.escape(delimiter)} +"')
        if not self._has_blank_quotes or not any(map(gap.search, self._lines)):
            return False
        rows = csv.reader(self._lines[:_MOST_ROWS], delimiter=delimiter)
        return any(cell[:1] == " " and cell.lstrip()[:1] == '"' for row in rows for cell in row)

    def _between_blanks(self, least: int) -> list[tuple[int, list[str]]]:
        lines = enumerate(self._lines[:_MOST_ROWS])
        drawn = ((place, line) for place, line in lines if not is_rule(line))
        marked = ((place, line if place else line.removeprefix("#")) for place, line in drawn)
        split = ((place, split_at_blanks(line, least)) for place, line in marked)
        return [(place, cells) for place, cells in split if cells]

    def _spaced(self) -> tuple[int, list[tuple[int, list[str]]]] | None:
        """How many blanks separate cells, and the rows; None where that gives no table of numbers.
        Two do where cells hold blanks and all stand one below the other."""
        for unnamed, least in ((0, 1), (0, 2), (1, 1), (1, 2)):  # R names no row numbers
            rows = self._between_blanks(least)
            if self._is_table([cells for _, cells in rows], unnamed):
                return least, rows
        return None

    def _fixed(self) -> tuple[int, list[tuple[int, list[str]]]] | None:
        """The same where all columns have one width, and some cells are empty or hold blanks."""
        self._spans = spans_of(self._lines[:_MOST_ROWS])
        if not self._spans:
            return None
        lines = enumerate(self._lines[:_MOST_ROWS])
        split = (
            (place, split_at_spans(line, self._spans)) for place, line in lines if line.strip()
        )
        drawn = ((place, cells) for place, cells in split if not is_rule(self._lines[place]))
        return 1, [(place, cells) for place, cells in drawn if cells]

    def _is_table(self, rows: list[list[str]], unnamed: int) -> bool:
        """Whether the first row names all but so many ``unnamed`` columns of the others."""
        expected, widths = self._options.expected, {len(cells) for cells in rows[1:]}
        if not rows or not widths <= {len(rows[0]) + unnamed}:
            return False
        if expected:
            return bool({*expected} & {*rows[0]}) or all(map(_INVENTED.fullmatch, expected))
        if len(rows) < 3 or max(widths) < 2:
            return False
        has_units = units_below(rows[1:], max(widths)) is not None
        columns = zip(*rows[1 + has_units :], strict=True)
        return any(all(NUMBER.fullmatch(cell) for cell in column) for column in columns)

    def _best_delimiter(self) -> str:
        """The one by which most rows are equally wide; of equals the most frequent in the first."""
        guess = _first_guess(self._lines, None)
        best, most, wide = guess, -1.0, set()
        found = [mark for mark in DELIMITERS if any(mark in line for line in self._lines)]
        for mark in sorted(found, key=lambda mark: mark != guess):
            try:
                widths = Counter(len(cells) for _, cells in self._rows(mark))
            except csv.Error:
                continue
            width = _modal(widths)
            share = widths[width] / sum(widths.values()) if width > 1 else -0.5
            if share == 1.0:
                wide.add(mark)
            if share > most + 1e-9:
                best, most = mark, share
        if best == "," and ";" in wide and _commas_are_decimal(self._lines[1:]):
            return ";"
        return best

    def _has_header(self, header: list[str], body: list[list[str]]) -> bool:
        if self._options.header is not None:
            return self._options.header
        if expected := self._options.expected:  # a single row says nothing by itself
            named = any(clean(name, True) in expected for name in header)
            return named or not all(map(_INVENTED.fullmatch, expected))
        return has_header(header, body, self._warnings)

    def _lines_before(self, count: int) -> list[str]:
        above = self._lines[: max(0, count - self._skipped)]
        return [line[:200] for line in above if line.strip() and not is_rule(line)]

    def _lines_below(
        self, header: list[str], body: list[list[str]], width: int
    ) -> tuple[dict[int, str], int]:
        """Units of columns by their place, and the lines of rules and units below the header."""
        ruled = 1 if body and is_rule(self._delimiter.join(body[0])) else 0
        units = units_below(body[ruled:], width) if len(body) > ruled else None
        if units is None or self._options.header is True or not self._are_learnt(header, units):
            return {}, ruled
        units_read = ", ".join(unit for unit in units.values())
        self._warnings.append(
            f"the line below the header was read as units ({units_read[:64]}), not as a row; send "
            "header=true to keep it as one"
        )
        return units, ruled + 1

    def _are_learnt(self, header: list[str], units: dict[int, str]) -> bool:
        """Whether these are the units that a model has learnt, where rows are to be predicted: a
        row must not be lost, nor another unit be taken for its own."""
        if not self._options.expected:
            return True
        said = {header[place].strip(): unit for place, unit in units.items() if place < len(header)}
        of_features = {name: said[name] for name in self._options.expected if name in said}
        learnt = {name: self._options.units.get(name) for name in of_features}
        return bool(of_features) and of_features == learnt

    def _lines_until_rows(self, header: int, records: int) -> int:
        """Return how many lines, so many records and empty ones, stand between the header in line
        ``header`` and the first row; one of delimiters alone is a row."""
        found = 0
        for line in self._lines[header + 1 :]:
            is_empty = not line.strip() and (self._spaces or self._delimiter not in line)
            if not is_empty and not records:
                return found
            records -= not is_empty
            found += 1
        return found


def _padded(header: list[str], body: list[list[str]]) -> bool:
    """Whether names and most cells have blanks around them."""
    if not any(name != name.strip() for name in header):
        return False
    cells = [cell for row in body for cell in row if cell]
    return 2 * sum(cell != cell.strip() for cell in cells) > len(cells)


def _commas_are_decimal(lines: Sequence[str]) -> bool:
    """Whether every comma below the header stands between two digits."""
    return all(
        line.count(",") == len(re.findall(r"\d,(?=\d)", line)) for line in lines[:_MOST_ROWS]
    )


def _modal(widths: "Counter[int]") -> int:
    return max(widths, key=lambda width: (widths[width], width), default=1)


def _escapes(lines: Sequence[str]) -> bool:
    r"""Whether ``\"`` stands for a quote within a cell, and not for a backslash at its end."""
    return any(re.search(r'[^"\\]\\"[^,;\t|"]', line) for line in lines[:_MOST_ROWS])
