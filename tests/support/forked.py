"""``fitserve`` processes forked from one that has imported everything.

A start costs 8.5 CPU seconds, nearly all of them imports of torch, scikit-learn and FastAPI, in the
server and again in its training fork server; forked it costs 1.2. From ``app.__main__.main`` on it
is the same. ``StartedServer`` starts an interpreter, as a user does.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from app.executors import forkserver
from app.executors.forkserver import ForkServer

_PRELOADED = (
    *("app.__main__", "app.cli.maintenance", "app.house", "app.db.engines", "psycopg"),
    *("app.ml.inference.predictor", "app.ml.plots"),
    *("app.api.app", "app.runtime.postgres_signals", "sqlalchemy.dialects.postgresql.psycopg"),
)


class Forked:
    """As much of ``subprocess.Popen`` as tests use; ``out`` and ``err`` are files to add to."""

    def __init__(
        self, command: Sequence[str], env: dict[str, str], cwd: Path, out: Path, err: Path
    ) -> None:
        self._child = _zygote().fork()
        start = [list(command), env, *map(str, (cwd, out, err))]
        self._child.connection.send_bytes(json.dumps(start).encode())
        self._ended = os.pidfd_open(self._child.pid)
        self.pid = self._child.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self.returncode if self._has_ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; raises TimeoutExpired."""
        if not self._has_ended(timeout):
            raise subprocess.TimeoutExpired("fitserve", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        self._child.kill()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _has_ended(self, timeout: float | None) -> bool:
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._ended, select.POLLIN)
            if not ended.poll(None if timeout is None else timeout * 1000):
                return False
            self.returncode = self._child.reap()
            os.close(self._ended)
        return True


_starter = ThreadPoolExecutor(1)
"""It dies with the *thread* that started it, so that one stays."""


@cache
def _zygote() -> ForkServer:
    return _starter.submit(ForkServer, __name__, 0).result()


# ---------------------------------------------------------------- the zygote's own side


def warm_up() -> None:
    """Import what a server and its training fork server would."""
    from app.executors import training

    for module in _PRELOADED:
        importlib.import_module(module)
    training.warm_up()


def run(connection: Connection) -> None:
    """Become the ``fitserve`` process that ``connection`` describes."""
    try:
        _become(*json.loads(connection.recv_bytes()))
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:
        traceback.print_exc()
        raise


def _become(command: list[str], env: dict[str, str], cwd: str, out: str, err: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["fitserve", *command]
    ForkServer._launch = _launch  # type: ignore[method-assign]
    from app import house
    from app.__main__ import main
    from app.executors import training
    from app.executors.parsers import Parsers

    # what is done ahead of time, so that the first job, file or plot need not wait for it
    training._rehearse = lambda: None
    Parsers.prepare = lambda self: None  # type: ignore[method-assign]
    house._PLOTTERS_SECONDS = 3600.0
    main()
    sys.stdout.flush()


_exec = ForkServer._launch


def _launch(self: ForkServer, module: str, niceness: int, descriptor: int) -> Any:
    """The training fork server, forked where that is safe: while there is one thread."""
    if module != "app.executors.training" or threading.active_count() > 1:
        return _exec(self, module, niceness, descriptor)
    pid = os.fork()
    if pid:
        return _Own(pid)
    try:
        os.setsid()
        os.closerange(3, descriptor)
        os.closerange(descriptor + 1, 1024)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        forkserver.main(module, niceness, descriptor)
    finally:
        os._exit(0)


class _Own:
    """A child of this process, as ForkServer uses it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
