"""Structured logs on standard error; ``request_id`` and ``job_id`` ride on every line."""

import logging
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

_BATCH_SECONDS = 0.05
"""How long a request's line may wait for others, to be written with them."""
_MOST_WAITING = 50_000
"""Lines of requests that wait where nobody reads the log; of more only the number is told."""

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered, on each of its log lines."""


class _Clock:
    """Writes the time as RFC 3339 with milliseconds; the seconds are written once for many."""

    def __init__(self) -> None:
        self._second: tuple[int, str] = (0, "")

    def now(self) -> str:
        """Return the time, such as ``2026-11-26T17:12:02.123Z``."""
        now = time.time()
        second, text = self._second
        if int(now) != second:
            second = int(now)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second, text  # both at once: several threads write
        return f"{text}.{int((now - second) * 1000):03d}Z"


_clock = _Clock()


def _with_time(_logger: object, _name: str, event: EventDict) -> EventDict:
    event["timestamp"] = _clock.now()
    return event


def _with_request_id(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Cheaper than structlog's own context variables, and every request has one."""
    known = request_id.get()
    if known is not None:
        event["request_id"] = known
    return event


class _Handler(logging.StreamHandler[TextIO]):
    """Writes at once what is logged; lines of requests are left to a thread, many at a time.

    ``logging.shutdown`` flushes it, and so writes what still waits.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._waiting: deque[str] = deque()
        self._left_out = 0
        self._some = threading.Event()
        self._writer: threading.Thread | None = None

    def later(self, line: str) -> None:
        """Take a line to be written soon; it costs a microsecond, whatever the disk does."""
        if len(self._waiting) >= _MOST_WAITING:
            self._left_out += 1
            return
        self._waiting.append(line)
        if not self._some.is_set():
            self._some.set()
            if self._writer is None:  # not before: processes are forked while there is one thread
                self._writer = threading.Thread(target=self._keep_writing, daemon=True)
                self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, after the lines that came before it."""
        with suppress(OSError):
            self._write_waiting()
        super().emit(record)

    def flush(self) -> None:
        """Write all lines that wait."""
        self.acquire()
        try:
            self._write_waiting()
            self.stream.flush()
        finally:
            self.release()

    def _write_waiting(self) -> None:
        lines = []
        with suppress(IndexError):
            while True:
                lines.append(self._waiting.popleft())
        if self._left_out:
            lines.append(f"{self._left_out} lines of requests left out: the log was not read\n")
            self._left_out = 0
        if lines:
            self.stream.write("".join(lines))

    def _keep_writing(self) -> None:
        while self._some.wait():
            time.sleep(_BATCH_SECONDS)
            self._some.clear()
            with suppress(OSError):  # a full disk; the next lines may find room
                self.flush()


class AccessLog:
    """One line for each request that was answered."""

    def __init__(self, handler: _Handler | None, *, as_json: bool) -> None:
        self._handler, self._as_json = handler, as_json

    def write(self, method: str, path: str, status: int, seconds: float, of: str) -> None:
        """Write the line of the request with the id ``of``, soon, and at the latest at the end."""
        if self._handler is not None:
            ms = round(seconds * 1000, 2)
            form = _json_line if self._as_json else _console_line
            self._handler.later(form(method, path[:200], status, ms, of))


def _console_line(method: str, path: str, status: int, ms: float, of: str) -> str:
    """Return it as structlog's console would."""
    if not path.isprintable() or " " in path:
        path = repr(path)
    return (
        f"{_clock.now()} [info     ] request                        [http] "
        f"method={method} path={path} status={status} ms={ms} request_id={of}\n"
    )


def _json_line(method: str, path: str, status: int, ms: float, of: str) -> str:
    fields = {"method": method, "path": path, "status": status, "ms": ms, "request_id": of}
    fields |= {"event": "request", "level": "info", "logger": "http", "timestamp": _clock.now()}
    return orjson.dumps(fields).decode() + "\n"


access = AccessLog(None, as_json=False)
"""Set by ``configure``."""


def configure(level: str = "info", style: str = "console", *, requests: bool = True) -> None:
    """Send our logs and those of uvicorn and alembic through one formatter.

    ``style`` is ``console`` (for people) or ``json`` (one object a line). Where ``requests`` is
    false, or the level above ``info``, those that are answered leave no line.
    """
    global access
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _with_time,
    ]
    renderer: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if style == "json"
        else [_console()]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("alembic").setLevel("WARNING")
    wanted = requests and root.isEnabledFor(logging.INFO)
    access = AccessLog(handler if wanted else None, as_json=style == "json")


def _console() -> Processor:
    # plain tracebacks: the pretty ones print local variables, secrets among them
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def get(name: str) -> FilteringBoundLogger:
    """Return the logger of one module."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def flush(seconds: float) -> None:
    """Write what still waits, unless that takes longer: who reads the log may be stuck."""
    writer = threading.Thread(target=logging.shutdown, daemon=True)
    writer.start()
    writer.join(seconds)
