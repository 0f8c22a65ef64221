"""``Idempotency-Key`` on requests that create: sent twice, done once."""

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, cast

import orjson
from anyio import to_thread
from fastapi import Depends, FastAPI, Header, Request, Response

from app.api.http.media_types import media_type
from app.errors import FieldError, InvalidRequest
from app.runtime import idempotency
from app.runtime.context import Context
from app.runtime.idempotency import Answer

_LONGEST = 255
_KEPT_HEADERS = ("content-type", "location", "retry-after", "preference-applied")


class Replayed(Exception):
    """The request was answered before; ends its handling with the same answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        headers = {**answer.headers, "Idempotent-Replayed": "true"}
        self.response = Response(answer.body, answer.status, headers)


class IdempotentRequest:
    """One creating request, with its key or without."""

    def __init__(self, request: Request, context: Context, key: str | None) -> None:
        self._request, self._context, self._key = request, context, key
        self._fingerprint = ""
        self.response = Response()
        """What the client is told of what was made."""

    @property
    def wanted(self) -> bool:
        return self._key is not None

    async def check(self, *content: bytes) -> None:
        """Call when all of the content is known, before anything is made.

        Raises Replayed, or IdempotencyKeyReused where the key was used for something else.
        """
        if self._key is None:
            return
        url = self._request.url
        told = (self._request.method, url.path, url.query, media_type(self._request))
        digest = hashlib.sha256()
        for part in (*(item.encode() for item in told), *content):
            digest.update(hashlib.sha256(part).digest())
        self._fingerprint = digest.hexdigest()
        answer = await to_thread.run_sync(
            idempotency.find, self._context, self._key, self._fingerprint
        )
        if answer is not None:
            raise Replayed(answer)

    def answering(self, answer: Callable[[Any, Any], Response]) -> Callable[[Any, Any], None]:
        """What a service calls in its transaction with what it makes; sets ``response``."""

        def remember(session: Any, made: Any) -> None:
            self.response = answer(session, made)
            if self._key is not None:
                kept = _kept(self.response)
                idempotency.keep(session, self._key, self._fingerprint, kept)

        return remember

    async def amend(self, response: Response) -> Response:
        """The client waited and is told more."""
        if self._key is not None:
            kept = _kept(response)
            await to_thread.run_sync(idempotency.amend, self._context, self._key, kept)
        return response


def canonical_json(value: Any) -> bytes:
    """Return the same bytes for equal JSON values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _kept(response: Response) -> Answer:
    headers = {k: v for k, v in response.headers.items() if k in _KEPT_HEADERS}
    return Answer(response.status_code, headers, bytes(response.body))


async def _once(
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
    if not (0 < len(idempotency_key) <= _LONGEST and idempotency_key.isprintable()):
        detail = f"a key has 1 to {_LONGEST} printable characters; a UUID does well"
        raise InvalidRequest(detail, [FieldError("/Idempotency-Key", detail)])
    if idempotency_key in in_flight:
        raise idempotency.in_progress(idempotency_key)
    in_flight.add(idempotency_key)
    try:
        yield IdempotentRequest(request, context, idempotency_key)
    finally:
        in_flight.discard(idempotency_key)


IdempotentRequestDep = Annotated[IdempotentRequest, Depends(_once, scope="function")]


def install(app: FastAPI) -> None:
    """Make ``Replayed`` an answer."""

    async def answer(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Replayed)
        return error.response

    app.state.keys_in_flight = set()
    app.add_exception_handler(Replayed, answer)
