"""Publishing checkpoints: when it is time, when training is stopped, and at the end."""

import math
import time

import torch

from app.errors import Diverged
from app.ids import new_id
from app.ml.inference import model_files
from app.ml.inference.card import WEIGHTS, Card
from app.ml.inference.model_files import StateDict, state_dict_of
from app.ml.training.checkpoint import TrainState
from app.ml.training.events import CheckpointBegun, CheckpointSaved
from app.ml.training.refit import Before
from app.storage import Storage


class CheckpointSaver:
    """Writes checkpoints every ``checkpoint.every_seconds`` seconds, and the finished model.

    It knows the time that all attempts have taken together, and so when ``max_seconds`` are over.
    """

    def __init__(
        self, storage: Storage, card: Card, state: TrainState, before: Before | None = None
    ) -> None:
        self._storage, self.card, self._state, self._before = storage, card, state, before
        self._started = time.monotonic() - state.seconds
        limit = card.spec.max_seconds
        self._deadline = self._started + limit if limit is not None else math.inf
        self._every_seconds = card.spec.checkpoint.every_seconds
        self._due_at = min(time.monotonic() + self._every_seconds, self._deadline)
        self._next_id = ""

    @property
    def seconds(self) -> float:
        """Spent on the job by all attempts together."""
        return time.monotonic() - self._started

    def is_due(self) -> bool:
        """Return whether a checkpoint is due, or ``max_seconds`` are over."""
        return time.monotonic() >= self._due_at

    def begin(self) -> CheckpointBegun:
        """Name the checkpoint that ``save`` publishes next."""
        self._next_id = new_id("ckpt")
        return CheckpointBegun(checkpoint_id=self._next_id)

    def save(self) -> CheckpointSaved:
        """Publish the checkpoint that was begun. Raises Diverged where its weights are not
        finite."""
        state, checkpoint_id = self._state, self._next_id
        weights = _finite_weights(state)
        seconds = self.seconds
        epoch = state.best.epoch if state.finished else max(0, state.epoch - (state.step == 0))
        with self._storage.publish("checkpoints", checkpoint_id) as draft:
            model_files.save(draft, self.card.model_copy(update={"epoch": epoch}), weights)
            state.save(draft, seconds)
            if self._before is not None:
                self._before.save(draft)
        sha256, size = self._storage.entry("checkpoints", checkpoint_id, WEIGHTS)
        self._due_at = min(time.monotonic() + self._every_seconds, self._deadline)
        return CheckpointSaved(
            checkpoint_id=checkpoint_id, epoch=epoch, size_bytes=size, sha256=sha256
        )

    @property
    def overtime(self) -> str | None:
        """What is said where ``max_seconds`` are over, all attempts together."""
        if time.monotonic() < self._deadline:
            return None
        return f"stopped after {self.card.spec.max_seconds:g} s, in epoch {self._state.epoch}"

    def publish(self, model_id: str) -> None:
        """Publish the finished model."""
        with self._storage.publish("models", model_id) as draft:
            card = self.card.model_copy(update={"epoch": self._state.best.epoch})
            model_files.save(draft, card, state_dict_of(self._state.ema.module))
            if self._before is not None:
                self._before.save_model(draft)


def _finite_weights(state: TrainState) -> StateDict:
    """Return the weights to save. Raises Diverged where they are not finite.

    Without validation no loss has been computed with the last step's, so they are looked at.
    """
    weights = state_dict_of(state.ema.module)
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            epoch, step = (state.epoch, state.step - 1) if state.step else (state.epoch - 1, -1)
            which = f"step {step}" if step >= 0 else "its last step"
            raise diverged(f"epoch {epoch}, {which}: {name} is not finite after it")
    return weights


def diverged(where: str) -> Diverged:
    """Return the error of a training whose losses or weights are no longer numbers."""
    remedy = "lower the learning rate, scale the data, or set gradient_clip_norm"
    return Diverged(f"training diverged in {where}; {remedy}")
