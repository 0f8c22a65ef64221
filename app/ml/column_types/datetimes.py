"""Dates and times: days since the training part's mean, and the calendar as sines and cosines."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.ml.column_types import text_parsing
from app.ml.column_types.arrays import Floats, mask, matches, microseconds
from app.ml.column_types.base import ColumnType, Put, Width
from app.ml.column_types.canonical import canonical_datetime, iso
from app.ml.column_types.cells import Distinct, Found, Open, set_apart
from app.ml.column_types.fitted import FittedPart, Matrix
from app.ml.column_types.notations import datetimes
from app.ml.column_types.notations.notation import Cells, Undecided
from app.ml.column_types.scales import standard
from app.ml.column_types.spread import QUANTILES, distinct, histogram, quantile
from app.ml.column_types.text_parsing import moments
from app.ml.specs import PreprocessingSpec

DAY_MICROSECONDS = 86_400_000_000
_EPOCH = datetime(1970, 1, 1)
COMPACT_DATE = r"^(19|20|21)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])$"


class DatetimeFeature(FittedPart):
    """Days since the training part's mean by their spread, and where in the year, the month, the
    week (and with ``time`` the day) it is, each as sine and cosine; missing is all zeros."""

    type: Literal["datetime"] = "datetime"
    name: str
    center: float
    scale: float
    time: bool
    indicator: bool

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return datetime_width(self.time) + self.indicator

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width), which holds zeros, from dates or timestamps."""
        moments = microseconds(pc.fill_null(column, 0))
        parts = [(moments / DAY_MICROSECONDS - self.center) / self.scale]
        for share in _cycles(moments, time=self.time):
            parts += [np.sin(2 * np.pi * share), np.cos(2 * np.pi * share)]
        for place, part in enumerate(parts):
            out[:, place] = part
        if column.null_count:
            missing = mask(pc.is_null(column))
            out[missing] = 0
            if self.indicator:
                out[:, -1] = missing

    def put(self, at: int) -> Put:
        """Return what encodes one value of JSON into a row, from column ``at`` on, bit for bit as
        ``encode`` does."""
        """Encodes a column of one: calendars are Arrow's and numpy's affair."""

        def put(value: Any, out: list[float]) -> bool:
            if value is not None and type(value) is not str:
                return False
            column = moments([value])
            if column is None:
                return False
            part = np.zeros((1, self.width), np.float32)
            self.encode(pa.chunked_array([column]), part)
            out[at : at + self.width] = part[0].tolist()
            return bool(np.isfinite(part).all())

        return put


class Datetime(ColumnType):
    """Dates without a time of day, or moments, in UTC where zones were given."""

    name = "datetime"
    arrow = pa.timestamp("us")
    example = "an ISO 8601 date like 2026-11-23T09:30:00Z"
    written = "an ISO 8601 date like 2026-11-23 or 2026-11-23T09:30:00Z"
    plain = r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+(Z|[+-][0-9:]+)?)?\s*$"
    begins = datetimes.ANY

    def read_plain(self, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """Return ISO 8601 as dates or moments, all of them with a zone or none."""
        return text_parsing.datetimes(column)

    def read_asked(self, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """Return ISO 8601 as dates or moments, with zones or without."""
        return text_parsing.mixed_datetimes(column)

    def profile(self, column: pa.ChunkedArray, detailed: bool) -> dict[str, Any]:
        """Return ends, quantiles and a histogram; ``time`` says whether there are times of day,
        ``zone`` whether zones were given."""
        days = pa.types.is_date32(column.type)
        zoned = not days and column.type.tz is not None
        values = np.sort(
            pc.cast(pc.cast(column.drop_null(), pa.timestamp("us")), pa.int64()).to_numpy()
        )

        def text(microseconds: int) -> str | None:
            moment = _EPOCH + timedelta(microseconds=microseconds)
            value: date | datetime = moment.replace(tzinfo=UTC) if zoned else moment
            return iso(moment.date() if days else value)

        facts: dict[str, Any] = {
            "distinct": distinct(values),
            "time": not days,
            "zone": "UTC" if zoned else None,
            "min": text(int(values[0])) if len(values) else None,
            "max": text(int(values[-1])) if len(values) else None,
        }
        if detailed and len(values):
            first = int(values[0])  # counted from here, floats are exact for 285 years
            since = values - first

            def near(microseconds: float) -> str | None:
                return text(first + min(round(microseconds), int(since[-1])))

            facts["quantiles"] = {f"{q:g}": near(quantile(since, q) or 0) for q in QUANTILES}
            edges, counts = histogram(since)
            facts["histogram"] = {"edges": [near(edge) for edge in edges], "counts": counts}
        return facts

    def fit(self, name: str, column: pa.ChunkedArray, spec: PreprocessingSpec) -> DatetimeFeature:
        """Return the feature; only moments have a time of day."""
        days = microseconds(column.drop_null()) / DAY_MICROSECONDS
        center, scale = standard(days) if len(days) else (0.0, 1.0)
        return DatetimeFeature(
            name=name,
            center=center,
            scale=scale,
            time=pa.types.is_timestamp(column.type),
            indicator=column.null_count > 0,
        )

    def width(self, column: dict[str, Any], spec: PreprocessingSpec) -> Width:
        """Return the calendar's numbers, and a mark of gaps."""
        numbers = datetime_width(column["time"])
        return Width(numbers + bool(column["missing"]), numbers)

    def misfits(self, values: Sequence[Any]) -> list[int]:
        """Return the places of values that are no ISO 8601."""
        wrong = super().misfits(values)
        if not wrong and moments(values) is None:
            wrong = [i for i, value in enumerate(values) if moments([value]) is None]
        return wrong

    def array(self, values: list[Any]) -> pa.Array:
        """Return ISO 8601 as moments in UTC ``(values,)``."""
        return moments(values)


def datetime_width(time: bool) -> int:
    """Return how many columns a datetime without gaps has."""
    return 1 + 2 * (4 if time else 3)


def _cycles(moments: NDArray[np.int64], *, time: bool) -> list[Floats]:
    """How much of its year, month, week and day has passed at each moment, from 0 to 1."""
    days = moments.astype("datetime64[us]").astype("datetime64[D]")
    shares = []
    for unit in ("Y", "M"):
        start = days.astype(f"datetime64[{unit}]")
        length = (start + 1).astype("datetime64[D]") - start.astype("datetime64[D]")
        shares.append((days - start.astype("datetime64[D]")) / length)
    weekday = (days.astype(np.int64) + 3) % 7  # 1970 began on a Thursday
    shares.append(weekday / 7)
    return [*shares, moments % DAY_MICROSECONDS / DAY_MICROSECONDS] if time else shares


# ---------------------------------------------------------------- other notations


def _datetimes(distinct: Distinct, known: Cells, asked: bool) -> Found | Open | None:
    if (apart := set_apart(distinct, "datetime", known)) is None:
        return None
    rest, gone = apart
    if not asked and (found := compact(distinct, rest, gone)) is not None:
        return found
    if not known.options.date_format and gone:  # plain but for the markers
        whole = pa.chunked_array([rest])
        plainly = text_parsing.mixed_datetimes if asked else text_parsing.datetimes
        if (values := plainly(whole)) is not None:
            column = distinct.rows(values.combine_chunks())
            return Found("datetime", column, None, gone)
    dates = datetimes.recognise(rest, known, asked)
    if dates is None:
        return None
    if isinstance(dates, Undecided):
        return Open("date_order", rest.drop_null()[0].as_py()[:64])
    column = _within_years(distinct.rows(dates.values))
    return None if column is None else Found("datetime", column, dates.notation, gone)


def compact(distinct: Distinct, rest: pa.Array, gone: dict[str, int]) -> Found | None:
    """Return cells like 20210301 as dates where that is beyond doubt."""
    if not pc.all(matches(rest, COMPACT_DATE), min_count=0).as_py():
        return None
    if (dates := datetimes.compact(rest)) is None:
        return None
    column = _within_years(distinct.rows(dates.values))
    return None if column is None else Found("datetime", column, dates.notation, gone)


def _within_years(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return dates in their canonical form; None where one is before the year 1 or beyond 9999."""
    try:
        return canonical_datetime(column)
    except pa.ArrowInvalid:
        return None


Datetime.readers = (_datetimes,)
