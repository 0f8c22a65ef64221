"""What a model is selected by, how sure it says it is, and from when on it says yes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from app.errors import InvalidRequest
from app.ml.data.splits import Split
from app.ml.features import preprocessing
from app.ml.specs import JobRequest, JobSpec, TabularSpec
from app.ml.specs.metrics import selections_for
from app.names import nearest

_RARE = 0.1
"""Of the training rows: a class of fewer is hardly ever the likelier one."""


def complete(
    request: JobRequest, spec: JobSpec, classes: Sequence[Any], table: pa.Table, rows: Split
) -> tuple[JobSpec, list[str]]:
    """Return the spec with ``select``, ``calibrate`` and ``threshold``, and a warning where a class
    is rare. ``classes`` are those of the target in ``table``. Raises InvalidRequest."""
    validated = len(rows.validation) > 0
    _require_selection(spec, validated, table)
    calibrate = _calibrates(request, spec, validated)
    threshold: Any = request.threshold
    warnings: list[str] = []
    if threshold is None:
        threshold, warnings = _threshold(spec, classes, table, rows)
    elif spec.task != "binary" and threshold != 0.5:  # a told spec may be posted again
        raise InvalidRequest.at(
            "/threshold",
            f"a threshold is of two classes, and the task is {spec.task}; leave it out",
        )
    elif not validated and not isinstance(threshold, float):
        raise _unvalidated("/threshold", "is looked for on the validation part", "a number")
    return spec.model_copy(update={"calibrate": calibrate, "threshold": threshold}), warnings


def _unvalidated(pointer: str, what: str, other: str) -> InvalidRequest:
    name = pointer[1:]
    return InvalidRequest.at(
        pointer,
        f"'{name}' {what}, which is empty; give split.validation a share, or make it {other}",
    )


def _has_zero(spec: JobSpec, table: pa.Table) -> bool:
    values = preprocessing.numbers(table, spec.targets)
    return bool((values == 0).any())


def _require_selection(spec: JobSpec, validated: bool, table: pa.Table) -> None:
    """Raise InvalidRequest where the job cannot select by what it names."""
    known = selections_for(spec.task)
    if spec.select not in known:
        guess = nearest(spec.select, known)
        near = f"did you mean '{guess}'? " if guess else ""
        listed = ", ".join(f"'{name}'" for name in known)
        raise InvalidRequest.at(
            "/select", f"'{spec.select}' is no metric of a {spec.task} target; {near}use {listed}"
        )
    if spec.select == "pinball" and spec.loss.kind != "quantile":
        raise InvalidRequest.at(
            "/select", "'pinball' is of a quantile; use it with the loss 'quantile', or 'mae'"
        )
    if spec.select == "mape" and _has_zero(spec, table):
        raise InvalidRequest.at(
            "/select", "'mape' is a share of the true value, and one is 0; select by 'mae'"
        )
    if spec.select != "loss" and not validated:
        raise _unvalidated("/select", "is measured on the validation part", "'loss'")


def _calibrates(request: JobRequest, spec: JobSpec, validated: bool) -> bool:
    if request.calibrate and spec.task == "regression":
        raise InvalidRequest.at(
            "/calibrate", "a regression has no probabilities to calibrate; leave it out"
        )
    if request.calibrate and not validated:
        raise _unvalidated("/calibrate", "looks at the validation part", "false")
    wanted = request.calibrate
    if wanted is None:
        wanted = isinstance(request.model or TabularSpec(), TabularSpec)
    return bool(wanted and validated and spec.task != "regression")


def _threshold(
    spec: JobSpec, classes: Sequence[Any], table: pa.Table, rows: Split
) -> tuple[Any, list[str]]:
    """Return the threshold of a job that names none, and why where it is not half."""
    if spec.task != "binary":
        return 0.5, []
    codes = preprocessing.class_codes(table[spec.targets[0]])[rows.train]
    shares = np.bincount(codes, minlength=len(classes)) / max(1, len(codes))
    rarest = int(shares.argmin())
    if shares[rarest] >= _RARE:
        return 0.5, []
    name = preprocessing.label(classes[rarest])[:64]
    rare = f"only {100 * shares[rarest]:.2g} % of the training rows are '{name}'"
    if not len(rows.validation):
        return 0.5, [
            f"{rare}, and there is no validation part to look for a threshold on: it is 0.5, at "
            "which they may never be predicted; give split.validation a share"
        ]
    return "f1", [
        f"{rare}, so the threshold is that of the best F1 on the validation part; "
        "threshold=0.5 answers the likelier class"
    ]
