"""Conditions on entity tags: ``If-Match`` and ``If-None-Match`` (RFC 9110, section 13.1)."""

import re

from fastapi import Request

from app.errors import InvalidRequest

_TAGS = re.compile(r'\s*(?:(?:W/)?"([^"]*)"|([^\s",]*))\s*(?:,|$)')
"""One tag of a list; unquoted ones are taken as what they mean."""


def entity_tags(header: str, pointer: str) -> frozenset[str]:
    """Return the tags of a header without quotes and ``W/``; ``*`` is one of them.

    Raises InvalidRequest at ``pointer`` where it is no list of tags.
    """
    tags: list[str] = []
    at = 0
    while at < len(header):
        match = _TAGS.match(header, at)
        if match is None:
            raise InvalidRequest.at(
                pointer, f'{pointer[1:]} wants ETags in quotes, such as "3", or *'
            )
        tags.append(match[1] if match[1] is not None else match[2])
        at = match.end()
    return frozenset(filter(None, tags))


def none_match(request: Request, etag: str) -> bool:
    """Return whether the client has what ``etag`` names, so that 304 will do.

    Raises InvalidRequest for a malformed ``If-None-Match``.
    """
    header = request.headers.get("if-none-match")
    if header is None:
        return False
    tags = entity_tags(header, "/If-None-Match")
    return "*" in tags or etag.strip('"') in tags
