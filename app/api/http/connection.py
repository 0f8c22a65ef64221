"""One connection: uvicorn's HTTP/1.1, with bounds on what comes before the application has a say.

A request's line and headers are counted while they arrive. Whoever sends slowly is found by
``close_slow``, once a second for all connections: a timer for each request would cost more than
small predictions do. A head that is refused is answered here; a body is refused where it is being
read, so that the answer is logged, has the dialect of its path, and frees what the request held.
"""

import asyncio
from collections.abc import Iterable
from enum import Enum
from random import getrandbits
from typing import Any

import httptools
from fastapi.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app import logs
from app.api.http import problems
from app.api.http.responses import NO_PAGE
from app.errors import (
    FitserveError,
    HeadersTooLarge,
    MalformedRequest,
    RequestLineTooLong,
    RequestTimeout,
)

KIB = 1024
LONGEST_LINE = 16 * KIB
"""Bytes of a request's line."""
LARGEST_HEADERS = 32 * KIB
"""Bytes of all headers together, with their colons and line ends."""
REST_SECONDS = 15.0
"""How long nothing may come of a request that has begun."""
HEAD_SECONDS = 60.0
"""How long line and headers may take."""
BODY_SECONDS = 30.0
"""After which a body must have come at ``BODY_RATE`` on average."""
BODY_RATE = 1 * KIB
"""Bytes per second."""
STALLED_SECONDS = 300.0
"""How long a client may take nothing of an answer that waits for it."""
_LINGER_SECONDS = 2.0
"""How long a refused client may go on sending; closed at once, it would not see the answer."""
_AROUND_TARGET = len("OPTIONS  HTTP/1.1\r\n")


class _Reading(Enum):
    NOTHING = 0
    HEAD = 1
    BODY = 2


class Connection(HttpToolsProtocol):
    """Reads requests, within bounds of size and time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.url = b""
        self._reading = _Reading.NOTHING
        self._since = self._heard = self._checked = self.loop.time()
        self._fed = self._last_feed = self._body_bytes = 0
        self._unsent, self._taken = 0, self._since
        self._refused = False

    # ------------------------------------------------------------ size

    def data_received(self, data: bytes) -> None:
        """Parse what came, and refuse what is no HTTP or too large."""
        if self._refused:
            return
        self._heard = self.loop.time()
        self._last_feed = len(data)
        self._fed += self._last_feed
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # nothing is upgraded: the request is answered as it is
        except httptools.HttpParserError as error:
            self._refuse(error.__context__ or error)
        else:
            if self._fed > LONGEST_LINE + LARGEST_HEADERS and self._reading != _Reading.NOTHING:
                self._refuse(_headers_too_large())  # a header that does not end, or trailers

    def on_message_begin(self) -> None:
        """A request's first byte has come."""
        super().on_message_begin()
        self._reading, self._since = _Reading.HEAD, self._heard
        self._fed = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request's target has come. Raises RequestLineTooLong."""
        self.url += url
        if len(self.url) > LONGEST_LINE - _AROUND_TARGET:
            raise RequestLineTooLong(
                f"the request's line is longer than {LONGEST_LINE} bytes; send less in the query"
            )

    def on_headers_complete(self) -> None:
        """Hand the request to the application. Raises HeadersTooLarge."""
        if self._fed + self._last_feed > LARGEST_HEADERS:  # else they cannot be
            size = sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > LARGEST_HEADERS:
                raise _headers_too_large()
        super().on_headers_complete()
        self.headers = []  # trailers are no headers: the application keeps those it has
        self._reading, self._since = _Reading.BODY, self._heard
        self._fed = self._body_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        super().on_body(body)
        self._body_bytes += len(body)
        self._fed = 0

    def on_message_complete(self) -> None:
        """The request has been read."""
        super().on_message_complete()
        self._reading = _Reading.NOTHING

    def on_response_complete(self) -> None:
        """The answer has been handed over; as uvicorn's, but ``check`` looks for idle ones."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._since = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    # ------------------------------------------------------------ time

    def check(self, now: float) -> None:
        """Close or refuse what has been too slow; ``now`` is the loop's time in seconds."""
        passed, self._checked = now - self._checked, now
        if self._refused:
            if not self._is_answering() and now - self._since > _LINGER_SECONDS:
                self.transport.close()
        elif self._reading == _Reading.BODY:
            self._check_body(now, passed)
        elif self._is_answering():
            if self._reading == _Reading.HEAD:  # the next one waits for this answer
                self._since = self._heard = now
        elif self._reading == _Reading.HEAD:
            if now - self._heard > REST_SECONDS or now - self._since > HEAD_SECONDS:
                self._refuse(RequestTimeout("the request came too slowly; send it again at once"))
        elif now - self._since > self.timeout_keep_alive:
            self.transport.close()
        self._check_taken(now)

    def _check_body(self, now: float, passed: float) -> None:
        if (
            self.flow.read_paused
            or self.cycle.waiting_for_100_continue
            or self.cycle.response_started
        ):  # it is not the client that we wait for
            self._since += passed
            self._heard = now
            return
        seconds = now - self._since
        slow = seconds > BODY_SECONDS and self._body_bytes < BODY_RATE * seconds
        if slow or now - self._heard > REST_SECONDS:
            self._refuse(
                RequestTimeout(
                    f"the body came too slowly; after {BODY_SECONDS:.0f} s it must have come at "
                    f"{BODY_RATE} bytes/s, without a rest of {REST_SECONDS:.0f} s"
                )
            )

    def _check_taken(self, now: float) -> None:
        """Give up an answer of which the client has taken nothing for long."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._taken = unsent, now
        elif now - self._taken > STALLED_SECONDS:
            self.transport.abort()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # ------------------------------------------------------------ refusing

    def _refuse(self, error: BaseException) -> None:
        """Read no more, and answer: here, or where the body is being read."""
        self._refused, self._since = True, self.loop.time()
        if self._is_answering():
            self.cycle.keep_alive = False  # nothing that follows could be understood
            if self._reading == _Reading.BODY and not self.cycle.response_started:
                self.cycle.scope["refused"] = (  # type: ignore[typeddict-unknown-key]
                    error if isinstance(error, FitserveError) else _malformed(error, "body")
                )
                self.cycle.message_event.set()
            return
        self._answer(error)

    def _answer(self, error: BaseException) -> None:
        request_id = f"{getrandbits(64):016x}"
        token = logs.request_id.set(request_id)
        try:
            response = _refusal(error)
        finally:
            logs.request_id.reset(token)
        headers: list[tuple[bytes, bytes]] = [
            *self.server_state.default_headers,
            *response.raw_headers,
            *NO_PAGE,
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        lines = [b"%b: %b\r\n" % header for header in headers]
        status = STATUS_LINE[response.status_code]
        self.transport.write(b"".join((status, *lines, b"\r\n", response.body)))
        self.transport.write_eof()
        target = self.url.decode("latin-1")
        logs.access.write("refused", target, response.status_code, 0.0, request_id)


def close_slow(connections: Iterable[Any], now: float) -> None:
    """Close every connection whose client has rested for too long; called about once a second."""
    for connection in tuple(connections):
        connection.check(now)


def require_readable(scope: Scope) -> None:
    """Raise what the connection found wrong with the request's body, if anything."""
    if "refused" in scope:
        raise scope["refused"]


def _headers_too_large() -> HeadersTooLarge:
    return HeadersTooLarge(
        f"the headers are larger than {LARGEST_HEADERS} bytes together; send fewer or shorter ones"
    )


def _malformed(error: BaseException, part: str) -> MalformedRequest:
    """Return the error of what the parser could not read of a request's ``part``."""
    why = f" ({str(error)[:64]})" if str(error) else ""
    return MalformedRequest(f"the {part} is not as HTTP/1.1 has it{why}; see RFC 9112")


def _refusal(error: BaseException) -> Response:
    if not isinstance(error, FitserveError):
        error = _malformed(error, "request")
    return problems.from_error(error)
