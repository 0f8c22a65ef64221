"""Losses by the names of ``torch.nn`` in snake case, without "Loss".

One more loss is a class here, and its name in the union below.
"""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from app.ml.specs.base import Positive, Share, Spec, Task, by_name


class Loss(Spec):
    """What every loss says of itself beside its parameters."""

    torch_class: ClassVar[str]
    """The name of its class in ``torch.nn``."""
    tasks: ClassVar[tuple[Task, ...]]
    """The tasks that it can train for."""
    default_for: ClassVar[tuple[Task, ...]] = ()
    """The tasks whose jobs get it where they name no loss; each task has one such loss."""


class L1Spec(Loss):
    """``torch.nn.L1Loss``."""

    torch_class = "L1Loss"
    tasks = ("regression",)
    kind: Literal["l1"] = "l1"


class MSESpec(Loss):
    """``torch.nn.MSELoss``."""

    torch_class = "MSELoss"
    tasks = ("regression",)
    default_for = ("regression",)
    kind: Literal["mse"] = "mse"


class SmoothL1Spec(Loss):
    """``torch.nn.SmoothL1Loss``."""

    torch_class = "SmoothL1Loss"
    tasks = ("regression",)
    kind: Literal["smooth_l1"] = "smooth_l1"
    beta: Positive = 1.0


class HuberSpec(Loss):
    """``torch.nn.HuberLoss``."""

    torch_class = "HuberLoss"
    tasks = ("regression",)
    kind: Literal["huber"] = "huber"
    delta: Positive = 1.0


class QuantileSpec(Loss):
    """The pinball loss, which the ``q`` quantile of the target minimises (Koenker and Bassett,
    1978): ``max(q * error, (q - 1) * error)``. 0.5 is half the absolute error."""

    torch_class = "QuantileLoss"
    tasks = ("regression",)
    kind: Literal["quantile"] = "quantile"
    q: Annotated[float, Field(gt=0, lt=1)] = 0.5


class PoissonNLLSpec(Loss):
    """``torch.nn.PoissonNLLLoss`` for counts and other numbers from 0: outputs are logarithms of
    the expected value, and predictions the expected value."""

    torch_class = "PoissonNLLLoss"
    tasks = ("regression",)
    kind: Literal["poisson_nll"] = "poisson_nll"
    full: bool = Field(False, description="with Stirling's term for the target's factorial")


class CrossEntropySpec(Loss):
    """``torch.nn.CrossEntropyLoss``; for its ``weight`` see the job's ``class_weight``."""

    torch_class = "CrossEntropyLoss"
    tasks = ("binary", "multiclass")
    default_for = ("multiclass",)
    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0


class MultiMarginSpec(Loss):
    """``torch.nn.MultiMarginLoss``; its probabilities are not calibrated."""

    torch_class = "MultiMarginLoss"
    tasks = ("binary", "multiclass")
    kind: Literal["multi_margin"] = "multi_margin"
    p: Literal[1, 2] = 1
    margin: Positive = 1.0


class BCEWithLogitsSpec(Loss):
    """``torch.nn.BCEWithLogitsLoss``."""

    torch_class = "BCEWithLogitsLoss"
    tasks = ("binary", "multilabel")
    default_for = ("binary", "multilabel")
    kind: Literal["bce_with_logits"] = "bce_with_logits"


_AnyLoss = (
    L1Spec
    | MSESpec
    | SmoothL1Spec
    | HuberSpec
    | QuantileSpec
    | PoissonNLLSpec
    | CrossEntropySpec
    | MultiMarginSpec
    | BCEWithLogitsSpec
)


def _losses_for(task: Task) -> tuple[str, ...]:
    suitable = [loss for loss in get_args(_AnyLoss) if task in loss.tasks]
    suitable.sort(key=lambda loss: task not in loss.default_for)  # stable: the default goes first
    return tuple(loss.model_fields["kind"].default for loss in suitable)


LOSSES_FOR_TASK: dict[Task, tuple[str, ...]] = {task: _losses_for(task) for task in get_args(Task)}
"""The losses that suit each task, by name. The first is what a job gets that names none."""

LossSpec = Annotated[
    _AnyLoss,
    Field(discriminator="kind"),
    by_name(_AnyLoss, {"mae": "l1", "pinball": "quantile", "poisson": "poisson_nll"}),
]
"""Any of the losses, by its name or as an object with its parameters."""
