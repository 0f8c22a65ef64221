"""Who may use the server: a pure ASGI gate before everything else.

Without a key the server listens on loopback, where any web page in the user's browser could reach
it: by a request with a foreign ``Origin``, by a cross-site GET, or by a name of its own that
resolves to 127.0.0.1 (DNS rebinding). So it answers only to its own names, only to its own
origin, for every method. With a key, the key decides.
"""

import secrets
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.http import problems
from app.errors import AccessDenied, ForbiddenOrigin, Unauthorized, UnknownHost
from app.settings import Settings

OPEN_PATHS = {"/livez", "/readyz"}
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}
_Headers = Sequence[tuple[bytes, bytes]]
_OTHER_SITES = {b"cross-site", b"same-site"}


class Gate:
    """Lets a request through, or answers 401, 403 or 421 itself."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._key = settings.api_key.get_secret_value().encode() if settings.api_key else None
        own_name = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._names = _LOOPBACK_NAMES | {own_name.lower()}
        self._hosts = {name.encode() for name in self._names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope["path"], scope["headers"])
            except AccessDenied as error:
                await problems.from_error(error, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, path: str, headers: _Headers) -> None:
        if self._key is None:
            self._check_names(headers)
        elif path not in OPEN_PATHS:
            self._check_key(self._key, headers)

    def _check_names(self, headers: _Headers) -> None:
        by_name = dict(headers)
        host = by_name.get(b"host", b"").lower()
        name, _, port = host.rpartition(b":")
        known = (name if port.isdigit() else host) in self._hosts
        if not known or [key for key, _ in headers].count(b"host") != 1:
            raise UnknownHost(
                f"this server answers to {', '.join(sorted(self._names))}, not to "
                f"'{_excerpt(host)}'; use one of these, or set FITSERVE_API_KEY to serve other "
                "names"
            )
        origin = by_name.get(b"origin")
        if origin is not None and origin.lower() != b"http://" + host:
            raise ForbiddenOrigin(f"the origin '{_excerpt(origin)}' may not use this server")
        if by_name.get(b"sec-fetch-site") in _OTHER_SITES:
            raise ForbiddenOrigin("another site's page may not use this server; open it directly")

    def _check_key(self, key: bytes, headers: _Headers) -> None:
        authorization = next((v for n, v in headers if n == b"authorization"), b"")
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not secrets.compare_digest(token.strip(), key):
            raise Unauthorized("send the header 'Authorization: Bearer KEY' with FITSERVE_API_KEY")


def _excerpt(value: bytes) -> str:
    """Return the start of a header's value, for an error."""
    return value[:64].decode("latin-1")
