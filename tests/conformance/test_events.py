"""The events of a job, listed and live, on either database."""

import json
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from tests.support.server import LINE_JOB, Json, Server


@dataclass
class Sent:
    """One server-sent event as a client reads it."""

    id: int | None
    event: str
    data: Json


def stream(
    server: Server, job_id: str, last: int | None = None, most: int | None = None
) -> list[Sent]:
    """The events of one connection: all, or the first ``most``."""
    headers = {"Last-Event-ID": str(last)} if last is not None else {}
    got: list[Sent] = []
    path = f"/v1/jobs/{job_id}/stream"
    with server.client.stream("GET", path, headers=headers, timeout=60) as response:
        assert response.status_code in (200, 204), response.read()
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            if fields:
                number = int(fields["id"]) if "id" in fields else None
                got.append(Sent(number, fields["event"], json.loads(fields["data"])))
            fields = {}
            if most is not None and len(got) >= most:
                break
    return got


def listed(server: Server, job_id: str, order: str = "asc") -> list[Json]:
    """Every event of a job."""
    return server.everything(f"/v1/jobs/{job_id}/events", order, limit=37)


def test_the_list_tells_the_whole_life(server: Server) -> None:
    job = server.train(**LINE_JOB)
    events = listed(server, job["id"])
    assert [event["id"] for event in events] == list(range(1, 105))
    assert listed(server, job["id"], "desc") == events[::-1]
    assert {event["object"] for event in events} == {"event"}
    kinds = [event["type"] for event in events]
    assert kinds == ["status", "status", *["metrics"] * 100, "status", "done"]
    changes = [event["data"]["status"] for event in events if event["type"] == "status"]
    assert changes == ["queued", "running", "succeeded"]
    series = server.ok("GET", f"/v1/jobs/{job['id']}/metrics")["series"]
    for event in events[2:-2]:
        epoch = event["data"]["epoch"]
        assert event["data"]["train_loss"] == series["train_loss"]["value"][epoch]
    assert events[-1]["data"]["model"] == job["model"]
    assert [event["created_at"] for event in events] == sorted(e["created_at"] for e in events)


def test_an_epoch_has_its_own_time(server: Server) -> None:
    job_id = server.start_long_job(batch_size=1)  # so that an epoch takes milliseconds
    recorded = server.ok("GET", f"/v1/jobs/{job_id}")["progress"]["epoch"]
    server.until(job_id, lambda job: job["progress"]["epoch"] > recorded)
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    job = server.ended(job_id)
    times = [
        datetime.fromisoformat(event["created_at"])
        for event in listed(server, job_id)
        if event["type"] == "metrics"
    ]
    assert recorded < 1024, "what was recorded later is of the same chunk"
    begun, ended = (datetime.fromisoformat(job[f"{name}_at"]) for name in ("started", "finished"))
    assert [begun, *times, ended] == sorted([begun, *times, ended])
    assert times[recorded] > times[0], "of one chunk, and not of one time"


def test_the_stream_is_the_list_live_and_afterwards(server: Server) -> None:
    job_id = str(server.ok("POST", "/v1/jobs", json={**LINE_JOB, "epochs": 2000})["id"])
    live = stream(server, job_id)
    after = stream(server, job_id)
    assert live == after
    told = [Sent(event["id"], event["type"], event["data"]) for event in listed(server, job_id)]
    assert live == told
    assert live[-1].event == "done"


def test_last_event_id_resumes_without_gap_or_repeat(server: Server) -> None:
    job_id = str(server.ok("POST", "/v1/jobs", json={**LINE_JOB, "epochs": 1500})["id"])
    got: list[Sent] = []
    connections = 0
    while not got or got[-1].event != "done":
        got += stream(server, job_id, got[-1].id if got else None, most=1 + 7 * connections)
        connections += 1
    print(f"{len(got)} events over {connections} connections")
    assert [event.id for event in got] == list(range(1, len(got) + 1))
    assert got == stream(server, job_id)
    assert stream(server, job_id, got[-1].id) == []
    ended = server.client.get(
        f"/v1/jobs/{job_id}/stream", headers={"Last-Event-ID": str(got[-1].id)}
    )
    assert ended.status_code == 204, "a browser must not come back for ever"


def test_losses_that_are_no_numbers_are_null(server: Server) -> None:
    wild = {**LINE_JOB, "optimizer": {"kind": "sgd", "lr": 1e30}, "loss": "mse"}
    job_id = str(server.ok("POST", "/v1/jobs", json=wild)["id"])
    got = stream(server, job_id)
    assert got[-1].data["status"] == "failed"
    assert got[-1].data["error"]["code"] == "diverged"
    measured = [event.data for event in got if event.event == "metrics"]
    assert any(None in event.values() for event in measured)


def test_a_paused_job_goes_on_in_the_same_stream(server: Server) -> None:
    job_id = server.start_long_job(epochs=30_000)
    got: list[Sent] = []
    follower = threading.Thread(target=lambda: got.extend(stream(server, job_id)))
    follower.start()
    server.ok("POST", f"/v1/jobs/{job_id}/pause")
    server.until(job_id, lambda job: job["status"] == "paused")
    server.ok("POST", f"/v1/jobs/{job_id}/resume")
    server.until(job_id, lambda job: job["status"] == "running")
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    follower.join(60)
    changes = [event.data["status"] for event in got if event.event == "status"]
    assert changes[:7] == [
        "queued",
        "running",
        "pausing",
        "paused",
        "queued",
        "running",
        "cancelling",
    ]
    assert changes[7:] == ["cancelled"]
    measured = [event.data["epoch"] for event in got if event.event == "metrics"]
    assert measured == list(range(len(measured)))


def test_a_stream_ends_where_its_job_is_deleted(server: Server) -> None:
    job_id = server.start_long_job()
    server.ok("POST", f"/v1/jobs/{job_id}/pause")
    server.until(job_id, lambda job: job["status"] == "paused")
    got: list[Sent] = []
    follower = threading.Thread(target=lambda: got.extend(stream(server, job_id)))
    follower.start()
    time.sleep(0.5)
    assert server.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    follower.join(20)
    assert (got[-1].id, got[-1].event) == (None, "deleted")


# ---------------------------------------------------------------- waiting


def test_wait_answers_at_the_end_or_when_the_time_is_up(server: Server) -> None:
    job_id = server.start_long_job()
    started = time.monotonic()
    waiting = server.ok("GET", f"/v1/jobs/{job_id}", params={"wait": "0.3"})
    assert time.monotonic() - started >= 0.3
    assert waiting["status"] == "running"
    timer = threading.Timer(0.5, lambda: server.ok("POST", f"/v1/jobs/{job_id}/cancel"))
    timer.start()
    assert server.ended(job_id)["status"] == "cancelled"
    assert time.monotonic() - started < 30
