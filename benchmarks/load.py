"""Servers in processes of their own, and ``wrk`` to load them."""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

START_SECONDS = 120
CONNECTIONS = 16
SCRIPT = Path(__file__).parent / "serving_peers" / "post.lua"
NO_WRK = "wrk is missing (Debian: apt-get install wrk); skipped"


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


@dataclass(frozen=True)
class Round:
    """What one round of load came to."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """CPU time of the server's whole process tree for one request; as seconds, for 1,000."""


@dataclass(frozen=True)
class Endpoint:
    """Where to send one body over and over, and the process that answers."""

    name: str
    url: str
    body: bytes
    pid: int

    def ask(self) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return httpx.post(self.url, content=self.body, headers=headers, trust_env=False, timeout=60)

    def prediction(self) -> float:
        """The number in its answer; raises unless it answers 200."""
        response = self.ask()
        assert response.status_code == 200, f"{self.name}: {response.status_code} {response.text}"
        content: Any = response.json()
        if "outputs" in content:
            (number,) = content["outputs"][0]["data"]
        else:
            (number,) = content["predictions"]
        return float(number)

    def load(self, folder: Path, seconds: float) -> Round:
        """One row a request over keep-alive connections; raises unless every answer was 2xx."""
        (folder / "body.json").write_bytes(self.body)
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", str(SCRIPT), self.url]
        environment = {**os.environ, "WRK_BODY": str(folder / "body.json")}
        before = cpu_seconds(self.pid)
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        after = cpu_seconds(self.pid)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        assert not found["refused"], f"{self.name}: {found['refused']} answers were no 2xx"
        assert not found["broken"], f"{self.name}: {found['broken']} connections broke"
        assert found["requests"], f"{self.name} answered nothing"
        used = sum(spent - before.get(pid, 0.0) for pid, spent in after.items())
        rate = found["requests"] / found["seconds"]
        return Round(rate, found["p50"], found["p99"], 1000 * used / found["requests"])


def tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> dict[int, float]:
    """What each process of the tree has used so far."""
    found = {}
    for process in tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found[process.pid] = times.user + times.system
    return found


class Peer:
    """``with Peer(command, ...)``: a server and all its children, ended together."""

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def wait(self, endpoint: Endpoint) -> None:
        """Until it answers 200 to the very request that it will be measured with."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if endpoint.ask().status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{endpoint.name} did not start: {self.log.read_text()[-4000:]}")

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        family = tree(self.process.pid) if self.process.poll() is None else []
        self.process.terminate()
        _, left = psutil.wait_procs(family, timeout=10)
        for process in left:
            process.kill()
        with suppress(ProcessLookupError):  # who was no longer of the tree
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(left, timeout=10)
