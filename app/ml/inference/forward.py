"""Forward passes outside training: evaluation mode, no gradients, memory bounded."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.ml.column_types.fitted import Matrix
from app.ml.features.encoder import ROWS_AT_ONCE

Step = Callable[[Tensor], Tensor]


def in_slices(model: Step, x: Tensor) -> Tensor:
    """Return the outputs ``(rows, outputs)`` of ``x`` ``(rows, inputs)``, slice by slice.

    The caller sets evaluation and inference mode.
    """
    if x.shape[0] <= ROWS_AT_ONCE:
        return model(x)
    starts = range(0, len(x), ROWS_AT_ONCE)
    return torch.cat([model(x[start : start + ROWS_AT_ONCE]) for start in starts])


def outputs_of(model: nn.Module, x: Matrix) -> Matrix:
    """Return a module's outputs ``(rows, outputs)`` for a feature matrix ``(rows, inputs)``."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        result: Matrix = in_slices(model, torch.from_numpy(x).to(device)).cpu().numpy()
    return result


def chained(model: nn.Module) -> Step:
    """Return a module in evaluation mode as one function of the same operations and weights.

    What ``nn.Module.__call__`` adds for hooks that nobody has set takes as long as the arithmetic
    on one row of a small network.
    """
    steps = _steps(model)
    if len(steps) == 1:
        return steps[0]

    def run(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return run


def _steps(model: nn.Module) -> list[Step]:
    if type(model) is nn.Sequential:
        return [step for layer in model for step in _steps(layer)]
    if type(model) is nn.Linear:
        bias = None if model.bias is None else model.bias.detach()
        return [partial(functional.linear, weight=model.weight.detach(), bias=bias)]
    if type(model) in (nn.Dropout, nn.Identity):
        return []  # they do nothing in evaluation
    if type(model).__module__.startswith("torch.nn."):
        return [model.forward]
    return [model]
