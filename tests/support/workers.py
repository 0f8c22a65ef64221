"""An API that trains nothing by itself, a Postgres, and ``fitserve worker`` processes that do."""

import contextlib
import hashlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.support.server import PATIENCE, READY_SECONDS, Json, Process, Server

LEASE_SECONDS = 2
ENDED = ("succeeded", "failed", "cancelled")


class Worker(Process):
    """``with Worker(data_dir, url) as worker:`` trains one job at once."""

    def __init__(self, data_dir: Path, url: str, **environment: str) -> None:
        settings = {"FITSERVE_DATABASE_URL": url, "FITSERVE_MAX_PARALLEL_JOBS": "1", **environment}
        super().__init__("worker", "--data-dir", str(data_dir), **settings)

    def __enter__(self) -> "Worker":
        return self.wait_ready()

    def wait_ready(self) -> "Worker":
        """Until it has a process to train in."""
        deadline = time.monotonic() + READY_SECONDS
        while not any(server.children() for server in self.forkservers()):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return self

    def freeze(self) -> None:
        """SIGSTOP for it and all its children."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        worker = psutil.Process(self.process.pid)
        for process in (worker, *worker.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class House:
    """``with House(path, url) as house, house.workers(2) as (one, other):``."""

    def __init__(
        self, data_dir: Path, url: str, lease_seconds: float | None = LEASE_SECONDS
    ) -> None:
        self.data_dir, self.url = data_dir, url
        self._lease = {"FITSERVE_LEASE_SECONDS": str(lease_seconds or "")}
        settings = {"FITSERVE_DATABASE_URL": url, "FITSERVE_MAX_PARALLEL_JOBS": "0"}
        self.server = Server(data_dir, **settings, **self._lease)

    def __enter__(self) -> "House":
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    def worker(self) -> Worker:
        return Worker(self.data_dir, self.url, **self._lease)

    @contextlib.contextmanager
    def workers(self, count: int) -> Iterator[list[Worker]]:
        """So many, which start at the same time."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(one) for one in [self.worker() for _ in range(count)]]

    # ------------------------------------------------------------ jobs

    def queue(self, **job: Any) -> str:
        return str(self.server.ok("POST", "/v1/jobs", json=job)["id"])

    def running(self, job_id: str) -> Json:
        """The job, once it has recorded an epoch or has ended."""
        return self.server.until(
            job_id, lambda job: job["progress"]["epoch"] > 0 or job["status"] in ENDED
        )

    def ended(self, job_id: str) -> Json:
        return self.server.until(job_id, lambda job: job["status"] in ENDED, PATIENCE)

    # ------------------------------------------------------------ what only the database knows

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def holder(self, job_id: str, workers: list[Worker]) -> Worker:
        """Which of the workers claimed the job last."""
        ((name,),) = self.rows("SELECT worker FROM jobs WHERE id = %s", job_id)
        (holder,) = (one for one in workers if str(one.process.pid) == name.split(":")[1])
        return holder

    def state(self, job_id: str) -> Json:
        """All that there is about a job: its rows, and the hashes of the files they name."""
        found: Json = {
            table: self.rows(f"SELECT * FROM {table} WHERE {key} = %s ORDER BY 1, 2", job_id)
            for table, key in (
                ("jobs", "id"),
                *((table, "job_id") for table in ("history", "events", "checkpoints", "models")),
            )
        }
        for kind in ("checkpoints", "models"):
            for row in found[kind]:
                for path in sorted((self.data_dir / kind / row[0]).iterdir()):
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                    found[f"{kind}/{row[0]}/{path.name}"] = digest
        return found

    def orphans(self) -> set[str]:
        """Artifacts without a row."""
        lying = {path.name for path in self.data_dir.glob("[cm]*/*_*")}
        told = self.rows("SELECT id FROM checkpoints UNION ALL SELECT id FROM models")
        return lying - {row[0] for row in told}
