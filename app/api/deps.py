"""What routes depend on: the parts of the application, and parameters that several of them have."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, cast

from fastapi import Depends, Header, Query, Request

from app.api.exports import Exports
from app.api.http.conditions import entity_tags
from app.api.job_streams import JobStreams
from app.api.pictures import Pictures
from app.api.uploads import Uploads
from app.errors import InvalidRequest
from app.runtime.context import Context
from app.runtime.pagination import Paging
from app.services.models.aliases import Condition
from app.services.predictions.predictors import Predictors


async def _context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


async def _predictors(request: Request) -> Predictors:
    return cast(Predictors, request.app.state.predictors)


async def _uploads(request: Request) -> Uploads:
    return cast(Uploads, request.app.state.uploads)


async def _streams(request: Request) -> JobStreams:
    return cast(JobStreams, request.app.state.streams)


async def _exports(request: Request) -> Exports:
    return cast(Exports, request.app.state.exports)


async def _pictures(request: Request) -> Pictures:
    return cast(Pictures, request.app.state.pictures)


ExportsDep = Annotated[Exports, Depends(_exports)]
PicturesDep = Annotated[Pictures, Depends(_pictures)]
JobStreamsDep = Annotated[JobStreams, Depends(_streams)]
UploadsDep = Annotated[Uploads, Depends(_uploads)]
ContextDep = Annotated[Context, Depends(_context)]
PredictorsDep = Annotated[Predictors, Depends(_predictors)]


async def _paging(
    after: Annotated[str | None, Query(description="continue after this id")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Paging:
    return Paging(after, limit, order)


PagingDep = Annotated[Paging, Depends(_paging)]


async def _ascending(
    after: Annotated[str | None, Query(description="continue after this one")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "asc",
) -> Paging:
    return Paging(after, limit, order)


AscendingDep = Annotated[Paging, Depends(_ascending)]
"""Paging of what is listed by name."""


def _filtered(sorts: Any) -> Any:
    """Return the dependency of a list of resources that clients describe, and its ``sorts``."""

    async def filtered(
        request: Request,
        paging: PagingDep,
        sort: Annotated[
            sorts | None,
            Query(description="a minus: from the largest; left out: as `order` says, by time"),
        ] = None,
    ) -> Paging:
        pairs = tuple(
            (key[len("metadata[") : -1], value)
            for key, value in request.query_params.multi_items()
            if key.startswith("metadata[") and key.endswith("]")
        )
        way = "desc" if sort and sort.startswith("-") else "asc"
        if sort and request.query_params.get("order", way) != way:
            detail = (
                f"'sort={sort}' says which way by its minus, or by having none; leave 'order' out"
            )
            raise InvalidRequest.at("/order", detail)
        return replace(paging, metadata=pairs, sort=sort)

    return filtered


_ByTime = Literal["created_at", "-created_at"]
_ByStatus = Literal["created_at", "-created_at", "status", "-status"]
_ByNameToo = Literal["created_at", "-created_at", "name", "-name"]
VersionsDep = Annotated[Paging, Depends(_filtered(_ByTime))]
JobsDep = Annotated[Paging, Depends(_filtered(_ByStatus))]
_ByName = Annotated[Paging, Depends(_filtered(_ByNameToo))]


async def _named(
    paging: _ByName,
    name: Annotated[str | None, Query(description="only the one of this name")] = None,
) -> Paging:
    return replace(paging, name=name)


NamedDep = Annotated[Paging, Depends(_named)]
"""Paging of resources that clients name."""


@dataclass(frozen=True)
class RowWindow:
    """Which rows: at most ``limit`` from number ``offset``, counted from 0."""

    offset: int
    limit: int


async def _row_window(
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> RowWindow:
    return RowWindow(offset, limit)


RowWindowDep = Annotated[RowWindow, Depends(_row_window)]


async def _condition(
    if_match: Annotated[
        list[str] | None, Header(description='the ETag it must have by now, such as "3"; *: any')
    ] = None,
    if_none_match: Annotated[
        list[str] | None, Header(description="the ETag it must not have; *: it must not be there")
    ] = None,
) -> Condition:
    return Condition(
        None if if_match is None else entity_tags(",".join(if_match), "/If-Match"),
        None if if_none_match is None else entity_tags(",".join(if_none_match), "/If-None-Match"),
    )


ConditionDep = Annotated[Condition, Depends(_condition)]
