"""Hashes of files, and when one that is remembered may be believed."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from app import hashes


def written(path: Path, content: bytes, age_seconds: float = 0.0) -> Path:
    path.write_bytes(content)
    when = time.time() - age_seconds
    os.utime(path, (when, when))
    return path


def test_what_was_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a", b"abc")
    monkeypatch.setattr(hashes, "_RACY_NS", -1)
    first = hashes.remembered_fingerprint(path)
    assert first == (hashlib.sha256(b"abc").hexdigest(), 3)
    monkeypatch.setattr(hashes, "_digest", lambda _: "read again")
    assert hashes.remembered_fingerprint(path) == first
    written(tmp_path / "b", b"abc")
    (tmp_path / "b").rename(path)
    assert hashes.remembered_fingerprint(path)[0] == "read again"


def test_a_change_is_seen_though_size_and_time_are_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a", b"abc", age_seconds=60)
    monkeypatch.setattr(hashes, "_RACY_NS", -1)
    hashes.remembered_fingerprint(path)
    before = path.stat()
    time.sleep(0.02)  # the clock of a file system ticks more slowly than ours
    path.write_bytes(b"abd")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hashes.remembered_fingerprint(path)[0] == hashlib.sha256(b"abd").hexdigest()


def test_what_has_just_been_written_is_not_remembered(tmp_path: Path) -> None:
    """It may be written again under the same times."""
    path = written(tmp_path / "a", b"abc")
    hashes.remembered_fingerprint(path)
    path.write_bytes(b"abd")
    assert hashes.remembered_fingerprint(path)[0] == hashlib.sha256(b"abd").hexdigest()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "nothing"])
def test_only_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    if kind == "link":
        path.symlink_to(written(tmp_path / "a", b"abc"))
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    for read in (hashes.sha256_of, hashes.remembered_fingerprint):
        with pytest.raises(OSError):  # noqa: PT011
            read(path)
