"""``Content-Type`` and ``Accept``: what a body is, and what the client would like."""

from collections.abc import Mapping
from typing import TypeVar

from fastapi import Request

from app.errors import InvalidRequest, NotAcceptable

_Media = TypeVar("_Media", bound=str)


def media_type(request: Request) -> str:
    """Return the type of the request's body without its parameters, in lower case."""
    return without_parameters(request.headers.get("content-type", ""))


def without_parameters(content_type: str) -> str:
    """Return ``text/csv`` for ``Text/CSV; charset=latin-1``."""
    return content_type.partition(";")[0].strip().lower()


def charset(request: Request) -> str | None:
    """Return ``latin-1`` for ``text/csv; charset=latin-1``, and ``None`` for UTF-8, which is
    assumed anyway and about which a BOM says more."""
    for part in request.headers.get("content-type", "").split(";")[1:]:
        key, _, value = part.strip().partition("=")
        name = value.strip('" ').lower()
        if key.lower() == "charset" and name not in ("utf-8", "utf8", "us-ascii", ""):
            return name
    return None


def is_json(media: str) -> bool:
    """Return whether a media type is JSON (RFC 6839 for ``+json``)."""
    return media == "application/json" or (
        media.startswith("application/") and media.endswith("+json")
    )


def chosen(accept: str, asked_format: str | None, offered: Mapping[_Media, str]) -> _Media:
    """Return the media type of the answer: of ``?format=``, which wins, else by ``Accept``.

    ``offered`` has the name of each format by its media type. Raises InvalidRequest for a format
    that is not offered, NotAcceptable.
    """
    if asked_format is None:
        return negotiate(accept, *offered)
    for media, name in offered.items():
        if name == asked_format:
            return media
    there = ", ".join(f"'{name}'" for name in offered.values())
    detail = f"unknown value of 'format': '{asked_format[:64]}'; there are {there}"
    raise InvalidRequest.at("/format", detail, "unknown_value")


def negotiate(accept: str, *offered: _Media) -> _Media:
    """Return the media type that an ``Accept`` header likes best, the first of several (RFC 9110,
    section 12.5.1).

    Raises NotAcceptable where it takes none of them.
    """
    ranges: dict[str, float] = {}
    for item in (accept or "*/*").split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        weights = [part[2:] for part in parameters if part.startswith("q=")]
        try:
            ranges[media] = float(weights[0]) if weights else 1.0
        except ValueError:
            ranges[media] = 0.0

    def weight(media: str) -> float:
        matching = (media, f"{media.partition('/')[0]}/*", "*/*")
        return next((ranges[item] for item in matching if item in ranges), 0.0)

    best = max(offered, key=weight)
    if weight(best) <= 0:
        raise NotAcceptable(f"this comes as {' or '.join(offered)}; ask for one of them")
    return best
