"""Faults of the real kernel for a real server: a tracer that makes system calls fail."""

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from app.storage import KINDS, Storage
from tests.support.command_line import forked
from tests.support.server import LINE_JOB, Json, Server

TABLE = "a,y\n" + "".join(f"{i},{2 * i}\n" for i in range(50))
CSV = {"Content-Type": "text/csv"}
SAVING: Json = {
    "model": {"kind": "mlp", "hidden": [64, 64]},
    "checkpoint": {"every_seconds": 0.2, "keep": 2},
}
_ATTACH_SECONDS = 20


def processes(server: Server) -> list[psutil.Process]:
    """The server, its fork servers and their children."""
    root = psutil.Process(server.process.pid)
    return [root, *root.children(recursive=True)]


class Calls:
    """What a tracer has seen."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._last = 0

    @property
    def failed(self) -> int:
        """System calls that were made to fail so far."""
        if self._log.exists():
            self._last = self._log.read_text(errors="replace").count("(INJECTED)")
        return self._last


@contextmanager
def failing(server: Server, fault: str, *paths: Path, only: int | None = None) -> Iterator[Calls]:
    """While inside, system calls of the server and all its processes fail as ``fault`` says, or
    those of ``only`` one process.

    ``fsync,fdatasync:error=EIO`` is a fault; with ``paths`` only calls that concern one of them.
    Skips where there is no strace or nobody may be traced.
    """
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    calls = fault.partition(":")[0]
    command = ["strace", "-f", "-e", f"trace={calls}", "-e", f"inject={fault}"]
    command += [word for path in paths for word in ("-P", str(path))]
    pids = [process.pid for process in processes(server)] if only is None else [only]
    command += [word for pid in pids for word in ("-p", str(pid))]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "strace"
        seen = Calls(log)
        tracer = subprocess.Popen(
            [*command, "-o", str(log)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            if not _attached(tracer, pids):
                tracer.kill()
                _, said = tracer.communicate()
                pytest.skip(f"strace cannot attach here: {said.decode()[-200:]}")
            yield seen
        finally:
            _let_go(tracer)
            seen.failed  # noqa: B018 - read while there is something to read


def _let_go(tracer: "subprocess.Popen[bytes]") -> None:
    tracer.send_signal(signal.SIGINT)
    try:
        tracer.communicate(timeout=3)
    except subprocess.TimeoutExpired:  # it waits for one that has just died
        tracer.kill()
        tracer.communicate()


def _attached(tracer: "subprocess.Popen[bytes]", pids: list[int]) -> bool:
    deadline = time.monotonic() + _ATTACH_SECONDS
    while tracer.poll() is None and time.monotonic() < deadline:
        if all(_traced(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def _traced(pid: int) -> bool:
    """Whether every thread of a process has a tracer; one that has ended counts as traced."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return True
    for thread in threads:
        try:
            status = Path(f"/proc/{pid}/task/{thread}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "\nTracerPid:\t0\n" in status:
            return False
    return True


# ---------------------------------------------------------------- what must hold afterwards


def whole(data_dir: Path) -> dict[str, set[str]]:
    """Every row has its artifact and every hash matches; returns the artifacts without a row."""
    storage = Storage(data_dir)
    orphans: dict[str, set[str]] = {}
    for kind in KINDS:
        named = _named(storage.database_path, kind)
        for artifact_id in named:
            storage.verified(kind, artifact_id)
        orphans[kind] = {path.name for path in (data_dir / kind).iterdir()} - named
    return orphans


def settled(server: Server) -> int:
    """Nothing is left of what failed, at the latest after the next start; what that removed.

    Ends the server.
    """
    assert list((server.data_dir / "tmp").iterdir()) == []
    orphans = sum(len(ids) for ids in whole(server.data_dir).values())
    server.kill()
    server.restart()
    assert not any(whole(server.data_dir).values())
    server.kill()
    return orphans


def _named(database: Path, table: str) -> set[str]:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return {str(row[0]) for row in connection.execute(f"SELECT id FROM {table}")}


@contextmanager
def sound(server: Server) -> Iterator[Server]:
    """The server, which ends well in the end and leaves no artifact without a row, nor a row
    without its artifact."""
    with server:
        server.line()
        yield server
        code, _ = server.terminate()
        assert code == 0, server.log.read_text()
        checked = forked("fsck", "--data-dir", str(server.data_dir))
        assert checked.returncode == 0, checked.stdout + checked.stderr


# ---------------------------------------------------------------- asking the server


def checkpoints(server: Server, job_id: str) -> list[str]:
    return [str(c["id"]) for c in server.ok("GET", f"/v1/jobs/{job_id}/checkpoints")["data"]]


def saving_job(server: Server, **changes: Any) -> str:
    """A job that would go on for hours and has a checkpoint."""
    job_id = server.start_long_job(**{**SAVING, **changes})
    server.until(job_id, lambda _: checkpoints(server, job_id))
    return job_id


def downloaded(server: Server, job_id: str) -> int:
    """How many checkpoints a job has; each is whole, or has made way for a newer one since."""
    kept = checkpoints(server, job_id)
    for checkpoint in kept:
        path = f"/v1/jobs/{job_id}/checkpoints/{checkpoint}/download"
        response = server.client.get(path)
        gone = response.status_code == 404 and checkpoint not in checkpoints(server, job_id)
        assert gone or response.status_code == 200, response.text
    return len(kept)


def upload(server: Server, name: str, table: str = TABLE) -> httpx.Response:
    return server.client.post("/v1/datasets", params={"name": name}, content=table, headers=CSV)


def names(server: Server) -> set[str]:
    return {str(found["name"]) for found in server.ok("GET", "/v1/datasets")["data"]}


def jobs(server: Server) -> set[str]:
    return {str(found["id"]) for found in server.ok("GET", "/v1/jobs")["data"]}


def works(server: Server, name: str) -> None:
    """Everything that writes does."""
    assert server.client.get("/readyz").status_code == 200
    assert upload(server, name).status_code == 201
    assert server.train(**LINE_JOB)["attempt"] == 1


@contextmanager
def mounted_on_itself(folder: Path) -> Iterator[None]:
    """The same files through another mount; skips the test where none can be made."""
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode != 0:
        pytest.skip("cannot mount here (not root)")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size in ``folder``; skips the test where none can be made."""
    mount = folder / "disk"
    mount.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(mount)]
    if subprocess.run(mounting, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a tmpfs here (not root)")
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)
