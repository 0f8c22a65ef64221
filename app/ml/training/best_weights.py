"""Which weights are kept, and when to stop."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from app.ml.inference.model_files import StateDict, state_dict_of
from app.ml.specs import JobSpec


@dataclass
class BestWeights:
    """The weights to keep: of the lowest validation loss, or the last where there is none."""

    watch: str | None
    patience: int | None
    min_delta: float = 0.0
    lowest: float = math.inf
    reference: float = math.inf  # what a fall by min_delta is counted from
    waited: int = 0
    epoch: int = 0
    values: dict[str, float] = field(default_factory=dict)
    state: StateDict | None = None

    @classmethod
    def of(cls, spec: JobSpec) -> "BestWeights":
        """Before the first epoch of a job."""
        stopping = spec.early_stopping
        return cls(
            watch="validation_loss" if spec.split.validation > 0 else None,
            patience=stopping.patience if stopping else None,
            min_delta=stopping.min_delta if stopping else 0.0,
        )

    def update(self, epoch: int, values: dict[str, float], model: nn.Module) -> None:
        """Look at the values of one epoch."""
        if self.watch is None:
            self.epoch, self.values = epoch, values
            return
        current = values[self.watch]
        self.waited += 1
        if current < self.reference - self.min_delta:
            self.reference, self.waited = current, 0
        if current < self.lowest:
            self.lowest, self.epoch, self.values = current, epoch, values
            self.state = state_dict_of(model)

    @property
    def exhausted(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def plain_state(self) -> dict[str, Any]:
        """All but the weights, as plain data."""
        names = [item.name for item in fields(self) if item.name != "state"]
        return {name: getattr(self, name) for name in names}

    def restore(self, plain: dict[str, Any], state: StateDict | None) -> None:
        """Set everything as ``plain_state`` gave it, and the best weights so far."""
        for name, value in plain.items():
            setattr(self, name, value)
        self.state = state
