"""A trained model that predicts: rows in, predictions out."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import torch

from app.errors import InvalidRequest
from app.ml.column_types.arrays import Floats
from app.ml.column_types.fitted import Matrix
from app.ml.features.feature_tables import FeatureTables
from app.ml.features.places import Place
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets, label
from app.ml.features.row_encoder import RowEncoder
from app.ml.inference import conformal, explanations, forward, model_files
from app.ml.inference.card import CARD, Card
from app.ml.inference.conformal import Conformal
from app.ml.nn import modules

Beside = Callable[[Matrix], list[Any]]
"""Gives one value for each row of outputs ``(rows, outputs)``."""
_NUMBER_BYTES = 32
"""Of a number in JSON and what stands around it, at the most."""
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
        names = self.labels or self.target.names
        self._label_bytes = [len(name.encode()) + _NUMBER_BYTES for name in names]
        self.card_bytes = 0
        self.is_quick = False
        """Whether a row takes less than half a millisecond, as ``rehearse`` found out."""

    @classmethod
    def load(cls, folder: Path, *, measured: bool = False) -> "Predictor":
        """Return the model of a published directory, whose hashes have been checked; ``measured``:
        as it was before it was trained once more on all rows."""
        predictor = cls(*model_files.load(folder, measured=measured))
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

    @property
    def reach(self) -> Conformal:
        """What intervals, or sets of classes, are made of.

        Raises InvalidRequest where there is nothing that they could be made of.
        """
        if isinstance(self.target, LabelTargets):
            raise InvalidRequest.at(
                "/interval",
                "a model of several booleans has neither intervals nor sets of classes; leave it "
                "out, and ask for probabilities",
            )
        if (found := self.card.conformal) is None:
            raise InvalidRequest.at(
                "/interval",
                "this model has none, as no rows were held out for them: train it with a "
                "validation part (split.validation); a promoted checkpoint has them where it is "
                "the one that its job kept",
            )
        return found

    def intervals(self, outputs: Matrix, level: float) -> list[Any]:
        """Return the interval of a level for each row, or by the names of several targets; for
        classes the set of those that may be. Raises InvalidRequest."""
        reach = self.reach
        if isinstance(self.target, ClassTarget):
            classes = self.target.classes
            held = conformal.sets(reach, self.target, outputs, level).tolist()
            return [[c for c, within in zip(classes, row, strict=True) if within] for row in held]
        assert isinstance(self.target, NumberTargets)
        ends = conformal.ends(reach, self.target, outputs, level)
        low, high = (end.tolist() for end in ends)
        rows = [
            [{"low": a, "high": b} for a, b in zip(*both, strict=True)]
            for both in zip(low, high, strict=True)
        ]
        names = self.target.names
        return [row[0] if len(names) == 1 else dict(zip(names, row, strict=True)) for row in rows]

    def explain(self, x: Matrix, outputs: Matrix, most: int) -> list[dict[str, Any]]:
        """Return for each row of ``x`` ``(rows, inputs)`` what its features add to its prediction,
        the ``most`` largest by name; by the names of several targets.

        ``outputs`` are those of ``x``. What is explained is the number that is predicted, or the
        logit of the class that is answered. Raises InvalidRequest where a model has none.
        """
        background = self.card.background
        if isinstance(self.target, LabelTargets) or background is None:
            why = (
                "a model of several booleans has no explanations"
                if isinstance(self.target, LabelTargets)
                else "this model came from a fitserve that kept no rows to hold others against"
            )
            raise InvalidRequest.at("/explain", f"{why}; leave it out")
        names = list(self.types)
        places = self.card.preprocessing.features.places()
        rows: list[dict[str, Any]] = []
        for part in explanations.pieces(len(x), len(names), x.shape[1]):
            added_by_target = [
                explanations.contributions(x[part], background, places, answer)
                for answer in self._answers(outputs[part])
            ]
            for row in range(len(added_by_target[0][0])):
                each = [
                    explanations.largest(names, float(base[row]), added[row].tolist(), most)
                    for base, added in added_by_target
                ]
                several = len(each) > 1
                rows.append(dict(zip(self.target.names, each, strict=True)) if several else each[0])
        return rows

    def _number(self, target: NumberTargets, place: int, x: Matrix) -> Floats:
        """Return ``(rows,)`` what is predicted of one target."""
        return target.decode(self.forward(x))[:, place]

    def _answers(self, outputs: Matrix) -> list[explanations.Answer]:
        """Return what is explained of rows with these outputs: a function for each target."""
        target = self.target
        if isinstance(target, NumberTargets):
            return [partial(self._number, target, place) for place in range(len(target.names))]
        assert isinstance(target, ClassTarget)
        chosen = target.chosen(target.probabilities(outputs))

        def logit(x: Matrix) -> Floats:
            shares = target.probabilities(self.forward(x))
            codes = np.tile(chosen, len(x) // len(chosen))
            share = shares[np.arange(len(x)), codes].clip(1e-12, 1 - 1e-12)
            found: Floats = np.log(share) - np.log1p(-share)
            return found

        return [logit]

    def row_bytes(self, *, all_labels: bool) -> int:
        """Return about how many bytes a row of a JSON answer has at most; ``all_labels``: it names
        every class, as probabilities and sets do."""
        one_label = isinstance(self.target, ClassTarget) and not all_labels
        return max(self._label_bytes) if one_label else sum(self._label_bytes)

    def beside(self, probabilities: bool, level: float | None) -> dict[str, Beside]:
        """Return what an answer has beside its predictions, by name: functions of outputs
        ``(rows, outputs)`` that give one value a row. They raise InvalidRequest."""
        found: dict[str, Beside] = {}
        if probabilities:
            found["probabilities"] = self.probabilities
        if level is not None:
            name = "sets" if isinstance(self.target, ClassTarget) else "intervals"
            found[name] = partial(self.intervals, level=level)
        return found

    def answers(
        self, outputs: Matrix, *, probabilities: bool = False, level: float | None = None
    ) -> pa.Table:
        """Return the predictions of ``outputs`` as a table, what is not finite as missing.

        There is one column ``prediction``, or one for each of several targets, then with
        ``probabilities`` one ``probability_<label>`` each, and with a ``level`` the columns ``low``
        and ``high`` of intervals (``low_<target>`` of several), or ``set``, the classes of a set in
        JSON. Raises InvalidRequest where a model has no such thing.
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
        if level is not None:
            columns |= self._reaching(outputs, level)
        return pa.table(columns)

    def _reaching(self, outputs: Matrix, level: float) -> dict[str, pa.Array]:
        """Return the columns of intervals or sets."""
        reach = self.reach
        if isinstance(self.target, ClassTarget):
            sets = [orjson.dumps(one).decode() for one in self.intervals(outputs, level)]
            return {"set": pa.array(sets)}
        assert isinstance(self.target, NumberTargets)
        names = self.target.names
        columns: dict[str, pa.Array] = {}
        ends = conformal.ends(reach, self.target, outputs, level)
        for side, values in zip(("low", "high"), ends, strict=True):
            columns |= _named([side] if len(names) == 1 else [f"{side}_{n}" for n in names], values)
        return columns


def _named(names: Sequence[str], values: Any) -> dict[str, pa.Array]:
    columns = [np.ascontiguousarray(values[:, i]) for i in range(len(names))]
    found = [pa.array(column, mask=~np.isfinite(column)) for column in columns]
    return dict(zip(names, found, strict=True))
