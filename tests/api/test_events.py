"""Following a job: the list of its events, the stream, and waiting for its end."""

import threading

import httpx
import pytest

from tests.support.server import LINE_JOB, PATIENCE, QUICK_JOB, Json, Server, problem


@pytest.mark.parametrize(
    ("query", "status"),
    [("after=0", 404), ("after=105", 404), ("after=x", 404), ("limit=0", 422), ("limit=101", 422)],
)
def test_pages_that_are_not_there(server: Server, query: str, status: int) -> None:
    job = server.train(**LINE_JOB)
    code = "not_found" if status == 404 else "invalid_request"
    problem(server.client.get(f"/v1/jobs/{job['id']}/events?{query}"), status, code)
    problem(server.client.get("/v1/jobs/job_nothing/events"), 404, "not_found")
    problem(server.client.get("/v1/jobs/job_nothing/stream"), 404, "not_found")


@pytest.mark.parametrize("number", ["abc", "-1", "1.5", "9" * 40, "\u0661"])
def test_a_last_event_id_that_is_none(server: Server, number: str) -> None:
    job = server.train(**QUICK_JOB)
    headers = {b"Last-Event-ID": number.encode()}
    refused = server.client.get(f"/v1/jobs/{job['id']}/stream", headers=headers)
    problem(refused, 422, "invalid_request")


def test_many_follow_one_job(server: Server) -> None:
    """All get all of it."""
    job_id = server.start_long_job(epochs=300)
    counts: list[int] = []

    def follow() -> None:
        options: Json = {"base_url": server.url, "timeout": PATIENCE, "trust_env": False}
        with httpx.Client(verify=False, **options) as client:
            text = client.get(f"/v1/jobs/{job_id}/stream").text
        counts.append(text.count("event: metrics"))
        assert text.rstrip().splitlines()[-3] == "event: done"

    threads = [threading.Thread(target=follow) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{len(counts)} followers, {sum(counts)} epochs told")
    assert counts == [300] * 20


def test_progress_is_honest_about_the_time(server: Server) -> None:
    waiting = server.ok("POST", "/v1/jobs", json={**QUICK_JOB, "priority": -5})
    assert waiting["progress"]["eta_seconds"] is None
    job_id = server.start_long_job(epochs=1_000_000)
    job = server.until(job_id, lambda job: job["progress"]["epoch"] > 100)  # beyond its start
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    left = 1_000_000 - job["progress"]["epoch"]
    assert 1e-5 < job["progress"]["eta_seconds"] / left < 0.1
    assert server.ended(job_id)["progress"]["eta_seconds"] is None
