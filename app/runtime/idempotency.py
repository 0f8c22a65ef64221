"""Answers that were given under an Idempotency-Key, committed together with what they tell of."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import IdempotencyKey
from app.db.session import clock
from app.errors import IdempotencyInProgress, IdempotencyKeyReused
from app.runtime.context import Context

_KEPT = timedelta(hours=24)


@dataclass(frozen=True)
class Answer:
    """What a client was told, to the byte."""

    status: int
    headers: dict[str, str]
    body: bytes


def find(context: Context, key: str, fingerprint: str) -> Answer | None:
    """The answer that was given under ``key``. Raises IdempotencyKeyReused for another request."""
    with context.database.read() as session:
        kept = session.get(IdempotencyKey, key)
        if kept is None or kept.created_at < clock(session) - _KEPT:
            return None
    if kept.fingerprint != fingerprint:
        raise IdempotencyKeyReused(
            f"the key '{key[:64]}' was used for another request; use a new key for a new request"
        )
    return Answer(kept.status, kept.headers, kept.body)


def keep(session: Session, key: str, fingerprint: str, answer: Answer) -> None:
    """Keep an answer; whose time is over goes. Raises IdempotencyInProgress where a twin was
    faster in another process: the caller's transaction ends, and nothing was made twice."""
    moment = clock(session)
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < moment - _KEPT))
    session.add(
        IdempotencyKey(
            key=key,
            fingerprint=fingerprint,
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
            created_at=moment,
        )
    )
    try:
        session.flush()
    except IntegrityError as error:
        raise in_progress(key) from error


def amend(context: Context, key: str, answer: Answer) -> None:
    """Keep what the client was told in the end, after it waited."""
    with context.database.write() as session:
        session.execute(
            update(IdempotencyKey)
            .where(IdempotencyKey.key == key)
            .values(status=answer.status, headers=answer.headers, body=answer.body)
        )


def in_progress(key: str) -> IdempotencyInProgress:
    """What a twin of a request in flight is told."""
    return IdempotencyInProgress(
        f"a request with the key '{key[:64]}' is being worked on; send it again in a moment"
    )
