"""Dates and times as people write them: read as they are meant, or left a category with a warning
that names the option."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidData
from app.ml.column_types.notations.notation import Notation
from tests.support.cells import typed_cells, typed_table

DAYS = ((1, 2), (15, 3), (4, 5))


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
    column = typed_cells([*cells, None])
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
    assert typed_cells(cells).type == "category"


def test_a_date_that_can_be_two_days_is_a_category_that_names_the_option() -> None:
    cells: list[str | None] = ["03/04/2023", "05/06/2023"]
    assert "send date_order=dmy or date_order=mdy" in str(typed_cells(cells).note)
    assert typed_cells(cells, date_order="dmy").values[0].as_py() == date(2023, 4, 3)
    assert typed_cells(cells, date_order="mdy").values[0].as_py() == date(2023, 3, 4)
    assert typed_cells(cells, date_format="%m/%d/%Y").values[0].as_py() == date(2023, 3, 4)
    decided = typed_table(a=["03/04/2023", "05/06/2023"], b=["13/04/2023", "05/06/2023"]).table
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
    assert typed_cells(cells).type == "number"
    assert typed_cells(cells, wanted="datetime").values[0].as_py() == first


FORMS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%y", "%d %B %Y", "%b %d, %Y"),
    *("%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d.%m.%Y %H:%M:%S", "%Y%m%d", "%B %Y"),
)


@given(st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2068, 1, 1)), min_size=1), st.data())
def test_random_dates_read_back_equal_or_are_no_dates(moments: list[datetime], data: Any) -> None:
    form = data.draw(st.sampled_from(FORMS))
    cells: list[str | None] = [moment.strftime(form) for moment in moments]
    column = typed_cells(cells)
    if column.type == "datetime":
        expected = [datetime.strptime(str(cell), form) for cell in cells]
        found = [datetime.fromisoformat(value.isoformat()) for value in column.values.to_pylist()]
        assert found == expected
    else:
        assert column.note is not None or form == "%Y%m%d"


def test_dates_with_dots_begin_with_the_day_whatever_those_of_a_model_do() -> None:
    american = Notation(date_order="mdy", date_format="%m/%d/%Y")
    (day,) = typed_cells(["03.04.2023"], wanted="datetime", notation=american).values.to_pylist()
    assert day == date(2023, 4, 3)
    (day,) = typed_cells(["03/04/2023"], wanted="datetime", notation=american).values.to_pylist()
    assert day == date(2023, 3, 4)


@pytest.mark.parametrize("odd", ["20210231", "20191331", "99999999"])
def test_one_impossible_day_makes_no_seconds_of_the_others(odd: str) -> None:
    cells = [*(f"202103{day:02d}" for day in range(1, 12)), odd]
    with pytest.raises(InvalidData, match=odd):
        typed_cells(cells, wanted="datetime")
    mended = typed_cells(cells, wanted="datetime", on_error="missing")
    assert mended.values.to_pylist() == [*(date(2021, 3, day) for day in range(1, 12)), None]
    assert mended.missing_as == {odd: 1}


def test_the_day_first_without_marks_is_no_second_either() -> None:
    with pytest.raises(InvalidData, match="28112021"):
        typed_cells(["28112021", "01022021"], wanted="datetime")


@pytest.mark.parametrize(
    ("usual", "odd"),
    [
        ([f"01/{day}/2023" for day in range(1, 31)], "13/01/2023"),
        ([f"{day}.02.2023" for day in range(10, 20)], "02/25/2023"),
        ([f"2023-01-{day}" for day in range(10, 20)], "13.02.2023"),
        ([f"{day} March 2023" for day in range(10, 20)], "Q1 2023"),
    ],
)
@pytest.mark.parametrize("place", [0, 5, -1])
def test_a_day_unlike_the_others_is_missing_where_misfits_may_be(
    usual: list[str], odd: str, place: int
) -> None:
    cells = [*usual]
    cells.insert(place % len(cells), odd)
    found = typed_cells(cells, wanted="datetime", on_error="missing")
    assert found.type == "datetime"
    assert found.missing_as == {odd: 1}
    alone = typed_cells(usual, wanted="datetime")
    kept = [value for value in found.values.to_pylist() if value is not None]
    assert kept == alone.values.to_pylist()
