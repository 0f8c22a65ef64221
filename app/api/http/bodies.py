"""The one reader of request bodies, for the API and for the serving dialects.

A body is counted as it arrives; what the client itself says of it only serves to refuse it before
anything is read. Who reads says how large it may be and how it may be compressed.
"""

import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from anyio import to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from app.errors import InvalidRequest, TooLarge, UnsupportedMediaType
from app.strict_json import parse_strict

Codings = Mapping[str, int]
"""Content codings that are accepted, each with zlib's ``wbits`` for it (RFC 9110, section 8.4)."""
UNCOMPRESSED: Codings = MappingProxyType({})
GZIP: Codings = MappingProxyType({"gzip": 31, "x-gzip": 31})
GZIP_OR_DEFLATE: Codings = MappingProxyType({**GZIP, "deflate": 15})

_INLINE_JSON_BYTES = 64 * 1024
"""What is parsed on the event loop; more must not hold up the others."""
_INLINE_COMPRESSED_BYTES = 4 * 1024
"""What is decompressed on the event loop; it may become a thousand times as much."""


async def read_body(
    headers: Mapping[bytes, bytes],
    receive: Receive,
    max_bytes: int,
    codings: Codings = UNCOMPRESSED,
) -> bytes:
    """Return the whole body, decompressed; neither form of it has more than ``max_bytes``.

    Raises TooLarge, UnsupportedMediaType for a coding that is not among ``codings``,
    InvalidRequest where the compressed body is damaged, or ClientDisconnect.
    """
    wbits = check_headers(headers, max_bytes, codings)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    if len(body) > max_bytes:
        raise too_large(max_bytes)
    if message.get("more_body"):
        body += await Request({"type": "http"}, counted(receive, max_bytes, len(body))).body()
    if wbits is None:
        return body
    if len(body) < _INLINE_COMPRESSED_BYTES:
        return _decompressed(body, wbits, max_bytes)
    return await to_thread.run_sync(_decompressed, body, wbits, max_bytes)


def limited(request: Request, max_bytes: int, codings: Codings = UNCOMPRESSED) -> Request:
    """Return the same request, whose body is counted as it is read, and not decompressed.

    Raises TooLarge or UnsupportedMediaType, here or while the body is read.
    """
    check_headers(dict(request.scope["headers"]), max_bytes, codings)
    return Request(request.scope, counted(request.receive, max_bytes))


def check_headers(headers: Mapping[bytes, bytes], max_bytes: int, codings: Codings) -> int | None:
    """Return zlib's ``wbits`` for the body's coding, ``None`` where it is not compressed.

    Raises UnsupportedMediaType, or TooLarge where ``Content-Length`` says so.
    """
    coding = headers.get(b"content-encoding")
    wbits = None if coding is None else _wbits(coding.decode("latin-1").strip().lower(), codings)
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        raise too_large(max_bytes)
    return wbits


def _wbits(coding: str, codings: Codings) -> int | None:
    if coding in ("", "identity"):
        return None
    if coding not in codings:
        remedy = "send gzip, or what is not compressed" if codings else "send it uncompressed"
        raise UnsupportedMediaType(f"cannot read the content encoding '{coding[:64]}'; {remedy}")
    return codings[coding]


def counted(receive: Receive, max_bytes: int, received_bytes: int = 0) -> Receive:
    """Return ``receive`` with a count of body bytes, from ``received_bytes``.

    It raises TooLarge beyond ``max_bytes``.
    """

    async def receive_counted() -> Message:
        nonlocal received_bytes
        message = await receive()
        received_bytes += len(message.get("body", b""))
        if received_bytes > max_bytes:
            raise too_large(max_bytes)
        return message

    return receive_counted


def too_large(max_bytes: int) -> TooLarge:
    """Return the error for a body of more than ``max_bytes``."""
    return TooLarge(f"the body is larger than {max_bytes} bytes; send less at once")


def _decompressed(body: bytes, wbits: int, max_bytes: int) -> bytes:
    """Return the content of gzip, or of deflate with zlib's header or (as some clients send it)
    without."""
    if wbits == GZIP_OR_DEFLATE["deflate"] and (not body or body[0] & 0x0F != zlib.DEFLATED):
        wbits = -wbits
    decompressor = zlib.decompressobj(wbits=wbits)
    try:
        content = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the compressed body is damaged: {error}") from error
    if len(content) > max_bytes:
        raise too_large(max_bytes)
    if not decompressor.eof:
        raise InvalidRequest("the compressed body is cut off; send it again")
    if decompressor.unused_data:
        raise InvalidRequest("something follows the compressed body; compress all of it at once")
    return content


# ---------------------------------------------------------------- JSON


async def read_json(request: Request, max_bytes: int) -> Any:
    """Return an uncompressed body as strict JSON (``parse_strict``).

    Raises InvalidJSON and what ``read_body`` raises.
    """
    body = await read_body(dict(request.scope["headers"]), request.receive, max_bytes)
    if len(body) < _INLINE_JSON_BYTES:
        return parse_strict(body)
    return await to_thread.run_sync(parse_strict, body)
