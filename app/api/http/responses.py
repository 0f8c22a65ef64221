"""JSON out, and what every answer says."""

from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel

SAFE = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
NO_PAGE = [
    *SAFE,
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox",
    ),
]
"""Headers of all that is no page: a picture (an SVG has styles) or a file opened by itself runs
nothing."""


def dump_json(value: Any) -> bytes:
    """Return ``value`` as JSON and the end of the line, so that a terminal's prompt stands on the
    next; NaN and infinities become null, NumPy arrays lists."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def end_line(response: Response) -> Response:
    """Return ``response`` with the end of the line where FastAPI wrote JSON without one."""
    body = getattr(response, "body", b"")  # what is streamed has none, and a 204's is empty
    if body and response.media_type == "application/json" and bytes(body[-1:]) != b"\n":
        response.body = bytes(body) + b"\n"
        response.headers["content-length"] = str(len(response.body))
    return response


def json_response(
    resource: BaseModel, status: int, headers: dict[str, str] | None = None
) -> Response:
    """Return the response that shows a resource, its bytes written already: they are stored where
    the request has an ``Idempotency-Key``."""
    body = resource.model_dump_json().encode() + b"\n"
    return Response(body, status, headers, media_type="application/json")
