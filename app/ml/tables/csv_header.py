"""The first line of a table in a text file: which it is, whether it names the columns, and the
names of all."""

import re
from collections import Counter
from collections.abc import Sequence

from app.ml.tables.csv_lines import NUMBER, VALUES, units_below

_YEAR = re.compile(r"(19|20)\d\d")

_MOST_FACTS = 30
"""Rows above a table that are looked through for its header."""
Rows = Sequence[tuple[int, list[str]]]
"""The line before which each row begins, and its cells."""


def first_row(rows: Rows, width: int, lines: Sequence[str]) -> int:
    """Return which row is the header of a table: the first that is as wide, or by one narrower, and
    neither a title nor a fact about it. ``lines`` are those of the file."""
    for place, (_, cells) in enumerate(rows):
        filled = sum(bool(cell.strip()) for cell in cells)
        is_title = filled <= 1 and place + 1 < len(rows)
        if is_title and width == 2:  # or a header that leaves out the name of row numbers
            is_title = _are_names(rows[place + 1][1])
        if len(cells) < width - 1 or is_title or _stands_above(rows, place, width, lines):
            continue
        return place
    return 0


def _stands_above(rows: Rows, place: int, width: int, lines: Sequence[str]) -> bool:
    """Whether a row is one of facts, such as ``Station,Oslo``, above a table: only such rows come
    before a row of names with values below; an empty line, too, where it has two columns."""
    if not _is_fact(rows[place][1], width):
        return False
    for after in range(place + 1, min(len(rows) - 1, _MOST_FACTS)):
        start, cells = rows[after]
        if _begins_table(cells, [row for _, row in rows[after + 1 :]], width):
            return width > 2 or not lines[start - 1].strip()
        if not _is_fact(cells, width):
            return False
    return False


def _begins_table(cells: list[str], below: list[list[str]], width: int) -> bool:
    """Whether a row holds names, and the rows below it values or units."""
    filled = [cell for cell in cells if cell.strip()]
    if len(cells) != width or len(filled) < min(width, 3) or not _are_names(filled):
        return False
    values = any(kind.fullmatch(cell) for cell in below[0] for kind in VALUES)
    return values or units_below(below, width) is not None


def _is_fact(cells: list[str], width: int) -> bool:
    """Whether a row has a name and a value, and nothing else, in a table of so many columns."""
    filled = sum(bool(cell.strip()) for cell in cells)
    return filled <= 2 and (len(cells) < width or filled == sum(map(bool, cells[:2])))


def _are_names(cells: list[str]) -> bool:
    return all(cell.strip() and not NUMBER.fullmatch(cell) for cell in cells)


def clean(name: str, padded: bool) -> str:
    """Return a name without what pads it; one of blanks is none."""
    return name.strip() if padded or not name.strip() else name


def has_header(header: list[str], body: list[list[str]], warnings: list[str]) -> bool:
    """Return whether the first line of a table names its columns, by its ``body``."""
    cells = [cell for cell in header if cell.strip()]
    if body and _holds_measurements(cells, warnings):
        return False
    if not body or not cells:
        return True
    if not all(NUMBER.fullmatch(cell) for cell in cells):
        return not _holds_a_row(header, body, warnings)
    if not all(NUMBER.fullmatch(c) for row in body for c in row if c.strip()):
        return True
    whole = [cell.strip() for cell in cells if cell.strip().isdigit()]
    if len(whole) == len(cells) and len({*whole}) == len(whole):
        warnings.append(
            "all names of columns are numbers; send header=false if the first line is a row"
        )
        return True
    warnings.append(
        "the first line holds numbers, as all others do, and was read as a row; send "
        "header=true if it names the columns"
    )
    return False


def _holds_a_row(header: list[str], body: list[list[str]], warnings: list[str]) -> bool:
    """Whether a number or date stands above every column of such; years and 1, 2, 3 are not."""
    heads = []
    for place, name in enumerate(header):
        cells = [row[place] for row in body if len(row) > place and row[place].strip()]
        kind = next((kind for kind in VALUES if all(map(kind.fullmatch, cells))), None)
        if cells and kind is not None and name.strip():
            heads.append((name.strip(), kind))
    if not heads or not all(kind.fullmatch(head) for head, kind in heads):
        return False
    whole = [int(head) for head, _ in heads if head.isdigit()]
    if any(_YEAR.fullmatch(head) for head, _ in heads) or (
        1 < len(whole) == len(heads) and whole == [*range(whole[0], whole[0] + len(whole))]
    ):
        return False
    warnings.append(
        "the first line holds values, as the others do, and was read as a row; send "
        "header=true if it names the columns"
    )
    return True


def _holds_measurements(cells: list[str], warnings: list[str]) -> bool:
    """Whether a first line of numbers with fractions, beside a few words, is a row."""
    numbers = [cell for cell in cells if NUMBER.fullmatch(cell)]
    if len(numbers) == len(cells) or 2 * len(numbers) < len(cells):
        return False
    if not any("." in number for number in numbers):
        return False  # names may be years
    warnings.append(
        "the first line holds numbers with fractions and was read as a row; send header=true "
        "if it names the columns"
    )
    return True


_OF_ROWS = {"id", "index", "no", "nr", "#"}
"""Names of columns that number rows themselves."""


def names_of(
    names: list[str], body: list[list[str]], width: int, warnings: list[str]
) -> tuple[list[str], frozenset[str]]:
    """Return the names of all columns, and those that the file left empty; ``names`` are those of
    its header, none where it has none."""
    if not names:
        return [f"f{i}" for i in range(width)], frozenset()
    inner = [row for row in body if len(row) == width]
    while len(names) > width and not names[-1] and inner:  # delimiters at the end of the header
        names = names[:-1]
    nameless = []
    if len(names) == width - 1 and inner:
        last_is_empty = not any(row[-1].strip() for row in inner)
        names = [*names, ""] if last_is_empty else ["", *names]
        counted = [row[0].strip() for row in inner]
        counts = any(counted == [*map(str, range(i, i + len(inner)))] for i in (0, 1))
        if counts and width == 2 and all(map(str.isdigit, (row[1].strip() for row in inner))):
            warnings.append(
                "the first cell of each row was taken for its number ('index'); if the commas are "
                "decimal marks, send delimiter=;"
            )
        if not last_is_empty and (not counts or names[1].lower() in _OF_ROWS):
            warnings.append(
                "rows have one cell more than the header has names; the first was taken for "
                "the name of a row ('index'); quote cells that hold the delimiter, if it is not"
            )
    for place, name in enumerate(names):
        if not name:
            filled = any(len(row) > place and row[place].strip() for row in inner or body)
            names[place] = "index" if place == 0 and filled else f"column_{place + 1}"
            nameless.append(place)
            if filled and place:
                warnings.append(
                    f"column {place + 1} has no name, and is called '{names[place]}' here"
                )
    _rename_repeated(names, warnings)
    return names, frozenset(names[place] for place in nameless)


def _rename_repeated(names: list[str], warnings: list[str]) -> None:
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
        first = ", ".join(renamed[:3])
        warnings.append(f"names of columns stand twice: {first}{more}")
