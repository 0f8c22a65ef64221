"""Datasets: found, read and deleted."""

from collections.abc import Sequence
from pathlib import Path

import orjson
import pyarrow as pa
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app import names
from app.db.models import TERMINAL, Dataset, Job
from app.errors import InUse, InvalidRequest, NotFound, TooLarge
from app.ml.tables import parquet
from app.runtime.artifacts import unless_deleted
from app.runtime.context import Context
from app.runtime.pagination import Page, Paging, page
from app.runtime.room import frees_room

MOST_BYTES = 16 * 1024 * 1024
"""Of one answer of rows."""


def find(session: Session, ref: str, pointer: str | None = None, *, lock: bool = False) -> Dataset:
    """Return the dataset of this id or name.

    With ``lock`` nobody deletes it until the transaction ends. Raises NotFound, or InvalidRequest
    where ``pointer`` is the field of a request that names it.
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
    """Return one page of datasets."""
    return page(session, Dataset, paging)


def rows(
    context: Context, ref: str, offset: int, limit: int, columns: str | None = None
) -> tuple[int, bytes]:
    """Return how many rows a dataset has, and ``limit`` of them from ``offset`` on as a JSON array.

    ``columns`` names some, with commas. Raises NotFound, ArtifactCorrupt, InvalidRequest for an
    unknown column, or TooLarge where they are more than one answer may hold.
    """
    dataset, path = file_of(context, ref)
    chosen = _chosen(dataset, columns)
    found, size = list[bytes](), 0
    with unless_deleted(context, "datasets", dataset.id):
        for some in parquet.read_rows(path, offset, limit, chosen):
            found.append(orjson.dumps(some)[1:-1])
            size += len(found[-1])
            if size > MOST_BYTES:
                raise TooLarge.at(
                    "/limit",
                    f"these rows are more than the {MOST_BYTES >> 20} MiB that one answer may "
                    "hold; ask for fewer with limit or columns, or take the whole table from "
                    "/content",
                )
    return dataset.rows, b"[%b]" % b",".join(found)


def _chosen(dataset: Dataset, columns: str | None) -> list[str] | None:
    """Return the columns of a list with commas; a name may have commas itself."""
    known = [column["name"] for column in dataset.columns]
    if columns is None or columns in known:
        return None if columns is None else [columns]
    chosen = list(dict.fromkeys(columns.split(",")))
    for name in chosen:
        if name not in known:
            detail = names.unknown("column", name, known)
            raise InvalidRequest.at("/columns", detail, "unknown_column")
    return chosen


def file_of(context: Context, ref: str) -> tuple[Dataset, Path]:
    """Return a dataset and the Parquet file that holds it. Raises NotFound or ArtifactCorrupt."""
    with context.database.read() as session:
        dataset = find(session, ref)
    return dataset, _verified(context, dataset)


def _verified(context: Context, dataset: Dataset) -> Path:
    """Return the file of a dataset as it was stored. Raises NotFound or ArtifactCorrupt."""
    with unless_deleted(context, "datasets", dataset.id):
        return context.storage.file("datasets", dataset.id, parquet.FILE, dataset.sha256)


def read_columns(context: Context, dataset: Dataset, columns: Sequence[str]) -> pa.Table:
    """Return some columns of a dataset as a table. Raises NotFound or ArtifactCorrupt."""
    path = _verified(context, dataset)
    with unless_deleted(context, "datasets", dataset.id):
        return parquet.read(path, list(dict.fromkeys(columns)))


@frees_room
def delete(context: Context, ref: str) -> None:
    """Delete a dataset and free its disk.

    Raises NotFound, or InUse while a job that has not ended needs it.
    """
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
