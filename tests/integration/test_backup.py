"""``fitserve backup`` and ``restore``: under load, killed, without room, and between databases."""

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.cli import maintenance
from app.db.models import Base
from app.db.session import Database
from app.errors import ConfigurationError, StorageFull
from app.maintenance import backup as copying
from app.maintenance.backup import CopyReport, House
from app.runtime.artifacts import Artifact
from app.settings import load_settings
from app.storage import KINDS, Storage
from tests.support.command_line import forked
from tests.support.faults import mounted
from tests.support.postgres import Postgres
from tests.support.server import LINE_JOB, PATIENCE, Json, Server
from tests.support.soak import SOAK, rounds, soak_only

QUICK: Json = {**LINE_JOB, "epochs": 3, "register_as": None}
ROWS = {"rows": [{"x": x / 10} for x in range(10)]}
BIG = 300_000
"""Rows of a table that takes a moment to copy."""


def command(*arguments: object, code: int = 0, **environment: str) -> str:
    """What a ``fitserve`` command says, in a process of its own."""
    done = forked(*map(str, arguments), **environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def backup(data: Path, folder: Path, **settings: str) -> bool:
    """The same in this process, which is quicker."""
    with redirect_stdout(io.StringIO()):
        return maintenance.backup(load_settings(data_dir=data, **settings), folder)


def restore(folder: Path, data: Path, **settings: str) -> bool:
    with redirect_stdout(io.StringIO()):
        return maintenance.restore(load_settings(data_dir=data, **settings), folder)


def fsck(data: Path, **settings: str) -> str:
    """Its last line; all must be well."""
    with redirect_stdout(io.StringIO()) as said:
        assert maintenance.fsck(load_settings(data_dir=data, **settings)), said.getvalue()
    return said.getvalue().strip()


def rows_of(where: Path | str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table but the identity, as Python has them: a copy is another house."""
    found = {}
    with closing(Database(where)) as database, database.read() as session:
        for table in Base.metadata.sorted_tables:
            if table.name == "identity":
                continue
            ordered = select(table).order_by(*table.primary_key)
            found[table.name] = [dict(row) for row in session.execute(ordered).mappings()]
    return found


def artifacts_of(data: Path) -> dict[str, bytes]:
    files = (path for kind in KINDS for path in (data / kind).rglob("*") if path.is_file())
    return {str(path.relative_to(data)): path.read_bytes() for path in files}


def partials(folder: Path) -> list[Path]:
    return list(folder.glob("*.partial-*"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a server that has ended, with a row in every table."""
    folder = tmp_path_factory.mktemp("full") / "data"
    with Server(folder, FITSERVE_MAX_PARALLEL_JOBS="1") as server:
        server.line()
        job = server.train(**LINE_JOB)
        server.train(**{**LINE_JOB, "metadata": {"é\n": "\\u0000 \U0001f40d"}})
        options = {"json": {**QUICK, "metadata": {"a": "b"}}, "headers": {"Idempotency-Key": "k"}}
        server.ended(str(server.ok("POST", "/v1/jobs", **options)["id"]))
        server.ok("PUT", "/v1/models/line/aliases/champion", json={"version": 1})
        [checkpoint] = server.ok("GET", f"/v1/jobs/{job['id']}/checkpoints")["data"]
        server.ok("POST", f"/v1/jobs/{job['id']}/checkpoints/{checkpoint['id']}/promote")
        worse = {**QUICK, "optimizer": {"kind": "sgd", "lr": 1e30}, "epochs": 50}
        server.ended(str(server.ok("POST", "/v1/jobs", json=worse)["id"]))
        table = "x,y\n" + "".join(f"{random.random()},{random.random()}\n" for _ in range(BIG))
        csv = {"content": table, "headers": {"Content-Type": "text/csv"}}
        server.ok("POST", "/v1/datasets?name=big", **csv)
        server.terminate()
    assert all(rows_of(folder / "fitserve.db").values()), "every table has rows"
    return folder


# ---------------------------------------------------------------- under load


class Load:
    """Clients that make and delete datasets and jobs, and remember what they were answered."""

    def __init__(self, server: Server) -> None:
        self._url = server.url
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.made: dict[str, set[str]] = {"datasets": set(), "jobs": set()}
        self.unsure: dict[str, set[str]] = {"datasets": set(), "jobs": set()}
        """Somebody was about to delete them."""
        self.deleted: set[str] = set()
        self.requests = 0
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=[n]) for n in range(4)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def there(self) -> set[str]:
        """What certainly exists now."""
        with self._lock:
            return {one for kind in self.made for one in self.made[kind] - self.unsure[kind]}

    def _run(self, number: int) -> None:
        choose = random.Random(number)
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
            while not self._stop.is_set():
                kind = choose.choice(["datasets", "jobs"])
                try:
                    self._make(client, kind, choose)
                    self._delete_one(client, kind, choose)
                except (httpx.HTTPError, AssertionError) as error:
                    self.errors.append(repr(error))
                self.requests += 2
                time.sleep(0.05)

    def _make(self, client: httpx.Client, kind: str, choose: random.Random) -> None:
        rows = [{"x": choose.random(), "y": choose.random()} for _ in range(50)]
        body = {"source": {"kind": "inline", "rows": rows}} if kind == "datasets" else QUICK
        answer = client.post(f"/v1/{kind}", json=body)
        assert answer.status_code in (201, 202), answer.text
        with self._lock:
            self.made[kind].add(answer.json()["id"])

    def _delete_one(self, client: httpx.Client, kind: str, choose: random.Random) -> None:
        with self._lock:
            left = sorted(self.made[kind] - self.unsure[kind])
            if choose.random() < 0.5 or not left:
                return
            one = choose.choice(left)
            self.unsure[kind].add(one)
        if kind == "jobs":
            client.post(f"/v1/jobs/{one}/cancel")
        answer = client.delete(f"/v1/{kind}/{one}")
        assert answer.status_code in (204, 409), answer.text
        if answer.status_code == 204:
            self.deleted.add(one)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=soak_only)])
def test_backups_under_load_are_whole(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    data, count, shared = tmp_path / "data", rounds(1, 20), {}
    if kind == "postgres":
        shared["FITSERVE_DATABASE_URL"] = request.getfixturevalue("postgres").database()
    promised: list[tuple[set[str], set[str]]] = []
    with Server(data, FITSERVE_MAX_PARALLEL_JOBS="1", **shared) as server:
        server.line()
        server.train(**LINE_JOB)
        predicted = server.ok("POST", "/v1/models/line/predict", json=ROWS)
        with Load(server) as load:
            for number in range(count):
                time.sleep(0.7)
                there, deleted = load.there(), set(load.deleted)
                command("backup", tmp_path / f"backup{number}", "--data-dir", data, **shared)
                promised.append((there & load.there(), deleted))
        assert load.errors == []
    assert partials(tmp_path) == []
    print(f"\n{count} backups of {kind} during {load.requests} requests")
    for number, (there, deleted) in enumerate(promised):
        found = rows_of(tmp_path / f"backup{number}" / "fitserve.db")
        ids = {str(row["id"]) for table in ("datasets", "jobs") for row in found[table]}
        assert there <= ids, "what was answered before is in it"
        assert not deleted & ids, "what was deleted before is not"
        said = fsck(tmp_path / f"backup{number}")
        print(f"  {said}; {len(there)} must be there, {len(deleted)} must not")
    for number in range(count)[-rounds(1, 5) :] if SOAK or kind == "sqlite" else ():
        serves(tmp_path / f"backup{number}", promised[number][0], predicted)


def serves(folder: Path, there: set[str], predicted: Json) -> None:
    """A server on a backup reads every dataset, ends every job and predicts the same."""
    with Server(folder) as copy:
        for row in rows_of(folder / "fitserve.db")["datasets"]:
            copy.ok("GET", f"/v1/datasets/{row['id']}/rows")
        assert copy.ok("POST", "/v1/models/line/predict", json=ROWS) == predicted
        for job_id in sorted(one for one in there if one.startswith("job"))[-10:]:
            assert copy.ended(job_id)["status"] in ("succeeded", "cancelled")


class Meanwhile:
    """What a client does between the rows' snapshot and the copy of their artifacts."""

    def __init__(self, server: Server, *paths: str) -> None:
        self._server, self._paths = server, paths

    def __call__(self, artifacts: Sequence[Artifact]) -> Iterable[Artifact]:
        for path in self._paths:
            verb, _, where = path.partition(" ")
            self._server.ok(verb, where) if verb == "POST" else self._server.client.delete(where)
            if where.endswith("/cancel"):
                self._server.ended(where.split("/")[3])
        return artifacts


def copy_while(server: Server, folder: Path, *paths: str) -> CopyReport:
    storage = Storage(server.data_dir)
    with closing(Database(storage.database_path)) as database:
        return copying.backup(House(storage, database), folder, "test", Meanwhile(server, *paths))


@soak_only
def test_what_is_deleted_meanwhile_and_what_runs(
    tmp_path: Path, full: Path, postgres: Postgres
) -> None:
    data = Path(shutil.copytree(full, tmp_path / "data"))
    saved, without, home = tmp_path / "saved", tmp_path / "without", tmp_path / "home"
    with Server(data) as server:
        ended = server.ok("GET", "/v1/jobs?status=succeeded")["data"][0]["id"]
        running = server.start_long_job(checkpoint={"every_seconds": 0.1, "keep": 2})
        server.until(running, lambda _: server.ok("GET", f"/v1/jobs/{running}/checkpoints")["data"])
        assert backup(data, saved)
        copied = copy_while(
            server,
            without,
            f"DELETE /v1/jobs/{ended}",
            f"POST /v1/jobs/{running}/cancel",
            "DELETE /v1/models/line@1",
            "DELETE /v1/datasets/line",
        )
        assert server.client.get("/v1/datasets/line").status_code == 404
    assert copied.lost == []
    assert {artifact.kind for artifact in copied.deleted} == {"datasets", "models", "checkpoints"}
    fsck(without)
    assert restore(without, home)
    rows = rows_of(home / "fitserve.db")
    assert [row["name"] for row in rows["datasets"]] == ["big"]
    assert [row["alias"] for row in rows_of(saved / "fitserve.db")["aliases"]] == ["champion"]
    assert rows["aliases"] == []  # it went with its version
    status = {row["id"]: row["status"] for row in rows["jobs"]}
    assert (status[ended], status[running]) == ("succeeded", "cancelled")
    print(f"\n{len(copied.deleted)} artifacts went while the copy was made")
    goes_on(running, saved, tmp_path / "there", postgres.database())


def goes_on(job_id: str, saved: Path, there: Path, url: str) -> None:
    """A job that ran when its house was saved is trained further where that was restored."""
    assert restore(saved, there, database_url=url)
    (job,) = (row for row in rows_of(url)["jobs"] if row["id"] == job_id)
    assert (job["status"], job["attempt"]) == ("queued", 1)
    with Server(there, FITSERVE_DATABASE_URL=url) as server:
        done = job["epochs_done"]
        job = server.until(job_id, lambda job: job["progress"]["epoch"] > done)
        assert job["attempt"] == 2
        server.ok("POST", f"/v1/jobs/{job_id}/cancel")


@soak_only
def test_what_is_damaged_is_said_and_not_copied(tmp_path: Path, full: Path) -> None:
    data = Path(shutil.copytree(full, tmp_path / "data"))
    model, other = sorted((data / "models").iterdir())[:2]
    weights = bytearray((model / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "weights.safetensors").write_bytes(weights)
    shutil.rmtree(other)
    said = command("backup", tmp_path / "backup", "--data-dir", data, code=1)
    assert f"damaged   models/{model.name}: weights.safetensors does not match its hash" in said
    assert f"missing   models/{other.name}: its folder is not there" in said
    assert "2 artifacts could not be copied" in said
    assert command("fsck", "--data-dir", tmp_path / "backup", code=1).count("missing") == 2
    assert rows_of(tmp_path / "backup" / "fitserve.db") == rows_of(data / "fitserve.db")


# ---------------------------------------------------------------- ended in the middle


def interrupted(
    arguments: Sequence[str], folder: Path, pattern: str, number: int, wait: float
) -> int:
    """Its exit code, when the signal was sent that long after a file of that kind was there."""
    known = set(folder.glob(pattern))  # of those that were killed before
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and known.issuperset(folder.glob(pattern)):
        time.sleep(0.001)
    time.sleep(wait)
    process.send_signal(number)
    return process.wait(PATIENCE)


def test_a_backup_that_was_ended_leaves_nothing_that_looks_whole(
    tmp_path: Path, full: Path
) -> None:
    codes, left = [], 0
    for turn in range(rounds(1, 60)):
        number = (signal.SIGKILL, signal.SIGTERM)[turn % 2]
        folder, wait = tmp_path / number.name, random.random() * 0.4
        arguments = ["backup", str(folder), "--data-dir", str(full)]
        codes.append(interrupted(arguments, tmp_path, f"{number.name}.*/tmp", number, wait))
        assert codes[-1] in (0, 128 + signal.SIGTERM, -signal.SIGKILL, -signal.SIGTERM)
        if codes[-1] == -signal.SIGTERM:
            assert folder.exists(), "only an interpreter that has done its work ends like this"
        if folder.exists():  # it was quicker
            fsck(folder)
            shutil.rmtree(folder)
        left = max(left, len(partials(tmp_path)))
        assert not list(tmp_path.glob("SIGTERM.*")), "it removes what it has made"
    assert left <= 1, "the next one removes what a killed one left"
    for name in ("SIGKILL", "SIGTERM"):
        assert backup(full, tmp_path / name)
        fsck(tmp_path / name)
    assert partials(tmp_path) == []
    print(f"\nbackups ended early: {sorted(codes)}")


@soak_only
def test_a_restore_that_was_killed_can_be_repeated(tmp_path: Path, full: Path) -> None:
    saved, data = tmp_path / "backup", tmp_path / "data"
    backup(full, saved)
    codes = []
    for _ in range(rounds(1, 60)):
        arguments = ["restore", str(saved), "--data-dir", str(data)]
        wait = random.random() * 0.4
        codes.append(interrupted(arguments, data, "tmp/restore.*", signal.SIGKILL, wait))
        if (data / "fitserve.db").exists():  # it was quicker
            assert rows_of(data / "fitserve.db") == rows_of(full / "fitserve.db")
        if artifacts_of(data):  # at the earliest between the renames and the commit
            shutil.rmtree(data)
    assert restore(saved, data)
    assert rows_of(data / "fitserve.db") == rows_of(full / "fitserve.db")
    with Server(data) as server:  # removes from scratch what the killed ones left
        server.terminate()
    print(f"\nrestores killed early: {sorted(codes)}; {fsck(data)}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, megabytes=8) as disk:
        yield disk


def test_a_damaged_backup_is_refused_and_leaves_nothing(tmp_path: Path, full: Path) -> None:
    damaged, new = tmp_path / "damaged", tmp_path / "new"
    shutil.copytree(full, damaged)
    content = bytearray((damaged / "fitserve.db").read_bytes())
    size = 4096
    for page in range(1, len(content) // size, 3):
        content[page * size : (page + 1) * size] = os.urandom(size)
    (damaged / "fitserve.db").write_bytes(content)
    for start in (content, os.urandom(size) + content[size:]):
        (damaged / "fitserve.db").write_bytes(start)
        refused = forked("restore", str(damaged), "--data-dir", str(new))
        assert refused.returncode == 78, refused
        assert "is damaged: " in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert "restore another backup" in refused.stderr
        assert not new.exists()


def test_without_room_nothing_is_left(small_disk: Path, full: Path) -> None:
    least = sum(map(len, artifacts_of(full).values()))
    filler = small_disk / "filler"
    for leaving in (0, 20_000, 1_200_000, least - 1_000, least + 50_000):
        filler.unlink(missing_ok=True)
        with filler.open("wb") as file:
            file.write(bytes(shutil.disk_usage(small_disk).free - leaving))
        with pytest.raises(StorageFull, match="no room for the backup"):
            backup(full, small_disk / "backup")
        assert list(small_disk.iterdir()) == [filler], leaving
    said = command("backup", small_disk / "backup", "--data-dir", full, code=1)
    assert said.startswith("fitserve: no room for the backup")
    assert len(said.splitlines()) == 1
    with pytest.raises(StorageFull, match="free some"):
        restore(full, small_disk / "data")
    assert not list((small_disk / "data").glob("fitserve.db*"))
    assert artifacts_of(small_disk / "data") == {}
    with pytest.raises(ConfigurationError, match="is a mount point"):
        backup(full, small_disk)


# ---------------------------------------------------------------- and back


def test_sqlite_to_postgres_and_back(tmp_path: Path, full: Path, postgres: Postgres) -> None:
    url = postgres.database()
    there, back, home = tmp_path / "there", tmp_path / "back", tmp_path / "home"
    assert restore(full, there, database_url=url)
    assert not (there / "fitserve.db").exists()
    original, files = rows_of(full / "fitserve.db"), artifacts_of(full)
    assert rows_of(url) == original
    assert artifacts_of(there) == files
    fsck(there, database_url=url)
    with Server(there, FITSERVE_DATABASE_URL=url) as server:
        server.ok("POST", "/v1/models/line/predict", json=ROWS)
        again = {**QUICK, "metadata": {"a": "b"}}
        replayed = server.client.post("/v1/jobs", json=again, headers={"Idempotency-Key": "k"})
        assert replayed.headers["idempotent-replayed"] == "true"
        assert backup(there, back, database_url=url)
        with pytest.raises(ConfigurationError, match="in use by fitserve, process"):
            fsck(there, database_url=url)
    assert rows_of(back / "fitserve.db") == original
    assert artifacts_of(back) == files
    assert restore(back, home)
    assert rows_of(home / "fitserve.db") == original
    assert artifacts_of(home) == files
    counts = {name: len(rows) for name, rows in original.items()}
    print(f"\n{counts}, {len(files)} files: SQLite → Postgres → SQLite → SQLite")
    refusals(full, home, there, tmp_path, url)
    postgres.drop(url)


def refusals(full: Path, home: Path, there: Path, tmp_path: Path, url: str) -> None:
    """Nothing is ever overwritten."""
    new = tmp_path / "new"
    attempts: dict[str, Callable[[], bool]] = {
        "home is not empty": lambda: restore(full, home),
        "there is not empty": lambda: restore(full, there),
        "name an empty database": lambda: restore(full, new, database_url=url),
        "is no backup": lambda: restore(tmp_path, new),
        "lies in the backup itself": lambda: restore(full, full / "sub"),
        "home is not empty; name": lambda: backup(full, home),
        "lies in the data directory": lambda: backup(full, full / "tmp" / "b"),
        "there is no": lambda: backup(tmp_path / "none", new),
        "cannot make": lambda: backup(full, Path("/proc/b")),
    }
    for said, attempt in attempts.items():
        with pytest.raises(ConfigurationError, match=said):
            attempt()
