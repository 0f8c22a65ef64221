"""Filling in a job request against a table, by arithmetic and its planning columns alone.

Nothing is built or allocated here, so a request that cannot work is refused when it is made, with
the field and the remedy, and not by a job that fails later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from app.errors import InvalidRequest
from app.ml.data.splits import Split
from app.ml.features import preprocessing
from app.ml.plan import columns as job_columns
from app.ml.plan import decisions, parts, pretrained, ranges, training
from app.ml.plan.columns import Column
from app.ml.plan.pretrained import Pretrained
from app.ml.specs import (
    Inputs,
    JobRequest,
    JobSpec,
    LayerMismatch,
    PretrainedSpec,
    Size,
    Task,
    architecture_of,
    size_of,
)

__all__ = ["Column", "Plan", "Pretrained", "columns_to_read", "plan"]


@dataclass(frozen=True)
class Plan:
    """A spec that will run, and what is known of it beforehand."""

    spec: JobSpec
    rows: Split
    """The row numbers of each part."""
    parameters: int
    """Trainable numbers of the module."""
    memory_bytes: int
    """What training takes at the least."""
    warnings: list[str] = field(default_factory=list)

    @property
    def split(self) -> dict[str, int]:
        """How many rows each part has."""
        return self.rows.counts()


def columns_to_read(request: JobRequest, columns: Sequence[Column]) -> list[str]:
    """Return the columns of a dataset whose values ``plan`` looks at: the request's
    ``planning_columns``, those that the dataset has, and features of very large numbers."""
    known = {column["name"]: column for column in columns}
    planning = [name for name in request.planning_columns if name in known]
    return list(dict.fromkeys([*planning, *ranges.far_columns(request, known)]))


def plan(
    request: JobRequest,
    columns: Sequence[Column],
    rows: int,
    table: pa.Table,
    source: Pretrained | None = None,
) -> Plan:
    """Return the complete spec of ``request`` for a dataset of ``columns`` and ``rows`` rows.

    ``table`` holds the ``columns_to_read``; ``source`` is the model version that a pretrained model
    starts from.

    Raises InvalidRequest or InvalidData naming the field and what would work.
    """
    known = {column["name"]: column for column in columns}
    job_columns.require_targets(request, known)
    if source is not None:
        request = pretrained.inherit(request, source, known)
    job_columns.require_planning_columns(request, known)
    task = job_columns.task_of(request, [known[target] for target in request.targets])
    features, warnings = job_columns.features_of(request, known, rows)
    warnings += job_columns.maybe_classes(request, task, known)
    spec = _complete(request, task, features)
    ranges.require_float32(spec, known)
    ranges.require_not_negative(spec, known)
    classes = preprocessing.classes_of(table[spec.targets[0]]) if spec.classifies else []
    job_columns.require_short(spec.targets[0], classes)
    training.require_class_weights(spec, classes)
    if "split" not in request.model_fields_set:
        spec, few = parts.for_few_rows(spec, table)
        warnings += few
    spec, rows_of_parts = parts.assigned(spec, table)
    split = rows_of_parts.counts()
    if (complete := sum(split.values())) < rows:
        warnings.append(f"{rows - complete} rows without a target were left out")
    warnings += parts.warnings(spec, rows_of_parts)
    warnings += parts.require_classes(spec, classes, table, rows_of_parts)
    ranges.require_scaled(spec, known, table, rows_of_parts, source)
    spec = training.complete(request, spec, split["train"])
    spec, rare = decisions.complete(request, spec, classes, table, rows_of_parts)
    warnings += rare
    inputs = pretrained.inputs(source) if source else job_columns.inputs_of(spec, known)
    outputs = _outputs(spec, len(classes))
    if source is not None:
        spec = pretrained.complete(spec, source, outputs)
    training.require_batches_for_norm(spec, split["train"])
    size = _size(spec, inputs, outputs)
    memory = training.memory(spec, size, inputs, outputs, split)
    return Plan(spec, rows_of_parts, size.parameters, memory, warnings)


def _size(spec: JobSpec, inputs: Inputs, outputs: int) -> Size:
    """Return the size of the module.

    Raises InvalidRequest where its layers do not fit or have nothing to train.
    """
    try:
        size = size_of(architecture_of(spec.model), inputs, outputs)
    except LayerMismatch as mismatch:
        if not isinstance(spec.model, PretrainedSpec):
            raise InvalidRequest.at(f"/model{mismatch.place}", mismatch.detail, "layer") from None
        raise InvalidRequest.at(
            "/model/model",
            f"'{spec.model.model}' does not end in a Linear layer, so it cannot be given "
            f"{outputs} outputs for this target; start from another model",
            "layer",
        ) from None
    if not size.parameters:
        raise InvalidRequest.at(
            "/model/layers", "these layers have nothing to train; add a Linear one", "layer"
        )
    return size


def _outputs(spec: JobSpec, classes: int) -> int:
    """Return how many outputs the module has."""
    if not spec.classifies:
        return len(spec.targets)
    return 1 if spec.loss.kind == "bce_with_logits" else classes


def _complete(request: JobRequest, task: Task, features: list[str]) -> JobSpec:
    """Return a spec with all that needs no count of rows. Raises InvalidRequest."""
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
    loss = training.loss_of(request, task)
    values = request.model_dump(exclude={"features", "loss", "batch_size"})
    return JobSpec.model_validate(
        {
            **values,
            "task": task,
            "features": features,
            "split": split,
            "preprocessing": request.preprocessing.model_copy(update={"target": scaling}),
            "loss": loss,
            **training.defaults(request),
            "batch_size": None,
            "calibrate": False,
            "threshold": 0.5,
            "refit": False,
        }
    )
