"""Copies of everything: from a running house to a folder, and from there to an empty house.

A backup is a data directory of its own: a SQLite database at the newest schema, whatever the rows
were kept in, and the artifacts that its rows name. Nothing of a copy stands under its final name
before all of it is on the disk.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Table,
    delete,
    insert,
    select,
    type_coerce,
)
from sqlalchemy.orm import Session

from app.db import migrate
from app.db.lock import lock_data_dir
from app.db.models import TERMINAL, Base, Checkpoint, Dataset, Identity, Job, ModelVersion, SpecJSON
from app.db.session import Database
from app.errors import ArtifactCorrupt, ConfigurationError, StorageFull
from app.runtime import artifacts, identity
from app.runtime.artifacts import Artifact, Finding, Progress
from app.services.jobs import queue
from app.storage import KINDS, Kind, Storage, explain_os_errors, require_room, sync

_ROWS_AT_ONCE = 100
"""Rows in memory; each may hold megabytes: the profile of a wide table, a piece of history."""
_SCHEMA_BYTES = 1024 * 1024
"""What an empty database takes, and more."""
_TABLES: dict[Kind, type[Checkpoint | Dataset | ModelVersion]] = {
    "datasets": Dataset,
    "models": ModelVersion,
    "checkpoints": Checkpoint,
}


@dataclass(frozen=True)
class House:
    """Where the artifacts and the rows of one house are."""

    storage: Storage
    database: Database


@dataclass
class CopyReport:
    """What a copy holds, and what it lacks."""

    rows: dict[str, int] = field(default_factory=dict)
    """How many, by table."""
    bytes: int = 0
    """Of artifacts and the database's file."""
    lost: list[Finding] = field(default_factory=list)
    """Missing or damaged where it was copied from: rows without their artifact."""
    deleted: list[Artifact] = field(default_factory=list)
    """Deleted by a client while the copy was made."""


# ---------------------------------------------------------------- a house into a folder


def backup(source: House, folder: Path, holder: str, progress: Progress) -> CopyReport:
    """Copy all that there is at this moment to ``folder``; others may go on writing, and deleting.

    Raises ConfigurationError where ``folder`` is taken, StorageFull where its disk is; nothing is
    left then.
    """
    folder = Path(os.path.abspath(folder))
    _require_free(source.storage, folder)
    try:
        with _new_folder(folder, holder) as target:
            return _copy_house(source, target, progress)
    except StorageFull as error:
        raise StorageFull(
            f"no room for the backup in {folder.parent}; free some, or name a folder elsewhere"
        ) from error


def _copy_house(source: House, target: Storage, progress: Progress) -> CopyReport:
    """Copy rows, first: an idle snapshot is in the way of others; then the artifacts they name."""
    path = source.database.path
    require_room(target.root, _SCHEMA_BYTES + (path.stat().st_size if path else 0))
    copied = CopyReport()
    with _new_database(target) as database:
        with source.database.read() as snapshot, database.write() as session:
            copied.rows = _copy_rows(snapshot, session)
            mark = identity.reissue(session)
        identity.write_to_directory(target, mark)
        with database.read() as session:
            expected = artifacts.expected(session)
        require_room(target.root, sum(artifact.size for artifact in expected))
        _copy_artifacts(source, target, progress(expected), copied)
        with database.write() as session:
            _delete_rows(session, copied.deleted)
    copied.bytes += target.database_path.stat().st_size
    return copied


def _require_free(storage: Storage, folder: Path) -> None:
    """Raise ConfigurationError where a backup cannot be given the name ``folder``."""
    remedy = "name a folder that does not exist yet"
    if folder.is_relative_to(storage.root):
        raise ConfigurationError(f"{folder} lies in the data directory; {remedy}, elsewhere")
    if folder.is_mount():
        raise ConfigurationError(f"{folder} is a mount point; {remedy}, such as {folder}/1")
    try:
        if os.path.lexists(folder) and any(folder.iterdir()):
            raise ConfigurationError(f"{folder} is not empty; {remedy}")
    except OSError as error:
        raise ConfigurationError(f"{folder}: {error.strerror}; {remedy}") from error


@contextmanager
def _new_folder(folder: Path, holder: str) -> Iterator[Storage]:
    """Make a data directory, named ``folder`` once the block has ended well and removed else.

    It is locked, so that the next backup can tell one in the making from what a killed one left.
    """
    partial = folder.with_name(f"{folder.name}.partial-{secrets.token_hex(4)}")
    storage = Storage(partial)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot make {partial}: {error.strerror}; name a folder elsewhere"
        ) from error
    try:
        with explain_os_errors(), lock_data_dir(storage.lock_path, holder):
            _remove_leftovers(folder)
            storage.prepare()
            yield storage
            sync(partial)
            _require_free(storage, folder)  # somebody may have been there in the meantime
            os.rename(partial, folder)
            sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed backups to the same name left; one in the making holds its lock."""
    for left in folder.parent.glob(f"{escape(folder.name)}.partial-" + "[0-9a-f]" * 8):
        with (
            suppress(ConfigurationError),
            lock_data_dir(Storage(left).lock_path, "the removal of a backup that was not finished"),
        ):
            shutil.rmtree(left, ignore_errors=True)


# ---------------------------------------------------------------- a folder into a house


def restore(
    source: House, target: Storage, shared: Database | None, progress: Progress
) -> CopyReport:
    """Fill an empty data directory, and the Postgres it is to work with where there is one.

    The caller holds the lock of ``target``. What was being trained goes back to the queue. Raises
    ConfigurationError where the house is not empty; StorageFull or Unavailable.
    """
    _require_empty(target, shared)
    copied = CopyReport()
    target.identity_path.unlink(missing_ok=True)  # of what was here once
    with _staging(target) as staged, source.database.read() as snapshot:
        expected = artifacts.expected(snapshot)
        require_room(staged.root, sum(artifact.size for artifact in expected))
        _copy_artifacts(source, staged, progress(expected), copied)
        with _new_database(target, shared) as database, database.write() as session:
            copied.rows = _copy_rows(snapshot, session)
            _delete_rows(session, copied.deleted)
            queue.recover(session)
            mark = identity.reissue(session)
            _move_artifacts(staged, target)
        identity.write_to_directory(target, mark)
    if target.database_path.exists():
        copied.bytes += target.database_path.stat().st_size
    return copied


def _require_empty(storage: Storage, shared: Database | None) -> None:
    present = list(storage.root.glob("fitserve.db*"))  # a journal alone would spoil a new database
    present += [path for kind in KINDS for path in (storage.root / kind).iterdir()]
    if present:
        raise ConfigurationError(
            f"{storage.root} is not empty: there is {present[0].relative_to(storage.root)}; "
            "choose another --data-dir, or move what is there away"
        )
    if shared is not None:
        migrate.upgrade(shared)
        with shared.read() as session:
            for table in _copied_tables():
                if session.execute(select(table).limit(1)).first() is not None:
                    raise ConfigurationError(
                        f"{shared} is not empty: there are {table.name}; "
                        "name an empty database in FITSERVE_DATABASE_URL"
                    )


@contextmanager
def _staging(storage: Storage) -> Iterator[Storage]:
    """Make a place for artifacts that are not to be seen yet; the next start removes what a kill
    leaves."""
    staged = Storage(storage.scratch / f"restore.{secrets.token_hex(4)}")
    try:
        staged.prepare()
        yield staged
    finally:
        shutil.rmtree(staged.root, ignore_errors=True)


def _move_artifacts(staged: Storage, target: Storage) -> None:
    with explain_os_errors():
        for kind in KINDS:
            folder = target.root / kind
            for artifact in (staged.root / kind).iterdir():
                os.rename(artifact, folder / artifact.name)
            sync(folder)


# ---------------------------------------------------------------- both ways


@contextmanager
def _new_database(storage: Storage, shared: Database | None = None) -> Iterator[Database]:
    """Make a SQLite file, named when the block ends well; where given, use ``shared`` instead.

    It is left without a WAL: one file that can be read on a disk that cannot be written.
    """
    if shared is not None:
        yield shared
        return
    path = storage.scratch / f"new.{secrets.token_hex(4)}.db"
    database = Database(path)
    try:
        migrate.upgrade(database)
        yield database
        database.close()
        with database.migrating() as engine, explain_os_errors():
            connection = engine.raw_connection()
            connection.cursor().execute("PRAGMA journal_mode=DELETE")
            connection.close()
            os.rename(path, storage.database_path)
            sync(storage.root)
    finally:
        database.close()
        for left in storage.scratch.glob(f"{path.name}*"):
            left.unlink(missing_ok=True)


def _copied_tables() -> list[Table]:
    """Return all tables, parents first, but that of the identity: a copy is another house."""
    return [table for table in Base.metadata.sorted_tables if table is not Identity.__table__]


def _as_stored(column: Column[Any]) -> ColumnElement[Any]:
    """Select a spec as the JSON that is stored, so that it is copied even where it is not valid."""
    if isinstance(column.type, SpecJSON):
        return type_coerce(column, JSON(none_as_null=True)).label(column.name)
    return column


def _copy_rows(source: Session, target: Session) -> dict[str, int]:
    """Copy every row of every table, parents first; return how many, by table."""
    counts: dict[str, int] = {}
    for table in _copied_tables():
        counts[table.name] = 0
        columns = [_as_stored(column) for column in table.columns]
        found = source.execute(select(*columns), execution_options={"yield_per": _ROWS_AT_ONCE})
        for rows in found.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in rows])
            counts[table.name] += len(rows)
    return counts


def _copy_artifacts(
    source: House, target: Storage, expected: Iterable[Artifact], copied: CopyReport
) -> None:
    """Copy what is whole; note what is not, and what a client has deleted meanwhile."""
    for artifact in expected:
        try:
            copied.bytes += artifacts.copy(source.storage, artifact, target)
        except ArtifactCorrupt as error:
            if _is_deleted(source.database, artifact):
                copied.deleted.append(artifact)
            else:
                copied.lost.append(artifacts.finding(source.storage, artifact, error))


def _is_deleted(database: Database, artifact: Artifact) -> bool:
    """Return whether a client deleted the artifact: its row goes before its files."""
    with database.read() as session:
        return session.get(_TABLES[artifact.kind], artifact.id) is None


def _delete_rows(session: Session, deleted: list[Artifact]) -> None:
    """Delete the rows of artifacts that went while they were copied, as their deletion did.

    A job that had not ended when the snapshot was taken, and had when its dataset was deleted,
    cannot go on: it is cancelled.
    """
    for artifact in deleted:
        table = _TABLES[artifact.kind]
        session.execute(delete(table).where(table.id == artifact.id))
        if artifact.kind == "datasets":
            needed = Job.dataset_id == artifact.id, Job.status.not_in(TERMINAL)
            for job_id in session.scalars(select(Job.id).where(*needed)).all():
                queue.transition(session, job_id, "cancel")
