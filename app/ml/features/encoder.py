"""Feature columns as one float32 matrix.

Fitted on the training part only (``fitting``), kept beside the weights as JSON, and applied by the
same code in training and in prediction. Statistics are float64; JSON keeps them exactly. Columns of
the matrix: first what a layer can multiply, in the order of the features, then one column of codes
for each feature that the module looks up in an embedding.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from app.errors import InvalidData
from app.ml.column_types.booleans import BooleanFeature
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.categories import FIRST_CODE, CategoryFeature
from app.ml.column_types.datetimes import DatetimeFeature
from app.ml.column_types.fitted import FittedPart, Matrix
from app.ml.column_types.numbers import NumberFeature
from app.ml.column_types.texts import TextFeature
from app.ml.features.places import Place, in_rows
from app.ml.specs import Inputs

ROWS_AT_ONCE = 8_192
"""Rows a module computes at once; pieces of a table are multiples of it and so change no result."""

_CHUNK_CELLS = 1 << 19  # encoded at once: as much as caches hold


Feature = Annotated[
    NumberFeature | BooleanFeature | CategoryFeature | DatetimeFeature | TextFeature,
    Field(discriminator="type"),
]


class FeatureEncoder(FittedPart):
    """All feature columns side by side as one matrix."""

    features: list[Feature]

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return sum(feature.width for feature in self.features)

    @property
    def types(self) -> dict[str, TypeName]:
        """The features' types by name, in order."""
        return {feature.name: feature.type for feature in self.features}

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """The least and the largest number of each feature that float32 holds once it is scaled;
        quantiles know no size."""
        numbers = [item for item in self.features if isinstance(item, NumberFeature)]
        return {item.name: item.bounds for item in numbers if item.knots is None}

    @property
    def inputs(self) -> Inputs:
        """The columns of the matrix as a module reads them: dense ones, and codes to look up."""
        embedded = [item for item in self.features if _embedded(item)]
        sizes = tuple((len(item.categories) + FIRST_CODE, item.embedding) for item in embedded)  # type: ignore[union-attr]
        dense = self.width - len(embedded)
        return Inputs(dense, sizes, numbers_among(self.features))  # type: ignore[arg-type]

    def encode(self, table: pa.Table, place: Place | None = None, first_row: int = 0) -> Matrix:
        """Return the ``(rows, width)`` matrix of a table, whose first row is number ``first_row``.

        Raises InvalidData, which points at a ``place`` of a row of that count (``/rows/3/price``
        unless it is given), where a number leaves float32's range.
        """
        out: Matrix = np.zeros((table.num_rows, self.width), dtype=np.float32)
        places = self.places()
        step = max(1, _CHUNK_CELLS // max(1, self.width))
        columns = {item.name: table[item.name] for item in self.features}
        with np.errstate(over="ignore"):
            for start in range(0, table.num_rows, step):
                rows = out[start : start + step]
                for feature, (first, last) in zip(self.features, places, strict=True):
                    feature.encode(columns[feature.name].slice(start, step), rows[:, first:last])
                if not np.isfinite(rows).all():
                    self._refuse(rows, places, place or in_rows(), first_row + start)
        return out

    def places(self) -> list[tuple[int, int]]:
        """Return each feature's first column of the matrix and the one behind its last."""
        dense, coded = 0, self.inputs.dense
        places = []
        for feature in self.features:
            if _embedded(feature):
                places.append((coded, coded + 1))
                coded += 1
            else:
                places.append((dense, dense + feature.width))
                dense += feature.width
        return places

    def _refuse(
        self, rows: Matrix, places: list[tuple[int, int]], place: Place, start: int
    ) -> None:
        for feature, (first, last) in zip(self.features, places, strict=True):
            finite = np.isfinite(rows[:, first:last]).all(axis=1)
            if not finite.all():
                row = start + int(finite.argmin())
                raise InvalidData.at(
                    place(feature.name, row),
                    f"column '{feature.name[:64]}' holds numbers too large for float32, the first "
                    f"in row {row}; divide them, or leave the column out of the features",
                    "out_of_range",
                )


def numbers_among(features: Sequence[Feature]) -> tuple[int, ...]:
    """Return the dense columns that hold numbers: not marks of categories, booleans and gaps."""
    found: list[int] = []
    place = 0
    for feature in features:
        if isinstance(feature, NumberFeature | DatetimeFeature):
            found += range(place, place + feature.width - feature.indicator)
        place += 0 if _embedded(feature) else feature.width
    return tuple(found)


def _embedded(feature: Any) -> bool:
    return isinstance(feature, CategoryFeature) and feature.embedding is not None
