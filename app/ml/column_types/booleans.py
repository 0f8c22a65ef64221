"""Booleans: 0 and 1."""

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.ml.column_types import text_parsing
from app.ml.column_types.arrays import floats
from app.ml.column_types.base import ColumnType, Put, Width
from app.ml.column_types.categories import frequencies
from app.ml.column_types.cells import Distinct, Found, set_apart
from app.ml.column_types.fitted import FittedPart, Matrix
from app.ml.column_types.notations.notation import Cells
from app.ml.specs import PreprocessingSpec


class BooleanFeature(FittedPart):
    """0 or 1; missing becomes the more frequent value, told apart by an indicator column."""

    type: Literal["boolean"] = "boolean"
    name: str
    fill: float
    indicator: bool

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return 1 + self.indicator

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width), which holds zeros, from a boolean column."""
        values = floats(pc.cast(column, pa.int8()))
        missing = np.isnan(values)
        out[:, 0] = np.where(missing, self.fill, values)
        if self.indicator:
            out[:, 1] = missing

    def put(self, at: int) -> Put:
        """Return what encodes one value of JSON into a row, from column ``at`` on, bit for bit as
        ``encode`` does."""

        def put(value: Any, out: list[float]) -> bool:
            if value is True or value is False:
                out[at] = float(value)
            elif value is None:
                out[at] = self.fill
                if self.indicator:
                    out[at + 1] = 1.0
            else:
                return False
            return True

        return put


class Boolean(ColumnType):
    """``true`` and ``false``; where it is asked for also yes and no, their letters, 1 and 0."""

    name = "boolean"
    arrow = pa.bool_()
    datatype = "BOOL"
    example = "true or false"
    written = "true or false"
    plain = r"^\s*(?i:true|false)\s*$"
    begins = r"^(?i:true|false|t|f|yes|no|y|n|1|0)$"

    def read_plain(self, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """Return ``true`` and ``false`` in any case."""
        return text_parsing.booleans(column)

    def read_asked(self, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """Return yes and no, the first letters of all four words, 1 and 0 as well."""
        return text_parsing.lenient_booleans(column)

    def profile(self, column: pa.ChunkedArray, detailed: bool) -> dict[str, Any]:
        """Return how often each value stands there."""
        facts = frequencies(pc.cast(column, pa.string()))
        facts["top"] = [[value == "true", count] for value, count in facts["top"]]
        return facts

    def fit(self, name: str, column: pa.ChunkedArray, spec: PreprocessingSpec) -> BooleanFeature:
        """Return the feature; gaps take the more frequent value."""
        share = pc.mean(pc.cast(column, pa.int8())).as_py() or 0.0
        return BooleanFeature(name=name, fill=float(share > 0.5), indicator=column.null_count > 0)

    def width(self, column: dict[str, Any], spec: PreprocessingSpec) -> Width:
        """Return one mark, and one of gaps."""
        return Width(1 + bool(column["missing"]))

    def fits(self, value: Any) -> bool:
        """Return whether a value is true or false."""
        return isinstance(value, bool)


def _booleans(distinct: Distinct, known: Cells, asked: bool) -> Found | None:
    if (apart := set_apart(distinct, "boolean", known)) is None:
        return None
    rest, gone = apart
    read = text_parsing.lenient_booleans if asked else text_parsing.booleans
    values = read(pa.chunked_array([rest]))
    if values is None:
        return None
    return Found("boolean", distinct.rows(values.combine_chunks()), None, gone)


Boolean.readers = (_booleans,)
