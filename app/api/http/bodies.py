"""Request bodies: strict JSON for resources, bounded reading for all."""

from typing import Any

from anyio import to_thread
from fastapi import Request
from starlette.types import Message

from app.errors import TooLarge, UnsupportedMediaType
from app.strict_json import parse_strict

_PARSED_AT_ONCE = 64 * 1024


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, counted as it arrives. Raises TooLarge."""
    refuse_declared(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


def refuse_declared(request: Request, limit: int, *, packed: bool = False) -> None:
    """Refuse before reading what the client itself says: too large, or compressed; ``packed``
    bodies may be gzip."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity" and not (packed and encoding in ("gzip", "x-gzip")):
        allowed = "gzip is" if packed else "compressed bodies are not"
        raise UnsupportedMediaType(
            f"cannot read the content encoding '{encoding[:64]}'; {allowed} read here, "
            "and what is not compressed"
        )
    refuse_larger(request.headers.get("content-length", ""), limit)


def refuse_larger(declared: str, limit: int) -> None:
    """Raise TooLarge where a ``Content-Length`` says so."""
    if declared.isdigit() and int(declared[:20]) > limit:
        raise too_large(limit)


def limited(request: Request, limit: int, *, packed: bool = False) -> Request:
    """The same request, whose body is counted as it arrives; nobody's own count is believed."""
    refuse_declared(request, limit, packed=packed)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise too_large(limit)
        return message

    return Request(request.scope, receive)


def too_large(limit: int) -> TooLarge:
    """What is refused beyond ``limit`` bytes."""
    return TooLarge(f"the body is larger than {limit} bytes; send less at once")


async def read_json(request: Request, limit: int) -> Any:
    """A bounded body as strict JSON. Raises TooLarge or InvalidJSON."""
    body = await read_body(request, limit)
    if len(body) < _PARSED_AT_ONCE:
        return parse_strict(body)
    return await to_thread.run_sync(parse_strict, body)  # a large one must not hold up the others
