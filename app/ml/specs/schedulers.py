"""Schedulers by the names of ``torch.optim.lr_scheduler`` in snake case, without "LR".

They step after each epoch, but ``one_cycle`` and ``cyclic``, which step after each batch.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from app.ml.specs.base import NotNegative, Positive, Share, Spec, named

Factor = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, lt=2**31)]


class StepSpec(Spec):
    """``StepLR``: times ``gamma`` every ``step_size`` epochs."""

    kind: Literal["step"] = "step"
    step_size: Count
    gamma: Factor = 0.1


class MultiStepSpec(Spec):
    """``MultiStepLR``: times ``gamma`` at each of the epochs ``milestones``."""

    kind: Literal["multi_step"] = "multi_step"
    milestones: list[Count] = Field(min_length=1, max_length=1000, fail_fast=True)
    gamma: Factor = 0.1

    @model_validator(mode="after")
    def _rises(self) -> "MultiStepSpec":
        if sorted(set(self.milestones)) != self.milestones:
            raise PydanticCustomError("milestones", "milestones rise from one to the next")
        return self


class ExponentialSpec(Spec):
    """``ExponentialLR``: times ``gamma`` every epoch."""

    kind: Literal["exponential"] = "exponential"
    gamma: Factor


class ConstantSpec(Spec):
    """``ConstantLR``: times ``factor`` for ``total_iters`` epochs."""

    kind: Literal["constant"] = "constant"
    factor: Factor = 1 / 3
    total_iters: Count = 5


class LinearRateSpec(Spec):
    """``LinearLR``: from ``start_factor`` to ``end_factor`` in ``total_iters`` epochs."""

    kind: Literal["linear"] = "linear"
    start_factor: Factor = 1 / 3
    end_factor: Annotated[float, Field(ge=0, le=1)] = 1.0
    total_iters: Count = 5


class PolynomialSpec(Spec):
    """``PolynomialLR``: to 0 in ``total_iters`` epochs (left out: all of them)."""

    kind: Literal["polynomial"] = "polynomial"
    total_iters: Count | None = None
    power: Positive = 1.0


class CosineSpec(Spec):
    """``CosineAnnealingLR``: to ``eta_min`` in ``T_max`` epochs (left out: all of them)."""

    kind: Literal["cosine"] = "cosine"
    T_max: Count | None = None
    eta_min: NotNegative = 0.0


class CosineWarmRestartsSpec(Spec):
    """``CosineAnnealingWarmRestarts``: a first cosine of ``T_0`` epochs, then longer ones."""

    kind: Literal["cosine_warm_restarts"] = "cosine_warm_restarts"
    T_0: Count
    T_mult: Count = 1
    eta_min: NotNegative = 0.0


class OneCycleSpec(Spec):
    """``OneCycleLR`` over all steps of the job; ``max_lr`` left out: the optimizer's ``lr``."""

    kind: Literal["one_cycle"] = "one_cycle"
    max_lr: Positive | None = None
    pct_start: Annotated[float, Field(ge=0, le=1)] = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    cycle_momentum: bool = Field(True, description="only where the optimizer has a momentum")
    base_momentum: Share = 0.85
    max_momentum: Share = 0.95
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4
    three_phase: bool = False


class CyclicSpec(Spec):
    """``CyclicLR``: up and down between ``base_lr`` and ``max_lr``, in batches."""

    kind: Literal["cyclic"] = "cyclic"
    base_lr: Positive
    max_lr: Positive
    step_size_up: Count = 2000
    step_size_down: Count | None = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: Factor = 1.0
    cycle_momentum: bool = Field(True, description="only where the optimizer has a momentum")
    base_momentum: Share = 0.8
    max_momentum: Share = 0.9

    @model_validator(mode="after")
    def _goes_up(self) -> "CyclicSpec":
        if self.base_lr > self.max_lr:
            raise PydanticCustomError("max_lr", "max_lr is at least base_lr")
        return self


class ReduceOnPlateauSpec(Spec):
    """``ReduceLROnPlateau``: times ``factor`` where the validation loss (without a validation
    part, the training loss) has not fallen for ``patience`` epochs."""

    kind: Literal["reduce_on_plateau"] = "reduce_on_plateau"
    factor: Share = 0.1
    patience: Annotated[int, Field(ge=0, lt=2**31)] = 10
    threshold: NotNegative = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: Annotated[int, Field(ge=0, lt=2**31)] = 0
    min_lr: NotNegative = 0.0
    eps: NotNegative = 1e-8


SchedulerSpec = Annotated[
    StepSpec
    | MultiStepSpec
    | ExponentialSpec
    | ConstantSpec
    | LinearRateSpec
    | PolynomialSpec
    | CosineSpec
    | CosineWarmRestartsSpec
    | OneCycleSpec
    | CyclicSpec
    | ReduceOnPlateauSpec,
    Field(discriminator="kind"),
    BeforeValidator(named),
]
