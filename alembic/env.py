"""Alembic's entry: ``app.db.migrate`` hands over the engine; the command line makes its own."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Engine

from app.db.models import Base, UTCDateTime
from app.db.session import Database
from app.settings import load_settings
from app.storage import Storage


def render(kind: str, item: object, _context: Any) -> str | Literal[False]:
    """Migrations name plain types, so that they never change with our code."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run(engine: Engine) -> None:
    # Foreign keys are off on this engine: batch mode copies and drops tables, and with them on
    # a cascade would delete every child row. They are checked before the commit instead.
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            render_item=render,
            transactional_ddl=True,  # SQLite can, once BEGIN is ours
        )
        with context.begin_transaction():
            context.run_migrations()
            if connection.dialect.name == "sqlite":
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if broken:
                    raise RuntimeError(f"migration would break foreign keys: {broken[:5]}")


if engine := context.config.attributes.get("engine"):
    run(engine)
else:
    with Database(Storage(load_settings().data_dir).database_path).migrating() as own_engine:
        run(own_engine)
