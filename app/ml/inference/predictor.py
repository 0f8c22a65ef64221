"""A trained model that predicts: rows in, predictions out."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from app.errors import InvalidRequest
from app.ml.column_types.arrays import Floats
from app.ml.column_types.fitted import Matrix
from app.ml.features.feature_tables import FeatureTables
from app.ml.features.places import Place
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets, label
from app.ml.features.row_encoder import RowEncoder
from app.ml.inference import forward, model_files
from app.ml.inference.card import CARD, Card
from app.ml.nn import modules

_QUICK_SECONDS = 0.0005
_TRIES = 5  # forward passes whose fastest is taken


class Predictor:
    """A trained module with its preprocessing; safe to use from several threads."""

    def __init__(self, card: Card, module: Any) -> None:
        self.card = card
        self.module = module.eval()
        self._run = forward.chained(self.module)
        self.target = card.preprocessing.target
        self.features = card.preprocessing.features.features
        self.ignored = frozenset([*card.ignored, *self.target.names])
        """Columns that a row may have and that say nothing: the dataset's others."""
        self.tables = FeatureTables(self.features, self.ignored, card.notations, card.cells)
        self.lenient_tables = FeatureTables(self.features, None, card.notations, card.cells)
        """The same for who passes over every column that is no feature."""
        self.types = card.preprocessing.features.types
        self.row = RowEncoder(card.preprocessing.features, self.ignored, self.tables.gaps)
        self.card_bytes = 0
        self.is_quick = False
        """Whether a row takes less than half a millisecond, as ``rehearse`` found out."""

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """Return the model of a published directory, whose hashes have been checked."""
        predictor = cls(*model_files.load(folder))
        predictor.card_bytes = (folder / CARD).stat().st_size
        return predictor

    def untrained(self) -> "Predictor":
        """Return the model as its seed makes it; a pretrained one without its source's weights."""
        return Predictor(self.card, model_files.build(self.card))

    @property
    def size_bytes(self) -> int:
        """Memory in bytes of the weights, and about that of categories and quantiles."""
        tensors = self.module.state_dict().values()
        weights: int = sum(t.numel() * t.element_size() for t in tensors)
        return weights + 4 * self.card_bytes

    def rehearse(self) -> None:
        """Find out by trying whether one row ``is_quick``; the first pass of a module is slow."""
        row = np.zeros((1, self.card.preprocessing.features.width), np.float32)
        taken = []
        for _ in range(_TRIES):
            started = time.perf_counter()
            self.forward(row)
            taken.append(time.perf_counter() - started)
        self.is_quick = min(taken) < _QUICK_SECONDS

    def parameters(self, limit: int = 10_000) -> list[dict[str, Any]]:
        """Return every parameter by name; values only up to ``limit`` numbers in all."""
        return model_files.parameters(self.module, limit)

    def summary(self) -> list[dict[str, Any]]:
        """Return every layer with its output shape and parameter count."""
        return modules.summary(self.module, self.card.inputs)

    # ------------------------------------------------------------ predicting

    def encode(self, table: pa.Table, place: Place | None = None, first_row: int = 0) -> Matrix:
        """Return a table of the features as the matrix ``(rows, inputs)`` that the module reads.

        ``first_row`` is the number of its first row and ``place`` where a value stands, for errors:
        raises InvalidData where a number leaves float32's range.
        """
        return self.card.preprocessing.features.encode(table, place, first_row)

    def forward(self, x: Matrix) -> Matrix:
        """Return the module's raw outputs ``(rows, outputs)`` for ``x`` ``(rows, inputs)``."""
        with torch.inference_mode():
            result: Matrix = forward.in_slices(self._run, torch.from_numpy(x)).numpy()
        return result

    def outputs(self, table: pa.Table) -> Matrix:
        """Return the module's raw outputs ``(rows, outputs)`` for a table of the features."""
        return self.forward(self.encode(table))

    def predictions(self, outputs: Matrix) -> list[Any]:
        """Return one prediction per row of ``outputs`` ``(rows, outputs)``.

        They are numbers in the target's own units, classes, or booleans; of several targets an
        object by name.
        """
        match self.target:
            case NumberTargets(names=[_], center=[center], scale=[scale], link="identity") if (
                len(outputs) == 1
            ):
                return [outputs.item() * scale + center]  # as ``decode``, without its arrays
            case NumberTargets(names=[_]):
                return list(self.target.decode(outputs)[:, 0].tolist())
            case NumberTargets(names=names):
                rows = self.target.decode(outputs).tolist()
                return [dict(zip(names, row, strict=True)) for row in rows]
            case ClassTarget(classes=classes):
                chosen = self.target.chosen(self.target.probabilities(outputs))
                return [classes[number] for number in chosen.tolist()]
            case LabelTargets(names=names):
                rows = (self.target.probabilities(outputs) > 0.5).tolist()
                return [dict(zip(names, row, strict=True)) for row in rows]

    def probabilities(self, outputs: Matrix) -> list[dict[str, float]]:
        """Return one object per row: class (or label) to probability.

        Raises InvalidRequest for regression, which has none.
        """
        shares = self.shares(outputs)
        return [dict(zip(self.labels, row, strict=True)) for row in shares.tolist()]

    def shares(self, outputs: Matrix) -> Floats:
        """Return probabilities ``(rows, labels)``. Raises InvalidRequest for regression."""
        if isinstance(self.target, NumberTargets):
            raise InvalidRequest.at(
                "/probabilities", "a regression model has no probabilities; leave it out"
            )
        return self.target.probabilities(outputs)

    @property
    def labels(self) -> list[str]:
        """What has a probability: the classes as strings, or the names of boolean targets."""
        if isinstance(self.target, ClassTarget):
            return [label(value) for value in self.target.classes]
        return self.target.names if isinstance(self.target, LabelTargets) else []

    def answers(self, outputs: Matrix, *, probabilities: bool = False) -> pa.Table:
        """Return the predictions of ``outputs`` as a table, what is not finite as missing.

        There is one column ``prediction``, or one for each of several targets, then with
        ``probabilities`` one ``probability_<label>`` each. Raises InvalidRequest where a regression
        is to give probabilities.
        """
        match self.target:
            case ClassTarget(classes=classes):
                chosen = pa.array(self.target.chosen(self.target.probabilities(outputs)))
                columns = {"prediction": pa.array(classes).take(chosen)}
            case LabelTargets(names=names):
                columns = _named(names, self.target.probabilities(outputs) > 0.5)
            case NumberTargets(names=[_]):
                columns = _named(["prediction"], self.target.decode(outputs))
            case NumberTargets(names=names):
                columns = _named(names, self.target.decode(outputs))
        if probabilities:
            names = [f"probability_{name}" for name in self.labels]
            columns |= _named(names, self.shares(outputs))
        return pa.table(columns)


def _named(names: Sequence[str], values: Any) -> dict[str, pa.Array]:
    columns = [np.ascontiguousarray(values[:, i]) for i in range(len(names))]
    found = [pa.array(column, mask=~np.isfinite(column)) for column in columns]
    return dict(zip(names, found, strict=True))
