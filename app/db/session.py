"""The database: one connection that writes, others that only read.

SQLite has one owner (``lock_data_dir``). Writes are short units through a single connection that
begins IMMEDIATE, so two of them queue instead of failing; reads see a snapshot (WAL) and never
wait for a write.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from app.errors import ConfigurationError, StorageFull, Unavailable

_READERS = 8


class Database:
    """Sessions over one SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = _engine(path)
        self._reader = _engine(path, read_only=True)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed when the block ends well, else rolled back.

        Raises StorageFull or Unavailable where the disk or the database refuse.
        """
        with _explained(), Session(self._writer, expire_on_commit=False) as session:
            yield session
            session.commit()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent snapshot; nothing can be written through it."""
        with _explained(), Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def migrating(self) -> Iterator[Engine]:
        """The writing engine with foreign keys off, for Alembic: batch mode copies tables."""
        engine = _engine(self.path, foreign_keys=False)
        try:
            yield engine
        finally:
            engine.dispose()

    def close(self) -> None:
        self._reader.dispose()
        self._writer.dispose()


def _engine(path: Path, *, read_only: bool = False, foreign_keys: bool = True) -> Engine:
    mode = "ro" if read_only else "rwc"
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
        pool_timeout=30,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _entry: ConnectionPoolEntry) -> None:
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA busy_timeout=10000")
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")

    @event.listens_for(engine, "begin")
    def start(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        said = str(error.orig)
        if "full" in said:
            raise StorageFull("no room left for the database; free some disk") from error
        if any(word in said for word in ("disk I/O", "readonly", "locked", "unable to open")):
            raise Unavailable(f"the database cannot be used now: {said}") from error
        raise


@contextmanager
def lock_data_dir(path: Path, holder: str) -> Iterator[None]:
    """Own the data directory; ``holder`` tells others who does. Raises ConfigurationError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigurationError(f"cannot use {path.parent}: {error.strerror}") from error
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"{path.parent} is in use by {file.read().strip() or 'another fitserve'}; "
                "stop it, or give this one another FITSERVE_DATA_DIR"
            ) from None
        file.truncate(0)
        file.write(holder)
        file.flush()
        yield
        file.seek(0)
        file.truncate(0)
