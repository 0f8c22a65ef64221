"""Optimizers by the names of ``torch.optim``, in their fused form."""

from collections.abc import Iterable

import torch
from torch import nn

from app.ml.specs import AdamSpec, AdamWSpec, OptimizerSpec, SGDSpec


def build(spec: OptimizerSpec, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The ``torch.optim`` optimizer that ``spec`` names, over ``parameters``."""
    options = spec.model_dump(exclude={"kind"})
    if "betas" in options:
        options["betas"] = tuple(options["betas"])
    match spec:
        case SGDSpec():
            return torch.optim.SGD(parameters, fused=True, **options)
        case AdamSpec():
            return torch.optim.Adam(parameters, fused=True, **options)
        case AdamWSpec():
            return torch.optim.AdamW(parameters, fused=True, **options)
