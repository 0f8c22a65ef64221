"""Models, layers, schedulers and weights as a client asks for them, over HTTP."""

import hashlib
import math
from typing import Any
from uuid import uuid4

import pytest

from app.ml.specs import LAYERS
from tests.support.server import Json, Server, problem

ROWS = 120


def table() -> Json:
    """Numbers, classes and weights; ``sorted`` has its classes one after the other."""
    x = [math.sin(i * 7.3) * 2 for i in range(ROWS)]
    return {
        "x": x,
        "z": [math.cos(i * 3.1) for i in range(ROWS)],
        "city": [f"city {(i * 31) % 70}" for i in range(ROWS)],
        "shop": ["abc"[i % 3] for i in range(ROWS)],
        "kind": [("low", "mid", "top")[int(v > -1) + int(v > 1)] for v in x],
        "sorted": ["abcd"[i * 4 // ROWS] for i in range(ROWS)],
        "sold": [v > 0 for v in x],
        "weight": [1.0 + i % 3 for i in range(ROWS)],
        "price": [10 * v + 100 for v in x],
        "rent": [v * v for v in x],
    }


@pytest.fixture(scope="module")
def goods(server: Server) -> str:
    name = f"goods-{uuid4().hex[:8]}"
    source = {"kind": "inline", "columns": table()}
    server.ok("POST", "/v1/datasets", json={"name": name, "source": source})
    return name


def wanted(goods: str, **job: Any) -> Json:
    return {"dataset": goods, "target": "price", "features": ["x", "z", "shop"], **job}


def layers(*told: Any) -> Json:
    return {"kind": "sequential", "layers": list(told)}


def sha256_of(server: Server, ref: str) -> str:
    found = server.client.get(f"/v1/models/{ref}/download")
    assert found.status_code == 200
    return hashlib.sha256(found.content).hexdigest()


ROWS_TO_ASK = {"rows": [{"x": v, "z": 0.1, "shop": "a"} for v in (-1.5, 0.0, 1.5)]}
TWO_LAYERS = layers({"kind": "linear", "out_features": 8}, "batch_norm1d", "silu", "linear")

# ---------------------------------------------------------------- bad combinations


@pytest.mark.parametrize(
    ("job", "pointer", "said"),
    [
        ({"loss": "cross_entropy"}, "/loss", "use 'mse'"),
        ({"target": "kind", "loss": "mse"}, "/loss", "use 'cross_entropy'"),
        (
            {"hidden": [8]},
            "/hidden",
            'field \'hidden\'; a job says it so: {"model": {"kind": "mlp"',
        ),
        ({"momentum": 0.9}, "/momentum", "field 'momentum'; a job says it so: {\"optimizer\""),
        ({"layers": ["ReLU"]}, "/layers", '{"kind": "sequential", "layers"'),
        ({"loss": {"kind": "cross_entropy", "weight": [1]}}, "/loss/weight", '{"class_weight"'),
        ({"model": "tabluar"}, "/model", "did you mean 'tabular'?"),
        ({"model": {"kind": "tabular", "widht": 9}}, "/model/widht", "did you mean 'width'?"),
        ({"model": {"kind": "tabular", "bins": 0}}, "/model/bins", "greater than or equal to 1"),
        ({"optimizer": {"kind": "adamm"}}, "/optimizer/kind", "did you mean 'adam'?"),
        ({"optimizer": {"kind": "adam", "momentum": 0.9}}, "/optimizer/momentum", "unknown field"),
        ({"scheduler": "cosin"}, "/scheduler", "did you mean 'cosine'?"),
        ({"scheduler": "step"}, "/scheduler/step_size", "is required"),
        ({"scheduler": {"kind": "cosine", "t_max": 5}}, "/scheduler/t_max", '"T_max": 5'),
        ({"model": layers({"kind": "Linaer"})}, "/model/layers/0/kind", "did you mean 'Linear'?"),
        ({"model": layers("ReLU", "Conv1d")}, "/model/layers/1", "there are"),
        (
            {"model": layers({"kind": "Linear", "out_feature": 3})},
            "/model/layers/0/out_feature",
            "did you mean 'out_features'?",
        ),
        ({"model": layers()}, "/model/layers", "at least 1"),
        (
            {"target": "kind", "model": layers({"kind": "Linear", "out_features": 2})},
            "/model/layers/0",
            'end with {"kind": "Linear", "out_features": 3}',
        ),
        (
            {"model": layers({"kind": "Linear", "in_features": 9}, "Linear")},
            "/model/layers/0/in_features",
            "set it to 5, or leave it out",
        ),
        ({"batch_size": 97}, "/batch_size", "more than the 96 training rows"),
        ({"batch_size": 1, "model": {"kind": "mlp", "norm": "batch"}}, "/model/norm", '"layer"'),
        ({"batch_size": 1, "model": TWO_LAYERS}, "/model/layers/1", '"LayerNorm"'),
        (
            {"target": "sorted", "split": {"strategy": "sequential"}},
            "/split/strategy",
            '"stratified"',
        ),
        (
            {"split": {"train": 0.8, "validation": 0.0}, "early_stopping": {"patience": 1}},
            "/early_stopping",
            "set early_stopping to null",
        ),
        ({"class_weight": "balanced"}, "/class_weight", "sample_weight"),
        ({"target": "kind", "class_weight": {"high": 2}}, "/class_weight", "'low'"),
        ({"sample_weight": "wieght"}, "/sample_weight", "did you mean 'weight'?"),
        ({"sample_weight": "x"}, "/sample_weight", "not below 0"),
        ({"ema_decay": 1.0}, "/ema_decay", "less than 1"),
        ({"model": {"kind": "pretrained"}}, "/model/model", "is required"),
        ({"model": {"kind": "pretrained", "model": "nowhere"}}, "/model/model", "nowhere"),
    ],
)
def test_what_cannot_work_is_said_before_it_runs(
    server: Server, goods: str, job: Json, pointer: str, said: str
) -> None:
    for path in ("/v1/jobs", "/v1/jobs?dry_run=true"):
        response = server.client.post(path, json=wanted(goods, **job))
        body = problem(response, 422, "invalid_request")
        assert [error["pointer"] for error in body["errors"]] == [pointer]
        assert said in body["errors"][0]["detail"]


def test_a_model_that_does_not_fit_the_machine_is_refused(server: Server, goods: str) -> None:
    model = layers(*[{"kind": "Linear", "out_features": 65_536}] * 40, "Linear")
    response = server.client.post("/v1/jobs", json=wanted(goods, model=model))
    body = problem(response, 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/model"
    assert "GB" in body["detail"]


# ---------------------------------------------------------------- the default


def test_the_default_is_told_in_full(server: Server, goods: str) -> None:
    job = {"dataset": goods, "target": "price"}
    plan = server.ok("POST", "/v1/jobs?dry_run=true", json=job)
    spec = plan["spec"]
    assert spec["model"] == {
        "kind": "tabular",
        "members": 8,
        "width": 128,
        "embedding": 8,
        "label_smoothing": 0.1,
        "bins": 2,
    }
    assert spec["optimizer"]["kind"] == "adamw"
    assert (spec["optimizer"]["lr"], spec["optimizer"]["weight_decay"]) == (2e-3, 0.3)
    assert spec["scheduler"] == {"kind": "cosine", "T_max": None, "eta_min": 0.0}
    assert (spec["ema_decay"], spec["epochs"], spec["batch_size"]) == (0.99, 100, 32)
    again = server.ok("POST", "/v1/jobs?dry_run=true", json=spec)
    assert again == plan


def test_the_default_learns_from_columns_of_every_kind(server: Server, goods: str) -> None:
    """70 cities are many, so they are looked up."""
    job = server.train(dataset=goods, target="price", features=["x", "city", "shop", "sold"])
    assert job["spec"]["model"]["kind"] == "tabular"
    assert job["metrics"]["test"]["mae"] < job["metrics"]["baseline"]["mae"]


def test_a_trained_tabular_model_tells_its_parts(server: Server, goods: str) -> None:
    job = server.train(**wanted(goods, target="kind", epochs=3))
    ref = job["model"]["ref"]
    summary = server.ok("GET", f"/v1/models/{ref}/summary")
    assert summary["inputs"] == 5
    assert {"embed", "first", "direct"} <= {layer["name"] for layer in summary["layers"]}
    parameters = server.ok("GET", f"/v1/models/{ref}/parameters")["data"]
    count = sum(math.prod(item["shape"]) for item in parameters)
    plan = server.ok("POST", "/v1/jobs?dry_run=true", json=wanted(goods, target="kind"))
    assert count == summary["parameters"] == plan["parameters"]
    assert {"head", "offset", "direct.weight"} <= {item["name"] for item in parameters}
    answer = server.ok("POST", f"/v1/models/{ref}/predict?probabilities=true", json=ROWS_TO_ASK)
    assert set(answer["predictions"]) <= {"low", "mid", "top"}
    assert all(sum(row.values()) == pytest.approx(1) for row in answer["probabilities"])


def test_the_summary_of_tabular_counts_every_parameter(server: Server, goods: str) -> None:
    job = server.train(**wanted(goods, epochs=1))
    summary = server.ok("GET", f"/v1/models/{job['model']['ref']}/summary")
    assert sum(layer["parameters"] for layer in summary["layers"]) == summary["parameters"]


# ---------------------------------------------------------------- from job to predictions


def test_layers_of_ones_own_are_trained_and_answer(server: Server, goods: str) -> None:
    fields = {"model": TWO_LAYERS, "scheduler": "one_cycle", "sample_weight": "weight"}
    optimizer = {"kind": "adam", "lr": 0.05}
    job = server.train(**wanted(goods, **fields, optimizer=optimizer, epochs=60))
    kinds = [layer["kind"] for layer in job["spec"]["model"]["layers"]]
    assert kinds == ["Linear", "BatchNorm1d", "SiLU", "Linear"]
    assert job["metrics"]["test"]["mae"] < 0.5 * job["metrics"]["baseline"]["mae"]
    ref = job["model"]["ref"]
    low, middle, high = server.ok("POST", f"/v1/models/{ref}/predict", json=ROWS_TO_ASK)[
        "predictions"
    ]
    assert low < middle < high
    summary = server.ok("GET", f"/v1/models/{ref}/summary")["layers"]
    assert [layer["type"] for layer in summary] == kinds
    series = server.ok("GET", f"/v1/jobs/{job['id']}/metrics")["series"]
    rates = series["learning_rate"]["value"]
    assert max(rates) <= 0.05
    assert rates[0] < max(rates) > rates[-1]


def test_a_model_is_started_from_another(server: Server, goods: str) -> None:
    base = f"base-{uuid4().hex[:8]}"
    server.train(**wanted(goods, model={"kind": "mlp", "hidden": [8]}, register_as=base))
    model = {"kind": "pretrained", "model": base, "freeze": ["0.*"]}
    job = server.train(dataset=goods, target="kind", model=model, epochs=40)
    assert job["spec"]["model"]["model"] == f"{base}@1"
    assert job["spec"]["model"]["architecture"]["hidden"] == [8]
    assert job["spec"]["features"] == ["x", "z", "shop"]
    ref = job["model"]["ref"]
    one, other = (
        {item["name"]: item["values"] for item in server.ok("GET", path)["data"]}
        for path in (f"/v1/models/{base}/parameters", f"/v1/models/{ref}/parameters")
    )
    assert one["0.weight"] == other["0.weight"]
    assert len(other["2.weight"]) == 3
    answer = server.ok("POST", f"/v1/models/{ref}/predict", json=ROWS_TO_ASK)
    assert set(answer["predictions"]) <= {"low", "mid", "top"}


@pytest.mark.parametrize(
    ("model", "pointer", "said"),
    [
        ({"freeze": ["9.*"]}, "/model/freeze/0", "'0.weight'"),
        ({"freeze": ["*"]}, "/model/freeze", "nothing is left to train"),
        ({"freeze": ["0.*"], "frozen": True}, "/model/frozen", "unknown field"),
    ],
)
def test_a_source_that_does_not_serve_is_told(
    server: Server, goods: str, model: Json, pointer: str, said: str
) -> None:
    base = f"base-{uuid4().hex[:8]}"
    mlp = {"kind": "mlp", "hidden": [8]}
    server.train(**wanted(goods, model=mlp, register_as=base, epochs=1))
    told = {"kind": "pretrained", "model": base, **model}
    job = {"dataset": goods, "target": "kind", "model": told}
    body = problem(server.client.post("/v1/jobs", json=job), 422, "invalid_request")
    assert [error["pointer"] for error in body["errors"]] == [pointer]
    assert said in body["errors"][0]["detail"]


def test_a_frozen_whole_is_refused_and_not_a_job_that_fails(server: Server, goods: str) -> None:
    base = f"base-{uuid4().hex[:8]}"
    mlp = {"kind": "mlp", "hidden": [8], "norm": "batch"}
    server.train(**wanted(goods, model=mlp, register_as=base, epochs=1))
    model = {"kind": "pretrained", "model": base, "freeze": ["*.weight", "*.bias"]}
    job = {"dataset": goods, "target": "price", "model": model}
    problem(server.client.post("/v1/jobs", json=job), 422, "invalid_request")


# ---------------------------------------------------------------- again, as it was told


@pytest.mark.parametrize(
    "job",
    [
        {"epochs": 3},
        {"epochs": 3, "target": "kind", "class_weight": "balanced"},
        {"epochs": 3, "target": "sold", "model": TWO_LAYERS, "scheduler": "one_cycle"},
        {"epochs": 3, "sample_weight": "weight", "loss": {"kind": "huber", "delta": 0.5}},
        {
            "epochs": 3,
            "model": "mlp",
            "scheduler": {"kind": "multi_step", "milestones": [1, 2]},
            "optimizer": {"kind": "rprop", "etas": [0.4, 1.3]},
            "batch_size": None,
        },
    ],
)
def test_a_told_spec_gives_the_same_weights(server: Server, goods: str, job: Json) -> None:
    first = server.train(**wanted(goods, **job))
    told = server.ok("GET", f"/v1/jobs/{first['id']}")["spec"]
    again = server.train(**told)
    assert again["spec"] == told
    assert sha256_of(server, again["model"]["ref"]) == sha256_of(server, first["model"]["ref"])


def test_a_told_pretrained_spec_gives_the_same_weights(server: Server, goods: str) -> None:
    base = f"base-{uuid4().hex[:8]}"
    server.train(**wanted(goods, register_as=base, epochs=2))
    model = {"kind": "pretrained", "model": base}
    first = server.train(dataset=goods, target="rent", model=model, epochs=2)
    server.train(**wanted(goods, register_as=base, epochs=1, seed=5))  # a newer version
    again = server.train(**first["spec"])
    assert again["spec"] == first["spec"]
    assert sha256_of(server, again["model"]["ref"]) == sha256_of(server, first["model"]["ref"])


# ---------------------------------------------------------------- the catalogue


def test_the_catalogue_has_layers_and_schedulers_with_their_parameters(server: Server) -> None:
    catalog = server.ok("GET", "/v1/catalog")
    for kind in ("models", "layers", "schedulers", "optimizers", "losses"):
        for entry in catalog[kind]:
            assert entry["description"], entry["name"]
            assert "kind" in entry["schema"]["properties"], entry["name"]
    named = {kind: [entry["name"] for entry in catalog[kind]] for kind in ("layers", "schedulers")}
    assert named["layers"] == list(LAYERS)
    assert named["schedulers"][0] == "step"
    schemas = {e["name"]: e["schema"] for e in [*catalog["layers"], *catalog["schedulers"]]}
    assert schemas["Linear"]["properties"].keys() == {
        "kind",
        "in_features",
        "out_features",
        "bias",
    }
    assert schemas["step"]["required"] == ["step_size"]
    assert "tabular" in [entry["name"] for entry in catalog["models"]]
