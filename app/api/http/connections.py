"""What a connection may hold and how slow it may be, before there is a request to refuse.

uvicorn reads a request line and headers of any length, and waits for ever for the rest of what has
begun. Here both have limits, and what breaks them is answered (or, where nothing has begun, just
closed) without the application.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_LINE_BYTES = 16 * 1024
"""Of the target in the request line."""
MAX_HEADER_BYTES = 32 * 1024
"""Of all names and values of headers."""
REST_SECONDS = 15.0
"""How long a begun, incomplete request may rest."""
HEAD_SECONDS = 60.0
"""How long request line and headers may take."""
SLOW_BODY_SECONDS = 30.0
"""After so long a body must have come at ``BODY_BYTES_PER_SECOND`` on average."""
BODY_BYTES_PER_SECOND = 1024
_LOOK_SECONDS = 2.5
_HEAD_BYTES = MAX_LINE_BYTES + MAX_HEADER_BYTES + 4096
"""What is given to the parser before the headers end: with colons, spaces and ends of lines."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with these limits; one timer a connection looks at them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        now = self.loop.time()
        self._begun = self._last = now
        self._in_head = self._refused = False
        self._in_body = False
        self._head_bytes = self._body_bytes = self._header_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(_LOOK_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._last = self.loop.time()
        while data and not self._refused and not self.transport.is_closing():
            if self._in_body:
                self._body_bytes += len(data)
                super().data_received(data)
                return
            room = _HEAD_BYTES - self._head_bytes
            part, data = data[:room], data[room:]
            self._head_bytes += len(part)
            super().data_received(part)
            if not self._in_body and self._head_bytes >= _HEAD_BYTES and not self._refused:
                self._refuse_head()

    # ------------------------------------------------------------ the parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = self._last
        self._in_head, self._in_body = True, False
        self._head_bytes = self._header_bytes = self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_LINE_BYTES:
            self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        if self._header_bytes > MAX_HEADER_BYTES:
            self._refuse_head()
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._head_bytes = 0  # of the next request on this connection
        if not self._refused:
            super().on_message_complete()

    # ------------------------------------------------------------ refusing

    def _look(self) -> None:
        """Close the connection where it is too slow; look again later."""
        now = self.loop.time()
        self._timer = self.loop.call_later(_LOOK_SECONDS, self._look)
        if self._refused:
            self.transport.abort()  # who was refused and does not go
        elif self._in_head:
            if now - self._last > REST_SECONDS or now - self._begun > HEAD_SECONDS:
                self._refuse(408, "timeout", "the request did not come in time; send it again")
        elif self._in_body and not self.flow.read_paused and not self.cycle.response_complete:
            self._look_at_body(now)
        elif self.cycle is None and now - self._last > self.timeout_keep_alive:
            self.transport.close()  # nothing was ever said; uvicorn looks after what comes later

    def _look_at_body(self, now: float) -> None:
        seconds = now - self._begun
        slow = seconds > SLOW_BODY_SECONDS and self._body_bytes < BODY_BYTES_PER_SECOND * seconds
        if slow or now - self._last > REST_SECONDS:
            self._refuse(408, "timeout", "the body came too slowly; send at least 1 KiB a second")

    def _refuse_head(self) -> None:
        if len(self.url) > MAX_LINE_BYTES or not self.headers:
            detail = f"the request line is longer than {MAX_LINE_BYTES} bytes; send a body instead"
            self._refuse(414, "too_large", detail)
        else:
            detail = f"the headers are longer than {MAX_HEADER_BYTES} bytes; send fewer"
            self._refuse(431, "too_large", detail)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer where no answer has begun, and close."""
        self._refused = True
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_answer(status, code, detail))
        self.transport.close()


def _answer(status: int, code: str, detail: str) -> bytes:
    title = HTTPStatus(status).phrase
    body = orjson.dumps(
        {
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": detail,
            "code": code,
            "request_id": "",
        }
    )
    head = (
        f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
