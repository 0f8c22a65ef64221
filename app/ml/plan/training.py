"""How a job is trained where its request leaves that open, and what that takes."""

import math
from collections.abc import Sequence
from typing import Any

from app.errors import InvalidRequest
from app.ml.features.preprocessing import label
from app.ml.specs import (
    LOSSES_FOR_TASK,
    AdamWSpec,
    CosineSpec,
    CyclicSpec,
    EarlyStoppingSpec,
    Inputs,
    JobRequest,
    JobSpec,
    LossSpec,
    MLPSpec,
    SequentialSpec,
    Size,
    TabularSpec,
    Task,
    architecture_of,
)

_BYTES_PER_NUMBER = 4
_MOST_CYCLES = 1000
# Chosen on fourteen public tables; see "The default model" in docs/design.md.
_TABULAR_OPTIMIZER = AdamWSpec(lr=2e-3, weight_decay=0.3)
# Chosen on twelve tables of 20 to 1,000 rows against scikit-learn's MLP (tests/unit/ml/training):
# at torch's 0.001 a hundred epochs of a small table are too few to learn even a line.
_LEARNING_RATES = {"linear": 0.03, "mlp": 3e-3, "sequential": 3e-3}
_TABULAR_STEPS, _MOST_BINS, _ROWS_PER_BIN = 2500, 48, 48


def loss_of(request: JobRequest, task: Task) -> LossSpec | str:
    """Return the request's loss, by default the task's own. Raises InvalidRequest for a misfit."""
    suitable = LOSSES_FOR_TASK[task]
    if request.loss is None:
        return suitable[0]
    if request.loss.kind not in suitable:
        names = " or ".join(f"'{name}'" for name in suitable)
        raise InvalidRequest.at(
            "/loss", f"the loss '{request.loss.kind}' does not fit a {task} target; use {names}"
        )
    return request.loss


def defaults(request: JobRequest) -> dict[str, Any]:
    """Return model, optimizer, scheduler and ``ema_decay``, by default those that go together."""
    model = request.model or TabularSpec()
    fields: dict[str, Any] = {
        "model": model,
        "optimizer": request.optimizer or AdamWSpec(lr=_LEARNING_RATES.get(model.kind, 1e-3)),
        "scheduler": request.scheduler,
        "ema_decay": request.ema_decay,
    }
    if isinstance(model, TabularSpec):
        own: dict[str, Any] = {
            "optimizer": _TABULAR_OPTIMIZER,
            "scheduler": CosineSpec(),
            "ema_decay": 0.99,
        }
        fields |= {k: v for k, v in own.items() if k not in request.model_fields_set}
    return fields


def complete(request: JobRequest, spec: JobSpec, train: int) -> JobSpec:
    """Return the spec with what depends on the ``train`` training rows: early stopping, batches and
    the tabular model's bins and epochs. Raises InvalidRequest."""
    stopping = request.early_stopping
    if spec.split.validation == 0 and stopping is not None:
        raise InvalidRequest.at(
            "/early_stopping",
            "early stopping watches the validation part, which is empty; "
            "give split.validation a share, or set early_stopping to null",
        )
    if spec.split.validation > 0 and "early_stopping" not in request.model_fields_set:
        stopping = EarlyStoppingSpec(patience=10, min_delta=0.0)
    batch_size = _batch_size(request, train)
    spec = spec.model_copy(
        update={
            "early_stopping": stopping,
            "batch_size": batch_size,
            "refit": _refits(request, spec),
        }
    )
    if isinstance(spec.model, TabularSpec):
        spec = spec.model_copy(update=_tabular_fields(request, spec.model, train, batch_size))
    _require_few_cycles(spec, train)
    _require_turns(spec)
    return spec


def _refits(request: JobRequest, spec: JobSpec) -> bool:
    """Return whether the model is trained once more on all rows."""
    if request.refit is True and not spec.epochs:
        raise InvalidRequest.at(
            "/refit", "a model of 0 epochs is untrained, also on all rows; leave refit out"
        )
    if isinstance(request.refit, bool):
        return request.refit
    if not spec.epochs:
        return False
    # who names the rows that train, in a column, means them
    return isinstance(spec.model, TabularSpec) and spec.split.strategy != "column"


def _require_turns(spec: JobSpec) -> None:
    """Raise InvalidRequest where a scheduler of several would never have its turn."""
    if not isinstance(spec.scheduler, list) or not spec.epochs:
        return
    before = sum(scheduler.duration or 0 for scheduler in spec.scheduler[:-1])
    if before >= spec.epochs:
        raise InvalidRequest.at(
            "/scheduler",
            f"the schedulers before the last take {before} epochs and the job has {spec.epochs}; "
            "give them fewer, or the job more",
        )


def _require_few_cycles(spec: JobSpec, train: int) -> None:
    """Raise InvalidRequest for many cycles: torch halves ``triangular2`` by a power that overflows
    after 1,024 of them."""
    rates = spec.scheduler
    if not isinstance(rates, CyclicSpec) or rates.mode != "triangular2":
        return
    batches = math.ceil(train / (spec.batch_size or train))
    steps = spec.epochs * math.ceil(batches / spec.gradient_accumulation)
    length = rates.step_size_up + (rates.step_size_down or rates.step_size_up)
    if steps / length > _MOST_CYCLES:
        raise InvalidRequest.at(
            "/scheduler/step_size_up",
            f"{steps} steps are more than {_MOST_CYCLES} cycles of {length}, after which nothing "
            'is left of triangular2; take longer cycles, or the mode "triangular"',
        )


def _batch_size(request: JobRequest, train: int) -> int | None:
    """Return the rows in a batch. Raises InvalidRequest for more than there are.

    ``auto`` is the power of two nearest to a hundredth of the training part, from 32 to 1,024; for
    a small table, but not for ``tabular``, the one nearest to a fifth, from 8 to 32.
    """
    if request.batch_size != "auto":
        if request.batch_size is not None and request.batch_size > train:
            raise InvalidRequest.at(
                "/batch_size",
                f"a batch of {request.batch_size} is more than the {train} training rows; "
                "use a smaller one, or null for all rows in one step",
            )
        return request.batch_size
    small = 32 if isinstance(request.model or TabularSpec(), TabularSpec) else 8
    fifth = min(32, max(small, _power_of_two(train / 5)))
    return min(train, max(fifth, min(1024, _power_of_two(train / 100))))


def _power_of_two(number: float) -> int:
    """Return the power of two nearest to ``number``, by its logarithm; at least 1."""
    return 1 << round(math.log2(max(1.0, number)))


def _tabular_fields(
    request: JobRequest, model: TabularSpec, train: int, batch_size: int | None
) -> dict[str, Any]:
    """Return as many bins as the rows can fill, and about as many steps for a large table as for a
    small one: from 15 to 100 epochs of them."""
    bins = model.bins or min(_MOST_BINS, max(2, train // _ROWS_PER_BIN))
    fields: dict[str, Any] = {"model": model.model_copy(update={"bins": bins})}
    if "epochs" not in request.model_fields_set:
        steps = max(1.0, train / (batch_size or train))
        fields["epochs"] = min(100, max(15, round(_TABULAR_STEPS / steps)))
    return fields


def require_batches_for_norm(spec: JobSpec, train: int) -> None:
    """Raise InvalidRequest where a batch norm would see one row at a time."""
    if (spec.batch_size or train) >= 2:
        return
    model, norm = architecture_of(spec.model), None
    if isinstance(model, MLPSpec) and model.norm == "batch":
        norm = "/model/norm", 'use "layer", or '
    if isinstance(model, SequentialSpec):
        kinds = [layer.kind for layer in model.layers]
        if "BatchNorm1d" in kinds:
            norm = f"/model/layers/{kinds.index('BatchNorm1d')}", 'use "LayerNorm", or '
    if norm is not None:
        pointer, other = norm if model is spec.model else ("/batch_size", "use ")
        raise InvalidRequest.at(
            pointer, f"batch norm cannot learn from batches of one row; {other}larger batches"
        )


def require_class_weights(spec: JobSpec, classes: Sequence[Any]) -> None:
    """Raise InvalidRequest where a weight is given for what is no class."""
    if spec.class_weight is None:
        return
    if not spec.classifies:
        raise InvalidRequest.at(
            "/class_weight",
            f"a {spec.task} target has no classes to weigh; leave it out, or use sample_weight",
        )
    if spec.class_weight == "balanced":
        return
    known = [label(value) for value in classes]
    for name in spec.class_weight:
        if name not in known:
            listed = ", ".join(f"'{item[:64]}'" for item in known[:20])
            raise InvalidRequest.at(
                "/class_weight", f"unknown class '{name[:64]}'; there are {listed}"
            )


def memory(spec: JobSpec, size: Size, inputs: Inputs, outputs: int, split: dict[str, int]) -> int:
    """Return the bytes that training takes at the least: weights, gradients, the optimizer's
    moments, the best weights so far, their average, the rows (once more where they are shuffled),
    and a batch's activations."""
    averaged = spec.ema_decay is not None
    copies = 2 + spec.optimizer.numbers_per_weight + (spec.split.validation > 0) + averaged
    parts = split["train"] if not spec.refit else sum(split.values())
    rows = sum(split.values()) + (parts if spec.batch_size else 0)
    batch = spec.batch_size or split["train"]
    numbers = size.parameters * copies + rows * (inputs.width + outputs) + batch * size.activations
    return _BYTES_PER_NUMBER * numbers
