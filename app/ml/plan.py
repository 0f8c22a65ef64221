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
from app.ml import data, preprocessing, profile
from app.ml import features as feature_columns
from app.ml.specs import (
    LOSSES_FOR_TASK,
    AdamWSpec,
    BCEWithLogitsSpec,
    CrossEntropySpec,
    EarlyStoppingSpec,
    Inputs,
    JobRequest,
    JobSpec,
    LossSpec,
    MLPSpec,
    MSESpec,
    SplitSpec,
    Task,
    parameter_count,
)
from app.ml.splits import PARTS, part_sizes

Column = dict[str, Any]
"""One column of a dataset as ``app.ml.profile`` gives it."""

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


def plan(request: JobRequest, columns: Sequence[Column], rows: int, table: pa.Table) -> Plan:
    """Complete ``request`` for a dataset of ``columns``; ``table`` holds its target columns and
    the column that tells the split, if one does.

    Raises InvalidRequest or InvalidData naming the field and what would work.
    """
    known = {column["name"]: column for column in columns}
    for position, target in enumerate(request.targets):
        pointer = "/target" if isinstance(request.target, str) else f"/target/{position}"
        _require_column(target, known, pointer)
    _require_split_column(request, known)
    task = _task(request, [known[target] for target in request.targets])
    features, warnings = _features(request, known, rows)
    spec = _complete(request, task, features)
    kept = len(preprocessing.complete_rows(spec, table))
    if kept < rows:
        warnings.append(f"{rows - kept} rows without a target were left out")
    classes = _classes(spec, table)
    spec, split = _shared_out(spec, kept, table)
    if spec.split.strategy == "column":
        warnings += [
            f"no row of '{spec.split.column}' says {part}"
            for part in ("validation", "test")
            if not split[part]
        ]
    spec = _with_early_stopping(request, spec)
    spec = spec.model_copy(update={"batch_size": _batch_size(request, split["train"])})
    _require_batches_for_norm(spec, split["train"])
    inputs = _inputs(spec, known)
    outputs = _outputs(spec, classes)
    parameters = parameter_count(spec.model, inputs, outputs)
    copies = 2 + _OPTIMIZER_COPIES[spec.optimizer.kind]
    memory = _BYTES * (parameters * copies + kept * (inputs.looked_up + outputs))
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


def _require_split_column(request: JobRequest, known: dict[str, Column]) -> None:
    """A split by column or group needs one that is no target, and tells the parts or the groups."""
    split = request.split
    if split.column is None:
        return
    _require_column(split.column, known, "/split/column")
    shown = split.column[:64]
    if split.column in request.targets:
        raise InvalidRequest.at("/split/column", f"'{shown}' is the target; name another column")
    if split.strategy == "column" and known[split.column]["type"] != "category":
        kind = known[split.column]["type"]
        raise InvalidRequest.at(
            "/split/column",
            f"a split column says train, validation or test in every row, and '{shown}' "
            f'is a {kind}; name another, or use the strategy "group"',
        )
    if split.strategy == "column" and split.column in (request.features or []):
        position = (request.features or []).index(split.column)
        raise InvalidRequest.at(
            f"/features/{position}", f"'{shown}' tells the split; leave it out of the features"
        )


def _features(
    request: JobRequest, known: dict[str, Column], rows: int
) -> tuple[list[str], list[str]]:
    """The features' names, and why columns were left out."""
    if request.features is not None:
        return _features_asked_for(request, known), []
    features, warnings = [], []
    for name, column in known.items():
        if name in request.targets or name == request.split.column:
            continue
        if column["type"] == "text":
            warnings.append(f"column '{name}' is free text and was left out of the features")
        elif profile.is_constant(column):
            warnings.append(f"column '{name}' is constant and was left out of the features")
        elif profile.is_identifier(column, rows):
            warnings.append(f"column '{name}' looks like an identifier and was left out")
        else:
            features.append(name)
    if not features:
        raise InvalidRequest.at(
            "/features",
            "no column is left to learn from; name the features, or add columns to the dataset",
        )
    return features, warnings


def _features_asked_for(request: JobRequest, known: dict[str, Column]) -> list[str]:
    features = list(request.features or [])
    for position, name in enumerate(features):
        pointer = f"/features/{position}"
        _require_column(name, known, pointer)
        if name in request.targets:
            raise InvalidRequest.at(pointer, f"'{name[:64]}' is the target; leave it out here")
        if known[name]["type"] == "text":
            raise InvalidRequest.at(
                pointer,
                f"'{name[:64]}' is free text, which no model here reads yet; leave it out, "
                "or upload the table with its type given as category",
                "text_feature",
            )
    return features


def _inputs(spec: JobSpec, known: dict[str, Column]) -> Inputs:
    """The matrix if the training part has every category and a gap where the table has one."""
    dense, embeddings = 0, []
    for name in spec.features:
        column = known[name]
        gap = bool(column["missing"])
        if column["type"] == "category":
            size = feature_columns.embedding_size(spec.preprocessing.categories, column["distinct"])
            if size:
                rows = min(column["distinct"], feature_columns.EMBEDDING_LIMIT)
                embeddings.append((rows + 2, size))
            else:
                dense += min(column["distinct"], feature_columns.ONE_HOT_LIMIT) + gap
        elif column["type"] == "datetime":
            dense += feature_columns.datetime_width(column["time"]) + gap
        else:
            dense += 1 + gap
    return Inputs(dense, tuple(embeddings))


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
        if kind in ("datetime", "text"):
            return (
                f"'{name}' is a {kind}, which cannot be predicted; use a number, category or "
                "boolean column as target"
            )
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
    split = request.split
    classifying = task in ("binary", "multiclass")
    if classifying and "strategy" not in split.model_fields_set:
        split = split.model_copy(update={"strategy": "stratified"})
    if not classifying and split.strategy == "stratified":
        raise InvalidRequest.at(
            "/split/strategy",
            f'stratified needs classes, and the task is {task}; use "random"',
        )
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
            "early_stopping": request.early_stopping,
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


def _with_early_stopping(request: JobRequest, spec: JobSpec) -> JobSpec:
    """Filled in, or refused, by whether there is a validation part to watch."""
    if spec.split.validation == 0 and request.early_stopping is not None:
        raise InvalidRequest.at(
            "/early_stopping",
            "early stopping watches the validation part, which is empty; "
            "give split.validation a share, or set early_stopping to null",
        )
    if spec.split.validation > 0 and "early_stopping" not in request.model_fields_set:
        return spec.model_copy(
            update={"early_stopping": EarlyStoppingSpec(patience=10, min_delta=0.0)}
        )
    return spec


def _shared_out(spec: JobSpec, rows: int, table: pa.Table) -> tuple[JobSpec, dict[str, int]]:
    """How many rows each part gets; a split by column tells its own fractions."""
    if spec.split.column is None:
        counts = dict(zip(PARTS, part_sizes(spec.split, rows), strict=True))
    else:
        counts = data.split_of(spec, table).counts()
    if spec.split.strategy == "column":
        told = {part: count / max(1, rows) for part, count in counts.items()}
        spec = spec.model_copy(update={"split": spec.split.model_copy(update=told)})
    for part, size in counts.items():
        wanted = getattr(spec.split, part)
        if size == 0 and (wanted > 0 or part == "train"):
            pointer, why = _why_empty(spec.split, part, rows)
            error = FieldError(pointer, why, "empty_part")
            raise InvalidRequest(f"the {part} part would be empty", [error])
    return spec, counts


def _why_empty(split: SplitSpec, part: str, rows: int) -> tuple[str, str]:
    if split.strategy == "column":
        return "/split/column", f"no row of '{(split.column or '')[:64]}' says {part}"
    if split.strategy == "group":
        detail = (
            f"no group of '{(split.column or '')[:64]}' falls into {part}; give it a larger "
            "share, set it to 0, choose another seed, or a column with more groups"
        )
        return "/split/column", detail
    share = getattr(split, part)
    remedy = "give it a larger share, set it to 0, or send more rows"
    return f"/split/{part}", f"{share:g} of {rows} rows is no row; {remedy}"


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
