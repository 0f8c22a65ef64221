"""The straight line of the contract, over HTTP, against reference numbers."""

import pytest

from tests.support.server import LINE_JOB, Server

REFERENCE = {
    0: (0.3128814, 0.4810652),
    10: (0.1976713, 0.3463552),
    50: (0.0416786, 0.0991995),
    90: (0.0278874, 0.0647356),
}


def test_history_and_weights_match_the_reference(server: Server) -> None:
    job = server.train(**LINE_JOB)
    assert server.ok("GET", f"/v1/jobs/{job['id']}/split") == {
        "object": "split",
        "train": 40,
        "validation": 0,
        "test": 10,
    }
    series = server.ok("GET", f"/v1/jobs/{job['id']}/metrics")["series"]
    assert series["train_loss"]["epoch"] == series["test_loss"]["epoch"] == list(range(100))
    for epoch, (train, test) in REFERENCE.items():
        assert series["train_loss"]["value"][epoch] == pytest.approx(train, abs=1e-6)
        assert series["test_loss"]["value"][epoch] == pytest.approx(test, abs=1e-6)

    parameters = server.ok("GET", f"/v1/models/{job['model']['ref']}/parameters")["data"]
    values = {item["name"]: item["values"] for item in parameters}
    assert values["weight"] == [[pytest.approx(0.5784404, abs=1e-6)]]
    assert values["bias"] == [pytest.approx(0.3513099, abs=1e-6)]

    body = {"rows": [{"x": 0.5}]}
    answer = server.ok("POST", f"/v1/models/{job['model']['ref']}/predict", json=body)
    assert answer["predictions"] == [pytest.approx(0.5784404 * 0.5 + 0.3513099, abs=1e-6)]
    assert answer["version"] == job["model"]["version"]


def test_the_same_job_gives_the_same_history(server: Server) -> None:
    first, second = server.train(**LINE_JOB), server.train(**LINE_JOB)
    assert second["model"]["version"] == first["model"]["version"] + 1
    assert server.ok("GET", f"/v1/jobs/{first['id']}/metrics") == server.ok(
        "GET", f"/v1/jobs/{second['id']}/metrics"
    )
    other = server.train(**{**LINE_JOB, "seed": 43})
    assert other["metrics"]["test"] != first["metrics"]["test"]
