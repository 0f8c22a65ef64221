"""Jobs under load and kill -9: what a client was promised is there, once, and nothing else is."""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.support.faults import sound
from tests.support.server import QUICK_JOB, Json, Server
from tests.support.soak import rounds, soak_only

POSTERS = 4
CALLERS = 50
WRITERS = 64
STARTING_SECONDS = 2.0
"""About as long as a server takes until it is ready."""


@contextmanager
def clients(server: Server, count: int, work: Callable[[httpx.Client], None]) -> Iterator[None]:
    """So many clients at ``work`` in threads of their own; waits for them, raises what they do."""

    def run() -> None:  # unverified: to read the machine's certificates takes longer than the work
        with httpx.Client(base_url=server.url, timeout=90, trust_env=False, verify=False) as client:
            work(client)

    with ThreadPoolExecutor(count) as pool:
        working = [pool.submit(run) for _ in range(count)]
        yield
    for one in working:
        one.result()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For all of these tests; one that stops it starts it again."""
    with sound(Server(tmp_path_factory.mktemp("soak") / "data")) as running:
        yield running


# ---------------------------------------------------------------- posting to a server that dies


class Promises:
    """What clients sent, by a tag in its metadata, and what they were told."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.kept: dict[str, str] = {}
        """The job of each answer."""
        self.unanswered: set[str] = set()
        """Sent once and without an answer: there is one such job, or none."""
        self.retried = self.replayed = 0

    def ask(self, client: httpx.Client) -> None:
        while not self.over.is_set():
            tag = str(uuid.uuid4())
            random.choice((self.once, self.until_answered))(client, tag)
            time.sleep(random.random() * 0.4)

    def once(self, client: httpx.Client, tag: str) -> None:
        try:
            self._post(client, tag)
        except httpx.TransportError:
            self.unanswered.add(tag)

    def until_answered(self, client: httpx.Client, tag: str) -> None:
        while True:
            try:
                if self._post(client, tag, {"Idempotency-Key": tag}):
                    return
            except httpx.TransportError:
                self.retried += 1
                time.sleep(random.random() * 0.1)

    def _post(self, client: httpx.Client, tag: str, headers: Json | None = None) -> bool:
        job = {**QUICK_JOB, "metadata": {"tag": tag}}
        answer = client.post("/v1/jobs", json=job, headers=headers)
        if headers and answer.status_code == 409:  # its twin has not ended, though nobody listens
            assert answer.json()["code"] == "idempotency_in_progress"
            return False
        assert answer.status_code == 202, answer.text
        self.kept[tag] = answer.json()["id"]
        self.replayed += "idempotent-replayed" in answer.headers
        return True


@soak_only
def test_kill_the_server_while_clients_post(server: Server) -> None:
    promises, kills, starting = Promises(), rounds(1, 200), 0
    with clients(server, POSTERS, promises.ask):
        try:
            for kill in range(kills):
                if kill % 2:
                    wait_for_training(server)
                time.sleep(random.random())
                server.kill()
                server.start()
                if random.random() < 0.5:
                    starting += 1
                    time.sleep(random.random() * STARTING_SECONDS)
                    server.kill()
                    server.start()
                server.wait_ready()
        finally:
            promises.over.set()
    jobs = [server.ended(job["id"]) for job in server.everything("/v1/jobs") if job["metadata"]]
    for job in jobs:
        check_whole(server, job)
    told = Counter(job["metadata"]["tag"] for job in jobs)
    assert set(told.values()) == {1}, "a request was done twice"
    assert {job["metadata"]["tag"]: job["id"] for job in jobs}.items() >= promises.kept.items()
    unpromised = told.keys() - promises.kept.keys()
    assert unpromised <= promises.unanswered
    models = Counter(model["job"] for model in server.everything("/v1/models") if model["metadata"])
    assert models == Counter(job["id"] for job in jobs)
    begun_again = sum(job["attempt"] > 1 for job in jobs)
    print(
        f"\n{kills + starting} kills, {starting} of them of a server that starts: "
        f"{len(promises.kept):,} POSTs answered after {promises.retried} tries that were not, "
        f"{promises.replayed} by a replay; {len(promises.unanswered)} never, {len(unpromised)} of "
        f"them done; {len(jobs):,} jobs, {begun_again} begun again: all once and succeeded"
    )


def wait_for_training(server: Server) -> None:
    """A server that has just started imports torch for longer than it would be left alone."""
    deadline = time.monotonic() + 60
    while not server.ok("GET", "/v1/jobs?status=running")["data"]:
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.02)


def check_whole(server: Server, job: Json) -> None:
    assert job["status"] == "succeeded", job["error"]
    assert job["model"]["ref"] == f"{job['id']}@1"
    events = server.ok("GET", f"/v1/jobs/{job['id']}/events?order=asc&limit=100")["data"]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    epochs = [event["data"]["epoch"] for event in events if event["type"] == "metrics"]
    assert epochs == list(range(QUICK_JOB["epochs"]))
    assert [event["type"] for event in events[-2:]] == ["status", "done"]


@soak_only
def test_one_key_of_many_callers_across_kills(server: Server) -> None:
    """They ask until they are answered, with a kill at any moment; then all of them again."""
    answers: list[httpx.Response] = []

    def ask(client: httpx.Client) -> None:
        while True:
            try:
                answer = client.post("/v1/jobs", json=QUICK_JOB, headers=headers)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code != 409:
                answers.append(answer)
                return
            assert answer.json()["code"] == "idempotency_in_progress"
            time.sleep(float(answer.headers["retry-after"]) * random.random())

    keys, first = rounds(1, 40), 0
    before = len(server.everything("/v1/jobs"))
    for number in range(1, keys + 1):
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        with clients(server, CALLERS, ask):
            time.sleep(random.random() * 0.3)
            server.kill()
            server.restart()
        with clients(server, CALLERS, ask):
            pass
        assert len(answers) == 2 * CALLERS
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.content for answer in answers}) == 1
        made = [answer for answer in answers if "idempotent-replayed" not in answer.headers]
        assert len(made) <= 1  # none where the kill came between the job and the answer
        assert server.ended(answers[0].json()["id"])["status"] == "succeeded"
        assert len(server.everything("/v1/jobs")) == before + number
        first += len(made)
        answers.clear()
    print(f"\n{keys} key(s), {2 * CALLERS} callers each: one job each, {first} answered first-hand")


# ---------------------------------------------------------------- many writers


class Writer:
    """Makes a dataset and a job of its own, cancels it or not, deletes both, and again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.took: list[float] = []
        self.ends: Counter[str] = Counter()

    def __call__(self, client: httpx.Client) -> None:
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            rows = [{"x": x, "y": 2 * x + random.random()} for x in range(30)]
            inline = {"source": {"kind": "inline", "rows": rows}}
            dataset = self._did(client, 201, "POST", "/datasets", inline)["id"]
            job = self._did(client, 202, "POST", "/jobs", {**QUICK_JOB, "dataset": dataset})["id"]
            if random.random() < 0.9:
                self._did(client, 202, "POST", f"/jobs/{job}/cancel", but=409)  # it had ended
            ended = client.get(f"/v1/jobs/{job}?wait=60").json()
            self.ends[ended["status"]] += 1
            self._did(client, 204, "DELETE", f"/jobs/{job}")
            self._did(client, 204, "DELETE", f"/datasets/{dataset}")

    def _did(
        self,
        client: httpx.Client,
        expected: int,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        but: int = 0,
    ) -> Json:
        started = time.monotonic()
        answer = client.request(method, f"/v1{path}", json=body)
        self.took.append(time.monotonic() - started)
        assert answer.status_code in (expected, but), f"{method} {path}: {answer.text}"
        return dict(answer.json()) if answer.content else {}


@soak_only
def test_many_writers_see_no_error(server: Server) -> None:
    def there_is() -> list[Json]:
        return server.everything("/v1/datasets") + server.everything("/v1/jobs")

    write, before = Writer(rounds(3, 60)), there_is()
    models = len(server.everything("/v1/models"))
    with clients(server, WRITERS, write):
        pass
    assert write.ends.keys() <= {"succeeded", "cancelled"}
    assert there_is() == before
    assert len(server.everything("/v1/models")) == models + write.ends["succeeded"]
    took = sorted(write.took)
    print(
        f"\n{WRITERS} writers: {len(took):,} writes, none refused; {dict(write.ends)}; half within "
        f"{took[len(took) // 2]:.2f} s, the slowest {took[-1]:.2f} s"
    )
