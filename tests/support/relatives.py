"""Relatives of the tables that users have sent: the same traits in other notations, by other
programs, in other places. Each comes with what its owner means by it."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from itertools import product

from tests.support import file_relatives
from tests.support.files import Stored
from tests.support.relative import (
    AMOUNTS,
    DAYS,
    GAPS,
    LOCALES,
    MARKERS,
    ROWS,
    Locale,
    Relative,
    both,
    close,
    column,
    either,
    lines,
    meant,
    typed,
    unsaid,
    warned,
)

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


FAMILIES: dict[str, Callable[[], Iterator[Relative]]] = {
    name: made
    for name, made in [*vars(file_relatives).items(), *globals().items()]
    if callable(made) and getattr(made, "__annotations__", {}).get("return") == Iterator[Relative]
}
"""Makers of relatives by name."""
