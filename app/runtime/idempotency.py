"""Responses given under an ``Idempotency-Key``, committed together with what they show."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import IdempotencyKey
from app.db.session import clock
from app.errors import IdempotencyInProgress, IdempotencyKeyReused
from app.runtime.context import Context

_LIFETIME = timedelta(hours=24)


@dataclass(frozen=True)
class StoredResponse:
    """A response, to the byte."""

    status: int
    headers: dict[str, str]
    body: bytes


def find(context: Context, key: str, fingerprint: str) -> StoredResponse | None:
    """Return the response that was given under ``key`` in the last 24 hours.

    Raises IdempotencyKeyReused where it was given to a request of another ``fingerprint``.
    """
    with context.database.read() as session:
        row = session.get(IdempotencyKey, key)
        if row is None or row.created_at < clock(session) - _LIFETIME:
            return None
    if row.fingerprint != fingerprint:
        raise IdempotencyKeyReused(
            f"the key '{key[:64]}' was used for another request; use a new key for a new request"
        )
    return StoredResponse(row.status, row.headers, row.body)


def store(session: Session, key: str, fingerprint: str, response: StoredResponse) -> None:
    """Store a response, and delete those whose time is over.

    Raises IdempotencyInProgress where a request with the same key was faster in another process:
    the caller's transaction ends, and nothing was made twice.
    """
    moment = clock(session)
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < moment - _LIFETIME))
    session.add(
        IdempotencyKey(
            key=key,
            fingerprint=fingerprint,
            status=response.status,
            headers=response.headers,
            body=response.body,
            created_at=moment,
        )
    )
    try:
        session.flush()
    except IntegrityError as error:
        raise in_progress(key) from error


def replace(context: Context, key: str, response: StoredResponse) -> None:
    """Replace the stored response by the one that a client got after it waited."""
    with context.database.write() as session:
        session.execute(
            update(IdempotencyKey)
            .where(IdempotencyKey.key == key)
            .values(status=response.status, headers=response.headers, body=response.body)
        )


def in_progress(key: str) -> IdempotencyInProgress:
    """Return the error for a request whose key is used by one that has not been answered yet."""
    return IdempotencyInProgress(
        f"a request with the key '{key[:64]}' is being worked on; send it again in a moment"
    )
