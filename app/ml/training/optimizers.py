"""Optimizers and schedulers of ``torch.optim``, made from their specs."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from app.ml.specs import JobSpec, OptimizerSpec, SchedulerSpec


def build(spec: OptimizerSpec, parameters: Sequence[nn.Parameter]) -> Optimizer:
    """Return the optimizer that ``spec`` names over ``parameters``, fused where torch has that.

    A layer over columns that there are none of has parameters without an element; optimizers that
    divide by their number are not given those.
    """
    parameters = [item for item in parameters if item.numel() or spec.takes_empty]
    options = spec.torch_options()
    if parameters[0].device.type in spec.fused_on:
        options["fused"] = True
    optimizer: Optimizer = getattr(torch.optim, spec.torch_class)(parameters, **options)
    return optimizer


class Scheduler:
    """Steps the job's scheduler of torch when it is its time; without one the rate stays.

    ``rates`` is torch's scheduler, or ``None``.
    """

    def __init__(self, spec: JobSpec, optimizer: Optimizer, steps_per_epoch: int) -> None:
        self.rates: lr_scheduler.LRScheduler | None = None
        self._steps = spec.epochs * steps_per_epoch
        self._by_step = self._watches_loss = False
        epochs = max(1, spec.epochs)  # without an epoch no rate is used
        if isinstance(spec.scheduler, list):
            self.rates = _sequential(spec.scheduler, optimizer, epochs, steps_per_epoch)
        elif spec.scheduler is not None:
            self.rates = _scheduler(spec.scheduler, optimizer, epochs, steps_per_epoch)
            self._by_step = spec.scheduler.by_batch
            self._watches_loss = spec.scheduler.watches_loss

    def after_step(self) -> None:
        """Call after each step of the optimizer."""
        if self._by_step and self.rates is not None and self.rates.last_epoch + 1 < self._steps:
            self.rates.step()  # not after the last: there is no rate beyond the end

    def after_epoch(self, loss: float) -> None:
        """Call at the end of an epoch with the loss that a plateau is seen by."""
        if self.rates is None or self._by_step:
            return
        if self._watches_loss:
            self.rates.step(loss)  # type: ignore[arg-type]
        else:
            self.rates.step()


def _scheduler(
    spec: SchedulerSpec, optimizer: Optimizer, epochs: int, steps: int
) -> lr_scheduler.LRScheduler:
    """Return the scheduler that ``spec`` names, for ``epochs`` epochs of ``steps`` steps."""
    options = spec.options_for(epochs, steps, optimizer.param_groups[0])
    build = getattr(lr_scheduler, spec.torch_class)
    scheduler: lr_scheduler.LRScheduler = build(optimizer, **options)
    return scheduler


def _sequential(
    specs: Sequence[SchedulerSpec], optimizer: Optimizer, epochs: int, steps: int
) -> lr_scheduler.SequentialLR:
    """Return schedulers that follow each other; the last has the epochs that the others leave."""
    ends = [*accumulate(spec.duration or 0 for spec in specs[:-1])]
    left = max(1, epochs - (ends[-1] if ends else 0))
    schedulers = [_scheduler(spec, optimizer, left, steps) for spec in specs]
    return lr_scheduler.SequentialLR(optimizer, schedulers, milestones=ends)
