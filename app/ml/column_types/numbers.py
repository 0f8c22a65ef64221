"""Numbers: standardised, or their places among the training part's quantiles."""

import sys
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.ml.column_types import text_parsing
from app.ml.column_types.arrays import Floats, floats, hits, matches
from app.ml.column_types.base import ColumnType, Put, Width
from app.ml.column_types.canonical import whole_as_integers
from app.ml.column_types.cells import Distinct, Found, Open, set_apart
from app.ml.column_types.datetimes import COMPACT_DATE, compact
from app.ml.column_types.fitted import FittedPart, Matrix
from app.ml.column_types.notations import durations, magnitudes, numbers
from app.ml.column_types.notations.notation import (
    Cells,
    Notation,
    Undecided,
    times_of_format,
)
from app.ml.column_types.scales import SCALERS
from app.ml.column_types.spread import QUANTILES, distinct, histogram, quantile
from app.ml.finite import LARGEST_FLOAT32, finite, finite_values
from app.ml.specs import PreprocessingSpec

_MOST_KNOTS = 1_000
"""Quantiles that a column is scaled by."""
_LEAST = 1e-290
"""Between quantiles that are closer to 0 lines would rise beyond float64."""
_HEAD = 400
"""Rows that tell whether numbers may be dates like 20210301."""


class NumberFeature(FittedPart):
    """``(value - center) / scale``; missing becomes ``fill``, told apart by an indicator column.

    With ``knots`` (``quantile``) a value becomes the normal score of its place among the training
    part's quantiles first, linear between them, as scikit-learn's QuantileTransformer does.
    """

    type: Literal["number"] = "number"
    name: str
    center: float
    scale: float
    fill: float
    indicator: bool
    knots: list[float] | None = None
    scores: list[float] | None = None

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return 1 + self.indicator

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value that float32 holds once it is scaled."""
        reach = min(self.scale * float(np.finfo(np.float32).max), sys.float_info.max / 2)
        return self.center - reach, self.center + reach

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width), which holds zeros, from a numeric column."""
        values = floats(column)
        if column.null_count:
            missing = np.isnan(values)
            values = np.where(missing, self.fill, values)
            if self.indicator:
                out[:, 1] = missing
        if self.knots is not None:
            values = np.interp(values, self.knots, self.scores or [])
        np.divide(values - self.center, self.scale, out=out[:, 0], casting="same_kind")

    def put(self, at: int) -> Put:
        """Return what encodes one value of JSON into a row, from column ``at`` on, bit for bit as
        ``encode`` does."""
        center, scale, fill, indicator = self.center, self.scale, self.fill, self.indicator
        knots = None if self.knots is None else np.array(self.knots)
        scores = np.array(self.scores or [])

        def put(value: Any, out: list[float]) -> bool:
            kind = type(value)
            if kind is float or kind is int:
                if not -sys.float_info.max <= value <= sys.float_info.max:  # NaN is not either
                    return False
                value = float(value)
            elif value is None:
                value = fill
                if indicator:
                    out[at + 1] = 1.0
            else:
                return False
            if knots is not None:
                value = float(np.interp(value, knots, scores))
            scaled: float = (value - center) / scale
            out[at] = scaled
            return -LARGEST_FLOAT32 < scaled < LARGEST_FLOAT32

        return put


class Number(ColumnType):
    """Numbers, as JSON has them or as people write them."""

    name = "number"
    arrow = pa.float64()
    datatype = "FP64"
    example = "a number"
    written = "written like 1234.5, without separators or units"
    plain = r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"
    begins = f"{numbers.ANY}|^-?[Pp]T?[0-9]"

    def read_plain(self, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """Return strings as numbers; ``001`` is none."""
        return text_parsing.numbers(column, codes=False)

    def read_asked(self, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """Return strings as numbers, ``001`` as 1."""
        return text_parsing.numbers(column)

    def of_plain(self, column: pa.ChunkedArray, values: pa.ChunkedArray, known: Cells) -> Found:
        """Numbers that Arrow reads may yet be meant otherwise: 1.037 for a thousand, 20210301."""
        if pa.types.is_integer(values.type):
            head = column.slice(0, _HEAD)
            if pc.all(matches(head, COMPACT_DATE), min_count=0).as_py():
                distinct = Distinct(column)
                if (dates := compact(distinct, distinct.cells, {})) is not None:
                    return dates
            return Found("number", values)
        said = "," in (known.evidence.decimal, known.options.decimal)
        said = said or known.options.thousands == "."
        if known.evidence.delimiter in (",", None) and not said:
            return Found("number", values, decimal=".")
        if not numbers.looks_like_thousands(column):
            return Found("number", values, decimal=".")
        decimal = known.options.decimal or known.evidence.decimal
        if decimal == "," or known.options.thousands == ".":
            notation = Notation(decimal=",", thousands=".")
            distinct = Distinct(column)
            read = numbers.read(distinct.cells, notation)
            return Found("number", whole_as_integers(distinct.rows(read)), notation, decimal=",")
        return Found("number", values, undecided=None if decimal == "." else "decimal")

    def profile(self, column: pa.ChunkedArray, detailed: bool) -> dict[str, Any]:
        """Return ends, mean, spread, quantiles and a histogram."""
        integer = pa.types.is_integer(column.type)
        values = np.sort(column.drop_null().to_numpy())
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(np.mean(values)) if len(values) else None
            std = float(np.std(values, ddof=1, dtype=np.float64)) if len(values) > 1 else None
        facts: dict[str, Any] = {
            "distinct": distinct(values),
            "integer": integer,
            "min": values[0].item() if len(values) else None,
            "max": values[-1].item() if len(values) else None,
            **finite_values({"mean": mean, "std": std}),
        }
        if detailed:
            facts["quantiles"] = finite_values({f"{q:g}": quantile(values, q) for q in QUANTILES})
            edges, counts = histogram(values)
            facts["histogram"] = {"edges": [finite(edge) for edge in edges], "counts": counts}
        return facts

    def fit(self, name: str, column: pa.ChunkedArray, spec: PreprocessingSpec) -> NumberFeature:
        """Return the feature, scaled as ``spec.numbers`` says."""
        present, missing = floats(column.drop_null()), column.null_count > 0
        if not len(present):
            return NumberFeature(name=name, center=0.0, scale=1.0, fill=0.0, indicator=missing)
        if spec.numbers == "quantile":
            knots, scores = _normal_scores(present)
            middle = float(np.median(present))
            return NumberFeature(
                name=name,
                center=0.0,
                scale=1.0,
                fill=middle,
                indicator=missing,
                knots=knots,
                scores=scores,
            )
        center, scale = SCALERS[spec.numbers](present)
        fill = float(np.mean(present)) if spec.numbers != "robust" else center
        return NumberFeature(name=name, center=center, scale=scale, fill=fill, indicator=missing)

    def width(self, column: dict[str, Any], spec: PreprocessingSpec) -> Width:
        """Return one number, and a mark of gaps."""
        return Width(1 + bool(column["missing"]), 1)

    def fits(self, value: Any) -> bool:
        """Return whether a value is a finite number; an integer may be larger than that."""
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # no NaN

    def array(self, values: list[Any]) -> pa.Array:
        """Return numbers as float64 ``(values,)``."""
        # Arrow takes no integer as a double that is not one exactly
        return pa.array([None if value is None else float(value) for value in values], self.arrow)


# ---------------------------------------------------------------- quantiles


def _normal_scores(values: Floats) -> tuple[list[float], list[float]]:
    """``(knots, scores)``: up to 1,000 quantiles, repeated ones once, and the normal score of each
    one's place."""
    count = min(_MOST_KNOTS, len(values))
    places = (np.arange(count) + 0.5) / count
    quantiles = np.quantile(values, places)
    quantiles[np.abs(quantiles) < _LEAST] = 0.0
    knots, index, repeats = np.unique(quantiles, return_inverse=True, return_counts=True)
    middle = np.bincount(index, weights=places) / repeats
    normal = NormalDist()
    return knots.tolist(), [normal.inv_cdf(place) for place in middle]


# ---------------------------------------------------------------- other notations


def means_commas(known: Cells, column: pa.ChunkedArray) -> bool:
    """Whether a dot would not be a decimal. What a model has learnt does not hold for a file with
    commas between its cells and none in these: such is written by a program, plainly."""
    if known.options.decimal is not None:
        return known.options.decimal == ","
    if known.options.thousands is not None:
        return known.options.thousands == "."
    if known.notation is not None:
        if known.evidence.delimiter == "," and not _holds(column, ","):
            return False
        return known.notation.decimal == "," or known.notation.thousands == "."
    return known.evidence.decimal == ","


def _holds(column: pa.ChunkedArray, mark: str) -> bool:
    return bool(pc.any(pc.match_substring(column, mark)).as_py())


def _numbers(distinct: Distinct, known: Cells, asked: bool) -> Found | Open | None:
    is_short = known.notation is not None and known.notation.short
    if is_short and (short := _magnitudes(distinct, known, asked)) is not None:
        return short
    if (apart := set_apart(distinct, "number", known)) is None:
        return None
    rest, gone = apart
    if not asked and (dates := compact(distinct, rest, gone)) is not None:
        return dates
    commas = asked and means_commas(known, distinct.rows(rest))
    if gone and not commas:  # plain but for the markers
        values = text_parsing.numbers(pa.chunked_array([rest]), codes=asked)
        if values is not None:
            return Found("number", distinct.rows(values.combine_chunks()), None, gone)
    found = numbers.recognise(rest, known, codes=asked)
    if found is None:
        return None
    if isinstance(found, Undecided):
        marked = rest.filter(pa.array(hits(rest, "[.,]")))
        return Open("decimal", marked[0].as_py()[:64])
    column = whole_as_integers(distinct.rows(found.values))
    notation = None if found.notation == Notation() else found.notation
    decimal = found.notation.decimal if numbers.shows_marks(rest) else None
    return Found("number", column, notation, gone, decimal)


def _magnitudes(distinct: Distinct, known: Cells, _asked: bool) -> Found | None:
    """Read 1.2k and $3.4M."""
    if (apart := set_apart(distinct, "number", known)) is None:
        return None
    if (found := magnitudes.recognise(apart[0], known)) is None:
        return None
    return Found("number", whole_as_integers(distinct.rows(found.values)), found.notation, apart[1])


def _durations(distinct: Distinct, known: Cells, _asked: bool) -> Found | None:
    if (apart := set_apart(distinct, "number", known)) is None:
        return None
    alone = known.notation is not None and known.notation.unit == "s"
    learnt = known.notation.date_format if known.notation else None
    said = times_of_format(known.options.date_format) or times_of_format(learnt)
    seen = durations.parts_of(apart[0]) if _holds(apart[0], ":") else None
    made_of = said or (seen.made_of if seen else "%H:%M:%S")
    values = durations.recognise(apart[0], alone=alone, made_of=made_of)
    if values is None:
        return None
    notation = Notation(unit="s", date_format=made_of if _holds(apart[0], ":") else None)
    return Found("number", whole_as_integers(distinct.rows(values)), notation, apart[1])


Number.readers = (_numbers, _magnitudes, _durations)
