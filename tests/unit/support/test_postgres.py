"""The Postgres that tests start is what they take it for, and goes when they end."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import Connection, NullPool, create_engine, text

from tests.support import postgres as module
from tests.support.postgres import Postgres, find_programs
from tests.support.server import PATIENCE


def connect(url: str) -> Connection:
    return create_engine(url, poolclass=NullPool).connect()


def test_each_database_is_new_and_utf8(postgres: Postgres) -> None:
    first, second = postgres.database(), postgres.database()
    assert first != second
    with connect(first) as one, connect(second) as other:
        one.execute(text("CREATE TABLE here (word text)"))
        one.execute(text("INSERT INTO here VALUES ('Größe 大')"))
        assert one.execute(text("SELECT word FROM here")).scalar_one() == "Größe 大"
        assert one.execute(text("SHOW server_encoding")).scalar_one() == "UTF8"
        assert other.execute(text("SELECT to_regclass('here')")).scalar_one() is None
    postgres.drop(first)
    postgres.drop(second)


def test_a_database_in_use_can_be_dropped(postgres: Postgres) -> None:
    url = postgres.database()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        postgres.drop(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url.replace("+psycopg", ""))


def test_it_listens_on_loopback_only(postgres: Postgres) -> None:
    url = postgres.database()
    with connect(url) as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        server = psutil.Process(pid).parent()
        assert server is not None
        listening = [c.laddr for c in server.net_connections("inet") if c.status == "LISTEN"]
        assert listening == [("127.0.0.1", postgres.port)]
        assert server.net_connections("unix") == []
    postgres.drop(url)


def test_it_goes_with_its_folder_when_its_parent_is_killed() -> None:
    script = (
        "import time; from tests.support.postgres import Postgres\n"
        "with Postgres() as postgres: print(postgres.folder, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as parent:
        assert parent.stdout is not None
        folder = Path(parent.stdout.readline().decode().strip())
        assert (folder / "data").is_dir()
        started = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(started, timeout=PATIENCE)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    deadline = time.monotonic() + PATIENCE
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not folder.exists()


def test_without_a_server_it_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PG_BIN", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="PG_BIN"):
        find_programs()
    monkeypatch.delenv("PG_BIN")
    for place in ("_debian", "_wheel", "_on_path"):
        monkeypatch.setattr(module, place, list)
    with pytest.raises(FileNotFoundError, match="make setup"):
        find_programs()
