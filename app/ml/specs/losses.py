"""Losses by the names of ``torch.nn`` in snake case, without "Loss"."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from app.ml.specs.base import Positive, Share, Spec, Task, named


class L1Spec(Spec):
    """``torch.nn.L1Loss``."""

    kind: Literal["l1"] = "l1"


class MSESpec(Spec):
    """``torch.nn.MSELoss``."""

    kind: Literal["mse"] = "mse"


class SmoothL1Spec(Spec):
    """``torch.nn.SmoothL1Loss``."""

    kind: Literal["smooth_l1"] = "smooth_l1"
    beta: Positive = 1.0


class HuberSpec(Spec):
    """``torch.nn.HuberLoss``."""

    kind: Literal["huber"] = "huber"
    delta: Positive = 1.0


class CrossEntropySpec(Spec):
    """``torch.nn.CrossEntropyLoss``; for its ``weight`` see the job's ``class_weight``."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0


class MultiMarginSpec(Spec):
    """``torch.nn.MultiMarginLoss``; its probabilities are not calibrated."""

    kind: Literal["multi_margin"] = "multi_margin"
    p: Literal[1, 2] = 1
    margin: Positive = 1.0


class BCEWithLogitsSpec(Spec):
    """``torch.nn.BCEWithLogitsLoss``."""

    kind: Literal["bce_with_logits"] = "bce_with_logits"


_ALIASES = {"mae": "l1"}


def _loss(value: object) -> object:
    told = named(value)
    if isinstance(told, dict):
        return {**told, "kind": _ALIASES.get(told["kind"], told["kind"])}
    return told


LossSpec = Annotated[
    L1Spec
    | MSESpec
    | SmoothL1Spec
    | HuberSpec
    | CrossEntropySpec
    | MultiMarginSpec
    | BCEWithLogitsSpec,
    Field(discriminator="kind"),
    BeforeValidator(_loss),
]

LOSSES_FOR_TASK: dict[Task, tuple[str, ...]] = {
    "regression": ("mse", "l1", "smooth_l1", "huber"),
    "binary": ("bce_with_logits", "cross_entropy", "multi_margin"),
    "multiclass": ("cross_entropy", "multi_margin"),
    "multilabel": ("bce_with_logits",),
}
"""The first of each is what a job gets that names none."""
