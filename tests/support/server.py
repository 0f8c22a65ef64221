"""A real fitserve process on a free port of loopback, and a client for it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.executors.local import TRAINING
from tests.support.forked import Forked

READY_SECONDS = 120
PATIENCE = 120
"""Seconds until a test gives up on what takes one or two where nothing else runs."""
Json = dict[str, Any]

LINE_JOB: Json = {
    "dataset": "line",
    "target": "y",
    "features": ["x"],
    "task": "regression",
    "split": {
        "train": 0.8,
        "validation": 0.0,
        "test": 0.2,
        "strategy": "sequential",
        "seed": 0,
    },
    "preprocessing": {"numbers": "none", "target": "none"},
    "model": {"kind": "linear", "init": "normal"},
    "loss": "l1",
    "optimizer": {"kind": "sgd", "lr": 0.01},
    "scheduler": None,
    "epochs": 100,
    "batch_size": None,
    "seed": 42,
    "early_stopping": None,
    "gradient_clip_norm": None,
    "checkpoint": {"every_seconds": 30, "keep": 2},
    "device": "auto",
    "threads": 1,
    "max_seconds": None,
    "priority": 0,
    "register_as": "line",
    "metadata": {},
}
"""The straight line of the contract."""

QUICK_JOB: Json = {"dataset": "line", "target": "y", "epochs": 5}

LONG_JOB: Json = {
    "dataset": "line",
    "target": "y",
    "split": {"train": 0.8, "test": 0.2},
    "epochs": 10_000_000,
}
"""Runs until it is stopped."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A ``fitserve`` process: its log, its children, and the ways to end it."""

    forked = False
    """Whether it is forked from a process that has imported everything, as most are in tests."""

    def __init__(self, *command: str, **environment: str) -> None:
        self.log = Path(tempfile.mkstemp(prefix="fitserve-", suffix=".log")[1])
        self._command = command
        self._log_start = 0
        clean = {k: v for k, v in os.environ.items() if not k.startswith("FITSERVE_")}
        self._environment = {**clean, **environment}
        self.process = self._spawn()

    def _spawn(self) -> "subprocess.Popen[bytes] | Forked":
        if self.forked:
            return Forked(self._command, self._environment, Path.cwd(), self.log, self.log)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "app", *self._command],
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def start(self) -> None:
        """Again, after its end; does not wait until it is ready."""
        self._log_start = self.log.stat().st_size
        self.process = self._spawn()

    def logged(self, text: str, seconds: float = PATIENCE) -> bool:
        """Whether a line with ``text`` comes, or has come since the last start; a request's line
        follows its answer."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.log.read_bytes()[self._log_start :]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def kill(self) -> None:
        """SIGKILL, as a power cut would; returns when every child is gone too."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + PATIENCE
        while any(map(_lives, children)):
            assert time.monotonic() < deadline, children
            time.sleep(0.01)

    def terminate(self) -> tuple[int, float]:
        """SIGTERM; ``(exit code, seconds it took)``."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE), time.monotonic() - started

    def training_pid(self) -> int:
        """The process that trains, where one job runs; those that wait have another name, and it
        too until it has got to its task."""
        deadline = time.monotonic() + PATIENCE
        while len(training := self._training()) != 1:
            assert time.monotonic() < deadline, training
            time.sleep(0.01)
        return int(training[0].pid)

    def _training(self) -> list[psutil.Process]:
        (forkserver,) = self.forkservers()
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child for child in forkserver.children() if _trains(child)]
        return []

    def forkservers(self, work: str = "training") -> list[psutil.Process]:
        """The fork server whose children do that ``work``; none while there is none."""
        alive = filter(_lives, psutil.Process(self.process.pid).children())
        names = {f"app.executors.{work}"}
        if work == "training":
            names.add("tests.support.forked")  # what else a forked process starts is executed
        return [child for child in alive if names & set(child.cmdline())]

    def __exit__(self, *_: object) -> None:
        """End it at once if it still runs: how it ends when asked is for tests that ask."""
        if self.process.poll() is None:
            self.kill()
        self.log.unlink(missing_ok=True)


class Server(Process):
    """``with Server(path) as server: server.client.get(...)``."""

    def __init__(self, data_dir: Path, *arguments: str, **environment: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        key = environment.get("FITSERVE_API_KEY")
        self.client = httpx.Client(
            base_url=self.url,
            timeout=90,  # a wait is at most 60
            trust_env=False,
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        options = ("--port", str(self.port), "--data-dir", str(data_dir), *arguments)
        super().__init__("serve", *options, **environment)

    def wait_ready(self) -> "Server":
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.client.get("/readyz").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"not ready after {READY_SECONDS} s: {self.log.read_text()}")

    def restart(self) -> "Server":
        self.start()
        return self.wait_ready()

    def __enter__(self) -> "Server":
        return self.wait_ready()

    def __exit__(self, *_: object) -> None:
        self.client.close()
        super().__exit__()

    # ------------------------------------------------------------ shorthands

    def line(self, name: str = "line") -> Json:
        source = {"kind": "synthetic", "generator": "line"}
        return self.ok("POST", "/v1/datasets", json={"name": name, "source": source})

    def ok(self, method: str, path: str, **options: Any) -> Json:
        response = self.client.request(method, path, **options)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        body: Json = response.json()
        return body

    def everything(self, path: str, order: str = "asc", limit: int = 100) -> list[Json]:
        """What a list has on all its pages, oldest first."""
        found: list[Json] = []
        options: Json = {"order": order, "limit": limit}
        while True:
            page = self.ok("GET", path, params=options)
            found += page["data"]
            if not page["has_more"]:
                return found
            options["after"] = page["last_id"]

    def train(self, **job: Any) -> Json:
        """A job that has succeeded."""
        options = {"json": job, "headers": {"Prefer": "wait=60"}}
        done = self.ok("POST", "/v1/jobs", **options)
        if not done["finished_at"]:
            done = self.ended(done["id"])
        assert done["status"] == "succeeded", done["error"]
        return done

    def start_long_job(self, **changes: Any) -> str:
        """A job that has recorded its first epochs and would go on for hours."""
        job_id = str(self.ok("POST", "/v1/jobs", json={**LONG_JOB, **changes})["id"])
        self.until(job_id, lambda job: job["progress"]["epoch"] > 0)
        return job_id

    def until(self, job_id: str, condition: Any, seconds: float = PATIENCE) -> Json:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.ok("GET", f"/v1/jobs/{job_id}")
            if condition(job):
                return job
            time.sleep(0.02)
        raise AssertionError(f"did not happen in {seconds} s: {job}")

    def waiting(self, pool: Executor, job_id: str) -> "Future[httpx.Response]":
        """Somebody who waits for the job's end in a thread of ``pool``, and has been heard."""
        sent = threading.Event()

        def trace(event: str, _info: Json) -> None:
            if event == "http11.receive_response_headers.started":
                sent.set()

        options: Json = {"params": {"wait": "60"}, "extensions": {"trace": trace}}
        answer = pool.submit(self.client.get, f"/v1/jobs/{job_id}", **options)
        assert sent.wait(PATIENCE)
        assert self.client.get("/livez").status_code == 200  # what came before has been read
        return answer

    def ended(self, job_id: str) -> Json:
        """The job, at its end or after a few minutes."""
        for _ in range(5):
            job = self.ok("GET", f"/v1/jobs/{job_id}", params={"wait": "60"})
            if job["finished_at"]:
                break
        return job


class StartedServer(Server):
    """One that is started as a user starts it, also in tests."""

    forked = False


def _trains(process: psutil.Process) -> bool:
    return _lives(process) and bool(process.name() == TRAINING)


def _lives(process: psutil.Process) -> bool:
    """Whether it has not ended; who has lost its parent is a zombie until init looks."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def problem(response: httpx.Response, status: int, code: str) -> Json:
    """The body of a problem after checking what all of them promise."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: Json = response.json()
    assert {"type", "title", "status", "detail", "code", "request_id"} <= body.keys()
    assert body["status"] == status
    assert body["code"] == code, body
    assert body["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    assert len(response.content) < 4096
    assert len(body.get("errors", [])) <= 20
    return body
