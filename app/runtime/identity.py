"""Which database and which data directory belong together.

Housekeeping moves artifacts away that no row names, so it must be sure that the database is the
one that made them. When the two first meet, an identity is written into both: a row of
``identity``, and ``identity.json`` beside the artifacts. A generation rises in both with every
start and every round of housekeeping, first in the database; so a database that is older than its
directory (a copy from yesterday put back) is told from one that is not.

A pair that does not match is refused: nothing is swept and nothing is served until somebody puts
the right database back, or says with ``fitserve adopt`` that this one is right.
"""

import json
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import logs
from app.db import migrate
from app.db.models import Identity
from app.db.session import Database
from app.errors import ConfigurationError, ServiceError
from app.runtime import artifacts
from app.storage import KINDS, MANIFEST, Storage, explain_os_errors

_MOST_UNNAMED = 8
"""Artifacts without a row that crashes may have left in a directory of an older fitserve."""
_LOCK_KEY = 0x66736964656E74
"""Of Postgres's advisory lock: "fsident" in ASCII."""

log = logs.get("identity")


@dataclass(frozen=True)
class Mark:
    """What is written in both, the database and the directory."""

    id: str
    generation: int


@dataclass(frozen=True)
class Comparison:
    """How the rows of a database and the artifacts of a directory go together."""

    present: int
    """Artifacts with a row."""
    missing: int
    """Rows whose artifact is not there."""
    unnamed: int
    """Artifacts that no row names."""

    @property
    def is_empty(self) -> bool:
        """Whether there is neither a row nor an artifact."""
        return not (self.present or self.missing or self.unnamed)

    @property
    def agrees(self) -> bool:
        """Whether this is a pair that worked together, with a few traces of crashes at most."""
        return self.missing < self.present and self.unnamed <= min(_MOST_UNNAMED, self.present)

    def __str__(self) -> str:
        return (
            f"{self.present} datasets and models have a row, {self.unnamed} have none, and "
            f"{self.missing} rows have no artifact"
        )


def refuse_empty_database(storage: Storage, database: Database) -> None:
    """Raise ConfigurationError where a database without tables stands beside artifacts.

    Call it before the database is migrated, so that nothing has been written then.
    """
    if migrate.current(database) is None and (published := sum(1 for _ in _artifacts(storage))):
        raise _refused(
            storage, database, f"it is new or empty, and there are {published} artifacts"
        )


def pair(storage: Storage, database: Database) -> None:
    """Make sure that the two belong together, and count this start.

    The first time an identity is written into both, also into a pair of an older fitserve that
    agrees. Raises ConfigurationError, having changed nothing, where they do not match.
    """
    if _is_paired(storage, database):
        _say_what_is_away(storage, database)
        try:
            renew(storage, database)
        except ServiceError as error:  # a full disk must not keep anybody from making room
            log.warning("this start cannot be counted; it goes on", detail=error.detail)
        return
    with database.write() as session:
        _lock(session)
        known, directory = of_database(session), of_directory(storage)
        if known is None or directory is None or not _continues(known, directory):
            known = _first_pairing(storage, database, session, known, directory)
        mark = _write(session, Mark(known.id, known.generation + 1))
    write_to_directory(storage, mark)


def _is_paired(storage: Storage, database: Database) -> bool:
    """Whether the two have the same identity, and the database is not the older one."""
    directory = of_directory(storage)
    with database.read() as session:
        known = of_database(session)
    return known is not None and directory is not None and _continues(known, directory)


def _say_what_is_away(storage: Storage, database: Database) -> None:
    """Log an error for each kind of which rows name artifacts and the folder holds none: a disk
    that is not mounted looks so. Reading one is 503, and nothing is swept or written there."""
    folders = {kind: storage.root / kind for kind in KINDS}
    empty = {
        kind: path for kind, path in folders.items() if not path.is_dir() or not any(path.iterdir())
    }
    if not empty:
        return  # as a rule: nothing is asked of the database then
    with database.read() as session:
        named = Counter(item.kind for item in artifacts.expected(session))
    for kind in empty.keys() & named.keys():
        log.error(
            "artifacts are away: a folder is empty, though rows name some; see that its disk "
            "is mounted, or run `fitserve fsck`",
            folder=str(empty[kind]),
            rows=named[kind],
        )


def have_met(session: Session) -> bool:
    """Return whether the next start sweeps; of a restored pair it is the one after that."""
    known = of_database(session)
    return known is not None and known.generation > 0


def was_paired_before(session: Session) -> bool:
    """Return whether the two have worked together before this start.

    Sweeps begin with the second start, when somebody has seen that all is there.
    """
    known = of_database(session)
    return known is not None and known.generation > 1


def renew(storage: Storage, database: Database) -> bool:
    """Count a round of housekeeping; return whether the two still belong together."""
    with database.write() as session:
        _lock(session)
        known, directory = of_database(session), of_directory(storage)
        if known is None or directory is None or known.id != directory.id:
            return False
        mark = _write(session, Mark(known.id, known.generation + 1))
    write_to_directory(storage, mark)
    return True


def adopt(storage: Storage, database: Database) -> Comparison:
    """Make the two belong together from now on, whatever they say; return how they compare."""
    with database.write() as session:
        found = compare(storage, session)
        mark = _write(session, Mark(secrets.token_hex(16), 1))  # as if paired before
    write_to_directory(storage, mark)
    return found


def reissue(session: Session) -> Mark:
    """Give a database a new identity, to be written to its directory after the commit."""
    return _write(session, Mark(secrets.token_hex(16), 0))


def is_lost(storage: Storage, session: Session) -> bool:
    """Return whether the directory's mark is gone, though the two have met."""
    return have_met(session) and of_directory(storage) is None


def mismatch(storage: Storage, database: Database) -> str | None:
    """Return why the two would be refused; ``None`` where they would not."""
    directory = of_directory(storage)
    with database.read() as session:
        known = of_database(session)
        if known is not None and directory is not None and _continues(known, directory):
            return None
        return _conflict(compare(storage, session), known, directory)


def compare(storage: Storage, session: Session) -> Comparison:
    """Compare artifacts with rows, but not checkpoints: they come and go too quickly."""
    named = {item.name for item in artifacts.expected(session) if item.kind != "checkpoints"}
    present = set(_artifacts(storage))
    return Comparison(
        present=len(named & present),
        missing=len(named - present),
        unnamed=sum(not name.startswith("checkpoints/") for name in present - named),
    )


def _first_pairing(
    storage: Storage,
    database: Database,
    session: Session,
    known: Mark | None,
    directory: Mark | None,
) -> Mark:
    """Return the identity of a new pair. Raises ConfigurationError where it may not be one."""
    found = compare(storage, session)
    conflict = _conflict(found, known, directory)
    if conflict is not None:
        raise _refused(storage, database, conflict)
    if known is not None and known.generation and directory is None:
        log.warning("identity.json was gone and is written anew", found=str(found))
        return Mark(secrets.token_hex(16), 0)  # as at a first meeting: this start sweeps nothing
    if not found.is_empty:
        log.warning("a data directory of an older fitserve is adopted", found=str(found))
    return known or Mark(secrets.token_hex(16), 0)


def _conflict(found: Comparison, known: Mark | None, directory: Mark | None) -> str | None:
    """Return why these two do not belong together; ``None`` where they may."""
    have_met = known is not None and known.generation > 0
    if found.is_empty or (directory is None and found.agrees and not (have_met and found.unnamed)):
        return None
    if known is None and directory is None:
        return f"the two do not agree: {found}"
    if known is None:
        return f"it has never met this directory: {found}"
    if directory is None and found.agrees:
        return f"identity.json is gone, and it may be an older copy: {found}"
    if directory is None:
        return f"it belongs to another data directory, or its artifacts are away: {found}"
    if known.id != directory.id:
        return f"it belongs to another data directory: {found}"
    return f"it is older than the directory, as if a copy of it had been put back: {found}"


def _refused(storage: Storage, database: Database, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{database} is not the database of {storage.root}: {why}. Nothing was changed. Put the "
        "right database back; or restore a backup (fitserve restore BACKUP --data-dir NEW); or, "
        "if this database is right, run `fitserve adopt` with the same settings: what it does not "
        "name is then moved to quarantine and removed a day later"
    )


# ---------------------------------------------------------------- the two marks


def of_directory(storage: Storage) -> Mark | None:
    """Return the directory's mark; ``None`` where it has none yet.

    Raises ConfigurationError where it cannot be understood.
    """
    try:
        content = json.loads(storage.identity_path.read_bytes())
        return Mark(str(content["id"]), int(content["generation"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{storage.identity_path} cannot be read: {error}; restore a backup, or run "
            "`fitserve adopt` if the database is the right one"
        ) from error


def write_to_directory(storage: Storage, mark: Mark) -> None:
    """Write the directory's mark, whole or not at all. Raises StorageFull or Unavailable."""
    content = json.dumps({"id": mark.id, "generation": mark.generation})
    with explain_os_errors():
        storage.replace(storage.identity_path, content.encode())


def of_database(session: Session) -> Mark | None:
    """Return the database's mark; ``None`` where it has none yet."""
    row = session.get(Identity, 1, populate_existing=True)
    return None if row is None else Mark(row.id, row.generation)


def _write(session: Session, mark: Mark) -> Mark:
    session.merge(Identity(only=1, id=mark.id, generation=mark.generation))
    return mark


def _continues(known: Mark, directory: Mark) -> bool:
    """Return whether the database is the directory's, and not older: it is written first."""
    return known.id == directory.id and known.generation >= directory.generation


def _artifacts(storage: Storage) -> Iterator[str]:
    """Yield ``kind/id`` of every artifact in the directory."""
    for kind in KINDS:
        folder = storage.root / kind
        for path in folder.iterdir() if folder.is_dir() else ():
            if (path / MANIFEST).is_file():
                yield f"{kind}/{path.name}"


def _lock(session: Session) -> None:
    """Let processes that share a Postgres look at the directory one after the other."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
