"""Servers in processes of their own, and ``wrk`` to load them."""

import json
import math
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import psutil

from benchmarks.harness import Scale, console, has_peer, milliseconds

START_SECONDS = 120
CONNECTIONS = 16
JSON = {"Content-Type": "application/json"}
WRK_SCRIPT = Path(__file__).parent / "serving_peers" / "post.lua"


def require_wrk(scale: Scale) -> None:
    """Raise MissingPeerError without ``wrk``; a tiny run goes on with one connection of httpx."""
    found = shutil.which("wrk") is not None
    if not has_peer(scale, "wrk", found=found, remedy="Debian: apt-get install wrk"):
        console.print("one connection of httpx instead")


@dataclass(frozen=True)
class Round:
    """One round of load, as the client saw it."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """CPU time of the server's whole process tree for one request; as seconds, for 1,000."""


@dataclass(frozen=True)
class Endpoint:
    """Where to POST one body again and again, and the process that answers."""

    name: str
    url: str
    body: bytes
    pid: int

    def ask(self) -> httpx.Response:
        """Return the answer to one request on a connection of its own."""
        return httpx.post(self.url, content=self.body, headers=JSON, trust_env=False, timeout=60)

    def prediction(self) -> float:
        """Return the number in its answer; raise AssertionError unless it answers 200."""
        response = self.ask()
        assert response.status_code == 200, f"{self.name}: {response.status_code} {response.text}"
        content: Any = response.json()
        if "outputs" in content:
            (number,) = content["outputs"][0]["data"]
        else:
            (number,) = content["predictions"]
        return float(number)

    def load(self, folder: Path, seconds: float, connections: int = CONNECTIONS) -> Round:
        """POST over keep-alive connections; raise AssertionError unless every answer was 2xx."""
        before = _cpu_seconds(self.pid)
        found = (
            self._by_wrk(folder, seconds, connections)
            if shutil.which("wrk")
            else self._by_httpx(seconds)
        )
        after = _cpu_seconds(self.pid)
        assert not found["refused"], f"{self.name}: {found['refused']} answers were no 2xx"
        assert not found["broken"], f"{self.name}: {found['broken']} connections broke"
        assert found["requests"], f"{self.name} answered nothing"
        used = sum(spent - before.get(pid, 0.0) for pid, spent in after.items())
        rate = found["requests"] / found["seconds"]
        return Round(rate, found["p50"], found["p99"], 1000 * used / found["requests"])

    def _by_wrk(self, folder: Path, seconds: float, connections: int) -> dict[str, float]:
        body = folder / "body.json"
        body.write_bytes(self.body)
        whole = math.ceil(seconds)  # wrk knows no fractions
        options = ["-t1", f"-c{connections}", f"-d{whole}s", "-s", str(WRK_SCRIPT)]
        done = subprocess.run(
            ["wrk", *options, self.url],
            env={**os.environ, "WRK_BODY": str(body)},
            check=True,
            capture_output=True,
            text=True,
        )
        found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    def _by_httpx(self, seconds: float) -> dict[str, float]:
        """The same figures from one connection, which httpx keeps busier than the server."""
        times: list[float] = []
        refused, started = 0, time.perf_counter()
        with httpx.Client(trust_env=False, headers=JSON, timeout=60) as client:

            def ask() -> None:
                nonlocal refused
                refused += not client.post(self.url, content=self.body).is_success

            while len(times) < 2 or time.perf_counter() - started < seconds:
                times.append(milliseconds(ask))
        return {
            "requests": len(times),
            "seconds": time.perf_counter() - started,
            "p50": median(times),
            "p99": quantiles(times, n=100, method="inclusive")[-1],
            "refused": refused,
            "broken": 0,
        }


def idle_cores(pids: list[int], seconds: float) -> list[float]:
    """Return the share of a core that each process and its children used in so many seconds."""
    before = [_cpu_seconds(pid) for pid in pids]
    time.sleep(seconds)
    return [
        sum(spent - earlier.get(child, 0.0) for child, spent in _cpu_seconds(pid).items()) / seconds
        for pid, earlier in zip(pids, before, strict=True)
    ]


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _cpu_seconds(pid: int) -> dict[int, float]:
    """Return what each process of the tree has used so far, by its id."""
    found = {}
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
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
        """Wait until it answers 200 to the very request that it will be measured with."""
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
        family = _tree(self.process.pid) if self.process.poll() is None else []
        self.process.terminate()
        _, left = psutil.wait_procs(family, timeout=10)
        for process in left:
            process.kill()
        with suppress(ProcessLookupError):  # who was no longer of the tree
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(left, timeout=10)
