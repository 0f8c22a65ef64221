"""Filling in a job request against a table, by arithmetic and the target's column alone.

Nothing is built or allocated here, so a request that cannot work is refused when it is made, with
the field and the remedy, and not by a job that fails later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import pyarrow as pa

from app.errors import FieldError, InvalidData, InvalidRequest
from app.ml import preprocessing, tables
from app.ml.specs import (
    LOSSES_FOR_TASK,
    AdamWSpec,
    BCEWithLogitsSpec,
    CrossEntropySpec,
    EarlyStoppingSpec,
    JobRequest,
    JobSpec,
    LossSpec,
    MLPSpec,
    MSESpec,
    SplitSpec,
    Task,
    parameter_count,
)
from app.ml.splits import part_sizes

Column = dict[str, Any]
"""One column of a dataset as ``tables.profile`` gives it."""

_AUTO_MULTICLASS_LIMIT = 1000
_BYTES = 4
_COMPARED = 1000
_OPTIMIZER_COPIES = {
    "sgd": 1,
    "adam": 3,
    "adamw": 3,
}  # gradients and moments, in weights


@dataclass(frozen=True)
class Plan:
    """A spec that will run, and what is known of it beforehand."""

    spec: JobSpec
    split: dict[str, int]
    parameters: int
    memory_bytes: int
    warnings: list[str] = field(default_factory=list)


def plan(request: JobRequest, columns: Sequence[Column], rows: int, targets: pa.Table) -> Plan:
    """Complete ``request`` for a table of ``columns``; ``targets`` holds its target columns.

    Raises InvalidRequest or InvalidData naming the field and what would work.
    """
    known = {column["name"]: column for column in columns}
    for position, target in enumerate(request.targets):
        pointer = "/target" if isinstance(request.target, str) else f"/target/{position}"
        _require_column(target, known, pointer)
    task = _task(request, [known[target] for target in request.targets])
    features, warnings = _features(request, known, rows)
    spec = _complete(request, task, features)
    kept = len(preprocessing.complete_rows(spec, targets))
    if kept < rows:
        warnings.append(f"{rows - kept} rows without a target were left out")
    classes = _classes(spec, targets)
    split = _split_counts(spec.split, kept)
    spec = spec.model_copy(update={"batch_size": _batch_size(request, split["train"])})
    _require_batches_for_norm(spec, split["train"])
    width = sum(_width(known[feature]) for feature in features)
    outputs = _outputs(spec, classes)
    parameters = parameter_count(spec.model, width, outputs)
    copies = 2 + _OPTIMIZER_COPIES[spec.optimizer.kind]
    memory = _BYTES * (parameters * copies + kept * (width + outputs))
    return Plan(spec, split, parameters, memory, warnings)


# ---------------------------------------------------------------- columns


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """``unknown column 'cutt'; did you mean 'cut'?``, or the names there are."""
    guess = get_close_matches(name[:64], known[:_COMPARED], n=1)
    if guess:
        return f"unknown {what} '{name[:64]}'; did you mean '{guess[0][:64]}'?"
    listed = ", ".join(f"'{item[:64]}'" for item in known[:20])
    return f"unknown {what} '{name[:64]}'; there are {listed}"


def _require_column(name: str, known: dict[str, Column], pointer: str) -> None:
    if name not in known:
        raise InvalidRequest.at(pointer, unknown("column", name, list(known)), "unknown_column")


def _features(
    request: JobRequest, known: dict[str, Column], rows: int
) -> tuple[list[str], list[str]]:
    if request.features is not None:
        for position, name in enumerate(request.features):
            pointer = f"/features/{position}"
            _require_column(name, known, pointer)
            if name in request.targets:
                raise InvalidRequest.at(pointer, f"'{name[:64]}' is the target; leave it out here")
        return list(request.features), []
    features, warnings = [], []
    for name, column in known.items():
        if name in request.targets:
            continue
        if tables.is_constant(column):
            warnings.append(f"column '{name}' is constant and was left out of the features")
        elif tables.is_identifier(column, rows):
            warnings.append(f"column '{name}' looks like an identifier and was left out")
        else:
            features.append(name)
    if not features:
        raise InvalidRequest.at(
            "/features",
            "no column is left to learn from; name the features, or add columns to the dataset",
        )
    return features, warnings


def _width(column: Column) -> int:
    slots = (
        min(column["distinct"], preprocessing.ONE_HOT_LIMIT) if column["type"] == "category" else 1
    )
    return slots + bool(column["missing"])


# ---------------------------------------------------------------- task and target


def _task(request: JobRequest, targets: list[Column]) -> Task:
    for column in targets:
        if column["distinct"] < 2:
            count = "no value" if column["distinct"] == 0 else "only one value"
            raise InvalidData.at(
                "/target",
                f"the target '{column['name'][:64]}' has {count}; "
                "choose a column with at least two different values",
                "constant_target",
            )
    task = request.task or _task_by_type(targets)
    problem = _misfit(task, targets)
    if problem:
        pointer = "/task" if request.task else "/target"
        raise InvalidRequest.at(pointer, problem, "wrong_task")
    return task


def _task_by_type(targets: list[Column]) -> Task:
    if all(column["type"] == "number" for column in targets):
        return "regression"
    if len(targets) > 1:
        return "multilabel"
    return "binary" if targets[0]["distinct"] == 2 else "multiclass"


def _misfit(task: Task, targets: list[Column]) -> str | None:
    """Why the targets do not suit the task, with what would; None where they do."""
    for column in targets:
        name, kind, distinct = column["name"][:64], column["type"], column["distinct"]
        if task == "regression" and kind != "number":
            suitable = "binary" if distinct == 2 else "multiclass"
            return (
                f"regression wants a number, but '{name}' is a {kind}; "
                f'use a number column as target, or "task": "{suitable}"'
            )
        if task == "multilabel" and kind != "boolean":
            return f"multilabel wants boolean targets, but '{name}' is a {kind}"
        if task == "binary" and distinct != 2:
            return f"binary wants 2 classes, but '{name}' has {distinct}; use \"multiclass\""
        if task == "multiclass" and distinct > _AUTO_MULTICLASS_LIMIT:
            return f"'{name}' has {distinct} classes; at most {_AUTO_MULTICLASS_LIMIT}"
        if task == "multiclass" and kind == "number" and not column["integer"]:
            return f"'{name}' holds fractions, which are no classes; use \"regression\""
    if task in ("binary", "multiclass") and len(targets) > 1:
        return f"{task} takes one target; several boolean ones make a multilabel task"
    return None


def _classes(spec: JobSpec, targets: pa.Table) -> int:
    if spec.task not in ("binary", "multiclass"):
        return 0
    return len(preprocessing.classes_of(targets[spec.targets[0]]))


def _outputs(spec: JobSpec, classes: int) -> int:
    if spec.task in ("regression", "multilabel"):
        return len(spec.targets)
    return 1 if spec.loss.kind == "bce_with_logits" else classes


# ---------------------------------------------------------------- the rest of the spec


def _complete(request: JobRequest, task: Task, features: list[str]) -> JobSpec:
    given = request.model_fields_set
    split = request.split
    classifying = task in ("binary", "multiclass")
    if classifying and "strategy" not in split.model_fields_set:
        split = split.model_copy(update={"strategy": "stratified"})
    if not classifying and split.strategy == "stratified":
        raise InvalidRequest.at(
            "/split/strategy",
            f'stratified needs classes, and the task is {task}; use "random"',
        )
    early_stopping = request.early_stopping
    if split.validation == 0 and early_stopping is not None:
        raise InvalidRequest.at(
            "/early_stopping",
            "early stopping watches the validation part, which is empty; "
            "give split.validation a share, or set early_stopping to null",
        )
    if split.validation > 0 and "early_stopping" not in given:
        early_stopping = EarlyStoppingSpec(patience=10, min_delta=0.0)
    target_scaling = request.preprocessing.target
    if target_scaling == "standard" and task != "regression":
        raise InvalidRequest.at(
            "/preprocessing/target",
            f'a {task} target is not scaled; leave it out or use "none"',
        )
    scaling = target_scaling or ("standard" if task == "regression" else "none")
    values = request.model_dump(exclude={"features", "loss", "batch_size"})
    return JobSpec.model_validate(
        {
            **values,
            "task": task,
            "features": features,
            "split": split,
            "preprocessing": request.preprocessing.model_copy(update={"target": scaling}),
            "model": request.model or MLPSpec(),
            "loss": _loss(request, task),
            "optimizer": request.optimizer or AdamWSpec(),
            "batch_size": None,
            "early_stopping": early_stopping,
        }
    )


def _loss(request: JobRequest, task: Task) -> LossSpec:
    defaults: dict[Task, LossSpec] = {
        "regression": MSESpec(),
        "binary": BCEWithLogitsSpec(),
        "multiclass": CrossEntropySpec(),
        "multilabel": BCEWithLogitsSpec(),
    }
    loss = request.loss or defaults[task]
    suitable = LOSSES_FOR_TASK[task]
    if loss.kind not in suitable:
        names = " or ".join(f"'{name}'" for name in suitable)
        raise InvalidRequest.at(
            "/loss", f"the loss '{loss.kind}' does not fit a {task} target; use {names}"
        )
    return loss


def _split_counts(spec: SplitSpec, rows: int) -> dict[str, int]:
    sizes = dict(zip(("train", "validation", "test"), part_sizes(spec, rows), strict=True))
    for part, size in sizes.items():
        if size == 0 and getattr(spec, part) > 0:
            raise InvalidRequest(
                f"the {part} part would be empty",
                [
                    FieldError(
                        f"/split/{part}",
                        f"{getattr(spec, part):g} of {rows} rows is no row; "
                        "give it a larger share, set it to 0, or send more rows",
                        "empty_part",
                    )
                ],
            )
    return sizes


def _require_batches_for_norm(spec: JobSpec, train: int) -> None:
    batch = spec.batch_size or train
    if isinstance(spec.model, MLPSpec) and spec.model.norm == "batch" and batch < 2:
        raise InvalidRequest.at(
            "/model/norm",
            'batch norm cannot learn from batches of one row; use "layer", or larger batches',
        )


def _batch_size(request: JobRequest, train: int) -> int | None:
    """``auto``: a power of two near a fiftieth of the training part, from 32 to 1024."""
    if request.batch_size != "auto":
        if request.batch_size is not None and request.batch_size > train:
            raise InvalidRequest.at(
                "/batch_size",
                f"a batch of {request.batch_size} is more than the {train} training rows; "
                "use a smaller one, or null for all rows in one step",
            )
        return request.batch_size
    return min(train, 1 << min(10, max(5, (train // 50).bit_length())))
