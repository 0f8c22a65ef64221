"""Alembic's entry: ``app.db.migrate`` hands over the engine; the command line makes its own."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Engine, text

from app.db.models import Base, SpecJSON, UTCDateTime
from app.db.session import Database
from app.settings import load_settings
from app.storage import Storage

_LOCK = 0x66697473657276  # "fitserv"


def render(kind: str, item: object, _context: Any) -> str | Literal[False]:
    """Migrations name plain types, so that they never change with our code."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, SpecJSON):
        return "sa.JSON(none_as_null=True)"
    return False


def run(engine: Engine) -> None:
    # Foreign keys are off on this engine: batch mode copies and drops tables, and with them on
    # a cascade would delete every child row. They are checked before the commit instead.
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,  # SQLite changes a table by copying it
            render_item=render,
            transactional_ddl=True,  # both can; SQLite once BEGIN is ours
        )
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":  # several processes may start at once
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            context.run_migrations()
            if connection.dialect.name == "sqlite":
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if broken:
                    raise RuntimeError(f"migration would break foreign keys: {broken[:5]}")


if engine := context.config.attributes.get("engine"):
    run(engine)
else:
    settings = load_settings()
    where = settings.postgres_url or Storage(settings.data_dir).database_path
    with Database(where).migrating() as own_engine:
        run(own_engine)
