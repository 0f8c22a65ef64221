"""Workers of their own on one Postgres, killed, frozen, cut off: no job is lost or done twice."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from app.errors import ConfigurationError
from app.house import own_data, work
from app.settings import load_settings
from tests.support.command_line import forked
from tests.support.postgres import Postgres
from tests.support.server import LONG_JOB, QUICK_JOB, Json, Server, problem
from tests.support.soak import SOAK, rounds, soak_only
from tests.support.waves import JOB, outcome, waves
from tests.support.workers import LEASE_SECONDS, House, Worker

Outcome = tuple[str, Json]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """For these tests alone: one of them takes it away for a while."""
    with Postgres() as running:
        yield running


@pytest.fixture(scope="module")
def house(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("workers") / "data", postgres.database()) as running:
        waves(running.server)
        running.server.line()
        yield running


@pytest.fixture(scope="module")
def staff(house: House) -> Iterator[list[Worker]]:
    with house.workers(rounds(2, 3)) as workers:
        yield workers


@pytest.fixture
def crew(staff: list[Worker]) -> list[Worker]:
    """Idle workers, those that an earlier test ended started again."""
    for worker in staff:
        if worker.process.poll() is not None:
            worker.start()
    for worker in staff:
        worker.wait_ready()
    return staff


@pytest.fixture(scope="module")
def undisturbed(house: House, staff: list[Worker]) -> Outcome:
    done = outcome(house.server, house.ended(house.queue(**JOB)))
    assert done[1]["series"]["train_loss"]["epoch"] == list(range(JOB["epochs"]))
    return done


@contextmanager
def frozen(*workers: Worker) -> Iterator[None]:
    for worker in workers:
        worker.freeze()
    yield
    for worker in workers:
        worker.go_on()


def somewhere_in(house: House, job_id: str, crew: list[Worker]) -> tuple[Worker, list[Worker]]:
    """Who has the job at a random moment of its training, and the others."""
    epoch = random.randrange(JOB["epochs"] // rounds(2, 1))  # where few are tried, all shall hit
    house.server.until(
        job_id, lambda job: job["progress"]["epoch"] >= epoch or job["status"] == "succeeded"
    )
    time.sleep(random.random() * 0.1)
    holder = house.holder(job_id, crew)
    return holder, [worker for worker in crew if worker is not holder]


def cancel(house: House, *jobs: str) -> None:
    for job_id in jobs:
        house.server.ok("POST", f"/v1/jobs/{job_id}/cancel")
        assert house.ended(job_id)["status"] == "cancelled"


def runs_again(job: Json) -> bool:
    return bool(job["attempt"] == 2 and job["status"] == "running")


# ---------------------------------------------------------------- killed


@soak_only
def test_a_killed_workers_jobs_end_elsewhere_as_if_nothing_had_happened(
    house: House, crew: list[Worker], undisturbed: Outcome
) -> None:
    jobs, attempts = rounds(1, 30), 0
    for _ in range(jobs):
        job_id = house.queue(**JOB)
        holder, _ = somewhere_in(house, job_id, crew)
        holder.kill()  # asserts that its children end with it
        holder.start()
        job = house.ended(job_id)
        assert outcome(house.server, job) == undisturbed, job
        attempts += job["attempt"]
    print(f"\n{jobs} workers killed, {attempts - jobs} in the middle of a job: nothing to be seen")
    assert attempts > jobs, "no kill hit a running job"


@pytest.mark.skipif(not SOAK, reason="takes a whole lease of 15 s; `make soak` runs it")
def test_with_the_usual_lease_a_dead_workers_job_is_running_elsewhere_within_30_s(
    data_dir: Path, postgres: Postgres
) -> None:
    with House(data_dir, postgres.database(), lease_seconds=None) as house:
        house.server.line()
        with house.workers(2) as crew:
            job_id = house.queue(**LONG_JOB)
            house.running(job_id)
            house.holder(job_id, crew).kill()
            killed = time.monotonic()
            again = house.server.until(job_id, runs_again)
            seconds = time.monotonic() - killed
            print(f"\nrunning elsewhere after {seconds:.1f} s")
            assert again["error"] is None
            assert seconds < 30
            cancel(house, job_id)


# ---------------------------------------------------------------- frozen


@soak_only
def test_a_worker_that_was_frozen_beyond_its_lease_changes_nothing(
    house: House, crew: list[Worker], undisturbed: Outcome
) -> None:
    overtaken, orphans = 0, house.orphans()
    while overtaken < rounds(1, 20):
        job_id = house.queue(**JOB)
        sleeper, others = somewhere_in(house, job_id, crew)
        with frozen(sleeper):
            job = house.ended(job_id)
            assert outcome(house.server, job) == undisturbed, job
            before = house.state(job_id)
        with frozen(*others):  # so that only the one that has woken can take the next job
            assert house.ended(house.queue(**QUICK_JOB))["status"] == "succeeded"
        assert house.state(job_id) == before
        overtaken += job["attempt"] - 1
    said = sum(worker.log.read_text().count("this attempt stops") for worker in crew)
    left = house.orphans() - orphans
    print(f"\n{overtaken} attempts overtaken; {len(left)} artifacts left to the sweep")
    assert said == overtaken
    assert all(name.startswith("ckpt_") for name in left), left


@soak_only
def test_a_row_that_a_frozen_worker_has_locked_holds_up_nobody_else(
    house: House, crew: list[Worker]
) -> None:
    """It may have been stopped in the middle of a transaction."""
    locked, lost, kept = jobs = [house.queue(**LONG_JOB) for _ in crew]
    for job_id in jobs:
        house.running(job_id)
    with psycopg.connect(house.url.replace("+psycopg", "")) as connection:
        connection.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", [locked])
        house.holder(locked, crew).kill()
        time.sleep(2 * LEASE_SECONDS)  # now everybody would have it
        house.holder(lost, crew).kill()
        house.server.until(lost, lambda job: job["status"] == "queued")
        assert house.server.ok("GET", f"/v1/jobs/{locked}")["status"] == "running"
    house.server.until(locked, lambda job: job["status"] == "queued")
    assert house.server.ok("GET", f"/v1/jobs/{kept}")["attempt"] == 1, "its worker is alive"
    cancel(house, *jobs)


# ---------------------------------------------------------------- several


def test_workers_share_one_queue(house: House, crew: list[Worker]) -> None:
    count = rounds(24, 400)
    with frozen(*crew):
        jobs = [
            house.queue(**QUICK_JOB, register_as="crowd", priority=random.randrange(-3, 4))
            for _ in range(count)
        ]
    done = [house.ended(job_id) for job_id in jobs]
    assert {(job["status"], job["attempt"]) for job in done} == {("succeeded", 1)}
    assert sorted(job["model"]["version"] for job in done) == list(range(1, count + 1))
    models = house.rows("SELECT job_id FROM models WHERE name = 'crowd'")
    assert sorted(row[0] for row in models) == sorted(jobs)

    claims = house.rows(_CLAIMS)
    assert len(claims) == count, "each was claimed once"
    took = Counter(worker for worker, _ in claims)
    assert len(took) > 1, took
    for place, (_, priority) in enumerate(claims):
        # better ones may be in the hands of the others, whose claims are about to be committed
        assert sum(later > priority for _, later in claims[place:]) < len(crew)
    print(f"\n{count} jobs ran once, {sorted(took.values())} on each worker, the urgent ones first")


_CLAIMS = """
SELECT jobs.worker, jobs.priority FROM jobs JOIN events ON events.job_id = jobs.id
WHERE jobs.model_name = 'crowd' AND events.data->>'status' = 'running'
ORDER BY events.xmin::text::bigint
"""
"""In the order in which their transactions began to write."""


# ---------------------------------------------------------------- stopped


def test_sigterm_gives_the_job_to_another_worker_with_a_checkpoint(
    house: House, crew: list[Worker], undisturbed: Outcome
) -> None:
    given_back, longest = 0, 0.0
    while given_back < rounds(1, 20):
        job_id = house.queue(**{**JOB, "checkpoint": {"every_seconds": 3600}})
        holder, others = somewhere_in(house, job_id, crew)
        with frozen(*others):
            code, seconds = holder.terminate()
            ((status, crashes, done, epoch),) = house.rows(_GIVEN_BACK, job_id)
        holder.start()
        assert (code, seconds < 8) == (0, True), holder.log.read_text()
        assert crashes == 0
        job = house.ended(job_id)
        if status != "succeeded":  # it was quicker
            assert (status, job["attempt"]) == ("queued", 2)
            assert epoch in (done - 1, done), "where it was: between two epochs, or in one"
            given_back += 1
            longest = max(longest, seconds)
        assert outcome(house.server, job) == undisturbed, job
    print(f"\n{given_back} jobs given back, the slowest worker ended after {longest:.1f} s")


_GIVEN_BACK = """
SELECT status, crashes, epochs_done,
       (SELECT max(epoch) FROM checkpoints WHERE checkpoints.job_id = jobs.id)
FROM jobs WHERE id = %s
"""


@soak_only
def test_a_second_sigterm_ends_a_worker_at_once(house: House, crew: list[Worker]) -> None:
    job_id = house.queue(**LONG_JOB)
    house.running(job_id)
    worker = house.holder(job_id, crew)
    children = psutil.Process(worker.process.pid).children(recursive=True)
    os.kill(worker.training_pid(), signal.SIGSTOP)  # it would be waited for
    worker.process.send_signal(signal.SIGTERM)
    assert worker.logged("stopping; running jobs go back")
    code, seconds = worker.terminate()
    assert code == 128 + signal.SIGTERM, f"{code} after {seconds} s"
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() for child in children)
    house.server.until(job_id, runs_again)
    cancel(house, job_id)


# ---------------------------------------------------------------- asked by clients


@soak_only
def test_jobs_of_another_process_are_cancelled_paused_and_resumed(
    house: House, crew: list[Worker], undisturbed: Outcome
) -> None:
    def ask(job_id: str, verb: str, code: int, status: str) -> None:
        answer = house.server.client.post(f"/v1/jobs/{job_id}/{verb}")
        assert (answer.status_code, answer.json().get("status")) == (code, status), answer.text

    def refused(job_id: str, verb: str) -> None:
        answer = house.server.client.post(f"/v1/jobs/{job_id}/{verb}")
        problem(answer, 409, "invalid_transition")

    with frozen(*crew[1:]):
        job_id, waiting = house.queue(**JOB), house.queue(**LONG_JOB)
        house.running(job_id)
        ask(waiting, "pause", 202, "paused")
        ask(job_id, "pause", 202, "pausing")
        paused = house.server.until(job_id, lambda job: job["status"] == "paused")
        assert paused["progress"]["epoch"] > 0
        ask(job_id, "pause", 200, "paused")
        ask(job_id, "resume", 202, "queued")
        job = house.ended(job_id)
        assert job["attempt"] == 2
        assert outcome(house.server, job) == undisturbed

        ask(waiting, "resume", 202, "queued")
        house.running(waiting)
        refused(waiting, "resume")
        trains = crew[0].training_pid()
        os.kill(trains, signal.SIGSTOP)  # so that it takes its time to pause
        ask(waiting, "pause", 202, "pausing")
        refused(waiting, "resume")
        ask(waiting, "cancel", 202, "cancelling")
        ask(waiting, "cancel", 200, "cancelling")
        refused(waiting, "pause")
        os.kill(trains, signal.SIGCONT)
        assert house.ended(waiting)["status"] == "cancelled"
        ask(waiting, "cancel", 200, "cancelled")
        assert house.ended(house.queue(**QUICK_JOB))["status"] == "succeeded", "the slot is free"


# ---------------------------------------------------------------- the database goes


@soak_only
def test_training_goes_on_while_the_database_is_away(
    postgres: Postgres, house: House, crew: list[Worker]
) -> None:
    """For longer than a lease: nobody takes the job from a worker that could not renew it."""
    worker, *others = crew
    long = {**JOB, "epochs": rounds(150, 600), "early_stopping": None}
    with frozen(*others):
        running, queued = house.queue(**long), house.queue(**{**JOB, "epochs": 2})
        for _ in range(rounds(1, 5)):
            house.running(running)
            before = processor_seconds(worker)
            with postgres.away():
                cut_off = time.monotonic()
                is_cut_off(house.server, running)
                time.sleep(max(0.0, cut_off + 1.5 * LEASE_SECONDS - time.monotonic()))
                trained = processor_seconds(worker) - before
            house.server.wait_ready()
            print(f"\naway for 3 s, in which the job had {trained:.1f} s of a processor")
            assert trained > 0
        done = house.ended(running)
        assert (done["status"], done["attempt"]) == ("succeeded", 1), worker.log.read_text()
        _, history = outcome(house.server, done)
        assert history["series"]["train_loss"]["epoch"] == list(range(long["epochs"]))
        for job_id in (queued, house.queue(**{**JOB, "epochs": 2})):
            assert house.ended(job_id)["attempt"] == 1


def is_cut_off(server: Server, job_id: str) -> None:
    """What needs the database says so, and the process is alive."""
    for method, path, body in (
        ("GET", f"/v1/jobs/{job_id}", None),
        ("POST", "/v1/jobs", JOB),
        ("POST", f"/v1/jobs/{job_id}/cancel", None),
    ):
        problem(server.client.request(method, path, json=body), 503, "unavailable")
    assert server.client.get("/readyz").status_code == 503
    assert server.client.get("/livez").status_code == 200


def processor_seconds(worker: Worker) -> float:
    """Had by the one that trains."""
    return float(psutil.Process(worker.training_pid()).cpu_times().user)


# ---------------------------------------------------------------- refused


def test_a_worker_needs_postgres_and_a_data_directory_that_is_shared(
    tmp_path: Path, data_dir: Path, house: House
) -> None:
    for settings, said in (
        ({}, "FITSERVE_DATABASE_URL"),
        ({"database_url": house.url, "max_parallel_jobs": 0}, "FITSERVE_MAX_PARALLEL_JOBS"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            work(load_settings(data_dir=data_dir, **settings))
    assert not data_dir.exists()
    with own_data(load_settings(data_dir=data_dir), "fitserve, process 12, http://there"):
        arguments = ("worker", "--data-dir", str(data_dir))
        done = forked(*arguments, FITSERVE_DATABASE_URL=house.url)
    assert done.returncode == 78, done.stderr
    assert "fitserve, process 12, http://there" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [data_dir]
