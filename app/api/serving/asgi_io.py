"""One request and its response as plain ASGI, for the routes that every microsecond counts on."""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO

from anyio import to_thread
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.api.http.bodies import GZIP_OR_DEFLATE, read_body
from app.api.http.media_types import is_json, without_parameters
from app.api.http.query import parse_query

_PIECE_BYTES = 1024 * 1024
"""Of a file, read and sent at once."""


class ASGIRequest:
    """A request to one of the serving routes; its body is read once."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope, self._receive = scope, receive
        self._headers: dict[bytes, bytes] = dict(scope["headers"])

    def header(self, name: bytes) -> str:
        """Return a header as text, empty where it is not there."""
        return self._headers.get(name, b"").decode("latin-1")

    @cached_property
    def media_type(self) -> str:
        """The body's type without its parameters, in lower case."""
        return without_parameters(self.header(b"content-type"))

    @property
    def is_json(self) -> bool:
        """Whether the body says that it is JSON."""
        return self._headers.get(b"content-type") == b"application/json" or is_json(self.media_type)

    def query(self, *known: str) -> dict[str, str]:
        """Return the query's parameters. Raises InvalidRequest for one that is not ``known``."""
        return parse_query(self.scope["query_string"], known)

    def body(self, max_bytes: int) -> Coroutine[Any, Any, bytes]:
        """Read the whole body, decompressed; raises what ``read_body`` raises."""
        return read_body(self._headers, self._receive, max_bytes, GZIP_OR_DEFLATE)

    def starlette(self) -> Request:
        """Return the same request as Starlette has it, for who streams the body."""
        return Request(self.scope, self._receive)


@dataclass(slots=True)
class ASGIResponse:
    """Status 200 with bytes, or with a file that is streamed and then closed."""

    body: bytes | BinaryIO
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send) -> None:
        """Send it with its length, so that a client sees where it was cut off."""
        body = self.body
        size = len(body) if isinstance(body, bytes) else body.seek(0, 2)
        headers = [
            (b"content-type", self.media_type.encode()),
            (b"content-length", b"%d" % size),
            *((name.lower().encode(), value.encode()) for name, value in self.headers.items()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if isinstance(body, bytes):
            await send({"type": "http.response.body", "body": body})
            return
        with body:
            body.seek(0)
            while piece := await to_thread.run_sync(body.read, _PIECE_BYTES):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
