"""The artifact root: the only module that builds paths.

An artifact is a directory ``<kind>/<id>/`` of files with a ``manifest.json`` (sizes and SHA-256).
It is published, never written in place: a draft directory under ``tmp/`` on the same filesystem,
files synced, manifest written, directory synced, renamed to a name never used before, parent
synced. A crash leaves a draft (removed at the next start) or a whole artifact without a database
row (an orphan, moved to quarantine at the next start and removed a day later); never half an
artifact under its final name.
"""

import errno
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from app.errors import ArtifactCorrupt, StorageFull, Unavailable
from app.hashes import fingerprint, remembered_fingerprint, sha256_of
from app.ids import is_id

Kind = Literal["datasets", "models", "checkpoints"]
KINDS: tuple[Kind, ...] = ("datasets", "models", "checkpoints")
_FOLDERS = (*KINDS, "tmp", "quarantine", "uploads")

MANIFEST = "manifest.json"
_PROBE_BYTES = 64 * 1024
"""What ``Storage.check`` writes to find out whether the disk takes it."""
_LEAST_FREE_BYTES = 64 * 1024 * 1024
NO_ROOM = "no room left on the data disk; free some and try again"
"""What a full disk is told as."""
_DISK_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def explain_os_errors() -> Iterator[None]:
    """Turn the operating system's refusals to write into errors with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL_ERRORS:
            raise StorageFull(NO_ROOM) from error
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}:
            raise Unavailable(f"the data directory cannot be written: {error.strerror}") from error
        if error.errno == errno.ENOENT:
            raise Unavailable(
                "a folder of the data directory is missing; restart fitserve"
            ) from error
        raise


def require_room(folder: Path, least_bytes: int | None = None) -> None:
    """Raise StorageFull where the disk of ``folder`` has fewer than ``least_bytes`` free.

    The default is 64 MiB, or a hundredth of a small disk; the job table must always find room.
    """
    with explain_os_errors():
        disk = shutil.disk_usage(folder)
    least_bytes = min(_LEAST_FREE_BYTES, disk.total // 100) if least_bytes is None else least_bytes
    if disk.free < least_bytes:
        raise StorageFull(
            f"{disk.free} bytes are free on the data disk, and {least_bytes} are to stay so; "
            "free some and try again"
        )


def _damaged(what: str, how: str = "is missing or damaged on disk") -> ArtifactCorrupt:
    remedy = "restore it from a backup; `fitserve fsck`, with the server stopped, says how"
    return ArtifactCorrupt(f"{what} {how}; {remedy}")


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    """Remove a folder, or whatever somebody put in its place, as far as the disk lets go of it."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _why_not(path: Path) -> str:
    """Return why something that is there cannot be written, and the remedy."""
    found = path.stat()
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "its file system is mounted read-only; mount it for writing"
    if found.st_uid != os.geteuid() != 0:
        return f"it is another user's; chown -R {os.geteuid()} the data directory"
    if not found.st_mode & stat.S_IWUSR:
        return f"its mode forbids it; chmod u+w {path}"
    return f"it is immutable; chattr -i {path}"


def _is_mount(folder: Path) -> bool:
    """Return whether what is beside ``folder`` cannot be renamed into it.

    Two mounts of one device are told apart too. Nothing can come of it: the system compares the
    mounts before it looks at the names, and no file may be called ``.``.
    """
    try:
        os.rename(folder.parent / "nothing", f"{folder}/.")
    except OSError as error:
        return error.errno == errno.EXDEV
    return False


class Sweep(NamedTuple):
    """Ids of the artifacts that a sweep has found."""

    moved: list[str]
    stuck: list[str]
    """Immutable ones, say."""


class Storage:
    """Artifacts under one root directory; safe for several processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def database_path(self) -> Path:
        """The SQLite file, where that is used."""
        return self.root / "fitserve.db"

    @property
    def lock_path(self) -> Path:
        """The file whose lock is the directory's; it holds the name of who has it."""
        return self.root / "fitserve.lock"

    @property
    def identity_path(self) -> Path:
        """What ``runtime.identity`` writes: the database that belongs to this directory."""
        return self.root / "identity.json"

    @property
    def quarantine(self) -> Path:
        """Where each sweep puts what no row names: ``<sweep>/<kind>/<id>``."""
        return self.root / "quarantine"

    @property
    def uploads(self) -> Path:
        """Where files lie that are kept for a day as they were sent."""
        return self.root / "uploads"

    @property
    def scratch(self) -> Path:
        """Where drafts and uploads live until they are published; emptied at every start."""
        return self.root / "tmp"

    def prepare(self) -> None:
        """Make the root and its folders. Raises StorageFull or Unavailable."""
        with explain_os_errors():
            for name in _FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)

    def path(self, kind: Kind, artifact_id: str) -> Path:
        """Return the artifact's directory, whether or not it exists."""
        return self.root / kind / artifact_id

    def fault(self) -> str | None:
        """Return what is wrong with the directory or a part of it, ``None`` where nothing is: a
        folder is missing or a mount of its own, or something cannot be written. Writes nothing."""
        folders = [self.root / name for name in _FOLDERS]
        if not all(folder.is_dir() for folder in folders):
            return "folders are missing from the data directory"
        files = (self.identity_path, *sorted(self.root.glob(f"{self.database_path.stem}.*")))
        for path in (self.root, *folders, *files):
            if not os.access(path, os.W_OK) and path.exists():
                return f"{path} cannot be written: {_why_not(path)}"
        for folder in folders:
            if _is_mount(folder):
                return (
                    f"{folder} is a mount or a link of its own, and artifacts are published by "
                    "renaming them; have the whole data directory on one file system"
                )
        return None

    def check(self) -> str:
        """Try to write; return ``ok``, or why nothing can be stored just now."""
        if fault := self.fault():
            return fault
        probe = self.scratch / f"check.{secrets.token_hex(4)}"
        try:
            probe.write_bytes(bytes(_PROBE_BYTES))
        except OSError as error:
            return f"cannot be written: {error.strerror}"
        finally:
            with suppress(OSError):
                probe.unlink()
        return "ok"

    @contextmanager
    def publish(self, kind: Kind, artifact_id: str) -> Iterator[Path]:
        """Yield a draft directory to fill; publish it whole when the block ends well.

        Raises StorageFull or Unavailable; nothing of the draft stays behind on any error.
        """
        draft = written = self.scratch / f"{artifact_id}.{secrets.token_hex(4)}"
        final = self.path(kind, artifact_id)
        try:
            with explain_os_errors():
                draft.mkdir()
                yield draft
                self._seal(draft)
                os.rename(draft, final)
                written = final
                sync(final.parent)
        except BaseException:
            shutil.rmtree(written, ignore_errors=True)
            raise

    def _seal(self, draft: Path) -> None:
        """Write the manifest, and wait until all of the draft is on the disk."""
        files = {}
        for path in sorted(draft.iterdir()):
            sync(path)
            files[path.name] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
        manifest = draft / MANIFEST
        with manifest.open("w") as file:
            json.dump({"files": files}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        sync(draft)

    def entry(self, kind: Kind, artifact_id: str, name: str) -> tuple[str, int]:
        """Return hex SHA-256 and bytes of a file as its manifest has them; the file is not read.

        Raises ArtifactCorrupt where there is no such entry.
        """
        folder = self.path(kind, artifact_id)
        try:
            if folder.is_symlink():
                raise ValueError("a link")
            entry = json.loads((folder / MANIFEST).read_bytes())["files"][name]
            return str(entry["sha256"]), int(entry["size"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(f"{kind}/{artifact_id}") from error

    def file(self, kind: Kind, artifact_id: str, name: str, sha256: str | None = None) -> Path:
        """Return the path of a file of an artifact that is what was written: no link, of the size
        and the hash in its manifest, and of the hash ``sha256``, which its row has.

        The hash is remembered for as long as the file is the same. Raises ArtifactCorrupt.
        """
        found = self._require_written(kind, artifact_id, name, remembered_fingerprint)
        if sha256 is not None and found != sha256:
            raise _damaged(f"{kind}/{artifact_id}/{name}", "does not match its hash")
        return self.path(kind, artifact_id) / name

    def verified(self, kind: Kind, artifact_id: str) -> Path:
        """Return the artifact's directory, every file of which is read and matches its hash.

        Raises ArtifactCorrupt where one does not.
        """
        folder = self.path(kind, artifact_id)
        for name in self._names(folder):
            self._require_written(kind, artifact_id, name, fingerprint)
        return folder

    def _require_written(
        self, kind: Kind, artifact_id: str, name: str, read: Callable[[Path], tuple[str, int]]
    ) -> str:
        """Return the hash of a file, as ``read`` gives it with its size.

        Raises ArtifactCorrupt where they are not those in the manifest.
        """
        written = self.entry(kind, artifact_id, name)
        try:
            found = read(self.path(kind, artifact_id) / name)
        except OSError as error:
            raise _damaged(f"{kind}/{artifact_id}") from error
        if found != written:
            raise _damaged(f"{kind}/{artifact_id}/{name}", "does not match its hash")
        return found[0]

    def _names(self, folder: Path) -> list[str]:
        """Return the names of an artifact's files; an impossible one for a damaged manifest."""
        try:
            return list(json.loads((folder / MANIFEST).read_bytes())["files"]) or [""]
        except (OSError, ValueError, KeyError, TypeError):
            return [""]

    def remove(self, kind: Kind, artifact_id: str) -> None:
        """Delete an artifact, where there is one; readers see it whole or not at all.

        What the disk does not let go of no row names any more; the next start sweeps it.
        """
        deleted = self.scratch / f"{artifact_id}.{secrets.token_hex(4)}.deleted"
        try:
            os.rename(self.path(kind, artifact_id), deleted)
        except OSError:
            return
        _discard(deleted)

    def replace(self, path: Path, content: bytes) -> None:
        """Write a file under its name, whole or not at all. Raises OSError."""
        draft = self.scratch / f"{path.name}.{secrets.token_hex(4)}"
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.rename(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        sync(path.parent)

    def sweep(self, kind: Kind, known: Collection[str], least_age_seconds: float = 0.0) -> Sweep:
        """Move artifacts of ``kind`` that no database row names to quarantine; what has not the
        name of one was made by somebody else, and stays.

        What the disk does not let go of stays, for the next sweep. Where others may be publishing,
        ``least_age_seconds`` must have passed since they did. The caller has made sure that the
        database is this directory's.
        """
        made = [path for path in (self.root / kind).iterdir() if is_id(path.name)]
        orphans = [path for path in made if path.name not in known]
        old = [path for path in orphans if self._is_older(path, least_age_seconds)]
        swept = Sweep([], [])
        if old:
            folder = self.quarantine / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.{kind}"
            folder = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}") / kind
            with explain_os_errors():
                folder.mkdir(parents=True)
                for path in old:
                    try:
                        os.rename(path, folder / path.name)
                        swept.moved.append(path.name)
                    except OSError:
                        swept.stuck.append(path.name)
                sync(folder)
        return swept

    def empty_quarantine(self, least_age_seconds: float) -> int:
        """Remove what sweeps moved away at least so long ago; return how many artifacts.

        By the clock of the file system.
        """
        removed = 0
        for sweep in self.quarantine.iterdir():
            if self._is_older(sweep, least_age_seconds):
                removed += sum(1 for _ in sweep.glob("*/*"))
                _discard(sweep)
        return removed

    def empty_scratch(self, least_age_seconds: float = 0.0) -> None:
        """Remove the drafts and uploads that a crash left, if last written so long ago."""
        for path in self.scratch.iterdir():
            if self._is_older(path, least_age_seconds):
                _discard(path)

    def _is_older(self, path: Path, seconds: float) -> bool:
        """Return whether nothing was written there for so long, by the file system's own clock."""
        if not seconds:
            return True
        probe = self.scratch / f"clock.{secrets.token_hex(4)}"
        try:
            probe.touch()
            written = max(item.stat().st_mtime for item in (path, *path.glob("*")))
            return probe.stat().st_mtime - written > seconds
        except FileNotFoundError:  # somebody else was faster
            return False
        finally:
            probe.unlink(missing_ok=True)
