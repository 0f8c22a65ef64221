"""The rows that training does not learn from, measured after each epoch."""

import math

import torch
from torch import Tensor, nn

from app.errors import InvalidData
from app.ml.data import batches, preparation
from app.ml.evaluation import metrics
from app.ml.features.preprocessing import ClassTarget, NumberTargets, TargetEncoder
from app.ml.inference import forward
from app.ml.nn.losses import Objective
from app.ml.specs import JobSpec


class Validator:
    """Measures a model on the validation part, or on the test part where there is none."""

    def __init__(self, prepared: preparation.Prepared, spec: JobSpec, device: torch.device) -> None:
        self._name = "validation" if len(prepared.validation) else "test"
        part = getattr(prepared, self._name)
        self._rows = len(part)
        self._objective = Objective(spec.loss)
        self._select, self._table = spec.select, part.table
        self._target = prepared.preprocessing.target
        self._x, self._y, self._weight = batches.rows_of(part, device)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Return ``validation_loss`` in the loss's own units, and one metric of the task in the
        target's: ``validation_rmse`` or ``validation_accuracy``; and the one that the job selects
        by. Empty where there are no rows.

        Their names begin with ``test`` where that part stands in.
        """
        if not self._rows:
            return {}
        model.eval()
        with torch.inference_mode():
            outputs = forward.in_slices(model, self._x)
            loss = self._objective(outputs, self._y, self._weight)
            name, metric = _metric(self._target, outputs, self._y)
            values = torch.stack([loss.double(), metric.double()]).tolist()
        found = {"loss": values[0], name: values[1]}
        if self._select not in found:
            found[self._select] = self._selected(outputs)
        return {f"{self._name}_{key}": value for key, value in found.items()}

    def _selected(self, outputs: Tensor) -> float:
        """Return the metric that the job selects by, NaN where an output is not finite.

        Raises InvalidData where it is not defined on this part.
        """
        if not bool(outputs.isfinite().all()):
            return math.nan
        name = self._select
        scores = metrics.score(self._target, self._table, outputs.float().cpu().numpy(), [name])
        if (score := scores[name]) is None:
            raise InvalidData(
                f"'{name}', which 'select' names, is not defined on the validation part: it lacks "
                "a class, or a true value is 0; select by another metric, or by the loss"
            )
        return score


def _metric(target: TargetEncoder, outputs: Tensor, y: Tensor) -> tuple[str, Tensor]:
    """Return name and value ``()`` of RMSE (the mean over targets), or the share of right answers.

    ``outputs`` are ``(rows, outputs)``; ``y`` is as in ``Rows``.
    """
    if isinstance(target, NumberTargets):
        if target.link == "log":
            outputs = outputs.exp()
        errors = (outputs - y).double().square().mean(0).sqrt()
        scale = torch.tensor(target.scale, dtype=torch.float64)  # it may leave float32's range
        return "rmse", (errors * scale.to(errors.device)).mean()
    if isinstance(target, ClassTarget) and target.outputs > 1:
        return "accuracy", (outputs.argmax(1) == y).float().mean()
    return "accuracy", ((outputs > 0) == (y > 0.5)).float().mean()
