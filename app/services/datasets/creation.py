"""New datasets: a table published to storage, then a row that makes it visible."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import Dataset
from app.errors import NameTaken
from app.ids import new_id, refuse_id_as_name
from app.ml.tables import ingest, parquet
from app.ml.tables.typed import TypedTable
from app.runtime import artifacts
from app.runtime.context import Context
from app.services.datasets.datasets import MOST_BYTES
from app.storage import explain_os_errors

_MOST_EXPANSION = 50
"""Times its size that a file may decode to; text shrinks to a tenth, seldom to a fiftieth."""
_FIRST_ROWS = 10
"""Rows of a preview."""
_WORTH_THREADS_BYTES = 1024 * 1024
"""Size from which a file is parsed by several threads."""


@dataclass(frozen=True)
class Naming:
    """What a client says of a new dataset beside its content."""

    name: str | None = None
    replace: bool = False
    metadata: dict[str, str] = field(default_factory=dict)


OnCreate = Callable[[Session, Dataset], None]
"""Called with a new dataset, in the transaction that makes it."""


def ignore(_session: Session, _dataset: Dataset) -> None:
    """Do nothing when a dataset is made."""


def create(
    context: Context, table: TypedTable, naming: Naming, on_create: OnCreate = ignore
) -> Dataset:
    """Store a table that is in memory (made from a request's JSON) as a new dataset.

    Raises NameTaken, InvalidRequest (a name that looks like an id), StorageFull or Unavailable.
    """
    bounds = parse_limits(context, 0)
    return _create(context, lambda folder: ingest.store(table, folder, bounds), naming, on_create)


def create_from_file(
    context: Context,
    source: Path,
    options: ingest.Options,
    naming: Naming,
    on_create: OnCreate = ignore,
) -> Dataset:
    """Read an uploaded file in a process of its own and store its table as a new dataset.

    Raises InvalidInput where the file cannot be read, and what ``create`` raises.
    """
    bounds = parse_limits(context, source.stat().st_size)

    def fill(folder: Path) -> ingest.Summary:
        return context.parsers.parse(source, folder, options, bounds)

    return _create(context, fill, naming, on_create)


@dataclass(frozen=True)
class Preview:
    """What would become a dataset, and its first rows as JSON objects."""

    summary: ingest.Summary
    first_rows: list[dict[str, Any]]


def preview(context: Context, table: TypedTable) -> Preview:
    """Return what ``create`` would store. Raises StorageFull or Unavailable."""
    bounds = parse_limits(context, 0)
    return _preview(context, lambda folder: ingest.store(table, folder, bounds))


def preview_file(context: Context, source: Path, options: ingest.Options) -> Preview:
    """Return what ``create_from_file`` would store; raises InvalidInput as it does."""
    bounds = parse_limits(context, source.stat().st_size)
    return _preview(context, lambda folder: context.parsers.parse(source, folder, options, bounds))


def _preview(context: Context, fill: Callable[[Path], ingest.Summary]) -> Preview:
    context.require_room()
    with explain_os_errors(), TemporaryDirectory(dir=context.storage.scratch) as folder:
        summary = fill(Path(folder))
        return Preview(summary, _first_rows(Path(folder) / parquet.FILE))


def _first_rows(path: Path) -> list[dict[str, Any]]:
    """Return the first rows of a table, ten or as many as one answer may hold."""
    found, size = list[dict[str, Any]](), 0
    for row in chain(*parquet.read_rows(path, 0, _FIRST_ROWS)):
        size += len(orjson.dumps(row))
        if size > MOST_BYTES:
            break
        found.append(row)
    return found


def parse_limits(context: Context, size: int) -> ingest.Limits:
    """Return what reading a file of ``size`` bytes may take."""
    settings = context.settings
    return ingest.Limits(
        decoded_bytes=max(settings.max_decoded_bytes, _MOST_EXPANSION * size),
        free_disk_bytes=settings.min_free_bytes,
        threads=1 if size < _WORTH_THREADS_BYTES else context.parsers.at_once,
    )


def _create(
    context: Context,
    fill: Callable[[Path], ingest.Summary],
    naming: Naming,
    on_create: OnCreate,
) -> Dataset:
    """Publish what ``fill`` writes, then the row; ``replace`` moves the name from an older one."""
    if naming.name is not None:
        refuse_id_as_name(naming.name, "/name")
        if not naming.replace:
            _refuse_taken(context, naming.name)
    context.require_room()
    dataset_id = new_id("ds")
    with context.storage.publish("datasets", dataset_id) as draft:
        summary = fill(draft)
    sha256, size = context.storage.entry("datasets", dataset_id, parquet.FILE)
    dataset = Dataset(
        id=dataset_id,
        name=naming.name,
        rows=summary.rows,
        columns=summary.columns,
        warnings=summary.warnings,
        reading=summary.reading,
        size_bytes=size,
        sha256=sha256,
        metadata_=naming.metadata,
    )
    try:
        with artifacts.recorded(context, "datasets", dataset_id) as session:
            if naming.replace and naming.name is not None:
                session.execute(
                    update(Dataset).where(Dataset.name == naming.name).values(name=None)
                )
            session.add(dataset)
            session.flush()
            on_create(session, dataset)
    except IntegrityError as error:
        raise _taken(naming.name or "") from error
    return dataset


def _refuse_taken(context: Context, name: str) -> None:
    with context.database.read() as session:
        if session.scalars(select(Dataset.id).where(Dataset.name == name)).first():
            raise _taken(name)


def _taken(name: str) -> NameTaken:
    return NameTaken(
        f"there is a dataset named '{name}' already; choose another name, "
        "or send replace=true to move the name to this one"
    )
