"""Optimizers and schedulers of ``torch.optim``, made from their specs."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from app.ml.specs import JobSpec, OptimizerSpec


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
        self._by_batch = self._watches_loss = False
        if spec.scheduler is not None:
            group = optimizer.param_groups[0]
            epochs = max(1, spec.epochs)  # without an epoch no rate is used
            options = spec.scheduler.options_for(epochs, steps_per_epoch, group)
            self.rates = getattr(lr_scheduler, spec.scheduler.torch_class)(optimizer, **options)
            self._by_batch = spec.scheduler.by_batch
            self._watches_loss = spec.scheduler.watches_loss

    def after_batch(self) -> None:
        """Call after each step of the optimizer."""
        if self._by_batch and self.rates is not None and self.rates.last_epoch + 1 < self._steps:
            self.rates.step()  # not after the last: there is no rate beyond the end

    def after_epoch(self, loss: float) -> None:
        """Call at the end of an epoch with the loss that a plateau is seen by."""
        if self.rates is None or self._by_batch:
            return
        if self._watches_loss:
            self.rates.step(loss)  # type: ignore[arg-type]
        else:
            self.rates.step()
