"""Putting the house together: one process that answers HTTP and trains in children."""

import asyncio
import os
import resource
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import NoReturn, Self

import uvicorn
from sqlalchemy import func, select

from app import ids, logs
from app.api.app import create_app
from app.api.http.connection import Connection, close_slow
from app.db import migrate
from app.db.integrity import quick_check
from app.db.lock import lock_data_dir
from app.db.models import Dataset, Job, ModelVersion
from app.db.session import Database
from app.errors import ConfigurationError, NotFound, ServiceError
from app.executors.local import LocalExecutor
from app.executors.parsers import Parsers
from app.executors.plotters import Plotters
from app.maintenance.housekeeper import Housekeeper
from app.runtime import health, identity
from app.runtime.context import Context
from app.runtime.signals import Signals
from app.services.models import versions
from app.settings import Settings, unknown_settings
from app.storage import Storage
from app.worker.slots import Worker

_DRAIN_SECONDS = 2
"""How long uvicorn waits for open requests once it has been told to stop."""
_CHECK_SECONDS = 5.0
"""How long a SQLite file is checked at the start."""
_WORKER_SECONDS = 4.5
"""How long running jobs may take to write a checkpoint and stop."""
_NOTICE_SECONDS = 1.0
"""How long requests are still answered after SIGTERM, so that a balancer sees /readyz turn."""
_LAST_RESORT_SECONDS = 6.8
"""After SIGTERM; then the process ends whatever still holds it."""
_PLOTTERS_SECONDS = 10.0
"""After the start, when matplotlib is imported: somebody may want a plot soon."""
_OPEN_FILES = 65_536
"""Most of them are connections; many systems allow 1,024 unless asked."""
_BACKLOG = 2048
"""Connections that wait until they are accepted; as uvicorn has it."""
_LOG_SECONDS = 0.5
"""How long the last lines of the log may take."""

log = logs.get("serve")


@contextmanager
def own_data(settings: Settings, holder: str) -> Iterator[tuple[Storage, Database]]:
    """Open the data directory, made where it is missing and locked, and the database, migrated.

    With Postgres several processes share the directory. Raises ConfigurationError where another
    process has it or the database is not ours.
    """
    shared = settings.postgres_url is not None
    with locked_data(settings, holder, shared=shared) as storage:
        if shared and storage.database_path.exists():  # its artifacts would be orphans to Postgres
            raise ConfigurationError(
                f"{storage.root} belongs to the SQLite database in it; give Postgres a "
                f"FITSERVE_DATA_DIR of its own and move everything there with `fitserve restore "
                f"{storage.root}`"
            )
        database = open_database(settings, storage)
        try:
            _require_undamaged(database)
            identity.refuse_empty_database(storage, database)
            migrate.upgrade(database)
            identity.pair(storage, database)
            _continue_ids(database)
            yield storage, database
        finally:
            database.close()


def _continue_ids(database: Database) -> None:
    """Have new ids sort after all there are: lists and the queue go by them, not by the clock,
    which somebody may have set back."""
    with database.read() as session:
        newest = [session.scalar(select(func.max(row.id))) for row in (Dataset, Job, ModelVersion)]
    ids.continue_after(*filter(None, newest))


def _require_undamaged(database: Database) -> None:
    """Raise ConfigurationError for a damaged SQLite file, as far as a few seconds tell."""
    if database.path is None or not database.path.exists():
        return
    faults = quick_check(database.path, _CHECK_SECONDS)
    if faults is None:
        log.warning("the database could not be checked in a few seconds; `fitserve fsck` does it")
    elif faults:
        raise ConfigurationError(
            f"{database} is damaged: {faults[0]}; restore a backup into a new directory "
            "(fitserve restore BACKUP --data-dir NEW); `fitserve fsck` tells more"
        )


@contextmanager
def locked_data(settings: Settings, holder: str, *, shared: bool) -> Iterator[Storage]:
    """Open the data directory, made where it is missing and locked.

    Raises ConfigurationError where that cannot be done, or a part of it cannot be used.
    """
    storage = Storage(settings.data_dir)
    try:
        storage.prepare()
        if fault := storage.fault():
            raise ConfigurationError(f"cannot use {settings.data_dir}: {fault}")
        lock = lock_data_dir(storage.lock_path, holder, shared=shared)
    except (OSError, ServiceError) as error:
        reason = error.detail if isinstance(error, ServiceError) else error.strerror
        raise ConfigurationError(f"cannot use {settings.data_dir}: {reason}") from error
    with lock:
        yield storage


def open_database(settings: Settings, storage: Storage, *, frozen: bool = False) -> Database:
    """Open the Postgres that the settings name, else the SQLite file in the data directory.

    Raises ConfigurationError where the driver for Postgres is not installed.
    """
    try:
        return Database(settings.postgres_url or storage.database_path, frozen=frozen)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Postgres needs {error.name}: pip install 'fitserve[postgres]'"
        ) from error


class _Server(uvicorn.Server):
    """uvicorn with a stop that reaches the worker at once: its own shutdown hook runs only after
    open requests have ended, and some of them wait for jobs.

    After SIGTERM it still answers (503 to /readyz and to new jobs) until running jobs are
    released, at least for ``_NOTICE_SECONDS``; Ctrl-C does not wait.
    """

    def __init__(
        self, config: uvicorn.Config, context: Context, release: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._context = context
        self._release = release

    async def on_tick(self, counter: int) -> bool:
        """Look at all connections once a second, and ten times whether it is time to end."""
        if counter % 10 == 0:
            close_slow(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop on a first signal; end at once on a second."""
        if self._context.stopping.is_set():
            os._exit(128 + sig)  # asked twice: everything durable has been committed
        self._context.stopping.set()
        # not from inside the handler: it may have interrupted a thread that holds the same lock
        notice = 0.0 if sig == signal.SIGINT else _NOTICE_SECONDS
        threading.Thread(target=self._wind_down, args=[notice], daemon=True).start()
        last_resort = threading.Timer(_LAST_RESORT_SECONDS, _end)  # a thread may be busy
        last_resort.daemon = True
        last_resort.start()

    def _wind_down(self, notice: float) -> None:
        self._context.signals.wake_all()
        until = time.monotonic() + notice
        self._release()
        time.sleep(max(0.0, until - time.monotonic()))
        # not uvicorn's own handler: it would raise the signal again before we have put things away
        self.should_exit = True


def run(settings: Settings) -> NoReturn:
    """Serve until SIGTERM or SIGINT, then end the process with code 0.

    Raises ConfigurationError before anything is touched.
    """
    settings.require_safe_host()
    if not settings.max_parallel_jobs and settings.postgres_url is None:
        raise ConfigurationError(
            "FITSERVE_MAX_PARALLEL_JOBS: 0 leaves training to `fitserve worker`, which needs "
            "Postgres (FITSERVE_DATABASE_URL)"
        )
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(settings))
        port = listener.getsockname()[1]
        where = (
            f"http://[{settings.host}]:{port}"
            if ":" in settings.host
            else (f"http://{settings.host}:{port}")
        )
        house = stack.enter_context(_Process(settings, f"fitserve, process {os.getpid()}, {where}"))
        config = uvicorn.Config(
            create_app(house.context, house.worker_alive),
            http=Connection,
            timeout_keep_alive=settings.keep_alive,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            server_header=False,
        )
        tempfile.tempdir = str(house.context.storage.scratch)  # forms are spooled there
        house.start()
        threading.Thread(target=_import_torch, args=[house.context], daemon=True).start()
        threading.Thread(target=house.context.parsers.prepare, daemon=True).start()
        soon = threading.Timer(_PLOTTERS_SECONDS, house.context.plotters.prepare)
        soon.daemon = True
        soon.start()
        _allow_open_files()
        _warn_without_default_model(house.context)
        listener.listen(_BACKLOG)  # who reads the next line may connect at once
        log.info("listening", url=where, data=str(house.context.storage.root))
        _Server(config, house.context, house.release).run(sockets=[listener])
    # All is put away. The interpreter's own end would take torch apart, for seconds on a busy
    # machine, and with it the timer that promises an end.
    _end()


def _allow_open_files() -> None:
    """Allow as many open files, connections among them, as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _end() -> NoReturn:
    logs.flush(_LOG_SECONDS)
    os._exit(0)


def work(settings: Settings) -> None:
    """Train what others queue in a Postgres, until SIGTERM or SIGINT. Raises ConfigurationError."""
    if settings.postgres_url is None:
        raise ConfigurationError(
            "a worker of its own needs Postgres: set FITSERVE_DATABASE_URL; with SQLite "
            "`fitserve serve` trains by itself"
        )
    if not settings.max_parallel_jobs:
        raise ConfigurationError("FITSERVE_MAX_PARALLEL_JOBS: a worker wants 1 or more")
    with _Process(settings, f"fitserve worker, process {os.getpid()}") as house:
        stopping = house.context.stopping

        def stop(number: int, _frame: FrameType | None) -> None:
            if stopping.is_set():
                os._exit(128 + number)
            # not from inside the handler, which has interrupted whoever waits for it
            threading.Thread(target=stopping.set, daemon=True).start()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        house.start()
        log.info("working", slots=settings.max_parallel_jobs, data=str(house.context.storage.root))
        while not stopping.wait(60):
            pass


class _Process:
    """What serving and working share: data, executor, worker and housekeeper of this process."""

    def __init__(self, settings: Settings, holder: str) -> None:
        logs.configure(settings.log_level, settings.log_format, requests=settings.access_log)
        for name, meant in unknown_settings().items():
            log.warning("unknown setting ignored", name=name, did_you_mean=meant)
        self._settings, self._holder = settings, holder
        self._stack = ExitStack()
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            executor = None
            if self._settings.max_parallel_jobs:
                executor = LocalExecutor()  # first: it imports torch while we do the rest
                stack.callback(executor.close)
            storage, database = stack.enter_context(own_data(self._settings, self._holder))
            stopping = threading.Event()
            settings = self._settings
            parsers = Parsers(settings.parse_memory_bytes, settings.parse_seconds, stopping.is_set)
            stack.callback(parsers.close)
            plotters = Plotters()
            stack.callback(plotters.close)
            signals = Signals()
            if settings.postgres_url is not None:
                from app.runtime.postgres_signals import PostgresSignals

                signals = postgres_signals = PostgresSignals(settings.postgres_url)
                postgres_signals.start()
                stack.callback(postgres_signals.close)
            self.context = Context(
                settings, storage, database, parsers, plotters, signals, stopping
            )
            self._housekeeper = Housekeeper(self.context)
            if executor is not None:
                self._worker = Worker(self.context, executor, self._housekeeper.lease)
            stack.callback(self.release)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Release and sweep what an earlier process left, then begin to train."""
        self._housekeeper.start()
        if self._worker is not None:
            self._worker.start()

    def release(self) -> None:
        """Stop training; running jobs go back to the queue. Safe to repeat."""
        self.context.stopping.set()
        if self._worker is not None and not self.context.closed.is_set():
            log.info("stopping; running jobs go back to the queue")
            self._worker.stop(_WORKER_SECONDS)
        self.context.closed.set()

    def worker_alive(self) -> bool:
        """Return whether jobs are run, or are none of this process's business."""
        return self._worker is None or self._worker.alive()


def _listen(settings: Settings) -> socket.socket:
    """Bind before anything else, so that a taken port is said in one line.

    Raises ConfigurationError.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "choose another --port (or FITSERVE_PORT)"
        ) from error
    return listener


def _warn_without_default_model(context: Context) -> None:
    """Warn where the default model does not exist: it may yet be trained, or its name is wrong."""
    ref = context.settings.default_model
    if ref is not None:
        try:
            with context.database.read() as session:
                versions.find(session, ref)
        except (NotFound, ServiceError) as error:
            log.warning("FITSERVE_DEFAULT_MODEL cannot answer yet", why=error.detail)


def _import_torch(context: Context) -> None:
    """Import torch before the first prediction needs it; an empty server does without it."""
    mark = context.signals.queue_mark
    _, stored = health.counts(context)
    if not stored["models"]:
        context.signals.wait_queued(mark, None)  # the first job: soon there will be a model
    if context.stopping.is_set():
        return
    import torch

    torch.set_num_threads(1)
    from app.ml.inference import predictor

    assert predictor
