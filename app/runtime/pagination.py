"""Pages of resources by id, newest first by default."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from app.db.models import Dataset, Job, ModelVersion
from app.errors import NotFound

Row = TypeVar("Row", Dataset, Job, ModelVersion)


@dataclass(frozen=True)
class Paging:
    """Which page: at most ``limit`` resources after the one whose id is ``after``, only those with
    the ``metadata`` given as ``(key, value)``."""

    after: str | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, and whether more come after them."""

    rows: Sequence[Row]
    has_more: bool


def page(
    session: Session,
    model: type[Row],
    paging: Paging,
    *where: ColumnElement[bool],
    by: Literal["id", "version"] = "id",
) -> Page[Row]:
    """Return one page of the rows of ``model`` that meet all conditions, in the order of ``by``.

    Raises NotFound for an unknown ``after``.
    """
    order = getattr(model, by)
    statement: Select[Any] = select(model).where(*where)
    for key, value in paging.metadata:
        statement = statement.where(model.metadata_[key].as_string() == value)
    newest_first = paging.order == "desc"
    if paging.after is not None:
        last = session.get(model, paging.after)
        if last is None:
            raise NotFound(f"there is no '{paging.after[:64]}' to continue after")
        place = getattr(last, by)
        statement = statement.where(order < place if newest_first else order > place)
    statement = statement.order_by(order.desc() if newest_first else order.asc())
    rows = session.scalars(statement.limit(paging.limit + 1)).all()
    return Page(rows[: paging.limit], len(rows) > paging.limit)
