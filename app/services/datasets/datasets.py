"""Datasets: a table published to storage, then a row that makes it visible."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import storage
from app.db.models import TERMINAL, Dataset, Job
from app.errors import ArtifactCorrupt, InUse, InvalidRequest, NameTaken, NotFound, Unavailable
from app.ids import is_id, new_id
from app.ml.tables import ingest, parquet
from app.ml.tables.typed import TypedTable
from app.runtime.context import Context
from app.runtime.pagination import Page, Paging, page

_MOST_UNPACKED = 50
"""A file may decode to this many times its size; text shrinks to a tenth, seldom to a fiftieth."""
_WORTH_THREADS = 1024 * 1024


@dataclass(frozen=True)
class Wanted:
    """What a client says of a new dataset beside its content."""

    name: str | None = None
    replace: bool = False
    metadata: dict[str, str] = field(default_factory=dict)


Remember = Callable[[Session, Dataset], None]
"""Called in the transaction that makes a dataset, with it."""


def forget(_session: Session, _dataset: Dataset) -> None:
    """Nothing is to be remembered."""


def create(
    context: Context, table: TypedTable, wanted: Wanted, remember: Remember = forget
) -> Dataset:
    """Store a table that is in memory (made from a request's JSON) as a new dataset."""
    bounds = limits(context, 0)
    return _create(context, lambda folder: ingest.store(table, folder, bounds), wanted, remember)


def create_from_file(
    context: Context,
    source: Path,
    options: ingest.Options,
    wanted: Wanted,
    remember: Remember = forget,
) -> Dataset:
    """Read an uploaded file in a process of its own and store its table as a new dataset.

    Raises InvalidInput of any kind beside what ``create`` raises.
    """
    bounds = limits(context, source.stat().st_size)

    def fill(folder: Path) -> ingest.Summary:
        return context.parsers.parse(source, folder, options, bounds)

    return _create(context, fill, wanted, remember)


def limits(context: Context, size: int) -> ingest.Limits:
    """What reading a file of ``size`` bytes may take."""
    settings = context.settings
    return ingest.Limits(
        decoded_bytes=max(settings.max_decoded_bytes, _MOST_UNPACKED * size),
        free_disk_bytes=settings.min_free_bytes,
        threads=1 if size < _WORTH_THREADS else context.parsers.at_once,
    )


def _create(
    context: Context,
    fill: Callable[[Path], ingest.Summary],
    wanted: Wanted,
    remember: Remember,
) -> Dataset:
    """Publish what ``fill`` writes, then the row; ``replace`` moves the name from an older one.

    Raises NameTaken, InvalidRequest (a name that looks like an id), StorageFull or Unavailable.
    """
    if wanted.name is not None:
        refuse_id_as_name(wanted.name, "/name")
        if not wanted.replace:
            _refuse_taken(context, wanted.name)
    require_room(context)
    dataset_id = new_id("ds")
    with context.storage.publish("datasets", dataset_id) as draft:
        found = fill(draft)
    _, sha256, size = context.storage.file("datasets", dataset_id, parquet.FILE)
    dataset = Dataset(
        id=dataset_id,
        name=wanted.name,
        rows=found.rows,
        columns=found.columns,
        warnings=found.warnings,
        size_bytes=size,
        sha256=sha256,
        metadata_=wanted.metadata,
    )
    try:
        with context.database.write() as session:
            if wanted.replace and wanted.name is not None:
                session.execute(
                    update(Dataset).where(Dataset.name == wanted.name).values(name=None)
                )
            session.add(dataset)
            session.flush()
            remember(session, dataset)
    except BaseException as error:
        if not isinstance(error, Unavailable):  # a crash may yet bring such a row back
            context.storage.remove("datasets", dataset_id)
        if isinstance(error, IntegrityError):
            raise _taken(wanted.name or "") from error
        raise
    return dataset


def require_room(context: Context) -> None:
    """Raise StorageFull where the disk has less left than is to stay free."""
    storage.require_room(context.storage.scratch, context.settings.min_free_bytes)


def refuse_id_as_name(name: str, pointer: str) -> None:
    """A name must never be mistaken for another resource's id."""
    if is_id(name):
        raise InvalidRequest.at(pointer, f"'{name}' has the form of an id; choose another name")


def _refuse_taken(context: Context, name: str) -> None:
    with context.database.read() as session:
        if session.scalars(select(Dataset.id).where(Dataset.name == name)).first():
            raise _taken(name)


def _taken(name: str) -> NameTaken:
    return NameTaken(
        f"there is a dataset named '{name}' already; choose another name, "
        "or send replace=true to move the name to this one"
    )


def find(session: Session, ref: str, pointer: str | None = None, *, lock: bool = False) -> Dataset:
    """By id or name; ``lock`` keeps it until the transaction ends.

    Raises NotFound, or InvalidRequest where a request's field names it.
    """
    statement = select(Dataset).where(or_(Dataset.id == ref, Dataset.name == ref))
    if lock:
        statement = statement.with_for_update()
    dataset = session.scalars(statement).one_or_none()
    if dataset is None and pointer is not None:
        raise InvalidRequest.at(
            pointer, f"there is no dataset '{ref[:64]}'; create it first", "unknown_dataset"
        )
    if dataset is None:
        raise NotFound(f"there is no dataset '{ref[:64]}'")
    return dataset


def listed(session: Session, paging: Paging) -> Page[Dataset]:
    """One page of datasets."""
    return page(session, Dataset, paging)


def rows(context: Context, ref: str, offset: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
    """``(total, rows)`` of one page of a dataset's rows."""
    dataset, path = file_of(context, ref)
    with unless_deleted(context, dataset.id):
        return dataset.rows, parquet.read_rows(path, offset, limit)


def file_of(context: Context, ref: str) -> tuple[Dataset, Path]:
    """A dataset and the Parquet file that holds it. Raises NotFound or ArtifactCorrupt."""
    with context.database.read() as session:
        dataset = find(session, ref)
    with unless_deleted(context, dataset.id):
        path, _, _ = context.storage.file("datasets", dataset.id, parquet.FILE)
    return dataset, path


@contextmanager
def unless_deleted(context: Context, dataset_id: str) -> Iterator[None]:
    """A file that is missing because its dataset has just been deleted is NotFound."""
    try:
        yield
    except (ArtifactCorrupt, FileNotFoundError) as error:
        with context.database.read() as session:
            if session.get(Dataset, dataset_id) is None:
                raise NotFound("the dataset has just been deleted") from error
        raise


def read_columns(context: Context, dataset_id: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of a dataset as a table."""
    with unless_deleted(context, dataset_id):
        path, _, _ = context.storage.file("datasets", dataset_id, parquet.FILE)
        return parquet.read(path, list(dict.fromkeys(columns)))


def delete(context: Context, ref: str) -> None:
    """Forget a dataset and free its disk. Raises InUse while a job that has not ended needs it."""
    with context.database.write() as session:
        dataset = find(session, ref, lock=True)
        user = session.scalars(
            select(Job.id).where(Job.dataset_id == dataset.id, Job.status.not_in(TERMINAL))
        ).first()
        if user:
            raise InUse(f"{user} still needs this dataset; wait for it or cancel it")
        session.delete(dataset)
        session.flush()
        context.database.reclaim_space(session)
    context.storage.remove("datasets", dataset.id)
