"""How jobs end when somebody interferes at the very moment, and how a server does on SIGTERM."""

import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime

import httpx
import pytest

from tests.support.faults import sound
from tests.support.server import LONG_JOB, PATIENCE, QUICK_JOB, Server
from tests.support.soak import rounds, soak_only

RACERS = 4
EPOCHS = 20
TERMINAL = {"succeeded", "failed", "cancelled"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For all of these tests; one that stops it starts it again."""
    folder = tmp_path_factory.mktemp("endings") / "data"
    with sound(Server(folder, FITSERVE_MAX_PARALLEL_JOBS=str(RACERS))) as running:
        yield running


# ---------------------------------------------------------------- racing completion


def race(server: Server, verb: str, times: int) -> list[tuple[str, int]]:
    """Ask that of so many jobs, each at about the moment of its end: ids, and what was answered.

    The racers home in on that moment: they ask later after one was in time, sooner when not. They
    begin with how long such a job takes when nobody asks.
    """
    alone = server.train(**{**QUICK_JOB, "epochs": EPOCHS})
    began, ended = (datetime.fromisoformat(alone[at]) for at in ("started_at", "finished_at"))
    wait = (ended - began).total_seconds()

    def run(_: int) -> tuple[str, int]:
        nonlocal wait
        job_id = str(server.ok("POST", "/v1/jobs", json={**QUICK_JOB, "epochs": EPOCHS})["id"])
        server.until(job_id, lambda job: job["status"] != "queued")
        time.sleep(wait * random.uniform(0.7, 1.3))
        answer = server.client.post(f"/v1/jobs/{job_id}/{verb}")
        assert answer.status_code in (202, 409), answer.text
        wait *= 1.2 if answer.status_code == 202 else 1 / 1.2
        return job_id, answer.status_code

    with ThreadPoolExecutor(RACERS) as pool:
        found = list(pool.map(run, range(times)))
        while len({code for _, code in found}) == 1 and len(found) < 6 * times:  # others are busy
            found += pool.map(run, range(times))
    return found


def check_the_end(server: Server, job_id: str) -> str:
    """One end, told once; a model where it is success, and nowhere else. Returns the status."""
    job = server.ended(job_id)
    events = server.everything(f"/v1/jobs/{job_id}/events")
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    told = [event["data"]["status"] for event in events if event["type"] == "status"]
    assert [status for status in told if status in TERMINAL] == [job["status"]] == told[-1:]
    assert [event["type"] for event in events[-2:]] == ["status", "done"]
    epochs = [event["data"]["epoch"] for event in events if event["type"] == "metrics"]
    assert epochs == list(range(job["progress"]["epoch"]))
    made = server.client.get(f"/v1/models/{job_id}").status_code
    assert (made, job["model"] is not None) == (
        (200, True) if job["status"] == "succeeded" else (404, False)
    )
    return str(job["status"])


@soak_only
def test_cancel_racing_completion(server: Server) -> None:
    ends: Counter[str] = Counter()
    for job_id, answered in race(server, "cancel", rounds(8, 1000)):
        status = check_the_end(server, job_id)
        assert status == ("cancelled" if answered == 202 else "succeeded")
        ends[status] += 1
    print(f"\n{ends.total():,} cancels at about the end: {dict(ends)}, each told once")
    assert len(ends) == 2, "it was no race"


@soak_only
def test_pause_racing_completion(server: Server) -> None:
    rested = 0
    asked = race(server, "pause", rounds(6, 200))
    for job_id, answered in asked:
        job = server.until(job_id, lambda job: job["status"] in ("paused", "succeeded"))
        if job["status"] == "paused":
            assert answered == 202
            server.ok("POST", f"/v1/jobs/{job_id}/resume")
            rested += 1
    for job_id, _ in asked:
        assert check_the_end(server, job_id) == "succeeded"
        assert server.ok("GET", f"/v1/jobs/{job_id}")["progress"]["epoch"] == EPOCHS
    late = sum(answered == 202 for _, answered in asked) - rested
    print(f"\n{len(asked)} pauses at about the end: {rested} paused, {late} ended all the same")
    assert 0 < rested < len(asked), "it was no race"


# ---------------------------------------------------------------- SIGTERM


def status_of(server: Server, job_id: str) -> tuple[str, int]:
    """A job's status and how often it crashed, as a server that has ended left it."""
    with closing(sqlite3.connect(server.data_dir / "fitserve.db")) as database:
        found = database.execute("SELECT status, crashes FROM jobs WHERE id = ?", [job_id])
        status, crashes = found.fetchone()
    return status, crashes


class Follower:
    """A browser's EventSource: comes back with the last id it has seen, until the end."""

    def __init__(self, server: Server, job_id: str) -> None:
        self._server, self._path = server, f"/v1/jobs/{job_id}/stream"
        self.ids: list[int] = []
        self.kinds: list[str] = []
        """Of all events, also of those without an id: a server's last word."""
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def check(self) -> None:
        """All was told, once."""
        self._thread.join(PATIENCE)
        assert self.kinds[-1:] == ["done"]
        assert self.ids == list(range(1, len(self.ids) + 1))

    def _follow(self) -> None:
        while self.kinds[-1:] != ["done"]:
            headers = {"Last-Event-ID": str(self.ids[-1])} if self.ids else {}
            try:
                with self._server.client.stream("GET", self._path, headers=headers) as answer:
                    self._read(answer.iter_lines())
            except httpx.TransportError:  # killed, or not there yet
                time.sleep(0.05)

    def _read(self, lines: Iterator[str]) -> None:
        for line in lines:
            name, _, value = line.partition(": ")
            if name == "event":
                self.kinds.append(value)
            elif name == "id":
                self.ids.append(int(value))


def told_until_gone(ask: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """Ask again and again, until nobody answers."""
    answers: list[httpx.Response] = []
    while True:
        try:
            answers.append(ask())
        except httpx.TransportError:
            return answers


@soak_only
def test_a_stream_is_whole_over_the_life_of_a_job(server: Server) -> None:
    """Its server is stopped and killed in turns meanwhile."""
    stops = rounds(2, 30)
    job_id = str(server.ok("POST", "/v1/jobs", json={**LONG_JOB, "epochs": 500 * stops})["id"])
    follower = Follower(server, job_id)
    for stop in range(stops):
        server.until(job_id, lambda job, stop=stop: job["finished_at"] or job["attempt"] > stop)
        time.sleep(random.random() * 0.5)
        if stop % 2:
            server.kill()
        else:
            assert server.terminate()[0] == 0
        server.restart()
    server.until(job_id, lambda job: job["finished_at"], 600)  # what is left of its epochs
    assert check_the_end(server, job_id) == "succeeded"
    attempts = server.ended(job_id)["attempt"]
    follower.check()
    print(
        f"\n{len(follower.ids):,} events over {stops} stops and {attempts} attempts: none missed, "
        "none told twice"
    )


def test_sigterm_is_told_to_everybody(server: Server) -> None:
    """To a balancer, to new jobs, to who waits and who follows; the job rests on a checkpoint."""
    job_id = server.start_long_job()
    follower = Follower(server, job_id)
    with ThreadPoolExecutor(2) as pool:
        waiting = server.waiting(pool, job_id)
        while not follower.kinds:
            time.sleep(0.01)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        looking = pool.submit(told_until_gone, lambda: server.client.get("/readyz"))
        posted = told_until_gone(lambda: server.client.post("/v1/jobs", json=QUICK_JOB))
        assert server.process.wait(PATIENCE) == 0, server.log.read_text()
        assert time.monotonic() - started < 8
    ready = [answer.status_code for answer in looking.result()]
    taken = [answer.status_code for answer in posted]
    print(f"\nafter SIGTERM: /readyz {dict(Counter(ready))}, new jobs {dict(Counter(taken))}")
    assert (ready[-1], set(ready) - {200}, ready) == (503, {503}, sorted(ready))
    assert (taken[-1], set(taken) - {202}, taken) == (503, {503}, sorted(taken))
    assert posted[-1].json()["code"] == "shutting_down"
    assert "retry-after" in posted[-1].headers
    assert (waiting.result().status_code, waiting.result().json()["id"]) == (200, job_id)
    assert follower.kinds[-1] == "shutdown"
    assert status_of(server, job_id) == ("queued", 0)

    server.restart()
    for answer in posted:
        if answer.status_code == 202:
            assert server.ended(answer.json()["id"])["status"] == "succeeded"
    assert server.ok("GET", f"/v1/jobs/{job_id}/checkpoints")["data"]
    server.until(job_id, lambda job: (job["status"], job["attempt"]) == ("running", 2))
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    assert check_the_end(server, job_id) == "cancelled"
    follower.check()


def test_a_second_sigterm_ends_it_at_once(server: Server) -> None:
    job_id = server.start_long_job()
    os.kill(server.training_pid(), signal.SIGSTOP)  # the first would wait for it
    server.process.send_signal(signal.SIGTERM)
    assert server.logged("stopping; running jobs")
    assert server.terminate()[0] == 128 + signal.SIGTERM
    server.restart()
    server.until(job_id, lambda job: (job["status"], job["attempt"]) == ("running", 2))
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    assert check_the_end(server, job_id) == "cancelled"


# ---------------------------------------------------------------- a job that kills its process


def kill_process_of(server: Server, job_id: str, attempt: int) -> None:
    """Once more where the oldest process was still that of a job that had just ended."""
    job = server.until(job_id, lambda job: job["attempt"] >= attempt and job["status"] != "queued")
    while (job["status"], job["attempt"]) == ("running", attempt):
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.training_pid(), signal.SIGKILL)
        time.sleep(0.2)
        job = server.ok("GET", f"/v1/jobs/{job_id}")


def test_others_run_while_a_job_kills_its_process(server: Server) -> None:
    job_id = str(server.ok("POST", "/v1/jobs", json=LONG_JOB)["id"])
    for attempt in (1, 2, 3):
        kill_process_of(server, job_id, attempt)
        assert server.train(**QUICK_JOB)["attempt"] == 1
    assert server.ended(job_id)["error"]["code"] == "worker_crashed"
    assert check_the_end(server, job_id) == "failed"
    assert server.client.get("/readyz").status_code == 200
