"""The outermost ASGI layer: an id for every request, one log line, and its metrics."""

import asyncio
import re
import time
from collections.abc import Iterable
from random import getrandbits

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs
from app.api.http import problems
from app.api.http.connection import require_readable
from app.api.http.prometheus import Metrics
from app.api.http.responses import NO_PAGE, SAFE
from app.errors import ShuttingDown

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

_PAGES = ("/docs", "/static-offline-docs")
_PAGE = [
    *SAFE,
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data:; frame-ancestors 'none'",
    ),
]


class Observe:
    """Wraps the whole application, so that refused and failed requests are logged too."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, unread = _id_and_body(scope["headers"])
        status = 0
        started = time.perf_counter()

        async def receive_to_the_end() -> Message:
            nonlocal unread
            require_readable(scope)
            message = await receive()
            require_readable(scope)
            unread = unread and bool(message.get("more_body"))
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    *(_PAGE if scope["path"].startswith(_PAGES) else NO_PAGE),
                ]
                if unread:  # or a body without an end would be read for ever after its refusal
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            await send(message)

        token = logs.request_id.set(request_id)
        try:
            await self._app(scope, receive_to_the_end, send_with_id)
        except asyncio.CancelledError:  # the server stops and waits no longer
            if status == 0:
                error = ShuttingDown("the server is stopping; send the request again")
                await problems.from_error(error, scope["path"])(scope, receive, send_with_id)
        except Exception:  # it has been logged and answered where an answer was possible
            if status == 0:
                raise
        finally:
            self._report(scope, status, time.perf_counter() - started, request_id)
            logs.request_id.reset(token)

    def _report(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.observe(method, route, status, seconds)
        logs.access.write(method, scope["path"], status, seconds, request_id)


def _id_and_body(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, bool]:
    """Return the request's id, given or made, and whether a body comes.

    One loop over the headers by hand: every request pays for this.
    """
    request_id, body = "", False
    for name, value in headers:
        if name == b"x-request-id":
            request_id = value.decode("latin-1")
        elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            body = True
    return request_id if _REQUEST_ID.fullmatch(request_id) else f"{getrandbits(64):016x}", body
