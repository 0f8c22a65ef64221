"""Rows in, predictions out, under ``torch.inference_mode``."""

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.errors import FieldError, InvalidRequest, escape
from app.ml import checkpoint, inference, models
from app.ml.card import Card
from app.ml.features import Feature, Floats, Matrix
from app.ml.preprocessing import ClassTarget, LabelTargets, NumberTargets, label
from app.ml.strings import moments

_MOST_ERRORS = 20
_ARROW = {"number": pa.float64(), "boolean": pa.bool_(), "category": pa.string()}
_EXAMPLES = {
    "number": "a number",
    "boolean": "true or false",
    "category": "a string",
    "datetime": "an ISO 8601 date like 2026-11-23T09:30:00Z",
}


class Predictor:
    """A trained module with its preprocessing; safe to use from several threads."""

    def __init__(self, card: Card, module: Any) -> None:
        self.card = card
        self.module = module
        self.target = card.preprocessing.target
        self._features: dict[str, Feature] = {
            feature.name: feature for feature in card.preprocessing.features.features
        }

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """From a published model's directory, whose hashes have been checked."""
        return cls(*checkpoint.load(folder))

    def untrained(self) -> "Predictor":
        """The same model as its seed makes it; a pretrained one without its source's weights."""
        return Predictor(self.card, checkpoint.build(self.card))

    @property
    def size_bytes(self) -> int:
        """Memory of the weights."""
        return sum(t.numel() * t.element_size() for t in self.module.state_dict().values())

    def parameters(self, limit: int = 10_000) -> list[dict[str, Any]]:
        """Every parameter by name; values only up to ``limit`` numbers in all."""
        return checkpoint.parameters(self.module, limit)

    def summary(self) -> list[dict[str, Any]]:
        """Every layer with its output shape and parameter count."""
        return models.summary(self.module, self.card.inputs)

    # ------------------------------------------------------------ predicting

    def outputs(self, table: pa.Table) -> Matrix:
        """The module's raw outputs ``(rows, outputs)`` for a table of the features."""
        return inference.outputs_of(self.module, self.card.preprocessing.features.encode(table))

    def predictions(self, outputs: Matrix) -> list[Any]:
        """One answer per row in the target's own units, labels or booleans."""
        match self.target:
            case NumberTargets(names=[_]):
                return list(self.target.decode(outputs)[:, 0].tolist())
            case NumberTargets(names=names):
                rows = self.target.decode(outputs).tolist()
                return [dict(zip(names, row, strict=True)) for row in rows]
            case ClassTarget(classes=classes):
                chosen = self.target.probabilities(outputs).argmax(axis=1)
                return [classes[number] for number in chosen]
            case LabelTargets(names=names):
                rows = (self.target.probabilities(outputs) > 0.5).tolist()
                return [dict(zip(names, row, strict=True)) for row in rows]

    def probabilities(self, outputs: Matrix) -> list[dict[str, float]]:
        """One object per row: class (or label) to probability. Regression has none."""
        match self.target:
            case NumberTargets():
                raise InvalidRequest.at(
                    "/probabilities",
                    "a regression model has no probabilities; leave it out",
                )
            case ClassTarget(classes=classes):
                return _named(self.target.probabilities(outputs), [label(c) for c in classes])
            case LabelTargets(names=names):
                return _named(self.target.probabilities(outputs), names)

    # ------------------------------------------------------------ reading JSON

    def table_of_rows(self, rows: Sequence[Any]) -> pa.Table:
        """``[{"x": 0.5}]`` as a table; InvalidRequest points at every wrong place."""
        errors: list[FieldError] = []
        known = self._features.keys()
        for i, row in enumerate(rows):
            if not isinstance(row, dict):
                errors.append(FieldError(f"/rows/{i}", "a row is an object of features"))
            elif row.keys() != known:
                errors += self._wrong_names(row, f"/rows/{i}")
            if len(errors) >= _MOST_ERRORS:
                break
        _raise(errors)
        columns = {name: [row[name] for row in rows] for name in known}
        return self._table(columns, lambda name, i: f"/rows/{i}/{escape(name)}")

    def table_of_columns(self, columns: dict[str, Any]) -> pa.Table:
        """``{"x": [0.5]}`` as a table."""
        errors = self._wrong_names(columns, "/columns")
        errors += [
            FieldError(f"/columns/{escape(name)}", "a column is a list of values")
            for name, values in columns.items()
            if not isinstance(values, list)
        ]
        _raise(errors)
        lengths = {name: len(columns[name]) for name in self._features}
        most = max(lengths.values())
        for name, length in lengths.items():
            if length != most:
                errors.append(
                    FieldError(
                        f"/columns/{escape(name)}",
                        f"{length} values where another has {most}",
                    )
                )
        _raise(errors)
        wanted = {name: columns[name] for name in self._features}
        return self._table(wanted, lambda name, i: f"/columns/{escape(name)}/{i}")

    def table_of_instances(self, instances: Sequence[Any]) -> pa.Table:
        """``[[0.5]]``, values in feature order, as a table."""
        names = list(self._features)
        listed = ", ".join(names)[:256]
        wrong = (
            i
            for i, instance in enumerate(instances)
            if not isinstance(instance, list) or len(instance) != len(names)
        )
        detail = f"an instance is a list of {len(names)}: {listed}"
        _raise([FieldError(f"/instances/{i}", detail) for i in islice(wrong, _MOST_ERRORS)])
        columns = {name: [row[j] for row in instances] for j, name in enumerate(names)}
        places = {name: j for j, name in enumerate(names)}
        return self._table(columns, lambda name, i: f"/instances/{i}/{places[name]}")

    def _wrong_names(self, given: dict[str, Any], pointer: str) -> list[FieldError]:
        errors = [
            FieldError(
                f"{pointer}/{escape(name)}",
                f"the feature '{name[:64]}' is missing; send a value, or null where it is unknown",
                "missing",
            )
            for name in self._features
            if name not in given
        ]
        unknown = (n for n in given if n not in self._features and n not in self.target.names)
        for name in islice(unknown, _MOST_ERRORS):
            guess = get_close_matches(name[:64], self._features, n=1)
            remedy = f"did you mean '{guess[0][:64]}'?" if guess else "leave it out"
            detail = f"unknown feature '{name[:64]}'; {remedy}"
            errors.append(FieldError(f"{pointer}/{escape(name)}", detail, "unknown"))
        return errors

    def _table(self, columns: dict[str, list[Any]], pointer: Callable[[str, int], str]) -> pa.Table:
        if not next(iter(columns.values())):
            raise InvalidRequest("there are no rows to predict; send at least one")
        errors: list[FieldError] = []
        for name, values in columns.items():
            kind = self._features[name].type
            for i in islice(_misfits(kind, values), _MOST_ERRORS - len(errors)):
                detail = f"'{name[:64]}' wants {_EXAMPLES[kind]} or null, got {_shown(values[i])}"
                if type(values[i]) in (int, float):
                    detail += "; the largest is 1e300" if kind == "number" else ""
                errors.append(FieldError(pointer(name, i), detail, "wrong_type"))
        _raise(errors)
        return pa.table(
            {name: _array(self._features[name].type, values) for name, values in columns.items()}
        )


def _named(shares: Floats, names: Sequence[str]) -> list[dict[str, float]]:
    return [dict(zip(names, row, strict=True)) for row in shares.tolist()]


def _array(kind: str, values: list[Any]) -> pa.Array:
    if kind == "datetime":
        return moments(values)
    if kind == "number":  # Arrow takes no integer as a double that is not one exactly
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, _ARROW[kind])


def _misfits(kind: str, values: list[Any]) -> Iterator[int]:
    """The places of values that are not of their feature's type."""
    wrong = [i for i, value in enumerate(values) if not _fits(kind, value)]
    if not wrong and kind == "datetime" and moments(values) is None:
        wrong = [i for i, value in enumerate(values) if moments([value]) is None]
    return iter(wrong)


def _fits(kind: str, value: Any) -> bool:
    if value is None:
        return True
    if kind == "number":
        return type(value) in (int, float) and abs(value) < 1e300  # false for NaN too
    return isinstance(value, bool if kind == "boolean" else str)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value[:64]}'"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return str(value).lower()[:64]


def _raise(errors: list[FieldError]) -> None:
    if errors:
        raise InvalidRequest(errors[0].detail, errors[:_MOST_ERRORS])
