"""Numbers that leave float32's range on their way into the matrix, found before a job is made.

A profile says of most columns that they cannot. Of the few that might, planning reads the values,
scales them as training would, and looks.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from app.errors import InvalidData, InvalidRequest
from app.ml.data.splits import PARTS, Split
from app.ml.features import preprocessing
from app.ml.features.encoder import FeatureEncoder
from app.ml.features.fitting import fit_features
from app.ml.finite import LARGEST_FLOAT32
from app.ml.plan.columns import Column
from app.ml.plan.pretrained import Pretrained
from app.ml.specs import JobRequest, JobSpec

_LARGEST = {"standard": 1e150, "robust": 1e150, "quantile": float("inf")}
"""By scaling: quantiles know no size, and a standard deviation, which ``robust`` falls back to, is
of squares."""
_FAR = 1e30
"""A number, or how often it is the distance between the quartiles, from which on a training part
without it may scale it out of range."""


def far_columns(request: JobRequest, known: Mapping[str, Column]) -> list[str]:
    """Return the features of numbers so large, by their profile, that planning reads them."""
    names = known if request.features is None else request.features
    return [name for name in names if name in known and _is_far(known[name])]


def _is_far(column: Column) -> bool:
    if column["type"] != "number":
        return False
    largest, quantiles = _largest(column), column.get("quantiles") or {}
    low, high = quantiles.get("0.25"), quantiles.get("0.75")
    spread = high - low if low is not None and high is not None else 0.0
    return largest > _FAR or (spread > 0 and largest > _FAR * spread)


def require_float32(spec: JobSpec, known: Mapping[str, Column]) -> None:
    """Raise InvalidRequest where a number that is trained on or predicted leaves float32's range
    however it is scaled."""
    scaling = spec.preprocessing
    targets = spec.targets if spec.task == "regression" else []
    for pointer, names, scaled in (
        ("/features", spec.features, scaling.numbers),
        ("/target", targets, scaling.target),
    ):
        limit = _LARGEST.get(scaled or "none", LARGEST_FLOAT32)
        for column in (known[name] for name in names):
            if column["type"] == "number" and _largest(column) > limit:
                raise _beyond(pointer, column)
            if pointer == "/target" and scaled in (None, "none"):
                _require_finite_loss(spec, column)


def _require_finite_loss(spec: JobSpec, column: Column) -> None:
    """Raise InvalidRequest where the first losses of a target that is not scaled would be infinite,
    as float32 adds them up."""
    most = LARGEST_FLOAT32 / max(1, column["count"])
    limit = most**0.5 if spec.loss.kind == "mse" else most
    if _largest(column) > limit:
        raise InvalidRequest.at(
            "/preprocessing/target",
            f"'{column['name'][:64]}' holds {_largest(column):.3g}, and float32 cannot hold the "
            f"{spec.loss.kind} of such numbers; leave 'target' out, which scales them",
            "out_of_range",
        )


def require_not_negative(spec: JobSpec, known: Mapping[str, Column]) -> None:
    """Raise InvalidRequest where a loss for counts meets a target below 0."""
    if spec.loss.kind != "poisson_nll":
        return
    for column in (known[name] for name in spec.targets):
        if float(column["min"] or 0.0) < 0:
            raise InvalidRequest.at(
                "/loss",
                f"'poisson_nll' is for counts and other numbers from 0, and "
                f"'{column['name'][:64]}' holds {column['min']:g}; use another loss, such as mse",
            )


def require_scaled(
    spec: JobSpec,
    known: Mapping[str, Column],
    table: pa.Table,
    rows: Split,
    source: Pretrained | None,
) -> None:
    """Raise InvalidRequest where a number leaves float32's range once it is scaled as the training
    part of ``rows`` has it, or the ``source`` of the model.

    ``table`` has the targets and the ``far_columns``.
    """
    train = rows.train
    used = np.sort(np.concatenate([getattr(rows, part) for part in PARTS]))
    for name in spec.features:
        if _is_far(known[name]):
            column = table.select([name])
            try:
                _encoder(name, spec, column.take(train), source).encode(column.take(used))
            except InvalidData as error:
                raise _beyond("/features", known[name]) from error
    if spec.task == "regression":
        for name in (name for name in spec.targets if _is_far(known[name])):
            one = spec.model_copy(update={"target": name})
            target = preprocessing.fit_target(one, table.take(train), [])
            try:
                target.encode(table.take(used))
            except InvalidData as error:
                raise _beyond("/target", known[name]) from error


def _encoder(
    name: str, spec: JobSpec, train: pa.Table, source: Pretrained | None
) -> FeatureEncoder:
    """Return the encoder of one feature."""
    if source is None:
        return fit_features([name], spec.preprocessing, train)
    fitted = source.card.preprocessing.features.features
    return FeatureEncoder(features=[feature for feature in fitted if feature.name == name])


def _largest(column: Column) -> float:
    return max(abs(float(column[end] or 0.0)) for end in ("min", "max"))


def _beyond(pointer: str, column: Column) -> InvalidRequest:
    return InvalidRequest.at(
        pointer,
        f"column '{column['name'][:64]}' holds {_largest(column):.3g}, beyond float32 once it is "
        "scaled; divide its numbers, or leave it out",
        "out_of_range",
    )
