"""HEAD and OPTIONS for every path, and which methods a path takes (RFC 9110, section 9)."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http import problems

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_NO_NAME = re.compile(r"[^A-Za-z0-9._@~/{}-]")
"""What stands in no id and no name: ``/v1/models/X:predict`` is nothing here."""


_IS_HEAD = "fitserve.head"


def is_head(request: Request) -> bool:
    """Return whether a GET is asked for no more than its headers."""
    return _IS_HEAD in request.scope


class Methods:
    """Answers HEAD as the start of GET, and OPTIONS with the methods of the path."""

    def __init__(self, app: ASGIApp, allowed: Callable[[str], list[str]]) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"] if scope["type"] == "http" else None
        if method == "HEAD":
            await self._head(scope, receive, send)
        elif method == "OPTIONS":
            await self._options(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _options(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = self._allowed(scope["path"])
        if not allowed:
            await problems.nothing_here(scope["path"])(scope, receive, send)
            return
        allow = (b"allow", ", ".join(allowed).encode())
        await send({"type": "http.response.start", "status": 204, "headers": [allow]})
        await send({"type": "http.response.body"})

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask for the GET and end it where its body would begin; it does not wait for a job."""
        query = scope["query_string"].split(b"&")
        others = b"&".join(part for part in query if not part.startswith(b"wait="))
        get = {**scope, "method": "GET", "query_string": others, _IS_HEAD: True}
        begun = asyncio.Event()

        async def send_start(message: Message) -> None:
            if begun.is_set():
                await asyncio.Event().wait()  # for the end, which comes from outside
            begun.set()
            await send(message)
            await send({"type": "http.response.body"})

        answering = asyncio.ensure_future(self._app(get, receive, send_start))
        waiting = asyncio.ensure_future(begun.wait())
        try:
            await asyncio.wait((answering, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            if begun.is_set():
                answering.cancel()
            if "route" in get:  # for metrics
                scope["route"] = get["route"]
        with suppress(asyncio.CancelledError):
            await answering


def methods_of(api: Starlette, path: str) -> list[str]:
    """Return the methods that the routes of ``api`` take at ``path``; none where there is none."""
    if _NO_NAME.search(path):
        return []
    return listed({method for method in _METHODS if _is_taken(api, path, method)})


def _is_taken(api: Starlette, path: str, method: str) -> bool:
    scope = {"type": "http", "path": path, "root_path": "", "method": method, "headers": []}
    routes = [route for route in api.routes if method == "GET" or not isinstance(route, Mount)]
    return any(route.matches({**scope})[0] is Match.FULL for route in routes)


def listed(methods: set[str]) -> list[str]:
    """Return what ``Allow`` says: with a GET comes a HEAD, and OPTIONS with any."""
    if not methods:
        return []
    return sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()))
