"""Cells as people write them: read as they are meant, or left a category with a warning that names
the option."""

from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidData
from app.ml.column_types.notations.notation import CellOptions, Cells, Notation
from app.ml.tables.columns import typed_column
from tests.support.cells import place, typed_cells, typed_table

DAYS = ((1, 2), (15, 3), (4, 5))


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("cells", "values", "unit"),
    [
        (["0,25", "1,5", "11"], [0.25, 1.5, 11], None),
        (["1.037", "1,50"], [1037, 1.5], None),
        (["1.037,5", "12.444"], [1037.5, 12444], None),
        (["1,037.5", "12,444"], [1037.5, 12444], None),
        (["12,34,567", "1,037"], [1234567, 1037], None),
        (["1 037,5", "2"], [1037.5, 2], None),
        (["1\u00a0037,5", "2"], [1037.5, 2], None),
        (["1\u202f037", "2"], [1037, 2], None),
        (["1'037.50", "2"], [1037.5, 2], None),
        (["1\u2019037.50", "2"], [1037.5, 2], None),
        (["1_000", "2"], [1000, 2], None),
        (["$ 1,234.00 ", "$ -", "$5"], [1234, 0, 5], "$"),
        (["10%", "0", "2.5 %"], [10, 0, 2.5], "%"),
        (["1.234,-", "12,--", "13,50"], [1234, 12, 13.5], None),
        (["12.-", "13.50", "-4.-"], [12, 13.5, -4], None),
        (["1.2k", "900", "2.5M"], [1200, 900, 2_500_000], None),
        (["$1.2M", "$3.4M"], [1_200_000, 3_400_000], "$"),
        (["5 Mio. €", "3,5 Mio. €"], [5_000_000, 3_500_000], "€"),
        (["1.5bn", "2bn"], [1.5e9, 2e9], None),
        (["$3,037.50", "$1,000", "$2"], [3037.5, 1000, 2], "$"),
        (["-$3", "$-4", "($5)", "$6-"], [-3, -4, -5, -6], "$"),
        (["€ 1.037,50", "2,00 €"], [1037.5, 2], "€"),
        (["£1.5", "2"], [1.5, 2], "£"),
        (["1.50 USD", "USD 2"], [1.5, 2], "USD"),
        (["Rs. 1,00,000", "Rs. 5"], [100000, 5], "Rs."),
        (["12%", "0.5 %"], [12, 0.5], "%"),
        (["(1.50)", "2.00"], [-1.5, 2], None),
        (["\u22121.5", "\u20132"], [-1.5, -2], None),
        (["60 bhp", "70.5 bhp"], [60, 70.5], "bhp"),
        (["7kg", "8kg"], [7, 8], "kg"),
        (["5 km/h", "6 km/h"], [5, 6], "km/h"),
        (["5 days", "1 day", "2 Days"], [5, 1, 2], "days"),
        (["$12/hr", "$ 7.50 / hr"], [12, 7.5], "$/hr"),
        (["RM 1,200.50", "RM 3"], [1200.5, 3], "RM"),
        (["Rp 1.200,50", "Rp 3"], [1200.5, 3], "Rp"),
        (["CA$5.50", "CA$7"], [5.5, 7], "CA$"),
        (["$5 USD", "$7.50 USD"], [5, 7.5], "USD"),
        (["0.5 BTC", "2 BTC"], [0.5, 2], "BTC"),
        (["8 l/100km", "7.5 l/100km"], [8, 7.5], "l/100km"),
        (["80 sq ft", "70.5 sq ft"], [80, 70.5], "sq ft"),
        (["$12 per hour", "$7 per hour"], [12, 7], "$/hour"),
        (["12 €/m²", "7,50 €/m²"], [12, 7.5], "€/m²"),
        (["20 °C", "-3 °C"], [20, -3], "°C"),
        (["1,5e3", "2"], [1500, 2], None),
        (["14:55", "3:05"], [53700, 11100], "s"),
        (["3:04 PM", "12:00 AM"], [54240, 0], "s"),
        (["1:02:03.5", "0:00:01"], [3723.5, 1], "s"),
    ],
)
def test_numbers_in_other_notations(
    cells: list[str], values: list[float], unit: str | None
) -> None:
    column = typed_cells([*cells, None])
    assert column.type == "number"
    assert column.values.to_pylist() == [*values, None]
    assert (column.notation or Notation()).unit == unit
    assert column.note is None


@pytest.mark.parametrize(
    "cells",
    [
        ["12a", "12b"],
        ["12a", "12"],
        ["3M", "4M"],
        ["$5", "€6"],
        ["$5/hr", "$6/day"],
        ["$5/hr", "$6"],
        ["5/hr", "6/day"],
        ["5 kg", "6 lb"],
        ["18-25", "26-35"],
        ["1st", "2nd"],
        ["1.2.3", "2.3.4"],
        ["192.168.0.1", "10.0.0.1"],
        ["A4", "A5"],
        ["007", "$5"],
        ["1,23,4", "5"],
        ["(5", "6)"],
        ["--5", "6"],
        ["1e999", "$2"],
        ["5/12", "6/12"],
    ],
)
def test_codes_and_mixtures_are_no_numbers(cells: list[str]) -> None:
    assert typed_cells(cells).type == "category"


@pytest.mark.parametrize(
    ("delimiter", "options", "values"),
    [
        (";", {"decimal": ","}, [1.037, 2.074]),
        (";", {"decimal": "."}, [1037, 2074]),
        (";", {"thousands": ","}, [1037, 2074]),
        (",", {"thousands": "none"}, [1.037, 2.074]),
    ],
)
def test_what_decides_a_comma(delimiter: str, options: Any, values: list[float]) -> None:
    assert typed_cells(["1,037", "2,074"], delimiter, **options).values.to_pylist() == values


def test_a_comma_that_nothing_decides_is_a_category_that_names_the_option() -> None:
    column = typed_cells(["1,037", "2,074"], ";")
    assert column.type == "category"
    assert "send decimal=. or decimal=," in str(column.note)
    with pytest.raises(InvalidData) as caught:
        typed_cells(["1,037", "2,074"], ";", "number")
    assert caught.value.errors[0].pointer == "/decimal"


def test_another_column_decides() -> None:
    found = typed_table(a=["1.037", "2.074"], b=["0,5", "1,25"], c=["1,037", "2,500"]).table
    assert found["a"].to_pylist() == [1037, 2074]
    assert found["b"].to_pylist() == [0.5, 1.25]
    assert found["c"].to_pylist() == [1.037, 2.5]
    found = typed_table(a=["1.037", "2.074"], b=["0.5", "1.25"], c=["1,037", "2,500"]).table
    assert found["a"].to_pylist() == [1.037, 2.074]
    assert found["c"].to_pylist() == [1037, 2500]
    both = typed_table(a=["1.037", "2.074"], b=["0.5", "1.25"], c=["0,5", "1,25"])
    assert both.types["a"] == "number"
    assert "exactly three digits" in both.notes[0]


def test_dots_before_three_digits_throughout_are_warned_of_where_commas_are_likely() -> None:
    alone = typed_table(a=["1.037", "2.074"], b=["x", "y"])
    assert alone.table["a"].to_pylist() == [1.037, 2.074]
    assert "send decimal=," in alone.notes[0]
    assert typed_table(",", a=["1.037", "2.074"], b=["x", "y"]).notes == []


DECIMALS = {".": (",", " ", "'", None), ",": (".", " ", "'", None)}


@given(
    st.lists(st.integers(-(10**11), 10**11), min_size=1, max_size=30),
    st.sampled_from([(d, t) for d, all_ in DECIMALS.items() for t in all_]),
    st.sampled_from(["", "$", "%", "kg"]),
)
def test_random_numbers_read_back_equal_or_warned(
    hundredths: list[int], marks: tuple[str, str | None], unit: str
) -> None:
    decimal, thousands = marks

    def written(value: int) -> str:
        whole, cents = divmod(abs(value), 100)
        grouped = f"{whole:,}".replace(",", thousands or "")
        text = f"{grouped}{decimal}{cents:02d}" if cents else grouped
        text = f"{unit}{text}" if unit == "$" else f"{text} {unit}" if unit else text
        return f"-{text}" if value < 0 else text

    cells: list[str | None] = [written(value) for value in hundredths]
    for delimiter in ",;":
        column = typed_cells(cells, delimiter)
        if column.type == "number" and column.note is None:
            expected = [value / 100 for value in hundredths]
            plain = delimiter == "," and not any(
                mark in str(cell) for cell in cells for mark in ","
            )
            if decimal == "." or not plain:  # in such a file 1.037 is no thousand
                assert column.values.to_pylist() == pytest.approx(expected)
        else:
            assert column.note is not None


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["10%", "0.5", "20%"], "no number beside them"),
        (["10 kg", "5 lbs", "7 kg", "9 lbs"], "in one unit"),
        (["Dec-21", "Jan-22"], "date_format=%b-%y"),
        (["21-Dec", "22-Jan"], "date_format=%b-%y"),
    ],
)
def test_what_may_mean_two_things_is_a_category_that_says_what_to_do(
    cells: list[str], said: str
) -> None:
    column = typed_cells(cells)
    assert column.type == "category"
    assert said in str(column.note)


@pytest.mark.parametrize(
    "cells",
    [
        *(["5 m", "3 km"], ["5 mm", "3 m"], ["6 m", "2 y"], ["5 t", "3 kg"], ["300 K", "27 C"]),
        *(["12 M", "10 F"], ["6M", "2T"], ["5K", "3B"], ["5 m", "1 h", "90 m"], ["5 B", "2 KB"]),
        *(["5M", "3M"], ["1.5m", "2.3m"], ["1.5t", "2t"], ["300K", "400K"]),
    ],
)
def test_letters_that_may_be_units_or_names_multiply_nothing(cells: list[str]) -> None:
    column = typed_cells(cells)
    assert column.type == "category"
    assert column.values.to_pylist() == cells


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["14:55", "0:30"], [53700, 1800]),
        (["14:55:12.5", "0:00:01"], [53712.5, 1]),
        (["1:30 pm", "12:05 a.m."], [48600, 300]),
        (["02:03.5", "101:02.25"], [123.5, 6062.25]),
        (["0 days 00:01:30", "1 days 02:00:00"], [90, 93600]),
        (["-1 days +23:00:00", "1 day, 0:00:00"], [-3600, 86400]),
        (["PT1H30M", "P1DT2S", "-PT5M"], [5400, 86402, -300]),
        (["1h 30m", "45 min", "2 hours, 5 sec"], [5400, 2700, 7205]),
        (["5 min", "1 h", "2 days"], [300, 3600, 172800]),
        (["3 weeks", "2 days"], [1814400, 172800]),
        (["5 days", "1 day 02:00:00"], [432000, 93600]),
        (["14h05", "3h20"], [50700, 12000]),
        (["59:30", "1:02:03", "4:05"], [3570, 3723, 245]),
    ],
)
def test_times_of_day_and_durations_are_seconds(cells: list[str], seconds: list[float]) -> None:
    column = typed_cells(cells, ";")
    assert column.values.to_pylist() == seconds
    assert column.notation is not None
    assert column.notation.unit == "s"


@pytest.mark.parametrize(
    ("cells", "as_hours", "as_minutes", "told"),
    [
        (["3:45", "4:12"], [13500, 15120], [225, 252], True),
        (["52:31", "38:30"], [189060, 138600], [3151, 2310], True),
        (["4:59", "1:02:03"], [17940, 3723], [299, 3723], True),
        (["9:30", "14:55"], [34200, 53700], [570, 895], False),
        (["03:45", "04:12"], [13500, 15120], [225, 252], False),
    ],
)
def test_what_may_be_minutes_and_seconds_says_so(
    cells: list[str], as_hours: list[float], as_minutes: list[float], told: bool
) -> None:
    column = typed_cells(cells)
    assert column.values.to_pylist() == as_hours
    assert ("date_format=%M:%S" in str(column.note)) == told
    said = typed_cells(cells, date_format="%M:%S")
    assert (said.values.to_pylist(), said.note) == (as_minutes, None)
    learnt = typed_cells(cells, wanted="number", notation=said.notation)
    assert learnt.values.to_pylist() == as_minutes
    hours = typed_cells(cells, date_format="%H:%M")
    assert (hours.values.to_pylist(), hours.note) == (as_hours, None)


def test_years_of_two_digits_that_lie_ahead_are_told() -> None:
    born = typed_cells(["24.12.45", "13.01.71", "05.05.03"])
    assert [value.year for value in born.values.to_pylist()] == [2045, 1971, 2003]
    assert "1969 to 2068" in str(born.note)
    assert typed_cells(["24.12.21", "13.01.71"]).note is None
    assert typed_cells(["1. Ma\u0308rz 2021"]).type == "datetime", "accents may be composed"
    assert "1969 to 2068" in str(typed_cells(["01-Jan-30", "05-Mar-75", "17-Dec-52"]).note)


def test_years_of_two_digits_come_first_or_last() -> None:
    by_day = [f"{day:02}-03-{year}" for day in range(1, 20) for year in (21, 22)]
    assert typed_cells(by_day).values[0].as_py() == date(2021, 3, 1)
    by_year = [f"{year}-03-{day:02}" for day in range(1, 20) for year in (21, 22)]
    assert typed_cells(by_year).values[0].as_py() == date(2021, 3, 1)
    open_ = typed_cells(["21-03-04", "21-03-31", "20-12-28"])
    assert open_.type == "category"
    assert "date_order=ymd" in str(open_.note)
    assert typed_cells(["21-03-31"], date_order="ymd").values[0].as_py() == date(2021, 3, 31)
    assert typed_cells(["21.03.31"]).values[0].as_py() == date(2031, 3, 21)


def test_a_format_with_a_zone() -> None:
    said = CellOptions(date_format="%d/%m/%Y %H:%M %z")
    column = typed_cells(
        ["01/02/2023 10:00 +0200", "02/02/2023 10:00 +0100"], date_format=said.date_format
    )
    moments = [moment.isoformat() for moment in column.values.to_pylist()]
    assert moments == ["2023-02-01T08:00:00+00:00", "2023-02-02T09:00:00+00:00"]


@pytest.mark.parametrize(
    "cells",
    [
        ["5M", "3S"],
        ["5m", "3s"],
        ["2d", "3d"],
        ["P", "PT"],
        ["25:61", "1:02"],
        ["13:00 pm", "1:00 am"],
    ],
)
def test_what_is_no_duration(cells: list[str]) -> None:
    assert typed_cells(cells).type == "category"


# ---------------------------------------------------------------- missing


@pytest.mark.parametrize(
    "marker",
    [
        *("?", "-", "--", ".", "N.A.", "None", "nil", "NaT", "#DIV/0!", "\\N", "  ", "k.A.", "*"),
        *("unknown", "(null)", "n/a", "\u2014", "inf"),
    ],
)
def test_markers_among_numbers_are_missing_and_told(marker: str) -> None:
    column = typed_cells(["1.5", marker, "2", marker])
    assert column.values.to_pylist() == [1.5, None, 2, None]
    assert column.missing_as == {marker: 2}
    assert f"2 cells were taken as missing ('{marker}' 2)" in str(column.note)


@pytest.mark.parametrize("marker", ["0000-00-00", "?", "NaT", "-"])
def test_markers_among_dates(marker: str) -> None:
    for day in ("2023-01-13", "13/01/2023"):
        column = typed_cells([day, marker])
        assert column.values.to_pylist() == [date(2023, 1, 13), None]
        assert column.missing_as == {marker: 1}


def test_one_marker_in_thousands_of_numbers() -> None:
    column = typed_cells([*map(str, range(50_000)), "nil"])
    assert (column.type, column.missing_as) == ("number", {"nil": 1})


def test_markers_among_strings_are_strings() -> None:
    assert typed_cells(["red", "?", "none"]).values.to_pylist() == ["red", "?", "none"]
    assert typed_cells(["?", "-", "none"]).type == "category"


def test_what_is_missing_can_be_said() -> None:
    assert typed_cells(["1", "gone"], na_values=["gone"]).missing_as == {"gone": 1}
    assert typed_cells(["1", "-"], keep_na=["-"]).type == "category"


def test_cells_that_cannot_be_read_are_missing_where_that_is_asked_for() -> None:
    cells: list[str | None] = ["<0.5", "1", "2", "<0.5", "trace"]
    assert "'<0.5', one of 3 cells that are no number" in str(typed_cells(["3", *cells, "4"]).note)
    column = typed_cells(cells, wanted="number", on_error="missing")
    assert column.values.to_pylist() == [None, 1, 2, None, None]
    assert column.missing_as == {"<0.5": 2, "trace": 1}
    column = typed_cells(["13/01/2023", "soon"], wanted="datetime", on_error="missing")
    assert column.values.to_pylist() == [date(2023, 1, 13), None]
    column = typed_cells(["yes", "no", "perhaps"], wanted="boolean", on_error="missing")
    assert column.values.to_pylist() == [True, False, None]


# ---------------------------------------------------------------- the same reading


@pytest.mark.parametrize(
    ("trained_on", "cell", "value"),
    [
        (["1.037,5", "12.444"], "1.037", 1037),
        (["1.037,5", "12.444"], "1.5", 1.5),
        (["1,037.5", "12,444"], "2,000", 2000),
        (["$3,037.50", "$1,000"], "$5", 5),
        (["$3,037.50", "$1,000"], "5", 5),
        (["13/01/2023", "02/03/2023"], "03/04/2023", date(2023, 4, 3)),
        (["01/13/2023", "02/03/2023"], "03/04/2023", date(2023, 3, 4)),
        (["14:55", "3:05"], "1:00", 3600),
        (["14.30 Uhr", "9 Uhr"], "15.00 Uhr", 54000),
    ],
)
def test_one_cell_is_read_as_its_column_was(
    trained_on: list[str | None], cell: str, value: Any
) -> None:
    column = typed_cells(trained_on, ";")
    read = typed_cells([cell], ";", column.type, column.notation)
    assert read.values.to_pylist() == [value]


@pytest.mark.parametrize("cell", ["01.01.0001 00:00:00 +02:00", "31.12.9999 23:00:00 -02:00"])
def test_dates_outside_the_years_of_iso_are_no_dates(cell: str) -> None:
    assert typed_cells([cell] * 5, date_order="dmy").type == "category"
    with pytest.raises(InvalidData, match="is no datetime"):
        typed_cells([cell], wanted="datetime", date_order="dmy")


@pytest.mark.parametrize(
    ("cells", "values", "gone"),
    [
        (["5+", "3-4", "12a", "7", "8.5"], [None, None, None, 7, 8.5], 3),
        ([*["1.5", "2.5"] * 5, "61,5"], [*[1.5, 2.5] * 5, None], 1),
        (["12", "5,5", "7.5", "8"], [12, None, 7.5, 8], 1),
        (["£3.50", "$1.50", "$2.50", "$4"], [None, 1.5, 2.5, 4], 1),
        (["1.234,5", "3,5", "1,234.5", "1.234,6"], [1234.5, 3.5, None, 1234.6], 1),
        (["3 km", "5 kg", "6 kg", "7 kg"], [None, 5, 6, 7], 1),
    ],
)
def test_what_cannot_be_read_together_is_missing_where_that_is_asked_for(
    cells: list[str], values: list[Any], gone: int
) -> None:
    column = typed_cells(cells, ";", wanted="number", on_error="missing")
    assert column.values.to_pylist() == values
    assert sum(column.missing_as.values()) == gone


@pytest.mark.parametrize("odd", ["31/02/2023", "2023-01-05", "soon"])
def test_the_remedy_of_dates_that_are_not_all_dates_is_one(odd: str) -> None:
    cells = [odd, "01/02/2023", "15/03/2023", "04/05/2023"]
    column = typed_cells(cells)
    assert column.type == "category"
    assert "on_error=missing" in str(column.note)
    mended = typed_cells(cells, wanted="datetime", on_error="missing")
    assert mended.values.to_pylist() == [None, *(date(2023, m, d) for d, m in DAYS)]
    assert mended.missing_as == {odd: 1}


def test_true_and_false_beside_markers_are_booleans() -> None:
    column = typed_cells(["true", "?", "false", "TRUE"])
    assert column.values.to_pylist() == [True, None, False, True]
    assert column.missing_as == {"?": 1}
    assert typed_cells(["yes", "?", "no"]).type == "category"


def test_a_format_that_is_said_holds_before_others() -> None:
    column = typed_cells(["20210301100000"], date_format="%Y%m%d%H%M%S")
    assert column.values.to_pylist() == [datetime(2021, 3, 1, 10)]
    assert typed_cells(["13.04.2021", "1.5.2021"], date_format="%d/%m/%Y").type == "datetime"


def test_a_unit_that_differs_in_case_is_the_same() -> None:
    assert typed_cells(["12 kg", "7.5kg", "100 KG"]).values.to_pylist() == [12, 7.5, 100]


def test_strings_of_json_are_read_each_by_itself() -> None:
    learnt = Notation(decimal=",", thousands=".")
    cells: list[str | None] = ["1.037", "10.5", None, "1.037,5"]
    read = typed_cells(cells, None, wanted="number", notation=learnt)
    assert read.values.to_pylist() == [1037, 10.5, None, 1037.5]


@pytest.mark.parametrize(
    ("cells", "values", "unit"),
    [
        (["1.5 million", "2 million", "300 thousand"], [1.5e6, 2e6, 3e5], None),
        (["3 lakh", "1.5 crore"], [3e5, 1.5e7], None),
        ([" $12.00 ", " $(500.00)", " $ -   "], [12, -500, 0], "$"),
        (["€ (500,00)", "€ 3,50"], [-500, 3.5], "€"),
        (["(500,00) €", "3,50 €"], [-500, 3.5], "€"),
        (["10\uff05", "20.5\uff05"], [10, 20.5], "%"),
        (["1,234.5\u5186", "5\u5186"], [1234.5, 5], "\u5186"),
    ],
)
def test_amounts_of_reports(cells: list[str], values: list[float], unit: str | None) -> None:
    column = typed_cells(cells, ";")
    assert column.values.to_pylist() == values
    assert column.notation is not None
    assert column.notation.unit == unit


@pytest.mark.parametrize(
    ("usual", "other"), [("mW", "MW"), ("MB", "Mb"), ("mm", "Mm"), ("Mbit/s", "mbit/s")]
)
def test_capitals_that_mean_something_make_another_unit(usual: str, other: str) -> None:
    cells = [f"5 {usual}", f"3 {other}", f"2 {usual}"]
    column = typed_cells(cells)
    assert column.type == "category"
    assert f"'3 {other}', the only one" in str(column.note)
    with pytest.raises(InvalidData):
        typed_cells([f"3 {other}"], wanted="number", notation=Notation(unit=usual))


@pytest.mark.parametrize(
    ("cell", "value"), [("2.4M", 2.4e6), ("5k", 5000), ("900", 900), ("3 M", 3e6)]
)
def test_short_numbers_alone_are_read_by_a_model_of_such(cell: str, value: float) -> None:
    short = Notation(short=True)
    assert typed_cells([cell], ",", "number", short).values.to_pylist() == [value]
    together = typed_cells([cell, "7k"], None, "number", short)
    assert together.values.to_pylist() == [value, 7000]


def test_shares_of_a_model_without_percent_are_refused() -> None:
    column = pa.chunked_array([pa.array(["12%"])])
    for notation in (None, Notation(decimal=",")):
        known = Cells(notation=notation, of_model=True)
        with pytest.raises(InvalidData, match="'12%'"):
            typed_column("c", column, "number", place, has_types=True, cells=known)
    known = Cells(notation=Notation(unit="%"), of_model=True)
    read = typed_column("c", column, "number", place, has_types=True, cells=known)
    assert read.values.to_pylist() == [12]


def test_numbers_that_all_stand_in_brackets_are_none() -> None:
    assert typed_cells(["(1)", "(2)", "(3)"]).type == "category"
    assert typed_cells(["(1)", "2", "(3)"]).values.to_pylist() == [-1, 2, -3]
    assert typed_cells(["(1)", "(2)"], wanted="number").values.to_pylist() == [-1, -2]


@pytest.mark.parametrize("cells", [["14.30 Uhr", "15.00 Uhr"], ["14:30 Uhr", "15 Uhr"]])
def test_times_of_a_german_clock_are_seconds(cells: list[str]) -> None:
    column = typed_cells(cells)
    assert column.values.to_pylist() == [52200, 54000]
    assert column.notation is not None
    assert column.notation.unit == "s"


def test_the_remedy_of_times_that_are_not_all_times_is_one() -> None:
    cells: list[str | None] = ["14:30", "15:45", "abc", "16:00"]
    assert 'types={"c":"number"} and on_error=missing' in str(typed_cells(cells).note)
    mended = typed_cells(cells, wanted="number", on_error="missing")
    assert mended.values.to_pylist() == [52200, 56700, None, 57600]


def test_another_unit_than_the_models_is_none_of_its_numbers() -> None:
    metres = Notation(unit="m²")
    assert typed_cells(["62.5 M²"], wanted="number", notation=metres).values.to_pylist() == [62.5]
    assert typed_cells(["62.5"], wanted="number", notation=metres).values.to_pylist() == [62.5]
    for cell in ("62.5 ft²", "62.5 €", "62.5%", "$62.5"):
        with pytest.raises(InvalidData):
            typed_cells([cell], wanted="number", notation=metres)
    seconds = Notation(unit="s")
    assert typed_cells(["90m"], wanted="number", notation=seconds).values.to_pylist() == [5400]
    assert typed_cells(["90 min"], wanted="number", notation=seconds).values.to_pylist() == [5400]


def test_numbers_that_are_said_to_be_missing_are_so_however_they_are_written() -> None:
    column = typed_cells(["-999", "1.5", "-999.0", "-999.00"], na_values=("-999",))
    assert column.values.to_pylist() == [None, 1.5, None, None]
    numbers = pa.chunked_array([pa.array([1.5, -999.0])])
    known = Cells(CellOptions(na_values=("-999",)))
    found = typed_column("c", numbers, None, place, has_types=True, cells=known)
    assert found.values.to_pylist() == [1.5, None]
    assert found.missing_as == {"-999": 1}
    strings = pa.chunked_array([pa.array(["a", "-999", "b"])])
    found = typed_column("c", strings, None, place, has_types=True, cells=known)
    assert found.values.to_pylist() == ["a", None, "b"]
