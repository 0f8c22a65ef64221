"""Models taken along: downloaded as bundles, imported here and on another, empty server."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import LINE_JOB, Json, Server, problem

ZIP = {"Content-Type": "application/zip"}
POINTS: Json = {"instances": [[0.1], [0.7], [3.0]]}


@pytest.fixture(scope="module")
def model(server: Server) -> Json:
    server.line("bundled")
    job = {**LINE_JOB, "dataset": "bundled", "register_as": "along", "metadata": {"by": "me"}}
    server.train(**job)
    return server.ok("GET", "/v1/models/along")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "other") as server:
        yield server


def bundle_of(server: Server, ref: str = "along") -> bytes:
    response = server.client.get(f"/v1/models/{ref}/download", params={"format": "bundle"})
    assert response.status_code == 200, response.text
    return response.content


def imported(server: Server, content: bytes, **params: str) -> Json:
    return server.ok("POST", "/v1/models", content=content, headers=ZIP, params=params)


def models_on_disk(server: Server) -> set[str]:
    return {path.name for path in (server.data_dir / "models").iterdir()}


def test_another_server_predicts_the_same(server: Server, model: Json, other: Server) -> None:
    content = bundle_of(server)
    came = imported(other, content)
    assert (came["name"], came["version"], came["job"]) == ("along", 1, None)
    same = ("task", "features", "target", "metrics", "parameters", "metadata", "dataset")
    assert {key: came[key] for key in same} == {key: model[key] for key in same}
    lineage = {**model["lineage"], "job": None, "checkpoint": None}
    assert came["lineage"] == lineage
    assert other.ok("GET", "/v1/models/along") == came
    assert other.ok("GET", "/v1/models", params={"named": "true"})["data"] == [came]
    asked = [s.ok("POST", "/v1/models/along/predict", json=POINTS) for s in (server, other)]
    assert asked[0]["predictions"] == asked[1]["predictions"]
    again = bundle_of(other)
    with zipfile.ZipFile(io.BytesIO(content)) as one, zipfile.ZipFile(io.BytesIO(again)) as two:
        for name in ("model.json", "weights.safetensors", "predict.py"):
            assert one.read(name) == two.read(name)
    other.restart()
    afterwards = other.ok("POST", "/v1/models/along/predict", json=POINTS)
    assert afterwards["predictions"] == asked[0]["predictions"]


def test_a_job_goes_on_from_what_came_and_evaluates_it(
    server: Server, model: Json, other: Server
) -> None:
    came = imported(other, bundle_of(server), name="elsewhere")
    assert came["ref"] == "elsewhere@1"
    other.line()
    evaluated = other.ok("POST", "/v1/models/elsewhere/evaluate", json={"dataset": "line"})
    assert evaluated["baseline"] is not None
    start = {"kind": "pretrained", "model": "elsewhere"}
    job: Json = {"dataset": "line", "target": "y", "model": start, "epochs": 1}
    assert other.train(**job, optimizer="sgd", loss="l1", split=LINE_JOB["split"])["model"]
    other.ok("PUT", "/v1/models/elsewhere/aliases/champion", json={"version": 1})
    assert other.client.delete("/v1/models/elsewhere@champion").status_code == 204
    assert len(models_on_disk(other)) == 1


def test_here_it_is_the_next_version(server: Server, model: Json) -> None:
    content = bundle_of(server)
    response = server.client.post("/v1/models", content=content, headers=ZIP)
    assert response.status_code == 201
    came = response.json()
    assert came["version"] == model["version"] + 1
    assert response.headers["Location"] == f"/v1/models/{came['id']}"
    assert came["id"] != model["id"]
    versions = server.ok("GET", "/v1/models/along/versions")["data"]
    assert [row["job"] for row in versions] == [None, model["job"]]
    assert server.client.delete("/v1/models/along@2").status_code == 204


def test_a_key_imports_once(server: Server, model: Json) -> None:
    content, headers = bundle_of(server), {**ZIP, "Idempotency-Key": "take me along"}
    params = {"name": "imported-once"}
    answers = [
        server.client.post("/v1/models", content=content, headers=headers, params=params)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert len(server.ok("GET", "/v1/models/imported-once/versions")["data"]) == 1
    other = {"name": "imported-twice"}
    reused = server.client.post("/v1/models", content=content, headers=headers, params=other)
    problem(reused, 422, "idempotency_key_reused")
    assert server.client.delete("/v1/models/imported-once").status_code == 204


def test_the_download_has_an_etag_ranges_and_a_name(server: Server, model: Json) -> None:
    path, params = "/v1/models/along@1/download", {"format": "bundle"}
    whole = server.client.get(path, params=params)
    assert whole.headers["Content-Type"] == "application/zip"
    assert whole.headers["Content-Disposition"] == 'attachment; filename="along-1.zip"'
    etag = {"If-None-Match": whole.headers["ETag"]}
    assert server.client.get(path, params=params, headers=etag).status_code == 304
    part = server.client.get(path, params=params, headers={"Range": "bytes=10-29"})
    assert (part.status_code, part.content) == (206, whole.content[10:30])
    head = server.client.head(path, params=params)
    assert head.headers["Content-Length"] == str(len(whole.content))
    assert head.headers["ETag"] == whole.headers["ETag"]
    assert not list((server.data_dir / "tmp").iterdir())


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"content": b"PK", "headers": ZIP}, 422, "invalid_data"),
        ({"content": b"", "headers": ZIP}, 422, "invalid_data"),
        ({"json": {}}, 415, "unsupported_media_type"),
        ({"content": b"PK", "headers": ZIP, "params": {"name": "../up"}}, 422, None),
        ({"content": b"PK", "headers": {**ZIP, "Content-Encoding": "gzip"}}, 415, None),
    ],
)
def test_what_is_no_bundle_leaves_nothing(
    server: Server, model: Json, request_: dict[str, Any], status: int, code: str | None
) -> None:
    before = models_on_disk(server)
    refused = server.client.post("/v1/models", **request_)
    found = problem(refused, status, code or refused.json()["code"])
    assert found["detail"]
    assert models_on_disk(server) == before
    assert not list((server.data_dir / "tmp").iterdir())


def test_a_name_that_looks_like_an_id_is_refused(server: Server, model: Json) -> None:
    content = bundle_of(server)
    params = {"name": model["id"]}
    refused = server.client.post("/v1/models", content=content, headers=ZIP, params=params)
    assert problem(refused, 422, "invalid_request")["errors"][0]["pointer"] == "/name"
