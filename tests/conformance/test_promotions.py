"""Checkpoints promoted to model versions."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from safetensors.numpy import load

from tests.support.server import LINE_JOB, LONG_JOB, Json, Server, problem

ROWS = {"rows": [{"x": 0.5}]}


@pytest.fixture(scope="module")
def done(server: Server) -> Json:
    """A job that has succeeded."""
    return server.train(**{**LINE_JOB, "epochs": 4, "register_as": "promoted"})


def checkpoints(server: Server, job_id: str) -> list[Json]:
    found: list[Json] = server.ok("GET", f"/v1/jobs/{job_id}/checkpoints")["data"]
    return found


def path_of(server: Server, job_id: str) -> str:
    """Where the job's newest checkpoint is promoted."""
    return f"/v1/jobs/{job_id}/checkpoints/{checkpoints(server, job_id)[0]['id']}/promote"


def saving(server: Server, **changes: Any) -> str:
    """A job that runs and has a checkpoint."""
    every = {"every_seconds": 0.2, "keep": 100}
    job_id = str(
        server.ok("POST", "/v1/jobs", json={**LONG_JOB, "checkpoint": every, **changes})["id"]
    )
    server.until(job_id, lambda _: checkpoints(server, job_id))
    return job_id


def end(server: Server, job_id: str) -> None:
    server.client.post(f"/v1/jobs/{job_id}/cancel")
    assert server.ended(job_id)["status"] == "cancelled"


def test_a_checkpoint_becomes_the_next_version(server: Server, done: Json) -> None:
    own = server.ok("GET", f"/v1/models/{done['model']['ref']}")
    [checkpoint] = checkpoints(server, done["id"])
    response = server.client.post(path_of(server, done["id"]))
    assert response.status_code == 201, response.text
    made = response.json()
    assert response.headers["location"] == f"/v1/models/{made['id']}"
    assert server.ok("GET", response.headers["location"]) == made
    assert (made["name"], made["version"]) == ("promoted", own["version"] + 1)
    same = ("task", "features", "target", "parameters", "job", "dataset", "metadata")
    assert {key: made[key] for key in same} == {key: own[key] for key in same}
    assert made["lineage"] == {**own["lineage"], "checkpoint": checkpoint["id"]}
    assert made["metrics"] == own["metrics"], "they were measured on the same weights"
    assert made["metrics"]["test"] is not None
    assert made["aliases"] == []
    weights = server.client.get(f"/v1/models/{made['id']}/download")
    assert weights.headers["etag"] == f'"{checkpoint["sha256"]}"'
    folder = server.data_dir / "models" / made["id"]
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json",
        "model.json",
        "weights.safetensors",
    }
    for ref in (made["id"], "promoted"):
        answer = server.ok("POST", f"/v1/models/{ref}/predict", json=ROWS)
        assert answer["version"] == made["version"]
    other = server.ok("POST", f"/v1/models/{own['id']}/predict", json=ROWS)
    assert answer["predictions"] == other["predictions"]
    # the job tells of its own version still
    assert server.ok("GET", f"/v1/jobs/{done['id']}")["model"] == done["model"]
    for plot in ("loss", "predictions"):
        assert server.client.get(f"/v1/jobs/{done['id']}/plots/{plot}.svg").is_success


def test_what_a_refit_saved_has_no_losses_of_the_first_run(server: Server) -> None:
    """It has learnt from the rows that they were measured on."""
    every = {"every_seconds": 0.02, "keep": 100}
    job: Json = {**LINE_JOB, "epochs": 120, "batch_size": 4, "checkpoint": every, "refit": True}
    done = server.train(**job)
    path = f"/v1/jobs/{done['id']}/checkpoints"
    last, saved, *_ = found = server.everything(path, "desc")
    for one in (last, saved):
        named = {"register_as": "of-a-refit"}
        made = server.ok("POST", f"{path}/{one['id']}/promote", json=named)
        assert made["trained_on"] == "all"
        best = {"epoch": one["epoch"], "by": None}
        assert made["metrics"] == {"best": best, "test": None, "baseline": None}

    own = server.ok("GET", f"/v1/models/{done['model']['ref']}")
    measured = []
    for one in found:
        made = server.ok("POST", f"{path}/{one['id']}/promote", json={"register_as": "measured"})
        if made["metrics"]["test"] is not None:
            measured.append(made)
    assert measured, "the one that the first run ended with is among them"
    for made in measured:
        assert made["trained_on"] == "train"
        assert made["metrics"] == {**own["metrics"], "of": None}


def test_the_body_may_name_another_model(server: Server, done: Json) -> None:
    path = path_of(server, done["id"])
    for version in (1, 2):
        made = server.ok("POST", path, json={"register_as": "elsewhere"})
        assert (made["name"], made["version"]) == ("elsewhere", version)
    for body in ({}, {"register_as": None}):
        assert server.ok("POST", path, json=body)["name"] == "promoted"
    nameless = server.train(**{**LINE_JOB, "epochs": 2, "register_as": None})
    made = server.ok("POST", path_of(server, nameless["id"]))
    assert (made["name"], made["version"]) == (nameless["id"], 2)


def test_wrong_requests(server: Server, done: Json) -> None:
    path = path_of(server, done["id"])
    for wrong in ("a b", "", "a" * 65, 3, done["id"]):
        response = server.client.post(path, json={"register_as": wrong})
        errors = problem(response, 422, "invalid_request")["errors"]
        assert errors[0]["pointer"] == "/register_as"
    problem(server.client.post(path, json={"name": "x"}), 422, "invalid_request")
    problem(server.client.post(path, json=[]), 422, "invalid_request")
    problem(server.client.post(path, content=b"name=x"), 415, "unsupported_media_type")
    json_type = {"Content-Type": "application/json"}
    problem(server.client.post(path, content=b"{", headers=json_type), 400, "invalid_json")
    assert server.client.post(path, headers=json_type).status_code == 201  # no body is no mistake
    other = server.train(**{**LINE_JOB, "epochs": 2, "register_as": None})["id"]
    problem(server.client.post(path.replace(done["id"], other)), 404, "not_found")
    problem(server.client.post(path.replace(done["id"], "job_none")), 404, "not_found")
    problem(server.client.post(f"/v1/jobs/{other}/checkpoints/x/promote"), 404, "not_found")


def test_of_a_job_that_runs_rests_and_was_cancelled(server: Server) -> None:
    job_id = saving(server, register_as="early", target="y", seed=7)
    running = server.ok("POST", path_of(server, job_id))
    assert server.ok("GET", f"/v1/jobs/{job_id}")["status"] == "running"
    server.ok("POST", f"/v1/jobs/{job_id}/pause")
    server.until(job_id, lambda job: job["status"] == "paused")
    paused = server.ok("POST", path_of(server, job_id))
    end(server, job_id)
    cancelled = server.ok("POST", path_of(server, job_id))
    made = [running, paused, cancelled]
    assert [model["version"] for model in made] == [1, 2, 3]
    assert paused["lineage"]["epoch"] == cancelled["lineage"]["epoch"] > running["lineage"]["epoch"]
    problem(server.client.get(f"/v1/jobs/{job_id}/plots/predictions.png"), 422, "not_applicable")
    assert server.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    for model in made:
        assert model["metrics"]["best"]["epoch"] == model["lineage"]["epoch"]
        assert model["lineage"]["seed"] == 7
        assert model["features"] == [{"name": "x", "type": "number"}]
        answer = server.ok("POST", f"/v1/models/early@{model['version']}/predict", json=ROWS)
        assert len(answer["predictions"]) == 1
        told = server.ok("GET", f"/v1/models/{model['id']}/summary")
        assert told["parameters"] == model["parameters"]
        weights = load(server.client.get(f"/v1/models/{model['id']}/download").content)
        assert sum(tensor.size for tensor in weights.values()) >= model["parameters"] > 1000
    assert server.ok("GET", f"/v1/models/{made[0]['id']}") == made[0]


def test_versions_are_listed_in_their_order_though_ids_have_another(server: Server) -> None:
    every = {"every_seconds": 0.05, "keep": 1}
    body = {**LINE_JOB, "register_as": "ordered", "epochs": 2_000, "checkpoint": every}
    job_id = server.ok("POST", "/v1/jobs", json=body)["id"]
    server.until(job_id, lambda _: checkpoints(server, job_id))
    while server.client.post(path_of(server, job_id)).status_code == 404:
        pass  # it was pruned already
    assert server.ended(job_id)["status"] == "succeeded"
    server.ok("POST", path_of(server, job_id))
    for order, wanted in (("desc", [3, 2, 1]), ("asc", [1, 2, 3])):
        found: list[int] = []
        query: Json = {"order": order, "limit": 1}
        while len(found) < 4:
            page = server.ok("GET", "/v1/models/ordered/versions", params=query)
            found += [model["version"] for model in page["data"]]
            query["after"] = page["last_id"]
            if not page["has_more"]:
                break
        assert found == wanted


def test_sent_twice_with_one_key_it_is_done_once(server: Server, done: Json) -> None:
    path, headers = path_of(server, done["id"]), {"Idempotency-Key": str(uuid.uuid4())}
    body = {"register_as": "once"}
    first = server.client.post(path, json=body, headers=headers)
    again = server.client.post(path, json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert server.ok("GET", "/v1/models/once")["version"] == 1
    problem(server.client.post(path, headers=headers), 422, "idempotency_key_reused")
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    with ThreadPoolExecutor(4) as pool:
        send = [pool.submit(server.client.post, path, json=body, headers=headers) for _ in range(4)]
    statuses = {answer.result().status_code for answer in send}
    assert statuses <= {201, 409}
    assert server.ok("GET", "/v1/models/once")["version"] == 2
    ids = {model["id"] for model in server.ok("GET", "/v1/models/once/versions")["data"]}
    assert len(ids) == 2
    known = {row["id"] for row in everything(server)}
    assert {path.name for path in (server.data_dir / "models").iterdir()} == known  # none too many


def everything(server: Server) -> list[Json]:
    """Every version of every model."""
    names = [model["name"] for model in server.everything("/v1/models")]
    found = (server.ok("GET", f"/v1/models/{name}/versions?limit=100")["data"] for name in names)
    return [version for versions in found for version in versions]


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "manifest.json"])
def test_a_damaged_checkpoint_is_refused(server: Server, name: str) -> None:
    job = server.train(**{**LINE_JOB, "epochs": 2, "register_as": "spoilt"})
    [checkpoint] = checkpoints(server, job["id"])
    before = {path.name for path in (server.data_dir / "models").iterdir()}
    file = server.data_dir / "checkpoints" / checkpoint["id"] / name
    bits = bytearray(file.read_bytes())
    bits[len(bits) // 2] ^= 1
    file.write_bytes(bits)
    problem(server.client.post(path_of(server, job["id"])), 503, "artifact_corrupt")
    assert {path.name for path in (server.data_dir / "models").iterdir()} == before
    assert server.ok("GET", "/v1/models/spoilt")["lineage"]["checkpoint"] is None


def test_promoted_while_they_are_pruned(server: Server) -> None:
    job_id = saving(server, register_as="pruned", checkpoint={"every_seconds": 0.02, "keep": 1})
    statuses = [server.client.post(path_of(server, job_id)).status_code for _ in range(25)]
    end(server, job_id)
    assert set(statuses) <= {201, 404}, statuses
    assert server.client.post(path_of(server, job_id)).status_code == 201
    versions = server.ok("GET", "/v1/models/pruned/versions?limit=100")["data"]
    assert len(versions) == statuses.count(201) + 1
    for model in versions[:3]:
        server.ok("POST", f"/v1/models/{model['id']}/predict", json=ROWS)


def test_a_promoted_version_is_deleted_like_any_other(server: Server, done: Json) -> None:
    made = server.ok("POST", path_of(server, done["id"]), json={"register_as": "brief"})
    assert server.client.delete("/v1/models/brief").status_code == 204
    assert not (server.data_dir / "models" / made["id"]).exists()
    assert server.client.post(path_of(server, done["id"])).status_code == 201
