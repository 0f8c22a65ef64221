"""Where the table stands in a text file: its delimiter, its header, and what stands around it.

Spreadsheets, reports and other programs write more than a table: a ``sep=`` line, a title, a column
of row numbers without a name, delimiters at the ends of lines, notes below. Decided by the head of
the file; what is left out of the table is told.
"""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.ml.column_types.canonical import MAX_COLUMNS

DELIMITERS = ",;\t|"
"""The delimiters that are looked for where none was named."""
_HEAD_BYTES = 256 * 1024
_TAIL_BYTES = 16 * 1024
_MOST_ROWS = 500
_SEP = re.compile(r'\ufeff?"?sep=(.)"?', re.IGNORECASE)
_NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?\s*")
_YEAR = re.compile(r"(19|20)\d\d")
_VALUES = (
    re.compile(r"\s*[-+(]?[€$£]?\s?\d[\d.,]*([eE][-+]?\d+)?\s?%?\)?\s*"),
    re.compile(r"\s*(\d{4}-\d\d-\d\d([T ].*)?|\d{1,2}[./-]\d{1,2}[./-](\d\d|\d{4}))\s*"),
)
"""What cells of numbers and of dates look like."""
_TOTAL = re.compile(
    r"\s*(grand )?(total|totals|sum|subtotal|summe|gesamt|insgesamt|average|mean|durchschnitt|"
    r"somme|suma|totale|moyenne)\s*:?\s*",
    re.IGNORECASE,
)
_MOST_NOTES = 50
"""Lines below a table that are taken for notes."""


@dataclass(frozen=True)
class CSVOptions:
    """How to read a CSV file; what is None is found out. ``delimiter`` may be ``space``: runs of
    blanks."""

    delimiter: str | None = None
    header: bool | None = None
    skip_rows: int | None = None
    """Lines before the header."""
    comment: str | None = None
    """Lines that begin so are no rows, at the head of the file."""


@dataclass(frozen=True)
class Shape:
    """How the table of one file is to be read."""

    delimiter: str = ","
    guessed: bool = True
    """Whether the delimiter was found out rather than named."""
    header: bool = True
    skip_lines: int = 0
    """Lines before the header, or before the first row where there is none."""
    names: list[str] | None = None
    """Names of all columns, where those of the header will not do."""
    nameless: frozenset[str] = frozenset()
    """Those of ``names`` that the file left empty: dropped where their column is empty too."""
    padded: bool = False
    """Whether blanks make cells equally wide, and are no part of them."""
    escapes: bool = False
    r"""Whether a quote in a cell is written ``\"``."""
    spaces: bool = False
    """Whether runs of blanks separate cells."""
    notes: frozenset[str] = frozenset()
    """Lines below the table that are no rows."""
    has_blank_lines: bool = False
    """Whether there are lines of nothing but blanks."""
    told: dict[str, Any] = field(default_factory=dict)
    """What the dataset says of it."""
    warnings: list[str] = field(default_factory=list)


def shape_of(path: Path, options: CSVOptions) -> Shape:
    """Return the shape of a UTF-8 text file; a plain one where it cannot be made out."""
    lines = _head(path)
    skipped = options.skip_rows or 0
    delimiter = options.delimiter
    if delimiter == "\t" and not any("\t" in line for line in lines):
        delimiter = None  # a media type may say so of blanks
    if options.skip_rows is None and lines and (sep := _SEP.fullmatch(lines[0])):
        skipped, delimiter = 1, delimiter or sep[1]
    while (
        options.skip_rows is None
        and skipped < len(lines)
        and _is_comment(lines[skipped], options.comment)
    ):
        skipped += 1
    try:
        return _Finder(lines[skipped:], skipped, delimiter, options, _tail(path)).shape()
    except csv.Error:  # too long a cell, an open quote: the reader says where
        return Shape(
            _first_guess(lines[skipped:], delimiter),
            options.delimiter is None,
            options.header is not False,
            skipped,
        )


def _head(path: Path) -> list[str]:
    """Return the first lines, whole ones."""
    with path.open("rb") as file:
        content = file.read(_HEAD_BYTES)
        whole = not file.read(1)
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    lines = text.splitlines()
    return lines if whole or len(lines) < 2 else lines[:-1]


def _tail(path: Path) -> list[str]:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "surrogateescape").splitlines()
    return lines if size <= _TAIL_BYTES else lines[1:]


def _is_comment(line: str, mark: str | None) -> bool:
    """Whether a line at the head is a comment; one that holds a table's names (``# x y``) is not
    told from one, so only lines of words are, unless the client names the mark."""
    if mark is not None:
        return line.startswith(mark)
    return line.startswith("#") and not any(d in line for d in DELIMITERS)


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
        self._named = delimiter is not None
        self._spaces = delimiter in ("space", " ")
        self._delimiter = " " if self._spaces else delimiter or self._best_delimiter()
        self._warnings: list[str] = []

    def shape(self) -> Shape:
        rows = self._rows(self._delimiter)
        widths = Counter(len(cells) for _, cells in rows)
        if max(widths, default=1) == 1 and not self._named and (spaced := self._spaced()):
            self._spaces, self._delimiter, rows = True, " ", spaced
            widths = Counter(len(cells) for _, cells in rows)
        if not rows or not 1 < max(widths) <= MAX_COLUMNS:
            return self._plain()
        width = _modal(widths)
        first = self._first_row(rows, width)
        start, header = rows[first]
        body = [cells for _, cells in rows[first + 1 :]]
        # empty lines are passed over by Arrow; those of delimiters alone would be rows
        lines_before = self._skipped + (start if first or any(self._lines[:start]) else 0)
        has_header = self._has_header(header, body)
        padded = _padded(header, body)
        named = [name.strip() if padded or not name.strip() else name for name in header]
        names, nameless = self._names(named if has_header else [], body, width)
        notes = self._notes(width)
        self._warn_of_total(body, width)
        told = {
            "delimiter": "space" if self._spaces else self._delimiter,
            "header_row": lines_before + 1 if has_header else None,
            **({"skipped": above} if (above := self._lines_before(lines_before)) else {}),
            **({"notes": sorted(notes)} if notes else {}),
        }
        if self._lines_before(lines_before):
            self._warnings.append(
                f"the table begins in line {lines_before + 1}; what stands above was left out "
                "(skip_rows=0 reads it)"
            )
        changed = (has_header and names != header) or nameless or not has_header
        return Shape(
            self._delimiter,
            not self._named,
            has_header,
            lines_before,
            names if changed else None,
            nameless,
            padded,
            self._escapes,
            self._spaces,
            notes,
            any(line and not line.strip() for line in (*self._lines, *self._tail)),
            told,
            self._warnings,
        )

    def _plain(self) -> Shape:
        header = self._options.header is not False
        told = {"delimiter": self._delimiter, "header_row": self._skipped + 1 if header else None}
        return Shape(
            self._delimiter,
            not self._named,
            header,
            self._skipped,
            escapes=self._escapes,
            told=told,
        )

    # ------------------------------------------------------------ rows

    def _rows(self, delimiter: str) -> list[tuple[int, list[str]]]:
        """The line before which each row begins, and its cells; rows of nothing are left out."""
        if self._spaces or delimiter == " ":
            return self._spaced() or []
        reader = csv.reader(
            [f"{line}\n" for line in self._lines],
            delimiter=delimiter,
            escapechar="\\" if self._escapes else None,
        )
        rows, start = [], 0
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((start, cells))
            start = reader.line_num
            if len(rows) == _MOST_ROWS:
                break
        return rows

    def _spaced(self) -> list[tuple[int, list[str]]] | None:
        """Rows of cells between runs of blanks, None where that is no table of numbers."""
        split = enumerate(map(split_at_blanks, self._lines[:_MOST_ROWS]))
        rows = [(i, cells) for i, cells in split if cells]
        if self._named:
            return rows
        widths = {len(cells) for _, cells in rows[1:]}
        if len(rows) < 3 or len(widths) > 1 or max(widths) < 2:
            return None
        if len(rows[0][1]) not in (max(widths), max(widths) - 1):  # R names no row numbers
            return None
        columns = zip(*(cells for _, cells in rows[1:]), strict=True)
        return (
            rows if any(all(_NUMBER.fullmatch(c) for c in column) for column in columns) else None
        )

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

    def _first_row(self, rows: list[tuple[int, list[str]]], width: int) -> int:
        """Which row is the header: the first that is as wide as the table, or by one narrower."""
        if self._options.skip_rows is not None or width < 2:
            return 0
        for place, (_, cells) in enumerate(rows):
            filled = sum(bool(cell.strip()) for cell in cells)
            is_title = filled <= 1 and place + 1 < len(rows)
            if is_title and width == 2:  # or a header that leaves out the name of row numbers
                is_title = _are_names(rows[place + 1][1])
            if len(cells) >= width - 1 and not is_title:
                return place
        return 0

    def _lines_before(self, count: int) -> list[str]:
        return [line[:200] for line in self._lines[: max(0, count - self._skipped)] if line.strip()]

    # ------------------------------------------------------------ header

    def _has_header(self, header: list[str], body: list[list[str]]) -> bool:
        if self._options.header is not None:
            return self._options.header
        cells = [cell for cell in header if cell.strip()]
        if body and self._holds_measurements(cells):
            return False
        if not body or not cells:
            return True
        if not all(_NUMBER.fullmatch(cell) for cell in cells):
            return not self._holds_a_row(header, body)
        if not all(_NUMBER.fullmatch(c) for row in body for c in row if c.strip()):
            return True
        whole = [cell.strip() for cell in cells if cell.strip().isdigit()]
        if len(whole) == len(cells) and len({*whole}) == len(whole):
            self._warnings.append(
                "all names of columns are numbers; send header=false if the first line is a row"
            )
            return True
        self._warnings.append(
            "the first line holds numbers, as all others do, and was read as a row; send "
            "header=true if it names the columns"
        )
        return False

    def _holds_a_row(self, header: list[str], body: list[list[str]]) -> bool:
        """Whether a number or date stands above every column of such; years and 1, 2, 3 are not."""
        heads = []
        for place, head in enumerate(header):
            cells = [row[place] for row in body if len(row) > place and row[place].strip()]
            kind = next((kind for kind in _VALUES if all(map(kind.fullmatch, cells))), None)
            if cells and kind is not None and head.strip():
                heads.append((head.strip(), kind))
        if not heads or not all(kind.fullmatch(head) for head, kind in heads):
            return False
        whole = [int(head) for head, _ in heads if head.isdigit()]
        if any(_YEAR.fullmatch(head) for head, _ in heads) or (
            1 < len(whole) == len(heads) and whole == [*range(whole[0], whole[0] + len(whole))]
        ):
            return False
        self._warnings.append(
            "the first line holds values, as the others do, and was read as a row; send "
            "header=true if it names the columns"
        )
        return True

    def _holds_measurements(self, cells: list[str]) -> bool:
        """Whether a first line of numbers with fractions, beside a few words, is a row."""
        numbers = [cell for cell in cells if _NUMBER.fullmatch(cell)]
        if len(numbers) == len(cells) or 2 * len(numbers) < len(cells):
            return False
        if not any("." in number for number in numbers):
            return False  # names may be years
        self._warnings.append(
            "the first line holds numbers with fractions and was read as a row; send header=true "
            "if it names the columns"
        )
        return True

    def _names(
        self, names: list[str], body: list[list[str]], width: int
    ) -> tuple[list[str], frozenset[str]]:
        """The names of all columns, and those that the file left empty."""
        if not names:
            return [f"f{i}" for i in range(width)], frozenset()
        inner = [row for row in body if len(row) == width]
        nameless = []
        if len(names) == width - 1 and inner:
            last_is_empty = not any(row[-1].strip() for row in inner)
            names = [*names, ""] if last_is_empty else ["", *names]
            if not last_is_empty and not all(row[0].strip().isdigit() for row in inner):
                self._warnings.append(
                    "rows have one cell more than the header has names; the first was taken for "
                    "the name of a row ('index'); quote cells that hold the delimiter, if it is not"
                )
        for place, name in enumerate(names):
            if not name:
                filled = any(len(row) > place and row[place].strip() for row in inner or body)
                names[place] = "index" if place == 0 and filled else f"column_{place + 1}"
                nameless.append(place)
                if filled and place:
                    self._warnings.append(
                        f"column {place + 1} has no name, and is called '{names[place]}' here"
                    )
        self._rename_repeated(names)
        return names, frozenset(names[place] for place in nameless)

    def _rename_repeated(self, names: list[str]) -> None:
        """Number names that come again; what is told are the first few."""
        taken, counts = set(names), Counter[str]()
        renamed = []
        for place, name in enumerate(names):
            counts[name] += 1
            if counts[name] == 1:
                continue
            while (new := f"{name}_{counts[name]}") in taken:
                counts[name] += 1
            taken.add(new)
            names[place] = new
            renamed.append(f"the second '{name[:64]}' is '{new[:64]}' here")
        if renamed:
            more = f" and {len(renamed) - 3} more" if len(renamed) > 3 else ""
            told = ", ".join(renamed[:3])
            self._warnings.append(f"names of columns stand twice: {told}{more}")

    # ------------------------------------------------------------ below

    def _notes(self, width: int) -> frozenset[str]:
        """Lines at the end of the file of one cell, where rows have three or more."""
        if width < 3 or self._spaces:
            return frozenset()
        found = []
        for line in reversed(self._tail):
            cells = next(csv.reader([line], delimiter=self._delimiter), [])
            filled = [cell for cell in cells if cell.strip()]
            if filled and (len(filled) > 1 or len(cells) == width):
                break
            if filled and len(cells) < width:
                found.append(line)
            if len(found) > _MOST_NOTES:
                return frozenset()
        if found:
            self._warnings.append(
                f"{len(found)} lines below the table were left out, the first: '{found[-1][:64]}'"
            )
        return frozenset(found)

    def _warn_of_total(self, body: list[list[str]], width: int) -> None:
        last = next(
            (line for line in reversed(self._tail) if line.strip(self._delimiter + " ")), ""
        )
        cells = next(csv.reader([last], delimiter=self._delimiter), [])
        if body and len(cells) == width and any(_TOTAL.fullmatch(cell) for cell in cells[:2]):
            self._warnings.append(
                f"the last row looks like a total ('{cells[0][:64]}'); leave it out of the file if "
                "it is one"
            )


def split_at_blanks(line: str) -> list[str]:
    """Return the cells of a line between runs of blanks, some of them in quotes."""
    plain = line.replace("\t", " ").strip()
    return next(csv.reader([plain], delimiter=" ", skipinitialspace=True), []) if plain else []


def _are_names(cells: list[str]) -> bool:
    return all(cell.strip() and not _NUMBER.fullmatch(cell) for cell in cells)


def _padded(header: list[str], body: list[list[str]]) -> bool:
    """Whether names and most cells have blanks around them."""
    if not any(name != name.strip() for name in header):
        return False
    cells = [cell for row in body for cell in row]
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
