"""The life of a job, its history and its checkpoints, on either database."""

import csv
import io
import struct
from typing import Any
from uuid import uuid4

from tests.support.server import LINE_JOB, LONG_JOB, Json, Server, problem
from tests.support.server import QUICK_JOB as QUICK


def test_only_dataset_and_target_are_required(server: Server) -> None:
    response = server.client.post("/v1/jobs", json=QUICK)
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["retry-after"]
    assert job["status"] in ("queued", "running")
    spec = job["spec"]
    assert spec["features"] == ["x"]
    assert spec["task"] == "regression"
    assert spec["loss"] == "mse"
    assert spec["optimizer"]["kind"] == "adamw"
    assert spec["model"] == {
        "kind": "tabular",
        "members": 8,
        "width": 128,
        "embedding": 8,
        "label_smoothing": 0.1,
        "bins": 2,
    }
    assert spec["split"] == {
        "train": 0.8,
        "validation": 0.1,
        "test": 0.1,
        "strategy": "random",
        "seed": 0,
    }
    assert spec["early_stopping"] == {"patience": 10, "min_delta": 0.0}
    assert spec["batch_size"] == 32
    assert spec["register_as"] is None
    again = server.ok("POST", "/v1/jobs", params={"dry_run": "true"}, json=spec)
    assert again["spec"] == spec, "a spec can be sent again as it was told"
    done = server.ended(job["id"])
    assert done["status"] == "succeeded"
    assert done["model"] == {"name": job["id"], "version": 1, "ref": f"{job['id']}@1"}
    assert done["progress"] == {"epoch": 5, "epochs": 5, "fraction": 1.0, "eta_seconds": 0.0}
    assert done["metrics"]["test"].keys() >= {"mae", "rmse", "r2"}
    assert done["metrics"]["baseline"].keys() >= {"mae", "rmse", "r2"}
    assert done["metrics"]["last"]["epoch"] == 4
    assert done["started_at"] <= done["finished_at"]


def test_prefer_wait(server: Server) -> None:
    waited = server.client.post("/v1/jobs", json=QUICK, headers={"Prefer": "wait=60"})
    assert waited.status_code == 201
    assert waited.headers["preference-applied"] == "wait=60"
    assert waited.json()["status"] == "succeeded"
    capped = server.client.post("/v1/jobs", json=QUICK, headers={"Prefer": "wait=600"})
    assert capped.headers["preference-applied"] == "wait=60"
    long = server.client.post("/v1/jobs", json=LONG_JOB, headers={"Prefer": "wait=0.2"})
    assert long.status_code == 202
    assert long.headers["preference-applied"] == "wait=0.2"
    server.ok("POST", f"/v1/jobs/{long.json()['id']}/cancel")
    refused = server.client.post("/v1/jobs", json=QUICK, headers={"Prefer": "wait=soon"})
    problem(refused, 422, "invalid_request")


def test_divergence_ends_the_job_and_leaves_no_model(server: Server) -> None:
    name = f"m-{uuid4().hex[:8]}"
    for kind in ("sgd", "adam", "adamw"):
        body = {**LINE_JOB, "optimizer": {"kind": kind, "lr": 1e308}, "register_as": name}
        response = server.client.post("/v1/jobs", json=body, headers={"Prefer": "wait=60"})
        job = response.json()
        assert response.status_code == 201
        assert job["status"] == "failed"
        assert job["error"]["code"] == "diverged"
        assert "epoch 0" in job["error"]["message"]
        assert job["model"] is None
        history = server.client.get(f"/v1/jobs/{job['id']}/metrics")
        assert history.json()["nonfinite"]
        assert "NaN" not in history.text
        problem(server.client.get(f"/v1/models/{name}"), 404, "not_found")


def test_cancel(server: Server) -> None:
    running = server.start_long_job()
    assert server.client.post(f"/v1/jobs/{running}/cancel").status_code == 202
    job = server.ended(running)
    assert job["status"] == "cancelled"
    assert job["model"] is None
    assert job["finished_at"]
    assert server.client.post(f"/v1/jobs/{running}/cancel").status_code == 200
    history = server.ok("GET", f"/v1/jobs/{running}/metrics")
    assert history["series"]["train_loss"]["epoch"][0] == 0
    done = server.train(**QUICK)
    refused = server.client.post(f"/v1/jobs/{done['id']}/cancel")
    assert "succeeded" in problem(refused, 409, "invalid_transition")["detail"]
    problem(server.client.post("/v1/jobs/job_nothing/cancel"), 404, "not_found")


def test_cancel_racing_the_end_leaves_one_truth(server: Server) -> None:
    """A model version exists exactly where the job succeeded."""
    outcomes = set()
    for i in range(12):
        name = f"race-{uuid4().hex[:8]}"
        job_id = server.ok("POST", "/v1/jobs", json={**LINE_JOB, "register_as": name})["id"]
        if i % 3:
            server.until(job_id, lambda job: job["status"] != "queued")
        server.client.post(f"/v1/jobs/{job_id}/cancel")
        job = server.ended(job_id)
        outcomes.add(job["status"])
        assert job["status"] in ("succeeded", "cancelled")
        found = server.client.get(f"/v1/models/{name}").status_code
        assert found == (200 if job["status"] == "succeeded" else 404)
        assert (job["model"] is not None) == (job["status"] == "succeeded")
    assert "cancelled" in outcomes
    registered = {item["id"] for item in _all(server, "/v1/models")}
    stored = {path.name for path in (server.data_dir / "models").iterdir()}
    assert registered <= stored


def _all(server: Server, path: str) -> list[Json]:
    found: list[Json] = []
    page: Json = {"has_more": True}
    while page["has_more"]:
        after = {"after": found[-1]["id"]} if found else {}
        page = server.ok("GET", path, params={"limit": "100", **after})
        found += page["data"]
    return found


def test_metrics_windows(server: Server) -> None:
    job = server.train(**LINE_JOB)
    path = f"/v1/jobs/{job['id']}/metrics"
    whole = server.ok("GET", path)["series"]
    assert whole.keys() == {"train_loss", "test_loss", "test_rmse", "learning_rate"}
    tail = server.ok("GET", path, params={"names": "train_loss", "after_epoch": 97})["series"]
    assert tail == {"train_loss": {"epoch": [98, 99], "value": whole["train_loss"]["value"][98:]}}
    few = server.ok("GET", path, params={"max_points": 10})["series"]["train_loss"]
    assert len(few["epoch"]) <= 10
    assert min(few["value"]) == min(whole["train_loss"]["value"])
    assert max(few["value"]) == max(whole["train_loss"]["value"])
    text = server.client.get(path, headers={"Accept": "text/csv"})
    lines = list(csv.DictReader(io.StringIO(text.text)))
    assert [int(line["epoch"]) for line in lines] == list(range(100))
    assert [float(line["train_loss"]) for line in lines] == whole["train_loss"]["value"]
    problem(server.client.get(path, headers={"Accept": "image/png"}), 406, "not_acceptable")


def test_history_is_readable_while_it_grows(server: Server) -> None:
    job_id = server.start_long_job()
    first = server.ok("GET", f"/v1/jobs/{job_id}")["progress"]["epoch"]
    job = server.until(job_id, lambda job: job["progress"]["epoch"] > first + 100)
    assert job["status"] == "running"
    assert job["progress"]["eta_seconds"] > 0
    epochs = server.ok("GET", f"/v1/jobs/{job_id}/metrics")["series"]["train_loss"]["epoch"]
    assert epochs == list(range(len(epochs)))
    assert len(epochs) >= first + 100
    loss = server.client.get(f"/v1/jobs/{job_id}/plots/loss.png")
    assert loss.headers["content-type"] == "image/png"
    problem(server.client.get(f"/v1/jobs/{job_id}/plots/predictions.png"), 409, "not_ready")
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    server.ended(job_id)


def test_split_is_read_back_per_row(server: Server) -> None:
    job = server.train(**QUICK)
    parts: dict[str, Any] = {
        part: server.ok("GET", f"/v1/jobs/{job['id']}/split/{part}")
        for part in ("train", "validation", "test")
    }
    assert [parts[p]["total"] for p in parts] == [40, 5, 5]
    assert sorted(row for part in parts.values() for row in part["rows"]) == list(range(50))
    page = server.ok("GET", f"/v1/jobs/{job['id']}/split/train", params={"offset": 38, "limit": 10})
    assert page["rows"] == parts["train"]["rows"][38:]
    assert server.client.get(f"/v1/jobs/{job['id']}/split/other").status_code == 422


def test_checkpoints_download_and_delete(server: Server) -> None:
    job = server.train(**LINE_JOB)
    listed = server.ok("GET", f"/v1/jobs/{job['id']}/checkpoints")["data"]
    assert [item["epoch"] for item in listed] == [99]
    download = server.client.get(f"/v1/jobs/{job['id']}/checkpoints/{listed[0]['id']}/download")
    assert len(download.content) == listed[0]["size_bytes"]
    assert download.headers["etag"] == f'"{listed[0]["sha256"]}"'
    (header_length,) = struct.unpack("<Q", download.content[:8])
    assert b'"weight"' in download.content[8 : 8 + header_length]
    folder = server.data_dir / "checkpoints" / listed[0]["id"]
    assert folder.is_dir()
    assert server.client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert not folder.exists()
    problem(server.client.get(f"/v1/jobs/{job['id']}"), 404, "not_found")
    assert server.ok("GET", f"/v1/models/{job['model']['ref']}")["job"] == job["id"]


def test_checkpoints_are_written_while_it_runs_and_old_ones_go(server: Server) -> None:
    job_id = server.start_long_job(checkpoint={"every_seconds": 0.2, "keep": 2})

    def listed() -> list[Json]:
        found: list[Json] = server.ok("GET", f"/v1/jobs/{job_id}/checkpoints")["data"]
        return found

    server.until(job_id, lambda _: len(listed()) == 2)
    first = {item["id"] for item in listed()}
    server.until(job_id, lambda _: not first & {item["id"] for item in listed()})
    assert len(listed()) == 2
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    server.ended(job_id)
    stored = {path.name for path in (server.data_dir / "checkpoints").iterdir()}
    assert {item["id"] for item in listed()} <= stored
    assert not first & stored
