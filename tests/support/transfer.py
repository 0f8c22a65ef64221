"""What the tests of pretrained models share: a table, and a short way from one run to the next."""

from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.torch import load_file

from app.ids import new_id
from app.ml import plan as planning
from app.ml.inference import card
from app.ml.inference.model_files import StateDict
from app.ml.plan import Plan, Pretrained
from app.ml.tables import parquet
from app.ml.training import loop
from app.ml.training.events import TrainTask
from tests.support.workbench import Run, Workbench, profile_of, request, table_of


def clouds(rows: int = 80, seed: int = 1, **others: list[Any]) -> pa.Table:
    """Three features, and targets of every kind."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=rows), random.normal(size=rows)
    y = 10 * np.sin(a) + b + 50
    columns: dict[str, list[Any]] = {
        "a": a.tolist(),
        "b": b.tolist(),
        "c": ["xyz"[i % 3] for i in range(rows)],
        "y": y.tolist(),
        "z": (a * b).tolist(),
        "kind": [["no", "yes"][int(v > 50)] for v in y],
        "three": [["low", "mid", "top"][int(v > 45) + int(v > 55)] for v in y],
        "flag": [bool(v > 0) for v in a],
        "flags": [bool(v > 0) for v in b],
    }
    return table_of({**columns, **others})


TABLE = clouds()
NAMES = ["a", "b", "c"]


def source_of(run: Run, ref: str = "base@1") -> Pretrained:
    """As the service makes one of a model version."""
    return Pretrained(ref, card.read(run.folder))


def planned(run: Run, table: pa.Table, freeze: list[str] | None = None, **fields: Any) -> Plan:
    model = {"kind": "pretrained", "model": "base", "freeze": freeze or []}
    asked = request(**{"model": model, **fields})
    known = [name for name in asked.planning_columns if name in table.column_names]
    return planning.plan(
        asked, profile_of(table), table.num_rows, table.select(known), source_of(run)
    )


def transferred(bench: Workbench, run: Run, table: pa.Table = TABLE, **fields: Any) -> Run:
    """Trained on, from the weights of ``run``."""
    spec = planned(run, table, **fields).spec
    dataset_id = new_id("ds")
    with bench.storage.publish("datasets", dataset_id) as draft:
        parquet.write(table, draft / parquet.FILE)
    task = TrainTask(
        root=bench.storage.root,
        dataset_id=dataset_id,
        model_id=new_id("mdl"),
        spec=spec,
        source=run.task.model_id,
    )
    return Run(task, bench.storage, list(loop.train(task)))


def weights(run: Run) -> StateDict:
    state: StateDict = load_file(run.folder / card.WEIGHTS)
    return state


def answers(run: Run, table: pa.Table = TABLE) -> list[Any]:
    predictor = run.predictor
    return predictor.predictions(predictor.outputs(table))
