"""JSON in: strict, bounded, and only where the body says that it is JSON. And out: whole lines."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.api.http.bodies import read_json
from app.api.http.media_types import is_json, media_type
from app.api.http.responses import end_line
from app.errors import UnsupportedMediaType


class StrictJSONRoute(APIRoute):
    """Reads the body itself and hands FastAPI the parsed value to validate."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that reads the body before FastAPI's own.

        The handler raises UnsupportedMediaType, TooLarge or InvalidJSON.
        """
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            if self.body_field is not None and not self._is_left_out(request):
                media = media_type(request)
                if not is_json(media):
                    raise UnsupportedMediaType(
                        f"this wants application/json, got '{media[:64]}'; set Content-Type"
                    )
                limit = request.app.state.context.settings.max_json_bytes
                request = _ParsedRequest(request, await read_json(request, limit))
            return end_line(await handle(request))

        return strict

    def _is_left_out(self, request: Request) -> bool:
        """Return whether there is no body, where none has to be."""
        assert self.body_field is not None
        empty = request.headers.get("content-length", "0") == "0"
        streamed = "transfer-encoding" in request.headers
        return empty and not streamed and not self.body_field.field_info.is_required()


class _ParsedRequest(Request):
    """A request whose JSON has been read; FastAPI validates it as if it had done so itself."""

    def __init__(self, request: Request, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._value = value

    async def body(self) -> bytes:
        return b"parsed"

    async def json(self) -> Any:
        return self._value
