"""The training loop: forward, loss, zero_grad, backward, step.

``train`` is a generator over plain torch. It tells what happened as events, publishes checkpoints
and the finished model to storage, and never touches a database, so it serves as a library too::

    for event in train(task):
        print(event)
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from app.errors import Diverged, TimeLimit
from app.ids import new_id
from app.ml import checkpoint, data, devices, inference, losses, metrics, models, optimizers, tables
from app.ml.checkpoint import Card, State
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
from app.ml.specs import JobSpec
from app.storage import Storage

ShouldStop = Callable[[], StopReason | None]


def never() -> StopReason | None:
    """The ``should_stop`` of a run that nobody interrupts."""
    return None


@dataclass
class BestSoFar:
    """The weights to keep: of the lowest validation loss, or the last where there is none."""

    watch: str | None
    patience: int | None
    min_delta: float = 0.0
    lowest: float = math.inf
    reference: float = math.inf  # what a fall by min_delta is counted from
    waited: int = 0
    epoch: int = 0
    values: dict[str, float] = field(default_factory=dict)
    state: State | None = None

    def update(self, epoch: int, values: dict[str, float], model: nn.Module) -> None:
        if self.watch is None:
            self.epoch, self.values = epoch, values
            return
        current = values[self.watch]
        self.waited += 1
        if current < self.reference - self.min_delta:
            self.reference, self.waited = current, 0
        if current < self.lowest:
            self.lowest, self.epoch, self.values = current, epoch, values
            self.state = checkpoint.state_of(model)

    @property
    def exhausted(self) -> bool:
        return self.patience is not None and self.waited >= self.patience


def train(task: TrainTask, should_stop: ShouldStop = never) -> Iterator[Event]:
    """Train ``task`` to its end; ``should_stop`` is asked before every step.

    Yields a ``DataRead`` where the data call for a warning, an ``EpochEnded`` per epoch,
    ``CheckpointSaved`` now and then, and last ``TrainEnded`` or ``TrainStopped``.
    Raises Diverged, TimeLimit or InvalidData.
    """
    spec, storage = task.spec, Storage(task.root)
    saved = time.monotonic()
    deadline = saved + (spec.max_seconds or math.inf)
    torch.set_num_threads(spec.threads)
    device = devices.pick(spec.device)
    prepared = data.prepare(spec, _read(storage, task))
    yield from _told(prepared)
    inputs = prepared.preprocessing.features.inputs
    outputs = prepared.preprocessing.target.outputs

    model = models.build(spec.model, inputs, outputs, spec.seed).to(device)
    loss_fn = losses.build(spec.loss)
    optimizer = optimizers.build(spec.optimizer, model.parameters())
    x, y = _tensors(prepared.train, device)
    bounds = batch_bounds(len(x), spec.batch_size)
    held_out, watched = _held_out(prepared)
    x_held_out, y_held_out = _tensors(held_out, device)
    best = _best_so_far(spec)
    card = Card(
        spec=spec,
        preprocessing=prepared.preprocessing,
        inputs=inputs.width,
        outputs=outputs,
        epoch=0,
        versions=checkpoint.library_versions(),
    )

    for epoch in range(spec.epochs):
        model.train()
        seen: list[Tensor] = []
        for x_batch, y_batch in batches(x, y, spec, epoch):
            if reason := should_stop():
                yield TrainStopped(reason=reason)
                return
            if time.monotonic() > deadline:
                yield _save_checkpoint(storage, card, epoch, model)
                raise TimeLimit(f"stopped after {spec.max_seconds:g} s, in epoch {epoch}")
            prediction = model(x_batch)
            loss = loss_fn(prediction, y_batch)
            optimizer.zero_grad()
            loss.backward()
            if spec.gradient_clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), spec.gradient_clip_norm)
            optimizer.step()
            seen.append(loss.detach())

        values = {"train_loss": _mean(seen, bounds)}
        if watched is not None:
            values[watched] = _evaluate(model, loss_fn, x_held_out, y_held_out)
        values["learning_rate"] = optimizer.param_groups[0]["lr"]
        yield EpochEnded(epoch=epoch, values=values)
        _refuse_nonfinite(epoch, values, seen)
        best.update(epoch, values, model)
        if best.exhausted or epoch + 1 == spec.epochs:
            break
        if time.monotonic() - saved >= spec.checkpoint.every_seconds:
            yield _save_checkpoint(storage, card, epoch, model)
            saved = time.monotonic()

    if best.state is not None:
        model.load_state_dict(best.state)
    ended = _ended(model, prepared, best)
    yield _save_checkpoint(storage, card, best.epoch, model)
    with storage.publish("models", task.model_id) as draft:
        checkpoint.save(
            draft,
            card.model_copy(update={"epoch": best.epoch}),
            checkpoint.state_of(model),
        )
    yield ended


# ---------------------------------------------------------------- batches


def batch_bounds(rows: int, batch_size: int | None) -> list[tuple[int, int]]:
    """``(start, end)`` of each batch; a single row left over joins the batch before it."""
    size = batch_size or rows
    starts = list(range(0, rows, size))
    if 1 < size < rows and rows - starts[-1] == 1:  # batch norm cannot learn from one row
        starts.pop()
    return list(zip(starts, [*starts[1:], rows], strict=True))


def batches(x: Tensor, y: Tensor, spec: JobSpec, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Slices of the training part, shuffled anew each epoch from the seed and its number."""
    if spec.batch_size is None:
        yield x, y
        return
    generator = torch.Generator().manual_seed(_epoch_seed(spec.seed, epoch))
    order = torch.randperm(len(x), generator=generator).to(x.device)
    x, y = x[order], y[order]
    for start, end in batch_bounds(len(x), spec.batch_size):
        yield x[start:end], y[start:end]


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> 1)


# ---------------------------------------------------------------- losses and metrics


def _mean(seen: list[Tensor], bounds: list[tuple[int, int]]) -> float:
    """The mean over samples of the batches' mean losses; the one synchronisation of an epoch."""
    if len(seen) == 1:
        return seen[0].item()
    sizes = torch.tensor([end - start for start, end in bounds], dtype=torch.float64)
    return float((torch.stack(seen).cpu().double() * sizes).sum() / sizes.sum())


def _evaluate(model: nn.Module, loss_fn: nn.Module, x: Tensor, y: Tensor) -> float:
    model.eval()
    with torch.inference_mode():
        return float(loss_fn(inference.in_slices(model, x), y))


def _refuse_nonfinite(epoch: int, values: dict[str, float], seen: list[Tensor]) -> None:
    """Raise Diverged as soon as a loss is no longer a number."""
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        step = next((i for i, loss in enumerate(seen) if not math.isfinite(loss)), len(seen) - 1)
        raise _diverged(f"epoch {epoch}, step {step}: {wrong[0]} is {values[wrong[0]]}")


def _finite_state(epoch: int, model: nn.Module) -> State:
    """The weights to keep; they are checked, since no loss has been computed with the last step's
    where nothing is held out."""
    state = checkpoint.state_of(model)
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise _diverged(f"epoch {epoch}: {name} is not finite after its last step")
    return state


def _diverged(where: str) -> Diverged:
    remedy = "lower the learning rate, scale the data, or set gradient_clip_norm"
    return Diverged(f"training diverged in {where}; {remedy}")


def _ended(model: nn.Module, prepared: data.Prepared, best: BestSoFar) -> TrainEnded:
    target, test = prepared.preprocessing.target, prepared.test
    scores = guesses = None
    if len(test):
        scores = metrics.score(target, test.table, inference.outputs_of(model, test.x))
        guesses = metrics.baseline(target, prepared.train.table, test.table)
    return TrainEnded(
        parameters=sum(weight.numel() for weight in model.parameters()),
        best=Best(epoch=best.epoch, values=best.values),
        test=scores,
        baseline=guesses,
    )


# ---------------------------------------------------------------- the rest


def _told(prepared: data.Prepared) -> Iterator[DataRead]:
    if prepared.warnings:
        yield DataRead(warnings=prepared.warnings)


def _read(storage: Storage, task: TrainTask) -> pa.Table:
    folder = storage.verified("datasets", task.dataset_id)
    columns = list(dict.fromkeys([*task.spec.features, *task.spec.split_columns]))
    return tables.read(folder / tables.FILE, columns, encoded=True)


def _tensors(part: data.Part, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(part.x).to(device), torch.from_numpy(part.y).to(device)


def _held_out(prepared: data.Prepared) -> tuple[data.Part, str | None]:
    """The part whose loss is measured after each epoch, and the name of that series."""
    if len(prepared.validation):
        return prepared.validation, "validation_loss"
    return prepared.test, "test_loss" if len(prepared.test) else None


def _best_so_far(spec: JobSpec) -> BestSoFar:
    stopping = spec.early_stopping
    return BestSoFar(
        watch="validation_loss" if spec.split.validation > 0 else None,
        patience=stopping.patience if stopping else None,
        min_delta=stopping.min_delta if stopping else 0.0,
    )


def _save_checkpoint(storage: Storage, card: Card, epoch: int, model: nn.Module) -> CheckpointSaved:
    checkpoint_id, state = new_id("ckpt"), _finite_state(epoch, model)
    with storage.publish("checkpoints", checkpoint_id) as draft:
        checkpoint.save(draft, card.model_copy(update={"epoch": epoch}), state)
    _, sha256, size = storage.file("checkpoints", checkpoint_id, checkpoint.WEIGHTS)
    return CheckpointSaved(checkpoint_id=checkpoint_id, epoch=epoch, size_bytes=size, sha256=sha256)
