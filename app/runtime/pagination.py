"""Pages of resources, newest first by default; every list has the same parameters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import Session

from app.db.models import Alias, Checkpoint, Dataset, Job, ModelVersion
from app.errors import InvalidRequest, NotFound

Row = TypeVar("Row", Dataset, Job, ModelVersion, Checkpoint, Alias)


@dataclass(frozen=True)
class Paging:
    """Which page: at most ``limit`` resources after the one whose id is ``after``, only those with
    the ``name`` and with the ``metadata`` given as ``(key, value)``.

    ``sort`` names a field, with a minus before it from the largest to the smallest; without one the
    list is in the order of making, from the newest with ``desc``.
    """

    after: str | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    metadata: tuple[tuple[str, str], ...] = ()
    sort: str | None = None
    name: str | None = None


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
    by: str = "id",
    find: Callable[[str], Row | None] | None = None,
) -> Page[Row]:
    """Return one page of the rows of ``model`` that meet all conditions.

    ``by`` is the column of the order of making, unique among those rows; ``find`` finds the row
    of ``after``, by default by its key. Raises NotFound for an unknown ``after``, InvalidRequest
    for a sort or a name that these resources do not have.
    """
    statement: Select[Any] = select(model).where(*where)
    if paging.name is not None:
        statement = statement.where(_column(model, "name", "/name") == paging.name)
    for tag, value in paging.metadata:
        metadata = _column(model, "metadata_", "/metadata")
        statement = statement.where(metadata[tag].as_string() == value)
    sort, falling = _order(paging, by)
    key, tie = _column(model, sort, "/sort"), _column(model, by, "/sort")
    if paging.after is not None:
        last = find(paging.after) if find else session.get(model, paging.after)
        if last is None:
            raise _no_after(paging.after)
        place = getattr(last, sort), getattr(last, by)
        statement = statement.where(_after(key, tie, *place, falling))
    towards = [key.desc(), tie.desc()] if falling else [key.asc(), tie.asc()]
    if key is not tie:
        towards.insert(0, key.is_(None))  # nulls last on either database
    rows = session.scalars(statement.order_by(*towards).limit(paging.limit + 1)).all()
    return Page(rows[: paging.limit], len(rows) > paging.limit)


class HasId(Protocol):
    """What can be listed: it has an id, unique in its list."""

    id: str


Item = TypeVar("Item", bound=HasId)


def page_of(items: Sequence[Item], paging: Paging) -> tuple[Sequence[Item], bool]:
    """Return one page of what is in memory already, in its order or, with ``desc``, against it, and
    whether more comes after it. Raises NotFound for an unknown ``after``."""
    ordered = items if paging.order == "asc" else items[::-1]
    start = 0
    if paging.after is not None:
        ids = [item.id for item in ordered]
        if paging.after not in ids:
            raise _no_after(paging.after)
        start = ids.index(paging.after) + 1
    end = start + paging.limit
    return ordered[start:end], end < len(ordered)


def _no_after(after: str) -> NotFound:
    return NotFound(f"there is no '{after[:64]}' to continue after")


def _order(paging: Paging, by: str) -> tuple[str, bool]:
    """Return the column to sort by, and whether from the largest."""
    if paging.sort is None:
        return by, paging.order == "desc"
    field, falling = paging.sort.removeprefix("-"), paging.sort.startswith("-")
    return by if field == "created_at" else field, falling  # ids rise with time


def _column(model: type[Row], name: str, pointer: str) -> Any:
    if not hasattr(model, name):
        raise InvalidRequest.at(pointer, f"these have no {name.strip('_')}; leave it out")
    return getattr(model, name)


def _after(key: Any, tie: Any, value: Any, tie_value: Any, falling: bool) -> ColumnElement[bool]:
    """Return the condition of the rows after the one with those values; nulls are last."""
    beyond = tie < tie_value if falling else tie > tie_value
    if key is tie:
        return beyond  # type: ignore[no-any-return]
    if value is None:
        return and_(key.is_(None), beyond)
    further = key < value if falling else key > value
    return or_(further, and_(key == value, beyond), key.is_(None))
