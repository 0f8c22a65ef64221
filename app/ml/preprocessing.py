"""Columns to float32 matrices and model outputs back to predictions.

Fitted on the training part only, kept beside the weights as JSON, and applied by the same code in
training and in prediction. Statistics are float64; JSON keeps them exactly.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidData
from app.ml.specs import JobSpec, Task
from app.ml.tables import column_type

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]

ONE_HOT_LIMIT = 128
"""Categories with a slot of their own; the rest share the zero vector of unseen values."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# ---------------------------------------------------------------- features


class NumberFeature(_Part):
    """``(value - center) / scale``; missing becomes ``fill``, told apart by an indicator column."""

    type: Literal["number"] = "number"
    name: str
    center: float
    scale: float
    fill: float
    indicator: bool

    @property
    def width(self) -> int:
        return 1 + self.indicator

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width) from a numeric column."""
        values = _floats(column)
        missing = np.isnan(values)
        out[:, 0] = (np.where(missing, self.fill, values) - self.center) / self.scale
        if self.indicator:
            out[:, 1] = missing


class BooleanFeature(_Part):
    """0 or 1; missing becomes the more frequent value, told apart by an indicator column."""

    type: Literal["boolean"] = "boolean"
    name: str
    fill: float
    indicator: bool

    @property
    def width(self) -> int:
        return 1 + self.indicator

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width) from a boolean column."""
        values = _floats(pc.cast(column, pa.int8()))
        missing = np.isnan(values)
        out[:, 0] = np.where(missing, self.fill, values)
        if self.indicator:
            out[:, 1] = missing


class CategoryFeature(_Part):
    """One slot per category of the training part (most frequent first), one more for missing.

    An unseen category is the zero vector.
    """

    type: Literal["category"] = "category"
    name: str
    categories: list[str]
    indicator: bool

    @property
    def width(self) -> int:
        return len(self.categories) + self.indicator

    def encode(self, column: pa.ChunkedArray, out: Matrix) -> None:
        """Fill ``out`` (rows, width) from a column of strings."""
        out[:] = 0
        codes = _codes(column, pa.array(self.categories, pa.string()))
        rows = np.flatnonzero(codes >= 0)
        out[rows, codes[rows]] = 1
        if self.indicator:
            out[:, -1] = _mask(pc.is_null(column))


Feature = Annotated[NumberFeature | BooleanFeature | CategoryFeature, Field(discriminator="type")]


class FeatureEncoder(_Part):
    """All feature columns side by side as one matrix."""

    features: list[Feature]

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return sum(feature.width for feature in self.features)

    def encode(self, table: pa.Table) -> Matrix:
        """``(rows, width)`` float32. Raises InvalidData where a number leaves float32's range."""
        out: Matrix = np.empty((table.num_rows, self.width), dtype=np.float32)
        start = 0
        with np.errstate(over="ignore"):
            for feature in self.features:
                block = out[:, start : start + feature.width]
                feature.encode(table[feature.name], block)
                if not np.isfinite(block).all():
                    raise InvalidData(
                        f"column '{feature.name[:64]}' holds numbers too large for float32; "
                        "divide them, or leave the column out of the features"
                    )
                start += feature.width
        return out


def fit_features(spec: JobSpec, train: pa.Table) -> FeatureEncoder:
    """Learn every feature's statistics from the rows of the training part."""
    return FeatureEncoder(
        features=[_fit_feature(name, train[name], spec) for name in spec.features]
    )


def _fit_feature(name: str, column: pa.ChunkedArray, spec: JobSpec) -> Feature:
    missing = column.null_count > 0
    kind = column_type(column.type)
    if kind == "category":
        counts = pc.value_counts(column.drop_null()).to_pylist()
        counts.sort(key=lambda item: (-item["counts"], item["values"]))
        kept = [item["values"] for item in counts[:ONE_HOT_LIMIT]]
        return CategoryFeature(name=name, categories=kept, indicator=missing)
    if kind == "boolean":
        share = pc.mean(pc.cast(column, pa.int8())).as_py() or 0.0
        return BooleanFeature(name=name, fill=float(share > 0.5), indicator=missing)
    values = _floats(column)
    present = values[~np.isnan(values)]
    if not len(present):
        return NumberFeature(name=name, center=0.0, scale=1.0, fill=0.0, indicator=missing)
    center, scale = _SCALERS[spec.preprocessing.numbers](present)
    fill = float(np.mean(present)) if spec.preprocessing.numbers != "robust" else center
    return NumberFeature(name=name, center=center, scale=scale, fill=fill, indicator=missing)


def _standard(values: Floats) -> tuple[float, float]:
    with np.errstate(over="ignore"):
        center, scale = float(np.mean(values)), float(np.std(values))
    # the std of one repeated value is rounding, not 0; dividing by it would blow the column up
    varies = np.isfinite(scale) and scale > 1e-12 * abs(center)
    return center, scale if varies else 1.0


def _robust(values: Floats) -> tuple[float, float]:
    low, middle, high = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return (middle, high - low) if high > low else (middle, _standard(values)[1])


_SCALERS: dict[str, Callable[[Floats], tuple[float, float]]] = {
    "standard": _standard,
    "robust": _robust,
    "none": lambda values: (0.0, 1.0),
}


# ---------------------------------------------------------------- targets


class NumberTargets(_Part):
    """One or more numbers, each ``(value - center) / scale``."""

    kind: Literal["numbers"] = "numbers"
    names: list[str]
    center: list[float]
    scale: list[float]

    @property
    def outputs(self) -> int:
        return len(self.names)

    def encode(self, table: pa.Table) -> Matrix:
        """``(rows, targets)`` in training units."""
        values = numbers(table, self.names)
        with np.errstate(over="ignore"):
            scaled: Matrix = ((values - self.center) / self.scale).astype(np.float32)
        if not np.isfinite(scaled).all():
            raise InvalidData("the target holds numbers too large for float32; divide them")
        return scaled

    def decode(self, outputs: Matrix) -> Floats:
        """``(rows, targets)`` back in the target's own units."""
        decoded: Floats = outputs.astype(np.float64) * self.scale + self.center
        return decoded


class ClassTarget(_Part):
    """One of several classes; labels keep the type they had in the data."""

    kind: Literal["classes"] = "classes"
    names: list[str]
    classes: list[bool | int | float | str]
    outputs: int

    def encode(self, table: pa.Table) -> NDArray[Any]:
        """``(rows,)`` int64 class numbers, or ``(rows, 1)`` float32 for a single logit."""
        codes = self.codes(table)
        return codes.astype(np.float32)[:, None] if self.outputs == 1 else codes

    def codes(self, table: pa.Table) -> NDArray[np.int64]:
        """``(rows,)`` the number of each row's class."""
        column = table[self.names[0]]
        return _codes(column, pa.array(self.classes, column.type))

    def probabilities(self, outputs: Matrix) -> Floats:
        """``(rows, classes)`` from logits."""
        logits = outputs.astype(np.float64)
        if self.outputs == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: Floats = powers / powers.sum(axis=1, keepdims=True)
        return shares


class LabelTargets(_Part):
    """Several independent booleans."""

    kind: Literal["labels"] = "labels"
    names: list[str]

    @property
    def outputs(self) -> int:
        return len(self.names)

    def encode(self, table: pa.Table) -> Matrix:
        """``(rows, labels)`` of 0 and 1."""
        return np.column_stack(
            [_floats(pc.cast(table[name], pa.int8())) for name in self.names]
        ).astype(np.float32)

    def probabilities(self, outputs: Matrix) -> Floats:
        """``(rows, labels)`` from logits."""
        with np.errstate(over="ignore"):  # far below zero the quotient is 0, which is right
            shares: Floats = 1 / (1 + np.exp(-outputs.astype(np.float64)))
        return shares


TargetEncoder = Annotated[NumberTargets | ClassTarget | LabelTargets, Field(discriminator="kind")]


def fit_target(spec: JobSpec, train: pa.Table, classes: Sequence[Any]) -> TargetEncoder:
    """Learn the target's scale from the training part; ``classes`` are those of all rows."""
    names = spec.targets
    if spec.task in ("binary", "multiclass"):
        outputs = 1 if spec.loss.kind == "bce_with_logits" else len(classes)
        return ClassTarget(names=names, classes=list(classes), outputs=outputs)
    if spec.task == "multilabel":
        return LabelTargets(names=names)
    scaler = _SCALERS[spec.preprocessing.target or "none"]
    pairs = [scaler(_floats(train[name])) for name in names]
    return NumberTargets(names=names, center=[c for c, _ in pairs], scale=[s for _, s in pairs])


def classes_of(column: pa.ChunkedArray) -> list[Any]:
    """The distinct values of a target column in their natural order."""
    return sorted(pc.unique(column.drop_null()).to_pylist())


def class_codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """``(rows,)`` the number of each row's class among ``classes_of(column)``."""
    return _codes(column, pa.array(classes_of(column), column.type))


def numbers(table: pa.Table, names: Sequence[str]) -> Floats:
    """``(rows, names)`` float64 of numeric columns, missing as NaN."""
    return np.column_stack([_floats(table[name]) for name in names])


# ---------------------------------------------------------------- both, as they travel


class Preprocessing(_Part):
    """Everything between a table and a module; ``model.json`` holds it."""

    task: Task
    features: FeatureEncoder
    target: TargetEncoder


def complete_rows(spec: JobSpec, table: pa.Table) -> NDArray[np.int64]:
    """Row numbers whose targets are all present; the others cannot be learnt from."""
    present = np.ones(table.num_rows, dtype=bool)
    for name in spec.targets:
        present &= _mask(pc.is_valid(table[name]))
    return np.flatnonzero(present)


def _floats(column: pa.ChunkedArray) -> Floats:
    """A numeric column as float64, missing as NaN."""
    filled: Floats = pc.cast(column, pa.float64()).to_numpy()
    return filled


def _codes(column: pa.ChunkedArray, values: pa.Array) -> NDArray[np.int64]:
    """The position of each value among ``values``; -1 where it is missing or unknown."""
    found = pc.index_in(column, value_set=values, skip_nulls=True)
    codes: NDArray[np.int64] = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    return codes


def _mask(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = column.to_numpy()
    return mask
