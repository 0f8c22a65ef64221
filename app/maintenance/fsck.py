"""Looking for damage: the database itself, every artifact with a row, everything without one."""

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from app.db.integrity import zeros
from app.db.session import Database
from app.errors import ArtifactCorrupt, Unavailable
from app.ids import is_id
from app.runtime import identity
from app.runtime.artifacts import Artifact, Finding, Progress, check, expected, finding
from app.storage import KINDS, MANIFEST, Storage

_MOST_FAULTS = 20
"""Lines that SQLite's own check may say."""


@dataclass
class Report:
    """What was looked at, and what was found."""

    artifacts: int = 0
    """How many were looked at."""
    bytes: int = 0
    """Of those that are whole."""
    quarantined: int = 0
    """Artifacts in quarantine."""
    findings: list[Finding] = field(default_factory=list)


def fsck(storage: Storage, database: Database, progress: Progress) -> Report:
    """Look at everything and change nothing; the caller holds the data directory's lock."""
    report = Report()
    try:
        with database.read() as session:
            report.findings += _database(session)
            artifacts = expected(session)
            met = identity.have_met(session)
            mark_is_lost = identity.is_lost(storage, session)
        mismatch = identity.mismatch(storage, database)
    except (
        DatabaseError,
        Unavailable,
        ArtifactCorrupt,
    ) as error:  # which artifacts there ought to be is not known
        cause = error.__cause__ if isinstance(error, Unavailable) else error
        report.findings.append(broken(str(getattr(cause, "orig", error))))
        return report
    for artifact in progress(artifacts):
        report.artifacts += 1
        try:
            files = check(storage, artifact)
        except ArtifactCorrupt as error:
            report.findings.append(finding(storage, artifact, error))
        else:
            report.bytes += sum(entry.size for entry in files.values())
            report.findings += _unlisted_files(storage, artifact, {*files, MANIFEST})
    report.findings += _orphans(storage, artifacts, database, mismatch, met)
    if mismatch is not None:
        report.findings.append(_wrong_database(mismatch))
    elif mark_is_lost:
        report.findings.append(_LOST_MARK)
    report.quarantined = sum(1 for _ in storage.quarantine.glob("*/*/*"))
    return report


def _database(session: Session) -> Iterator[Finding]:
    """Yield the faults that SQLite finds in itself; a Postgres has tools of its own."""
    if session.get_bind().dialect.name != "sqlite":
        return
    connection = session.connection()
    for (fault,) in connection.exec_driver_sql(f"PRAGMA integrity_check({_MOST_FAULTS})"):
        if fault != "ok":
            yield broken(fault)
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    for fault in islice(zeros(driver), _MOST_FAULTS):
        yield broken(fault)
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield broken(f"row {row} of {table} belongs to a row of {parent} that is not there")


def broken(fault: str) -> Finding:
    """Return the finding of a database that does not hold together."""
    remedy = "restore all of it from a backup (fitserve restore BACKUP --data-dir NEW)"
    return Finding("database", "fitserve.db", _printable(fault), remedy)


def _unlisted_files(storage: Storage, artifact: Artifact, known: set[str]) -> Iterator[Finding]:
    for name in _names(storage.path(artifact.kind, artifact.id)):
        if name not in known:
            where = f"{artifact.name}/{_printable(name)}"
            yield Finding("orphaned", where, "not in the manifest", "nobody reads it; remove it")


_FOREIGN = "fitserve neither reads nor removes it; remove it"
_LOST_MARK = Finding(
    "missing",
    "identity.json",
    "nothing says which database is the directory's",
    "nothing to do if this one is: rows and artifacts agree, so `fitserve serve` writes it anew",
)


def _wrong_database(why: str) -> Finding:
    remedy = (
        "put the right database back or restore a backup (fitserve restore BACKUP --data-dir NEW); "
        "if this one is right, run `fitserve adopt`"
    )
    return Finding("database", "identity.json", f"this is not the directory's: {why}", remedy)


def _orphans(
    storage: Storage,
    artifacts: list[Artifact],
    database: Database,
    mismatch: str | None,
    met: bool,
) -> Iterator[Finding]:
    """Yield what no row names, and what a crash left in scratch."""
    known = {artifact.name for artifact in artifacts}
    remedy = "nothing to do: `fitserve serve` puts it into quarantine for a day when it starts"
    if not met:
        remedy += " for the second time (at the first, database and directory only meet)"
    if database.shared:
        remedy += ", once it is an hour old"
    if mismatch is not None:
        remedy = "leave it until the database is the right one"
    for room in (*KINDS, storage.scratch.name):
        wrong = "no row names it" if room in KINDS else "a crash left it"
        try:
            names = _names(storage.root / room)
        except OSError as error:
            restart = "`fitserve serve` makes it when it starts; see that it can"
            yield Finding("missing", f"{room}/", f"cannot be listed: {error.strerror}", restart)
            continue
        for name in names:
            if f"{room}/{name}" in known:
                continue
            where = f"{room}/{_printable(name)}"
            if room in KINDS and not is_id(name):
                yield Finding("foreign", where, "no artifact has such a name", _FOREIGN)
            else:
                yield Finding("orphaned", where, wrong, remedy)


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def _printable(text: str) -> str:
    """Return the text on one line, whatever bytes somebody made a name of."""
    return text if text.isprintable() else ascii(text)
