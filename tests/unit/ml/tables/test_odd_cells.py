"""One cell that is none among numbers and dates in any notation: it is named, with a remedy that
does what it says."""

import json
import re
from datetime import datetime

import pytest

from tests.support.cells import typed_cells

DAYS = ((2021, 3, 15), (2021, 4, 2), (2020, 12, 31), (2022, 7, 9), (2019, 1, 20), (2021, 11, 11))
MOMENTS = [datetime(*day, 14, 5, i) for i, day in enumerate(DAYS)]
FORMATS = (
    *("%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p"),
    *("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%d %B %Y", "%b %d, %Y", "%d-%b-%Y", "%d-%b-%y"),
    *("%a, %d %b %Y", "%a, %d %b %Y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y", "%Y-%m", "%B %Y"),
    *("%m/%Y", "%Y%m%d", "%Y%m%dT%H%M%S", "%Y-%m-%d %H:%M:%S Europe/Berlin"),
    "%d/%m/%Y %H:%M +0200",
)
OTHERS = (
    "2021-Q1 2021-Q2 2020-Q4 2022-Q3 2019-Q1 2021-Q4",
    "2021-W11 2021-W12 2020-W50 2022-W03 2019-W01 2021-W44",
    "14:30 15:45 9:05 23:10 0:15 12:00",
    "14:30:10 15:45:00 09:05:59 23:10:01 00:15:00 12:00:00",
    "2:30_PM 3:45_AM 9:05_AM 11:10_PM 12:15_AM 1:00_PM",
    "1h_30m 2h_5m 45m 3h_0m 10m 1h_1m",
    "1_days_02:03:04 2_days_00:00:10 0_days_10:00:00 5_days_01:01:01",
    "PT1H30M PT2H PT45M PT3H PT10M P1DT1H",
    "90_min 45_min 10_min 5_min 60_min 33_min",
    "14.30_Uhr 9.05_Uhr 10_Uhr 11.15_Uhr 12.00_Uhr 7.45_Uhr",
    "1 2 3 45 6 7",
    "1.5 2.25 3.5 4.75 5.5 6.5",
    "1,5 2,25 3,5 4,75 5,5 6,5",
    "1,234 2,345,678 12,345 5,432 1,000 9,999",
    "1.234,50 2.345,60 12.345,00 5.432,10 1.000,00 9.999,99",
    "$1.50 $2 $1,234.00 $5.25 $6.10 $7",
    "1,50_€ 2,00_€ 1.234,00_€ 5,25_€ 6,10_€ 7,00_€",
    "12% 15.5% 3% 99% 0% 45%",
    "(1.50) 2.50 (3.25) 4.00 (5.00) 6.10",
    "5_kg 6.5_kg 7_kg 8_kg 9.25_kg 10_kg",
    "60_bhp 75_bhp 101_bhp 99.5_bhp 80_bhp 66_bhp",
    "1.2k 3.4k 5k 6.7k 800 1.1k",
    "$3.4M $5M $1.2M $7M $800K $2M",
    "\u22121.5 2.5 \u22123 4 \u22125.5 6",
    "1'234.50 2'345.00 999.10 1'000.00 5.50 7'777.00",
    "1_234,5 2_345,6 12_345 5,5 7_000 1_000,1",
    "1e5 2.5e-3 3E7 4e1 5.5e2 6e0",
    "100_km/h 95_km/h 80.5_km/h 60_km/h 120_km/h 50_km/h",
    "$12/hr $15/hr $20.50/hr $9/hr $11/hr $30/hr",
)
COLUMNS = [
    *([moment.strftime(form) for moment in MOMENTS] for form in FORMATS),
    *([cell.replace("_", " ") for cell in cells.split()] for cells in OTHERS),
    ["15. März 2021", "2. April 2021", "31. Dezember 2020", "9. Juli 2022", "20. Januar 2019"],
]


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("cells", COLUMNS, ids=lambda cells: cells[0])
def test_the_remedy_that_is_named_is_one(cells: list[str], delimiter: str) -> None:
    alone = typed_cells(cells, delimiter)
    assert alone.type in ("number", "datetime")
    column = [*cells[:3], "abc", *cells[3:]]
    found = typed_cells(column, delimiter)
    assert found.type == "category"
    assert "line 5 holds 'abc', the only one that is no " in str(found.note)
    remedy = re.search(r"types=(\{.*?\}) and on_error=missing", str(found.note))
    assert remedy is not None
    kind = json.loads(remedy[1])["c"]
    mended = typed_cells(column, delimiter, wanted=kind, on_error="missing")
    assert mended.type == alone.type
    assert mended.missing_as == {"abc": 1}
    values = mended.values.to_pylist()
    assert [*values[:3], *values[4:]] == alone.values.to_pylist()


@pytest.mark.parametrize(
    "cells",
    [
        [f"A{i}" for i in range(50)],
        [f"{i} Main Street" for i in range(50)],
        [f"{i}{'abcd'[i % 4]}" for i in range(50)],
        [f"{10 * i}-{10 * i + 9}" for i in range(10)],
        [f"{i % 9}.{i % 7}.{i % 5}" for i in range(50)],
    ],
)
def test_labels_that_hold_digits_are_labels(cells: list[str]) -> None:
    found = typed_cells(cells)
    assert (found.type, found.note) == ("category", None)
