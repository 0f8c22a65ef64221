"""Signals between processes that share a Postgres, by its LISTEN and NOTIFY.

Like every signal these are hints: one that is lost while the connection is away costs a little
time, never a result.
"""

import contextlib
import threading

import psycopg

from app import logs
from app.runtime.signals import Signals

_CHANNEL = "fitserve"
_QUEUE = "queue"
_MODELS = "models"
"""Payloads; any other is the id of a job."""
_LISTEN_SECONDS = 1.0
_RETRY_SECONDS = 2.0

log = logs.get("relay")


class PostgresSignals(Signals):
    """Signals that reach the other processes too, and that are heard from them, in a thread."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url.replace("+psycopg", "", 1)
        self._closed = threading.Event()
        self._sending = threading.Lock()
        self._sender: psycopg.Connection | None = None
        self._thread = threading.Thread(target=self._listen, name="relay", daemon=True)

    def start(self) -> None:
        """Begin to listen to the other processes."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening and sending; signals inside this process go on."""
        self._closed.set()
        self._thread.join(2 * _LISTEN_SECONDS)
        with self._sending:
            self._hang_up()

    def queued(self) -> None:
        """Wake the workers of every process."""
        super().queued()
        self._send(_QUEUE)

    def changed(self, job_id: str) -> None:
        """Wake those who wait for the job, in every process."""
        super().changed(job_id)
        self._send(job_id)

    def models_changed(self) -> None:
        """Make every process look references to models up again."""
        super().models_changed()
        self._send(_MODELS)

    def _send(self, word: str) -> None:
        if self._closed.is_set():
            return
        with self._sending:
            try:
                if self._sender is None:
                    self._sender = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
                self._sender.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, word))
            except psycopg.Error as error:
                log.debug("a signal was not passed on", error=str(error))
                self._hang_up()

    def _hang_up(self) -> None:
        if self._sender is not None:
            with contextlib.suppress(psycopg.Error):
                self._sender.close()
            self._sender = None

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as connection:
                    connection.execute(f"LISTEN {_CHANNEL}")
                    self._pass_on_all()  # of what was missed while nobody listened
                    while not self._closed.is_set():
                        for heard in connection.notifies(timeout=_LISTEN_SECONDS):
                            self._pass_on(heard.payload)
            except psycopg.Error as error:
                log.warning("the database cannot be listened to; trying again", error=str(error))
                self._closed.wait(_RETRY_SECONDS)

    def _pass_on(self, word: str) -> None:
        if word == _QUEUE:
            super().queued()
        elif word == _MODELS:
            super().models_changed()
        else:
            super().changed(word)

    def _pass_on_all(self) -> None:
        super().queued()
        super().models_changed()
        for job_id in self.followed():
            super().changed(job_id)
