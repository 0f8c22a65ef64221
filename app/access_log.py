"""The line that each request leaves, at the cost of an append: a thread writes them, many at once.

It stands in the log like every other line; the thread writes a twentieth of a second later at most,
and what is left when the process is told to end. Only a process that is killed loses lines.
"""

import sys
import threading
import time
from collections import deque
from contextlib import suppress

import orjson

_WAIT_SECONDS = 0.05
_MOST_LINES = 100_000
"""That wait where standard error takes none; beyond them the oldest go, and are counted."""
_Line = tuple[float, str, str, int, float, str]


class AccessLog:
    """Collects request lines; ``style`` is ``console`` or ``json`` as of the other logs."""

    def __init__(self, style: str) -> None:
        self._as_json = style == "json"
        self._lines: deque[_Line] = deque(maxlen=_MOST_LINES)
        self._lost = 0
        self._writing = threading.Lock()
        self._some = threading.Event()
        self._idle = True
        threading.Thread(target=self._write_on, name="access log", daemon=True).start()

    def add(self, method: str, path: str, status: int, seconds: float, request_id: str) -> None:
        """Note a request that was answered just now after ``seconds``."""
        if len(self._lines) == _MOST_LINES:
            self._lost += 1
        self._lines.append((time.time(), method, path, status, seconds, request_id))
        if self._idle:
            self._idle = False
            self._some.set()

    def flush(self) -> None:
        """Write what has been noted."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            lost, self._lost = self._lost, 0
            render = _json if self._as_json else _console
            text = "".join(map(render, lines))
            if lost:
                text += f"{lost} lines of requests were lost: they came faster than they are read\n"
            with suppress(OSError, ValueError):  # a log on a full disk
                sys.stderr.write(text)
                sys.stderr.flush()

    def _write_on(self) -> None:
        while True:
            self._some.wait()
            self._some.clear()
            time.sleep(_WAIT_SECONDS)
            self._idle = True  # before the lines are taken: who comes now wakes us again
            self.flush()


def _moment(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}Z"


def _console(line: _Line) -> str:
    at, method, path, status, seconds, request_id = line
    written = path if path.isprintable() and " " not in path else repr(path)
    return (
        f"{_moment(at)} [info     ] request                        [http] method={method} "
        f"ms={seconds * 1000:.2f} path={written} request_id={request_id} status={status}\n"
    )


def _json(line: _Line) -> str:
    at, method, path, status, seconds, request_id = line
    fields = {
        "method": method,
        "path": path.encode("utf-8", "replace").decode(),
        "status": status,
        "ms": round(seconds * 1000, 2),
        "event": "request",
        "request_id": request_id,
        "level": "info",
        "logger": "http",
        "timestamp": _moment(at),
    }
    return orjson.dumps(fields).decode() + "\n"
