"""From columns of every kind to a model and its predictions, over HTTP."""

import math
from itertools import chain, combinations
from typing import Any
from uuid import uuid4

import pytest

from tests.support.server import Json, Server, problem

ROWS = 400
CITIES = [f"city {i}" for i in range(80)]


def table() -> Json:
    """Rent by place, season and size; some gaps, some text, and columns that tell the split."""
    days = [f"20{10 + i % 14}-{1 + i % 12:02d}-{1 + i % 28:02d}" for i in range(ROWS)]
    season = [math.sin(2 * math.pi * (i % 12) / 12) for i in range(ROWS)]
    size = [20 + (i * 7919) % 97 for i in range(ROWS)]
    place = [(i * 31) % 80 for i in range(ROWS)]
    return {
        "rent": [3.0 * s + 20 * q + p for s, q, p in zip(size, season, place, strict=True)],
        "size": [None if i % 50 == 7 else s for i, s in enumerate(size)],
        "city": [CITIES[p] for p in place],
        "kind": ["flat" if i % 3 else "house" for i in range(ROWS)],
        "let": [None if i % 41 == 0 else i % 2 == 0 for i in range(ROWS)],
        "day": [None if i % 60 == 3 else day for i, day in enumerate(days)],
        "seen": [f"2024-03-{1 + i % 31:02d}T{i % 24:02d}:30:00Z" for i in range(ROWS)],
        "words": [f"a home number {i} with a view of the sea" for i in range(ROWS)],
        "part": [("train", "train", "train", "val", "test")[i % 5] for i in range(ROWS)],
        "house": [f"h{i // 8}" for i in range(ROWS)],
    }


@pytest.fixture(scope="module")
def rents(server: Server) -> str:
    name = f"rents-{uuid4().hex[:8]}"
    source = {"kind": "inline", "columns": table()}
    server.ok("POST", "/v1/datasets", json={"name": name, "source": source})
    return name


def train(server: Server, dataset: str, **job: Any) -> Json:
    wanted = {"dataset": dataset, "target": "rent", "epochs": 60, **job}
    return server.train(**wanted)


@pytest.mark.parametrize("numbers", ["standard", "robust", "quantile", "none"])
def test_columns_of_every_kind_are_learnt_from(server: Server, rents: str, numbers: str) -> None:
    features = ["size", "city", "kind", "let", "day", "seen"]
    job = train(
        server,
        rents,
        features=features,
        preprocessing={"numbers": numbers},
        optimizer={"kind": "adamw", "lr": 0.02},
        epochs=60,
        refit=False,
        register_as=f"rents-{numbers}",
    )
    assert job["metrics"]["test"]["mae"] < 0.6 * job["metrics"]["baseline"]["mae"]
    model = server.ok("GET", f"/v1/models/rents-{numbers}")
    types = {feature["name"]: feature["type"] for feature in model["features"]}
    assert types == {
        "size": "number",
        "city": "category",
        "kind": "category",
        "let": "boolean",
        "day": "datetime",
        "seen": "datetime",
    }
    layers = server.ok("GET", f"/v1/models/rents-{numbers}/summary")["layers"]
    assert layers[0]["type"] == "Embedding", "80 cities are many"
    row = {
        "size": 50,
        "city": "city 3",
        "kind": "flat",
        "let": True,
        "day": "2020-05-06",
        "seen": "2024-03-06T10:30:00+02:00",
    }
    unknown = {**row, "city": "elsewhere", "kind": "boat"}
    missing = dict.fromkeys(row)
    path = f"/v1/models/rents-{numbers}/predict"
    answer = server.ok("POST", path, json={"rows": [row, unknown, missing]})["predictions"]
    assert all(isinstance(value, float) and math.isfinite(value) for value in answer)
    same_moment = {**row, "seen": "2024-03-06T08:30:00"}
    [alone] = server.ok("POST", path, json={"rows": [same_moment]})["predictions"]
    assert alone == pytest.approx(answer[0], rel=1e-5), "sums round otherwise in other batches"
    wrong = server.client.post(path, json={"rows": [row, {**row, "day": "2020-02-30"}]})
    body = problem(wrong, 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/rows/1/day"
    assert "ISO 8601" in body["detail"]


@pytest.mark.parametrize("categories", ["one_hot", "embedding"])
def test_categories_are_encoded_as_asked(server: Server, rents: str, categories: str) -> None:
    wanted = {"features": ["city", "kind"], "preprocessing": {"categories": categories}}
    plan = server.ok(
        "POST", "/v1/jobs?dry_run=true", json={"dataset": rents, "target": "rent", **wanted}
    )
    split = {"train": 1.0, "validation": 0.0, "test": 0.0}
    job = train(server, rents, **wanted, split=split, epochs=1)
    model = server.ok("GET", f"/v1/models/{job['model']['ref']}")
    assert plan["parameters"] == model["parameters"]
    layers = server.ok("GET", f"/v1/models/{job['model']['ref']}/summary")["layers"]
    assert [layer["type"] for layer in layers].count("Embedding") == (
        2 if categories == "embedding" else 0
    )


def parts_of(server: Server, job: Json) -> dict[str, list[int]]:
    path = f"/v1/jobs/{job['id']}/split"
    counts = server.ok("GET", path)
    rows = {
        part: server.ok("GET", f"{path}/{part}", params={"limit": "10000"})["rows"]
        for part in ("train", "validation", "test")
    }
    assert {part: len(found) for part, found in rows.items()} == {
        part: counts[part] for part in rows
    }
    assert sorted(chain.from_iterable(rows.values())) == [*range(ROWS)]
    return rows


def test_a_column_can_tell_the_split(server: Server, rents: str) -> None:
    split = {"strategy": "column", "column": "part"}
    job = train(server, rents, split=split, epochs=2)
    rows = parts_of(server, job)
    said = table()["part"]
    for part, word in (("train", "train"), ("validation", "val"), ("test", "test")):
        assert {said[row] for row in rows[part]} == {word}
    told = job["spec"]["split"]
    assert (told["train"], told["validation"], told["test"]) == (0.6, 0.2, 0.2)
    assert "part" not in job["spec"]["features"]
    again = train(server, rents, **{k: v for k, v in job["spec"].items() if k != "dataset"})
    assert parts_of(server, again) == rows, "a spec that was told can be sent again"


def test_the_oldest_rows_train_and_the_newest_test(server: Server, rents: str) -> None:
    job = train(server, rents, split={"strategy": "time", "column": "seen"}, epochs=2)
    rows = parts_of(server, job)
    days = table()["seen"]
    oldest, middle, newest = ([days[row] for row in rows[part]] for part in rows)
    assert max(oldest) <= min(middle) <= max(middle) <= min(newest)
    assert [len(rows[part]) for part in rows] == [320, 40, 40]
    assert "seen" in job["spec"]["features"], "a time is no less a feature"


def test_a_group_stays_on_one_side(server: Server, rents: str) -> None:
    split = {"train": 0.7, "validation": 0.1, "test": 0.2, "strategy": "group", "column": "house"}
    job = train(server, rents, split=split, epochs=2)
    rows = parts_of(server, job)
    houses = table()["house"]
    sides = [{houses[row] for row in found} for found in rows.values()]
    assert all(not one & other for one, other in combinations(sides, 2))
    assert abs(len(rows["train"]) - 280) <= 8
    assert "house" not in job["spec"]["features"]


@pytest.mark.parametrize(
    ("job", "pointer"),
    [
        ({"split": {"strategy": "column"}}, "/split"),
        ({"split": {"strategy": "random", "column": "part"}}, "/split"),
        ({"split": {"strategy": "column", "column": "prt"}}, "/split/column"),
        ({"split": {"strategy": "column", "column": "kind"}}, "/split/column"),
        ({"split": {"strategy": "column", "column": "size"}}, "/split/column"),
        ({"split": {"strategy": "column", "column": "rent"}}, "/split/column"),
        (
            {"split": {"strategy": "column", "column": "part"}, "features": ["part"]},
            "/features/0",
        ),
        ({"split": {"strategy": "group", "column": "let"}}, "/split/column"),
        ({"split": {"strategy": "time", "column": "kind"}}, "/split/column"),
        ({"split": {"strategy": "time", "column": "rent"}}, "/split/column"),
        ({"split": {"strategy": "time"}}, "/split"),
        ({"target": "day"}, "/target"),
        ({"target": "words"}, "/target"),
        ({"preprocessing": {"numbers": "minmax"}}, "/preprocessing/numbers"),
    ],
)
def test_what_cannot_work_is_said_before_it_runs(
    server: Server, rents: str, job: Json, pointer: str
) -> None:
    response = server.client.post("/v1/jobs", json={"dataset": rents, "target": "rent", **job})
    assert response.status_code == 422, response.text
    errors = problem(response, 422, response.json()["code"])["errors"]
    assert errors[0]["pointer"] == pointer, errors


def test_text_is_learnt_from_without_being_asked_for(server: Server, rents: str) -> None:
    job = train(server, rents, epochs=1)
    assert "words" in job["spec"]["features"]
    version = server.ok("GET", f"/v1/models/{job['model']['name']}")
    assert {"name": "words", "type": "text"} in version["features"]
    rows = server.ok("GET", f"/v1/datasets/{rents}/rows", params={"limit": "1"})["rows"]
    assert rows[0]["words"] == "a home number 0 with a view of the sea"


def test_rows_on_both_sides_are_warned_of(server: Server) -> None:
    columns = {"x": [i % 10 for i in range(100)], "y": [i % 10 * 2.5 for i in range(100)]}
    source = {"kind": "inline", "columns": columns}
    dataset = server.ok("POST", "/v1/datasets", json={"source": source})["id"]
    job = server.train(dataset=dataset, target="y", epochs=1)
    assert any("10 of the 10 rows of the test part" in warning for warning in job["warnings"])
    again = server.ok("GET", f"/v1/jobs/{job['id']}")
    assert again["warnings"] == job["warnings"]
    line = server.train(dataset="line", target="y", epochs=1)
    assert line["warnings"] == []


def test_class_labels_keep_their_names_and_types(server: Server) -> None:
    columns = {
        "x": [i % 7 for i in range(90)],
        "code": [("001", "002", "x,y")[i % 3] for i in range(90)],
        "ok": [i % 2 == 0 for i in range(90)],
        "digit": [i % 3 for i in range(90)],
    }
    source = {"kind": "inline", "columns": columns}
    dataset = server.ok("POST", "/v1/datasets", json={"source": source})["id"]
    for target, task, known in (
        ("code", "multiclass", {"001", "002", "x,y"}),
        ("ok", "binary", {True, False}),
        ("digit", "multiclass", {0, 1, 2}),
    ):
        wanted = {"dataset": dataset, "target": target, "task": task, "features": ["x"]}
        job = server.train(**wanted, epochs=2)
        path = f"/v1/models/{job['id']}/predict?probabilities=true"
        answer = server.ok("POST", path, json={"instances": [[i] for i in range(7)]})
        assert {(type(value), value) for value in answer["predictions"]} <= {
            (type(value), value) for value in known
        }
        assert answer["probabilities"][0].keys() == {
            str(value).lower() if isinstance(value, bool) else str(value) for value in known
        }
