"""Relatives of tables by the columns that are no features, by shape and by format."""

import bz2
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import product
from typing import Any

import pyarrow as pa

from tests.support.files import as_arrow, as_parquet
from tests.support.relative import (
    DAYS,
    ROWS,
    Judge,
    Relative,
    both,
    close,
    column,
    distinct,
    either,
    lines,
    meant,
    role,
    shape,
    typed,
    warned,
)

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
