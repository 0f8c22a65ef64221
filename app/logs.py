"""Structured logs on standard error; ``request_id`` and ``job_id`` ride on every line."""

import logging
import sys
from contextvars import ContextVar

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered, on each of its log lines."""


def _with_request_id(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Cheaper than structlog's own context variables, and every request has one."""
    known = request_id.get()
    if known is not None:
        event["request_id"] = known
    return event


def configure(level: str = "info", style: str = "console") -> None:
    """Send our logs and those of uvicorn and alembic through one formatter.

    ``style`` is ``console`` (for people) or ``json`` (one object a line).
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
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
    handler = logging.StreamHandler(sys.stderr)
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


def _console() -> Processor:
    # plain tracebacks: the pretty ones print local variables, secrets among them
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def get(name: str) -> FilteringBoundLogger:
    """Return the logger of one module."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def is_enabled(level: int) -> bool:
    """Return whether lines of a ``logging`` level are written: cheaper than to write in vain."""
    return logging.getLogger().isEnabledFor(level)
