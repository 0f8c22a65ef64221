"""The database: short units that write, snapshots that only read.

SQLite has one owner (``app.db.lock``). Its writes go through a single connection that begins
IMMEDIATE, so two of them queue instead of failing; reads see a snapshot (WAL) and never wait for a
write. On Postgres writes are READ COMMITTED and every transition names what it expects; reads are
REPEATABLE READ and read-only.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine, func, make_url, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from app.db import engines
from app.db.models import UTCDateTime
from app.db.reserve import Reserve
from app.db.turns import Turns

_PAGES_AT_ONCE = 10_000
"""40 MB that one deletion gives back to the disk, in a fraction of a second; what is more is used
again, or given back by the next."""


class Database:
    """Opens sessions on one SQLite file, or on the Postgres that a URL names.

    A ``frozen`` SQLite file is one that nobody can be writing; reading leaves nothing beside it.
    """

    def __init__(self, location: Path | str, *, frozen: bool = False) -> None:
        self.path = location if isinstance(location, Path) else None
        self.url = None if isinstance(location, Path) else make_url(location)
        self._turns: Turns | None = None
        self.reserve: Reserve | None = None
        """Of SQLite's; ``runtime.room`` says who may use it."""
        if isinstance(location, Path):
            self._turns = Turns()
            self.reserve = Reserve(location.with_suffix(".reserve"))
            self._writer = engines.sqlite(location)
            self._reader = engines.sqlite(location, read_only=True, frozen=frozen)
        else:
            self._writer = engines.postgres(make_url(location))
            self._reader = self._writer.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    @property
    def shared(self) -> bool:
        """Whether several processes may work on it, as on Postgres; SQLite has one owner."""
        return self.path is None

    def __str__(self) -> str:
        """Return its path or URL, without the password."""
        return str(self.path) if self.url is None else self.url.render_as_string()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction, committed when the block ends well, else rolled back.

        Raises StorageFull or Unavailable where the disk or the database refuse.
        """
        with (
            _explain_errors(),
            self._turn(),
            Session(self._writer, expire_on_commit=False) as session,
        ):
            if self._turns is not None:
                session.connection()  # begins, which another process may hold up
                self._turns.began()
            yield session
            session.commit()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a consistent snapshot, through which nothing can be written.

        Raises StorageFull or Unavailable where the disk or the database refuse.
        """
        with _explain_errors(), Session(self._reader, expire_on_commit=False) as session:
            yield session

    def _turn(self) -> AbstractContextManager[None]:
        return nullcontext() if self._turns is None else self._turns.taken()

    @contextmanager
    def migrating(self) -> Iterator[Engine]:
        """Open an engine for Alembic: no foreign keys on SQLite, where batch mode copies tables."""
        if self.path is not None:
            engine = engines.sqlite(self.path, foreign_keys=False)
        else:
            assert self.url is not None
            engine = engines.postgres(self.url, patient=True)
        try:
            yield engine
        finally:
            engine.dispose()

    def reclaim_space(self, session: Session) -> None:
        """Return to the disk what deletions have freed; Postgres does that by itself."""
        crowded = self.reserve is not None and self.reserve.is_open  # moving pages takes room first
        if self.path is not None and not crowded:
            connection = session.connection()
            free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
            for _ in range(min(free, _PAGES_AT_ONCE)):  # sqlite3 stops after its first step, a page
                connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")

    def exists(self) -> bool:
        """Return whether there is something to read; a Postgres is there before we are."""
        return self.path is None or self.path.exists()

    def close(self) -> None:
        """Close all connections."""
        self._reader.dispose()
        self._writer.dispose()


def clock(session: Session) -> datetime:
    """Return the database's own time, to the second on SQLite; one clock for all who share it."""
    return session.scalars(select(func.now(type_=UTCDateTime))).one()


@contextmanager
def _explain_errors() -> Iterator[None]:
    """Raise a driver's error as what it means to a client, where it means something."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        explained = engines.explain(error)
        if explained is None:
            raise
        raise explained from error
