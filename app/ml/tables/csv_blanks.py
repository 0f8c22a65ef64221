"""Tables whose cells stand between blanks, or in columns of fixed width."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from app.errors import InvalidData
from app.ml.tables.csv_end import COUNT
from app.ml.tables.csv_lines import NUMBER, is_rule
from app.storage import explain_os_errors

Span = tuple[int, int | None]
"""Where the cells of a column begin and end in a line; the last column's end with it."""


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
    return not line.strip() or COUNT.fullmatch(line.strip()) is not None


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


def names_columns(line: str, below: str) -> bool:
    """Whether a comment holds the names of the numbers between blanks ``below`` it, as numpy writes
    them."""
    names, cells = split_at_blanks(line.removeprefix("#")), split_at_blanks(below)
    return (
        1 < len(names) == len(cells)
        and all(map(NUMBER.fullmatch, cells))
        and not any(map(NUMBER.fullmatch, names))
    )
