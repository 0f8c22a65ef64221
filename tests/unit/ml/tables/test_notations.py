"""Cells as people write them: read as they are meant, or left a category with a warning that names
the option."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidData
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.notations.notation import CellOptions, Cells, Evidence, Notation
from app.ml.tables.columns import TypedColumn, typed_column
from app.ml.tables.typed import TypedTable, Wanted, assemble


def place(name: str, row: int) -> tuple[str, str]:
    return f"line {row + 2}", f"/line/{row + 2}/{name}"


def typed(
    cells: Sequence[str | None],
    delimiter: str = ",",
    wanted: TypeName | None = None,
    notation: Notation | None = None,
    **options: Any,
) -> TypedColumn:
    known = Cells(CellOptions(**options), Evidence(delimiter), notation)
    column = pa.chunked_array([pa.array(cells, pa.string())])
    return typed_column("c", column, wanted, place, has_types=False, cells=known)


DAYS = ((1, 2), (15, 3), (4, 5))


def table(delimiter: str = ";", **columns: list[str]) -> TypedTable:
    chunked = {name: pa.chunked_array([pa.array(cells)]) for name, cells in columns.items()}
    return assemble(chunked, Wanted(), place, has_types=False, delimiter=delimiter)


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
    column = typed([*cells, None])
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
    assert typed(cells).type == "category"


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
    assert typed(["1,037", "2,074"], delimiter, **options).values.to_pylist() == values


def test_a_comma_that_nothing_decides_is_a_category_that_names_the_option() -> None:
    column = typed(["1,037", "2,074"], ";")
    assert column.type == "category"
    assert "send decimal=. or decimal=," in str(column.note)
    with pytest.raises(InvalidData) as caught:
        typed(["1,037", "2,074"], ";", "number")
    assert caught.value.errors[0].pointer == "/decimal"


def test_another_column_decides() -> None:
    found = table(a=["1.037", "2.074"], b=["0,5", "1,25"], c=["1,037", "2,500"]).table
    assert found["a"].to_pylist() == [1037, 2074]
    assert found["b"].to_pylist() == [0.5, 1.25]
    assert found["c"].to_pylist() == [1.037, 2.5]
    found = table(a=["1.037", "2.074"], b=["0.5", "1.25"], c=["1,037", "2,500"]).table
    assert found["a"].to_pylist() == [1.037, 2.074]
    assert found["c"].to_pylist() == [1037, 2500]
    both = table(a=["1.037", "2.074"], b=["0.5", "1.25"], c=["0,5", "1,25"])
    assert both.types["a"] == "number"
    assert "exactly three digits" in both.notes[0]


def test_dots_before_three_digits_throughout_are_warned_of_where_commas_are_likely() -> None:
    alone = table(a=["1.037", "2.074"], b=["x", "y"])
    assert alone.table["a"].to_pylist() == [1.037, 2.074]
    assert "send decimal=," in alone.notes[0]
    assert table(",", a=["1.037", "2.074"], b=["x", "y"]).notes == []


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
        column = typed(cells, delimiter)
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
        (["10%", "0.5", "20%"], "without separators or units"),
        (["10 kg", "5 lbs", "7 kg"], "in one unit"),
        (["Dec-21", "Jan-22"], "date_format=%b-%y"),
        (["21-Dec", "22-Jan"], "date_format=%b-%y"),
    ],
)
def test_what_may_mean_two_things_is_a_category_that_says_what_to_do(
    cells: list[str], said: str
) -> None:
    column = typed(cells)
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
    column = typed(cells)
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
    column = typed(cells, ";")
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
    column = typed(cells)
    assert column.values.to_pylist() == as_hours
    assert ("date_format=%M:%S" in str(column.note)) == told
    said = typed(cells, date_format="%M:%S")
    assert (said.values.to_pylist(), said.note) == (as_minutes, None)
    learnt = typed(cells, wanted="number", notation=said.notation)
    assert learnt.values.to_pylist() == as_minutes
    hours = typed(cells, date_format="%H:%M")
    assert (hours.values.to_pylist(), hours.note) == (as_hours, None)


def test_years_of_two_digits_that_lie_ahead_are_told() -> None:
    born = typed(["24.12.45", "13.01.71", "05.05.03"])
    assert [value.year for value in born.values.to_pylist()] == [2045, 1971, 2003]
    assert "1969 to 2068" in str(born.note)
    assert typed(["24.12.21", "13.01.71"]).note is None
    assert typed(["1. Ma\u0308rz 2021"]).type == "datetime", "accents may be composed"
    assert "1969 to 2068" in str(typed(["01-Jan-30", "05-Mar-75", "17-Dec-52"]).note)


def test_years_of_two_digits_come_first_or_last() -> None:
    by_day = [f"{day:02}-03-{year}" for day in range(1, 20) for year in (21, 22)]
    assert typed(by_day).values[0].as_py() == date(2021, 3, 1)
    by_year = [f"{year}-03-{day:02}" for day in range(1, 20) for year in (21, 22)]
    assert typed(by_year).values[0].as_py() == date(2021, 3, 1)
    open_ = typed(["21-03-04", "21-03-31", "20-12-28"])
    assert open_.type == "category"
    assert "date_order=ymd" in str(open_.note)
    assert typed(["21-03-31"], date_order="ymd").values[0].as_py() == date(2021, 3, 31)
    assert typed(["21.03.31"]).values[0].as_py() == date(2031, 3, 21)


def test_a_format_with_a_zone() -> None:
    said = CellOptions(date_format="%d/%m/%Y %H:%M %z")
    column = typed(
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
    assert typed(cells).type == "category"


# ---------------------------------------------------------------- dates


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["13/01/2023", "02/03/2023"], [date(2023, 1, 13), date(2023, 3, 2)]),
        (["1Q21", "4Q2022"], [date(2021, 1, 1), date(2022, 10, 1)]),
        (["Q1-21", "Q2-22"], [date(2021, 1, 1), date(2022, 4, 1)]),
        (["2021年3月1日", "2021年12月24日"], [date(2021, 3, 1), date(2021, 12, 24)]),
        (
            ["Mon Mar  1 14:55:00 2021", "Tue Mar 02 01:02:03 2021"],
            [datetime(2021, 3, 1, 14, 55), datetime(2021, 3, 2, 1, 2, 3)],
        ),
        (
            ["Mon Mar 01 14:55:00 +0100 2021", "Tue Mar 02 01:02:03 +0000 2021"],
            [datetime(2021, 3, 1, 13, 55, tzinfo=UTC), datetime(2021, 3, 2, 1, 2, 3, tzinfo=UTC)],
        ),
        (
            ["20210301T145500", "20210302T0102"],
            [datetime(2021, 3, 1, 14, 55), datetime(2021, 3, 2, 1, 2)],
        ),
        (["01/13/2023", "02/03/2023"], [date(2023, 1, 13), date(2023, 2, 3)]),
        (["2023/1/13", "2023/2/3"], [date(2023, 1, 13), date(2023, 2, 3)]),
        (["3.4.2023", "5.6.2023"], [date(2023, 4, 3), date(2023, 6, 5)]),
        (["13-01-23", "02-03-69"], [date(2023, 1, 13), date(1969, 3, 2)]),
        (["5/5/2023", "6/6/2023"], [date(2023, 5, 5), date(2023, 6, 6)]),
        (["Jan 1 2000", "February 2, 2001"], [date(2000, 1, 1), date(2001, 2, 2)]),
        (["1 Jan 2000", "2nd of March 2001"], [date(2000, 1, 1), date(2001, 3, 2)]),
        (["01-JAN-2000", "02-MAR-2001"], [date(2000, 1, 1), date(2001, 3, 2)]),
        (["1. März 2021", "3. Mai 2021"], [date(2021, 3, 1), date(2021, 5, 3)]),
        (["1 août 2021", "3 février 2021"], [date(2021, 8, 1), date(2021, 2, 3)]),
        (["1 de enero de 2021", "3 de agosto de 2021"], [date(2021, 1, 1), date(2021, 8, 3)]),
        (["5 sty 2023", "7 lutego 2023"], [date(2023, 1, 5), date(2023, 2, 7)]),
        (["5. ledna 2023", "7. listopadu 2023"], [date(2023, 1, 5), date(2023, 11, 7)]),
        (["5 января 2023 г.", "7 дек. 2023"], [date(2023, 1, 5), date(2023, 12, 7)]),
        (["5 жовтня 2023", "7 липня 2023"], [date(2023, 10, 5), date(2023, 7, 7)]),
        (["5 Şubat 2023", "7 Ağustos 2023"], [date(2023, 2, 5), date(2023, 8, 7)]),
        (["5. tammikuuta 2023", "7. maaliskuuta 2023"], [date(2023, 1, 5), date(2023, 3, 7)]),
        (["5 maj 2023", "7. desember 2023"], [date(2023, 5, 5), date(2023, 12, 7)]),
        (["2000 Jan 1", "2001 Feb 2"], [date(2000, 1, 1), date(2001, 2, 2)]),
        (["Jan 2000", "Feb 2001"], [date(2000, 1, 1), date(2001, 2, 1)]),
        (["2019-01", "2019-12"], [date(2019, 1, 1), date(2019, 12, 1)]),
        (["01/2019", "12/2019"], [date(2019, 1, 1), date(2019, 12, 1)]),
        (["2019Q1", "2019 Q4"], [date(2019, 1, 1), date(2019, 10, 1)]),
        (["Q1 2019", "Q4/2019"], [date(2019, 1, 1), date(2019, 10, 1)]),
        (["2019-W05", "2020-W53"], [date(2019, 1, 28), date(2020, 12, 28)]),
        (
            ["03.04.2023 14:55", "05.06.2023 01:02:03"],
            [datetime(2023, 4, 3, 14, 55), datetime(2023, 6, 5, 1, 2, 3)],
        ),
        (
            ["1/13/2021 3:04 PM", "2/3/2021 12:00 AM"],
            [datetime(2021, 1, 13, 15, 4), datetime(2021, 2, 3)],
        ),
        (
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Mon, 07 Nov 1994 08:49:37 GMT"],
            [datetime(1994, 11, day, 8, 49, 37, tzinfo=UTC) for day in (6, 7)],
        ),
        (
            ["2021-01-01 00:00:00 EST", "2021-01-02 00:00:00 +0100"],
            [datetime(2021, 1, 1, 5, tzinfo=UTC), datetime(2021, 1, 1, 23, tzinfo=UTC)],
        ),
        (
            ["2023-01-05 10:00 Europe/Berlin", "2023-07-05T10:00:00 america/new_york"],
            [datetime(2023, 1, 5, 9, tzinfo=UTC), datetime(2023, 7, 5, 14, tzinfo=UTC)],
        ),
        (
            [f"202103{day:02d}" for day in range(1, 7)],
            [date(2021, 3, day) for day in range(1, 7)],
        ),
    ],
)
def test_dates_in_other_notations(cells: list[str], values: list[Any]) -> None:
    column = typed([*cells, None])
    assert column.type == "datetime"
    assert column.values.to_pylist() == [*values, None]
    assert column.note is None


@pytest.mark.parametrize(
    "cells",
    [
        ["31/02/2023", "30/02/2023"],
        ["13/13/2023", "01/01/2023"],
        ["01/02/2023", "02-02-2023"],
        ["May", "June"],
        ["2012-13", "2013-14"],
        ["2000-01", "2001-02", "2002-03"],  # seasons
        ["2023-01-05 10:00 Europe/Nowhere", "2023-01-06 10:00 Europe/Nowhere"],
        ["Foo 2021", "Bar 2022"],
        ["2021-01-01 25:00", "2021-01-02 01:00"],
        ["2021-01-01 10:00 XYZ", "2021-01-02 01:00 XYZ"],
        ["13/01/2023 10:00 UTC", "14/01/2023 10:00"],
    ],
)
def test_what_is_no_date(cells: list[str]) -> None:
    assert typed(cells).type == "category"


def test_a_date_that_can_be_two_days_is_a_category_that_names_the_option() -> None:
    cells: list[str | None] = ["03/04/2023", "05/06/2023"]
    assert "send date_order=dmy or date_order=mdy" in str(typed(cells).note)
    assert typed(cells, date_order="dmy").values[0].as_py() == date(2023, 4, 3)
    assert typed(cells, date_order="mdy").values[0].as_py() == date(2023, 3, 4)
    assert typed(cells, date_format="%m/%d/%Y").values[0].as_py() == date(2023, 3, 4)
    decided = table(a=["03/04/2023", "05/06/2023"], b=["13/04/2023", "05/06/2023"]).table
    assert decided["a"].to_pylist()[0] == date(2023, 4, 3)


@pytest.mark.parametrize(
    ("cells", "first"),
    [
        (["1614556800", "1614556801"], datetime(2021, 3, 1)),
        (["1614556800000", "1614556801000"], datetime(2021, 3, 1)),
        (["1614556800.5", "1614556801"], datetime(2021, 3, 1, 0, 0, 0, 500_000)),
        (["20210301", "20210302"], date(2021, 3, 1)),
    ],
)
def test_numbers_are_dates_where_that_is_asked_for(cells: list[str | None], first: Any) -> None:
    assert typed(cells).type == "number"
    assert typed(cells, wanted="datetime").values[0].as_py() == first


FORMS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%y", "%d %B %Y", "%b %d, %Y"),
    *("%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d.%m.%Y %H:%M:%S", "%Y%m%d", "%B %Y"),
)


@given(st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2068, 1, 1)), min_size=1), st.data())
def test_random_dates_read_back_equal_or_are_no_dates(moments: list[datetime], data: Any) -> None:
    form = data.draw(st.sampled_from(FORMS))
    cells: list[str | None] = [moment.strftime(form) for moment in moments]
    column = typed(cells)
    if column.type == "datetime":
        expected = [datetime.strptime(str(cell), form) for cell in cells]
        found = [datetime.fromisoformat(value.isoformat()) for value in column.values.to_pylist()]
        assert found == expected
    else:
        assert column.note is not None or form == "%Y%m%d"


# ---------------------------------------------------------------- missing


@pytest.mark.parametrize(
    "marker",
    [
        *("?", "-", "--", ".", "N.A.", "None", "nil", "NaT", "#DIV/0!", "\\N", "  ", "k.A.", "*"),
        *("unknown", "(null)", "n/a", "\u2014", "inf"),
    ],
)
def test_markers_among_numbers_are_missing_and_told(marker: str) -> None:
    column = typed(["1.5", marker, "2", marker])
    assert column.values.to_pylist() == [1.5, None, 2, None]
    assert column.missing_as == {marker: 2}
    assert f"2 cells were taken as missing ('{marker}' 2)" in str(column.note)


@pytest.mark.parametrize("marker", ["0000-00-00", "?", "NaT", "-"])
def test_markers_among_dates(marker: str) -> None:
    for day in ("2023-01-13", "13/01/2023"):
        column = typed([day, marker])
        assert column.values.to_pylist() == [date(2023, 1, 13), None]
        assert column.missing_as == {marker: 1}


def test_one_marker_in_thousands_of_numbers() -> None:
    column = typed([*map(str, range(50_000)), "nil"])
    assert (column.type, column.missing_as) == ("number", {"nil": 1})


def test_markers_among_strings_are_strings() -> None:
    assert typed(["red", "?", "none"]).values.to_pylist() == ["red", "?", "none"]
    assert typed(["?", "-", "none"]).type == "category"


def test_what_is_missing_can_be_said() -> None:
    assert typed(["1", "gone"], na_values=["gone"]).missing_as == {"gone": 1}
    assert typed(["1", "-"], keep_na=["-"]).type == "category"


def test_cells_that_cannot_be_read_are_missing_where_that_is_asked_for() -> None:
    cells: list[str | None] = ["<0.5", "1", "2", "<0.5", "trace"]
    assert "'<0.5', one of 3 cells that are no number" in str(typed(["3", *cells, "4"]).note)
    column = typed(cells, wanted="number", on_error="missing")
    assert column.values.to_pylist() == [None, 1, 2, None, None]
    assert column.missing_as == {"<0.5": 2, "trace": 1}
    column = typed(["13/01/2023", "soon"], wanted="datetime", on_error="missing")
    assert column.values.to_pylist() == [date(2023, 1, 13), None]
    column = typed(["yes", "no", "perhaps"], wanted="boolean", on_error="missing")
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
    ],
)
def test_one_cell_is_read_as_its_column_was(
    trained_on: list[str | None], cell: str, value: Any
) -> None:
    column = typed(trained_on, ";")
    read = typed([cell], ";", column.type, column.notation)
    assert read.values.to_pylist() == [value]


@pytest.mark.parametrize("cell", ["01.01.0001 00:00:00 +02:00", "31.12.9999 23:00:00 -02:00"])
def test_dates_outside_the_years_of_iso_are_no_dates(cell: str) -> None:
    assert typed([cell] * 5, date_order="dmy").type == "category"
    with pytest.raises(InvalidData, match="is no datetime"):
        typed([cell], wanted="datetime", date_order="dmy")


@pytest.mark.parametrize(
    ("cells", "values", "gone"),
    [
        (["5+", "3-4", "12a", "7", "8.5"], [None, None, None, 7, 8.5], 3),
        ([*["1.5", "2.5"] * 5, "61,5"], [*[1.5, 2.5] * 5, None], 1),
        (["12", "5,5", "7.5", "8"], [12, None, 7.5, 8], 1),
    ],
)
def test_what_cannot_be_read_together_is_missing_where_that_is_asked_for(
    cells: list[str], values: list[Any], gone: int
) -> None:
    column = typed(cells, ";", wanted="number", on_error="missing")
    assert column.values.to_pylist() == values
    assert sum(column.missing_as.values()) == gone


@pytest.mark.parametrize("odd", ["31/02/2023", "2023-01-05", "soon"])
def test_the_remedy_of_dates_that_are_not_all_dates_is_one(odd: str) -> None:
    cells = [odd, "01/02/2023", "15/03/2023", "04/05/2023"]
    column = typed(cells)
    assert column.type == "category"
    assert "on_error=missing" in str(column.note)
    mended = typed(cells, wanted="datetime", on_error="missing")
    assert mended.values.to_pylist() == [None, *(date(2023, m, d) for d, m in DAYS)]
    assert mended.missing_as == {odd: 1}


def test_true_and_false_beside_markers_are_booleans() -> None:
    column = typed(["true", "?", "false", "TRUE"])
    assert column.values.to_pylist() == [True, None, False, True]
    assert column.missing_as == {"?": 1}
    assert typed(["yes", "?", "no"]).type == "category"


def test_a_format_that_is_said_holds_before_others() -> None:
    column = typed(["20210301100000"], date_format="%Y%m%d%H%M%S")
    assert column.values.to_pylist() == [datetime(2021, 3, 1, 10)]
    assert typed(["13.04.2021", "1.5.2021"], date_format="%d/%m/%Y").type == "datetime"


def test_a_unit_that_differs_in_case_is_the_same() -> None:
    assert typed(["12 kg", "7.5kg", "100 KG"]).values.to_pylist() == [12, 7.5, 100]


def test_another_unit_than_the_models_is_none_of_its_numbers() -> None:
    metres = Notation(unit="m²")
    assert typed(["62.5 M²"], wanted="number", notation=metres).values.to_pylist() == [62.5]
    assert typed(["62.5"], wanted="number", notation=metres).values.to_pylist() == [62.5]
    for cell in ("62.5 ft²", "62.5 €", "62.5%", "$62.5"):
        with pytest.raises(InvalidData):
            typed([cell], wanted="number", notation=metres)
    seconds = Notation(unit="s")
    assert typed(["90m"], wanted="number", notation=seconds).values.to_pylist() == [5400]
    assert typed(["90 min"], wanted="number", notation=seconds).values.to_pylist() == [5400]


def test_numbers_that_are_said_to_be_missing_are_so_however_they_are_written() -> None:
    column = typed(["-999", "1.5", "-999.0", "-999.00"], na_values=("-999",))
    assert column.values.to_pylist() == [None, 1.5, None, None]
    numbers = pa.chunked_array([pa.array([1.5, -999.0])])
    known = Cells(CellOptions(na_values=("-999",)))
    found = typed_column("c", numbers, None, place, has_types=True, cells=known)
    assert found.values.to_pylist() == [1.5, None]
    assert found.missing_as == {"-999": 1}
    strings = pa.chunked_array([pa.array(["a", "-999", "b"])])
    found = typed_column("c", strings, None, place, has_types=True, cells=known)
    assert found.values.to_pylist() == ["a", None, "b"]
