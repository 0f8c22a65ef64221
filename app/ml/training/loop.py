"""The training loop: zero_grad, forward, loss, backward, step.

``train`` is a generator over plain torch. It tells what happened as events, publishes checkpoints
and the finished model to storage, and never touches a database, so it serves as a library too::

    for event in train(task):
        print(event)

Stopped at any moment and started again with the newest checkpoint in ``task.checkpoints``, it gives
the weights and the history of a run that nobody stopped, bit for bit on the CPU.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor, nn

from app import ids
from app.errors import ArtifactCorrupt, InvalidData, TimeLimit
from app.ml.column_types.fitted import Matrix
from app.ml.data import batches, preparation
from app.ml.data.batches import Rows
from app.ml.data.splits import Split
from app.ml.evaluation import bootstrap, calibration, importance, metrics
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets
from app.ml.inference import card as cards
from app.ml.inference import conformal, forward, model_files
from app.ml.inference.card import Card
from app.ml.inference.explanations import Background, Importance
from app.ml.inference.model_files import StateDict
from app.ml.nn import devices, modules
from app.ml.nn.losses import Objective
from app.ml.specs import JobSpec, PretrainedSpec
from app.ml.tables import parquet
from app.ml.training import optimizers
from app.ml.training.best_weights import BestWeights
from app.ml.training.checkpoint import TrainState
from app.ml.training.ema import EMA
from app.ml.training.events import (
    Best,
    CheckpointDamaged,
    DataRead,
    EpochEnded,
    Event,
    StopReason,
    TrainEnded,
    TrainStopped,
    TrainTask,
)
from app.ml.training.saver import CheckpointSaver, diverged
from app.ml.training.validator import Validator
from app.storage import Storage

ShouldStop = Callable[[], StopReason | None]
"""Returns why training is to stop; ``None`` where it goes on."""


def never() -> StopReason | None:
    """Return ``None``, as the ``should_stop`` of a run that nobody interrupts."""
    return None


def train(task: TrainTask, should_stop: ShouldStop = never) -> Iterator[Event]:
    """Train ``task`` to its end; ``should_stop`` is asked before every step.

    Yields a ``DataRead`` where the data call for a warning, an ``EpochEnded`` per epoch,
    ``CheckpointBegun`` and ``CheckpointSaved`` now and then, and last ``TrainEnded`` or
    ``TrainStopped``. ``CheckpointDamaged`` tells of one that was passed over. Raises Diverged,
    TimeLimit, InvalidData or ArtifactCorrupt.
    """
    spec, storage = task.spec, Storage(task.root)
    ids.continue_after(*task.checkpoints)  # by their ids it is told which is the newest
    torch.set_num_threads(spec.threads)
    device = devices.pick(spec.device)
    source = _source(storage, task)
    table, split, names = _read(storage, task)
    folded = [name for name, notation in task.notations.items() if notation.folded]
    prepared = preparation.prepare(spec, table, split, source and source[0], task.texts, folded)
    if prepared.warnings:
        yield DataRead(warnings=prepared.warnings)

    rows = batches.rows_of(prepared.train, device)
    model, card = _model(task, prepared, source, rows.x, names)
    state = _state(spec, model, rows)
    validator = Validator(prepared, spec, device)
    yield from _resume(storage, task, state)
    state.finished = state.finished or spec.epochs == 0
    saver = CheckpointSaver(storage, card, state)
    yield from _epochs(spec, rows, state, validator, saver, should_stop)
    if not state.finished:
        return

    model = state.ema.module
    if state.best.state is not None:
        model.load_state_dict(state.best.state)
    tested = forward.outputs_of(model, prepared.test.x)
    card = saver.card = _decided(card, prepared, model, tested)
    ended = _ended(model, card, prepared, state, tested)
    yield saver.begin()
    saved = saver.save()
    try:
        saver.publish(task.model_id)
    finally:
        yield saved  # just before the end, so that both are recorded at once
    yield ended


def _epochs(
    spec: JobSpec,
    rows: Rows,
    state: TrainState,
    validator: Validator,
    saver: CheckpointSaver,
    should_stop: ShouldStop,
) -> Iterator[Event]:
    """Train on ``rows`` from where ``state`` stands until it is finished, or is asked to stop."""
    model, ema, optimizer, scheduler = state.model, state.ema, state.optimizer, state.scheduler
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    objective = Objective(spec.loss, modules.smoothing(spec.model))
    bounds = batches.bounds(len(rows.x), spec.batch_size)
    steps = batches.steps_per_epoch(len(rows.x), spec)
    mixed = spec.precision == "bfloat16"
    precision = torch.autocast(rows.x.device.type, torch.bfloat16) if mixed else nullcontext()

    while not state.finished:
        epoch = state.epoch
        modules.training_mode(model)
        for step in batches.steps(rows, spec, epoch, skip=state.step):
            if reason := should_stop():
                if reason != "cancel":
                    yield saver.begin()
                    yield saver.save()
                yield TrainStopped(reason=reason)
                return
            if saver.is_due():
                yield saver.begin()
                yield saver.save()
                if saver.overtime is not None:
                    state.finished = _may_end(spec, saver.overtime)
                    return
            optimizer.zero_grad()
            for x, y, weight in step:
                with precision:
                    loss = objective(model(x), y, weight)
                (loss if len(step) == 1 else loss / len(step)).backward()  # type: ignore[no-untyped-call]
                state.losses.append(loss.detach())
            if spec.gradient_clip_norm is not None:
                nn.utils.clip_grad_norm_(trained, spec.gradient_clip_norm)
            optimizer.step()
            rate = optimizer.param_groups[0]["lr"]
            scheduler.after_step()
            state.step += len(step)
            ema.update(epoch * steps + math.ceil(state.step / spec.gradient_accumulation))

        ema.copy_buffers()
        values = {"train_loss": _mean(state.losses, bounds), **validator.measure(ema.module)}
        values["learning_rate"] = rate
        yield EpochEnded(epoch=epoch, values=values)
        _refuse_nonfinite(epoch, values, state.losses)
        state.best.update(epoch, values, ema.module)
        scheduler.after_epoch(values.get("validation_loss", values["train_loss"]))
        state.epoch, state.step, state.losses = epoch + 1, 0, []
        state.finished = state.best.exhausted or state.epoch == spec.epochs


# ---------------------------------------------------------------- model and data


def _source(storage: Storage, task: TrainTask) -> tuple[Card, StateDict] | None:
    """Return card and weights that a pretrained model starts from.

    Raises InvalidData where it was deleted, or ArtifactCorrupt.
    """
    if not isinstance(task.spec.model, PretrainedSpec):
        return None
    if task.source is None or not storage.path("models", task.source).exists():
        raise InvalidData(f"the model '{task.spec.model.model}' to start from has been deleted")
    folder = storage.verified("models", task.source)
    return cards.read(folder), model_files.weights(folder)


def _read(storage: Storage, task: TrainTask) -> tuple[pa.Table, Split | None, list[str]]:
    """Return the columns that training reads, the rows of each part where the task has them, and
    the names of all columns."""
    spec, sha256 = task.spec, task.dataset_sha256
    path = storage.file("datasets", task.dataset_id, parquet.FILE, sha256)
    columns, split = preparation.columns_of(spec), None
    if task.split is None:
        columns = list(dict.fromkeys([*columns, *spec.planning_columns]))
    else:
        split = Split.from_bytes(task.split, task.split_counts)
    return parquet.read(path, columns, encoded=True), split, parquet.names(path)


def _model(
    task: TrainTask,
    prepared: preparation.Prepared,
    source: tuple[Card, StateDict] | None,
    x: Tensor,
    columns: Sequence[str],
) -> tuple[nn.Module, Card]:
    """Make the module on the device of ``x`` ``(rows, inputs)``, ready to train, and its card;
    ``columns`` are the names of all that the dataset has."""
    spec, features = task.spec, prepared.preprocessing.features
    inputs = features.inputs
    outputs = prepared.preprocessing.target.outputs
    model = modules.build(spec.model, inputs, outputs, spec.seed, spec.loss.kind).to(x.device)
    if source is None:
        modules.fit(model, x)
    if isinstance(spec.model, PretrainedSpec) and source is not None:
        same = source[0].preprocessing.target.like(prepared.preprocessing.target)
        modules.start_from(model, source[1], with_head=same)
        modules.freeze(model, spec.model)
    card = Card(
        spec=spec,
        preprocessing=prepared.preprocessing,
        inputs=inputs.width,
        outputs=outputs,
        epoch=0,
        weights=[name for name, _ in model.named_parameters()],
        versions=model_files.library_versions(),
        ignored=[*(name for name in columns if name not in features.types), *task.left_out],
        cells=task.cells,
        notations={name: n for name, n in task.notations.items() if name in features.types},
        baseline=metrics.constant_prediction(prepared.preprocessing.target, prepared.train.table),
        background=Background.of(prepared.train.x, spec.seed),
    )
    return model, card


def _state(spec: JobSpec, model: nn.Module, rows: Rows) -> TrainState:
    """Return the state of a training that begins."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = optimizers.build(spec.optimizer, trained)
    steps = batches.steps_per_epoch(len(rows.x), spec)
    scheduler = optimizers.Scheduler(spec, optimizer, steps)
    return TrainState(model, EMA(model, spec.ema_decay), optimizer, scheduler, BestWeights.of(spec))


def _resume(storage: Storage, task: TrainTask, state: TrainState) -> Iterator[CheckpointDamaged]:
    """Restore the newest checkpoint that is whole; without one training starts at the beginning.

    Yields the damaged ones that were passed over.
    """
    for checkpoint_id in task.checkpoints:
        try:
            state.restore(storage.verified("checkpoints", checkpoint_id))
            return
        except ArtifactCorrupt as error:
            message = f"{error.detail}; training goes on from an older checkpoint, or its start"
            yield CheckpointDamaged(message=message)


# ---------------------------------------------------------------- losses and metrics


def _mean(losses: list[Tensor], bounds: list[tuple[int, int]]) -> float:
    """Return the mean over samples of the batches' mean losses; an epoch's one synchronisation."""
    if len(losses) == 1:
        return losses[0].item()
    sizes = torch.tensor([end - start for start, end in bounds], dtype=torch.float64)
    return float((torch.stack(losses).cpu().double() * sizes).sum() / sizes.sum())


def _refuse_nonfinite(epoch: int, values: dict[str, float], losses: list[Tensor]) -> None:
    """Raise Diverged as soon as a loss is no longer a number."""
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        step = next(
            (i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses) - 1
        )
        raise diverged(f"epoch {epoch}, step {step}: {wrong[0]} is {values[wrong[0]]}")


def _may_end(spec: JobSpec, overtime: str) -> bool:
    """Return True where the job is content with the best weights so far. Raises TimeLimit."""
    if spec.at_limit == "fail":
        raise TimeLimit(overtime)
    return True


def _decided(card: Card, prepared: preparation.Prepared, model: nn.Module, tested: Matrix) -> Card:
    """Return the card with what the validation part calls for: temperature and threshold, and how
    far off predictions may be, which is held against the outputs ``tested`` of the test part."""
    target, part, test = card.preprocessing.target, prepared.validation, prepared.test
    outputs = forward.outputs_of(model, part.x)
    if not isinstance(target, NumberTargets):
        target = _calibrated(card.spec, target, part, outputs)
    reach = conformal.fit(target, part.table, outputs)
    if reach is not None:
        reach = conformal.measured(reach, target, test.table, tested)
    fitted = card.preprocessing.model_copy(update={"target": target})
    return card.model_copy(update={"preprocessing": fitted, "conformal": reach})


def _calibrated(
    spec: JobSpec, target: ClassTarget | LabelTargets, part: preparation.Part, outputs: Matrix
) -> ClassTarget | LabelTargets:
    """Return the target with the temperature and the threshold that ``outputs`` call for."""
    if spec.calibrate and len(part):
        fitted = calibration.temperature(target, part.table, outputs, part.weight)
        target = target.model_copy(update={"temperature": fitted})
    if isinstance(target, ClassTarget) and (yes := target.positive) is not None:
        at = spec.threshold
        if not isinstance(at, float):
            shares = target.probabilities(outputs)[:, yes]
            at = calibration.threshold(at, target.codes(part.table) == yes, shares)
        target = target.model_copy(update={"threshold": at})
    return target


def _importance(model: nn.Module, card: Card, prepared: preparation.Prepared) -> Importance | None:
    """Return how much the model relies on each feature, on the test part or what stands in."""
    parts = (prepared.test, prepared.validation, prepared.train)
    part = next(part for part in parts if len(part))
    features = card.preprocessing.features
    names = [feature.name for feature in features.features]
    places = [(name, *ends) for name, ends in zip(names, features.places(), strict=True)]
    through = partial(forward.outputs_of, model)
    return importance.measured(card.preprocessing.target, part.table, part.x, places, through)


def _ended(
    model: nn.Module,
    card: Card,
    prepared: preparation.Prepared,
    state: TrainState,
    tested: Matrix,
) -> TrainEnded:
    """Score the outputs ``tested`` of the test part, and a constant prediction for it."""
    target, test, best = card.preprocessing.target, prepared.test, state.best
    scores = baseline = confidence = None
    warnings: list[str] = []
    if state.epoch < card.spec.epochs and not best.exhausted:
        warnings.append(
            f"max_seconds ended the training in epoch {state.epoch} of {card.spec.epochs}; the "
            "model has the best weights so far"
        )
    if len(test) and card.baseline is not None:
        scores = metrics.score(target, test.table, tested)
        confidence = bootstrap.confidence(target, test.table, tested, scores)
        baseline = metrics.baseline_scores(target, card.baseline, test.table)
        beaten = metrics.baseline_warnings(target, scores, baseline)
        warnings += [f"on the test part the model is {warning}" for warning in beaten]
    return TrainEnded(
        features=card.described_features,
        decision=card.decision,
        coverage=card.coverage,
        importance=_importance(model, card, prepared),
        confidence=confidence,
        parameters=sum(weight.numel() for weight in model.parameters()),
        best=Best(epoch=best.epoch, by=best.watch or "last", values=best.values)
        if best.values
        else None,
        test=scores,
        baseline=baseline,
        warnings=warnings,
        versions=card.versions,
    )
