"""One request and its answer as plain ASGI, for the routes that every microsecond counts on."""

import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO

import orjson
from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from app.api.http.bodies import refuse_larger, too_large
from app.api.http.media_types import is_json, without_parameters
from app.api.http.query import parse_query
from app.errors import InvalidJSON, InvalidRequest, UnsupportedMediaType

_PIECE = 1024 * 1024
_PACKED_AT_ONCE = 4 * 1024
"""Compressed bytes that are unpacked on the event loop; they may be a thousand times as many."""
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Call:
    """A request; its body is read once, counted as it comes."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope, self._receive = scope, receive
        self._headers: dict[bytes, bytes] = dict(scope["headers"])

    def header(self, name: bytes) -> str:
        """As text; empty where it is not there."""
        return self._headers.get(name, b"").decode("latin-1")

    @cached_property
    def media(self) -> str:
        """The body's type without its parameters, in lower case."""
        return without_parameters(self.header(b"content-type"))

    @property
    def is_json(self) -> bool:
        return self._headers.get(b"content-type") == b"application/json" or is_json(self.media)

    def query(self, *known: str) -> dict[str, str]:
        """Raises InvalidRequest for a parameter that is not known."""
        return parse_query(self.scope["query_string"], known)

    @property
    def request(self) -> Request:
        """The same for who wants Starlette's; its body has not been read."""
        return Request(self.scope, self._receive)

    # ------------------------------------------------------------ the body

    async def body(self, limit: int) -> bytes:
        """The whole body, unpacked. Raises TooLarge or UnsupportedMediaType."""
        encoding = self.header(b"content-encoding").strip().lower()
        if encoding and encoding != "identity" and encoding not in _WINDOW_BITS:
            raise _unknown_encoding(encoding)
        refuse_larger(self.header(b"content-length"), limit)
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if message.get("more_body"):
            parts = [body]
            size = len(body)
            async for chunk in self._rest():
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise too_large(limit)
            body = b"".join(parts)
        if len(body) > limit:
            raise too_large(limit)
        if encoding not in _WINDOW_BITS:
            return body
        if len(body) < _PACKED_AT_ONCE:
            return _unpacked(body, _WINDOW_BITS[encoding], limit)
        return await to_thread.run_sync(_unpacked, body, _WINDOW_BITS[encoding], limit)

    async def _rest(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            yield message.get("body", b"")
            more = message.get("more_body", False)


def _unpacked(body: bytes, window: int, limit: int) -> bytes:
    """gzip, or deflate with zlib's header or (as some clients send it) without."""
    if window == _WINDOW_BITS["deflate"] and (not body or body[0] & 0x0F != 8):
        window = -window
    unpack = zlib.decompressobj(wbits=window)
    try:
        content = unpack.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the compressed body is damaged: {error}") from error
    if len(content) > limit:
        raise too_large(limit)
    if not unpack.eof:
        raise InvalidRequest("the compressed body is cut off; send it again")
    if unpack.unused_data:
        raise InvalidRequest("something follows the compressed body; compress all of it at once")
    return content


def _unknown_encoding(encoding: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"cannot read the content encoding '{encoding[:64]}'; send gzip, or what is not compressed"
    )


def decode(body: bytes | memoryview) -> Any:
    """JSON by the fast decoder. Raises InvalidJSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJSON(f"the body is no valid JSON: {error}") from error


# ---------------------------------------------------------------- the answer


@dataclass(slots=True)
class Answer:
    """Bytes, or a file that is streamed and then closed."""

    body: bytes | BinaryIO
    media: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send) -> None:
        """With its length, so that a client sees where it was cut off."""
        body = self.body
        size = len(body) if isinstance(body, bytes) else body.seek(0, 2)
        headers = [
            (b"content-type", self.media.encode()),
            (b"content-length", b"%d" % size),
            *((name.lower().encode(), value.encode()) for name, value in self.headers.items()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if isinstance(body, bytes):
            await send({"type": "http.response.body", "body": body})
            return
        with body:
            body.seek(0)
            while piece := await to_thread.run_sync(body.read, _PIECE):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
