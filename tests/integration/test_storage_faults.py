"""A full disk, damaged and missing files: an error that says so, and recovery without a restart."""

import contextlib
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import (
    downloaded,
    jobs,
    mounted,
    processes,
    saving_job,
    settled,
    upload,
    works,
)
from tests.support.server import LINE_JOB, PATIENCE, QUICK_JOB, Server, problem
from tests.support.soak import rounds, soak_only


@pytest.fixture
def data_dir(disk: Path) -> Path:
    return disk / "data"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, megabytes=12) as disk:
        yield disk


@pytest.fixture(scope="module")
def cramped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on a small disk."""
    folder = tmp_path_factory.mktemp("cramped")
    with mounted(folder, megabytes=12) as disk, Server(disk / "data") as running:
        running.line()
        yield running


@pytest.fixture
def server(cramped: Server) -> Server:
    """That one, started again where a test has ended it."""
    return cramped if cramped.process.poll() is None else cramped.restart()


def test_a_full_disk_is_said_and_recovered_from(server: Server) -> None:
    server.train(**LINE_JOB)
    rows = {"rows": [{"x": 0.5}]}
    before = server.ok("POST", "/v1/models/line/predict", json=rows)
    filler = server.data_dir.parent / "filler"
    _fill(filler, leaving=600_000)
    wide = {**QUICK_JOB, "model": {"kind": "mlp", "hidden": [512, 512]}}
    job = server.ok("POST", "/v1/jobs", json=wide, headers={"Prefer": "wait=60"})
    assert (job["status"], job["error"]["code"]) == ("failed", "storage_full")
    _fill(filler, leaving=0)
    assert server.client.get("/readyz").status_code == 503
    table = "a,b\n" + "".join(f"{i},{i * 7919 % 1000003}\n" for i in range(50_000))
    refused = server.client.post(
        "/v1/datasets", content=table, headers={"Content-Type": "text/csv"}
    )
    problem(refused, 507, "storage_full")
    assert server.ok("POST", "/v1/models/line/predict", json=rows) == before
    assert list((server.data_dir / "tmp").iterdir()) == []
    filler.unlink()
    assert server.client.get("/readyz").status_code == 200
    again = server.train(**wide)
    assert again["status"] == "succeeded"


def test_a_full_disk_can_be_emptied(small_disk: Path) -> None:
    """Jobs that wait and run are cancelled, and jobs, models and datasets deleted, though SQLite
    has no log yet to write that to."""
    with Server(small_disk / "data", FITSERVE_MAX_PARALLEL_JOBS="1") as server:
        server.line()
        server.line("other")
        trained = server.train(**LINE_JOB)
        server.terminate()  # which puts the log back into the database
        server.restart()
        running = server.start_long_job()
        queued = server.ok("POST", "/v1/jobs", json=QUICK_JOB)["id"]
        _fill_up(small_disk / "filler")
        for job_id in (queued, running):
            server.ok("POST", f"/v1/jobs/{job_id}/cancel")
            assert server.ended(job_id)["status"] == "cancelled"
        for path in (f"jobs/{running}", f"jobs/{trained['id']}", "models/line", "datasets/other"):
            response = server.client.delete(f"/v1/{path}")
            assert response.status_code == 204, response.text
        problem(upload(server, "no"), 507, "storage_full")
        (small_disk / "filler").unlink()
        works(server, "again")


def _fill(path: Path, leaving: int) -> None:
    """Grow ``path`` until only ``leaving`` bytes are free."""
    free = shutil.disk_usage(path.parent).free
    with path.open("ab") as file:
        file.write(bytes(max(0, free - leaving)))


@soak_only
def test_a_job_on_a_disk_that_fills_up_keeps_its_checkpoint(server: Server) -> None:
    """How it ended is written once there is room; a server that is killed meanwhile says why it
    does not start again, and goes on from the checkpoint when it can."""
    filler = server.data_dir.parent / "filler"
    refused = 0
    for number in range(rounds(1, 10)):
        job_id = saving_job(server)
        _fill_up(filler, until_quiet_seconds=0.3)
        before = jobs(server)
        for _ in range(5):
            problem(server.client.post("/v1/jobs", json=QUICK_JOB), 507, "storage_full")
            problem(upload(server, "no"), 507, "storage_full")
            form = {"file": ("a.csv", "a,y\n" + "1,2\n" * 600_000)}
            problem(server.client.post("/v1/datasets", files=form), 507, "storage_full")
            refused += 3
        assert jobs(server) == before
        read = downloaded(server, job_id)
        filler.unlink()
        job = server.ended(job_id)
        assert (job["status"], job["error"]["code"]) == ("failed", "storage_full")
        assert downloaded(server, job_id) >= read >= 1

        job_id = saving_job(server)
        _fill_up(filler)
        read = downloaded(server, job_id)
        server.kill()
        _starts_or_says_why_not(server)
        filler.unlink()
        server.restart()
        again = server.until(job_id, lambda job: job["status"] == "failed" or job["attempt"] == 2)
        if again["status"] == "failed":  # it had ended before the server was killed
            assert again["error"]["code"] == "storage_full"
            continue
        server.until(job_id, lambda job: job["status"] == "running")
        assert downloaded(server, job_id) >= read >= 1
        server.ok("POST", f"/v1/jobs/{job_id}/cancel")
        server.ended(job_id)
        works(server, f"works{number}")
    removed = settled(server)
    print(f"{refused} requests refused, {read} checkpoints read, {removed} artifacts swept")


def _starts_or_says_why_not(server: Server) -> None:
    """A draft that the kill left is room that the start finds."""
    server.start()
    while server.process.poll() is None:
        if server.logged("listening", seconds=0):
            server.kill()
            return
        time.sleep(0.05)
    assert server.process.wait() == 1
    said = server.log.read_text()
    assert "no room left" in said.splitlines()[-1]
    assert "Traceback" not in said, said


@soak_only
def test_a_limit_of_file_size_is_a_full_disk(data_dir: Path) -> None:
    """The log is over it too; nobody dies of the signal that comes with it."""
    large = "a,y\n" + "1,2\n" * 400_000
    with Server(data_dir) as server:
        server.line()
        job_id = saving_job(server)
        assert all(_ignores(process.pid, signal.SIGXFSZ) for process in processes(server))
        _limit(server, 1_000_000)
        problem(upload(server, "no", large), 507, "storage_full")
        assert upload(server, "small").status_code == 201
        server.ok("POST", f"/v1/jobs/{job_id}/cancel")
        server.ended(job_id)
        wide = {**QUICK_JOB, "model": {"kind": "mlp", "hidden": [512, 512]}}
        failed = server.ok("POST", "/v1/jobs", json=wide, headers={"Prefer": "wait=60"})
        assert (failed["status"], failed["error"]["code"]) == ("failed", "storage_full")
        _limit(server, resource.RLIM_INFINITY)
        job_id = saving_job(server)
        before = jobs(server)
        _limit(server, 4096)
        assert "File too large" in server.client.get("/readyz").json()["checks"]["storage"]
        for answer in (
            server.client.post("/v1/jobs", json=QUICK_JOB),
            upload(server, "no", large),
            upload(server, "no"),
        ):
            assert answer.status_code in (503, 507), answer.text
        assert server.client.get("/v1/datasets/line/rows").status_code == 200
        read = downloaded(server, job_id)
        time.sleep(0.5)  # it comes to a checkpoint
        _limit(server, resource.RLIM_INFINITY)
        ended = server.ended(job_id)
        assert (ended["status"], ended["error"]["code"]) == ("failed", "storage_full")
        assert jobs(server) == before
        assert downloaded(server, job_id) >= read >= 1
        works(server, "again")
        removed = settled(server)
    print(f"5 requests and 2 jobs met the limit; {read} checkpoints read; {removed} swept")


def _limit(server: Server, size: int) -> None:
    for process in processes(server):
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


def _ignores(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(line.split()[1] for line in lines if line.startswith("SigIgn:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def _fill_up(path: Path, until_quiet_seconds: float = 0.0) -> None:
    """To the last byte, also of what is given up meanwhile by who finds no more."""
    full_since = time.monotonic()
    with path.open("ab", buffering=0) as file:
        while True:
            for size in (64 * 1024, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        full_since = time.monotonic()
            if time.monotonic() - full_since >= until_quiet_seconds:
                return
            time.sleep(0.02)


def test_damaged_and_missing_files_are_said(data_dir: Path) -> None:
    with Server(data_dir) as server:
        made = server.line()
        job = server.train(**LINE_JOB)
        model = server.ok("GET", "/v1/models/line")
        table = data_dir / "datasets" / made["id"] / "table.parquet"
        weights = data_dir / "models" / model["id"] / "weights.safetensors"
        paths = ["/v1/datasets/line/rows", "/v1/datasets/line/plots/scatter.png"]
        paths.append(f"/v1/jobs/{job['id']}/plots/data.png")
        whole = table.read_bytes()
        for damage in (whole[:-9], _flipped(whole), None):
            table.unlink() if damage is None else table.write_bytes(damage)
            for path in paths:
                problem(server.client.get(path), 503, "artifact_corrupt")
        problem(server.client.post("/v1/jobs", json=QUICK_JOB), 503, "artifact_corrupt")
        kept = weights.read_bytes()
        for damage in (kept[:-1], _flipped(kept), None):
            weights.unlink() if damage is None else weights.write_bytes(damage)
            problem(server.client.get("/v1/models/line/download"), 503, "artifact_corrupt")
        shutil.rmtree(data_dir / "tmp")
        assert server.client.get("/readyz").status_code == 503
        body = {"source": {"kind": "synthetic", "generator": "line"}}
        problem(server.client.post("/v1/datasets", json=body), 503, "unavailable")


def _flipped(content: bytes) -> bytes:
    """With one bit changed in the middle of the data."""
    bits = bytearray(content)
    bits[len(bits) // 3] ^= 1
    return bytes(bits)


def test_a_read_only_data_directory_exits_78(small_disk: Path) -> None:
    for rooms in ("datasets", "models", "checkpoints", "tmp"):
        (small_disk / "data" / rooms).mkdir(parents=True)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    server = Server(small_disk / "data")
    assert server.process.wait(PATIENCE) == 78
    said = server.log.read_text()
    assert "Read-only file system" in said
    assert "Traceback" not in said, said
    server.client.close()
    server.log.unlink()
