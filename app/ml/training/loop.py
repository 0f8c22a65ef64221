"""The training loop: zero_grad, forward, loss, backward, step.

``train`` is a generator over plain torch. It tells what happened as events, publishes checkpoints
and the finished model to storage, and never touches a database, so it serves as a library too::

    for event in train(task):
        print(event)

Stopped at any moment and started again with the newest checkpoint in ``task.checkpoints``, it gives
the weights and the history of a run that nobody stopped, bit for bit on the CPU.
"""

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import pyarrow as pa
import torch
from torch import Tensor, nn

from app import ids
from app.errors import ArtifactCorrupt, Diverged, InvalidData, TimeLimit
from app.ml.data import batches, preparation
from app.ml.data.batches import Rows
from app.ml.data.splits import Split
from app.ml.evaluation import metrics
from app.ml.inference import card as cards
from app.ml.inference import model_files
from app.ml.inference.card import Card
from app.ml.inference.explanations import Background
from app.ml.inference.model_files import StateDict, state_dict_of
from app.ml.nn import devices, modules
from app.ml.nn.losses import Objective
from app.ml.specs import JobSpec, PretrainedSpec
from app.ml.tables import parquet
from app.ml.training import measuring, optimizers, refit
from app.ml.training.best_weights import BestWeights
from app.ml.training.checkpoint import TrainState
from app.ml.training.ema import EMA
from app.ml.training.events import (
    CheckpointDamaged,
    DataRead,
    EpochEnded,
    Event,
    StopReason,
    TrainEnded,
    TrainStopped,
    TrainTask,
)
from app.ml.training.refit import Before
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
    storage = Storage(task.root)
    ids.continue_after(*task.checkpoints)  # by their ids it is told which is the newest
    torch.set_num_threads(task.spec.threads)
    data = _read(storage, task)
    run = yield from _start(storage, task, data)
    if run.warnings:
        yield DataRead(warnings=run.warnings)
    if run.before is None:
        saver = CheckpointSaver(storage, run.card, run.state)
        yield from _epochs(run, saver, should_stop)
        if not run.state.finished:
            return
        saver.card, ended = run.measured()
        if not task.spec.refit or not run.state.epoch:
            yield from _published(saver, task.model_id, ended)
            return
        yield saver.begin()
        yield saver.save()
        run = _Run(task, data, Before(saver.card, state_dict_of(run.model), ended, saver.seconds))
    yield from _refitted(storage, task, run, should_stop)


def _refitted(
    storage: Storage, task: TrainTask, run: "_Run", should_stop: ShouldStop
) -> Iterator[Event]:
    """Train on all rows; where that cannot be done the model is the one that was measured."""
    before = run.before
    assert before is not None
    saver = CheckpointSaver(storage, before.carried(run.card), run.state, before)
    why = "max_seconds ended that"
    try:
        yield from _epochs(run, saver, should_stop)
    except Diverged as error:
        run.state.finished, why = True, error.detail
    if not run.state.finished:
        return
    if run.state.epoch == run.epochs:
        yield from _published(saver, task.model_id, before.refit_ended)
        return
    with storage.publish("models", task.model_id) as draft:
        model_files.save(draft, before.card, before.weights)
    yield before.given_up(why)


def _published(saver: CheckpointSaver, model_id: str, ended: TrainEnded) -> Iterator[Event]:
    """Publish the last checkpoint and the finished model."""
    yield saver.begin()
    saved = saver.save()
    try:
        saver.publish(model_id)
    finally:
        yield saved  # just before the end, so that both are recorded at once
    yield ended


class _Data(NamedTuple):
    """What a task reads, once for all its runs."""

    table: pa.Table
    split: Split
    names: list[str]
    """Of all columns of the dataset."""
    source: tuple[Card, StateDict] | None
    """Card and weights that a pretrained model starts from."""


class _Run:
    """One way from a module's first weights to those that are kept: on the training part, or, with
    the model ``before`` it, on all rows."""

    def __init__(self, task: TrainTask, data: _Data, before: Before | None = None) -> None:
        self.before = before
        self.spec = task.spec if before is None else refit.spec_of(task.spec)
        split = data.split if before is None else refit.all_rows(data.split)
        folded = [name for name, notation in task.notations.items() if notation.folded]
        source = data.source and data.source[0]
        prepared = preparation.prepare(self.spec, data.table, split, source, task.texts, folded)
        device = devices.pick(self.spec.device)
        self._prepared = prepared
        self.rows = batches.rows_of(prepared.train, device)
        module, self.card = _model(task, prepared, data, self.rows.x)
        self.state = _state(self.spec, module, self.rows)
        self.state.finished = task.spec.epochs == 0
        self.validator = Validator(prepared, self.spec, device)
        if before is not None:
            self.state.seconds = before.seconds

    @property
    def warnings(self) -> list[str]:
        """What is to be said of the rows."""
        return self._prepared.warnings if self.before is None else []

    @property
    def epochs(self) -> int:
        """How many there are at the most."""
        return self.spec.epochs if self.before is None else self.before.epochs

    @property
    def model(self) -> nn.Module:
        """The module with the weights that are kept, once training has ended."""
        module = self.state.ema.module
        if self.state.best.state is not None:
            module.load_state_dict(self.state.best.state)
        return module

    def measured(self) -> tuple[Card, TrainEnded]:
        """Return the card of the finished model, and what is told of it."""
        return measuring.measured(self.card, self._prepared, self.model, self.state)


def _start(storage: Storage, task: TrainTask, data: _Data) -> Generator[Event, None, _Run]:
    """Return the run that the newest checkpoint that is whole was of, restored; without one a new
    run.

    Yields the damaged ones that were passed over.
    """
    for checkpoint_id in task.checkpoints:
        try:
            folder = storage.verified("checkpoints", checkpoint_id)
            run = _Run(task, data, Before.find(folder))
            run.state.restore(folder)
            return run
        except ArtifactCorrupt as error:
            message = f"{error.detail}; training goes on from an older checkpoint, or its start"
            yield CheckpointDamaged(message=message)
    return _Run(task, data)


def _epochs(run: _Run, saver: CheckpointSaver, should_stop: ShouldStop) -> Iterator[Event]:
    """Train from where ``run`` stands until it is finished, or is asked to stop.

    The epochs of a refit are not told: the history is of the run that was measured.
    """
    spec, rows, state = run.spec, run.rows, run.state
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
        values = {"train_loss": _mean(state.losses, bounds), **run.validator.measure(ema.module)}
        values["learning_rate"] = rate
        if run.before is None:
            yield EpochEnded(epoch=epoch, values=values)
        _refuse_nonfinite(epoch, values, state.losses)
        state.best.update(epoch, values, ema.module)
        scheduler.after_epoch(values.get("validation_loss", values["train_loss"]))
        state.epoch, state.step, state.losses = epoch + 1, 0, []
        state.finished = state.best.exhausted or state.epoch == run.epochs


# ---------------------------------------------------------------- model and data


def _read(storage: Storage, task: TrainTask) -> _Data:
    """Return the columns that training reads, the rows of each part, and what it starts from."""
    spec, sha256 = task.spec, task.dataset_sha256
    source = _source(storage, task)
    path = storage.file("datasets", task.dataset_id, parquet.FILE, sha256)
    columns = preparation.columns_of(spec)
    if task.split is None:
        columns = list(dict.fromkeys([*columns, *spec.planning_columns]))
    table = parquet.read(path, columns, encoded=True)
    if task.split is None:
        split = preparation.split_of(spec, table)
    else:
        split = Split.from_bytes(task.split, task.split_counts)
    return _Data(table, split, parquet.names(path), source)


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


def _model(
    task: TrainTask, prepared: preparation.Prepared, data: _Data, x: Tensor
) -> tuple[nn.Module, Card]:
    """Make the module on the device of ``x`` ``(rows, inputs)``, ready to train, and its card."""
    spec, features, source = task.spec, prepared.preprocessing.features, data.source
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
        ignored=[*(name for name in data.names if name not in features.types), *task.left_out],
        cells=task.cells,
        notations={
            name: notation
            for name, notation in task.notations.items()
            if name in features.types or name in spec.targets
        },
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
