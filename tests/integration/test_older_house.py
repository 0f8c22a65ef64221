"""A data directory that an older fitserve made and this one opens: the same answers, and its paused
job goes on to the weights that the older one would have reached."""

import json
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import forked
from tests.support.server import Json, Server
from tests.support.soak import soak_only

FIXTURES = Path(__file__).parents[1] / "fixtures"
HOUSES = sorted(FIXTURES.glob("house_*.tar.xz"))


@pytest.fixture(scope="module", params=HOUSES, ids=lambda path: path.stem.partition(".")[0])
def unpacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    with closing(sqlite3.connect(folder / "house" / "fitserve.db")) as database, database:
        young = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"  # keys are kept for a day
        database.execute(f"UPDATE idempotency_keys SET created_at = {young}")
    return folder / "house"


@pytest.fixture(scope="module")
def expected(unpacked: Path) -> Json:
    """What the older one answered."""
    found: Json = json.loads((unpacked / "expected.json").read_text())
    return found


@pytest.fixture(scope="module")
def house(unpacked: Path) -> Iterator[Server]:
    with Server(unpacked) as server:
        yield server


def test_it_answers_as_it_did(house: Server, expected: Json) -> None:
    for path, body in expected["get"].items():
        if "max_points" in path:  # since then the same epochs are kept of all series
            continue
        assert kept(house.ok("GET", path), body) == body, path


def test_its_models_predict_and_are_evaluated_as_they_were(house: Server, expected: Json) -> None:
    for model, (row, answer) in expected["predict"].items():
        path = f"/v1/models/{model}/predict"
        assert about(house.ok("POST", path, json={"rows": [row]})) == answer, model
    for model, answer in expected["evaluate"].items():
        dataset = answer["dataset"]["id"]
        path = f"/v1/models/{model}/evaluate"
        assert about(kept(house.ok("POST", path, json={"dataset": dataset}), answer)) == answer


def test_its_keys_are_remembered(house: Server, expected: Json) -> None:
    first = next(job for job in expected["get"]["/v1/jobs?limit=100&order=asc"]["data"])
    spec = {name: value for name, value in first["spec"].items() if name != "dataset"}
    response = house.client.post(
        "/v1/jobs", json={"dataset": "line", **spec}, headers={"Idempotency-Key": "key-0"}
    )
    assert response.status_code == 422, "the same key for what is not the same request"
    assert response.json()["code"] == "idempotency_key_reused"


@soak_only
def test_its_paused_job_reaches_what_nobody_paused(house: Server, expected: Json) -> None:
    house.ok("POST", f"/v1/jobs/{expected['paused']}/resume")
    done = house.ended(expected["paused"])
    assert done["status"] == "succeeded", done["error"]
    assert done["attempt"] == 2
    found = house.ok("GET", "/v1/models/resumed/parameters")
    assert about(values(found)) == values(expected["whole_parameters"])
    series = [house.ok("GET", f"/v1/jobs/{expected[name]}/metrics") for name in ("paused", "whole")]
    assert about(series[0]["series"]) == series[1]["series"]


def test_nothing_of_it_is_lost(house: Server, unpacked: Path, tmp_path: Path) -> None:
    house.terminate()
    folder = Path(shutil.copytree(unpacked, tmp_path / "house"))
    checked = forked("fsck", "--data-dir", str(folder))
    assert checked.returncode == 0, checked.stdout


def kept(found: Any, expected: Any) -> Any:
    """What was answered of what is expected; an answer may have grown fields since."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return {k: kept(found[k], v) for k, v in expected.items() if k in found}
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return [kept(one, other) for one, other in zip(found, expected, strict=True)]
    return found


def about(found: Any) -> Any:
    """Equal to what differs in the last bits: the older one ran on another processor, and each
    adds up in the order that suits its vector units."""
    if isinstance(found, dict):
        return {name: about(value) for name, value in found.items()}
    if isinstance(found, list):
        return [about(value) for value in found]
    return pytest.approx(found, rel=1e-4, abs=1e-5) if isinstance(found, float) else found


def values(parameters: Json) -> list[Any]:
    return [parameter["values"] for parameter in parameters["data"]]
