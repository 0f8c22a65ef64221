"""What routes are given."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Literal, cast

from fastapi import Depends, Header, Query, Request

from app.api.job_streams import JobStreams
from app.api.uploads import Uploads
from app.errors import FieldError, InvalidRequest, NotAcceptable
from app.runtime.context import Context
from app.runtime.pagination import Paging
from app.services.models.aliases import Condition
from app.services.predictions.predictions import Predictors


async def _context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


async def _predictors(request: Request) -> Predictors:
    return cast(Predictors, request.app.state.predictors)


async def _uploads(request: Request) -> Uploads:
    return cast(Uploads, request.app.state.uploads)


async def _streams(request: Request) -> JobStreams:
    return cast(JobStreams, request.app.state.streams)


JobStreamsDep = Annotated[JobStreams, Depends(_streams)]
UploadsDep = Annotated[Uploads, Depends(_uploads)]
ContextDep = Annotated[Context, Depends(_context)]
PredictorsDep = Annotated[Predictors, Depends(_predictors)]


async def _paging(
    request: Request,
    after: Annotated[str | None, Query(description="continue after this id")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Paging:
    pairs = tuple(
        (key[len("metadata[") : -1], value)
        for key, value in request.query_params.multi_items()
        if key.startswith("metadata[") and key.endswith("]")
    )
    return Paging(after, limit, order, pairs)


PagingDep = Annotated[Paging, Depends(_paging)]


@dataclass(frozen=True)
class RowWindow:
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
    return Condition(_tags(if_match), _tags(if_none_match))


def _tags(lines: list[str] | None) -> frozenset[str] | None:
    """The entity tags of a header, weak and unquoted ones taken as what they mean."""
    if lines is None:
        return None
    tags = (tag.strip() for line in lines for tag in line.split(","))
    return frozenset(tag.removeprefix("W/").strip('"') for tag in tags if tag)


ConditionDep = Annotated[Condition, Depends(_condition)]


async def known_query(request: Request) -> None:
    """Refuse query parameters that a route does not have: ``?dryrun=true`` must start no job."""
    if not request.query_params:
        return
    operations = request.app.openapi()["paths"][request.scope["route"].path]
    parameters = operations[request.method.lower()].get("parameters", [])
    known = [item["name"] for item in parameters if item["in"] == "query"]
    for name in request.query_params:
        filters = "limit" in known and name.startswith("metadata[") and name.endswith("]")
        if name not in known and not filters:
            guess = get_close_matches(name[:64], known, n=1)
            remedy = f"did you mean '{guess[0]}'?" if guess else "leave it out"
            detail = f"unknown query parameter '{name[:64]}'; {remedy}"
            raise InvalidRequest.at(f"/{name[:64]}", detail, "unknown")


def negotiated(request: Request, *offered: str) -> str:
    """The media type that the client likes best, the first of several (RFC 9110, section 12.5.1).

    Raises NotAcceptable where it takes none of them.
    """
    return liked_best(request.headers.get("accept", ""), *offered)


def liked_best(accept: str, *offered: str) -> str:
    """The same for the value of an ``Accept`` header."""
    ranges: dict[str, float] = {}
    for item in (accept or "*/*").split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        weights = [part[2:] for part in parameters if part.startswith("q=")]
        try:
            ranges[media] = float(weights[0]) if weights else 1.0
        except ValueError:
            ranges[media] = 0.0

    def weight(media: str) -> float:
        kinds = (media, f"{media.partition('/')[0]}/*", "*/*")
        return next((ranges[kind] for kind in kinds if kind in ranges), 0.0)

    best = max(offered, key=weight)
    if weight(best) <= 0:
        raise NotAcceptable(f"this comes as {' or '.join(offered)}; ask for one of them")
    return best


def seconds_to_wait(prefer: str | None) -> float | None:
    """N of ``Prefer: wait=N``, at most 60; ``None`` where it is not asked for."""
    for preference in (prefer or "").split(","):
        name, _, value = preference.strip().partition("=")
        if name.strip().lower() == "wait":
            return bounded_wait(value.strip(), "/Prefer")
    return None


def bounded_wait(value: str, pointer: str) -> float:
    """A number of seconds from 0; more than 60 is taken as 60. Raises InvalidRequest."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        detail = f"wait wants a number of seconds, got '{value[:64]}'"
        raise InvalidRequest(detail, [FieldError(pointer, detail)])
    return min(seconds, 60.0)
