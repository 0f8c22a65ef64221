"""Optimizers and schedulers by the names of ``torch.optim``."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim import lr_scheduler as rates

from app.ml.specs import CyclicSpec, JobSpec, OneCycleSpec, OptimizerSpec, ReduceOnPlateauSpec

_CLASSES: dict[str, type[Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adamax": torch.optim.Adamax,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "adafactor": torch.optim.Adafactor,
    "rmsprop": torch.optim.RMSprop,
    "rprop": torch.optim.Rprop,
    "asgd": torch.optim.ASGD,
}
_EVERYWHERE = ("cpu", "cuda", "mps")
_FUSED = {"sgd": _EVERYWHERE, "adam": _EVERYWHERE, "adamw": _EVERYWHERE, "adagrad": ("cpu",)}

_RATES: dict[str, type[rates.LRScheduler]] = {
    "step": rates.StepLR,
    "multi_step": rates.MultiStepLR,
    "exponential": rates.ExponentialLR,
    "constant": rates.ConstantLR,
    "linear": rates.LinearLR,
    "polynomial": rates.PolynomialLR,
    "cosine": rates.CosineAnnealingLR,
    "cosine_warm_restarts": rates.CosineAnnealingWarmRestarts,
    "one_cycle": rates.OneCycleLR,
    "cyclic": rates.CyclicLR,
    "reduce_on_plateau": rates.ReduceLROnPlateau,
}


def build(spec: OptimizerSpec, parameters: Sequence[nn.Parameter]) -> Optimizer:
    """The optimizer that ``spec`` names over ``parameters``, fused where torch has that."""
    options: dict[str, Any] = spec.parameters()
    if parameters[0].device.type in _FUSED.get(spec.kind, ()):
        options["fused"] = True
    return _CLASSES[spec.kind](parameters, **options)


class Scheduler:
    """Steps a scheduler of torch when it is its time; ``None`` is a rate that stays."""

    def __init__(self, spec: JobSpec, optimizer: Optimizer, steps_per_epoch: int) -> None:
        self.rates: rates.LRScheduler | None = None
        self._by_batch = isinstance(spec.scheduler, OneCycleSpec | CyclicSpec)
        self._steps = spec.epochs * steps_per_epoch
        self._watches = isinstance(spec.scheduler, ReduceOnPlateauSpec)
        if spec.scheduler is not None:
            options = _completed(spec, optimizer, steps_per_epoch)
            self.rates = _RATES[spec.scheduler.kind](optimizer, **options)

    def after_batch(self) -> None:
        """Call after each step of the optimizer."""
        if self._by_batch and self.rates is not None and self.rates.last_epoch + 1 < self._steps:
            self.rates.step()  # not after the last: there is no rate beyond the end

    def after_epoch(self, watched: float) -> None:
        """Call at the end of an epoch with the loss that a plateau is seen by."""
        if self.rates is None or self._by_batch:
            return
        if self._watches:
            self.rates.step(watched)  # type: ignore[arg-type]
        else:
            self.rates.step()


def _completed(spec: JobSpec, optimizer: Optimizer, steps_per_epoch: int) -> dict[str, Any]:
    """What a scheduler takes from the job, where its spec does not say."""
    assert spec.scheduler is not None
    options: dict[str, Any] = spec.scheduler.parameters()
    group = optimizer.param_groups[0]
    if "cycle_momentum" in options:
        options["cycle_momentum"] &= "momentum" in group or "betas" in group
    match spec.scheduler.kind:
        case "cosine":
            options["T_max"] = options["T_max"] or spec.epochs
        case "polynomial":
            options["total_iters"] = options["total_iters"] or spec.epochs
        case "one_cycle":
            options["max_lr"] = options["max_lr"] or group["lr"]
            options["total_steps"] = max(2, spec.epochs * steps_per_epoch)
    return options
