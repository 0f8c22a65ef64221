"""The schema: made by Alembic alone, upgraded whole or not at all, refused where it is not ours."""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select

from app.api.schemas.models import Lineage
from app.db import migrate
from app.db.models import TERMINAL, Base, HistoryChunk, Job, ModelVersion
from app.db.session import Database
from app.errors import ConfigurationError
from app.house import own_data
from app.services.jobs import events, history
from app.settings import load_settings
from tests.support.soak import SOAK

FIXTURES = Path(__file__).parents[1] / "fixtures"
REVISIONS = [script.revision for script in ScriptDirectory(str(migrate.scripts())).walk_revisions()]
OLDER = sorted(REVISIONS)[:-1]


def older(folder: Path, revision: str) -> Path:
    """A database as a fitserve of that time left it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fitserve.db"
    connection = sqlite3.connect(path)
    connection.executescript((FIXTURES / f"schema_{revision}.sql").read_text())
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return path


def content(path: Path) -> dict[str, list[Any]]:
    """Every row of every table, column by column name."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    names = [
        row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    ]
    found = {
        name: sorted(map(dict, connection.execute(f"SELECT * FROM {name}")), key=repr)
        for name in sorted(names)
    }
    connection.close()
    return found


def schema(path: Path) -> list[Any]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()
    connection.close()
    return found


# ---------------------------------------------------------------- new


def test_an_empty_directory_gets_the_newest_schema_and_a_second_run_changes_nothing(
    tmp_path: Path,
) -> None:
    settings = load_settings(data_dir=tmp_path / "odd dir?#%41é")
    for _ in range(2):
        with own_data(settings, "test") as (_, database), database.read() as session:
            connection = session.connection()
            revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
            assert revision.scalar_one() == migrate.head()
            for pragma, value in (("journal_mode", "wal"), ("auto_vacuum", 2)):
                assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value


def test_the_models_and_the_migrations_agree(database: Database) -> None:
    config = migrate.config()
    with database.migrating() as engine:
        config.attributes["engine"] = engine
        command.check(config)


# ---------------------------------------------------------------- older


def columns(path: Path) -> dict[str, set[tuple[str, str, int]]]:
    """Name, type and whether it may be null, of every column by its table."""
    connection = sqlite3.connect(path)
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
    found = {
        table: {row[1:4] for row in connection.execute(f"PRAGMA table_info({table})")}
        for (table,) in tables
    }
    connection.close()
    return found


def test_since_the_third_revision_migrations_only_add(tmp_path: Path) -> None:
    folders = [tmp_path / revision for revision in OLDER if revision >= "0003"]
    schemas = [columns(older(folder, folder.name)) for folder in folders]
    with own_data(load_settings(data_dir=tmp_path / "newest"), "test"):
        pass
    schemas.append(columns(tmp_path / "newest" / "fitserve.db"))
    for before, after in pairwise(schemas):
        for table, held in before.items():
            assert held <= after[table], table


def test_every_revision_that_was_on_main_has_a_fixture() -> None:
    assert OLDER
    assert [path.stem for path in sorted(FIXTURES.glob("schema_*.sql"))] == [
        f"schema_{revision}" for revision in OLDER
    ]


@pytest.mark.parametrize("revision", OLDER)
def test_upgrading_keeps_every_row(tmp_path: Path, revision: str) -> None:
    path = older(tmp_path, revision)
    before = content(path)
    database = Database(path)
    migrate.upgrade(database)
    after = content(path)
    rows = 0
    for table, old in before.items():
        if table == "alembic_version":
            continue
        shared = set(old[0]) & set(after[table][0]) if old else set()
        assert len(after[table]) == len(old)
        for name in shared:
            assert sorted(repr(r[name]) for r in after[table]) == sorted(repr(r[name]) for r in old)
        rows += len(old)
    print(f"{rows} rows kept from {revision}")
    assert rows > 20
    with database.migrating() as engine:
        config = migrate.config()
        config.attributes["engine"] = engine
        command.check(config)
        assert set(inspect(engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    database.close()


@pytest.mark.parametrize("revision", OLDER)
def test_the_events_of_older_jobs_are_whole(tmp_path: Path, revision: str) -> None:
    database = Database(older(tmp_path, revision))
    migrate.upgrade(database)
    with database.read() as session:
        jobs = session.scalars(select(Job)).all()
        assert {job.status for job in jobs} >= {"queued", "running", *TERMINAL}
        for job in jobs:
            last = events.last_id(job)
            told = events.read(session, job.id, 1, last)
            assert [event.id for event in told] == list(range(1, last + 1))
            measured = [event.data["epoch"] for event in told if event.type == "metrics"]
            assert measured == list(range(job.epochs_done))
            assert (told[-1].type == "done") == (job.status in TERMINAL)
            recorded = history.read(session, job.id).series
            assert all(len(epochs) == job.epochs_done for epochs, _ in recorded.values())
        assert session.scalars(select(HistoryChunk)).first() is not None
    database.close()


@pytest.mark.parametrize("revision", OLDER)
def test_older_versions_know_what_they_were_made_from(tmp_path: Path, revision: str) -> None:
    database = Database(older(tmp_path, revision))
    migrate.upgrade(database)
    kept = gone = 0
    with database.read() as session:
        for version in session.scalars(select(ModelVersion)):
            told = Lineage.of(version)
            job = session.get(Job, version.job_id)
            assert told.versions is not None or revision < "0003"
            assert told.checkpoint == version.checkpoint_id
            assert told.epoch == version.metrics["best"]["epoch"]
            if job is None:
                forgotten = (told.spec, told.split, told.seed) == (None, None, None)
                assert forgotten == (revision < "0003"), "since then a version knows by itself"
                gone += 1
            else:
                assert told.model_dump()["spec"] == job.spec.model_dump(mode="json")
                assert told.seed == job.spec.seed
                assert told.split is not None
                assert told.split.model_dump() == job.split
                kept += 1
    database.close()
    print(f"{kept} versions of jobs that are there, {gone} of jobs that are not")
    assert kept
    assert gone or revision == "0001"


_KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from app.db import migrate
from app.db.session import Database

seen = last = 0

def count(*_):
    global seen
    seen += 1
    if seen == last:
        os.kill(os.getpid(), signal.SIGKILL)

class Watched(Database):
    def migrating(self):
        manager = super().migrating()
        enter = manager.__enter__
        class Manager:
            def __enter__(self):
                engine = enter()
                event.listen(engine, "before_cursor_execute", count)
                event.listen(engine, "commit", count)
                return engine
            def __exit__(self, *a):
                return manager.__exit__(*a)
        return Manager()

for path, at in zip(sys.argv[1::2], sys.argv[2::2]):
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    last = int(at)
    migrate.upgrade(Watched(Path(path)))
    print(seen, flush=True)
    os._exit(0)
"""
"""Migrates each database in a child of its own that is killed before its statement of that number;
prints how many there were, where it lives, and the exit codes."""


def killed(*places: tuple[Path, int]) -> list[int]:
    arguments = [str(part) for place in places for part in place]
    run = [sys.executable, "-c", _KILLED, *arguments]
    return [
        int(line) for line in subprocess.run(run, capture_output=True, check=True).stdout.split()
    ]


@pytest.fixture(scope="module", params=OLDER if SOAK else OLDER[-1:])
def statements(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = older(tmp_path_factory.mktemp("count"), request.param)
    count, _ = killed((path, 0))
    return request.param, count


def test_killed_in_the_middle_leaves_the_old_schema_or_the_new(
    statements: tuple[str, int], tmp_path: Path
) -> None:
    revision, count = statements
    outcomes = []
    moments = sorted({1, 2, *range(3, count, max(1, count // 6)), count})
    places = [(older(tmp_path / str(at), revision), at) for at in moments]
    whole = content(places[0][0]), schema(places[0][0])
    assert killed(*places) == [-signal.SIGKILL] * len(places)
    for path, _ in places:
        old = (content(path), schema(path)) == whole
        database = Database(path)
        with database.read() as session:
            found = session.connection().exec_driver_sql("SELECT version_num FROM alembic_version")
            assert old == (found.scalar_one() == revision)
        migrate.upgrade(database)
        assert len(content(path)["jobs"]) == len(whole[0]["jobs"])
        database.close()
        outcomes.append("old" if old else "new")
    print(f"killed at {len(outcomes)} of {count} statements: {outcomes}")


# ---------------------------------------------------------------- foreign


@pytest.fixture(params=["newer", "damaged", "cut off", "another program's"])
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "fitserve.db"
    if request.param == "newer":
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.commit()
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    elif request.param == "another program's":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE users (id INTEGER)")
        connection.close()
    elif request.param == "damaged":
        path.write_bytes(b"this is no database" * 100)
    else:
        older(tmp_path, OLDER[0])
        os.truncate(path, path.stat().st_size // 2)
    return path


def test_a_foreign_database_is_refused_untouched(foreign: Path) -> None:
    before = hashlib.sha256(foreign.read_bytes()).hexdigest()
    with (
        pytest.raises(ConfigurationError, match=r"fitserve\.db"),
        own_data(load_settings(data_dir=foreign.parent), "test"),
    ):
        pass
    assert hashlib.sha256(foreign.read_bytes()).hexdigest() == before


def test_a_newer_schema_on_postgres_is_refused(postgres_database: Database) -> None:
    with postgres_database.write() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="9999"):
        migrate.upgrade(postgres_database)
