"""Conditions on entity tags: ``If-Match`` and ``If-None-Match`` (RFC 9110, section 13.1)."""

import re

from fastapi import Request

from app.errors import InvalidRequest, PreconditionFailed

_TAGS = re.compile(r'\s*(?:(?:W/)?"([^"]*)"|([^\s",]*))\s*(?:,|$)')
"""One tag of a list, or what stands there without quotes."""


def entity_tags(header: str, pointer: str) -> frozenset[str]:
    """Return the tags of a header without quotes and ``W/``; ``*`` is one of them.

    In ``If-Match`` a tag without quotes, or one that a proxy has made weak as it compressed, is
    taken as what it means: where it does not match, nothing is written. Raises InvalidRequest at
    ``pointer``, which names the header, where it is no list of tags.
    """
    bare = pointer == "/If-Match"
    tags: list[str] = []
    at = 0
    while at < len(header):
        match = _TAGS.match(header, at)
        if match is None or not (bare or match[2] in (None, "", "*")):
            raise InvalidRequest.at(
                pointer, f'{pointer[1:]} wants ETags in quotes, such as "3", or *'
            )
        tags.append(match[1] if match[1] is not None else match[2])
        at = match.end()
    return frozenset(filter(None, tags))


def has_already(request: Request, etag: str) -> bool:
    """Return whether the client has what ``etag`` names, so that 304 will do.

    Raises PreconditionFailed where it wants another (``If-Match``), or InvalidRequest for a
    malformed header.
    """
    if not _names(request, "If-Match", etag, otherwise=True):
        raise PreconditionFailed(
            f"its ETag is {etag}, and If-Match wants another; read it again, or leave If-Match out"
        )
    return _names(request, "If-None-Match", etag, otherwise=False)


def _names(request: Request, header: str, etag: str, *, otherwise: bool) -> bool:
    value = request.headers.get(header)
    if value is None:
        return otherwise
    tags = entity_tags(value, f"/{header}")
    return "*" in tags or etag.strip('"') in tags
