"""What the tests of the library share: a storage on disk, and a short way from table to model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.hashes import sha256_of
from app.ids import new_id
from app.ml import plan as planning
from app.ml.column_types.canonical import TypeName, column_type
from app.ml.data import preparation
from app.ml.inference.predictor import Predictor
from app.ml.plan import Plan
from app.ml.specs import JobRequest, JobSpec
from app.ml.tables import json_rows, parquet, profile
from app.ml.tables.typed import TypedTable
from app.ml.training import loop
from app.ml.training.events import Best, EpochEnded, Event, StopReason, TrainEnded, TrainTask
from app.storage import Storage

LINE_REQUEST: dict[str, Any] = {
    "target": "y",
    "features": ["x"],
    "task": "regression",
    "split": {"train": 0.8, "validation": 0.0, "test": 0.2, "strategy": "sequential", "seed": 0},
    "preprocessing": {"numbers": "none", "target": "none"},
    "model": {"kind": "linear", "init": "normal"},
    "loss": "l1",
    "optimizer": {"kind": "sgd", "lr": 0.01},
    "epochs": 100,
    "batch_size": None,
    "seed": 42,
    "early_stopping": None,
}
"""The straight line of the contract's example."""


def request(**fields: Any) -> JobRequest:
    """A job request for the target ``y`` unless another is named, and without a refit unless that
    is asked for: most tests look at the weights that the training part gave."""
    return JobRequest.model_validate(
        {"dataset": "some-data", "target": "y", "refit": False, **fields}
    )


def table_of(columns: dict[str, list[Any]], types: dict[str, TypeName] | None = None) -> pa.Table:
    """Lists by name as the canonical table that a request with them would make."""
    return json_rows.from_columns(columns, types).table


def profile_of(table: pa.Table) -> list[dict[str, Any]]:
    """The profile of a table none of whose columns is text."""
    types = {field.name: column_type(field.type) for field in table.schema}
    return profile.profile(TypedTable(table, types))


def planned(table: pa.Table, **fields: Any) -> Plan:
    """The request's fields completed against ``table``."""
    asked = request(**fields)
    known = profile_of(table)
    read = table.select(planning.columns_to_read(asked, known))
    return planning.plan(asked, known, table.num_rows, read)


def spec_for(table: pa.Table, **fields: Any) -> JobSpec:
    """The completed spec alone."""
    return planned(table, **fields).spec


def line_spec(**fields: Any) -> JobSpec:
    """The straight line's spec, every field filled in."""
    points = [i / 50 for i in range(50)]
    return spec_for(table_of({"x": points, "y": points}), **{**LINE_REQUEST, **fields})


@dataclass(frozen=True)
class Run:
    """A finished training: what it told, and the model it left on disk."""

    task: TrainTask
    storage: Storage
    events: list[Event]

    @property
    def epochs(self) -> list[EpochEnded]:
        return [event for event in self.events if isinstance(event, EpochEnded)]

    @property
    def ended(self) -> TrainEnded:
        last = self.events[-1]
        assert isinstance(last, TrainEnded)
        return last

    @property
    def best(self) -> Best:
        assert self.ended.best is not None
        return self.ended.best

    @property
    def folder(self) -> Path:
        return self.storage.verified("models", self.task.model_id)

    @property
    def weights_sha256(self) -> str:
        return sha256_of(self.folder / "weights.safetensors")

    @property
    def predictor(self) -> Predictor:
        return Predictor.load(self.folder)

    def series(self, name: str) -> list[float]:
        """One value per epoch."""
        return [epoch.values[name] for epoch in self.epochs]

    def prepared(self) -> preparation.Prepared:
        """The data as training saw it, made anew from disk."""
        folder = self.storage.verified("datasets", self.task.dataset_id)
        return preparation.prepare(self.task.spec, parquet.read(folder / parquet.FILE))


class Workbench:
    """Trains tables in a storage of its own."""

    def __init__(self, root: Path) -> None:
        self.storage = Storage(root)
        self.storage.prepare()

    def task(self, table: pa.Table, **fields: Any) -> TrainTask:
        """Publish ``table`` and name the job that the request's fields describe."""
        dataset_id = new_id("ds")
        with self.storage.publish("datasets", dataset_id) as draft:
            parquet.write(table, draft / parquet.FILE)
        return TrainTask(
            root=self.storage.root,
            dataset_id=dataset_id,
            model_id=new_id("mdl"),
            spec=spec_for(table, **fields),
        )

    def train(self, table: pa.Table, **fields: Any) -> Run:
        """Train to the end."""
        task = self.task(table, **fields)
        return Run(task, self.storage, list(loop.train(task)))

    def artifacts(self, kind: str) -> list[str]:
        """Ids of what is published."""
        return sorted(path.name for path in (self.storage.root / kind).iterdir())


def stop_after(asked: int, reason: StopReason) -> Callable[[], StopReason | None]:
    """A ``should_stop`` that gives its reason after it has been asked ``asked`` times in vain."""

    answers: Iterator[StopReason | None] = chain(repeat(None, asked), repeat(reason))
    return lambda: next(answers)
