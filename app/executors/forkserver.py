"""A process that has imported what children need, and forks one on request.

Forking from a small single-threaded process is safe where forking from a server full of threads
is not, and gives a child with torch imported in milliseconds. The fork server only imports and
forks; whatever a child does, it does to itself.

Ends: the fork server exits when its socket closes, which is when its parent ends however it ends;
a child is killed by the kernel when the fork server ends (parent-death signal).

Protocol over a Unix socket: ``fork`` + a descriptor → the child's pid; ``reap <pid>`` → its wait
status. A child stays a zombie, and its pid its own, until it is reaped.
"""

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import app

_PR_SET_PDEATHSIG = 1  # of prctl(2)
_OOM_SCORE = "500"  # of 1000: where memory runs out, the kernel kills a child before its server
_READY = b"ready"


class ForkServer:
    """The parent's side. ``module`` is imported by the fork server and its ``run(connection)`` is
    what every child does, so much lower in priority."""

    def __init__(self, module: str, niceness: int) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = self._launch(module, niceness, theirs.fileno())
        self._ready = False

    def fork(self) -> "Child":
        """Return a new child; each after the first takes about 5 ms.

        Raises ConnectionError where the fork server is gone.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._lock, self._ended_if_gone():
                self._wait_until_ready()
                socket.send_fds(self._socket, [b"fork"], [theirs.fileno()])
                pid = int(self._answer())
        except OSError:
            ours.close()
            raise
        return Child(self, pid, Connection(ours.detach()))

    def reap(self, pid: int) -> int:
        """Return the wait status of a child that has ended or is about to.

        Raises ConnectionError where the fork server is gone.
        """
        with self._lock, self._ended_if_gone():
            self._socket.sendall(f"reap {pid}".encode())
            return int(self._answer())

    def alive(self) -> bool:
        """Return whether the fork server runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the fork server, and with it every child; whoever waits for it gets an OSError."""
        self._process.kill()
        self._process.wait()
        self._socket.close()

    @contextlib.contextmanager
    def _ended_if_gone(self) -> Iterator[None]:
        """Have ``alive`` say at once that a fork server has ended that no longer answers: it may
        take the kernel a while."""
        try:
            yield
        except ConnectionError:
            self._process.kill()
            self._process.wait()
            raise

    def _launch(self, module: str, niceness: int, descriptor: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            # -P: nothing is imported from the directory we happen to be started in
            [sys.executable, "-P", "-m", __name__, module, str(niceness), str(descriptor)],
            pass_fds=[descriptor],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(app.__file__).parents[1]),
                "OPENBLAS_NUM_THREADS": "1",  # or numpy starts threads at import
            },
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is the server's to handle
        )

    def _wait_until_ready(self) -> None:
        if not self._ready:
            self._ready = self._answer() == _READY

    def _answer(self) -> bytes:
        answer = self._socket.recv(64)
        if not answer:
            raise ConnectionError("the fork server has ended")
        return answer


class Child:
    """A forked process and the pipe to it."""

    def __init__(self, server: ForkServer, pid: int, connection: Connection) -> None:
        self._server = server
        self._status: int | None = None
        self.pid = pid
        self.connection = connection

    def kill(self) -> None:
        """End it at once; safe to repeat, since an unreaped pid stays its own.

        That holds while its fork server lives, with which the kernel ends it.
        """
        if self._status is None and self._server.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Wait for its end and return the exit code (negative: the signal that ended it)."""
        if self._status is None:
            self.connection.close()
            self._status = os.waitstatus_to_exitcode(self._server.reap(self.pid))
        return self._status


# ---------------------------------------------------------------- the fork server's own side


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(module: str, niceness: int, descriptor: int) -> None:
    """Be the fork server until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    _serve(module, niceness, descriptor)


def _serve(module: str, niceness: int, descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as requests:
        work = importlib.import_module(module)
        if hasattr(work, "warm_up"):
            work.warm_up()
        try:
            requests.sendall(_READY)
        except ConnectionError:  # the parent was killed while we imported
            return
        while True:
            # answers are single messages and requests wait for them, so one recv is one request
            request, passed, _, _ = socket.recv_fds(requests, 64, 1)
            if not request:
                return
            if request == b"fork":
                pid = _fork(work, niceness, requests, passed[0])
                os.close(passed[0])
                requests.sendall(str(pid).encode())
            else:
                _, status = os.waitpid(int(request.split()[1]), 0)
                requests.sendall(str(status).encode())


def _fork(work: object, niceness: int, requests: socket.socket, descriptor: int) -> int:
    server = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _die_with_parent()
        if os.getppid() != server:  # it ended before the signal was set
            os._exit(1)
        requests.close()
        os.nice(niceness)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write(_OOM_SCORE)
        with Connection(descriptor) as connection:
            work.run(connection)  # type: ignore[attr-defined]
        code = 0
    finally:
        with contextlib.suppress(OSError):  # a log on a full disk
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
