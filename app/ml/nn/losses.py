"""Losses of ``torch.nn`` and one of our own, for rows that count differently and for ensembles."""

from typing import Any

import torch
from torch import Tensor, nn

from app.ml.specs import CrossEntropySpec, LossSpec


class QuantileLoss(nn.Module):
    """The pinball loss of ``q``, as scikit-learn's ``mean_pinball_loss``; torch has none."""

    def __init__(self, q: float, reduction: str = "mean") -> None:
        super().__init__()
        self.q, self.reduction = q, reduction

    def forward(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Return the mean, or with the reduction ``none`` each element's, ``(rows, outputs)``."""
        errors = y - prediction
        losses = torch.maximum(self.q * errors, (self.q - 1) * errors)
        return losses.mean() if self.reduction == "mean" else losses


_OWN = {"QuantileLoss": QuantileLoss}


def by_row(spec: LossSpec, outputs: Tensor, y: Tensor) -> Tensor:
    """Return ``(rows,)`` losses, each the mean over its outputs; nothing is weighed or smoothed.

    ``outputs`` are ``(rows, outputs)``; ``y`` is as ``TargetEncoder.encode`` gives it.
    """
    unsmoothed = {"label_smoothing": 0.0} if isinstance(spec, CrossEntropySpec) else {}
    losses: Tensor = Objective(spec.model_copy(update=unsmoothed)).each(outputs, y)
    return losses.mean(1) if losses.dim() == 2 else losses


class Objective:
    """The mean of a loss over the elements of a batch, times each row's weight where one is given.

    Weights ``(rows,)`` are on average 1 over a part of the split, so a batch of light rows counts
    less than one of heavy rows, as in Keras. An ensemble gives ``(rows, members, outputs)``: each
    member is held against the row's target.
    """

    def __init__(self, spec: LossSpec, smoothing: float = 0.0) -> None:
        """``smoothing`` draws the targets of class losses that far, from 0 to 1, towards all
        classes alike (label smoothing, Szegedy et al., 2016), unless the spec has its own."""
        build: Any = _OWN.get(spec.torch_class) or getattr(nn, spec.torch_class)
        options = spec.torch_options()
        self._binary_smoothing = smoothing if spec.kind == "bce_with_logits" else 0.0
        if spec.kind == "cross_entropy":
            options["label_smoothing"] = options["label_smoothing"] or smoothing
        self.mean = build(**options)
        self.each = build(**options, reduction="none")

    def __call__(self, prediction: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        if self._binary_smoothing:
            y = y * (1 - self._binary_smoothing) + self._binary_smoothing / 2
        if prediction.dim() == 3:
            members = prediction.shape[1]
            prediction, y = prediction.flatten(0, 1), y.repeat_interleave(members, 0)
            weight = None if weight is None else weight.repeat_interleave(members, 0)
        if weight is None:
            mean: Tensor = self.mean(prediction, y)
            return mean
        losses: Tensor = self.each(prediction, y)
        return ((losses.mean(1) if losses.dim() == 2 else losses) * weight).mean()
