"""Tables, models and checkpoints that are not what was written: never other values, never a 500."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.numpy import load_file, save

from app.hashes import sha256_of
from app.storage import MANIFEST
from tests.support.server import LONG_JOB, Json, Server, problem

_number = count(1)
TABLE, WEIGHTS = "table.parquet", "weights.safetensors"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("damage") / "data", FITSERVE_MAX_PARALLEL_JOBS="1") as it:
        it.line()
        yield it


def made(server: Server) -> Json:
    """A dataset of its own, and a job that has trained on it."""
    number = next(_number)
    rows = [{"x": i / 10, "z": i * number, "y": i + number} for i in range(40)]
    source = {"kind": "inline", "rows": rows}
    dataset = server.ok("POST", "/v1/datasets", json={"name": f"t{number}", "source": source})
    job = {"dataset": dataset["id"], "target": "y", "epochs": 2, "model": "linear"}
    return server.train(**job, register_as=f"m{number}")


# ---------------------------------------------------------------- kinds of damage


def flip(path: Path, _other: Path) -> None:
    """A bit, as a disk does it: the size stays, and whoever did it has put the times back."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path, _other: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path, _other: Path) -> None:
    path.write_bytes(b"")


def lose(path: Path, _other: Path) -> None:
    path.unlink()


def link(path: Path, _other: Path) -> None:
    """To its own bytes, somewhere else."""
    kept = path.parents[2] / f"{path.parent.name}.kept"
    path.rename(kept)
    path.symlink_to(kept)


def link_folder(path: Path, _other: Path) -> None:
    kept = path.parents[2] / f"{path.parent.name}.folder"
    path.parent.rename(kept)
    path.parent.symlink_to(kept)


def swap(path: Path, other: Path) -> None:
    """Another artifact, whole, in this one's place."""
    shutil.rmtree(path.parent)
    shutil.copytree(other.parent, path.parent)


def pipe(path: Path, _other: Path) -> None:
    path.unlink()
    os.mkfifo(path)


Damage = Callable[[Path, Path], None]


@pytest.mark.parametrize(
    "damage", [flip, truncate, empty, lose, link, link_folder, swap, pipe], ids=lambda d: d.__name__
)
def test_a_table_that_is_not_what_was_stored(server: Server, damage: Damage) -> None:
    job, other = made(server), made(server)
    dataset, model = job["dataset"]["id"], job["model"]["ref"]
    etag = server.client.get(f"/v1/datasets/{dataset}/content?format=parquet").headers["etag"]
    server.ok("GET", f"/v1/datasets/{dataset}/rows")
    folder = server.data_dir / "datasets"
    damage(folder / dataset / TABLE, folder / other["dataset"]["id"] / TABLE)

    paths = [
        *("/rows", "/rows?offset=30", "/content?format=csv", "/content?format=arrow"),
        *("/content?format=parquet", "/plots/scatter.png", "/plots/correlation.svg"),
        "/plots/histogram.png",
    ]
    for path in paths:
        problem(server.client.get(f"/v1/datasets/{dataset}{path}"), 503, "artifact_corrupt")
    known = {"If-None-Match": etag}
    for headers in (known, {"Range": "bytes=0-9"}):
        path = f"/v1/datasets/{dataset}/content?format=parquet"
        problem(server.client.get(path, headers=headers), 503, "artifact_corrupt")
    problem(server.client.get(f"/v1/jobs/{job['id']}/plots/data.png"), 503, "artifact_corrupt")
    wanted = {"dataset": dataset, "target": "y"}
    for path in ("/v1/jobs", "/v1/jobs?dry_run=true"):
        problem(server.client.post(path, json=wanted), 503, "artifact_corrupt")
    evaluated = server.client.post(f"/v1/models/{model}/evaluate", json={"dataset": dataset})
    problem(evaluated, 503, "artifact_corrupt")
    assert server.client.get(f"/v1/datasets/{dataset}").is_success  # its row is whole
    assert server.client.delete(f"/v1/datasets/{dataset}").status_code == 204


@pytest.mark.parametrize("damage", [flip, swap, lose, link], ids=lambda d: d.__name__)
def test_a_table_that_is_damaged_while_its_job_waits(server: Server, damage: Damage) -> None:
    """Its job ends with the reason, whatever the manifest says of what lies there now."""
    before, other = made(server), made(server)
    dataset = before["dataset"]["id"]
    busy = server.start_long_job()
    waiting = server.ok("POST", "/v1/jobs", json={"dataset": dataset, "target": "y", "epochs": 2})
    folder = server.data_dir / "datasets"
    damage(folder / dataset / TABLE, folder / other["dataset"]["id"] / TABLE)
    server.ok("POST", f"/v1/jobs/{busy}/cancel")
    ended = server.ended(waiting["id"])
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "artifact_corrupt"
    assert dataset in ended["error"]["message"]


def asked_of_model(server: Server, model: str) -> list[httpx.Response]:
    get, post = server.client.get, server.client.post
    row = {"rows": [{"x": 0.5, "z": 1}]}
    pretrained = {"dataset": "line", "target": "y", "model": {"kind": "pretrained", "model": model}}
    return [
        post(f"/v1/models/{model}/predict", json=row),
        post(f"/v1/models/{model}/evaluate", json={"dataset": "line"}),
        *(get(f"/v1/models/{model}/{what}") for what in ("parameters", "summary", "download")),
        post("/v1/jobs?dry_run=true", json=pretrained),
    ]


@pytest.mark.parametrize("damage", [flip, truncate, lose, link], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", [WEIGHTS, "model.json"])
def test_a_model_that_is_not_what_was_stored(server: Server, damage: Damage, name: str) -> None:
    job = made(server)
    model = job["model"]["ref"]
    model_id = server.ok("GET", f"/v1/models/{model}")["id"]
    damage(server.data_dir / "models" / model_id / name, Path())
    for response in asked_of_model(server, model):
        if name == "model.json" and "download" in response.url.path:
            continue  # what is downloaded is whole
        problem(response, 503, "artifact_corrupt")


def twice(weights: Path) -> bytes:
    """The first tensor's name comes twice in the header."""
    content = weights.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].decode().rstrip()
    name, item = next(iter(json.loads(header).items()))
    doubled = f'{{"{name}":{json.dumps(item)},{header[1:]}'.encode()
    return len(doubled).to_bytes(8, "little") + doubled + content[8 + size :]


def changed(change: Callable[[Any], Any]) -> Callable[[Path], bytes]:
    def write(weights: Path) -> bytes:
        return save({name: change(tensor) for name, tensor in load_file(weights).items()})

    return write


def header(change: Callable[[Json], None]) -> Callable[[Path], bytes]:
    def write(weights: Path) -> bytes:
        content = weights.read_bytes()
        size = int.from_bytes(content[:8], "little")
        items = json.loads(content[8 : 8 + size])
        change(items)
        written = json.dumps(items).encode()
        return len(written).to_bytes(8, "little") + written + content[8 + size :]

    return write


FORGED: dict[str, Callable[[Path], bytes]] = {
    "twice": twice,
    "float64": changed(lambda tensor: tensor.astype("float64")),
    "integers": changed(lambda tensor: tensor.astype("int32")),
    "another shape": changed(lambda tensor: tensor.reshape(-1, 1)),
    "longer": changed(lambda tensor: tensor.repeat(2)),
    "another name": header(lambda items: items.update(other=items.pop(next(iter(items))))),
    "unknown dtype": header(lambda items: next(iter(items.values())).update(dtype="F5")),
    "offsets": header(lambda items: next(iter(items.values())).update(data_offsets=[0, 1 << 40])),
    "no header": lambda _: b"\xff" * 64,
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("how", FORGED)
def test_weights_that_do_not_fit_though_their_hash_does(server: Server, how: str) -> None:
    job = made(server)
    model = job["model"]["ref"]
    folder = server.data_dir / "models" / server.ok("GET", f"/v1/models/{model}")["id"]
    (folder / WEIGHTS).write_bytes(FORGED[how](folder / WEIGHTS))
    reseal(folder)
    for response in asked_of_model(server, model)[:4]:
        problem(response, 503, "artifact_corrupt")


def reseal(folder: Path) -> None:
    """Write the manifest anew, as it would be of what lies there."""
    files = {
        path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in folder.iterdir()
        if path.name != MANIFEST
    }
    (folder / MANIFEST).write_text(json.dumps({"files": files}))


def test_a_damaged_checkpoint_is_passed_over_and_told(server: Server) -> None:
    often = {"every_seconds": 0.05, "keep": 5}
    job_id = server.start_long_job(checkpoint=often)
    server.until(job_id, lambda _: len(server.everything(f"/v1/jobs/{job_id}/checkpoints")) > 2)
    server.ok("POST", f"/v1/jobs/{job_id}/pause")
    server.until(job_id, lambda job: job["status"] == "paused")
    newest = server.everything(f"/v1/jobs/{job_id}/checkpoints")[-1]["id"]
    flip(server.data_dir / "checkpoints" / newest / WEIGHTS, Path())
    server.ok("POST", f"/v1/jobs/{job_id}/resume")
    job = server.until(job_id, lambda job: any(newest in text for text in job["warnings"]))
    assert job["status"] == "running"
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    assert server.ended(job_id)["status"] == "cancelled"
    events = server.everything(f"/v1/jobs/{job_id}/events")
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    (told,) = [event for event in events if event["type"] == "warning"]
    assert newest in told["data"]["message"]
    assert LONG_JOB["epochs"] > len(events)
