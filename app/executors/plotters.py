"""Drawing in children of a fork server that has matplotlib: its work holds Python's lock, and the
event loop would wait for it."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

from app.errors import ServiceError, Unavailable
from app.executors.forkserver import Child, ForkServer
from app.ml.drawing import Drawing, Format, pack

_MODULE = "app.executors.plotting"
_NICENESS = 10
_SECONDS = 60.0
"""How long one drawing may take."""


class Plotters:
    """A process for each drawing; who calls bounds how many there are at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: ForkServer | None = None
        # a parent-death signal comes when the *thread* ends that started the process
        self._starter = ThreadPoolExecutor(1, "plotters")
        self._closed = False

    def prepare(self) -> None:
        """Start the fork server, where that has not been done: it takes a second."""
        with self._lock:
            if self._closed or (self._server is not None and self._server.alive()):
                return
            self._server = self._starter.submit(ForkServer, _MODULE, _NICENESS).result()

    def draw(self, what: Drawing, image: Format) -> bytes:
        """Return a drawing as an image; blocks.

        Raises Unavailable where the process was ended, or took too long.
        """
        messages = pack(what)
        child = self._fork()
        try:
            for message in (f"{image} {len(messages)}".encode(), *messages):
                child.connection.send_bytes(message)
            if child.connection.poll(_SECONDS):
                return child.connection.recv_bytes()
            raise Unavailable(f"the plot took longer than {_SECONDS:.0f} s; try again")
        except (EOFError, OSError) as error:
            raise self._why(child) from error
        finally:
            child.kill()
            with contextlib.suppress(OSError):
                child.reap()

    def close(self) -> None:
        """End the fork server and every drawing."""
        with self._lock:
            self._closed = True
            if self._server is not None:
                self._server.close()
            self._starter.shutdown(wait=False)

    def _fork(self) -> Child:
        self.prepare()
        try:
            if self._server is not None:
                return self._server.fork()
        except OSError as error:
            raise Unavailable("the process that draws has ended; try again") from error
        raise Unavailable("the server is stopping; ask again in a moment")

    def _why(self, child: Child) -> ServiceError:
        """Return why a child sent no image."""
        try:
            code = child.reap()
        except OSError:
            code = -1
        if code < 0:
            return Unavailable("the process that draws was ended; try again")
        return ServiceError("the plot could not be drawn; the log says why")
