"""Query parameters that are not known are refused: ``?dryrun=true`` must start no job."""

from collections import Counter
from collections.abc import Sequence
from urllib.parse import parse_qsl

from fastapi import Request, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute

from app.errors import InvalidRequest, escape
from app.names import nearest


async def refuse_unknown_parameters(request: Request) -> None:
    """Raise InvalidRequest for a query parameter that the request's route does not have."""
    if not request.query_params:
        return
    for text in (part for pair in request.query_params.multi_items() for part in pair):
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InvalidRequest.at("", "a query parameter holds the character NUL; leave it out")
    counts = Counter(name for name, _ in request.query_params.multi_items())
    _refuse_repeated(counts)
    known = query_names(request.scope["route"])
    for name in request.query_params:
        filters = "sort" in known and name.startswith("metadata[") and name.endswith("]")
        if name not in known and not filters:
            if name.startswith("metadata") and "sort" in known:
                raise _unknown(name, "a filter is written metadata[key]=value")
            guess = nearest(name, known)
            raise _unknown(name, f"did you mean '{guess}'?" if guess else "leave it out")


def query_names(route: APIRoute) -> list[str]:
    """Return the names of a route's query parameters. The document has them too, but takes a second
    to make."""
    return [
        field.alias
        for field in get_flat_params(route.dependant)  # those of a model have no kind
        if not isinstance(field.field_info, params.Path | params.Header | params.Cookie)
    ]


def parse_query(query_string: bytes, known: Sequence[str]) -> dict[str, str]:
    """Return the parameters of a raw query string.

    Raises InvalidRequest for one that is not ``known`` or stands twice.
    """
    if not query_string:
        return {}
    pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)
    _refuse_repeated(Counter(name for name, _ in pairs))
    found = dict(pairs)
    for name in found:
        if name not in known:
            raise _unknown(name, f"there is {', '.join(known)}" if known else "leave it out")
    return found


def _refuse_repeated(counts: "Counter[str]") -> None:
    """Raise InvalidRequest for a name that stands twice: nobody knows which is meant."""
    for name, count in counts.items():
        if count > 1:
            detail = f"the query parameter '{name[:64]}' stands {count} times; send it once"
            raise InvalidRequest.at(f"/{escape(name[:64])}", detail, "repeated")


def _unknown(name: str, remedy: str) -> InvalidRequest:
    detail = f"unknown query parameter '{name[:64]}'; {remedy}"
    return InvalidRequest.at(f"/{escape(name[:64])}", detail, "unknown")
