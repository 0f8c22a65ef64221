"""Saving and restoring where a training stands, so that it goes on bit for bit.

Beside the files of a model (``app.ml.inference.model_files``) a checkpoint has
``training.safetensors`` (optimizer, random state, losses of the epoch so far, the best weights)
and ``training.json`` (where it stands). Nothing is pickled.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.optim import Optimizer

from app.ml.inference import model_files
from app.ml.inference.model_files import StateDict
from app.ml.training.best_weights import BestWeights
from app.ml.training.ema import EMA
from app.ml.training.optimizers import Scheduler

_TENSORS_FILE = "training.safetensors"
_POSITION_FILE = "training.json"
_PLAIN = int | float | str | bool | None


@dataclass
class TrainState:
    """Everything that changes while a module is trained; ``epoch`` and ``step`` count from 0."""

    model: nn.Module
    ema: EMA
    optimizer: Optimizer
    scheduler: Scheduler
    best: BestWeights
    epoch: int = 0
    step: int = 0
    """Batches of the epoch that are done, so the number of the next."""
    losses: list[Tensor] = field(default_factory=list)
    """Of these batches, one scalar each, on the model's device."""
    seconds: float = 0.0
    """Spent by all attempts before this one."""
    finished: bool = False

    def save(self, folder: Path, seconds: float) -> None:
        """Write what ``restore`` reads into ``folder``, beside a model's files.

        ``seconds`` are those of all attempts so far.
        """
        slots, options = _split_state(self.optimizer)
        # a finished training needs no more than its best weights, which the model's files hold
        tensors = {} if self.finished else self._tensors(slots)
        position = {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": seconds,
            "finished": self.finished,
            "best": self.best.plain_state(),
            "optimizer": options,
            "scheduler": _plain(self.scheduler.rates.state_dict() if self.scheduler.rates else {}),
        }
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        (folder / _TENSORS_FILE).write_bytes(to_bytes(copies))
        (folder / _POSITION_FILE).write_text(json.dumps(position))

    def _tensors(self, slots: StateDict) -> StateDict:
        """Return all tensors of an unfinished training that the model's files do not hold."""
        tensors = {f"optimizer.{name}": tensor for name, tensor in slots.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (self.best.state or {}).items()}
        tensors |= {f"random.{name}": state for name, state in _random_state(self.model).items()}
        if self.ema.module is not self.model:
            live = self.model.state_dict()
            tensors |= {f"model.{name}": tensor for name, tensor in live.items()}
        if self.losses:
            tensors["seen"] = torch.stack(self.losses)
        return tensors

    def restore(self, folder: Path) -> None:
        """Take over the state that ``save`` wrote to ``folder``, which ``storage`` has verified."""
        position = json.loads((folder / _POSITION_FILE).read_bytes())
        tensors = model_files.tensors(folder / _TENSORS_FILE)
        model_files.load_into(self.ema.module, model_files.weights(folder))
        self.epoch, self.step = position["epoch"], position["step"]
        self.seconds, self.finished = position["seconds"], position["finished"]
        self.best.restore(position["best"], _with_prefix("best.", tensors) or None)
        if self.finished:
            return
        if self.ema.module is not self.model:
            self.model.load_state_dict(_with_prefix("model.", tensors))
        _restore(self.optimizer, _with_prefix("optimizer.", tensors), position["optimizer"])
        if self.scheduler.rates is not None:
            self.scheduler.rates.load_state_dict(position["scheduler"])
        device = next(self.model.parameters()).device
        self.losses = list(tensors["seen"].to(device)) if "seen" in tensors else []
        _set_random_state(_with_prefix("random.", tensors), device)  # last: nothing draws after it


def _with_prefix(prefix: str, tensors: StateDict) -> StateDict:
    """Return the tensors of that prefix, named without it."""
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def _split_state(optimizer: Optimizer) -> tuple[StateDict, dict[str, Any]]:
    """Return an optimizer's tensors, and the rest of its state as JSON takes it."""
    state = optimizer.state_dict()
    tensors: StateDict = {}
    plain: dict[str, Any] = {}
    for number, slots in state["state"].items():
        for name, value in slots.items():
            place = tensors if isinstance(value, Tensor) else plain
            place[f"{number}.{name}"] = value
    return tensors, {"groups": state["param_groups"], "plain": plain}


def _restore(optimizer: Optimizer, tensors: StateDict, options: dict[str, Any]) -> None:
    slots: dict[int, dict[str, Any]] = {}
    for place, value in [*tensors.items(), *options["plain"].items()]:
        number, _, name = place.partition(".")
        slots.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": slots, "param_groups": options["groups"]})


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return what changes in a scheduler, numbers and lists of them, and in those that follow each
    other; its spec gives the rest."""

    def fits(value: Any) -> bool:
        return isinstance(value, _PLAIN) or (
            isinstance(value, list) and all(isinstance(item, _PLAIN) for item in value)
        )

    several = {"_schedulers": [_plain(each) for each in state.get("_schedulers", [])]}
    return {name: value for name, value in state.items() if fits(value)} | several


def _random_state(model: nn.Module) -> StateDict:
    device = next(model.parameters()).device
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(states: StateDict, device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
