"""Putting the house together: one process that answers HTTP and trains in children."""

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import uvicorn

from app import logs
from app.api.app import create_app
from app.db import migrate
from app.db.session import Database, lock_data_dir
from app.errors import ConfigurationError, ServiceError
from app.executors.local import LocalExecutor
from app.executors.parsers import Parsers
from app.services import health
from app.services.context import Context
from app.settings import Settings, unknown_settings
from app.storage import Storage
from app.worker import Worker

_DRAIN_SECONDS = 2
_WORKER_SECONDS = 4.5
_LAST_RESORT_SECONDS = 6.8

log = logs.get("serve")


@contextmanager
def own_data(settings: Settings, holder: str) -> Iterator[tuple[Storage, Database]]:
    """The data directory, made where it is missing, locked, its database migrated.

    Raises ConfigurationError where another process has it or its schema is not ours.
    """
    storage = Storage(settings.data_dir)
    try:
        storage.prepare()
        lock = lock_data_dir(storage.lock_path, holder)
    except (OSError, ServiceError) as error:
        said = error.detail if isinstance(error, ServiceError) else error.strerror
        raise ConfigurationError(f"cannot use {settings.data_dir}: {said}") from error
    with lock:
        database = Database(storage.database_path)
        try:
            migrate.upgrade(database)
            yield storage, database
        finally:
            database.close()


class _Server(uvicorn.Server):
    """uvicorn, which tells the house at once that it is to stop: its own shutdown hook runs only
    after open requests have ended, and some of them wait for jobs."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._context.stopping.is_set():
            os._exit(128 + sig)  # asked twice: everything durable has been committed
        self._context.stopping.set()
        # not from inside the handler: it may have interrupted a thread that holds the same lock
        threading.Thread(target=self._context.signals.wake_all, daemon=True).start()
        last_resort = threading.Timer(_LAST_RESORT_SECONDS, os._exit, [0])  # a thread may be busy
        last_resort.daemon = True
        last_resort.start()
        # not uvicorn's own handler: it would raise the signal again before we have put things away
        self.should_exit = True


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigurationError before anything is touched."""
    settings.require_safe_host()
    logs.configure(settings.log_level, settings.log_format)
    for name in unknown_settings():
        log.warning("unknown setting ignored", name=name)
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(settings))
        port = listener.getsockname()[1]
        where = (
            f"http://[{settings.host}]:{port}"
            if ":" in settings.host
            else (f"http://{settings.host}:{port}")
        )
        holder = f"fitserve, process {os.getpid()}, {where}"
        executor = LocalExecutor()  # first: it imports torch while we do the rest
        stack.callback(executor.close)
        storage, database = stack.enter_context(own_data(settings, holder))
        tempfile.tempdir = str(storage.scratch)  # forms are spooled beside what they become
        stopping = threading.Event()
        parsers = Parsers(settings.parse_memory_bytes, settings.parse_seconds, stopping.is_set)
        stack.callback(parsers.close)
        context = Context(settings, storage, database, parsers, stopping=stopping)
        worker = Worker(context, executor)
        config = uvicorn.Config(
            create_app(context, worker.alive),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            server_header=False,
        )
        worker.start()
        stack.callback(worker.stop, _WORKER_SECONDS)
        stack.callback(context.stopping.set)
        threading.Thread(target=_import_torch, args=[context], daemon=True).start()
        threading.Thread(target=parsers.prepare, daemon=True).start()
        log.info("listening", url=where, data=str(storage.root))
        _Server(config, context).run(sockets=[listener])
        log.info("stopping; running jobs go back to the queue")


def _listen(settings: Settings) -> socket.socket:
    """Bind before anything else, so that a taken port is said in one line."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "choose another --port"
        ) from error
    return listener


def _import_torch(context: Context) -> None:
    """So that the first prediction does not wait for it, and an empty server does without it."""
    mark = context.signals.queue_mark
    _, stored = health.counts(context)
    if not stored["models"]:
        context.signals.wait_queued(mark, None)  # the first job: soon there will be a model
    if context.stopping.is_set():
        return
    import torch

    torch.set_num_threads(1)
    from app.ml import predictor

    assert predictor
