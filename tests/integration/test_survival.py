"""What a crash, a kill and a stop leave behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.ids import new_id
from tests.support.faults import saving_job, whole
from tests.support.server import LINE_JOB, LONG_JOB, PATIENCE, Server, free_port
from tests.support.soak import soak_only

EPOCHS = 1000
SHORT = {**LONG_JOB, "model": "mlp", "epochs": EPOCHS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For all of these tests, with one slot; one that ends it starts it again."""
    folder = tmp_path_factory.mktemp("survival") / "data"
    with Server(folder, FITSERVE_MAX_PARALLEL_JOBS="1") as running:
        running.line()
        yield running


@soak_only
def test_kill_the_server_while_one_job_is_done_and_another_runs(server: Server) -> None:
    """No child is left, and the next start sweeps what has no row."""
    data_dir = server.data_dir
    done = server.train(**LINE_JOB)
    rows = {"rows": [{"x": x / 10} for x in range(10)]}
    before = server.ok("POST", "/v1/models/line/predict", json=rows)
    running = str(server.ok("POST", "/v1/jobs", json={**SHORT, "register_as": "long"})["id"])
    server.until(running, lambda job: job["progress"]["epoch"] > 0)
    queued = str(server.ok("POST", "/v1/jobs", json={**LINE_JOB, "register_as": "after"})["id"])
    server.kill()  # asserts that no child is left

    kept = {kind: _names(data_dir / kind) for kind in ("datasets", "models", "checkpoints")}
    orphan = new_id("ds")
    for kind in kept:
        (data_dir / kind / orphan).mkdir()
    (data_dir / "tmp" / "draft").mkdir()
    (data_dir / "tmp" / "upload.x").write_bytes(b"half a file")
    server.restart()
    assert not any((data_dir / kind / orphan).exists() for kind in kept)
    assert not {"draft", "upload.x"} & _names(data_dir / "tmp")

    assert server.ok("POST", "/v1/models/line/predict", json=rows) == before
    assert server.ok("GET", f"/v1/jobs/{done['id']}") == done
    finished = server.ended(running)
    assert finished["status"] == "succeeded"
    assert finished["attempt"] == 2
    assert server.ended(queued)["status"] == "succeeded"
    epochs = server.ok("GET", f"/v1/jobs/{running}/metrics")["series"]["train_loss"]["epoch"]
    assert epochs == list(range(EPOCHS)), "a replayed epoch was recorded twice or lost"
    assert all(_names(data_dir / kind) >= kept[kind] for kind in ("datasets", "models"))


@soak_only
def test_a_training_process_that_dies_is_started_again(server: Server) -> None:
    job_id = str(server.ok("POST", "/v1/jobs", json=SHORT)["id"])
    server.until(job_id, lambda job: job["progress"]["epoch"] > 0)
    os.kill(server.training_pid(), signal.SIGKILL)
    done = server.ended(job_id)
    assert done["status"] == "succeeded"
    assert done["attempt"] == 2
    epochs = server.ok("GET", f"/v1/jobs/{job_id}/metrics")["series"]["train_loss"]["epoch"]
    assert epochs == list(range(EPOCHS))


def test_a_process_that_is_ended_while_it_saves_leaves_nothing(server: Server) -> None:
    """It cannot answer that it is cancelled, and has told nobody yet of what it has published."""
    folder = server.data_dir / "checkpoints"
    job_id = saving_job(server, register_as="stuck")
    training, known = server.training_pid(), _names(folder)
    while not _names(folder) - known:
        pass
    os.kill(training, signal.SIGSTOP)
    unrecorded = whole(server.data_dir)["checkpoints"]
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    assert server.ended(job_id)["status"] == "cancelled"
    assert unrecorded, "nothing was tested"
    deadline = time.monotonic() + PATIENCE
    while whole(server.data_dir)["checkpoints"]:
        assert time.monotonic() < deadline, "what no row names is still there"
        time.sleep(0.05)


@soak_only
def test_a_dead_fork_server_is_replaced(server: Server) -> None:
    job_id = server.start_long_job()
    forkserver = os.getpgid(server.training_pid())
    os.kill(forkserver, signal.SIGKILL)
    job = server.until(job_id, lambda job: job["attempt"] == 2 and job["status"] == "running")
    assert job["error"] is None
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    assert server.ended(job_id)["status"] == "cancelled"


@soak_only
def test_an_idle_server_mends_a_dead_fork_server_by_itself(server: Server) -> None:
    first = server.train(**LINE_JOB)
    (forkserver,) = server.forkservers()
    forkserver.kill()
    deadline = time.monotonic() + PATIENCE
    while server.forkservers() in ([], [forkserver]):
        assert time.monotonic() < deadline, "nobody started another"
        time.sleep(0.1)
    server.wait_ready()
    again = server.train(**LINE_JOB)
    assert again["attempt"] == 1
    assert again["metrics"] == first["metrics"]


def test_a_step_longer_than_max_seconds_is_ended_from_outside(server: Server) -> None:
    job_id = server.start_long_job(max_seconds=2)
    os.kill(server.training_pid(), signal.SIGSTOP)  # as if one step took for ever
    job = server.ended(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "time_limit")


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


@pytest.mark.parametrize("how", [pytest.param("terminate", marks=soak_only), "kill"])
def test_an_end_while_a_file_is_read_leaves_nothing(server: Server, how: str) -> None:
    content = b"a,b\n" + b"".join(b"%d,x%d\n" % (i, i) for i in range(1_500_000))
    answers: list[int] = []
    data_dir = server.data_dir
    before = _names(data_dir / "datasets")

    def send() -> None:
        headers = {"Content-Type": "text/csv"}
        with contextlib.suppress(httpx.TransportError):
            response = server.client.post("/v1/datasets", content=content, headers=headers)
            answers.append(response.status_code)

    upload = threading.Thread(target=send)
    upload.start()
    while not any(name.startswith("ds_") for name in _names(data_dir / "tmp")):
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
    assert {row["id"] for row in server.everything("/v1/datasets")} == before
    assert _names(data_dir / "datasets") == before
    assert _names(data_dir / "tmp") == set()
