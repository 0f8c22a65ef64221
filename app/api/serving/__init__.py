"""Predictions in every dialect, in front of the API as plain ASGI: no routing table, no dependency
injection, nothing validated twice. Every other request goes on to the API."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.http import methods, problems
from app.api.serving import mlflow, native, oip
from app.api.serving.asgi_io import ASGIRequest, ASGIResponse
from app.api.serving.engine import Engine
from app.errors import FitserveError

_Handle = Callable[[ASGIRequest], Awaitable[ASGIResponse]]


class Route(NamedTuple):
    """The path that metrics count a request under, as Starlette's routes have it."""

    path: str


_PREDICT = Route("/v1/models/{ref}/predict")
_INFER = Route("/v2/models/{name}/infer")
_INVOCATIONS = Route("/invocations")


class Serving:
    """Answers predictions and hands everything else to ``app``."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app, self._engine = app, engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = self._match(scope["path"]) if scope["type"] == "http" else None
        if match is None:
            await self._app(scope, receive, send)
            return
        scope["route"], handle = match
        path = scope["path"]
        try:
            if scope["method"] != "POST":
                refused = problems.wrong_method(path, self.allowed(path))
                await refused(scope, receive, send)
                return
            response = await handle(ASGIRequest(scope, receive))
        except FitserveError as error:
            await problems.from_error(error, path)(scope, receive, send)
        except ClientDisconnect:
            await problems.disconnected(path)(scope, receive, send)
        except Exception as error:
            await problems.unexpected(error, path)(scope, receive, send)
        else:
            await response.send(send)

    def allowed(self, path: str) -> list[str]:
        """Return the methods that ``path`` takes here; none where it is no path of ours."""
        return methods.listed({"POST"} if self._match(path) else set())

    def _match(self, path: str) -> tuple[Route, _Handle] | None:
        if path.startswith("/v1/models/") and path.endswith("/predict"):
            ref = path[len("/v1/models/") : -len("/predict")]
            if ref and "/" not in ref:
                return _PREDICT, lambda request: native.predict(self._engine, request, ref)
        elif path.startswith("/v2/models/") and path.endswith("/infer"):
            parts = path[len("/v2/models/") : -len("/infer")].split("/")
            if parts[0] and len(parts) == 1:
                return _INFER, lambda request: oip.infer(self._engine, request, parts[0])
            if parts[0] and len(parts) == 3 and parts[1] == "versions" and parts[2].isdigit():
                return _INFER, lambda request: oip.infer(
                    self._engine, request, f"{parts[0]}@{parts[2]}"
                )
        elif path == "/invocations":
            return _INVOCATIONS, lambda request: mlflow.invocations(self._engine, request)
        return None
