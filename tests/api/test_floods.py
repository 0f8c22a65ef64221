"""Bodies that are made to cost: each must be refused cheaply while others are served."""

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

from tests.support.server import PATIENCE, QUICK_JOB, Json, Server, problem

MANY = 200_000


def inline(rows: list[Any]) -> Json:
    return {"source": {"kind": "inline", "rows": rows}}


def job(**fields: Any) -> tuple[str, Json]:
    return "/v1/jobs", {**QUICK_JOB, **fields}


FLOODS: dict[str, Callable[[], tuple[str, Any]]] = {
    "unknown fields": lambda: ("/v1/jobs", {f"k{i}": 1 for i in range(MANY)}),
    "features": lambda: job(features=[1] * 500_000),
    "targets": lambda: job(target=[1] * 500_000),
    "metadata": lambda: job(metadata={str(i): i for i in range(MANY)}),
    "hidden": lambda: job(model={"kind": "mlp", "hidden": ["x"] * 500_000}),
    "rows": lambda: ("/v1/datasets", inline([[]] * 1_500_000)),
    "a key a row": lambda: ("/v1/datasets", inline([{f"k{i}": 1} for i in range(20_000)])),
    "sparse": lambda: (
        "/v1/datasets",
        inline([{f"k{i}": 1 for i in range(9_999)}, *[{}] * 50_000]),
    ),
    "instances": lambda: ("/v1/models/flood/predict", {"instances": [[]] * 1_500_000}),
    "types": lambda: (
        "/v1/datasets",
        {**inline([{"a": 1}]), "types": {f"k{i}": "q" for i in range(MANY)}},
    ),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_errors_is_refused_without_cost(server: Server, kind: str) -> None:
    path, body = FLOODS[kind]()
    if "models" in path:
        server.train(**QUICK_JOB, register_as="flood")
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    answers: list[httpx.Response] = []
    flood = threading.Thread(target=lambda: answers.append(server.client.post(path, json=body)))
    flood.start()
    slowest = 0.0
    with httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE) as other:
        while flood.is_alive():
            started = time.monotonic()
            assert other.get("/livez").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.02)
    flood.join()
    assert answers[0].status_code == 422
    problem(answers[0], 422, answers[0].json()["code"])
    # not a speed: before they were bounded most took 10 to 50 seconds and up to 7 GB, alone
    assert slowest < 30, f"/livez had to wait {slowest:.1f} s"
    assert process.memory_info().rss - before < 1.5e9


@pytest.mark.parametrize("name", ["\x01" * 5000, "🙂" * 3000, "a/~" * 3000])
def test_errors_stay_small_whatever_they_quote(server: Server, name: str) -> None:
    columns = {f"{name[:150]}{i}": [1, 2] for i in range(30)}
    made = server.ok(
        "POST", "/v1/datasets", json={"source": {"kind": "inline", "columns": columns}}
    )
    body = {"dataset": made["id"], "target": name}
    problem(server.client.post("/v1/jobs", json=body), 422, "invalid_request")
    scatter = f"/v1/datasets/{made['id']}/plots/scatter.png"
    problem(server.client.get(scatter, params={"x": "zz"}), 422, "invalid_request")


def test_unknown_query_parameters_are_refused(server: Server) -> None:
    before = server.ok("GET", "/v1/jobs", params={"limit": "1"})["first_id"]
    refused = server.client.post("/v1/jobs?dryrun=true", json=QUICK_JOB)
    assert "did you mean 'dry_run'?" in problem(refused, 422, "invalid_request")["detail"]
    assert server.ok("GET", "/v1/jobs", params={"limit": "1"})["first_id"] == before
    for path in ("/v1/jobs?foo=1", "/v1/datasets?foo=1", "/livez?foo=1"):
        problem(server.client.get(path), 422, "invalid_request")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("delimiter=%00", 422),
        ("delimiter=%C3%A9", 422),
        ("delimiter=%0A", 422),
        *((f"encoding={name}", 422) for name in ("%00", "zlib", "hex", "uu", "punycode", "idna")),
        ("encoding=utf-8-sig", 201),
        ("encoding=cp1252", 201),
    ],
)
def test_odd_csv_options(server: Server, query: str, status: int) -> None:
    headers = {"Content-Type": "text/csv"}
    response = server.client.post(
        f"/v1/datasets?{query}", content=b"\xef\xbb\xbfa,b\n1,2\n", headers=headers
    )
    assert response.status_code == status, response.text


def test_numbers_at_the_edge(server: Server) -> None:
    rows = [{"x": (-1) ** i * 1e308, "y": i} for i in range(20)]
    made = server.ok("POST", "/v1/datasets", json={"source": {"kind": "inline", "rows": rows}})
    for image in ("png", "svg"):
        plot = server.client.get(f"/v1/datasets/{made['id']}/plots/scatter.{image}")
        assert plot.status_code == 200
    for dry_run in ("false", "true"):
        path = f"/v1/jobs?dry_run={dry_run}"
        job = server.client.post(path, json={"dataset": made["id"], "target": "y"})
        refused = problem(job, 422, "invalid_request")
        assert refused["errors"][0]["pointer"] == "/features"
        assert "'x'" in refused["detail"]
    far = server.client.get("/v1/jobs/job_x/metrics?after_epoch=99999999999999999999")
    problem(far, 422, "invalid_request")
    problem(server.client.get("/v1/datasets/line/rows?offset=1e3"), 422, "invalid_request")
    line = server.train(dataset="line", target="y", epochs=1)
    answer = server.ok("POST", f"/v1/models/{line['id']}/predict", json={"rows": [{"x": 2**62}]})
    assert len(answer["predictions"]) == 1


def test_a_hundred_thousand_columns_are_refused_by_the_first_line(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    line = ",".join(f"c{i}" for i in range(100_001))
    response = server.client.post(
        "/v1/datasets", content=f"{line}\n{line}\n", headers={"Content-Type": "text/csv"}
    )
    assert "100001 columns" in problem(response, 422, "invalid_data")["detail"]
    assert process.memory_info().rss - before < 3e8


def test_compressed_bodies_are_refused(server: Server) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    for path in ("/v1/jobs", "/v1/datasets"):
        response = server.client.post(path, content=b"\x1f\x8b", headers=headers)
        problem(response, 415, "unsupported_media_type")
