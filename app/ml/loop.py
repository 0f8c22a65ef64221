"""The training loop: forward, loss, zero_grad, backward, step.

``train`` is a generator over plain torch. It tells what happened as events, publishes checkpoints
and the finished model to storage, and never touches a database, so it serves as a library too::

    for event in train(task):
        print(event)

Stopped at any moment and started again with the newest checkpoint in ``task.checkpoints``, it gives
the weights and the history of a run that nobody stopped, bit for bit on the CPU.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pyarrow as pa
import torch
from torch import Tensor, nn

from app.errors import ArtifactCorrupt, Diverged, InvalidData, TimeLimit
from app.ids import new_id
from app.ml import (
    batches,
    card,
    checkpoint,
    data,
    devices,
    inference,
    metrics,
    models,
    optimizers,
    tables,
)
from app.ml.averaging import Average
from app.ml.best import BestSoFar, State, state_of
from app.ml.card import WEIGHTS, Card
from app.ml.checkpoint import Training
from app.ml.events import (
    Best,
    CheckpointSaved,
    DataRead,
    EpochEnded,
    Event,
    StopReason,
    TrainEnded,
    TrainStopped,
    TrainTask,
)
from app.ml.held_out import HeldOut
from app.ml.losses import Objective
from app.ml.specs import JobSpec, PretrainedSpec
from app.storage import Storage

ShouldStop = Callable[[], StopReason | None]


def never() -> StopReason | None:
    """The ``should_stop`` of a run that nobody interrupts."""
    return None


def train(task: TrainTask, should_stop: ShouldStop = never) -> Iterator[Event]:
    """Train ``task`` to its end; ``should_stop`` is asked before every step.

    Yields a ``DataRead`` where the data call for a warning, an ``EpochEnded`` per epoch,
    ``CheckpointSaved`` now and then, and last ``TrainEnded`` or ``TrainStopped``.
    Raises Diverged, TimeLimit or InvalidData.
    """
    spec, storage = task.spec, Storage(task.root)
    torch.set_num_threads(spec.threads)
    device = devices.pick(spec.device)
    source = _source(storage, task)
    prepared = data.prepare(spec, _read(storage, task), source and source[0])
    if prepared.warnings:
        yield DataRead(warnings=prepared.warnings)

    rows = batches.rows_of(prepared.train, device)
    bounds = batches.bounds(len(rows.x), spec.batch_size)
    model, card = _model(spec, prepared, source, rows.x)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    objective = Objective(spec.loss, models.smoothing(spec.model))
    optimizer = optimizers.build(spec.optimizer, trained)
    scheduler = optimizers.Scheduler(spec, optimizer, len(bounds))
    held_out = HeldOut(prepared, spec.loss, device)
    average = Average(model, spec.ema_decay)
    at = Training(model, average, optimizer, scheduler, best=BestSoFar.of(spec))
    _resume(storage, task, at)
    saver = _Saver(storage, card, at)
    mixed = spec.precision == "bfloat16"
    precision = torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext()

    while not at.finished:
        epoch = at.epoch
        models.training_mode(model)
        for x, y, weight in batches.batches(rows, spec, epoch, skip=at.step):
            if reason := should_stop():
                if reason != "cancel":
                    yield saver.save()
                yield TrainStopped(reason=reason)
                return
            if saver.is_due():
                yield saver.save()
                saver.refuse_overtime()
            with precision:
                loss = objective(model(x), y, weight)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if spec.gradient_clip_norm is not None:
                nn.utils.clip_grad_norm_(trained, spec.gradient_clip_norm)
            optimizer.step()
            rate = optimizer.param_groups[0]["lr"]
            scheduler.after_batch()
            at.seen.append(loss.detach())
            at.step += 1
            average.update(epoch * len(bounds) + at.step)

        average.take_buffers()
        kept = average.module
        values = {"train_loss": _mean(at.seen, bounds), **held_out.measure(kept)}
        values["learning_rate"] = rate
        yield EpochEnded(epoch=epoch, values=values)
        _refuse_nonfinite(epoch, values, at.seen)
        at.best.update(epoch, values, kept)
        scheduler.after_epoch(values.get("validation_loss", values["train_loss"]))
        at.epoch, at.step, at.seen = epoch + 1, 0, []
        at.finished = at.best.exhausted or at.epoch == spec.epochs

    if at.best.state is not None:
        average.module.load_state_dict(at.best.state)
    ended = _ended(average.module, card, prepared, at.best)
    yield saver.save()
    saver.publish(task.model_id)
    yield ended


# ---------------------------------------------------------------- what is trained


def _source(storage: Storage, task: TrainTask) -> tuple[Card, State] | None:
    """The card and weights that a pretrained model starts from."""
    if not isinstance(task.spec.model, PretrainedSpec):
        return None
    if task.source is None:
        raise InvalidData(f"the model '{task.spec.model.model}' to start from has been deleted")
    try:
        folder = storage.verified("models", task.source)
    except ArtifactCorrupt as error:
        raise InvalidData(f"the model to start from cannot be read: {error.detail}") from error
    return card.read(folder), checkpoint.weights(folder)


def _read(storage: Storage, task: TrainTask) -> pa.Table:
    folder = storage.verified("datasets", task.dataset_id)
    columns = list(dict.fromkeys([*task.spec.features, *task.spec.told_columns]))
    return tables.read(folder / tables.FILE, columns, encoded=True)


def _model(
    spec: JobSpec,
    prepared: data.Prepared,
    source: tuple[Card, State] | None,
    x: Tensor,
) -> tuple[nn.Module, Card]:
    """The module before its first step, where ``x`` is, and what will be told about it."""
    inputs = prepared.preprocessing.features.inputs
    outputs = prepared.preprocessing.target.outputs
    model = models.build(spec.model, inputs, outputs, spec.seed, spec.loss.kind).to(x.device)
    if source is None:
        models.fit(model, x)
    if isinstance(spec.model, PretrainedSpec) and source is not None:
        same = source[0].preprocessing.target == prepared.preprocessing.target
        models.start_from(model, source[1], with_head=same)
        models.freeze(model, spec.model)
    about = Card(
        spec=spec,
        preprocessing=prepared.preprocessing,
        inputs=inputs.width,
        outputs=outputs,
        epoch=0,
        weights=[name for name, _ in model.named_parameters()],
        versions=checkpoint.library_versions(),
        guess=metrics.guess(prepared.preprocessing.target, prepared.train.table),
    )
    return model, about


def _resume(storage: Storage, task: TrainTask, at: Training) -> None:
    """Go on from the newest checkpoint that is whole; without one from the beginning."""
    for checkpoint_id in task.checkpoints:
        try:
            folder = storage.verified("checkpoints", checkpoint_id)
        except ArtifactCorrupt:
            continue
        at.restore(folder)
        return


# ---------------------------------------------------------------- checkpoints


class _Saver:
    """Publishes where training stands: when it is time, when it is asked to, and at the end."""

    def __init__(self, storage: Storage, card: Card, at: Training) -> None:
        self._storage, self._card, self._at = storage, card, at
        self._started = time.monotonic() - at.seconds
        limit = card.spec.max_seconds
        self._deadline = self._started + limit if limit is not None else math.inf
        self._every = card.spec.checkpoint.every_seconds
        self._alarm = min(time.monotonic() + self._every, self._deadline)

    def is_due(self) -> bool:
        """Whether a checkpoint is to be written, or the time is up."""
        return time.monotonic() >= self._alarm

    def save(self) -> CheckpointSaved:
        """Publish a checkpoint. Raises Diverged rather than keep weights that are not finite."""
        at, checkpoint_id = self._at, new_id("ckpt")
        state = _finite_state(at)
        seconds = time.monotonic() - self._started
        epoch = at.best.epoch if at.finished else max(0, at.epoch - (at.step == 0))
        with self._storage.publish("checkpoints", checkpoint_id) as draft:
            checkpoint.save(draft, self._card.model_copy(update={"epoch": epoch}), state)
            at.save(draft, seconds)
        _, sha256, size = self._storage.file("checkpoints", checkpoint_id, WEIGHTS)
        self._alarm = min(time.monotonic() + self._every, self._deadline)
        return CheckpointSaved(
            checkpoint_id=checkpoint_id, epoch=epoch, size_bytes=size, sha256=sha256
        )

    def refuse_overtime(self) -> None:
        """Raise TimeLimit where ``max_seconds`` are over, all attempts together."""
        if time.monotonic() >= self._deadline:
            limit = self._card.spec.max_seconds
            raise TimeLimit(f"stopped after {limit:g} s, in epoch {self._at.epoch}")

    def publish(self, model_id: str) -> None:
        """Publish the finished model."""
        with self._storage.publish("models", model_id) as draft:
            about = self._card.model_copy(update={"epoch": self._at.best.epoch})
            checkpoint.save(draft, about, state_of(self._at.average.module))


# ---------------------------------------------------------------- losses and metrics


def _mean(seen: list[Tensor], bounds: list[tuple[int, int]]) -> float:
    """The mean over samples of the batches' mean losses; the one synchronisation of an epoch."""
    if len(seen) == 1:
        return seen[0].item()
    sizes = torch.tensor([end - start for start, end in bounds], dtype=torch.float64)
    return float((torch.stack(seen).cpu().double() * sizes).sum() / sizes.sum())


def _refuse_nonfinite(epoch: int, values: dict[str, float], seen: list[Tensor]) -> None:
    """Raise Diverged as soon as a loss is no longer a number."""
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        step = next((i for i, loss in enumerate(seen) if not math.isfinite(loss)), len(seen) - 1)
        raise _diverged(f"epoch {epoch}, step {step}: {wrong[0]} is {values[wrong[0]]}")


def _finite_state(at: Training) -> State:
    """The weights to keep; they are checked, since no loss has been computed with the last step's
    where nothing is held out."""
    state = state_of(at.average.module)
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            epoch, step = (at.epoch, at.step - 1) if at.step else (at.epoch - 1, -1)
            which = f"step {step}" if step >= 0 else "its last step"
            raise _diverged(f"epoch {epoch}, {which}: {name} is not finite after it")
    return state


def _diverged(where: str) -> Diverged:
    remedy = "lower the learning rate, scale the data, or set gradient_clip_norm"
    return Diverged(f"training diverged in {where}; {remedy}")


def _ended(model: nn.Module, card: Card, prepared: data.Prepared, best: BestSoFar) -> TrainEnded:
    target, test = prepared.preprocessing.target, prepared.test
    scores = guesses = None
    warnings: list[str] = []
    if len(test) and card.guess is not None:
        scores = metrics.score(target, test.table, inference.outputs_of(model, test.x))
        guesses = metrics.baseline(target, card.guess, test.table)
        beaten = metrics.no_better(target, scores, guesses)
        warnings = [f"on the test part the model is {warning}" for warning in beaten]
    return TrainEnded(
        parameters=sum(weight.numel() for weight in model.parameters()),
        best=Best(epoch=best.epoch, values=best.values),
        test=scores,
        baseline=guesses,
        warnings=warnings,
        versions=card.versions,
    )
