"""Answers of predictions are bounded, as what is sent is: labels stand in every row of them."""

from collections.abc import Iterator

import pyarrow as pa
import pytest

from tests.support.server import Server, problem

CLASSES = 100
LONG = 900


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of small limits with a model of long labels."""
    limits = {"FITSERVE_MAX_DECODED_BYTES": str(1024 * 1024)}
    with Server(tmp_path_factory.mktemp("answers") / "data", **limits) as server:
        labels = [f"{i:03}" + "x" * (LONG - 3) for i in range(CLASSES)]
        columns = {"x": [i / 10 for i in range(4 * CLASSES)], "kind": labels * 4}
        source = {"kind": "inline", "columns": columns}
        server.ok("POST", "/v1/datasets", json={"name": "labels", "source": source})
        quick = {"epochs": 1, "model": {"kind": "linear"}, "register_as": "labels"}
        server.train(dataset="labels", target="kind", task="multiclass", **quick)
        yield server


def test_json_that_repeats_labels_has_an_end(small: Server) -> None:
    path = "/v1/models/labels/predict"
    few = {"rows": [{"x": 0.5}] * 3}
    answer = small.ok("POST", f"{path}?probabilities=true", json=few)
    assert len(answer["probabilities"][0]) == CLASSES
    many = {"rows": [{"x": 0.5}] * 50}  # of 90 KB each
    for query in ("probabilities=true", "probabilities=true&interval=0.9"):
        told = problem(small.client.post(f"{path}?{query}", json=many), 413, "too_large")
        assert "1 MiB" in told["detail"]
        assert "format=arrow" in told["detail"]
    as_file = small.client.post(
        f"{path}?probabilities=true&format=json",
        content=b"x\n" + b"0.5\n" * 50,
        headers={"Content-Type": "text/csv"},
    )
    problem(as_file, 413, "too_large")
    table = small.client.post(f"{path}?probabilities=true&format=arrow", json=many)
    assert table.status_code == 200
    assert pa.ipc.open_stream(table.content).read_all().shape == (50, 1 + CLASSES)
    assert len(small.ok("POST", path, json=many)["predictions"]) == 50


def test_steps_make_the_same_answer(small: Server) -> None:
    """One of more rows than are written at once is that of its rows one by one."""
    path = "/v1/models/labels/predict"
    values = [i / 7 for i in range(1150)]  # of 932 bytes at the most: a step has 1,125 rows
    for query in ("", "?format=csv"):
        rows = [{"x": value} for value in values]
        whole = small.client.post(path + query, json={"rows": rows})
        assert whole.status_code == 200
        halves = [
            small.client.post(path + query, json={"rows": part})
            for part in (rows[:500], rows[500:])
        ]
        if query:
            first, second = (half.text for half in halves)
            assert whole.text == first + second.partition("\n")[2]
        else:
            found = [half.json()["predictions"] for half in halves]
            assert whole.json()["predictions"] == found[0] + found[1]


def test_a_text_is_no_class(small: Server) -> None:
    columns = {"x": [0.1, 0.2, 0.3] * 4, "kind": ["a", "b", "c" * 1025] * 4}
    source = {"kind": "inline", "columns": columns}
    types = {"kind": "category"}
    small.ok("POST", "/v1/datasets", json={"name": "texts", "source": source, "types": types})
    body = {"dataset": "texts", "target": "kind"}
    refused = problem(small.client.post("/v1/jobs", json=body), 422, "invalid_request")
    assert refused["errors"][0]["pointer"] == "/target"
    assert "1,024 bytes" in refused["detail"]
