"""What a relative of a table is, and whether what it became is what is meant."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from app.ml.tables.formats import Format
from tests.support.files import Stored

ROWS = 24
Judge = Callable[[Stored], bool]


@dataclass(frozen=True)
class Relative:
    """One file, how it is sent, and whether what it became is what is meant."""

    content: bytes | str
    right: Judge
    kind: Format = "csv"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Locale:
    decimal: str
    thousands: str
    delimiter: str

    def number(self, value: float, digits: int = 2) -> str:
        text = f"{value:,.{digits}f}"
        return text.translate({ord(","): self.thousands, ord("."): self.decimal})


LOCALES = [
    Locale(".", ",", ";"),
    Locale(".", ",", "\t"),
    Locale(",", ".", ";"),
    Locale(",", ".", "\t"),
    Locale(",", " ", ";"),
    Locale(",", "\u00a0", ";"),
    Locale(".", "'", ","),
    Locale(".", "\u2019", ";"),
    Locale(".", "", ","),
    Locale(",", "", "|"),
]
MARKERS = ["", " ", "NA", "n/a", "N.A.", "#N/A", "NaN", "None", "null", "(null)", "nil", "NULL"]
MARKERS += ["?", "-", "--", ".", "\u2013", "\\N", "#DIV/0!", "missing"]
AMOUNTS = [round(1037.5 * i + 0.25 * (i % 3), 2) for i in range(ROWS)]
DAYS = [date(2023, 1, 1) + timedelta(days=9 * i) for i in range(ROWS)]
GAPS = {3, 7, 20}


def meant(name: str, values: list[Any]) -> Judge:
    """The column holds these values."""
    return lambda found: (
        name in found.table.column_names and found.table[name].to_pylist() == values
    )


def close(name: str, values: Sequence[float | None]) -> Judge:
    def right(found: Stored) -> bool:
        if found.types.get(name) != "number":
            return False
        pairs = list(zip(found.table[name].to_pylist(), values, strict=True))
        return all((a is None) == (b is None) and abs((a or 0) - (b or 0)) < 1e-9 for a, b in pairs)

    return right


def typed(**types: str) -> Judge:
    return lambda found: types.items() <= found.types.items() and len(found.table) == ROWS


def warned(*words: str) -> Judge:
    return lambda found: any(all(w in text for w in words) for text in found.summary.warnings)


def distinct(name: str, count: int) -> Judge:
    return lambda found: len({*found.table[name].to_pylist()}) == count


def shape(rows: int, columns: int) -> Judge:
    return lambda found: found.table.shape == (rows, columns)


def unsaid(word: str) -> Judge:
    return lambda found: not any(word in text for text in found.summary.warnings)


def role(name: str, *roles: str) -> Judge:
    return lambda found: {c["name"]: c["role"] for c in found.summary.columns}.get(name) in roles


def both(*judges: Judge) -> Judge:
    return lambda found: all(judge(found) for judge in judges)


def either(*judges: Judge) -> Judge:
    return lambda found: any(judge(found) for judge in judges)


def quoted(cell: str, delimiter: str) -> str:
    return f'"{cell}"' if delimiter in cell or '"' in cell else cell


def lines(delimiter: str, names: list[str], *columns: list[str]) -> str:
    rows = [names, *map(list, zip(*columns, strict=True))]
    return "".join(delimiter.join(quoted(cell, delimiter) for cell in row) + "\n" for row in rows)


def column(values: list[str], right: Judge, delimiter: str = ",", **options: Any) -> Relative:
    """A table of a counter, the column ``x`` and a group."""
    count = [str(i % 7) for i in range(len(values))]
    group = ["ab"[i % 2] for i in range(len(values))]
    table = lines(delimiter, ["n", "x", "g"], count, values, group)
    return Relative(table, right, options=options)
