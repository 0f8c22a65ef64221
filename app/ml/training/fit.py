"""The library in one call: a table in, a predictor out.

::

    from pathlib import Path
    from app.ml.training.fit import fit

    model = fit(Path("flats.csv"), "rent", Path("work"), epochs=50, on_event=print)
    table = model.tables.of_rows([{"size": 60, "rooms": 2}])
    print(model.predictions(model.outputs(table)))
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.errors import InvalidRequest
from app.ids import new_id
from app.ml.column_types.notations.notation import CellOptions
from app.ml.inference.predictor import Predictor
from app.ml.plan import columns_to_read, plan
from app.ml.specs import JobRequest
from app.ml.specs.mistakes import checked
from app.ml.tables import ingest, json_rows, parquet
from app.ml.tables.formats import format_of
from app.ml.tables.typed import notations_of
from app.ml.training.events import Event, TrainTask
from app.ml.training.loop import train
from app.storage import Storage

Columns = Mapping[str, Sequence[Any]]
"""Values by the column's name."""


def fit(
    source: Path | Columns,
    target: str | list[str],
    folder: Path,
    *,
    on_event: Callable[[Event], object] | None = None,
    **job: Any,
) -> Predictor:
    """Train a model on ``source``, a CSV, NDJSON, Parquet or Arrow file or columns by name.

    ``job`` takes the fields of a job's request (``model``, ``epochs``, …); what is left out is
    filled in as the service does. Dataset, checkpoints and model are published under ``folder``.
    Raises InvalidInput where data or request are wrong, and Diverged, TimeLimit or InvalidData as
    ``train`` does.
    """
    request = checked(JobRequest, {"dataset": "table", "target": target, **job})
    if isinstance(source, Path) and not source.is_file():
        raise InvalidRequest.at("/source", f"there is no file '{source}'; name one that exists")
    storage = Storage(folder)
    storage.prepare()
    task = _task(storage, source, request)
    for event in train(task):
        if on_event is not None:
            on_event(event)
    return Predictor.load(storage.verified("models", task.model_id))


def _task(storage: Storage, source: Path | Columns, request: JobRequest) -> TrainTask:
    """Publish the table and complete the request against it."""
    dataset_id = new_id("ds")
    limits = ingest.Limits(decoded_bytes=1 << 62)
    with storage.publish("datasets", dataset_id) as draft:
        if isinstance(source, Path):
            kind = format_of(source.name) or "csv"
            summary = ingest.ingest(source, draft, ingest.Options(format=kind), limits)
        else:
            table = json_rows.from_columns({name: list(column) for name, column in source.items()})
            summary = ingest.store(table, draft, limits)
    path = storage.path("datasets", dataset_id) / parquet.FILE
    table = parquet.read(path, columns_to_read(request, summary.columns))
    planned = plan(request, summary.columns, summary.rows, table)
    return TrainTask(
        root=storage.root,
        dataset_id=dataset_id,
        model_id=new_id("mdl"),
        spec=planned.spec,
        split=planned.rows.to_bytes(),
        split_counts=planned.split,
        notations=notations_of(summary.columns),
        left_out=summary.reading.get("left_out", []),
        texts=[item["name"] for item in summary.columns if item["type"] == "text"],
        cells=CellOptions.of_reading(summary.reading),
    )
