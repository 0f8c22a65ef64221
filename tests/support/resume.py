"""A training that is stopped and started again, beside one that nobody stopped."""

from typing import Any

import numpy as np
import pyarrow as pa

from app.hashes import sha256_of
from app.ids import new_id
from app.ml.training.events import CheckpointSaved, EpochEnded, Event, StopReason, TrainEnded
from app.ml.training.loop import train
from tests.support.workbench import Workbench, stop_after, table_of


def clouds(rows: int = 80) -> pa.Table:
    """Numbers, categories and gaps; a number ``y``, a class ``kind`` and weights."""
    random = np.random.default_rng(5)
    a, b = random.normal(size=rows), random.normal(size=rows)
    gaps = [None if i % 9 == 0 else float(v) for i, v in enumerate(b)]
    return table_of(
        {
            "a": a.tolist(),
            "b": gaps,
            "c": [["x", "y", "z"][i % 3] for i in range(rows)],
            "weight": (random.random(rows) + 0.1).tolist(),
            "kind": [["no", "yes"][int(v > 0)] for v in a],
            "y": (np.sin(a) + b).tolist(),
        }
    )


DROPOUT = {"kind": "mlp", "hidden": [6, 6], "dropout": 0.4, "norm": "batch", "residual": True}
FIELDS: dict[str, Any] = {
    "features": ["a", "b", "c"],
    "model": DROPOUT,
    "batch_size": 16,
    "epochs": 6,
    "optimizer": {"kind": "adamw", "lr": 0.02},
}


class Interrupted:
    """One job, run again and again until it ends; every attempt starts from what the last left."""

    def __init__(self, workbench: Workbench, **fields: Any) -> None:
        self._workbench = workbench
        self._task = workbench.task(clouds(), **fields)
        self.history: dict[int, dict[str, float]] = {}
        self.ended: TrainEnded | None = None

    def attempt(self, stops_after: int, reason: StopReason) -> None:
        """Until it has been asked ``stops_after`` times; ``cancel`` leaves no checkpoint, as a
        crash does not."""
        self._task = self._task.model_copy(update={"model_id": new_id("mdl")})
        for event in train(self._task, stop_after(stops_after, reason)):
            self._note(event)

    def _note(self, event: Event) -> None:
        match event:
            case EpochEnded(epoch=epoch, values=values):
                assert self.history.setdefault(epoch, values) == values, "replayed epochs are equal"
            case CheckpointSaved(checkpoint_id=newest):
                known = (newest, *self._task.checkpoints)
                self._task = self._task.model_copy(update={"checkpoints": known})
            case TrainEnded():
                self.ended = event

    @property
    def weights(self) -> str:
        folder = self._workbench.storage.verified("models", self._task.model_id)
        return sha256_of(folder / "weights.safetensors")


def same_as_undisturbed(
    workbench: Workbench, stops: list[tuple[int, StopReason]], **fields: Any
) -> None:
    """Stopped so, a run ends with the weights, history and end of an undisturbed one."""
    whole = Interrupted(workbench, **fields)
    whole.attempt(10**9, "cancel")
    stopped = Interrupted(workbench, **fields)
    for after, reason in stops:
        if stopped.ended is None:
            stopped.attempt(after, reason)
    if stopped.ended is None:
        stopped.attempt(10**9, "cancel")
    assert stopped.history == whole.history
    assert sorted(whole.history) == list(range(len(whole.history)))
    assert stopped.ended == whole.ended
    assert stopped.weights == whole.weights


MIDDLE: list[tuple[int, StopReason]] = [(2, "shutdown"), (4, "pause"), (7, "shutdown")]
