"""Room that is kept for what frees some: SQLite cannot even delete without writing first."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_BYTES = 4 * 1024 * 1024
"""As much as SQLite's log grows to before it is put back into the database."""
_BLOCK_BYTES = 64 * 1024


class Reserve:
    """A file beside the database, of nothing but room."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._users = 0

    @property
    def is_open(self) -> bool:
        """Whether the room is being used, so that no more of it should be than must be."""
        return self._users > 0

    def fill(self) -> None:
        """Have the file there: 4 MiB, a sixteenth of a small disk, or less where less is free."""
        with self._lock:
            if not self._users:
                self._fill()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Give the room back to the disk until the block ends."""
        with self._lock:
            self._users += 1
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._fill()

    def _fill(self) -> None:
        with suppress(OSError):
            disk = shutil.disk_usage(self._path.parent)
            most = min(_BYTES, disk.total // 16)
            # where that is not there, all there is: somebody else would take it
            for size in (most, disk.free - _BLOCK_BYTES, disk.free // 2):
                if self._is_filled(size):
                    return

    def _is_filled(self, size: int) -> bool:
        if size <= 0:
            return False
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
        except OSError:
            return False
        return True
