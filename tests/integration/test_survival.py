"""What a crash, a kill and a stop leave behind."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.support.server import LINE_JOB, LONG_JOB, Server, free_port
from tests.support.soak import soak_only

SHORT = {**LONG_JOB, "epochs": 3000}


def test_kill_the_server_while_one_job_is_done_and_another_runs(data_dir: Path) -> None:
    with Server(data_dir) as server:
        server.line()
        done = server.train(**LINE_JOB)
        rows = {"rows": [{"x": x / 10} for x in range(10)]}
        before = server.ok("POST", "/v1/models/line/predict", json=rows)
        running = str(server.ok("POST", "/v1/jobs", json={**SHORT, "register_as": "long"})["id"])
        server.until(running, lambda job: job["progress"]["epoch"] > 0)
        queued = str(server.ok("POST", "/v1/jobs", json={**LINE_JOB, "register_as": "after"})["id"])
        server.kill()

        server.restart()
        assert server.ok("POST", "/v1/models/line/predict", json=rows) == before
        assert server.ok("GET", f"/v1/jobs/{done['id']}") == done
        finished = server.ended(running)
        assert finished["status"] == "succeeded"
        assert finished["attempt"] == 2
        assert server.ended(queued)["status"] == "succeeded"
        epochs = server.ok("GET", f"/v1/jobs/{running}/metrics")["series"]["train_loss"]["epoch"]
        assert epochs == list(range(3000)), "a replayed epoch was recorded twice or lost"


def test_sigterm_gives_running_jobs_back_and_ends_in_time(data_dir: Path) -> None:
    with Server(data_dir) as server:
        server.line()
        job_id = server.start_long_job()
        code, seconds = server.terminate()
        assert code == 0, server.log.read_text()
        assert seconds < 8
        assert _status(data_dir, job_id) == ("queued", 0)

        server.restart()
        again = server.until(job_id, lambda job: job["status"] == "running")
        assert again["attempt"] == 2
        server.ok("POST", f"/v1/jobs/{job_id}/cancel")
        assert server.ended(job_id)["status"] == "cancelled"


def test_sigterm_answers_those_who_wait(data_dir: Path) -> None:
    with Server(data_dir) as server:
        server.line()
        job_id = server.start_long_job()
        waiter = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import httpx, sys; r = httpx.get(sys.argv[1], timeout=60, trust_env=False);"
                "print(r.status_code, r.json()['id'])",
                f"{server.url}/v1/jobs/{job_id}?wait=60",
            ],
            stdout=subprocess.PIPE,
        )
        time.sleep(1.5)
        code, seconds = server.terminate()
        assert code == 0
        assert seconds < 8
        said, _ = waiter.communicate(timeout=20)
        assert said.decode().split() == ["200", job_id]


def test_a_training_process_that_dies_is_started_again(data_dir: Path) -> None:
    with Server(data_dir, FITSERVE_MAX_PARALLEL_JOBS="1") as server:
        server.line()
        job_id = str(server.ok("POST", "/v1/jobs", json=SHORT)["id"])
        server.until(job_id, lambda job: job["progress"]["epoch"] > 0)
        os.kill(server.training_pid(), signal.SIGKILL)
        done = server.ended(job_id)
        assert done["status"] == "succeeded"
        assert done["attempt"] == 2
        epochs = server.ok("GET", f"/v1/jobs/{job_id}/metrics")["series"]["train_loss"]["epoch"]
        assert epochs == list(range(3000))


def test_a_job_that_kills_its_process_three_times_fails(data_dir: Path) -> None:
    with Server(data_dir, FITSERVE_MAX_PARALLEL_JOBS="1") as server:
        server.line()
        job_id = server.start_long_job()
        for attempt in (1, 2, 3):
            server.until(
                job_id,
                lambda job, attempt=attempt: (
                    job["attempt"] == attempt and job["status"] == "running"
                ),
            )
            time.sleep(0.3)
            os.kill(server.training_pid(), signal.SIGKILL)
            server.until(
                job_id,
                lambda job, attempt=attempt: job["attempt"] > attempt or job["status"] == "failed",
            )
        job = server.ended(job_id)
        assert job["status"] == "failed"
        assert job["error"]["code"] == "worker_crashed"
        assert server.train(**{**LINE_JOB, "register_as": "next"})["status"] == "succeeded"
        assert server.client.get("/readyz").status_code == 200


def test_a_dead_fork_server_is_replaced(data_dir: Path) -> None:
    with Server(data_dir) as server:
        server.line()
        job_id = server.start_long_job()
        forkserver = os.getpgid(server.training_pid())
        os.kill(forkserver, signal.SIGKILL)
        job = server.until(job_id, lambda job: job["attempt"] == 2 and job["status"] == "running")
        assert job["error"] is None
        server.ok("POST", f"/v1/jobs/{job_id}/cancel")
        assert server.ended(job_id)["status"] == "cancelled"


def test_an_idle_server_mends_a_dead_fork_server_by_itself(data_dir: Path) -> None:
    with Server(data_dir) as server:
        server.line()
        first = server.train(**LINE_JOB)
        (forkserver,) = server.forkservers()
        forkserver.kill()
        deadline = time.monotonic() + 30
        while server.forkservers() in ([], [forkserver]):
            assert time.monotonic() < deadline, "nobody started another"
            time.sleep(0.1)
        server.wait_ready()
        again = server.train(**LINE_JOB)
        assert again["attempt"] == 1
        assert again["metrics"] == first["metrics"]


def test_a_step_longer_than_max_seconds_is_ended_from_outside(data_dir: Path) -> None:
    with Server(data_dir, FITSERVE_MAX_PARALLEL_JOBS="1") as server:
        server.line()
        job_id = server.start_long_job(max_seconds=2)
        os.kill(server.training_pid(), signal.SIGSTOP)  # as if one step took for ever
        job = server.ended(job_id)
        assert (job["status"], job["error"]["code"]) == ("failed", "time_limit")


def test_children_end_with_the_server(data_dir: Path) -> None:
    with Server(data_dir) as server:
        server.line()
        server.start_long_job()
        server.kill()  # asserts that no child is left


def test_what_a_crash_left_on_disk_is_swept(data_dir: Path) -> None:
    with Server(data_dir) as server:
        server.line()
        server.train(**LINE_JOB)
        server.kill()
        kept = {kind: _names(data_dir / kind) for kind in ("datasets", "models", "checkpoints")}
        for kind in kept:
            (data_dir / kind / "orphan").mkdir()
        (data_dir / "tmp" / "draft").mkdir()
        (data_dir / "tmp" / "upload.x").write_bytes(b"half a file")
        server.restart()
        assert {kind: _names(data_dir / kind) for kind in kept} == kept
        assert _names(data_dir / "tmp") == set()


def test_a_second_server_on_the_same_data_is_refused(server: Server) -> None:
    command = [sys.executable, "-m", "app", "serve", "--port", str(free_port())]
    second = subprocess.run(
        [*command, "--data-dir", str(server.data_dir)], capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 78
    assert f"process {server.process.pid}" in second.stderr
    assert server.url in second.stderr
    assert "Traceback" not in second.stderr
    assert server.client.get("/readyz").status_code == 200


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _status(data_dir: Path, job_id: str) -> tuple[str, int]:
    with sqlite3.connect(data_dir / "fitserve.db") as database:
        found = database.execute("SELECT status, crashes FROM jobs WHERE id = ?", (job_id,))
        status, crashes = found.fetchone()
    database.close()
    return status, crashes


@pytest.mark.parametrize("how", [pytest.param("terminate", marks=soak_only), "kill"])
def test_an_end_while_a_file_is_read_leaves_nothing(data_dir: Path, how: str) -> None:
    content = b"a,b\n" + b"".join(b"%d,x%d\n" % (i, i) for i in range(1_500_000))
    answers: list[int] = []

    def send() -> None:
        headers = {"Content-Type": "text/csv"}
        with contextlib.suppress(httpx.TransportError):
            response = server.client.post("/v1/datasets", content=content, headers=headers)
            answers.append(response.status_code)

    with Server(data_dir) as server:
        upload = threading.Thread(target=send)
        upload.start()
        while not any(path.name.startswith("ds_") for path in (data_dir / "tmp").iterdir()):
            assert upload.is_alive(), answers
            time.sleep(0.005)
        if how == "terminate":
            code, seconds = server.terminate()
            assert (code, seconds < 8) == (0, True)
        else:
            server.kill()
        upload.join()
        assert answers in ([], [503])
        server.restart()
        assert server.ok("GET", "/v1/datasets")["data"] == []
        assert [*(data_dir / "tmp").iterdir(), *(data_dir / "datasets").iterdir()] == []
