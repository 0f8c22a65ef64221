"""The best weights so far, and when to stop early."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from app.ml.inference.model_files import StateDict
from app.ml.specs import JobSpec
from app.ml.specs.metrics import falls


@dataclass
class BestWeights:
    """The weights of the best value on the validation part, or the last where nothing is
    validated."""

    watch: str | None
    """The value that is to fall, or to rise; ``None``: the last epoch is the best."""
    patience: int | None
    """Epochs without a fall after which training stops; ``None``: it does not."""
    min_delta: float = 0.0
    rises: bool = False
    """Whether more is better: then what is compared is less than 0, its negative."""
    lowest: float = math.inf
    reference: float = math.inf
    """What a fall by ``min_delta`` is counted from."""
    waited: int = 0
    """Epochs since the last such fall."""
    epoch: int = 0
    """The best one, counted from 0."""
    values: dict[str, float] = field(default_factory=dict)
    """Losses and metrics of that epoch."""
    state: StateDict | None = None
    """The weights of that epoch, on the model's device; ``None``: the model itself has them."""

    @classmethod
    def of(cls, spec: JobSpec) -> "BestWeights":
        """Make one for the start of a job."""
        stopping = spec.early_stopping
        return cls(
            watch=f"validation_{spec.select}" if spec.split.validation > 0 else None,
            patience=stopping.patience if stopping else None,
            min_delta=stopping.min_delta if stopping else 0.0,
            rises=not falls(spec.select),
        )

    def update(self, epoch: int, values: dict[str, float], model: nn.Module) -> None:
        """Compare an epoch's values with the best; copy the weights of ``model`` if they are."""
        if self.watch is None:
            self.epoch, self.values = epoch, values
            return
        current = -values[self.watch] if self.rises else values[self.watch]
        self.waited += 1
        if current < self.reference - self.min_delta:
            self.reference, self.waited = current, 0
        if current < self.lowest:
            self.lowest, self.epoch, self.values = current, epoch, values
            # on the model's device: the way from a GPU would be waited for, epoch by epoch
            self.state = {name: t.detach().clone() for name, t in model.state_dict().items()}

    @property
    def exhausted(self) -> bool:
        """Whether early stopping has run out of patience."""
        return self.patience is not None and self.waited >= self.patience

    def plain_state(self) -> dict[str, Any]:
        """Return all but the weights, as JSON takes it."""
        names = [item.name for item in fields(self) if item.name != "state"]
        return {name: getattr(self, name) for name in names}

    def restore(self, plain: dict[str, Any], state: StateDict | None) -> None:
        """Take over what ``plain_state`` gave, and the weights."""
        for name, value in plain.items():
            setattr(self, name, value)
        self.state = state
