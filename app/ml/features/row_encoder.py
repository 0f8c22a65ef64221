"""One row straight to what a module reads: the scalar twin of ``FeatureEncoder.encode``.

A table of one row costs a hundred times the arithmetic on it, and most requests to predict bring
one row. What is computed is the same, float64 operation by operation, so the results are equal bit
for bit; property tests hold them together. Whatever is out of the ordinary is left to the table
path, which also knows how to say what is wrong.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from app.ml.features.encoder import (
    FIRST_CODE,
    MISSING_CODE,
    UNKNOWN_CODE,
    BooleanFeature,
    CategoryFeature,
    DatetimeFeature,
    Feature,
    FeatureEncoder,
    NumberFeature,
)
from app.ml.features.fitted import Matrix
from app.ml.features.texts import TextFeature
from app.ml.tables.text_parsing import moments

_LARGEST_FLOAT32 = 3.4028234e38
_Put = Callable[[Any, list[float]], bool]
"""Writes one value into the row and returns whether it could."""


class RowEncoder:
    """Encodes single rows as ``encoder`` encodes tables; what is called as one of ``ignored`` is
    passed over."""

    def __init__(self, encoder: FeatureEncoder, ignored: Iterable[str] = ()) -> None:
        self.names = [feature.name for feature in encoder.features]
        self._known = {*self.names, *ignored}
        self._zeros = [0.0] * encoder.width
        self._puts = [
            _put(feature, first)
            for feature, (first, _) in zip(encoder.features, encoder.places(), strict=True)
        ]

    def of_object(self, row: Any) -> Matrix | None:
        """Return ``{"x": 0.5}`` as ``(1, width)``; ``None`` where it is left to the table path."""
        if type(row) is not dict:
            return None
        if len(row) != len(self.names) and not row.keys() <= self._known:
            return None
        try:
            return self.of_values([row[name] for name in self.names])
        except KeyError:
            return None

    def of_values(self, values: Sequence[Any]) -> Matrix | None:
        """Return values in the order of the features as ``(1, width)``; ``None`` as in
        ``of_object``."""
        if len(values) != len(self._puts):
            return None
        out = self._zeros.copy()
        for put, value in zip(self._puts, values, strict=True):
            if not put(value, out):
                return None
        return np.array([out], np.float32)


def _put(feature: Feature, at: int) -> _Put:
    match feature:
        case NumberFeature():
            return _number(feature, at)
        case BooleanFeature():
            return _boolean(feature, at)
        case CategoryFeature():
            return _category(feature, at)
        case DatetimeFeature():
            return _datetime(feature, at)
        case TextFeature():
            return _text(feature, at)


def _number(feature: NumberFeature, at: int) -> _Put:
    center, scale, fill, indicator = feature.center, feature.scale, feature.fill, feature.indicator
    knots = None if feature.knots is None else np.array(feature.knots)
    scores = np.array(feature.scores or [])

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
        return -_LARGEST_FLOAT32 < scaled < _LARGEST_FLOAT32

    return put


def _boolean(feature: BooleanFeature, at: int) -> _Put:
    def put(value: Any, out: list[float]) -> bool:
        if value is True or value is False:
            out[at] = float(value)
        elif value is None:
            out[at] = feature.fill
            if feature.indicator:
                out[at + 1] = 1.0
        else:
            return False
        return True

    return put


def _category(feature: CategoryFeature, at: int) -> _Put:
    places = {name: place for place, name in enumerate(feature.categories)}
    last = at + feature.width - 1

    def one_hot(value: Any, out: list[float]) -> bool:
        if value is None:
            if feature.indicator:
                out[last] = 1.0
            return True
        if type(value) is not str:
            return False
        place = places.get(value)
        if place is not None:
            out[at + place] = 1.0
            return True
        return "\0" not in value and not feature.folded

    def embedded(value: Any, out: list[float]) -> bool:
        if value is None:
            out[at] = MISSING_CODE
            return True
        if type(value) is not str:
            return False
        place = places.get(value)
        if place is not None:
            out[at] = place + FIRST_CODE
            return True
        out[at] = UNKNOWN_CODE
        return "\0" not in value and not feature.folded

    return embedded if feature.embedding else one_hot


def _text(feature: TextFeature, at: int) -> _Put:
    last = at + feature.width - 1

    def put(value: Any, out: list[float]) -> bool:
        if value is None:
            if feature.indicator:
                out[last] = 1.0
            return True
        if type(value) is not str or "\0" in value:
            return False
        place = feature.of_text(value)
        out[at : at + len(place)] = place.tolist()
        return True

    return put


def _datetime(feature: DatetimeFeature, at: int) -> _Put:
    """Encodes a column of one: calendars are Arrow's and numpy's affair."""

    def put(value: Any, out: list[float]) -> bool:
        if value is not None and type(value) is not str:
            return False
        column = moments([value])
        if column is None:
            return False
        part = np.zeros((1, feature.width), np.float32)
        feature.encode(pa.chunked_array([column]), part)
        out[at : at + feature.width] = part[0].tolist()
        return bool(np.isfinite(part).all())

    return put
