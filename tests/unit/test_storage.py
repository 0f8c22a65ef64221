"""Artifacts are published whole or not at all, and damage is noticed."""

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.errors import ArtifactCorrupt, StorageFull, Unavailable
from app.hashes import sha256_of
from app.ids import new_id
from app.storage import KINDS, MANIFEST, Storage, explain_os_errors


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    made = Storage(tmp_path / "data")
    made.prepare()
    return made


def publish(storage: Storage, artifact_id: str, content: bytes = b"weights") -> Path:
    with storage.publish("models", artifact_id) as draft:
        (draft / "a.bin").write_bytes(content)
        (draft / "b.json").write_text("{}")
    return storage.path("models", artifact_id)


def test_prepare_makes_every_room_and_may_be_repeated(storage: Storage) -> None:
    storage.prepare()
    assert {path.name for path in storage.root.iterdir()} == {
        *KINDS,
        "tmp",
        "quarantine",
        "uploads",
    }


def test_a_relative_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Storage(Path("data")).root == tmp_path / "data"


# ---------------------------------------------------------------- publish


def test_published_files_come_with_a_manifest_of_sizes_and_hashes(storage: Storage) -> None:
    folder = publish(storage, "m1")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    files = json.loads((folder / MANIFEST).read_text())["files"]
    assert files["a.bin"] == {"size": 7, "sha256": sha256}
    assert set(files) == {"a.bin", "b.json"}
    assert storage.file("models", "m1", "a.bin") == folder / "a.bin"
    assert storage.entry("models", "m1", "a.bin") == (sha256, 7)
    assert storage.verified("models", "m1") == folder


def test_nothing_is_visible_before_the_block_has_ended(storage: Storage) -> None:
    with storage.publish("models", "m1") as draft:
        (draft / "a.bin").write_bytes(b"half")
        assert not storage.path("models", "m1").exists()
    assert storage.path("models", "m1").is_dir()
    assert list(storage.scratch.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_exception_inside_leaves_nothing(storage: Storage, error: BaseException) -> None:
    def fail() -> None:
        with storage.publish("models", "m1") as draft:
            (draft / "a.bin").write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(storage.scratch.iterdir()) == []
    assert list((storage.root / "models").iterdir()) == []


def test_an_id_is_published_once_and_the_first_stays(storage: Storage) -> None:
    folder = publish(storage, "m1", b"first")
    with pytest.raises(OSError, match="not empty"):
        publish(storage, "m1", b"second")
    assert (storage.verified("models", "m1") / "a.bin").read_bytes() == b"first"
    assert list(storage.scratch.iterdir()) == []
    assert [path.name for path in folder.parent.iterdir()] == ["m1"]


# ---------------------------------------------------------------- damage


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "a.bin").read_bytes())
    content[3] ^= 1
    (folder / "a.bin").write_bytes(content)


def truncate(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"weigh")


def lose_a_file(folder: Path) -> None:
    (folder / "a.bin").unlink()


def lose_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def tear_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"files": {"a.b')


def replace_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("[]")


def change_a_size_in_the_manifest(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["a.bin"]["size"] += 1
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        change_a_size_in_the_manifest,
        truncate,
        lose_a_file,
        lose_the_manifest,
        tear_the_manifest,
        replace_the_manifest,
    ],
)
def test_damage_is_noticed_and_the_artifact_named(
    storage: Storage, damage: Callable[[Path], None]
) -> None:
    damage(publish(storage, "m1"))
    with pytest.raises(ArtifactCorrupt, match=r"models/m1.*backup"):
        storage.verified("models", "m1")


def test_an_artifact_that_never_was_is_corrupt(storage: Storage) -> None:
    with pytest.raises(ArtifactCorrupt):
        storage.verified("models", "m9")
    with pytest.raises(ArtifactCorrupt):
        storage.file("models", "m9", "a.bin")


def test_a_file_that_is_not_in_the_manifest_is_corrupt(storage: Storage) -> None:
    publish(storage, "m1")
    with pytest.raises(ArtifactCorrupt):
        storage.file("models", "m1", "c.bin")


def test_sha256_of_a_file_longer_than_one_chunk(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "long").write_bytes(content)
    assert sha256_of(tmp_path / "long") == hashlib.sha256(content).hexdigest()


# ---------------------------------------------------------------- remove and sweep


def test_remove_deletes_one_artifact_and_missing_is_fine(storage: Storage) -> None:
    publish(storage, "m1")
    publish(storage, "m2")
    storage.remove("models", "m1")
    storage.remove("models", "m1")
    assert [path.name for path in (storage.root / "models").iterdir()] == ["m2"]
    assert list(storage.scratch.iterdir()) == []


def test_sweep_removes_what_no_row_names(storage: Storage) -> None:
    first, named, last = (new_id("mdl") for _ in range(3))
    for artifact_id in (first, named, last):
        publish(storage, artifact_id)
    (storage.root / "models" / "somebody's notes").write_text("mine")
    assert sorted(storage.sweep("models", {named, "gone"}).moved) == [first, last]
    left = {path.name for path in (storage.root / "models").iterdir()}
    assert left == {named, "somebody's notes"}, "what nobody here has made is nobody's here"
    assert storage.sweep("models", {named}) == ([], [])
    assert storage.sweep("datasets", set()) == ([], [])


def test_empty_scratch_drops_what_a_crash_left(storage: Storage) -> None:
    (storage.scratch / "m1.abcd").mkdir()
    (storage.scratch / "m1.abcd" / "a.bin").write_bytes(b"half")
    (storage.scratch / "upload").write_bytes(b"half")
    storage.empty_scratch()
    assert list(storage.scratch.iterdir()) == []


# ---------------------------------------------------------------- the operating system's refusals


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EROFS, Unavailable),
        (errno.EIO, Unavailable),
        (errno.ENOENT, Unavailable),
        (errno.ELOOP, OSError),
    ],
)
def test_os_errors_become_errors_with_a_remedy(number: int, expected: type[Exception]) -> None:
    with pytest.raises(expected), explain_os_errors():
        raise OSError(number, "refused")
