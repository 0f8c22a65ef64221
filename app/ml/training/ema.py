"""A moving average of the weights, which is measured and kept in their place."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """``decay`` of what was, the rest of what is; in the first steps more of what is.

    Without a decay the module itself is what is kept.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self._model, self._decay = model, decay
        self.module = model if decay is None else copy.deepcopy(model)
        self._averaged = [*self.module.parameters()]
        self._current = [*model.parameters()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """After step number ``steps``, counted from 1."""
        if self._decay is not None:
            decay = min(self._decay, (1 + steps) / (10 + steps))  # as TensorFlow warms it up
            average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            average(self._averaged, self._current, steps)

    @torch.no_grad()
    def copy_buffers(self) -> None:
        """Running statistics are those of the newest weights."""
        if self._decay is not None:
            for kept, newest in zip(self.module.buffers(), self._model.buffers(), strict=True):
                kept.copy_(newest)
