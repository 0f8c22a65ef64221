"""A trained module on disk, and what it takes to go on training it, bit for bit.

``weights.safetensors`` and the ``model.json`` that explains it are all that predicting needs. A
checkpoint also has ``training.safetensors`` (optimizer, random state, losses of the epoch so far,
the best weights) and ``training.json`` (where it stands). Nothing is pickled.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.optim import Optimizer

from app.ml import card as cards
from app.ml import models
from app.ml.averaging import Average
from app.ml.best import BestSoFar, State
from app.ml.card import CARD, WEIGHTS, Card
from app.ml.optimizers import Scheduler

_TENSORS = "training.safetensors"
_PLACE = "training.json"
_PLAIN = int | float | str | bool | None


def build(card: Card) -> nn.Module:
    """The module as it was before its first step; torch's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        return models.build(
            card.spec.model,
            card.preprocessing.features.inputs,
            card.outputs,
            card.spec.seed,
            card.spec.loss.kind,
        )


def save(folder: Path, card: Card, state: State) -> None:
    """Write both files into ``folder`` (a draft that ``storage`` then publishes)."""
    (folder / WEIGHTS).write_bytes(to_bytes(state))  # so that a full disk is an OSError
    (folder / CARD).write_text(card.model_dump_json(indent=1))


def load(folder: Path) -> tuple[Card, nn.Module]:
    """The card and the module with its weights; ``folder`` has been verified by ``storage``."""
    card = cards.read(folder)
    module = build(card)
    module.load_state_dict(weights(folder))
    return card, module.eval()


def weights(folder: Path) -> State:
    """Every tensor of a module by name."""
    state: State = load_file(folder / WEIGHTS)
    return state


# ---------------------------------------------------------------- going on


@dataclass
class Training:
    """Everything that changes while a module is trained."""

    model: nn.Module
    average: Average
    optimizer: Optimizer
    scheduler: Scheduler
    best: BestSoFar
    epoch: int = 0
    step: int = 0
    """Batches of the epoch that are done."""
    seen: list[Tensor] = field(default_factory=list)
    """Their losses."""
    seconds: float = 0.0
    """Spent by all attempts before this one."""
    finished: bool = False

    def save(self, folder: Path, seconds: float) -> None:
        """Write what ``restore`` reads into ``folder``, beside the module's own state."""
        slots, options = _told(self.optimizer)
        # only what was kept is wanted once training has ended
        tensors = {} if self.finished else self._tensors(slots)
        place = {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": seconds,
            "finished": self.finished,
            "best": self.best.told(),
            "optimizer": options,
            "scheduler": _plain(self.scheduler.rates.state_dict() if self.scheduler.rates else {}),
        }
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        (folder / _TENSORS).write_bytes(to_bytes(copies))
        (folder / _PLACE).write_text(json.dumps(place))

    def _tensors(self, slots: State) -> State:
        tensors = {f"optimizer.{name}": tensor for name, tensor in slots.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (self.best.state or {}).items()}
        tensors |= {f"random.{name}": state for name, state in _random_state(self.model).items()}
        if self.average.module is not self.model:
            live = self.model.state_dict()
            tensors |= {f"model.{name}": tensor for name, tensor in live.items()}
        if self.seen:
            tensors["seen"] = torch.stack(self.seen)
        return tensors

    def restore(self, folder: Path) -> None:
        """Stand where ``save`` stood; ``folder`` has been verified by ``storage``."""
        place = json.loads((folder / _PLACE).read_bytes())
        tensors = load_file(folder / _TENSORS)
        self.average.module.load_state_dict(weights(folder))
        self.epoch, self.step = place["epoch"], place["step"]
        self.seconds, self.finished = place["seconds"], place["finished"]
        self.best.restore(place["best"], _under("best.", tensors) or None)
        if self.finished:
            return
        if self.average.module is not self.model:
            self.model.load_state_dict(_under("model.", tensors))
        _restore(self.optimizer, _under("optimizer.", tensors), place["optimizer"])
        if self.scheduler.rates is not None:
            self.scheduler.rates.load_state_dict(place["scheduler"])
        device = next(self.model.parameters()).device
        self.seen = list(tensors["seen"].to(device)) if "seen" in tensors else []
        _set_random_state(_under("random.", tensors), device)  # last: nothing draws after it


def _under(prefix: str, tensors: State) -> State:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def _told(optimizer: Optimizer) -> tuple[State, dict[str, Any]]:
    """Its slots as tensors, its options as plain data."""
    told = optimizer.state_dict()
    tensors: State = {}
    plain: dict[str, Any] = {}
    for number, slots in told["state"].items():
        for name, value in slots.items():
            place = tensors if isinstance(value, Tensor) else plain
            place[f"{number}.{name}"] = value
    return tensors, {"groups": told["param_groups"], "plain": plain}


def _restore(optimizer: Optimizer, tensors: State, options: dict[str, Any]) -> None:
    slots: dict[int, dict[str, Any]] = {}
    for place, value in [*tensors.items(), *options["plain"].items()]:
        number, _, name = place.partition(".")
        slots.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": slots, "param_groups": options["groups"]})


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """What changes in a scheduler is numbers and lists of them; the rest comes from its spec."""

    def fits(value: Any) -> bool:
        return isinstance(value, _PLAIN) or (
            isinstance(value, list) and all(isinstance(item, _PLAIN) for item in value)
        )

    return {name: value for name, value in state.items() if fits(value)}


def _random_state(model: nn.Module) -> State:
    device = next(model.parameters()).device
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(states: State, device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


# ---------------------------------------------------------------- for people


def parameters(module: nn.Module, limit: int) -> list[dict[str, Any]]:
    """Every parameter: name, shape, dtype, and values up to ``limit`` numbers in all."""
    named = list(module.named_parameters())
    small = sum(parameter.numel() for _, parameter in named) <= limit
    return [
        {
            "name": name,
            "shape": list(parameter.shape),
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "values": parameter.detach().tolist() if small else None,
        }
        for name, parameter in named
    ]


def library_versions() -> dict[str, str]:
    """What computed the weights."""
    import numpy

    from app import __version__

    return {
        "fitserve": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
