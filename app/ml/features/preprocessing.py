"""Everything between a table and a module: features to a matrix, model outputs to predictions.

Fitted on the training part only, kept beside the weights as JSON, and applied by the same code in
training and in prediction. ``app.ml.features.encoder`` has the features; the targets are here.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from app.errors import InvalidData
from app.ml.column_types.arrays import Floats, codes, floats, mask
from app.ml.column_types.canonical import column_type
from app.ml.column_types.fitted import FittedPart, Matrix
from app.ml.column_types.scales import SCALERS
from app.ml.features.encoder import FeatureEncoder
from app.ml.specs import JobSpec, Task

# ---------------------------------------------------------------- targets


LARGEST_LOG = 88.0
"""Its exponential is the last whole number below float32's largest."""


class NumberTargets(FittedPart):
    """One or more numbers, each ``(value - center) / scale``."""

    kind: Literal["numbers"] = "numbers"
    names: list[str]
    center: list[float]
    scale: list[float]
    link: Literal["identity", "log"] = "identity"
    """``log``: the module's outputs are logarithms of what is predicted, in these units."""
    quantile: float | None = None
    """Which quantile of the target is predicted; ``None``: its mean, or what the loss makes it."""

    @property
    def outputs(self) -> int:
        """Outputs of the module."""
        return len(self.names)

    def like(self, other: "TargetEncoder") -> bool:
        """Return whether ``other`` is of the same columns; their scales may differ."""
        return (
            isinstance(other, NumberTargets)
            and other.names == self.names
            and other.link == self.link
        )

    def encode(self, table: pa.Table) -> Matrix:
        """Return the targets ``(rows, targets)`` of a table in training units.

        Raises InvalidData where one leaves float32's range.
        """
        values = numbers(table, self.names)
        with np.errstate(over="ignore"):
            scaled: Matrix = ((values - self.center) / self.scale).astype(np.float32)
        if not np.isfinite(scaled).all():
            raise InvalidData("the target holds numbers too large for float32; divide them")
        return scaled

    @property
    def decision(self) -> None:
        """Numbers are not decided on."""
        return None

    def decode(self, outputs: Matrix) -> Floats:
        """Return outputs ``(rows, targets)`` in the target's own units."""
        units = outputs.astype(np.float64)
        if self.link == "log":
            units = np.exp(np.minimum(units, LARGEST_LOG))
        decoded: Floats = units * self.scale + self.center
        return decoded


class Decision(FittedPart):
    """How the outputs of a classification become answers."""

    temperature: float
    """By which logits are divided; 1 where nothing was fitted."""
    threshold: float | None = None
    """From which probability on, of two classes, a row is of the positive one."""
    positive: bool | int | float | str | None = None
    """That class."""


class ClassTarget(FittedPart):
    """One of several classes; labels keep the type they had in the data."""

    kind: Literal["classes"] = "classes"
    names: list[str]
    classes: list[bool | int | float | str]
    outputs: int
    temperature: float = Field(1.0, gt=0)
    """By which logits are divided (``ml.evaluation.calibration``)."""
    threshold: float = Field(0.5, ge=0, le=1)
    """From which probability on, of two classes, a row is of the positive one."""

    def like(self, other: "TargetEncoder") -> bool:
        """Return whether ``other`` is of the same classes, of the same type: 1 is not true."""
        if not isinstance(other, ClassTarget) or other.names != self.names:
            return False
        mine, others = ([(type(c), c) for c in target.classes] for target in (self, other))
        return mine == others and other.outputs == self.outputs

    @property
    def positive(self) -> int | None:
        """The number of the class that a yes means, of two: ``true``, 1, else the last; ``None``
        for more than two."""
        if len(self.classes) != 2:
            return None
        yes = [i for i, value in enumerate(self.classes) if value == 1 or value == "1"]
        return yes[0] if yes else 1

    @property
    def decision(self) -> Decision:
        """How outputs become answers."""
        if (yes := self.positive) is None:
            return Decision(temperature=self.temperature)
        return Decision(
            temperature=self.temperature, threshold=self.threshold, positive=self.classes[yes]
        )

    def chosen(self, probabilities: Floats) -> NDArray[np.int64]:
        """Return the number of the class that each row of ``(rows, classes)`` is given."""
        positive = self.positive
        if positive is None or self.threshold == 0.5:
            likeliest: NDArray[np.int64] = probabilities.argmax(axis=1)
            return likeliest
        yes = probabilities[:, positive] >= self.threshold
        return np.where(yes, np.int64(positive), np.int64(1 - positive))

    def encode(self, table: pa.Table) -> NDArray[Any]:
        """Return ``(rows,)`` int64 class numbers, or ``(rows, 1)`` float32 for a single logit."""
        found = self.codes(table)
        return found.astype(np.float32)[:, None] if self.outputs == 1 else found

    def codes(self, table: pa.Table) -> NDArray[np.int64]:
        """Return ``(rows,)`` the number of each row's class; -1 where it is none of them."""
        column = table[self.names[0]]
        fractions = any(isinstance(value, float) for value in self.classes)
        if pa.types.is_floating(column.type) != fractions and column_type(column.type) == "number":
            # the same numbers, stored otherwise for the sake of others in their column
            values = pa.array([float(value) for value in self.classes])
            return codes(pc.cast(column, pa.float64(), safe=False), values)
        return codes(column, _array_like(column, self.classes))

    def probabilities(self, outputs: Matrix) -> Floats:
        """Return probabilities ``(rows, classes)`` of logits ``(rows, outputs)``."""
        logits = outputs.astype(np.float64) / self.temperature
        if self.outputs == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: Floats = powers / powers.sum(axis=1, keepdims=True)
        return shares


class LabelTargets(FittedPart):
    """Several independent booleans."""

    kind: Literal["labels"] = "labels"
    names: list[str]
    temperature: float = Field(1.0, gt=0)
    """By which logits are divided (``ml.evaluation.calibration``)."""

    @property
    def outputs(self) -> int:
        """Outputs of the module."""
        return len(self.names)

    def like(self, other: "TargetEncoder") -> bool:
        """Return whether ``other`` is of the same columns."""
        return isinstance(other, LabelTargets) and other.names == self.names

    @property
    def decision(self) -> Decision:
        """How outputs become answers; each label is so from half on."""
        return Decision(temperature=self.temperature)

    def encode(self, table: pa.Table) -> Matrix:
        """Return ``(rows, labels)`` of 0 and 1."""
        return np.column_stack(
            [floats(pc.cast(table[name], pa.int8())) for name in self.names]
        ).astype(np.float32)

    def probabilities(self, outputs: Matrix) -> Floats:
        """Return probabilities ``(rows, labels)`` of logits of that shape."""
        with np.errstate(over="ignore"):  # far below zero the quotient is 0, which is right
            shares: Floats = 1 / (1 + np.exp(-outputs.astype(np.float64) / self.temperature))
        return shares


TargetEncoder = Annotated[NumberTargets | ClassTarget | LabelTargets, Field(discriminator="kind")]


def fit_target(spec: JobSpec, train: pa.Table, classes: Sequence[Any]) -> TargetEncoder:
    """Return the encoder of the job's targets, with its scale learnt from the training part.

    ``classes`` are those of all rows.
    """
    names = spec.targets
    if spec.classifies:
        outputs = 1 if spec.loss.kind == "bce_with_logits" else len(classes)
        return ClassTarget(names=names, classes=list(classes), outputs=outputs)
    if spec.task == "multilabel":
        return LabelTargets(names=names)
    columns = [floats(train[name]) for name in names]
    if spec.loss.kind == "poisson_nll":  # expected values are above 0, so nothing is subtracted
        scaled = spec.preprocessing.target == "standard"
        means = [float(column.mean()) if scaled else 1.0 for column in columns]
        scale = [mean if mean > 0 else 1.0 for mean in means]
        return NumberTargets(names=names, center=[0.0] * len(names), scale=scale, link="log")
    scaler = SCALERS[spec.preprocessing.target or "none"]
    pairs = [scaler(column) for column in columns]
    return NumberTargets(
        names=names,
        center=[c for c, _ in pairs],
        scale=[s for _, s in pairs],
        quantile=getattr(spec.loss, "q", None),
    )


def label(value: Any) -> str:
    """Return a class as the key of a JSON object."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def classes_of(column: pa.ChunkedArray) -> list[Any]:
    """Return the distinct values of a target column in their natural order."""
    return sorted(pc.unique(column.drop_null()).to_pylist())


def class_codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return ``(rows,)`` the number of each row's class among ``classes_of(column)``."""
    return codes(column, _array_like(column, classes_of(column)))


def _array_like(column: pa.ChunkedArray, values: Sequence[Any]) -> pa.Array:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return pa.array(values, kind)


def numbers(table: pa.Table, names: Sequence[str]) -> Floats:
    """Return ``(rows, names)`` float64 of numeric columns, missing as NaN."""
    return np.column_stack([floats(table[name]) for name in names])


# ---------------------------------------------------------------- both, as they travel


class Preprocessing(FittedPart):
    """Everything between a table and a module; ``model.json`` holds it."""

    task: Task
    features: FeatureEncoder
    target: TargetEncoder


def complete_rows(spec: JobSpec, table: pa.Table) -> NDArray[np.int64]:
    """Return the numbers of the rows whose targets are all present.

    The others cannot be learnt from.
    """
    present = np.ones(table.num_rows, dtype=bool)
    for name in spec.targets:
        present &= mask(pc.is_valid(table[name]))
    return np.flatnonzero(present)
