"""Bringing the schema up to date with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import inspect
from sqlalchemy.exc import DatabaseError

from app.db.session import Database
from app.errors import ConfigurationError, ServiceError


def scripts() -> Path:
    """Return the folder of the migrations: in an installed package, else at the top level."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "alembic"


def config() -> Config:
    """Return Alembic's configuration, with no file behind it."""
    settings = Config()
    settings.set_main_option("script_location", str(scripts()))
    return settings


def head() -> str | None:
    """Return the newest revision that this version of fitserve knows."""
    return ScriptDirectory.from_config(config()).get_current_head()


def upgrade(database: Database) -> None:
    """Migrate an empty or older database in one transaction; a current one is left alone.

    Raises ConfigurationError, without writing anything, where the file is no database of ours or
    has been migrated by a newer fitserve.
    """
    settings = config()
    try:
        revision = _current(database)
        if revision is not None and revision == head():
            return
        _require_known(settings, revision, database)
        with database.migrating() as engine:
            settings.attributes["engine"] = engine
            command.upgrade(settings, "head")
    except (DatabaseError, ServiceError) as error:
        raise _unusable(database, error) from error


def current(database: Database) -> str | None:
    """Return the database's revision, read without writing; ``None`` where it is new.

    Raises ConfigurationError where it cannot be read or is no database of ours.
    """
    try:
        return _current(database)
    except (DatabaseError, ServiceError) as error:
        raise _unusable(database, error) from error


def require_current(database: Database) -> None:
    """Raise ConfigurationError, without writing anything, unless the schema is the newest."""
    revision = current(database)
    if revision is None or revision != head():
        _require_known(config(), revision, database)
        schema = f"the older schema {revision}" if revision else "no schema of ours"
        raise ConfigurationError(
            f"{database} has {schema}; run `fitserve migrate` with the same settings first"
        )


def _unusable(database: Database, error: DatabaseError | ServiceError) -> ConfigurationError:
    reason = error.orig if isinstance(error, DatabaseError) else error.detail
    remedy = "check FITSERVE_DATABASE_URL" if database.shared else "restore a backup"
    if isinstance(error, ServiceError) and error.__cause__ is not None:
        reason = getattr(error.__cause__, "orig", reason)
    return ConfigurationError(
        f"{database} cannot be used as a database: {str(reason).strip()}; {remedy}"
    )


def _current(database: Database) -> str | None:
    """Return the database's revision, read without writing; ``None`` where it is new.

    Raises ConfigurationError for a file with other tables; a Postgres may have them beside ours.
    """
    if not database.exists():
        return None
    with database.read() as session:
        connection = session.connection()
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision is None and not database.shared and inspect(connection).get_table_names():
            raise ConfigurationError(
                f"{database} is the database of another program; choose another --data-dir"
            )
        return revision


def _require_known(settings: Config, revision: str | None, database: Database) -> None:
    try:
        if revision is not None:
            ScriptDirectory.from_config(settings).get_revision(revision)
    except CommandError as error:
        raise ConfigurationError(
            f"{database} has schema '{revision}', which this fitserve does not know; "
            "use the newer fitserve that made it, or restore a backup"
        ) from error
