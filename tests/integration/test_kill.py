"""Training killed at random moments, alone or with its server: what is left nobody would miss."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.server import PATIENCE, Json, Server
from tests.support.soak import rounds, soak_only
from tests.support.waves import JOB, outcome, waves


def newest_checkpoint(server: Server, job_id: str) -> str | None:
    found = server.ok("GET", f"/v1/jobs/{job_id}/checkpoints")["data"]
    return str(found[0]["id"]) if found else None


def kill_training(server: Server) -> None:
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess, ValueError):  # it has ended
        os.kill(server.training_pid(), signal.SIGKILL)


def kill_server(server: Server) -> None:
    server.kill()
    server.restart()


def killed_at_random(server: Server, kill: Callable[[Server], None], times: int) -> Json:
    """A fresh job that is killed again and again, each time after a new checkpoint: three crashes
    without one would end it."""
    job_id = str(server.ok("POST", "/v1/jobs", json=JOB)["id"])
    for attempt in range(1, times + 1):
        before = newest_checkpoint(server, job_id)
        server.until(
            job_id,
            lambda job, before=before: (
                job["finished_at"] or newest_checkpoint(server, job_id) != before
            ),
        )
        time.sleep(random.random() * 0.3)
        kill(server)
        server.until(
            job_id,
            lambda job, attempt=attempt: job["finished_at"] or job["attempt"] > attempt,
        )
    return server.ended(job_id)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With one slot; a test that ends it starts it again."""
    folder = tmp_path_factory.mktemp("kill") / "data"
    with Server(folder, FITSERVE_MAX_PARALLEL_JOBS="1") as running:
        waves(running)
        yield running


@pytest.mark.parametrize(
    ("kill", "times", "jobs"),
    [(kill_training, 3, rounds(1, 100)), pytest.param(kill_server, 2, 30, marks=soak_only)],
)
def test_weights_and_history_are_those_of_an_undisturbed_run(
    server: Server, kill: Callable[[Server], None], times: int, jobs: int
) -> None:
    undisturbed = outcome(server, server.train(**JOB))
    attempts = 0
    for _ in range(jobs):
        job = killed_at_random(server, kill, times)
        assert outcome(server, job) == undisturbed, f"attempt {job['attempt']}"
        attempts += job["attempt"]
    print(f"\n{jobs} jobs, {attempts - jobs} kills hit: weights and history as undisturbed")
    assert attempts > jobs, "no kill hit a running job"


@soak_only
def test_a_server_that_is_stopped_leaves_a_checkpoint_to_go_on_from(server: Server) -> None:
    slow = {**JOB, "early_stopping": None, "checkpoint": {"every_seconds": 3600}}
    undisturbed = outcome(server, server.train(**slow))
    job_id = str(server.ok("POST", "/v1/jobs", json=slow)["id"])
    server.until(job_id, lambda job: job["progress"]["epoch"] > 3)
    code, seconds = server.terminate()
    assert code == 0
    assert seconds < 8
    server.restart()
    assert newest_checkpoint(server, job_id) is not None
    job = server.ended(job_id)
    assert job["attempt"] == 2
    assert outcome(server, job) == undisturbed


# ---------------------------------------------------------------- memory


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A cgroup of 400 MiB, where this machine lets us make one (version 1, as root)."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.split(":", 2)[2] for line in lines if ":memory:" in line), None)
    group = Path(f"/sys/fs/cgroup/memory{own}/fitserve-test-{os.getpid()}")
    try:
        if own is None:
            raise OSError
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(400 << 20))
    except OSError:
        pytest.skip("no cgroup can be made here")
    try:
        yield group
    finally:
        deadline = time.monotonic() + PATIENCE
        while group.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # its last process may be ending
                group.rmdir()
            time.sleep(0.05)


def test_a_job_that_the_kernel_ends_for_want_of_memory_says_so(
    data_dir: Path, small_memory: Path
) -> None:
    """What the server and its processes take from now on counts in the small group."""
    with Server(data_dir, FITSERVE_MAX_PARALLEL_JOBS="1") as server:
        waves(server)
        root = psutil.Process(server.process.pid)
        for process in (root, *root.children(recursive=True)):
            (small_memory / "cgroup.procs").write_text(str(process.pid))
        wide = {**JOB, "model": {"kind": "mlp", "hidden": [4000, 4000]}}
        job = server.ended(str(server.ok("POST", "/v1/jobs", json=wide)["id"]))
        assert job["status"] == "failed"
        assert job["error"]["code"] == "out_of_memory"
        assert job["attempt"] == 1
        assert server.train(**{**JOB, "epochs": 2})["status"] == "succeeded"
