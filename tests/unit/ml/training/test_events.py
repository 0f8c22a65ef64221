"""Events and tasks cross a pipe as JSON and arrive as they were."""

import math

from app.ml.training.events import (
    EVENTS,
    Best,
    CheckpointSaved,
    EpochEnded,
    Event,
    TrainEnded,
    TrainFailed,
    TrainStopped,
    TrainTask,
)
from tests.support.workbench import Workbench, table_of


def test_every_event_survives_json() -> None:
    events: list[Event] = [
        EpochEnded(epoch=3, values={"train_loss": 0.1 + 0.2}),
        CheckpointSaved(checkpoint_id="ckpt_1", epoch=3, size_bytes=9, sha256="ab"),
        TrainEnded(
            features=[{"name": "x", "type": "number"}],
            parameters=2,
            best=Best(epoch=3, by="train_loss", values={"train_loss": 0.1}),
            test={"mae": 0.5, "r2": None},
            baseline=None,
            versions={"torch": "2.6.0"},
        ),
        TrainStopped(reason="cancel"),
        TrainFailed(code="diverged", message="lower the learning rate"),
    ]
    assert EVENTS.validate_json(EVENTS.dump_json(events)) == events


def test_losses_that_are_no_numbers_arrive_as_what_they_are() -> None:
    values = {"train_loss": math.nan, "test_loss": math.inf, "learning_rate": -math.inf}
    [event] = EVENTS.validate_json(EVENTS.dump_json([EpochEnded(epoch=0, values=values)]))
    assert isinstance(event, EpochEnded)
    assert math.isnan(event.values["train_loss"])
    assert event.values["test_loss"] == math.inf
    assert event.values["learning_rate"] == -math.inf


def test_a_task_survives_json(workbench: Workbench) -> None:
    table = table_of({"x": list(range(20)), "y": [i / 2 for i in range(20)]})
    task = workbench.task(table, optimizer="adam", loss={"kind": "huber", "delta": 2.0})
    assert TrainTask.model_validate_json(task.model_dump_json()) == task
