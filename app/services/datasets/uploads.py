"""Files as they were sent, kept for a day: a reading can be corrected and tried again without
sending the file again.

They are no artifacts: no row names them, no backup holds them. A file's name has its id, its hash
and its format, and its age is that of the file.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from sqlalchemy.orm import Session

from app import logs
from app.errors import ArtifactCorrupt, InvalidRequest, NotFound
from app.hashes import sha256_of
from app.ids import is_id, new_id
from app.ml.tables.formats import Format
from app.runtime.context import Context
from app.storage import explain_os_errors, sync

KEPT_SECONDS = 24 * 3600.0
_TABS = "tsv"

log = logs.get("uploads")


@dataclass(frozen=True)
class Upload:
    """A file that is kept."""

    id: str
    path: Path
    format: Format
    tabbed: bool
    """Whether tabs separate its cells."""
    size_bytes: int
    expires_at: datetime
    sha256: str | None
    """None where an older fitserve kept it."""


def keep(
    context: Context,
    source: Path,
    kind: Format,
    on_keep: Callable[[Session, Any], None],
    tabbed: bool = False,
) -> Upload:
    """Take ``source``, a file on the data disk, and keep it for a day.

    ``on_keep`` is called with it in a transaction. Raises StorageFull or Unavailable.
    """
    with explain_os_errors():
        name = f"{new_id('up')}.{sha256_of(source)}.{_TABS if tabbed else kind}"
        path = context.storage.uploads / name
        sync(source)
        os.utime(source)
        os.rename(source, path)
        sync(path.parent)
    try:
        upload = _of(path)
        with context.database.write() as session:
            on_keep(session, upload)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return upload


def find(context: Context, upload_id: str, pointer: str | None = None) -> Upload:
    """Return a file that is kept.

    Raises NotFound, or InvalidRequest where ``pointer`` is the field of a request that names it.
    """
    found = list(context.storage.uploads.glob(f"{upload_id}.*")) if is_id(upload_id) else []
    detail = (
        f"there is no upload '{upload_id[:64]}'; one is kept for a day: POST the file to "
        "/v1/uploads again"
    )
    try:
        upload = _of(found[0])
        if upload.expires_at > datetime.now(UTC):
            return upload
    except (IndexError, OSError, ValueError):
        pass
    raise NotFound(detail) if pointer is None else InvalidRequest.at(pointer, detail, "no_upload")


@contextmanager
def held(context: Context, upload: Upload) -> Iterator[Path]:
    """Give a path of the file that stays, whoever deletes the upload meanwhile.

    Raises NotFound where that has happened already, ArtifactCorrupt where it is not what was sent.
    """
    path = context.storage.scratch / f"{upload.path.name}.{secrets.token_hex(4)}"
    try:
        os.link(upload.path, path)
    except FileNotFoundError as error:
        raise NotFound(f"the upload '{upload.id}' has just been deleted") from error
    try:
        with explain_os_errors():
            if upload.sha256 not in (None, sha256_of(path)):
                raise ArtifactCorrupt(
                    f"the upload '{upload.id}' is damaged on disk; send the file again"
                )
        yield path
    finally:
        path.unlink(missing_ok=True)


def delete(context: Context, upload_id: str) -> None:
    """Forget a file that is kept. Raises NotFound."""
    with explain_os_errors():
        find(context, upload_id).path.unlink(missing_ok=True)


def expire(context: Context) -> None:
    """Remove the files that have been kept for a day."""
    now, removed = datetime.now(UTC), 0
    for path in context.storage.uploads.iterdir():
        with explain_os_errors():
            try:
                expired = _of(path).expires_at <= now
            except (ValueError, FileNotFoundError):  # nothing of ours, or just deleted
                continue
            if expired:
                path.unlink(missing_ok=True)
                removed += 1
    if removed:
        log.info("uploads expired", count=removed)


def _of(path: Path) -> Upload:
    """Return the upload at a path. Raises OSError where it is gone, ValueError where it is none."""
    upload_id, *digest, ending = path.name.split(".")
    kind = "csv" if ending == _TABS else ending
    if not is_id(upload_id) or kind not in get_args(Format):
        raise ValueError(path.name)
    found = path.stat()
    expires = datetime.fromtimestamp(found.st_mtime + KEPT_SECONDS, UTC)
    sha256 = digest[0] if digest else None
    return Upload(upload_id, path, kind, ending == _TABS, found.st_size, expires, sha256)  # type: ignore[arg-type]
