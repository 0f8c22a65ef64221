"""Health, metrics, documents, and what every answer carries."""

import re
from typing import Any

import httpx
import pytest

from tests.support.openapi import SNAPSHOT, document, render
from tests.support.server import LINE_JOB, Server, problem


def test_request_ids(server: Server) -> None:
    given = server.client.get("/livez", headers={"X-Request-Id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    assert server.logged("request_id=mine-1")
    for bad in ("x" * 65, "a b", 'a"b'):
        made = server.client.get("/livez", headers={"X-Request-Id": bad})
        assert made.headers["x-request-id"] != bad
    first, second = (server.client.get("/livez").headers["x-request-id"] for _ in range(2))
    assert first != second


def test_unknown_paths_and_methods_are_problems(server: Server) -> None:
    problem(server.client.get("/nothing"), 404, "not_found")
    refused = server.client.put("/v1/datasets")
    problem(refused, 405, "method_not_allowed")
    assert "POST" in refused.headers["allow"] or "GET" in refused.headers["allow"]


def test_json_ends_with_the_line(server: Server) -> None:
    """So that what curl prints does not run into the prompt."""
    job = server.train(
        **{**LINE_JOB, "dataset": server.line("lines")["id"], "register_as": "lines"}
    )
    row = {"rows": [{"x": 0.5}]}
    tensor = {"name": "x", "datatype": "FP64", "shape": [1], "data": [0.5]}
    answers = [
        *(
            server.client.get(path)
            for path in ("/readyz", "/v1/catalog", "/v1/jobs", "/nothing", "/v2")
        ),
        *(server.client.get(f"/v1/datasets/lines{path}") for path in ("", "/rows")),
        *(server.client.get(f"/v1/jobs/{job['id']}{path}") for path in ("", "/metrics", "/events")),
        *(server.client.get(f"/v1/models/lines{path}") for path in ("", "/parameters", "/summary")),
        server.client.post("/v1/jobs", json=LINE_JOB | {"dataset": "lines"}),
        server.client.post("/v1/jobs", json={}),
        server.client.post("/v1/models/lines/predict", json=row),
        server.client.post("/v1/models/lines/predict", json={"columns": {"x": [0.5] * 5000}}),
        server.client.post("/v2/models/lines/infer", json={"inputs": [tensor]}),
        server.client.get("/v2/models/lines"),
        server.client.post("/invocations", json={"dataframe_records": row["rows"]}),
    ]
    for answer in answers:
        assert "json" in answer.headers["content-type"]
        assert answer.text.endswith("}\n"), answer.url
        answer.json()
    deleted = server.client.delete("/v1/models/lines")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert server.client.get("/livez").is_success  # the connection is as it was


def test_docs_need_nothing_from_outside(server: Server) -> None:
    page = server.client.get("/docs")
    assert page.status_code == 200
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page.text)
    own = re.findall(r"""(?:src|href)=["'](/[^"']+)""", page.text)
    assert len(own) >= 2
    for path in own:
        assert server.client.get(path).status_code == 200, path


def test_the_surface_changes_on_purpose(server: Server) -> None:
    """After a change on purpose: ``make openapi``, and look at the difference."""
    assert render(server.ok("GET", "/openapi.json")) == SNAPSHOT.read_text()
    assert render(document()) == SNAPSHOT.read_text()


def test_bounds_of_integers_are_integers(server: Server) -> None:
    """A float rounds 2**63."""
    bounds: list[Any] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            names = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"} & part.keys()
            if part.get("type") == "integer":
                bounds.extend(part[name] for name in names)
            part = list(part.values())
        for item in part if isinstance(part, list) else []:
            walk(item)

    for path in ("/openapi.json", "/v1/catalog"):
        walk(server.ok("GET", path))
    assert 2**63 in bounds
    assert {type(bound) for bound in bounds} == {int}


def test_catalog(server: Server) -> None:
    catalog = server.ok("GET", "/v1/catalog")
    names = {
        kind: [entry["name"] for entry in catalog[kind]]
        for kind in ("models", "layers", "losses", "optimizers", "schedulers")
    }
    assert names["models"] == ["linear", "mlp", "sequential", "tabular", "pretrained"]
    assert names["losses"][:3] == ["l1", "mse", "smooth_l1"]
    assert {"Linear", "ReLU", "BatchNorm1d", "AlphaDropout", "CELU"} <= set(names["layers"])
    assert {"sgd", "adamw", "rmsprop"} <= set(names["optimizers"])
    assert {"step", "cosine", "one_cycle", "reduce_on_plateau"} <= set(names["schedulers"])
    optimizers = {entry["name"]: entry["schema"] for entry in catalog["optimizers"]}
    assert "momentum" in optimizers["sgd"]["properties"]
    assert len(catalog["generators"]) == 7


@pytest.mark.parametrize("image", ["png", "svg"])
def test_plots(server: Server, image: str) -> None:
    line = server.train(**LINE_JOB)
    blobs = {"name": "blobs", "source": {"kind": "synthetic", "generator": "blobs", "rows": 90}}
    server.client.post("/v1/datasets", json=blobs)
    classes = server.train(dataset="blobs", target="label", task="multiclass", epochs=2)
    several = server.train(dataset="blobs", target="label", epochs=2)
    paths = [
        f"/v1/datasets/line/plots/scatter.{image}",
        f"/v1/datasets/blobs/plots/scatter.{image}?x=x1&y=x0",
        *(
            f"/v1/jobs/{job['id']}/plots/{plot}.{image}"
            for job in (line, classes, several)
            for plot in ("loss", "data", "predictions")
        ),
    ]
    for path in paths:
        _check_image(server.client.get(path), image)
    wrong = server.client.get(f"/v1/datasets/line/plots/scatter.{image}?x=z")
    problem(wrong, 422, "invalid_request")
    assert server.client.get("/v1/datasets/line/plots/scatter.gif").status_code == 422


def _check_image(response: httpx.Response, image: str) -> None:
    assert response.status_code == 200, response.text
    if image == "png":
        assert response.headers["content-type"] == "image/png"
        assert response.content.startswith(b"\x89PNG\r\n\x1a\n")
    else:
        assert response.headers["content-type"] == "image/svg+xml"
        assert b"<svg" in response.content
    assert len(response.content) > 5000
