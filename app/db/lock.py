"""Who owns the data directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import ConfigurationError


@contextmanager
def lock_data_dir(path: Path, holder: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the data directory's lock, alone or (``shared``, with Postgres) beside others.

    ``holder`` is how later ones are told who has it. Raises ConfigurationError where it is taken.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigurationError(f"cannot use {path.parent}: {error.strerror}") from error
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"{path.parent} is in use by {file.read().strip() or 'another fitserve'}; "
                "stop it, or give this one another FITSERVE_DATA_DIR"
            ) from None
        with suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
        yield
        if not shared:
            file.seek(0)
            file.truncate(0)
