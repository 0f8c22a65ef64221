"""``tabular``: an ensemble in one module, on learned bends of the numeric columns.

Each number is clipped smoothly (RealMLP, Holzmüller et al., 2024), encoded piecewise linearly
between quantiles of the training part, and embedded in a few dimensions (Gorishniy et al., 2022). A
first layer sees raw columns and embeddings once per row; from there ``members`` networks go their
own ways: they share the matrices, but each scales the first hidden layer differently and has its
own biases and its own head (TabM, Gorishniy et al., 2024).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.ml.specs import TabularSpec

_CLIP = 3.0
"""Standard deviations from the mean that no number exceeds."""


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """As ``nn.Linear`` starts its weights and biases."""
    return nn.Parameter((torch.rand(shape) * 2 - 1) / math.sqrt(fan_in))


def _clipped(x: Tensor) -> Tensor:
    """Smoothly between -3 and 3; the square of what is far out would overflow."""
    x = x.clamp(-1e6, 1e6)
    return x / (1 + (x / _CLIP).square()).sqrt()


class PiecewiseLinear(nn.Module):
    """The columns ``places`` as ``relu(a x + b + w bends(x))``, each ``size`` dimensions wide.

    ``bends`` has a place for each interval between quantiles: 0 left of it, 1 right of it, linear
    inside. ``w`` starts at zero, so at first a number is a straight line.
    """

    def __init__(self, places: Sequence[int], bins: int, size: int) -> None:
        super().__init__()
        columns = len(places)
        self.places: Tensor
        self.low: Tensor
        self.slope: Tensor
        self.register_buffer("places", torch.tensor(places, dtype=torch.long))
        self.register_buffer("low", torch.zeros(columns, 1, bins))
        self.register_buffer("slope", torch.zeros(columns, 1, bins))
        self.weight = nn.Parameter(torch.zeros(columns, bins, size))
        self.line = _uniform(columns, 1, size, fan_in=1)
        self.bias = _uniform(columns, 1, size, fan_in=1)

    def fit(self, columns: Tensor) -> None:
        """Place the intervals between the quantiles of ``columns`` ``(rows, places)``, or between
        the values of one that has no more values than intervals."""
        bins = self.low.shape[2]
        shares = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=columns.device)
        for i, column in enumerate(columns.double().T):
            values = torch.unique(column)
            if len(values) > bins:
                values = _quantiles(column, shares)
            edges = torch.unique(values.float())  # two quantiles may be one float
            self.low[i, 0, : len(edges) - 1] = edges[:-1]
            steepest = 1e30  # of values that hardly differ: 1 / 1e-40 would be infinite
            self.slope[i, 0, : len(edges) - 1] = (1 / edges.diff()).clamp_max(steepest)

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, inputs)`` to ``(rows, places * size)``."""
        z = x[:, self.places].T[:, :, None]  # (columns, rows, 1)
        bends = ((z - self.low) * self.slope).clamp_(0, 1)  # (columns, rows, bins)
        y = torch.baddbmm(self.bias + z * self.line, bends, self.weight)  # (columns, rows, size)
        return functional.relu(y, inplace=True).transpose(0, 1).flatten(1)


def _quantiles(values: Tensor, shares: Tensor) -> Tensor:
    """``torch.quantile`` for any number of values ``(rows,)``; torch's stops at 16 million."""
    ordered = values.sort().values
    at = shares * (len(values) - 1)
    low = at.floor().long()
    high = (low + 1).clamp_max(len(values) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


class Tabular(nn.Module):
    """``(rows, inputs)`` to ``(rows, members, outputs)`` in training, ``(rows, outputs)`` else.

    The columns ``numbers`` of ``inputs`` are standardised numbers, the others are taken as they
    are. ``fit`` sets the buffers from the training part once, before the first step. ``loss`` says
    how the members' outputs are averaged: as probabilities where they are logits, as expected
    values where they are logarithms of them.
    """

    heads = ("head", "offset", "direct.")
    """Prefixes of the parameters that belong to the target; the others belong to the features."""

    def __init__(
        self, spec: TabularSpec, inputs: int, numbers: Sequence[int], outputs: int, loss: str
    ) -> None:
        super().__init__()
        self.loss = loss
        members, width = spec.members, spec.width
        self.embed = PiecewiseLinear(numbers, spec.bins or 1, spec.embedding)
        numeric = torch.zeros(inputs, dtype=torch.bool)
        numeric[self.embed.places] = True
        self.numeric: Tensor
        self.register_buffer("numeric", numeric)
        columns = inputs + len(numbers) * spec.embedding
        self.first = nn.Linear(columns, width)
        self.scale = nn.Parameter(1 + torch.randn(members, 1, width) / 2)
        self.shift = _uniform(members, 1, width, fan_in=columns)
        self.hidden = _uniform(width, width, fan_in=width)
        self.bias = _uniform(members, 1, width, fan_in=width)
        self.head = _uniform(members, width, outputs, fan_in=width)
        self.offset = _uniform(members, 1, outputs, fan_in=width)
        self.direct = nn.Linear(columns, outputs)
        nn.init.zeros_(self.direct.weight)
        nn.init.zeros_(self.direct.bias)

    def fit(self, x: Tensor) -> None:
        """Set the buffers from the training part ``(rows, inputs)``, or its dense columns alone."""
        self.embed.fit(_clipped(x[:, self.embed.places]))

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, inputs)`` to ``(rows, members, outputs)``, averaged outside training."""
        x = torch.where(self.numeric, _clipped(x), x)
        z = torch.cat([x, self.embed(x)], dim=1)  # (rows, columns)
        h = torch.addcmul(self.shift, self.first(z), self.scale)  # (members, rows, width)
        h = functional.relu(h, inplace=True)
        h = functional.relu(h @ self.hidden + self.bias, inplace=True)
        y = torch.baddbmm(self.offset, h, self.head).transpose(0, 1) + self.direct(z)[:, None]
        return y if self.training else self._averaged(y)

    def _averaged(self, y: Tensor) -> Tensor:
        """The mean ``(rows, outputs)`` of the members' values, or of their probabilities, as logits
        again; ``y`` is ``(rows, members, outputs)``."""
        match self.loss:
            case "bce_with_logits":
                return functional.logsigmoid(y).logsumexp(1) - functional.logsigmoid(-y).logsumexp(
                    1
                )
            case "cross_entropy":
                return functional.log_softmax(y, -1).logsumexp(1) - math.log(y.shape[1])
            case "poisson_nll":  # logarithms of expected values
                return y.logsumexp(1) - math.log(y.shape[1])
            case _:
                return y.mean(1)
