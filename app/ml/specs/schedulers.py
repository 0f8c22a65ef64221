"""Schedulers by the names of ``torch.optim.lr_scheduler`` in snake case, without "LR".

They step after each epoch, but ``one_cycle`` and ``cyclic``, which step after each step of the
optimizer. One more scheduler is a class here, and its name in the union below.
"""

from collections.abc import Container
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from app.ml.specs.base import NotNegative, Positive, Share, Spec, by_name

Factor = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, lt=2**31)]


class Scheduler(Spec):
    """What every scheduler says of itself beside its parameters."""

    torch_class: ClassVar[str]
    """The name of its class in ``torch.optim.lr_scheduler``."""
    by_batch: ClassVar[bool] = False
    """Whether it steps after each batch, not after each epoch."""
    watches_loss: ClassVar[bool] = False
    """Whether its step takes the loss of the epoch."""

    @property
    def duration(self) -> int | None:
        """The epochs after which the next of a list takes over; ``None`` where it has no end."""
        return None

    def options_for(self, epochs: int, batches: int, group: dict[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of the torch class, complete for one job.

        The job has ``epochs`` epochs of ``batches`` batches; ``group`` is the parameter group of
        its optimizer.
        """
        return self.torch_options()


def _has_momentum(group: Container[str]) -> bool:
    """Whether torch's cyclic schedulers find a momentum in an optimizer's parameter group."""
    return "momentum" in group or "betas" in group


class StepSpec(Scheduler):
    """``StepLR``: times ``gamma`` every ``step_size`` epochs."""

    torch_class = "StepLR"
    kind: Literal["step"] = "step"
    step_size: Count
    gamma: Factor = 0.1


class MultiStepSpec(Scheduler):
    """``MultiStepLR``: times ``gamma`` at each of the epochs ``milestones``."""

    torch_class = "MultiStepLR"
    kind: Literal["multi_step"] = "multi_step"
    milestones: list[Count] = Field(min_length=1, max_length=1000, fail_fast=True)
    gamma: Factor = 0.1

    @model_validator(mode="after")
    def _rises(self) -> "MultiStepSpec":
        if sorted(set(self.milestones)) != self.milestones:
            raise PydanticCustomError("milestones", "milestones rise from one to the next")
        return self


class ExponentialSpec(Scheduler):
    """``ExponentialLR``: times ``gamma`` every epoch."""

    torch_class = "ExponentialLR"
    kind: Literal["exponential"] = "exponential"
    gamma: Factor


class ConstantSpec(Scheduler):
    """``ConstantLR``: times ``factor`` for ``total_iters`` epochs."""

    torch_class = "ConstantLR"
    kind: Literal["constant"] = "constant"
    factor: Factor = 1 / 3
    total_iters: Count = 5

    @property
    def duration(self) -> int:
        return self.total_iters


class LinearRateSpec(Scheduler):
    """``LinearLR``: from ``start_factor`` to ``end_factor`` in ``total_iters`` epochs."""

    torch_class = "LinearLR"
    kind: Literal["linear"] = "linear"
    start_factor: Factor = 1 / 3
    end_factor: Annotated[float, Field(ge=0, le=1)] = 1.0
    total_iters: Count = 5

    @property
    def duration(self) -> int:
        return self.total_iters


class PolynomialSpec(Scheduler):
    """``PolynomialLR``: to 0 in ``total_iters`` epochs (left out: all of them)."""

    torch_class = "PolynomialLR"
    kind: Literal["polynomial"] = "polynomial"
    total_iters: Count | None = None
    power: Positive = 1.0

    @property
    def duration(self) -> int | None:
        return self.total_iters

    def options_for(self, epochs: int, batches: int, group: dict[str, Any]) -> dict[str, Any]:
        return {**self.torch_options(), "total_iters": self.total_iters or epochs}


class CosineSpec(Scheduler):
    """``CosineAnnealingLR``: to ``eta_min`` in ``T_max`` epochs (left out: all of them)."""

    torch_class = "CosineAnnealingLR"
    kind: Literal["cosine"] = "cosine"
    T_max: Count | None = None
    eta_min: NotNegative = 0.0

    @property
    def duration(self) -> int | None:
        return self.T_max

    def options_for(self, epochs: int, batches: int, group: dict[str, Any]) -> dict[str, Any]:
        return {**self.torch_options(), "T_max": self.T_max or epochs}


class CosineWarmRestartsSpec(Scheduler):
    """``CosineAnnealingWarmRestarts``: a first cosine of ``T_0`` epochs, then longer ones."""

    torch_class = "CosineAnnealingWarmRestarts"
    kind: Literal["cosine_warm_restarts"] = "cosine_warm_restarts"
    T_0: Count
    T_mult: Count = 1
    eta_min: NotNegative = 0.0

    @property
    def duration(self) -> int:
        return self.T_0


class OneCycleSpec(Scheduler):
    """``OneCycleLR`` over all steps of the job; ``max_lr`` left out: the optimizer's ``lr``."""

    torch_class = "OneCycleLR"
    by_batch = True
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

    def options_for(self, epochs: int, batches: int, group: dict[str, Any]) -> dict[str, Any]:
        return {
            **self.torch_options(),
            "max_lr": self.max_lr or group["lr"],
            "total_steps": max(2, epochs * batches),
            "cycle_momentum": self.cycle_momentum and _has_momentum(group),
        }


class CyclicSpec(Scheduler):
    """``CyclicLR``: up and down between ``base_lr`` and ``max_lr``, in batches."""

    torch_class = "CyclicLR"
    by_batch = True
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

    def options_for(self, epochs: int, batches: int, group: dict[str, Any]) -> dict[str, Any]:
        cycle_momentum = self.cycle_momentum and _has_momentum(group)
        return {**self.torch_options(), "cycle_momentum": cycle_momentum}


class ReduceOnPlateauSpec(Scheduler):
    """``ReduceLROnPlateau``: times ``factor`` where the validation loss (without a validation
    part, the training loss) has not fallen for ``patience`` epochs."""

    torch_class = "ReduceLROnPlateau"
    watches_loss = True
    kind: Literal["reduce_on_plateau"] = "reduce_on_plateau"
    factor: Share = 0.1
    patience: Annotated[int, Field(ge=0, lt=2**31)] = 10
    threshold: NotNegative = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: Annotated[int, Field(ge=0, lt=2**31)] = 0
    min_lr: NotNegative = 0.0
    eps: NotNegative = 1e-8


_AnyScheduler = (
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
    | ReduceOnPlateauSpec
)
SchedulerSpec = Annotated[_AnyScheduler, Field(discriminator="kind"), by_name(_AnyScheduler)]
"""Any of the schedulers, by its name or as an object with its parameters."""


def _one_after_another(schedulers: list[_AnyScheduler]) -> list[_AnyScheduler]:
    """Refuse what torch's ``SequentialLR`` cannot run, and what would never end."""
    for number, scheduler in enumerate(schedulers):
        if scheduler.by_batch or scheduler.watches_loss:
            raise PydanticCustomError(
                "alone",
                "'{kind}' cannot follow another scheduler or be followed; give it alone",
                {"kind": scheduler.kind},
            )
        if scheduler.duration is None and number < len(schedulers) - 1:
            length = next((n for n in ("total_iters", "T_max") if hasattr(scheduler, n)), None)
            remedy = f"give its '{length}', or put it last" if length else "put it last"
            raise PydanticCustomError(
                "endless",
                "'{kind}' has no end, so what follows would never begin; {remedy}",
                {"kind": scheduler.kind, "remedy": remedy},
            )
    return schedulers


_Several = Annotated[
    list[SchedulerSpec],
    Field(min_length=1, max_length=8, description="one after another, such as linear, then cosine"),
    AfterValidator(_one_after_another),
]
SchedulerSpecs = Annotated[
    Annotated[SchedulerSpec, Tag("one")] | Annotated[_Several, Tag("several")],
    Discriminator(lambda value: "several" if isinstance(value, list) else "one"),
]
"""A scheduler, or some that run one after another: ``total_iters``, ``T_max`` or ``T_0`` epochs
each, the last those that are left."""
