"""Optimizers by the names of ``torch.optim`` in lower case, parameters as there.

One more optimizer is a class here, and its name in the union below. Left out: LBFGS (it wants a
closure), SparseAdam (no gradient here is sparse) and Muon (it takes matrices only).
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.ml.specs.base import NotNegative, Positive, Share, Spec, by_name

Betas = Annotated[list[Share], Field(min_length=2, max_length=2, fail_fast=True)]
Pair = Annotated[list[Positive], Field(min_length=2, max_length=2, fail_fast=True)]


class Optimizer(Spec):
    """What every optimizer says of itself beside its parameters."""

    torch_class: ClassVar[str]
    """The name of its class in ``torch.optim``."""
    fused_on: ClassVar[tuple[str, ...]] = ()
    """Types of devices on which torch can take its steps in one fused kernel."""
    slots: ClassVar[int] = 1
    """Numbers that it remembers for each weight, whatever its parameters are."""
    slots_for: ClassVar[tuple[str, ...]] = ()
    """Parameters for which it remembers one number more, unless they are 0 or false."""
    takes_empty: ClassVar[bool] = True
    """Whether it can step parameters without an element."""

    @property
    def numbers_per_weight(self) -> int:
        """Numbers that it remembers for each weight with these parameters."""
        return self.slots + sum(bool(getattr(self, name)) for name in self.slots_for)


class SGDSpec(Optimizer):
    """``torch.optim.SGD``."""

    torch_class = "SGD"
    fused_on = ("cpu", "cuda", "mps")
    slots = 0
    slots_for = ("momentum",)
    kind: Literal["sgd"] = "sgd"
    lr: Positive = 1e-3
    momentum: NotNegative = 0.0
    dampening: NotNegative = 0.0
    weight_decay: NotNegative = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SGDSpec":
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise PydanticCustomError("nesterov", "nesterov needs momentum > 0 and dampening 0")
        return self


class AdamSpec(Optimizer):
    """``torch.optim.Adam``."""

    torch_class = "Adam"
    fused_on = ("cpu", "cuda", "mps")
    slots = 2
    slots_for = ("amsgrad",)
    kind: Literal["adam"] = "adam"
    lr: Positive = 1e-3
    betas: Betas = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    amsgrad: bool = False


class AdamWSpec(Optimizer):
    """``torch.optim.AdamW``."""

    torch_class = "AdamW"
    fused_on = ("cpu", "cuda", "mps")
    slots = 2
    slots_for = ("amsgrad",)
    kind: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    betas: Betas = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 1e-2
    amsgrad: bool = False


class NAdamSpec(Optimizer):
    """``torch.optim.NAdam``."""

    torch_class = "NAdam"
    slots = 2
    kind: Literal["nadam"] = "nadam"
    lr: Positive = 2e-3
    betas: Betas = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    momentum_decay: NotNegative = 4e-3
    decoupled_weight_decay: bool = False


class RAdamSpec(Optimizer):
    """``torch.optim.RAdam``."""

    torch_class = "RAdam"
    slots = 2
    kind: Literal["radam"] = "radam"
    lr: Positive = 1e-3
    betas: Betas = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    decoupled_weight_decay: bool = False


class AdamaxSpec(Optimizer):
    """``torch.optim.Adamax``."""

    torch_class = "Adamax"
    slots = 2
    kind: Literal["adamax"] = "adamax"
    lr: Positive = 2e-3
    betas: Betas = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0


class AdagradSpec(Optimizer):
    """``torch.optim.Adagrad``."""

    torch_class = "Adagrad"
    fused_on = ("cpu",)
    kind: Literal["adagrad"] = "adagrad"
    lr: Positive = 1e-2
    lr_decay: NotNegative = 0.0
    weight_decay: NotNegative = 0.0
    initial_accumulator_value: NotNegative = 0.0
    eps: Positive = 1e-10


class AdadeltaSpec(Optimizer):
    """``torch.optim.Adadelta``."""

    torch_class = "Adadelta"
    slots = 2
    kind: Literal["adadelta"] = "adadelta"
    lr: Positive = 1.0
    rho: Annotated[float, Field(ge=0, le=1)] = 0.9
    eps: Positive = 1e-6
    weight_decay: NotNegative = 0.0


class AdafactorSpec(Optimizer):
    """``torch.optim.Adafactor``; its ``eps`` is left at torch's."""

    torch_class = "Adafactor"
    takes_empty = False
    kind: Literal["adafactor"] = "adafactor"
    lr: Positive = 1e-2
    beta2_decay: Annotated[float, Field(le=0)] = -0.8
    d: Annotated[float, Field(ge=1)] = 1.0
    weight_decay: NotNegative = 0.0


class RMSpropSpec(Optimizer):
    """``torch.optim.RMSprop``."""

    torch_class = "RMSprop"
    slots_for = ("momentum", "centered")
    kind: Literal["rmsprop"] = "rmsprop"
    lr: Positive = 1e-2
    alpha: Share = 0.99
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    momentum: NotNegative = 0.0
    centered: bool = False


class RpropSpec(Optimizer):
    """``torch.optim.Rprop``; made for the whole training part in one step."""

    torch_class = "Rprop"
    slots = 2
    kind: Literal["rprop"] = "rprop"
    lr: Positive = 1e-2
    etas: Pair = [0.5, 1.2]
    step_sizes: Pair = [1e-6, 50.0]

    @model_validator(mode="after")
    def _shrinks_and_grows(self) -> "RpropSpec":
        if not self.etas[0] < 1 < self.etas[1]:
            raise PydanticCustomError("etas", "etas are a factor below 1 and one above")
        return self


class ASGDSpec(Optimizer):
    """``torch.optim.ASGD``; its averaged weights are not used."""

    torch_class = "ASGD"
    kind: Literal["asgd"] = "asgd"
    lr: Positive = 1e-2
    lambd: NotNegative = 1e-4
    alpha: NotNegative = 0.75
    t0: NotNegative = 1e6
    weight_decay: NotNegative = 0.0


_AnyOptimizer = (
    SGDSpec
    | AdamSpec
    | AdamWSpec
    | NAdamSpec
    | RAdamSpec
    | AdamaxSpec
    | AdagradSpec
    | AdadeltaSpec
    | AdafactorSpec
    | RMSpropSpec
    | RpropSpec
    | ASGDSpec
)
OptimizerSpec = Annotated[_AnyOptimizer, Field(discriminator="kind"), by_name(_AnyOptimizer)]
"""Any of the optimizers, by its name or as an object with its parameters."""
