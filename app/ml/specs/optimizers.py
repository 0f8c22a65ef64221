"""Optimizers by the names of ``torch.optim`` in lower case, parameters as there.

Left out: LBFGS (it wants a closure), SparseAdam (no gradient here is sparse) and Muon (it takes
matrices only).
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from app.ml.specs.base import NotNegative, Positive, Share, Spec, named

Betas = Annotated[list[Share], Field(min_length=2, max_length=2, fail_fast=True)]
Pair = Annotated[list[Positive], Field(min_length=2, max_length=2, fail_fast=True)]


class SGDSpec(Spec):
    """``torch.optim.SGD``."""

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


class AdamSpec(Spec):
    """``torch.optim.Adam``."""

    kind: Literal["adam"] = "adam"
    lr: Positive = 1e-3
    betas: Betas = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    amsgrad: bool = False


class AdamWSpec(Spec):
    """``torch.optim.AdamW``."""

    kind: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    betas: Betas = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 1e-2
    amsgrad: bool = False


class NAdamSpec(Spec):
    """``torch.optim.NAdam``."""

    kind: Literal["nadam"] = "nadam"
    lr: Positive = 2e-3
    betas: Betas = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    momentum_decay: NotNegative = 4e-3
    decoupled_weight_decay: bool = False


class RAdamSpec(Spec):
    """``torch.optim.RAdam``."""

    kind: Literal["radam"] = "radam"
    lr: Positive = 1e-3
    betas: Betas = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    decoupled_weight_decay: bool = False


class AdamaxSpec(Spec):
    """``torch.optim.Adamax``."""

    kind: Literal["adamax"] = "adamax"
    lr: Positive = 2e-3
    betas: Betas = [0.9, 0.999]
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0


class AdagradSpec(Spec):
    """``torch.optim.Adagrad``."""

    kind: Literal["adagrad"] = "adagrad"
    lr: Positive = 1e-2
    lr_decay: NotNegative = 0.0
    weight_decay: NotNegative = 0.0
    initial_accumulator_value: NotNegative = 0.0
    eps: Positive = 1e-10


class AdadeltaSpec(Spec):
    """``torch.optim.Adadelta``."""

    kind: Literal["adadelta"] = "adadelta"
    lr: Positive = 1.0
    rho: Annotated[float, Field(ge=0, le=1)] = 0.9
    eps: Positive = 1e-6
    weight_decay: NotNegative = 0.0


class AdafactorSpec(Spec):
    """``torch.optim.Adafactor``; its ``eps`` is left at torch's."""

    kind: Literal["adafactor"] = "adafactor"
    lr: Positive = 1e-2
    beta2_decay: Annotated[float, Field(le=0)] = -0.8
    d: Annotated[float, Field(ge=1)] = 1.0
    weight_decay: NotNegative = 0.0


class RMSpropSpec(Spec):
    """``torch.optim.RMSprop``."""

    kind: Literal["rmsprop"] = "rmsprop"
    lr: Positive = 1e-2
    alpha: Share = 0.99
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    momentum: NotNegative = 0.0
    centered: bool = False


class RpropSpec(Spec):
    """``torch.optim.Rprop``; made for the whole training part in one step."""

    kind: Literal["rprop"] = "rprop"
    lr: Positive = 1e-2
    etas: Pair = [0.5, 1.2]
    step_sizes: Pair = [1e-6, 50.0]

    @model_validator(mode="after")
    def _shrinks_and_grows(self) -> "RpropSpec":
        if not self.etas[0] < 1 < self.etas[1]:
            raise PydanticCustomError("etas", "etas are a factor below 1 and one above")
        return self


class ASGDSpec(Spec):
    """``torch.optim.ASGD``; its averaged weights are not used."""

    kind: Literal["asgd"] = "asgd"
    lr: Positive = 1e-2
    lambd: NotNegative = 1e-4
    alpha: NotNegative = 0.75
    t0: NotNegative = 1e6
    weight_decay: NotNegative = 0.0


OptimizerSpec = Annotated[
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
    | ASGDSpec,
    Field(discriminator="kind"),
    BeforeValidator(named),
]
