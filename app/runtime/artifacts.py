"""Artifacts held against the rows that make them visible: which there are to be, whether one is
whole, and copies that are checked while they are made."""

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import hashes
from app.db.models import TERMINAL, Checkpoint, Dataset, Job, ModelVersion
from app.errors import ArtifactCorrupt, NotFound, Unavailable
from app.ml.inference.card import CARD, WEIGHTS
from app.ml.tables.parquet import FILE
from app.runtime.context import Context
from app.storage import MANIFEST, Kind, Storage

_ROWS: dict[Kind, tuple[type[Dataset | ModelVersion | Checkpoint], str]] = {
    "datasets": (Dataset, "dataset"),
    "models": (ModelVersion, "model version"),
    "checkpoints": (Checkpoint, "checkpoint"),
}
_FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]


@dataclass(frozen=True)
class Artifact:
    """An artifact as the row that makes it visible describes it."""

    kind: Kind
    id: str
    fallback: str
    """The remedy where no backup has it."""
    file: str | None = None
    """The one of its files whose size and hash stand in the row as well."""
    size: int = 0
    """Bytes of that file."""
    sha256: str = ""

    @property
    def name(self) -> str:
        """``kind/id``, its path below the data directory."""
        return f"{self.kind}/{self.id}"


Progress = Callable[[Sequence[Artifact]], Iterable[Artifact]]
"""Called with artifacts, gives them back one by one, and may show how far that has come."""


@dataclass(frozen=True)
class Finding:
    """Something wrong, where it is, and what to do about it."""

    kind: Literal["missing", "damaged", "orphaned", "foreign", "database"]
    where: str
    wrong: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind:<8}  {self.where}: {self.wrong}; {self.remedy}"


class Entry(BaseModel):
    """Size in bytes and hex SHA-256 of one file, as a manifest has them."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class _Manifest(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    files: dict[_FileName, Entry] = Field(min_length=1)


def expected(session: Session) -> list[Artifact]:
    """Return the artifacts that the rows name; first those that come and go quickest."""
    checkpoints = select(Checkpoint, Job.status).join(Job).order_by(Checkpoint.id)
    versions = select(ModelVersion.id, ModelVersion.name, ModelVersion.version)
    datasets = select(Dataset.id, Dataset.size_bytes, Dataset.sha256)
    found = [of_checkpoint(row, status) for row, status in session.execute(checkpoints)]
    for model_id, name, version in session.execute(versions.order_by(ModelVersion.id)):
        where = f"/v1/models/{name}@{version}"
        fallback = f"train it again and give this one up (start the server, DELETE {where})"
        found.append(Artifact("models", model_id, fallback))
    for dataset_id, size, sha256 in session.execute(datasets.order_by(Dataset.id)):
        fallback = f"give it up (start the server, DELETE /v1/datasets/{dataset_id})"
        found.append(Artifact("datasets", dataset_id, fallback, FILE, size, sha256))
    return found


@contextmanager
def unless_deleted(context: Context, kind: Kind, artifact_id: str) -> Iterator[None]:
    """Raise NotFound where what is read is missing because it has just been deleted.

    Whatever else is wrong with it is raised as it is.
    """
    try:
        yield
    except (ArtifactCorrupt, FileNotFoundError) as error:
        row, what = _ROWS[kind]
        with context.database.read() as session:
            if session.get(row, artifact_id) is None:
                raise NotFound(f"the {what} has just been deleted") from error
        raise


@contextmanager
def recorded(context: Context, kind: Kind, artifact_id: str) -> Iterator[Session]:
    """Give the transaction that makes the row of an artifact, which has been published.

    Where it fails the artifact is removed, unless its row may yet come to light.
    """
    begun = False
    try:
        with context.database.write() as session:
            begun = True
            yield session
    except BaseException as error:
        if not (begun and isinstance(error, Unavailable)):
            context.storage.remove(kind, artifact_id)
        raise


def of_checkpoint(row: Checkpoint, status: str) -> Artifact:
    """Return the artifact of a checkpoint whose job has this status."""
    fallback = _fallback(row, status)
    return Artifact("checkpoints", row.id, fallback, WEIGHTS, row.size_bytes, row.sha256)


def _fallback(checkpoint: Checkpoint, status: str) -> str:
    if status in TERMINAL:
        return f"leave it: {checkpoint.job_id} is over ({status}) and not trained again"
    return f"leave it: {checkpoint.job_id} goes on from an older checkpoint, or from its start"


def check(storage: Storage, artifact: Artifact) -> dict[str, Entry]:
    """Return an artifact's files by name. Raises ArtifactCorrupt with all that is wrong."""
    files = manifest(storage, artifact)
    folder = storage.path(artifact.kind, artifact.id)
    wrong = [fault for name, entry in files.items() if (fault := _fault(folder / name, entry))]
    if wrong:
        raise ArtifactCorrupt(", ".join(wrong))
    return files


def copy(source: Storage, artifact: Artifact, target: Storage) -> int:
    """Publish an artifact in ``target`` as well; return its size in bytes.

    Raises ArtifactCorrupt, leaving nothing, where it is not whole or was deleted meanwhile;
    StorageFull or Unavailable where ``target`` refuses.
    """
    files = manifest(source, artifact)
    _copy(source.path(artifact.kind, artifact.id), files, target, artifact)
    return sum(entry.size for entry in files.values())


def copy_as_model(storage: Storage, checkpoint: Artifact, model_id: str) -> None:
    """Publish card and weights of a checkpoint as the artifact of a model.

    Raises ArtifactCorrupt, leaving nothing, where that is not whole or was deleted meanwhile;
    StorageFull or Unavailable.
    """
    files = manifest(storage, checkpoint)
    missing = [name for name in (WEIGHTS, CARD) if name not in files]
    if missing:
        raise ArtifactCorrupt(f"{MANIFEST} has no {' and no '.join(missing)}")
    copied = {name: files[name] for name in (WEIGHTS, CARD)}
    folder = storage.path(checkpoint.kind, checkpoint.id)
    _copy(folder, copied, storage, Artifact("models", model_id, ""))


def _copy(folder: Path, files: dict[str, Entry], target: Storage, into: Artifact) -> None:
    """Publish those files of ``folder``. Raises ArtifactCorrupt, leaving nothing."""
    with target.publish(into.kind, into.id) as draft:
        for name in files:
            with (draft / name).open("wb") as file:
                file.writelines(_content(folder / name))
    copied = manifest(target, into, against_row=False)
    wrong = [_mismatch(name, copied[name], files[name]) for name in files]
    if any(wrong):
        target.remove(into.kind, into.id)
        raise ArtifactCorrupt(", ".join(fault for fault in wrong if fault))


def finding(storage: Storage, artifact: Artifact, error: ArtifactCorrupt) -> Finding:
    """Return the finding of an artifact that is not whole."""
    folder = storage.path(artifact.kind, artifact.id)
    # not into what is there: that may be a link, or have another name on the disk
    command = (
        f"cp -a --remove-destination BACKUP/{artifact.name} {shlex.quote(f'{folder.parent}/')}"
    )
    remedy = f"restore it from a backup ({command}), or {artifact.fallback}"
    if os.path.lexists(folder):
        return Finding("damaged", artifact.name, error.detail, remedy)
    return Finding("missing", artifact.name, "its folder is not there", remedy)


def manifest(storage: Storage, artifact: Artifact, *, against_row: bool = True) -> dict[str, Entry]:
    """Return an artifact's files by name, as its manifest has them.

    Raises ArtifactCorrupt where that cannot be read or, ``against_row``, disagrees with the row.
    """
    folder = storage.path(artifact.kind, artifact.id)
    if folder.is_symlink():
        raise ArtifactCorrupt("it is a symbolic link, not a folder")
    content = b"".join(_content(folder / MANIFEST))
    try:
        files = _Manifest.model_validate_json(content).files
    except ValidationError as error:
        raise ArtifactCorrupt(f"{MANIFEST} cannot be understood") from error
    if artifact.file is not None and against_row:
        entry = files.get(artifact.file)
        if entry is None or (entry.size, entry.sha256) != (artifact.size, artifact.sha256):
            raise ArtifactCorrupt(
                f"{MANIFEST} and the database disagree about size or hash of {artifact.file}"
            )
    return files


def _fault(path: Path, entry: Entry) -> str | None:
    try:
        with _explained(path):
            sha256, size = hashes.fingerprint(path)
    except ArtifactCorrupt as error:
        return error.detail
    return _mismatch(path.name, Entry(size=size, sha256=sha256), entry)


def _mismatch(name: str, found: Entry, promised: Entry) -> str | None:
    if found.size != promised.size:
        return f"{name} has {found.size} bytes instead of {promised.size}"
    return f"{name} does not match its hash" if found != promised else None


def _content(path: Path) -> Iterator[bytes]:
    """Yield a file in chunks. Raises ArtifactCorrupt."""
    with _explained(path):
        yield from hashes.chunks(path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raise ArtifactCorrupt where a file cannot be read, or is none."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactCorrupt(f"{path.name} is not there") from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        if error.errno in hashes.NO_FILE:
            reason = "is not a regular file"
        raise ArtifactCorrupt(f"{path.name} {reason}") from error
