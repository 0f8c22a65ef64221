"""An exponential moving average of the weights, which is validated and saved in their place."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """An average by torch's ``swa_utils``: ``decay`` of the last one, the rest of the weights.

    In the first steps the weights count more: ``decay`` is (1 + steps) / (10 + steps) at the most,
    as in TensorFlow's ``ExponentialMovingAverage``. Without a decay ``module`` is the model itself.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self._model, self._decay = model, decay
        self.module = model if decay is None else copy.deepcopy(model)
        self._averaged = [*self.module.parameters()]
        self._current = [*model.parameters()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Average in the weights after step number ``steps``, counted from 1."""
        if self._decay is not None:
            decay = min(self._decay, (1 + steps) / (10 + steps))
            average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            average(self._averaged, self._current, steps)

    @torch.no_grad()
    def copy_buffers(self) -> None:
        """Copy the model's buffers, such as running statistics, which are not averaged."""
        if self._decay is not None:
            for average, newest in zip(self.module.buffers(), self._model.buffers(), strict=True):
                average.copy_(newest)
