"""Engines for both kinds of database: SQLite in a file of ours, or a Postgres of yours."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, NullPool, Pool, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from app.errors import ArtifactCorrupt, FitserveError, InvalidRequest, StorageFull, Unavailable

_READERS = 8
"""SQLite connections that read at once."""
_CONNECTIONS = 8
"""Postgres connections that are kept open; as many again may be opened."""
_POOL_SECONDS = 30
"""How long to wait for a free SQLite connection."""
_WAL_BYTES = 16 * 1024 * 1024
"""What SQLite cuts its log back to once it has grown larger."""
_TIMEOUTS = (
    "-c lock_timeout=10s -c statement_timeout=60s -c idle_in_transaction_session_timeout=15s"
)
_DISK_FULL = "53100"
"""Postgres's SQLSTATE."""
_TRANSIENT = ("08", "40", "53", "57", "55P03")
"""SQLSTATEs, or how they begin, of what passes: connection, transaction rollback (deadlock),
resources, operator intervention, lock not available."""


def sqlite(
    path: Path, *, read_only: bool = False, frozen: bool = False, foreign_keys: bool = True
) -> Engine:
    """Make an engine for a SQLite file: one writer that begins IMMEDIATE, or several readers.

    Reading leaves SQLite's own files beside it, unless it is ``frozen``: nobody can be writing it.
    """
    mode = "ro" if read_only else "rwc"
    if frozen and not _has_wal(path):
        mode += "&immutable=1"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            check_same_thread=False,  # the pool hands a connection to one thread at a time
            isolation_level=None,  # BEGIN is ours: the driver's own would be deferred
        ),
        poolclass=QueuePool,
        pool_size=_READERS if read_only else 1,
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        json_deserializer=_stored_json,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _entry: ConnectionPoolEntry) -> None:
        if not read_only:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only heeded by an empty file
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
        connection.execute("PRAGMA busy_timeout=10000")
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")

    @event.listens_for(engine, "begin")
    def start(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _stored_json(text: str) -> Any:
    """Return the value of a column of JSON, whose end may be a page of zeros: that is structurally
    sound, so that no check of SQLite's own sees it. Raises ArtifactCorrupt."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ArtifactCorrupt(
            f"a row of the database is damaged ({error}); stop fitserve and restore a backup "
            "(fitserve restore BACKUP --data-dir NEW)"
        ) from error


def _has_wal(path: Path) -> bool:
    """Return whether a crash left writes that are not in the file itself yet."""
    wal = path.with_name(f"{path.name}-wal")
    return wal.exists() and wal.stat().st_size > 0


def postgres(url: URL, *, patient: bool = False) -> Engine:
    """Make an engine for a Postgres; a ``patient`` one waits for locks as long as it takes."""
    pool: type[Pool] = NullPool if patient else QueuePool
    sizes = {} if patient else {"pool_size": _CONNECTIONS, "max_overflow": _CONNECTIONS}
    arguments: dict[str, Any] = {"connect_timeout": 10}
    if not patient and "options" not in url.query:
        arguments["options"] = _TIMEOUTS
    return create_engine(url, poolclass=pool, pool_pre_ping=True, connect_args=arguments, **sizes)


def explain(error: DBAPIError | PoolTimeout) -> FitserveError | None:
    """Return what an error of the driver or of the pool means to a client; ``None`` where it is our
    own mistake."""
    if isinstance(error, PoolTimeout):
        return Unavailable("the database is busy: no connection became free; try again")
    message = str(error.orig)
    if isinstance(error.orig, sqlite3.Error):
        if "full" in message:
            return StorageFull("no room left for the database; free some disk")
        if "malformed" in message or "not a database" in message:
            return Unavailable(
                f"the database is damaged ({message}); stop fitserve and restore a backup "
                "(fitserve restore BACKUP --data-dir NEW); `fitserve fsck` tells more"
            )
        if any(word in message for word in ("disk I/O", "readonly", "locked", "unable to open")):
            return Unavailable(f"the database cannot be used now: {message}")
        return None
    if "NUL (0x00)" in message:
        return InvalidRequest("text cannot hold the NUL character; leave it out")
    state = getattr(error.orig, "sqlstate", None)
    if state == _DISK_FULL:
        return StorageFull("no room left for the database; free some disk")
    if error.connection_invalidated or state is None or state.startswith(_TRANSIENT):
        return Unavailable(f"the database cannot be used now: {message.splitlines()[0][:200]}")
    return None
