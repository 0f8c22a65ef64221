"""The outermost ASGI layer: a request id for every request, one log line, and its metrics."""

import asyncio
import re
import time
from secrets import token_hex

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs
from app.api import problems
from app.api.metrics import Metrics
from app.errors import ShuttingDown

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

log = logs.get("http")


class Observe:
    """Wraps the whole application, so that refused and failed requests are seen too."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else token_hex(8)
        unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        status = 0
        started = time.perf_counter()

        async def receive_to_the_end() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and bool(message.get("more_body"))
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["X-Request-Id"] = request_id
                if unread:  # or a body without an end would be read for ever after its refusal
                    answer["Connection"] = "close"
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive_to_the_end, send_with_id)
            except asyncio.CancelledError:  # the server stops and waits no longer
                if status == 0:
                    error = ShuttingDown("the server is stopping; send the request again")
                    await problems.of(error)(scope, receive, send_with_id)
            except Exception:  # it has been logged and answered where an answer was possible
                if status == 0:
                    raise
            finally:
                self._report(scope, status, time.perf_counter() - started)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.observe(method, route, status, seconds)
        log.info(
            "request",
            method=method,
            path=scope["path"][:200],
            status=status,
            ms=round(seconds * 1000, 2),
        )
