"""SHA-256 of files, and the same without reading where a file has not changed since."""

import errno
import hashlib
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

NO_FILE = {errno.EINVAL, errno.ELOOP, errno.ENXIO}
"""What the system, or we, say of what is no regular file: a folder or pipe, a link, a socket."""
_CHUNK_BYTES = 1024 * 1024
_MOST = 4096
"""Files whose hash is remembered; some 300 bytes each."""
_RACY_NS = 1_000_000_000
"""A file written so short a time ago may be written again under the same time (as git says)."""

_Identity = tuple[int, int, int, int, int]
_lock = threading.Lock()
_known: OrderedDict[_Identity, str] = OrderedDict()


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a regular file, read in chunks. Raises OSError, for a link too."""
    return fingerprint(path)[0]


def fingerprint(path: Path) -> tuple[str, int]:
    """Return hex SHA-256 and bytes of a regular file, read in chunks. Raises OSError, for a link
    too."""
    with _opened(path) as file:
        return _digest(file), file.tell()


def chunks(path: Path) -> Iterator[bytes]:
    """Yield a regular file in chunks. Raises OSError, of ``NO_FILE`` for a link or a pipe."""
    with _opened(path) as file:
        yield from _chunks(file)


def remembered_fingerprint(path: Path) -> tuple[str, int]:
    """Return the same without reading the file where device, inode, size and times are those of one
    that was read before. Raises OSError."""
    with _opened(path) as file:
        identity = _identity(file)
        with _lock:
            found = _known.get(identity)
            if found is not None:
                _known.move_to_end(identity)
                return found, identity[2]
        digest = _digest(file)
        now = _identity(file)
    if now == identity and time.time_ns() - max(identity[3:]) > _RACY_NS:
        with _lock:
            _known[identity] = digest
            while len(_known) > _MOST:
                _known.popitem(last=False)
    return digest, now[2]


def _opened(path: Path) -> BinaryIO:
    """Open a file to read. Raises OSError for what is none: a pipe would never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(file):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _identity(file: BinaryIO) -> _Identity:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
