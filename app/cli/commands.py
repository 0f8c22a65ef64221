"""The commands of ``fitserve``, light: each imports what it needs when it runs."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from app import __version__
from app.settings import load_settings

cli = typer.Typer(
    name="fitserve",
    help="Turn tables into trained PyTorch models over HTTP.\n\n"
    "Start with `fitserve serve` and open http://127.0.0.1:8000/docs, or see it work first "
    "with `fitserve demo`. Settings come from FITSERVE_* in the environment.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Database and artifacts. [FITSERVE_DATA_DIR, default fitserve-data]"
    ),
]


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"fitserve {__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@cli.command()
def serve(
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on. Beyond loopback FITSERVE_API_KEY must be set. "
            "[FITSERVE_HOST, default 127.0.0.1]"
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 picks a free one. [FITSERVE_PORT, default 8000]")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Serve the API and train, in one process, until Ctrl-C or SIGTERM.

    An empty or older database is migrated first. On SIGTERM running jobs go back to the queue.
    Exits 78 where the database and the data directory do not belong together.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # until uvicorn listens to them: process 1 ignores the default
    settings = load_settings(host=host, port=port, data_dir=data_dir)
    from app import house

    house.run(settings)


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _exit_on_signals() -> None:
    """End by an exception on SIGTERM and SIGHUP, so that what is half made is removed."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


@cli.command()
def worker(data_dir: DataDir = None) -> None:
    """Train what is queued in a Postgres, beside `serve` and other workers, until SIGTERM.

    Needs FITSERVE_DATABASE_URL, and the same data directory as `serve` (a shared file system where
    they are on several machines). FITSERVE_MAX_PARALLEL_JOBS says how many jobs at once.
    """
    settings = load_settings(data_dir=data_dir)
    from app import house

    house.work(settings)


@cli.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to the newest schema (`serve` does it by itself)."""
    settings = load_settings(data_dir=data_dir)
    from app import house
    from app.db import migrate as migration

    with house.own_data(settings, "fitserve migrate") as (_, database):
        typer.echo(f"{database} is at revision {migration.head()}")


@cli.command()
def fsck(data_dir: DataDir = None) -> None:
    """Find every missing, orphaned or damaged artifact, and say what to do for each.

    Changes nothing. The server must be stopped. Exits 1 where something was found.
    """
    settings = load_settings(data_dir=data_dir)
    from app.cli import maintenance

    if not maintenance.fsck(settings):
        raise typer.Exit(1)


@cli.command()
def adopt(data_dir: DataDir = None) -> None:
    """Say that this database is the right one for this data directory, though they do not match.

    For a start that was refused because the database is new, restored or another one. The server
    must be stopped. What the database does not name goes to quarantine at the next start, and is
    removed a day later.
    """
    settings = load_settings(data_dir=data_dir)
    from app.cli import maintenance

    maintenance.adopt(settings)


@cli.command()
def backup(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet, or is empty.")
    ],
    data_dir: DataDir = None,
) -> None:
    """Save everything in DIR, while the server runs or not.

    A backup is itself a complete data directory with SQLite, also where the rows are in a Postgres:
    `fitserve serve --data-dir DIR` just works (without FITSERVE_DATABASE_URL). DIR appears when all
    of it is on the disk. Exits 1, keeping the backup, where artifacts were missing or damaged.
    """
    _exit_on_signals()
    settings = load_settings(data_dir=data_dir)
    from app.cli import maintenance

    if not maintenance.backup(settings, folder):
        raise typer.Exit(1)


@cli.command()
def restore(
    folder: Annotated[
        Path, typer.Argument(metavar="BACKUP", help="What `fitserve backup` has made.")
    ],
    data_dir: DataDir = None,
) -> None:
    """Copy a backup into an empty data directory, and into an empty Postgres where
    FITSERVE_DATABASE_URL names one.

    So `backup` and `restore` also move everything from SQLite to Postgres and back. Without a
    Postgres, `fitserve serve --data-dir BACKUP` just works: a backup is a data directory itself.
    """
    _exit_on_signals()
    settings = load_settings(data_dir=data_dir)
    from app.cli import maintenance

    if not maintenance.restore(settings, folder):
        raise typer.Exit(1)


@cli.command()
def demo(
    folder: Annotated[
        Path, typer.Option(help="Where its data, its log and the pictures go.")
    ] = Path("fitserve-demo"),
) -> None:
    """Start a server, train on a real table, draw, predict, and stop."""
    from app.cli.demo import run

    run(folder)
