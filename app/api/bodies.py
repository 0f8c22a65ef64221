"""Request bodies: strict JSON for resources, bounded reading for all."""

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import numpy as np
import orjson
from anyio import to_thread
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Message

from app.errors import InvalidJSON, TooLarge, UnsupportedMediaType

Model = TypeVar("Model", bound=BaseModel)

MAX_DEPTH = 64
_PARSED_AT_ONCE = 64 * 1024
_MAX_INTEGER = 2**63
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def dump(value: Any) -> bytes:
    """JSON out; NaN and infinities become null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, counted as it arrives. Raises TooLarge."""
    refuse_declared(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def refuse_declared(request: Request, limit: int) -> None:
    """Refuse before reading what the client itself says: too large, or compressed."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("compressed bodies are not read; send it without compression")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)


def limited(request: Request, limit: int) -> Request:
    """The same request, whose body is counted as it arrives; nobody's own count is believed."""
    refuse_declared(request, limit)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return Request(request.scope, receive)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes; send less at once")


def media_type(request: Request) -> str:
    """The body's type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(media: str) -> bool:
    return media == "application/json" or (
        media.startswith("application/") and media.endswith("+json")
    )


def parse_strict(body: bytes) -> Any:
    """JSON without its traps. Raises InvalidJSON for duplicate keys, NaN, numbers that overflow,
    lone surrogates, integers beyond 63 bits and nesting deeper than 64."""
    if not body:
        raise InvalidJSON("the body is empty; send a JSON object")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJSON("the body is not UTF-8") from error
    if _depth(body) > MAX_DEPTH:
        raise InvalidJSON(f"nested deeper than {MAX_DEPTH}")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
        )
    except json.JSONDecodeError as error:
        raise InvalidJSON(f"{error.msg} at line {error.lineno} column {error.colno}") from error
    if "\\u" in text:
        _refuse_surrogates(value)
    return value


def _depth(body: bytes) -> int:
    brackets = _STRING.sub(b"", body).translate(None, _BRACKETS)
    steps = np.frombuffer(brackets, np.uint8)
    opening = (steps == ord("[")) | (steps == ord("{"))
    return int(np.cumsum(np.where(opening, 1, -1)).max(initial=0))


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidJSON(f"the key '{twice[:64]}' stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise InvalidJSON(f"{name} is no JSON number; send null where a value is unknown")


def _bounded_int(digits: str) -> int:
    if len(digits) > 20 or not -_MAX_INTEGER <= (number := int(digits)) < _MAX_INTEGER:
        raise InvalidJSON(f"the integer {digits[:64]} is beyond 63 bits")
    return number


def _finite_float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise InvalidJSON(f"the number {digits[:64]} overflows")
    return number


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidJSON("a string holds a lone surrogate") from error


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
            if self.body_field is not None:
                media = media_type(request)
                if not is_json(media):
                    raise UnsupportedMediaType(
                        f"this wants application/json, got '{media[:64]}'; set Content-Type"
                    )
                limit = request.app.state.context.settings.max_json_bytes
                request = _Parsed(request, await read_json(request, limit))
            return await handle(request)

        return strict


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
