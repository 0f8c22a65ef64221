"""Disks that turn read-only, fail to sync or fail to write, under a real server."""

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.support.faults import (
    SAVING,
    checkpoints,
    downloaded,
    failing,
    jobs,
    mounted_on_itself,
    names,
    saving_job,
    settled,
    upload,
    whole,
    works,
)
from tests.support.server import LINE_JOB, PATIENCE, QUICK_JOB, Server, problem
from tests.support.soak import SOAK, rounds, soak_only

_DROP_BOUND = 24
_DAC_OVERRIDE = 1


@pytest.fixture
def data_dir(disk: Path) -> Path:
    return disk / "data"


# ---------------------------------------------------------------- read-only


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A read-only mount on top: what is looked up from now on cannot be written.

    A remount is refused while a database is open, as it is for everybody; files that are open
    stay writable.
    """
    with mounted_on_itself(folder):
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield


@contextmanager
def forbidden(folder: Path) -> Iterator[None]:
    """No permission to write in it."""
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)


class Unprivileged(Server):
    """Permissions hold for it, also where it is root's."""

    def _spawn(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "app", "serve", "--port", str(self.port)]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir)],
                env=self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=_without_override if os.geteuid() == 0 else None,
            )


def _without_override() -> None:
    """Root without its right to write everywhere; it goes with the next program."""
    if ctypes.CDLL(None).prctl(_DROP_BOUND, _DAC_OVERRIDE, 0, 0, 0) != 0:
        os._exit(77)


@soak_only
def test_a_disk_that_must_not_be_written_refuses_what_writes_and_nothing_else(
    data_dir: Path,
) -> None:
    with Unprivileged(data_dir) as server:
        server.line()
        server.train(**LINE_JOB)
        for number in range(rounds(1, 10)):
            forbids = forbidden(data_dir / "tmp")
            _refused_and_recovered(server, forbids, _FORBIDDEN, f"forbidden{number}")
            mounted = read_only(data_dir)
            _refused_and_recovered(server, mounted, _MOUNTED, f"mounted{number}")
        settled(server)


_FORBIDDEN = "Permission denied", "chmod u+w"
_MOUNTED = "Read-only file system", "mount it for writing"


def _refused_and_recovered(
    server: Server, fault: AbstractContextManager[None], why: tuple[str, str], name: str
) -> None:
    """``why``: what the system says, and what readiness says to do."""
    gone = upload(server, "gone").json()["id"]
    rows = {"rows": [{"x": 0.5}]}
    before = server.ok("POST", "/v1/models/line/predict", json=rows)
    job_id = saving_job(server)
    with fault:
        failed = server.ended(job_id)
        assert (failed["status"], failed["error"]["code"]) == ("failed", "storage_full")
        assert why[0] in failed["error"]["message"]
        ready = server.client.get("/readyz")
        assert ready.status_code == 503
        assert why[1] in ready.json()["checks"]["storage"]
        problem(upload(server, "no"), 503, "unavailable")
        form = {"file": ("a.csv", "a,y\n" + "1,2\n" * 600_000)}  # larger than what stays in memory
        problem(server.client.post("/v1/datasets", files=form), 503, "unavailable")
        body = {"source": {"kind": "synthetic", "generator": "line"}}
        problem(server.client.post("/v1/datasets", json=body), 503, "unavailable")
        queued = server.client.post("/v1/jobs", json=QUICK_JOB)  # a row still can be written
        assert queued.status_code in (202, 503, 507), queued.text
        assert server.client.delete(f"/v1/datasets/{gone}").status_code == 204
        assert server.ok("POST", "/v1/models/line/predict", json=rows) == before
        assert server.client.get("/v1/datasets/line/rows").status_code == 200
        kept = downloaded(server, job_id)
    if queued.status_code == 202:
        server.ended(queued.json()["id"])
    works(server, name)
    print(f"{why[0]}: 3 uploads refused, {kept} checkpoints of the failed job read")


# ---------------------------------------------------------------- fsync, rename, write


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="fitserve-", dir="/var/tmp") as disk,
        Server(Path(disk) / "data") as running,
    ):
        running.line()
        yield running


@pytest.fixture
def server(shared: Server) -> Server:
    """On a disk, started again where a test has ended it."""
    return shared if shared.process.poll() is None else shared.restart()


def test_a_dataset_whose_files_cannot_be_synced_is_not_there(server: Server) -> None:
    """The n-th sync of a thread fails: of the table, the manifest, the folder, or its parent."""
    faults = [f"fsync,fdatasync:error=EIO:when={n}" for n in (1, 2, 3, 4)]
    faults += ["rename,renameat,renameat2:error=ENOSPC", "rename,renameat,renameat2:error=EIO"]
    refused = 0
    for number, fault in enumerate(faults * rounds(1, 5)):
        name = f"d{number}"
        with failing(server, fault) as calls:
            answer = upload(server, name)
        made = answer.status_code == 201
        if not made:
            assert calls.failed, "refused without a fault"
            full = "ENOSPC" in fault
            problem(answer, *((507, "storage_full") if full else (503, "unavailable")))
        assert (name in names(server)) == made
        assert list((server.data_dir / "tmp").iterdir()) == []
        refused += not made
    assert refused == len(faults) * rounds(1, 5)
    works(server, "again")
    assert not any(whole(server.data_dir).values())
    print(f"{refused} uploads refused, nothing left of them")


@soak_only
def test_what_was_answered_503_is_absent_or_whole_also_after_a_crash(data_dir: Path) -> None:
    """A commit that could not be synced may be in SQLite's log all the same, and a crash brings it
    back; until then nobody sees it."""
    refused = returned = 0
    wal = data_dir / "fitserve.db-wal"
    with Server(data_dir) as server:
        server.line()
        for number in range(rounds(1, 10)):
            for place, call in enumerate(("fsync,fdatasync", "pwrite64")):
                for error in ("EIO", "ENOSPC"):
                    name = f"d{number}-{place}-{error}"
                    before = jobs(server)
                    with failing(server, f"{call}:error={error}", wal, only=server.process.pid):
                        job = server.client.post("/v1/jobs", json=QUICK_JOB)
                        dataset = upload(server, name)
                    for answer in (job, dataset):
                        assert answer.status_code in (503, 507), answer.text
                        refused += 1
                    assert jobs(server) == before
                    assert name not in names(server)
                    if (call, error) == ("fsync,fdatasync", "EIO") or SOAK:
                        server.kill()
                        server.restart()
                        for job_id in jobs(server):
                            assert server.ended(job_id)["status"] == "succeeded"
                        returned += len(jobs(server) - before) + (name in names(server))
                    whole(data_dir)
                    works(server, f"{name}-works")
        removed = settled(server)
    print(f"{refused} refused; {returned} back after a crash, whole; {removed} artifacts swept")


def test_a_checkpoint_that_cannot_be_published_leaves_the_one_before(server: Server) -> None:
    """Only the training child is hit."""
    faults = ["fsync,fdatasync:error=EIO", "rename,renameat,renameat2:error=ENOSPC"]
    if SOAK:
        faults += ["mkdir,mkdirat:error=EROFS", "fsync,fdatasync:error=EIO:when=4"]
    read = 0
    for fault in faults * rounds(1, 10):
        job_id = saving_job(server)
        with failing(server, fault, only=server.training_pid()) as calls:
            failed = server.until(job_id, lambda job: job["status"] != "running")
        assert calls.failed
        assert (failed["status"], failed["error"]["code"]) == ("failed", "storage_full")
        read += downloaded(server, job_id)
        assert list((server.data_dir / "tmp").iterdir()) == []
        works(server, f"works-{read}")
    removed = settled(server)
    assert read >= len(faults)
    print(f"{read} checkpoints of {len(faults)} failed jobs read; {removed} artifacts swept")


# ---------------------------------------------------------------- while the database fails


@soak_only
@pytest.mark.parametrize("call", ["pwrite64", "fsync,fdatasync"] if SOAK else ["pwrite64"])
def test_a_server_that_stops_while_its_database_fails_loses_no_checkpoint(
    data_dir: Path, call: str
) -> None:
    with Server(data_dir) as server:
        server.line()
        job_id = saving_job(server, checkpoint={"every_seconds": 0.1, "keep": 1})
        wal, server_only = data_dir / "fitserve.db-wal", server.process.pid
        with failing(server, f"{call}:error=EIO", wal, only=server_only):
            assert server.logged("a job's state cannot be written")
            assert server.terminate()[0] == 0
        server.restart()
        whole(data_dir)
        kept = checkpoints(server, job_id)
        assert kept
        assert "Traceback" not in server.log.read_text()
        job = server.until(job_id, lambda job: job["status"] == "running")
        assert job["attempt"] == 2
        server.kill()
    print(f"{call}: {len(kept)} checkpoints whole")


@soak_only
@pytest.mark.parametrize("stops", [True, False] if SOAK else [True])
def test_a_result_that_cannot_be_recorded_is_recorded_when_it_can(
    data_dir: Path, stops: bool
) -> None:
    """The job waits, neither lost nor done twice; where the server stops, the next one knows."""
    short = {**SAVING, "dataset": "line", "target": "y", "epochs": 600, "early_stopping": None}
    with Server(data_dir) as server:
        server.line()
        job_id = str(server.ok("POST", "/v1/jobs", json=short)["id"])
        server.until(job_id, lambda job: job["status"] == "running")
        wal, server_only = data_dir / "fitserve.db-wal", server.process.pid
        with failing(server, "fsync,fdatasync:error=EIO", wal, only=server_only):
            deadline = time.monotonic() + PATIENCE
            while not list((data_dir / "models").glob("*/manifest.json")):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert server.logged("a job's state cannot be written")
            if stops:
                assert server.terminate()[0] == 0
        if stops:
            server.restart()
        job = server.ended(job_id)
        assert job["status"] == "succeeded", job["error"]
        assert job["attempt"] <= 1 + stops
        whole(data_dir)
        path = f"/v1/models/{job['model']['ref']}/download"
        assert server.client.get(path).status_code == 200
        removed = settled(server)
    print(f"recorded in attempt {job['attempt']}; {removed} artifacts swept")
