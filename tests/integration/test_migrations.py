"""The schema: made by Alembic alone, and refused where it is not ours."""

import hashlib
import sqlite3
from pathlib import Path

import pytest
from alembic import command

from app.db import migrate
from app.db.session import Database
from app.errors import ConfigurationError
from app.serve import own_data
from app.settings import load_settings


def test_an_empty_directory_gets_the_newest_schema_and_a_second_run_changes_nothing(
    tmp_path: Path,
) -> None:
    settings = load_settings(data_dir=tmp_path / "odd dir?#%41é")
    for _ in range(2):
        with own_data(settings, "test") as (_, database), database.read() as session:
            connection = session.connection()
            revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
            assert revision.scalar_one() == migrate.head()
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
            assert mode == "wal"


def test_the_models_and_the_migrations_agree(tmp_path: Path) -> None:
    database = Database(tmp_path / "fitserve.db")
    migrate.upgrade(database)
    config = migrate.config()
    with database.migrating() as engine:
        config.attributes["engine"] = engine
        command.check(config)
    database.close()


@pytest.mark.parametrize("kind", ["newer", "damaged"])
def test_a_foreign_database_is_refused_untouched(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "fitserve.db"
    if kind == "newer":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.execute("INSERT INTO alembic_version VALUES ('9999')")
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    else:
        path.write_bytes(b"this is no database" * 100)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with (
        pytest.raises(ConfigurationError, match=r"fitserve\.db"),
        own_data(load_settings(data_dir=tmp_path), "test"),
    ):
        pass
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
