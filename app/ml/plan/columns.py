"""Which columns a job reads, what it predicts of them, and the matrix they make."""

from collections.abc import Mapping, Sequence
from typing import Any

from app import names
from app.errors import InvalidData, InvalidRequest
from app.ml.column_types.registry import COLUMN_TYPES
from app.ml.features.preprocessing import label
from app.ml.specs import Inputs, JobRequest, JobSpec, Task
from app.ml.tables import roles

Column = dict[str, Any]
"""One column of a dataset as ``app.ml.tables.profile`` gives it."""

_LEFT_OUT = {
    "constant": "is constant and was left out of the features",
    "identifier": "looks like an identifier and was left out; name it in features to keep it",
    "index": "looks like an identifier and was left out; name it in features to keep it",
}
_MOST_CLASSES = 1000
_LONGEST_CLASS = 1024
"""Bytes of a class's label, which answers repeat in every row."""
_FEW_CLASSES = 10
"""Whole numbers of which a target may mean classes."""
_ROWS_A_CLASS = 5


def _require_column(name: str, known: dict[str, Column], pointer: str) -> None:
    if name not in known:
        raise InvalidRequest.at(
            pointer, names.unknown("column", name, list(known)), "unknown_column"
        )


def require_targets(request: JobRequest, known: dict[str, Column]) -> None:
    """Raise InvalidRequest where a target is no column."""
    for position, target in enumerate(request.targets):
        pointer = "/target" if isinstance(request.target, str) else f"/target/{position}"
        _require_column(target, known, pointer)


def require_planning_columns(request: JobRequest, known: dict[str, Column]) -> None:
    """Raise InvalidRequest where the columns of split and weights do not suit."""
    _require_split_column(request, known)
    _require_weight_column(request, known)


def _require_weight_column(request: JobRequest, known: dict[str, Column]) -> None:
    """Raise InvalidRequest unless weights are numbers in every row, not below 0, and are no feature
    or target."""
    name = request.sample_weight
    if name is None:
        return
    _require_column(name, known, "/sample_weight")
    column, short, problem = known[name], name[:64], None
    if column["type"] != "number":
        problem = f"weights are numbers, and '{short}' is a {column['type']}"
    elif column["missing"]:
        problem = f"'{short}' is missing in {column['missing']} rows; every row needs a weight"
    elif column["min"] < 0:
        problem = f"'{short}' holds {column['min']:g}; a weight is not below 0"
    elif column["max"] <= 0:
        problem = f"'{short}' is 0 in every row, so no row would count"
    elif name in request.targets:
        problem = f"'{short}' is the target; name another column"
    elif name in (request.features or []):
        problem = f"'{short}' is a feature; leave it out of one of the two"
    if problem is not None:
        raise InvalidRequest.at("/sample_weight", problem)


def _not_learnt(request: JobRequest) -> set[str | None]:
    """Return the columns that say something of rows rather than of what is predicted; when a row
    was seen says both."""
    split_column = None if request.split.strategy == "time" else request.split.column
    return {split_column, request.sample_weight}


def _require_times(name: str, column: Column) -> None:
    """Raise InvalidRequest unless a split by time has a moment in every row."""
    problem = None
    if column["type"] not in ("number", "datetime"):
        problem = f"times are datetimes or numbers, and '{name[:64]}' is a {column['type']}"
    elif column["missing"]:
        rows = column["missing"]
        problem = f"'{name[:64]}' is missing in {rows} rows; a split by time needs it in every row"
    if problem is not None:
        raise InvalidRequest.at("/split/column", problem)


def _require_split_column(request: JobRequest, known: dict[str, Column]) -> None:
    """Raise InvalidRequest unless a split by column, group or time has a column that can serve for
    it."""
    split = request.split
    if split.column is None:
        return
    _require_column(split.column, known, "/split/column")
    short = split.column[:64]
    if split.column in request.targets:
        raise InvalidRequest.at("/split/column", f"'{short}' is the target; name another column")
    if split.strategy == "time":
        _require_times(split.column, known[split.column])
    if split.strategy == "column" and known[split.column]["type"] != "category":
        kind = known[split.column]["type"]
        raise InvalidRequest.at(
            "/split/column",
            f"a split column says train, validation or test in every row, and '{short}' "
            f'is a {kind}; name another, or use the strategy "group"',
        )
    if split.strategy == "column" and split.column in (request.features or []):
        position = (request.features or []).index(split.column)
        raise InvalidRequest.at(
            f"/features/{position}", f"'{short}' tells the split; leave it out of the features"
        )


def features_of(
    request: JobRequest, known: dict[str, Column], rows: int
) -> tuple[list[str], list[str]]:
    """Return the features' names, and warnings of the columns that were left out.

    Raises InvalidRequest where a feature cannot be one, or no column is left.
    """
    if request.features is not None:
        return _named_features(request, known), []
    features, warnings = [], []
    for name, column in known.items():
        if name in request.targets or name in _not_learnt(request):
            continue
        role = roles.role_of(column, rows)
        if role in ("feature", "text"):
            features.append(name)
        else:
            warnings.append(f"column '{name}' {_LEFT_OUT[role]}")
    if not features:
        raise InvalidRequest.at(
            "/features",
            "no column is left to learn from; name the features, or add columns to the dataset"
            + "".join(f" ({warning})" for warning in warnings[:1]),
        )
    return features, warnings


def _named_features(request: JobRequest, known: dict[str, Column]) -> list[str]:
    features = list(request.features or [])
    for position, name in enumerate(features):
        pointer = f"/features/{position}"
        _require_column(name, known, pointer)
        if name in request.targets:
            raise InvalidRequest.at(pointer, f"'{name[:64]}' is the target; leave it out here")
    return features


def inputs_of(spec: JobSpec, known: dict[str, Column]) -> Inputs:
    """Return the inputs of a module at the most: as if the training part had every category, and a
    missing value wherever the table has one."""
    dense, embeddings = 0, []
    numbers: list[int] = []
    for name in spec.features:
        column = known[name]
        width = COLUMN_TYPES[column["type"]].width(column, spec.preprocessing)
        numbers += range(dense, dense + width.numbers)
        dense += width.dense
        embeddings += [width.embedding] if width.embedding else []
    return Inputs(dense, tuple(embeddings), tuple(numbers))


# ---------------------------------------------------------------- task and target


def task_of(request: JobRequest, targets: list[Column]) -> Task:
    """Return the request's task, by default the one that suits the targets' types.

    Raises InvalidData for a constant target, InvalidRequest for one that the task does not suit.
    """
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
    problem = _why_unsuitable(task, targets)
    if problem:
        pointer = "/task" if request.task else "/target"
        raise InvalidRequest.at(pointer, problem, "wrong_task")
    return task


def maybe_classes(request: JobRequest, task: Task, known: Mapping[str, Column]) -> list[str]:
    """Return a warning where a target is predicted as a number and looks like two classes."""
    if request.task or task != "regression" or len(request.targets) > 1:
        return []
    column = known[request.targets[0]]
    distinct, few = column["distinct"], min(_FEW_CLASSES, column["count"] // _ROWS_A_CLASS)
    if not column["integer"] or not 2 <= distinct <= max(few, 2):
        return []
    task = "binary" if distinct == 2 else "multiclass"
    count = "two" if distinct == 2 else str(distinct)
    return [
        f"target '{column['name'][:64]}' has {count} distinct values and is predicted as a number; "
        f'if they are classes, send "task": "{task}"'
    ]


def require_short(target: str, classes: Sequence[Any]) -> None:
    """Raise InvalidRequest for a class whose label is so long that it is a text."""
    for value in classes:
        if len(label(value).encode()) > _LONGEST_CLASS:
            raise InvalidRequest.at(
                "/target",
                f"'{target[:64]}' has a class of more than {_LONGEST_CLASS:,} bytes, "
                f"'{label(value)[:32]}…'; texts cannot be predicted: shorten the labels",
            )


def _task_by_type(targets: list[Column]) -> Task:
    if all(column["type"] == "number" for column in targets):
        return "regression"
    if len(targets) > 1:
        return "multilabel"
    return "binary" if targets[0]["distinct"] == 2 else "multiclass"


def _why_unsuitable(task: Task, targets: list[Column]) -> str | None:
    """Return why the targets do not suit the task, with what would; ``None`` where they do."""
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
        if task == "multiclass" and distinct > _MOST_CLASSES:
            return f"'{name}' has {distinct} classes; at most {_MOST_CLASSES}"
        if task == "multiclass" and kind == "number" and not column["integer"]:
            return f"'{name}' holds fractions, which are no classes; use \"regression\""
    if task in ("binary", "multiclass") and len(targets) > 1:
        return f"{task} takes one target; several boolean ones make a multilabel task"
    return None
