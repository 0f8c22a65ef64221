"""Relatives of the tables that users have sent: the same traits in other notations, by other
programs, in other places. Each comes with what its owner means by it."""

import bz2
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import product
from typing import Any

import pyarrow as pa

from app.ml.tables.formats import Format
from tests.support.files import Stored, as_arrow, as_parquet

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


# ---------------------------------------------------------------- marker x locale x shape


def shop(locale: Locale, marker: str) -> list[str]:
    """The lines of a table of amounts, dates, numbers and groups, with gaps."""
    amounts = [marker if i in GAPS else locale.number(v) for i, v in enumerate(AMOUNTS)]
    days = [marker if i == 5 else day.strftime("%d.%m.%Y") for i, day in enumerate(DAYS)]
    counts = [str(i % 5) for i in range(ROWS)]
    groups = ["north", "south"] * (ROWS // 2)
    names = ["amount", "day", "count", "group"]
    return lines(locale.delimiter, names, amounts, days, counts, groups).splitlines()


SHAPES: dict[str, Callable[[list[str], str], str]] = {
    "plain": lambda rows, mark: "\n".join(rows) + "\n",
    "CRLF and a BOM": lambda rows, mark: "\ufeff" + "\r\n".join(rows) + "\r\n",
    "sep=": lambda rows, mark: f"sep={mark}\n" + "\n".join(rows),
    "title": lambda rows, mark: "Sales of 2023\n\n" + "\n".join(rows),
    "comments": lambda rows, mark: "# exported\n# by hand\n" + "\n".join(rows),
    "trailing": lambda rows, mark: "".join(f"{row}{mark}\n" for row in rows),
    "empty rows": lambda rows, mark: "\n".join(rows) + f"\n{mark * 3}\n{mark * 3}\n",
    "row numbers": lambda rows, mark: "".join(
        f"{'' if i == 0 else i}{mark}{row}\n" for i, row in enumerate(rows)
    ),
    "notes": lambda rows, mark: "\n".join(rows) + "\n\nSource: the books\n",
    "facts": lambda rows, mark: f"Shop{mark}Oslo\nYear{mark}2023\n\n" + "\n".join(rows) + "\n",
    "padded facts": lambda rows, mark: f"Shop{mark}Oslo{mark * 2}\n" + "\n".join(rows) + "\n",
    "units": lambda rows, mark: "\n".join([rows[0], f"EUR{mark}{mark}-{mark}", *rows[1:]]) + "\n",
    "header again": lambda rows, mark: "\n".join([*rows[:9], rows[0], *rows[9:]]) + "\n",
    "blank line": lambda rows, mark: "\n".join([*rows[:9], "", *rows[9:]]) + "\n",
}


def shops() -> Iterator[Relative]:
    amounts = [None if i in GAPS else v for i, v in enumerate(AMOUNTS)]
    days = [None if i == 5 else day for i, day in enumerate(DAYS)]

    def right(found: Stored) -> bool:
        whole = found.table.slice(0, ROWS)
        kept = Stored(found.summary, whole, found.sha256)
        empty = found.table.num_rows - ROWS
        return (
            close("amount", amounts)(kept)
            and meant("day", days)(kept)
            and meant("count", [i % 5 for i in range(ROWS)])(kept)
            and meant("group", ["north", "south"] * (ROWS // 2))(kept)
            and (not empty or warned("hold nothing")(found))
        )

    for locale, marker, shape in product(LOCALES, MARKERS, SHAPES.values()):
        if "," in (locale.decimal, locale.thousands) and locale.delimiter == ",":
            continue
        yield Relative(shape(shop(locale, marker), locale.delimiter), right)


# ---------------------------------------------------------------- numbers


def decimal_comma() -> Iterator[Relative]:
    for mark, digits in product(";\t|", (1, 2, 4)):
        values = [round(i * 0.375, digits) for i in range(ROWS)]
        yield column(
            [f"{v:.{digits}f}".replace(".", ",") for v in values], close("x", values), mark
        )
    values = [i / 4 for i in range(ROWS)]
    yield column([f"{v:.2f}".replace(".", ",") for v in values], close("x", values))  # quoted


def thousands() -> Iterator[Relative]:
    whole = [1037 * (i + 1) for i in range(ROWS)]
    for locale in LOCALES:
        if locale.thousands in ("", ".", ","):
            continue
        cells = [f"{v:,}".replace(",", locale.thousands) for v in whole]
        yield column(cells, close("x", [*map(float, whole)]), locale.delimiter)
    yield column([f"{v:,}" for v in whole], close("x", [*map(float, whole)]))
    for mark in ";\t":
        dotted = [f"{v:,}".replace(",", ".") for v in whole]
        others = [f"{i},5" for i in range(ROWS)]
        table = lines(mark, ["x", "o"], dotted, others)
        yield Relative(table, close("x", [*map(float, whole)]))
        alone = close("x", [*map(float, whole)])
        small = both(close("x", [v / 1000 for v in whole]), warned("'x'", "decimal="))
        yield column(dotted, either(alone, small), ";")
    mixed = [f"{v:,}" if i % 2 else str(v) for i, v in enumerate(whole)]
    yield column(mixed, close("x", [*map(float, whole)]))


CURRENCIES = ["$", "€", "£", "¥", "₹", "₽", "CHF", "EUR", "USD", "kr", "zł", "R$", "US$", "Rs."]


def currencies() -> Iterator[Relative]:
    values = [3037.5 * (i + 1) for i in range(ROWS)]
    for sign, gap, before in product(CURRENCIES, ("", " ", "\u00a0"), (True, False)):
        if not gap and sign.isalpha() and not before:
            continue
        for locale in (Locale(".", ",", ";"), Locale(",", ".", ";")):
            bare = [locale.number(v) for v in values]
            cells = [f"{sign}{gap}{b}" if before else f"{b}{gap}{sign}" for b in bare]
            yield column(cells, close("x", values), ";")
    accounts = [f"({v:,.2f})" if i % 3 == 0 else f"{v:,.2f}" for i, v in enumerate(values)]
    signed = [-v if i % 3 == 0 else v for i, v in enumerate(values)]
    yield column(accounts, close("x", signed))
    for minus in "\u2212\u2013-":
        cells = [f"{minus}{v:.1f}" if i % 3 == 0 else f"{v:.1f}" for i, v in enumerate(values)]
        yield column(cells, close("x", signed))
    for form in ("-${:,.2f}", "$-{:,.2f}", "(${:,.2f})"):
        cells = [form.format(v) if i % 3 == 0 else f"${v:,.2f}" for i, v in enumerate(values)]
        yield column(cells, close("x", signed))


def percents() -> Iterator[Relative]:
    values = [i * 1.25 for i in range(ROWS)]
    for gap, sign in product(("", " ", "\u00a0"), "%\u2030"):
        yield column([f"{v:.2f}{gap}{sign}" for v in values], close("x", values))
        comma = [f"{v:.2f}{gap}{sign}".replace(".", ",") for v in values]
        yield column(comma, close("x", values), ";")


def units() -> Iterator[Relative]:
    values = [i * 2.5 for i in range(ROWS)]
    for unit in ("kg", "km", "bhp", "kmpl", "cm", "°C", "m²", "ms", "mg/dl", "mm", "CC"):
        yield column([f"{v:.1f} {unit}" for v in values], close("x", values))


def infinities() -> Iterator[Relative]:
    for word in ("inf", "-inf", "Infinity", "-Infinity", "+inf", "INF", "\u221e"):
        cells = [word if i == 4 else f"{i / 2}" for i in range(ROWS)]
        values = [None if i == 4 else i / 2 for i in range(ROWS)]
        yield column(cells, both(close("x", values), warned("'x'", word)))


def markers() -> Iterator[Relative]:
    more = ["nan", "N/A", "<NA>", "NAN", "[null]", "nul", "..", "...", "*", "unknown", "n.a."]
    for marker, wide in product([*MARKERS, *more], (False, True)):
        if marker == "nul":
            continue
        step = 2.5 if wide else 1
        cells = [marker if i in GAPS else f"{i * step:g}" for i in range(ROWS)]
        values = [None if i in GAPS else i * step for i in range(ROWS)]
        told = warned("'x'", "3 cells", "missing")
        plain = marker.strip() in (
            "",
            "NA",
            "N/A",
            "n/a",
            "#N/A",
            "<NA>",
            "NaN",
            "nan",
            "null",
            "NULL",
        )
        yield column(cells, close("x", values) if plain else both(close("x", values), told))


def one_in_thousands() -> Iterator[Relative]:
    for marker in ("nil", "None", "?", "-", "unknown", "#VALUE!"):
        cells = [marker if i == 1234 else f"{i * 0.25}" for i in range(2000)]
        values = [None if i == 1234 else i * 0.25 for i in range(2000)]
        yield column(cells, both(close("x", values), warned("'x'", "1 cell", "line 1236")))


def less_than() -> Iterator[Relative]:
    for odd in ("<0.5", ">100", "~3", "5+", "ca. 7", "trace", "3-4", "12a"):
        cells = [odd if i % 6 == 0 else f"{i}.5" for i in range(ROWS)]
        values = [None if i % 6 == 0 else i + 0.5 for i in range(ROWS)]
        yield column(cells, warned("'x'", "4 cells", "on_error=missing"))
        yield column(
            cells, close("x", values), types={"x": "number"}, cells={"on_error": "missing"}
        )


# ---------------------------------------------------------------- dates


FORMS = [
    "%d/%m/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m/%d/%Y",
    "%m-%d-%Y",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y%m%d",
]
FORMS += ["%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y"]
FORMS += ["%B %d, %Y", "%d %B %Y", "%B %d %Y", "%Y-%b-%d", "%a %d %b %Y", "%Y-%m-%d"]
TIMES = ["%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p"]


def dates() -> Iterator[Relative]:
    for form, marker in product(FORMS, ("", "NA", "-", "0000-00-00")):
        cells = [marker if i in GAPS else day.strftime(form) for i, day in enumerate(DAYS)]
        days = [None if i in GAPS else day for i, day in enumerate(DAYS)]
        yield column(cells, meant("x", days), ";")


def moments() -> Iterator[Relative]:
    for form, clock, gap in product(FORMS, TIMES, (" ",)):
        if form == "%Y%m%d":
            continue
        at = [datetime(d.year, d.month, d.day, i % 24, 7 * i % 60) for i, d in enumerate(DAYS)]
        yield column([m.strftime(form + gap + clock) for m in at], meant("x", at), ";")


def ambiguous() -> Iterator[Relative]:
    for mark, year in product("/-", ("%Y", "%y")):
        form = mark.join(("%d", "%m", year))
        days = [date(2023, i % 12 + 1, (i * 5) % 12 + 1) for i in range(ROWS)]
        cells = [day.strftime(form) for day in days]
        yield column(cells, both(typed(x="category"), warned("'x'", "date_order=")))
        yield column(cells, meant("x", days), cells={"date_order": "dmy"})
        others = [day.strftime(form) for day in DAYS]
        yield Relative(lines(",", ["x", "o"], cells, others), meant("x", days))


def months() -> Iterator[Relative]:
    first = [date(2000 + i // 12, i % 12 + 1, 1) for i in range(ROWS)]
    for form in ("%b %Y", "%B %Y", "%Y-%m", "%b-%Y", "%Y %b"):
        yield column([day.strftime(form) for day in first], meant("x", first))
    names = "Januar Februar März April Mai Juni Juli August September Oktober November Dezember"
    german = names.split()
    yield column([f"1. {german[d.month - 1]} {d.year}" for d in first], meant("x", first), ";")
    french = "janvier février mars avril mai juin juillet août septembre octobre novembre décembre"
    yield column(
        [f"1 {french.split()[d.month - 1]} {d.year}" for d in first], meant("x", first), ";"
    )
    quarters = [f"{2000 + i // 4}Q{i % 4 + 1}" for i in range(ROWS)]
    starts = [date(2000 + i // 4, 3 * (i % 4) + 1, 1) for i in range(ROWS)]
    yield column(quarters, meant("x", starts))
    yield column([q.replace("Q", "-Q") for q in quarters], meant("x", starts))


def epochs() -> Iterator[Relative]:
    start = datetime(2021, 3, 1, 12)
    at = [start + timedelta(hours=7 * i) for i in range(ROWS)]
    for scale in (1, 1000, 10**6):
        cells = [str(int((m - datetime(1970, 1, 1)).total_seconds()) * scale) for m in at]
        yield column(cells, typed(x="number"))

        def right(found: Stored, at: list[datetime] = at) -> bool:
            values = found.table["x"].to_pylist()
            return [v.replace(tzinfo=None) for v in values] == at

        yield column(cells, right, types={"x": "datetime"})


def bands() -> Iterator[Relative]:
    forms = ["{}-{}", "{} - {}", "{}\u2013{}", "{} to {}", "[{}, {})", "({},{}]"]
    for form in forms:
        cells = [form.format(10 * (i % 8), 10 * (i % 8) + 9) for i in range(ROWS)]
        yield column(cells, both(typed(x="category"), unsaid("'x'")), ";")


def clocks() -> Iterator[Relative]:
    seconds = [float(3600 * (i % 24) + 60 * i) for i in range(ROWS)]
    texts = [f"{int(s) // 3600:02d}:{int(s) // 60 % 60:02d}" for s in seconds]
    yield column(texts, close("x", seconds))
    yield column([f"{t}:00" for t in texts], close("x", seconds))


# ---------------------------------------------------------------- columns that are no features


def identifiers() -> Iterator[Relative]:
    for name in ("PassengerId", "CustomerID", "uid", "user_id", "ID", "id", "Order ID", "orderId",
                 "product.id", "UUID", "guid"):  # fmt: skip
        cells = [str(1000 + 7 * i) for i in range(ROWS)]
        table = lines(",", [name, "a"], cells, [str(i % 5) for i in range(ROWS)])
        yield Relative(table, role(name, "identifier", "index"))
    for mark, first in product(",;\t", (0, 1)):
        for name in ("", "Unnamed: 0", "index", "row", "row_id", "rownames", "Row Number"):
            cells = [str(i + first) for i in range(ROWS)]
            table = lines(mark, [name, "a"], cells, [str(i % 5) for i in range(ROWS)])
            yield Relative(table, role(name or "index", "index", "identifier"))
    people = [
        f"{a} {b}"
        for a in ("Ann", "Bob", "Cem", "Dot")
        for b in ["Adams", "Brown", "Clark", "Davis", "Evans", "Ford"]
    ]
    yield column(people, role("x", "identifier"))
    codes = [f"KX-{1000 + 3 * i}" for i in range(ROWS)]
    yield column(codes, role("x", "identifier"))


def labels() -> Iterator[Relative]:
    for a, b in (
        ("Berlin", "Berlin "),
        ("yes", " yes"),
        ("Yes", "yes"),
        ("USA", "usa"),
        ("Male", "MALE"),
    ):
        cells = [(a, b, "other")[i % 3] for i in range(ROWS)]
        yield column(cells, both(distinct("x", 2), warned("'x'", "8 cells")))


# ---------------------------------------------------------------- shapes


def no_header() -> Iterator[Relative]:
    for mark, digits in product(",;\t ", (0, 2)):
        rows = [mark.join(f"{i * k + 0.25:.{digits}f}" for k in (1, 2, 3)) for i in range(ROWS)]
        told = both(shape(ROWS - 1, 3), warned("header=false"))
        yield Relative("\n".join(rows) + "\n", either(shape(ROWS, 3), told))


def titles() -> Iterator[Relative]:
    for count, mark in product((1, 2, 3, 5), ",;\t"):
        above = "".join(f"Line {i} of a report\n" for i in range(count))
        body = lines(mark, ["item", "qty", "price"], [f"thing {i % 4}" for i in range(ROWS)],
                     [str(i) for i in range(ROWS)], [f"{i}.5" for i in range(ROWS)])  # fmt: skip
        yield Relative(above + body, typed(item="category", qty="number", price="number"))
        yield Relative(above + "\n" + body, typed(item="category", qty="number", price="number"))


def totals() -> Iterator[Relative]:
    for word, mark in product(
        ("Total", "TOTAL", "Sum", "Grand Total", "Summe", "Gesamt", "Totale"), ",;"
    ):
        body = lines(mark, ["item", "qty"], [f"thing {i % 4}" for i in range(ROWS)],
                     [str(i) for i in range(ROWS)])  # fmt: skip
        yield Relative(f"{body}{word}{mark}276\n", warned("total"))


def header_commas() -> Iterator[Relative]:
    names = ["Name", "Value, EUR", "Size, m, outer"]
    for mark in ";\t|":
        rows = [mark.join(names)] + [
            mark.join((f"n{i % 3}", f"{i}", f"{i}.5")) for i in range(ROWS)
        ]
        yield Relative(
            "\n".join(rows),
            typed(**dict(zip(names, ("category", "number", "number"), strict=True))),
        )


def spaced() -> Iterator[Relative]:
    for width, lead in product((8, 9, 12), ("", "  ")):
        rows = [("time", "status", "sex")] + [
            (str(i * 7), str(i % 2), str(i % 3)) for i in range(ROWS)
        ]
        text = "".join(
            lead + "".join(cell.ljust(width) for cell in row).rstrip() + "\n" for row in rows
        )
        yield Relative(text, typed(time="number", status="number", sex="number"))


def padded() -> Iterator[Relative]:
    for mark, width in product(",;|", (8, 12)):
        rows = [("Name", "Country", "Time")]
        rows += [
            (f"runner {i % 5}", ("JAM", "USA")[i % 2], f"{9 + i / 100:.2f}") for i in range(ROWS)
        ]
        text = "".join(f"{mark} ".join(cell.ljust(width) for cell in row) + "\n" for row in rows)
        yield Relative(text, both(typed(Name="category", Time="number"),
                                  meant("Country", ["JAM", "USA"] * (ROWS // 2))))  # fmt: skip


def backslashes() -> Iterator[Relative]:
    for mark, word in product(",;", ("hi", "a, b", "x; y")):
        rows = [f"a{mark}b"] + [f'{i}{mark}"say \\"{word}\\" {i % 4}"' for i in range(ROWS)]
        yield Relative(
            "\n".join(rows) + "\n", meant("b", [f'say "{word}" {i % 4}' for i in range(ROWS)])
        )


def repeated() -> Iterator[Relative]:
    for mark, count in product(",;\t", (2, 3)):
        table = lines(
            mark, ["val"] * count, *[[str(i + k) for i in range(ROWS)] for k in range(count)]
        )
        yield Relative(table, both(typed(val="number", val_2="number"), warned("stand twice")))


def encodings() -> Iterator[Relative]:
    cities = ["Zürich", "Málaga", "Besançon"] * (ROWS // 3)
    text = lines(";", ["city", "n"], cities, [str(i) for i in range(ROWS)])
    for name in ("cp1252", "latin-1", "iso-8859-15"):
        yield Relative(text.encode(name), meant("city", cities), options={"encoding": name})
    for name in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        yield Relative(text.encode(name), meant("city", cities))


# ---------------------------------------------------------------- formats


def packed() -> Iterator[Relative]:
    text = lines(",", ["a", "b"], [str(i) for i in range(ROWS)], ["xy"[i % 2] for i in range(ROWS)])
    right = typed(a="number", b="category")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("folder/table.csv", text)
    yield Relative(archive.getvalue(), right)
    for squeeze in (gzip.compress, bz2.compress):
        yield Relative(squeeze(text.encode()), right)
    objects = [{"a": i, "b": "xy"[i % 2]} for i in range(ROWS)]
    ndjson = "".join(json.dumps(item) + "\n" for item in objects)
    yield Relative(ndjson, right, "ndjson")
    yield Relative(gzip.compress(ndjson.encode()), right, "ndjson")
    yield Relative(json.dumps(objects), right, "ndjson")
    yield Relative(json.dumps(objects, indent=2), right, "ndjson")


def json_traits() -> Iterator[Relative]:
    def objects(make: Callable[[int], Any]) -> str:
        return "".join(json.dumps({"x": make(i), "n": i}) + "\n" for i in range(ROWS))

    yield Relative(
        objects(lambda i: float("nan") if i == 3 else i / 2),
        close("x", [None if i == 3 else i / 2 for i in range(ROWS)]),
        "ndjson",
    )
    yield Relative(
        objects(lambda i: f"{i}.5" if i % 2 else i),
        close("x", [i + 0.5 if i % 2 else float(i) for i in range(ROWS)]),
        "ndjson",
    )
    yield Relative(
        objects(lambda i: f"{i},5"),
        close("x", [i + 0.5 for i in range(ROWS)]),
        "ndjson",
        {"cells": {"decimal": ","}},
    )
    yield Relative(
        objects(lambda i: f"{i}.5"),
        close("x", [i + 0.5 for i in range(ROWS)]),
        "ndjson",
        {"types": {"x": "number"}},
    )
    yield Relative(
        objects(lambda i: {"age": i, "at": {"lat": i / 2}}),
        close("x.at.lat", [i / 2 for i in range(ROWS)]),
        "ndjson",
    )
    yield Relative(
        objects(lambda i: [i, i]),
        both(warned("'x'", "left out"), meant("n", [*range(ROWS)])),
        "ndjson",
    )
    yield Relative(objects(lambda i: DAYS[i].isoformat()), meant("x", DAYS), "ndjson")
    yield Relative(objects(lambda i: DAYS[i].strftime("%d.%m.%Y")), meant("x", DAYS), "ndjson")


def arrow_traits() -> Iterator[Relative]:
    whole = pa.array(range(ROWS))
    traits: list[tuple[pa.Array, Judge]] = [
        (
            pa.array([timedelta(minutes=i) for i in range(ROWS)]),
            close("x", [60.0 * i for i in range(ROWS)]),
        ),
        (pa.array(DAYS), meant("x", DAYS)),
        (pa.array([[i] for i in range(ROWS)]), warned("'x'", "left out")),
        (pa.array([{"a": i} for i in range(ROWS)]), warned("'x'", "left out")),
        (pa.array([b"\xff\xfe" for _ in range(ROWS)]), warned("'x'", "left out")),
        (pa.array([b"ab", b"cd"] * (ROWS // 2)), meant("x", ["ab", "cd"] * (ROWS // 2))),
        (pa.array([2**64 - 1 - i for i in range(ROWS)], pa.uint64()), warned("'x'")),
        (
            pa.array([float("inf")] + [1.5] * (ROWS - 1)),
            both(close("x", [None] + [1.5] * (ROWS - 1)), warned("'x'", "infinity")),
        ),
        (
            pa.array(["a", "b"] * (ROWS // 2)).dictionary_encode(),
            meant("x", ["a", "b"] * (ROWS // 2)),
        ),
        (
            pa.array([i * 1000 for i in range(ROWS)], pa.time32("ms")),
            close("x", [float(i) for i in range(ROWS)]),
        ),
    ]
    for values, right in traits:
        table = pa.table({"x": values, "n": whole})
        yield Relative(as_parquet(table), right, "parquet")
        yield Relative(as_arrow(table), right, "arrow")


FAMILIES: dict[str, Callable[[], Iterator[Relative]]] = {
    name: made
    for name, made in list(globals().items())
    if callable(made) and getattr(made, "__annotations__", {}).get("return") == Iterator[Relative]
}
"""Makers of relatives by name."""
