"""Maintenance from the command line: look for damage, save everything, put it back."""

import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import track

from app import house
from app.db import migrate
from app.db.integrity import quick_check
from app.db.lock import lock_data_dir
from app.db.session import Database
from app.errors import ConfigurationError
from app.maintenance import backup as copying
from app.maintenance import fsck as checking
from app.maintenance.backup import CopyReport, House
from app.runtime import identity
from app.runtime.artifacts import Artifact, Finding, Progress
from app.settings import Settings
from app.storage import Storage


def fsck(settings: Settings) -> bool:
    """Print what is wrong in the data directory; return whether nothing is.

    Raises ConfigurationError.
    """
    storage = _existing(settings)
    with (
        lock_data_dir(storage.lock_path, _holder("fsck")),
        closing(house.open_database(settings, storage, frozen=True)) as database,
    ):
        try:
            identity.refuse_empty_database(storage, database)
            migrate.require_current(database)
        except ConfigurationError:
            if not (damage := _damage(storage, frozen=True)):
                raise
            report = checking.Report(findings=[checking.broken(fault) for fault in damage])
        else:
            report = checking.fsck(storage, database, _progress("checking"))
    _print(report.findings)
    found = len(report.findings)
    result = "all is well" if not found else f"{found} finding{'s' if found > 1 else ''}"
    if report.quarantined:
        result += f"; {report.quarantined} artifacts in quarantine, removed a day after they came"
    typer.echo(f"checked {report.artifacts} artifacts, {decimal(report.bytes)}: {result}")
    return not found


def adopt(settings: Settings) -> None:
    """Make database and data directory belong together. Raises ConfigurationError."""
    _existing(settings)
    with (
        house.locked_data(settings, _holder("adopt"), shared=False) as storage,
        closing(house.open_database(settings, storage)) as database,
    ):
        migrate.upgrade(database)
        found = identity.adopt(storage, database)
    typer.echo(f"{database} is now the database of {storage.root}: {found}")
    if found.unnamed:
        typer.echo(
            "when the server starts, all that has no row, checkpoints too, is moved to "
            f"{storage.quarantine} and removed a day later"
        )


def backup(settings: Settings, folder: Path) -> bool:
    """Save everything in ``folder``; return whether nothing was lost. Raises FitserveError."""
    storage, started = _existing(settings), time.monotonic()
    with closing(house.open_database(settings, storage)) as database:
        identity.refuse_empty_database(storage, database)
        migrate.require_current(database)
        source = House(storage, database)
        copied = copying.backup(source, folder, _holder("backup"), _progress("saving"))
    return _summarise(
        copied,
        f"saved in {folder}",
        started,
        f"serve it with `fitserve serve --data-dir {folder}`, or copy it into an empty data "
        f"directory with `fitserve restore {folder} --data-dir NEW`",
    )


def restore(settings: Settings, folder: Path) -> bool:
    """Fill an empty house from ``folder``; return whether all came over. Raises FitserveError."""
    source, started = Storage(folder), time.monotonic()
    is_new = not settings.data_dir.exists()
    with (
        closing(_readable(source, settings.data_dir)) as database,
        house.locked_data(settings, _holder("restore"), shared=False) as target,
        closing(house.open_database(settings, target)) as own,
    ):
        shared = own if own.shared else None
        with _removed_on_failure(target, if_new=is_new):
            house_copied = House(source, database)
            copied = copying.restore(house_copied, target, shared, _progress("restoring"))
    where = f"{settings.data_dir}" + (f" and {own}" if own.shared else "")
    start = f"start it with `fitserve serve --data-dir {settings.data_dir}`"
    if own.shared:
        start += " and the same FITSERVE_DATABASE_URL"
    return _summarise(copied, f"restored to {where}", started, start)


def _readable(source: Storage, target: Path) -> Database:
    """Open the database of a backup. Raises ConfigurationError, having made nothing."""
    if not source.database_path.exists():
        raise ConfigurationError(
            f"{source.root} is no backup: there is no {source.database_path.name}"
        )
    if target.resolve().is_relative_to(source.root.resolve()):
        raise ConfigurationError(f"{target} lies in the backup itself; choose another --data-dir")
    if damage := _damage(source):
        raise ConfigurationError(
            f"{source.database_path} is damaged: {damage[0]}; restore another backup"
        )
    database = Database(source.database_path)
    migrate.require_current(database)
    return database


def _damage(storage: Storage, *, frozen: bool = False) -> list[str]:
    """Return what is wrong with the SQLite file, where there is one and it can be looked at."""
    if not storage.database_path.exists():
        return []
    return quick_check(storage.database_path, math.inf, frozen=frozen) or []


@contextmanager
def _removed_on_failure(storage: Storage, *, if_new: bool) -> Iterator[None]:
    """Leave no data directory behind that was made for a copy that did not come about."""
    try:
        yield
    except BaseException:
        if if_new:
            shutil.rmtree(storage.root, ignore_errors=True)
        raise


def _existing(settings: Settings) -> Storage:
    """Return the data directory. Raises ConfigurationError where there is none; makes nothing."""
    storage = Storage(settings.data_dir)
    needed = storage.root if settings.postgres_url else storage.database_path
    if not needed.exists():
        raise ConfigurationError(
            f"there is no {needed}; name the data directory with --data-dir or FITSERVE_DATA_DIR"
        )
    return storage


def _holder(command: str) -> str:
    return f"fitserve {command}, process {os.getpid()}"


def _progress(doing: str) -> Progress:
    """Return a progress bar for a terminal; elsewhere it shows nothing."""
    console = Console(stderr=True)

    def show(artifacts: Sequence[Artifact]) -> Iterable[Artifact]:
        hidden = not console.is_terminal
        return track(artifacts, doing, console=console, transient=True, disable=hidden)

    return show


def _summarise(copied: CopyReport, done: str, started: float, what_next: str) -> bool:
    """Print how a copy went; return whether nothing was lost."""
    rows, took = copied.rows, f"{decimal(copied.bytes)} in {time.monotonic() - started:.1f} s"
    _print(copied.lost)
    if copied.lost:
        what_next = f"{len(copied.lost)} artifacts could not be copied, see above"
    typer.echo(
        f"{done}: {rows['datasets']} datasets, {rows['models']} models, {rows['jobs']} jobs, "
        f"{rows['checkpoints']} checkpoints, {took}; {what_next}"
    )
    return not copied.lost


def _print(findings: list[Finding]) -> None:
    for finding in findings:
        typer.echo(str(finding))
