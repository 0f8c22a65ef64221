"""Datasets: a table published to storage, then a row that makes it visible."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import TERMINAL, Dataset, Job
from app.errors import InUse, InvalidRequest, NameTaken, NotFound
from app.ids import is_id, new_id
from app.ml import tables
from app.services.context import Context
from app.services.listing import Page, Paging, page


def create(
    context: Context,
    table: pa.Table,
    *,
    name: str | None = None,
    replace: bool = False,
    metadata: dict[str, str] | None = None,
) -> Dataset:
    """Store a canonical table as a new dataset; ``replace`` moves the name from an older one.

    Raises NameTaken, InvalidRequest (a name that looks like an id) or StorageFull.
    """
    if name is not None:
        refuse_id_as_name(name, "/name")
        if not replace:
            _refuse_taken(context, name)
    dataset_id = new_id("ds")
    columns = tables.profile(table)
    with context.storage.publish("datasets", dataset_id) as draft:
        tables.write(table, draft / tables.FILE)
    _, sha256, size = context.storage.file("datasets", dataset_id, tables.FILE)
    dataset = Dataset(
        id=dataset_id,
        name=name,
        rows=table.num_rows,
        columns=columns,
        warnings=tables.warnings(columns, table.num_rows),
        size_bytes=size,
        sha256=sha256,
        metadata_=metadata or {},
    )
    try:
        with context.database.write() as session:
            if replace and name is not None:
                session.execute(update(Dataset).where(Dataset.name == name).values(name=None))
            session.add(dataset)
    except BaseException as error:
        context.storage.remove("datasets", dataset_id)
        if isinstance(error, IntegrityError):
            raise _taken(name or "") from error
        raise
    return dataset


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


def find(session: Session, ref: str, pointer: str | None = None) -> Dataset:
    """By id or name. Raises NotFound, or InvalidRequest where a request's field names it."""
    dataset = session.scalars(
        select(Dataset).where(or_(Dataset.id == ref, Dataset.name == ref))
    ).one_or_none()
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
    with context.database.read() as session:
        dataset = find(session, ref)
    path, _, _ = context.storage.file("datasets", dataset.id, tables.FILE)
    return dataset.rows, tables.read_rows(path, offset, limit)


def read_columns(context: Context, dataset_id: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of a dataset as a table."""
    path, _, _ = context.storage.file("datasets", dataset_id, tables.FILE)
    return tables.read(path, list(dict.fromkeys(columns)))


def delete(context: Context, ref: str) -> None:
    """Forget a dataset and free its disk. Raises InUse while a job that has not ended needs it."""
    with context.database.write() as session:
        dataset = find(session, ref)
        user = session.scalars(
            select(Job.id).where(Job.dataset_id == dataset.id, Job.status.not_in(TERMINAL))
        ).first()
        if user:
            raise InUse(f"{user} still needs this dataset; wait for it or cancel it")
        session.delete(dataset)
    context.storage.remove("datasets", dataset.id)
