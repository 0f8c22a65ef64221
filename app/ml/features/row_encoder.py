"""One row straight to what a module reads: the scalar twin of ``FeatureEncoder.encode``.

A table of one row costs a hundred times the arithmetic on it, and most requests to predict bring
one row. What is computed is the same, float64 operation by operation, so the results are equal bit
for bit; property tests hold them together. Whatever is out of the ordinary is left to the table
path, which also knows how to say what is wrong.
"""

from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np

from app.ml.column_types.fitted import Matrix
from app.ml.features.encoder import FeatureEncoder


class RowEncoder:
    """Encodes single rows as ``encoder`` encodes tables. What is called as one of ``ignored`` is
    passed over; rows with one of ``gaps``, values that mean a gap, are left to the table."""

    def __init__(
        self, encoder: FeatureEncoder, ignored: Iterable[str] = (), gaps: Container[Any] = ()
    ) -> None:
        self._gaps = gaps
        self.names = [feature.name for feature in encoder.features]
        self._known = {*self.names, *ignored}
        self._zeros = [0.0] * encoder.width
        self._puts = [
            feature.put(first)
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
        if self._gaps and any(value in self._gaps for value in values):
            return None
        out = self._zeros.copy()
        for put, value in zip(self._puts, values, strict=True):
            if not put(value, out):
                return None
        return np.array([out], np.float32)
