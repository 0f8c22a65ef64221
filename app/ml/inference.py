"""Forward passes outside training: evaluation mode, no gradients, memory bounded."""

import torch
from torch import Tensor, nn

from app.ml.features import Matrix

_ROWS_AT_ONCE = 8_192


def in_slices(model: nn.Module, x: Tensor) -> Tensor:
    """Outputs ``(rows, outputs)``, computed slice by slice; the caller sets the modes."""
    if x.shape[0] <= _ROWS_AT_ONCE:
        outputs: Tensor = model(x)
        return outputs
    starts = range(0, len(x), _ROWS_AT_ONCE)
    return torch.cat([model(x[start : start + _ROWS_AT_ONCE]) for start in starts])


def outputs_of(model: nn.Module, x: Matrix) -> Matrix:
    """A module's outputs for a feature matrix, as an array."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        result: Matrix = in_slices(model, torch.from_numpy(x).to(device)).cpu().numpy()
    return result
