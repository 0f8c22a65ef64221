"""``Idempotency-Key`` on requests that create: sent twice, done once."""

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, cast

import orjson
from anyio import to_thread
from fastapi import Depends, FastAPI, Header, Request, Response

from app.api.http.media_types import media_type
from app.errors import InvalidRequest
from app.runtime import idempotency
from app.runtime.context import Context
from app.runtime.idempotency import StoredResponse

_LONGEST_KEY = 255
"""In characters."""
_STORED_HEADERS = ("content-type", "location", "retry-after", "preference-applied")


class Replayed(Exception):
    """The request was answered before; ends its handling with the same response."""

    def __init__(self, stored: StoredResponse) -> None:
        super().__init__("answered before")
        headers = {**stored.headers, "Idempotent-Replayed": "true"}
        self.response = Response(stored.body, stored.status, headers)


class IdempotentRequest:
    """A request that creates something, with an ``Idempotency-Key`` or without."""

    def __init__(self, request: Request, context: Context, key: str | None) -> None:
        self._request, self._context, self._key = request, context, key
        self._fingerprint = ""
        self.response = Response()
        """The response that shows what was created, once it was."""

    @property
    def has_key(self) -> bool:
        """Whether the client sent a key; if not, ``replay`` needs no content."""
        return self._key is not None

    async def replay(self, *content: bytes) -> None:
        """End the handling here if the request was answered before; called when all of its content
        is known, before anything is created.

        Raises Replayed, or IdempotencyKeyReused where the key was used for something else.
        """
        if self._key is None:
            return
        url = self._request.url
        target = (self._request.method, url.path, url.query, media_type(self._request))
        digest = hashlib.sha256()
        for part in (*(item.encode() for item in target), *content):
            digest.update(hashlib.sha256(part).digest())
        self._fingerprint = digest.hexdigest()
        stored = await to_thread.run_sync(
            idempotency.find, self._context, self._key, self._fingerprint
        )
        if stored is not None:
            raise Replayed(stored)

    def recorder(self, respond: Callable[[Any, Any], Response]) -> Callable[[Any, Any], None]:
        """Return what a service calls in its transaction as ``record(session, created)``.

        It sets ``response`` to ``respond(session, created)`` and stores it under the key.
        """

        def record(session: Any, created: Any) -> None:
            self.response = respond(session, created)
            if self._key is not None:
                stored = _stored(self.response)
                idempotency.store(session, self._key, self._fingerprint, stored)

        return record

    async def replace(self, response: Response) -> Response:
        """Return ``response`` after it took the place of the stored one: the client waited."""
        if self._key is not None:
            stored = _stored(response)
            await to_thread.run_sync(idempotency.replace, self._context, self._key, stored)
        return response


def canonical_json(value: Any) -> bytes:
    """Return the same bytes for equal JSON values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _stored(response: Response) -> StoredResponse:
    headers = {k: v for k, v in response.headers.items() if k in _STORED_HEADERS}
    return StoredResponse(response.status_code, headers, bytes(response.body))


async def _idempotent(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(description="sent again with the same key, a request is done and answered once"),
    ] = None,
) -> AsyncIterator[IdempotentRequest]:
    context = cast(Context, request.app.state.context)
    in_flight = cast(set[str], request.app.state.keys_in_flight)
    if idempotency_key is None:
        yield IdempotentRequest(request, context, None)
        return
    if not (0 < len(idempotency_key) <= _LONGEST_KEY and idempotency_key.isprintable()):
        detail = f"a key has 1 to {_LONGEST_KEY} printable characters; a UUID does well"
        raise InvalidRequest.at("/Idempotency-Key", detail)
    if idempotency_key in in_flight:
        raise idempotency.in_progress(idempotency_key)
    in_flight.add(idempotency_key)
    try:
        yield IdempotentRequest(request, context, idempotency_key)
    finally:
        in_flight.discard(idempotency_key)


IdempotentRequestDep = Annotated[IdempotentRequest, Depends(_idempotent, scope="function")]


def install(app: FastAPI) -> None:
    """Have ``app`` answer Replayed with the response it carries."""

    async def respond(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Replayed)
        return error.response

    app.state.keys_in_flight = set()
    app.add_exception_handler(Replayed, respond)
