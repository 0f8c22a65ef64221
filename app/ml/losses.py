"""Losses by the names of ``torch.nn``; each is the mean over the batch's elements."""

from torch import nn

from app.ml.specs import (
    BCEWithLogitsSpec,
    CrossEntropySpec,
    HuberSpec,
    L1Spec,
    LossSpec,
    MSESpec,
)


def build(spec: LossSpec) -> nn.Module:
    """The ``torch.nn`` loss that ``spec`` names."""
    match spec:
        case L1Spec():
            return nn.L1Loss()
        case MSESpec():
            return nn.MSELoss()
        case HuberSpec():
            return nn.HuberLoss(delta=spec.delta)
        case CrossEntropySpec():
            return nn.CrossEntropyLoss(label_smoothing=spec.label_smoothing)
        case BCEWithLogitsSpec():
            return nn.BCEWithLogitsLoss()
