"""Request bodies: strict JSON for resources, bounded reading for all."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import orjson
from anyio import to_thread
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Message

from app.errors import TooLarge, UnsupportedMediaType
from app.strict_json import parse_strict

Model = TypeVar("Model", bound=BaseModel)

_PARSED_AT_ONCE = 64 * 1024


def dump(value: Any) -> bytes:
    """JSON out; NaN and infinities become null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def answer(model: BaseModel, status: int, headers: dict[str, str] | None = None) -> Response:
    """A resource as the bytes that are sent, and kept where the request has a key."""
    body = model.model_dump_json().encode()
    return Response(body, status, headers, media_type="application/json")


def canonical(value: Any) -> bytes:
    """The same bytes for equal JSON values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, counted as it arrives. Raises TooLarge."""
    refuse_declared(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


def refuse_declared(request: Request, limit: int, *, packed: bool = False) -> None:
    """Refuse before reading what the client itself says: too large, or compressed; ``packed``
    bodies may be gzip."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity" and not (packed and encoding in ("gzip", "x-gzip")):
        allowed = "gzip is" if packed else "compressed bodies are not"
        raise UnsupportedMediaType(
            f"cannot read the content encoding '{encoding[:64]}'; {allowed} read here, "
            "and what is not compressed"
        )
    refuse_larger(request.headers.get("content-length", ""), limit)


def refuse_larger(declared: str, limit: int) -> None:
    """Raise TooLarge where a ``Content-Length`` says so."""
    if declared.isdigit() and int(declared[:20]) > limit:
        raise too_large(limit)


def limited(request: Request, limit: int, *, packed: bool = False) -> Request:
    """The same request, whose body is counted as it arrives; nobody's own count is believed."""
    refuse_declared(request, limit, packed=packed)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise too_large(limit)
        return message

    return Request(request.scope, receive)


def too_large(limit: int) -> TooLarge:
    """What is refused beyond ``limit`` bytes."""
    return TooLarge(f"the body is larger than {limit} bytes; send less at once")


def media_type(request: Request) -> str:
    """The body's type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(media: str) -> bool:
    return media == "application/json" or (
        media.startswith("application/") and media.endswith("+json")
    )


async def read_json(request: Request, limit: int) -> Any:
    """A bounded body as strict JSON. Raises TooLarge or InvalidJSON."""
    body = await read_body(request, limit)
    if len(body) < _PARSED_AT_ONCE:
        return parse_strict(body)
    return await to_thread.run_sync(parse_strict, body)  # a large one must not hold up the others


class StrictRoute(APIRoute):
    """A route with a JSON body: strict, bounded, and only where the body says that it is JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            if self.body_field is not None and not self._is_left_out(request):
                media = media_type(request)
                if not is_json(media):
                    raise UnsupportedMediaType(
                        f"this wants application/json, got '{media[:64]}'; set Content-Type"
                    )
                limit = request.app.state.context.settings.max_json_bytes
                request = _Parsed(request, await read_json(request, limit))
            return await handle(request)

        return strict

    def _is_left_out(self, request: Request) -> bool:
        """Whether there is no body, where none has to be."""
        assert self.body_field is not None
        empty = request.headers.get("content-length", "0") == "0"
        streamed = "transfer-encoding" in request.headers
        return empty and not streamed and not self.body_field.field_info.is_required()


class _Parsed(Request):
    """A request whose JSON has been read; FastAPI validates it as if it had done so itself."""

    def __init__(self, request: Request, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._value = value

    async def body(self) -> bytes:
        return b"parsed"

    async def json(self) -> Any:
        return self._value


def validated(model: type[Model], value: Any) -> Model:
    """``value`` as a ``model``; what is wrong is reported like the body of any other route."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        items = [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        raise RequestValidationError(items, body=value) from error
