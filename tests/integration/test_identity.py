"""A database and a data directory that do not belong together: nothing is swept, nothing served."""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from app.cli import maintenance
from app.db import migrate
from app.db.integrity import quick_check
from app.db.session import Database
from app.errors import ConfigurationError
from app.executors.parsers import Parsers
from app.house import own_data
from app.ids import new_id
from app.maintenance.housekeeper import Housekeeper
from app.ml.tables import json_rows
from app.runtime import health
from app.runtime.context import Context
from app.services.datasets import creation
from app.settings import load_settings
from app.storage import KINDS
from tests.support.command_line import forked
from tests.support.faults import mounted
from tests.support.postgres import Postgres
from tests.support.server import LINE_JOB, Server
from tests.support.soak import rounds

EX_CONFIG = 78
DATABASE = "fitserve.db"
LITTLE_ROOM_BYTES = 256 * 1024
"""Far below what is to stay free, and enough for SQLite's own files."""


def put_down(data: Path) -> None:
    """Have all of the database in its one file, however the server ended."""
    with closing(sqlite3.connect(data / DATABASE)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def artifacts(data: Path) -> dict[str, set[str]]:
    return {kind: {path.name for path in (data / kind).iterdir()} for kind in KINDS}


def content(data: Path) -> dict[str, bytes]:
    """Every file but the database's own and the lock."""
    return {
        str(path.relative_to(data)): path.read_bytes()
        for path in sorted(data.rglob("*"))
        if path.is_file() and not path.name.startswith(("fitserve.db", "fitserve.lock"))
    }


def refused(data: Path, *words: str, url: str | None = None) -> None:
    """It is not opened, says why with the remedies, and everything is as it was."""
    before = content(data)
    settings = load_settings(data_dir=data, database_url=url)
    with pytest.raises(ConfigurationError) as error, own_data(settings, "test"):
        pass
    for word in (*words, "fitserve restore", "fitserve adopt", "Nothing was changed"):
        assert word in error.value.detail
    assert content(data) == before


@contextmanager
def kept(data: Path, url: str | None = None) -> Iterator[Context]:
    """A house as a server opens it: paired, swept, and with nobody who asks."""
    settings = load_settings(data_dir=data, database_url=url)
    with own_data(settings, "test") as (storage, database):
        parsers = Parsers(settings.parse_memory_bytes, settings.parse_seconds)
        context = Context(settings, storage, database, parsers)
        Housekeeper(context).start()
        yield context
        context.closed.set()
        parsers.close()


def models(context: Context) -> int:
    return health.counts(context)[1]["models"]


def line(context: Context, name: str = "points") -> None:
    """A dataset."""
    points = [i / 50 for i in range(50)]
    table = json_rows.from_columns({"x": points, "y": points}, {})
    creation.create(context, table, creation.Naming(name))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a dataset, a model and checkpoints, stopped."""
    data = tmp_path_factory.mktemp("filled") / "data"
    with Server(data) as server:
        server.line()
        server.train(**LINE_JOB)
    put_down(data)
    return data


@pytest.fixture
def data(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "data"))


# ---------------------------------------------------------------- databases that are not the one


def test_an_empty_database_beside_a_full_directory_deletes_nothing(data: Path) -> None:
    os.truncate(data / DATABASE, 0)
    before = content(data)
    done = forked("serve", "--port", "0", "--data-dir", str(data))
    assert done.returncode == EX_CONFIG, done.stderr
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("fitserve: ")]
    assert "new or empty" in line
    assert "3 artifacts" in line
    done = forked("fsck", "--data-dir", str(data))
    assert done.returncode == EX_CONFIG
    assert "new or empty" in done.stderr
    assert "fitserve migrate" not in done.stderr
    assert content(data) == before
    assert (data / DATABASE).stat().st_size == 0


def test_nor_does_one_that_is_gone(data: Path) -> None:
    for path in data.glob(f"{DATABASE}*"):
        path.unlink()
    refused(data, "new or empty")
    assert not (data / DATABASE).exists()


def test_nor_one_with_tables_and_no_rows(data: Path, tmp_path: Path) -> None:
    for path in data.glob(f"{DATABASE}*"):
        path.unlink()
    database = Database(data / DATABASE)
    migrate.upgrade(database)
    database.close()
    refused(data, "has never met this directory", "0 datasets and models have a row, 2 have none")


def test_nor_the_database_of_another_directory(data: Path, tmp_path: Path) -> None:
    with kept(tmp_path / "other") as context:
        line(context)
    put_down(tmp_path / "other")
    for path in data.glob(f"{DATABASE}*"):
        path.unlink()
    shutil.copy(tmp_path / "other" / DATABASE, data / DATABASE)
    refused(data, "belongs to another data directory")


def test_nor_an_older_copy_of_its_own(data: Path, tmp_path: Path) -> None:
    shutil.copy(data / DATABASE, tmp_path / "yesterday")
    with kept(data) as context:
        line(context)
    for path in data.glob(f"{DATABASE}*"):
        path.unlink()
    shutil.copy(tmp_path / "yesterday", data / DATABASE)
    refused(data, "older than the directory")


def test_nor_an_older_copy_where_the_mark_is_gone(data: Path, tmp_path: Path) -> None:
    shutil.copy(data / DATABASE, tmp_path / "yesterday")
    with kept(data) as context:
        line(context)
    for path in [*data.glob(f"{DATABASE}*"), data / "identity.json"]:
        path.unlink()
    shutil.copy(tmp_path / "yesterday", data / DATABASE)
    refused(data, "may be an older copy", "1 have none")


def test_a_mark_that_is_gone_is_written_anew_and_nothing_is_swept_then(data: Path) -> None:
    stray = data / "checkpoints" / new_id("ckpt")
    stray.mkdir()
    (data / "identity.json").unlink()
    with kept(data):
        pass
    assert stray.exists(), "not at first sight"
    with kept(data):
        pass
    assert not stray.exists()


def test_nor_is_a_full_database_started_without_its_artifacts(data: Path) -> None:
    for kind in KINDS:
        shutil.rmtree(data / kind)
    (data / "identity.json").unlink()
    refused(data, "its artifacts are away", "2 rows have no artifact")


def test_a_folder_that_is_empty_is_said_and_nothing_is_lost(data: Path) -> None:
    (data / "datasets").rename(data / "elsewhere")
    with Server(data) as server:
        assert server.logged("artifacts are away")
        assert server.client.get("/v1/datasets/line/rows").status_code == 503
        server.terminate()
    (data / "datasets").rmdir()
    (data / "elsewhere").rename(data / "datasets")
    with Server(data) as server:
        server.ok("GET", "/v1/datasets/line/rows")
        assert server.logged("/v1/datasets/line/rows")
        assert not server.logged("artifacts are away", seconds=0)
        server.terminate()


def test_a_mark_that_cannot_be_read_is_said(data: Path) -> None:
    (data / "identity.json").write_bytes(b"\0" * 40)
    done = forked("serve", "--port", "0", "--data-dir", str(data))
    assert done.returncode == EX_CONFIG
    assert "identity.json cannot be read" in done.stderr


def test_fsck_says_so_too_and_gives_no_wrong_advice(data: Path, tmp_path: Path) -> None:
    with kept(tmp_path / "other") as context:
        line(context)
    put_down(tmp_path / "other")
    for path in data.glob(f"{DATABASE}*"):
        path.unlink()
    shutil.copy(tmp_path / "other" / DATABASE, data / DATABASE)
    done = forked("fsck", "--data-dir", str(data))
    assert done.returncode == 1
    assert "belongs to another data directory" in done.stdout
    assert "leave it until the database is the right one" in done.stdout
    assert "nothing to do" not in done.stdout


# ---------------------------------------------------------------- the ways out


def test_adopt_keeps_the_database_and_quarantines_the_rest_for_a_day(data: Path) -> None:
    before = artifacts(data)
    os.truncate(data / DATABASE, 0)
    done = forked("adopt", "--data-dir", str(data))
    assert done.returncode == 0, done.stderr
    assert "2 have none" in done.stdout
    assert artifacts(data) == before
    with kept(data) as context:
        assert models(context) == 0
    assert not any(artifacts(data).values())
    sweeps = list((data / "quarantine").iterdir())
    for kind, names in before.items():
        there = {path.name for sweep in sweeps for path in sweep.glob(f"{kind}/*")}
        assert there == names
    with kept(data):
        pass
    assert set((data / "quarantine").iterdir()) == set(sweeps), "not yet a day old"
    for sweep in sweeps:
        for path in (sweep, *sweep.iterdir()):
            os.utime(path, (time.time() - 25 * 3600,) * 2)
    with kept(data):
        pass
    assert not list((data / "quarantine").iterdir())


def test_what_was_quarantined_can_be_put_back(data: Path, tmp_path: Path) -> None:
    settings = load_settings(data_dir=data)
    shutil.copy(data / DATABASE, tmp_path / "right")
    os.truncate(data / DATABASE, 0)
    maintenance.adopt(settings)
    with kept(data):
        pass
    for path in data.glob(f"{DATABASE}*"):
        path.unlink()
    shutil.copy(tmp_path / "right", data / DATABASE)
    for path in (data / "quarantine").glob("*/*/*"):
        path.rename(data / path.parent.name / path.name)
    maintenance.adopt(settings)
    with kept(data) as context:
        assert models(context) == 1
    assert maintenance.fsck(settings)


def test_a_backup_and_a_restored_house_are_others_and_work(data: Path, tmp_path: Path) -> None:
    saved, restored = tmp_path / "backup", tmp_path / "restored"
    assert maintenance.backup(load_settings(data_dir=data), saved)
    assert maintenance.restore(load_settings(data_dir=restored), saved)
    marks = {(folder / "identity.json").read_text() for folder in (data, saved, restored)}
    assert len(marks) == 3
    for folder in (saved, restored):
        for _ in range(2):
            with kept(folder) as context:
                assert models(context) == 1
        assert artifacts(folder) == artifacts(data)
        assert not list((folder / "quarantine").iterdir())
    put_down(saved)
    for path in data.glob(f"{DATABASE}*"):
        path.unlink()
    shutil.copy(saved / DATABASE, data / DATABASE)
    refused(data, "another data directory")


# ---------------------------------------------------------------- houses of an older fitserve


def forget_identity(data: Path) -> None:
    """As an older fitserve left it, whose database and directory had none."""
    (data / "identity.json").unlink()
    with sqlite3.connect(data / DATABASE) as connection:
        connection.execute("DELETE FROM identity")
    connection.close()


def test_an_older_house_is_adopted_where_rows_and_artifacts_agree(data: Path) -> None:
    before = artifacts(data)
    forget_identity(data)
    of_a_crash = new_id("mdl")
    shutil.copytree(data / "models" / min(before["models"]), data / "models" / of_a_crash)
    with kept(data):
        pass
    assert artifacts(data)["models"] == before["models"] | {of_a_crash}, "not at first sight"
    with kept(data):
        pass
    assert artifacts(data) == before


def test_and_refused_where_they_do_not(data: Path) -> None:
    forget_identity(data)
    with sqlite3.connect(data / DATABASE) as connection:
        connection.execute("DELETE FROM datasets")
    connection.close()
    for i in range(9):
        shutil.copytree(min((data / "datasets").iterdir()), data / "datasets" / f"ds_{i}")
    refused(data, "do not agree", "1 datasets and models have a row, 10 have none")


def test_stray_files_are_no_artifacts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "datasets" / "notes").mkdir(parents=True)
    (data / "readme").write_text("mine")
    with kept(data) as context:
        line(context)
    assert (data / "datasets" / "notes").is_dir()


def test_a_full_disk_keeps_nobody_from_starting(tmp_path: Path, filled: Path) -> None:
    with mounted(tmp_path, megabytes=12) as disk:
        data = Path(shutil.copytree(filled, disk / "data"))
        with kept(data):
            pass
        put_down(data)
        with (disk / "filler").open("wb") as file:
            file.write(bytes(shutil.disk_usage(disk).free - LITTLE_ROOM_BYTES))
        with Server(data) as server:
            assert len(server.ok("GET", "/v1/models")["data"]) == 1
            server.kill()
        (disk / "filler").unlink()
        with kept(data) as context:
            assert models(context) == 1


# ---------------------------------------------------------------- on Postgres


def test_two_postgres_databases_cannot_share_a_directory(
    tmp_path: Path, postgres: Postgres
) -> None:
    data, url, other = tmp_path / "data", postgres.database(), postgres.database()
    with kept(data, url) as context:
        line(context)
        refused(data, "new or empty", url=other)
    refused(data, "new or empty", url=other)
    with kept(tmp_path / "its own", other) as context:
        line(context)
    refused(data, "another data directory", url=other)
    refused(tmp_path / "its own", "another data directory", url=url)
    with kept(data, url) as context:
        assert health.counts(context)[1]["datasets"] == 1
    postgres.drop(url)
    postgres.drop(other)


def test_several_that_start_at_once_migrate_once_and_agree(
    tmp_path: Path, postgres: Postgres
) -> None:
    url = postgres.database()
    migrate = ("migrate", "--data-dir", str(tmp_path / "data"))
    with ThreadPoolExecutor(4) as pool:
        starts = [pool.submit(forked, *migrate, FITSERVE_DATABASE_URL=url) for _ in range(4)]
    assert [start.result().returncode for start in starts] == [0] * 4
    assert forked(*migrate, FITSERVE_DATABASE_URL=url).returncode == 0
    postgres.drop(url)


# ---------------------------------------------------------------- damaged files


def test_a_zeroed_page_is_refused_or_holds_nothing(filled: Path, tmp_path: Path) -> None:
    whole = (filled / DATABASE).read_bytes()
    with sqlite3.connect(filled / DATABASE) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    everything = rows(filled / DATABASE)
    pages = range(0, len(whole) // size, rounds(4, 1))
    unnoticed = []
    for page in pages:
        data = tmp_path / str(page)
        data.mkdir()
        shutil.copy(filled / "identity.json", data)
        for kind in KINDS:
            shutil.copytree(filled / kind, data / kind)
        damaged = whole[: page * size] + bytes(size) + whole[(page + 1) * size :]
        (data / DATABASE).write_bytes(damaged)
        try:
            with own_data(load_settings(data_dir=data), "test"):
                pass
        except ConfigurationError:
            continue
        unnoticed.append(page)
        assert rows(data / DATABASE) == everything, f"page {page}"
    refusals = len(pages) - len(unnoticed)
    print(f"{refusals} of {len(pages)} zeroed pages refused; the others held no row")
    assert len(unnoticed) < len(pages) / 2


def test_the_end_of_a_long_value_that_was_zeroed_is_refused(filled: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(filled, tmp_path / "data"))
    with sqlite3.connect(data / DATABASE) as connection:
        warnings = json.dumps([f"warning {i:04}" for i in range(2000)])
        connection.execute("UPDATE datasets SET warnings = ?", (warnings,))
    connection.close()
    put_down(data)
    whole = (data / DATABASE).read_bytes()
    page = whole.index(b"warning 1999") // 4096
    damaged = whole[: page * 4096] + bytes(4096) + whole[(page + 1) * 4096 :]
    (data / DATABASE).write_bytes(damaged)
    assert "row 1 of datasets lost a part of its warnings" in (
        quick_check(data / DATABASE, 60) or []
    )
    with (
        pytest.raises(ConfigurationError, match="damaged"),
        own_data(load_settings(data_dir=data), "test"),
    ):
        pass
    report = forked("fsck", "--data-dir", str(data))
    assert "lost a part of its warnings" in report.stdout + report.stderr


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row but the identity's, whose generation rises with each start."""
    with sqlite3.connect(path) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
        found = {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for (name,) in names
            if name not in ("identity", "alembic_version")
        }
    connection.close()
    return found


def test_the_check_is_bounded_in_time(filled: Path) -> None:
    assert quick_check(filled / DATABASE, 60) == []
    assert quick_check(filled / DATABASE, -1) in (None, [])  # too small to be interrupted, or not
