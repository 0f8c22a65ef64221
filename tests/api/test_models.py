"""/v1/models over HTTP."""

import math
from typing import Any

import pytest

from tests.support.server import LINE_JOB, Json, Server, problem

ROWS = [
    {"size": i / 10, "color": "rgb"[i % 3], "new": i % 2 == 0, "price": 10 * i + (i % 3)}
    for i in range(60)
]


@pytest.fixture(scope="module")
def shop(server: Server) -> Json:
    """A model of numbers, categories and booleans, some of them missing."""
    rows = [*ROWS, {"size": None, "color": None, "new": None, "price": 100}]
    body = {"name": "shop", "source": {"kind": "inline", "rows": rows}}
    server.ok("POST", "/v1/datasets", json=body)
    return server.train(dataset="shop", target="price", epochs=30, register_as="shop")


FEATURES = {"size": 1.5, "color": "r", "new": True}


def test_rows_columns_and_instances_agree(server: Server, shop: Json) -> None:
    path = f"/v1/models/{shop['model']['ref']}/predict"
    rows = server.ok("POST", path, json={"rows": [FEATURES, {**FEATURES, "size": 3}]})
    columns = {"size": [1.5, 3], "color": ["r", "r"], "new": [True, True]}
    assert server.ok("POST", path, json={"columns": columns}) == rows
    instances = [[1.5, "r", True], [3, "r", True]]
    assert server.ok("POST", path, json={"instances": instances}) == rows
    assert rows["object"] == "predictions"
    assert rows["model"] == "shop"
    assert rows["version"] == 1
    assert all(isinstance(value, float) and math.isfinite(value) for value in rows["predictions"])


def test_missing_and_unseen_values_are_handled_and_the_target_ignored(
    server: Server, shop: Json
) -> None:
    row = {"size": None, "color": "violet", "new": None, "price": "whatever"}
    answer = server.ok("POST", "/v1/models/shop/predict", json={"rows": [row]})
    assert math.isfinite(answer["predictions"][0])


WRONG: list[tuple[Any, str]] = [
    ({"rows": [FEATURES, {"size": 1.5, "color": "r"}]}, "/rows/1/new"),
    ({"rows": [{**FEATURES, "sise": 1}]}, "/rows/0/sise"),
    ({"rows": [FEATURES, FEATURES, {**FEATURES, "size": "big"}]}, "/rows/2/size"),
    ({"rows": [{**FEATURES, "size": True}]}, "/rows/0/size"),
    ({"rows": [{**FEATURES, "color": 3}]}, "/rows/0/color"),
    ({"rows": [{**FEATURES, "new": 1}]}, "/rows/0/new"),
    ({"rows": [3]}, "/rows/0"),
    ({"rows": {"size": 1}}, "/rows"),
    ({"columns": {"size": [1], "color": ["r", "g"], "new": [True, True]}}, "/columns/size"),
    ({"columns": {"size": 1, "color": ["r"], "new": [True]}}, "/columns/size"),
    ({"instances": [[1.0, "r"]]}, "/instances/0"),
    ({"instances": [[1.0, "r", "perhaps"]]}, "/instances/0/2"),
    ({"rows": [FEATURES], "extra": 1}, "/extra"),
]


@pytest.mark.parametrize(("body", "pointer"), WRONG, ids=[pointer for _, pointer in WRONG])
def test_wrong_input_is_pointed_at(server: Server, shop: Json, body: Any, pointer: str) -> None:
    response = server.client.post("/v1/models/shop/predict", json=body)
    errors = problem(response, 422, "invalid_request")["errors"]
    assert pointer in [error["pointer"] for error in errors], errors


@pytest.mark.parametrize(
    "body", [{"rows": []}, {"instances": []}, {}, [], {"rows": [], "columns": {}}]
)
def test_nothing_to_predict(server: Server, shop: Json, body: Any) -> None:
    response = server.client.post("/v1/models/shop/predict", json=body)
    problem(response, 422, "invalid_request")


def test_many_wrong_rows_stay_a_short_answer(server: Server, shop: Json) -> None:
    rows = [{"size": "x" * 1000, "color": 1, "new": "?"} for _ in range(1000)]
    response = server.client.post("/v1/models/shop/predict", json={"rows": rows})
    problem(response, 422, "invalid_request")


def test_other_bodies(server: Server, shop: Json) -> None:
    json_type = {"Content-Type": "application/json"}
    path = "/v1/models/shop/predict"
    for broken in (b"", b"{", b'{"rows": [{"size": NaN}]}'):
        response = server.client.post(path, content=broken, headers=json_type)
        problem(response, 400, "invalid_json")
    problem(server.client.post(path, content=b"a,b"), 415, "unsupported_media_type")
    problem(server.client.post("/v1/models/nobody/predict", json={}), 404, "not_found")


@pytest.mark.parametrize(
    ("labels", "task"),
    [(["no", "yes"], "binary"), ([False, True], "binary"), ([3, 7, 11], "multiclass")],
)
def test_labels_keep_their_type(server: Server, labels: list[Any], task: str) -> None:
    rows = [{"x": i % len(labels) + i / 1000, "y": labels[i % len(labels)]} for i in range(90)]
    made = server.ok("POST", "/v1/datasets", json={"source": {"kind": "inline", "rows": rows}})
    job = server.train(dataset=made["id"], target="y", task=task, epochs=80)
    ref = job["model"]["ref"]
    points = [[float(i)] for i in range(len(labels))]
    answer = server.ok(
        "POST",
        f"/v1/models/{ref}/predict",
        params={"probabilities": "true"},
        json={"instances": points},
    )
    assert answer["predictions"] == labels
    assert [type(value) for value in answer["predictions"]] == [type(value) for value in labels]
    keys = [str(label).lower() if isinstance(label, bool) else str(label) for label in labels]
    for shares in answer["probabilities"]:
        assert list(shares) == keys
        assert sum(shares.values()) == pytest.approx(1)


def test_probabilities_of_a_regression_are_refused(server: Server, shop: Json) -> None:
    path = "/v1/models/shop/predict?probabilities=true"
    response = server.client.post(path, json={"rows": [FEATURES]})
    problem(response, 422, "invalid_request")


def test_several_targets(server: Server) -> None:
    rows = [{"x": i, "a": 2 * i, "b": -i, "p": i > 20, "q": i % 2 == 0} for i in range(60)]
    made = server.ok("POST", "/v1/datasets", json={"source": {"kind": "inline", "rows": rows}})
    body = {"dataset": made["id"], "features": ["x"], "epochs": 3}
    numbers = server.train(**body, target=["a", "b"])
    answer = server.ok(
        "POST", f"/v1/models/{numbers['id']}/predict", json={"rows": [{"x": 1, "a": 0, "b": 0}]}
    )
    assert answer["predictions"][0].keys() == {"a", "b"}
    labels = server.train(**body, target=["p", "q"])
    assert labels["spec"]["task"] == "multilabel"
    answer = server.ok("POST", f"/v1/models/{labels['id']}/predict", json={"instances": [[1]]})
    assert {type(value) for value in answer["predictions"][0].values()} == {bool}


def test_summary_and_parameters(server: Server, shop: Json) -> None:
    summary = server.ok("GET", "/v1/models/shop/summary")
    assert summary["layers"][-1]["output_shape"] == [None, 1]
    assert sum(layer["parameters"] for layer in summary["layers"]) == summary["parameters"]
    parameters = server.ok("GET", "/v1/models/shop/parameters")["data"]
    total = sum(math.prod(item["shape"]) for item in parameters)
    assert total == summary["parameters"] == server.ok("GET", "/v1/models/shop")["parameters"]
    assert {item["dtype"] for item in parameters} == {"float32"}


def test_parameters_have_pages_in_the_order_of_the_layers(server: Server) -> None:
    hidden = [4] * 12  # and a layer behind them
    server.train(
        dataset="line",
        target="y",
        epochs=1,
        model={"kind": "mlp", "hidden": hidden},
        register_as="deep",
    )
    path = "/v1/models/deep/parameters"
    first = server.ok("GET", path)
    assert (len(first["data"]), first["has_more"]) == (20, True)
    assert first["last_id"] == first["data"][-1]["id"] == first["data"][-1]["name"]
    rest = server.ok("GET", path, params={"after": first["last_id"], "limit": 7})
    found = [item["id"] for item in [*first["data"], *rest["data"]]]
    assert (len(found), rest["has_more"]) == (26, False)
    numbers = [int(name.split(".")[0]) for name in found]
    assert numbers == sorted(numbers)
    turned = server.ok("GET", path, params={"order": "desc", "limit": 100})["data"]
    assert [item["id"] for item in turned] == found[::-1]
    problem(server.client.get(path, params={"after": "99.weight"}), 404, "not_found")
    problem(server.client.get(path, params={"limit": 0}), 422, "invalid_request")


def test_large_models_hide_their_values(server: Server) -> None:
    job = server.train(
        dataset="line", target="y", epochs=1, model={"kind": "mlp", "hidden": [128, 128]}
    )
    parameters = server.ok("GET", f"/v1/models/{job['id']}/parameters")["data"]
    assert all(item["values"] is None for item in parameters)


def test_download_answers_ranges_and_etags(server: Server, shop: Json) -> None:
    path = "/v1/models/shop/download"
    whole = server.client.get(path, params={"format": "safetensors"})
    assert whole.headers["content-disposition"].endswith('"shop-1.safetensors"')
    part = server.client.get(path, headers={"Range": "bytes=8-15"})
    assert part.status_code == 206
    assert part.content == whole.content[8:16]
    assert part.headers["etag"] == whole.headers["etag"]
    assert server.client.get(path, params={"format": "pickle"}).status_code == 422


def test_a_damaged_model_is_refused_never_used(server: Server) -> None:
    job = server.train(**{**LINE_JOB, "register_as": "damaged"})
    model = server.ok("GET", f"/v1/models/{job['model']['ref']}")
    weights = server.data_dir / "models" / model["id"] / "weights.safetensors"
    bits = bytearray(weights.read_bytes())
    bits[-1] ^= 1
    weights.write_bytes(bits)
    response = server.client.post("/v1/models/damaged/predict", json={"rows": [{"x": 0.5}]})
    problem(response, 503, "artifact_corrupt")
    assert server.client.get("/readyz").status_code == 200
