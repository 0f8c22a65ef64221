"""``fitserve fsck``: every kind of damage is named with its remedy, and the remedies heal it."""

import ast
import hashlib
import io
import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing, redirect_stdout
from pathlib import Path

import pytest

from app.__main__ import EX_CONFIG
from app.cli import maintenance
from app.errors import ArtifactCorrupt, ConfigurationError
from app.ids import new_id
from app.runtime.artifacts import Artifact, check
from app.settings import load_settings
from app.storage import MANIFEST, Storage
from tests.support.command_line import forked
from tests.support.server import LINE_JOB, Server

DATASETS = 10
ORPHAN = new_id("ds")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a server that has ended: datasets, models, checkpoints."""
    folder = tmp_path_factory.mktemp("fsck") / "data"
    with Server(folder) as server:
        server.line()
        for number in range(1, DATASETS):
            server.line(f"line{number}")
        for _ in range(2):
            server.train(**LINE_JOB)
        server.terminate()
    return folder


@pytest.fixture
def data(healthy: Path, tmp_path: Path) -> Path:
    """A copy to damage; ``healthy`` is its backup."""
    return Path(shutil.copytree(healthy, tmp_path / "da ta"))


def tree(folder: Path) -> dict[str, str]:
    """Every file by its content, every other thing by what it is; but not who had the lock."""
    found = {}
    for path in sorted({*folder.rglob("*")} - {folder / "fitserve.lock"}):
        plain = path.is_file() and not path.is_symlink()
        content = path.read_bytes() if plain else str(path.lstat().st_mode).encode()
        found[str(path)] = hashlib.sha256(content).hexdigest()
    return found


def fsck(data: Path, code: int) -> str:
    """What it says; it must end with that code and change nothing."""
    before = tree(data)
    with redirect_stdout(io.StringIO()) as said:
        try:
            found = 0 if maintenance.fsck(load_settings(data_dir=data)) else 1
        except ConfigurationError as error:
            print(error.detail)
            found = EX_CONFIG
    assert found == code, said.getvalue()
    assert tree(data) == before
    return said.getvalue()


def command(data: Path, code: int) -> str:
    """The same in a process of its own."""
    before = tree(data)
    done = forked("fsck", "--data-dir", str(data))
    assert done.returncode == code, done.stdout + done.stderr
    assert tree(data) == before
    assert (done.stderr == "") == (code != EX_CONFIG)
    return done.stdout + done.stderr


def ids(data: Path, kind: str) -> list[str]:
    return sorted(path.name for path in (data / kind).iterdir())


def flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def test_all_is_well(data: Path) -> None:
    said = command(data, 0)
    assert re.fullmatch(rf"checked {DATASETS + 4} artifacts, [0-9.]+ kB: all is well\n", said)


def damage(data: Path) -> dict[str, tuple[str, str]]:
    """One of each; kind and wording by path."""
    tables = [data / "datasets" / name for name in ids(data, "datasets")]
    model, other = (data / "models" / name for name in ids(data, "models"))
    checkpoint = data / "checkpoints" / ids(data, "checkpoints")[0]
    flip(model / "weights.safetensors", 0.9)
    (other / MANIFEST).write_bytes(b"\xff\x00")
    shutil.rmtree(checkpoint)
    os.truncate(tables[0] / "table.parquet", 100)
    shutil.rmtree(tables[1])
    flip(tables[2] / MANIFEST)
    (tables[3] / "table.parquet").unlink()
    with closing(sqlite3.connect(data / "fitserve.db")) as connection, connection:
        changed = "UPDATE datasets SET sha256 = ? WHERE id = ?"
        connection.execute(changed, ("0" * 64, tables[4].name))
    (tables[5] / "table.parquet").rename(data / "elsewhere")
    (tables[5] / "table.parquet").symlink_to(data / "elsewhere")
    (tables[6] / "table.parquet").unlink()
    os.mkfifo(tables[6] / "table.parquet")
    (tables[7] / MANIFEST).unlink()
    (tables[8] / "notes").write_text("mine")
    (data / "datasets" / ORPHAN).mkdir()
    (data / "models" / "a\nb").mkdir()
    os.makedirs(os.fsencode(data / "checkpoints") + b"/\xff")
    (data / "datasets" / "readme").write_text("not even a folder")
    (data / "datasets" / "away").symlink_to(data)
    (data / "tmp" / "upload.1234").write_bytes(b"half")
    return {
        f"models/{model.name}": ("damaged", "weights.safetensors does not match its hash"),
        f"models/{other.name}": ("damaged", "manifest.json cannot be understood"),
        f"checkpoints/{checkpoint.name}": ("missing", "its folder is not there"),
        f"datasets/{tables[0].name}": ("damaged", "table.parquet has 100 bytes instead of"),
        f"datasets/{tables[1].name}": ("missing", "its folder is not there"),
        f"datasets/{tables[2].name}": ("damaged", ""),
        f"datasets/{tables[3].name}": ("damaged", "table.parquet is not there"),
        f"datasets/{tables[4].name}": ("damaged", "disagree"),
        f"datasets/{tables[5].name}": ("damaged", "table.parquet is not a regular file"),
        f"datasets/{tables[6].name}": ("damaged", "table.parquet is not a regular file"),
        f"datasets/{tables[7].name}": ("damaged", "manifest.json is not there"),
        f"datasets/{tables[8].name}/notes": ("orphaned", "not in the manifest"),
        f"datasets/{ORPHAN}": ("orphaned", "no row names it"),
        "models/'a\\nb'": ("foreign", "no artifact has such a name"),
        "checkpoints/'\\udcff'": ("foreign", "no artifact has such a name"),
        "datasets/readme": ("foreign", "no artifact has such a name"),
        "datasets/away": ("foreign", "no artifact has such a name"),
        "tmp/upload.1234": ("orphaned", "a crash left it"),
    }


def remove(data: Path, path: str) -> None:
    """Remove a file or an empty folder; fsck prints its name as Python does where it must."""
    folder, _, name = path.rpartition("/")
    there = data / folder / (ast.literal_eval(name) if name.startswith("'") else name)
    there.rmdir() if there.is_dir() and not there.is_symlink() else there.unlink()


def test_every_damage_is_named_and_healed_by_its_remedy(data: Path, healthy: Path) -> None:
    expected = damage(data)
    said = command(data, 1)
    findings = [re.fullmatch(r"(\w+) +(\S+): ([^;]+); (.+)", line) for line in said.splitlines()]
    found = {match[2]: (match[1], match[3], match[4]) for match in findings[:-1] if match}
    assert said.splitlines()[-1].endswith(f": {len(expected)} findings")
    assert found.keys() == expected.keys()
    for path, (kind, wrong) in expected.items():
        assert found[path][0] == kind, path
        assert wrong in found[path][1], path
    healed = 0
    for path, (_, _, remedy) in found.items():
        if copy := re.search(r"\((cp -a .*?)\), or ", remedy):
            healing = copy[1].replace("BACKUP", str(healthy))
            subprocess.run(healing, shell=True, check=True, timeout=10)
            healed += 1
        elif remedy.endswith("remove it"):
            remove(data, path)
    said = fsck(data, 1)
    assert "disagree" in said, "a row cannot be healed by a folder"
    with closing(sqlite3.connect(data / "fitserve.db")) as connection, connection:
        # as its client would: give it up
        connection.execute("DELETE FROM datasets WHERE sha256 = ?", ("0" * 64,))
    with Server(data) as server:  # removes the orphans
        server.terminate()
    assert "all is well" in fsck(data, 0)
    print(f"\n{len(expected)} kinds of damage, {healed} healed from a backup")


def test_after_a_restore_an_orphan_stays_for_one_start_as_is_said(
    healthy: Path, tmp_path: Path
) -> None:
    data = tmp_path / "restored"
    restored = forked("restore", str(healthy), "--data-dir", str(data))
    assert restored.returncode == 0, restored.stderr
    orphan = data / "datasets" / ORPHAN
    orphan.mkdir()
    assert "when it starts for the second time" in fsck(data, 1)
    with Server(data) as server:
        server.terminate()
    assert orphan.exists()
    assert "when it starts for" not in fsck(data, 1)
    with Server(data) as server:
        server.terminate()
    assert not orphan.exists()


def test_every_flipped_bit_of_a_manifest_is_damage(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.prepare()
    with storage.publish("models", "m") as draft:
        (draft / "weights").write_bytes(b"weights")
    artifact = Artifact("models", "m", "")
    assert list(check(storage, artifact)) == ["weights"]
    manifest = storage.path("models", "m") / MANIFEST
    whole = manifest.read_bytes()
    for place in range(len(whole) * 8):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        manifest.write_bytes(content)
        with pytest.raises(ArtifactCorrupt):
            check(storage, artifact)
    print(f"\n{len(whole) * 8} flipped bits noticed")


def test_a_damaged_database_is_said(data: Path) -> None:
    with closing(sqlite3.connect(data / "fitserve.db")) as connection:
        statement = "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_jobs_1'"
        (page,) = connection.execute(statement).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    path = data / "fitserve.db"
    content = path.read_bytes()
    start = (page - 1) * size
    path.write_bytes(content[:start] + bytes(size) + content[start + size :])
    said = fsck(data, 1)
    assert re.search(r"database +fitserve\.db: .*fitserve restore BACKUP", said)
    with closing(sqlite3.connect(path)) as connection, connection:
        path.write_bytes(content)
        orphan = "('job_gone', 0, 1, '[]', x'', '2026-01-01', x'')"
        connection.execute(f"INSERT INTO history VALUES {orphan}")
    said = fsck(data, 1)
    assert "row 1 of history" in said or "of history belongs to a row of jobs" in said
    with closing(sqlite3.connect(path)) as connection, connection:
        path.write_bytes(content)
        connection.execute(
            "INSERT INTO aliases VALUES ('line', 'a', 9, '2026-01-01', '2026-01-01')"
        )
    assert "of aliases belongs to a row of models that is not there" in fsck(data, 1)
    path.write_bytes(content[:2000])
    assert "fitserve restore BACKUP" in fsck(data, 1)


def test_a_directory_that_has_lost_its_mark_is_said(data: Path) -> None:
    (data / "identity.json").unlink()
    said = fsck(data, 1)
    assert "missing   identity.json" in said
    with Server(data) as server:
        assert server.terminate()[0] == 0
    assert "all is well" in fsck(data, 0)


def test_what_it_refuses(data: Path, tmp_path: Path) -> None:
    assert "--data-dir" in fsck(tmp_path / "none", 78)
    assert not (tmp_path / "none").exists()
    with Server(data) as server:
        said = forked("fsck", "--data-dir", str(data))
        assert said.returncode == 78
        assert f"in use by fitserve, process {server.process.pid}, {server.url}" in said.stderr
        server.line("late")
        server.kill()  # leaves a journal behind; it is read with the rest
    with redirect_stdout(io.StringIO()) as out:
        assert maintenance.fsck(load_settings(data_dir=data)), out.getvalue()
    assert f"checked {DATASETS + 5} artifacts" in out.getvalue()
    with closing(sqlite3.connect(data / "fitserve.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    assert "run `fitserve migrate`" in fsck(data, 78)
