"""Sent twice with one key, done once."""

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.server import LINE_JOB, QUICK_JOB, Json, Server, problem

CSV = {"Content-Type": "text/csv"}


def key() -> Json:
    return {"Idempotency-Key": str(uuid.uuid4())}


def same(first: httpx.Response, second: httpx.Response) -> None:
    assert first.is_success, first.text
    assert second.status_code == first.status_code
    assert second.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    for name in ("location", "content-type", "retry-after", "preference-applied"):
        assert second.headers.get(name) == first.headers.get(name)


def test_a_job(server: Server) -> None:
    headers = key()
    before = len(server.everything("/v1/jobs"))
    answers = [server.client.post("/v1/jobs", json=QUICK_JOB, headers=headers) for _ in range(3)]
    for again in answers[1:]:
        same(answers[0], again)
    assert len(server.everything("/v1/jobs")) == before + 1
    server.ended(answers[0].json()["id"])
    same(answers[0], server.client.post("/v1/jobs", json=QUICK_JOB, headers=headers))


def test_a_job_that_was_waited_for(server: Server) -> None:
    headers = {**key(), "Prefer": "wait=60"}
    first = server.client.post("/v1/jobs", json=QUICK_JOB, headers=headers)
    assert (first.status_code, first.json()["status"]) == (201, "succeeded")
    same(first, server.client.post("/v1/jobs", json=QUICK_JOB, headers=headers))


def test_equal_json_is_the_same_content(server: Server) -> None:
    headers = key()
    first = server.client.post("/v1/jobs", json=QUICK_JOB, headers=headers)
    turned = dict(reversed(QUICK_JOB.items()))
    same(first, server.client.post("/v1/jobs", json=turned, headers=headers))


@pytest.mark.parametrize("way", ["json", "csv", "form"])
def test_a_dataset(server: Server, way: str) -> None:
    headers, text = key(), "a,b\n1,x\n2,y\n"

    def send(content: str = text, query: str = "") -> httpx.Response:
        path = f"/v1/datasets{query}"
        if way == "json":
            rows = [line.split(",") for line in content.splitlines()[1:]]
            source = {"kind": "inline", "rows": [{"a": a, "b": b} for a, b in rows]}
            return server.client.post(path, json={"source": source}, headers=headers)
        if way == "csv":
            return server.client.post(path, content=content, headers={**headers, **CSV})
        return server.client.post(path, files={"file": ("t.csv", content)}, headers=headers)

    before = len(server.everything("/v1/datasets"))
    first = send()
    same(first, send())
    problem(send(text + "3,z\n"), 422, "idempotency_key_reused")
    if way != "json":
        problem(send(query="?header=false"), 422, "idempotency_key_reused")
    assert len(server.everything("/v1/datasets")) == before + 1


def test_a_key_belongs_to_one_request(server: Server) -> None:
    headers = key()
    server.ok("POST", "/v1/jobs", json=QUICK_JOB, headers=headers)
    other = server.client.post("/v1/jobs", json={**QUICK_JOB, "epochs": 6}, headers=headers)
    assert "new key" in problem(other, 422, "idempotency_key_reused")["detail"]
    body = {"source": {"kind": "synthetic", "generator": "line"}}
    elsewhere = server.client.post("/v1/datasets", json=body, headers=headers)
    problem(elsewhere, 422, "idempotency_key_reused")


def test_failures_are_not_kept(server: Server) -> None:
    headers = key()
    wrong = {**QUICK_JOB, "target": "nothing"}
    problem(server.client.post("/v1/jobs", json=wrong, headers=headers), 422, "invalid_request")
    made = server.client.post("/v1/jobs", json=QUICK_JOB, headers=headers)
    assert made.status_code == 202
    assert "idempotent-replayed" not in made.headers


def test_a_dry_run_takes_no_key(server: Server) -> None:
    headers = key()
    for _ in range(2):
        server.ok("POST", "/v1/jobs?dry_run=true", json=QUICK_JOB, headers=headers)
    assert server.client.post("/v1/jobs", json=QUICK_JOB, headers=headers).status_code == 202


@pytest.mark.parametrize("bad", ["", "x" * 256, "a\tb"])
def test_a_key_that_is_none(server: Server, bad: str) -> None:
    headers = {"Idempotency-Key": bad}
    problem(server.client.post("/v1/jobs", json=QUICK_JOB, headers=headers), 422, "invalid_request")


def test_fifty_at_once_make_one_job(server: Server) -> None:
    headers, before = key(), len(server.everything("/v1/jobs"))

    def post(_: int) -> httpx.Response:
        return httpx.post(
            f"{server.url}/v1/jobs", json=LINE_JOB, headers=headers, timeout=60, trust_env=False
        )

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(post, range(50)))
    outcomes = Counter(answer.status_code for answer in answers)
    print(f"50 at once: {dict(outcomes)}")
    assert set(outcomes) <= {202, 409}
    for answer in answers:
        if answer.status_code == 409:
            assert problem(answer, 409, "idempotency_in_progress")
            assert "retry-after" in answer.headers
    made = {answer.content for answer in answers if answer.status_code == 202}
    assert len(made) == 1
    assert len(server.everything("/v1/jobs")) == before + 1
    assert server.client.post("/v1/jobs", json=LINE_JOB, headers=headers).content in made
