"""Who may talk to the server: a pure ASGI gate before everything else.

Without a key the server listens on loopback, where any web page in the user's browser could reach
it: by a request with a foreign ``Origin``, by a cross-site GET, or by a name of its own that
resolves to 127.0.0.1 (DNS rebinding). So it answers only to its own names, only to its own
origin, for every method. With a key, the key decides.
"""

import secrets
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import problems
from app.errors import AccessDenied, ForbiddenOrigin, Unauthorized, UnknownHost
from app.settings import Settings

OPEN_PATHS = {"/livez", "/readyz"}
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}
_Headers = Iterable[tuple[bytes, bytes]]
_FROM_ELSEWHERE = {"cross-site", "same-site"}


class Gate:
    """Lets a request through, or answers 401, 403 or 421 itself."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._key = settings.api_key.get_secret_value().encode() if settings.api_key else None
        own = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._names = _LOOPBACK_NAMES | {own.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope["path"], scope["headers"])
            except AccessDenied as error:
                await problems.of(error, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, path: str, headers: _Headers) -> None:
        if self._key is None:
            self._check_own(headers)
        elif path not in OPEN_PATHS:
            self._check_key(self._key, headers)

    def _check_own(self, headers: _Headers) -> None:
        hosts, origin, site = [], None, ""
        for key, value in headers:
            if key == b"host":
                hosts.append(value.decode("latin-1").lower())
            elif key == b"origin":
                origin = value.decode("latin-1").lower()
            elif key == b"sec-fetch-site":
                site = value.decode("latin-1")
        host = hosts[0] if hosts else ""
        name, _, port = host.rpartition(":")
        if len(hosts) != 1 or (name if port.isdigit() else host) not in self._names:
            raise UnknownHost(
                f"this server answers to {', '.join(sorted(self._names))}, not to "
                f"'{host[:64]}'; use one of these, or set FITSERVE_API_KEY to serve other names"
            )
        if origin is not None and origin != f"http://{host}":
            raise ForbiddenOrigin(f"the origin '{origin[:64]}' may not use this server")
        if site in _FROM_ELSEWHERE:
            raise ForbiddenOrigin("another site's page may not use this server; open it directly")

    def _check_key(self, key: bytes, headers: _Headers) -> None:
        authorization = next((v for n, v in headers if n == b"authorization"), b"")
        scheme, _, given = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not secrets.compare_digest(given.strip(), key):
            raise Unauthorized("send the header 'Authorization: Bearer KEY' with FITSERVE_API_KEY")
