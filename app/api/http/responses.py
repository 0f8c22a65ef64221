"""JSON out."""

from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel


def dump_json(value: Any) -> bytes:
    """Return ``value`` as JSON; NaN and infinities become null, NumPy arrays lists."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def json_response(
    resource: BaseModel, status: int, headers: dict[str, str] | None = None
) -> Response:
    """Return the response that shows a resource, its bytes written already: they are stored where
    the request has an ``Idempotency-Key``."""
    body = resource.model_dump_json().encode()
    return Response(body, status, headers, media_type="application/json")
