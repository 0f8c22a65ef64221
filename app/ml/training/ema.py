"""An exponential moving average of the weights, which is measured and published in their place."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """The average ``decay * average + (1 - decay) * weights``, with less decay in the first steps.

    ``module`` has the averaged weights; without a decay it is the model itself.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self._model, self._decay = model, decay
        self.module = model if decay is None else copy.deepcopy(model)
        self._averaged = [*self.module.parameters()]
        self._current = [*model.parameters()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the weights after step number ``steps``, counted from 1."""
        if self._decay is not None:
            decay = min(self._decay, (1 + steps) / (10 + steps))  # as TensorFlow warms it up
            average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            average(self._averaged, self._current, steps)

    @torch.no_grad()
    def take_buffers(self) -> None:
        """Copy the buffers: running statistics are those of the newest weights."""
        if self._decay is not None:
            for averaged, newest in zip(self.module.buffers(), self._model.buffers(), strict=True):
                averaged.copy_(newest)
