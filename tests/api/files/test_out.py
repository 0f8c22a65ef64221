"""Predictions as files: every format that goes, and more rows than a piece has."""

import io
import json
import math
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
import torch

from app.ml.column_types.canonical import as_strings
from app.ml.features.encoder import ROWS_AT_ONCE
from tests.support.files import as_arrow, as_csv, as_parquet, rows_of
from tests.support.server import PATIENCE, Server, problem
from tests.support.shop import (
    ARROW,
    ASKED,
    CSV,
    FORMATS,
    GAPS,
    JSON,
    LARGE,
    PARQUET,
    SHOP,
    Lists,
    by_json,
    columns_of,
    iso,
    left,
    sent,
    told,
    written,
)
from tests.support.soak import rounds

# ---------------------------------------------------------------- out


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("text/csv", CSV),
        (ARROW, ARROW),
        ("application/json;q=0.5, text/csv;q=0.9", CSV),
        (f"text/csv;q=0.5, {ARROW};q=0.9, */*;q=0.1", ARROW),
        ("text/csv;q=0, */*", JSON),
        ("application/json;q=0, */*", CSV),
        ("image/png, text/csv;q=0.1", CSV),
        ("TEXT/CSV", CSV),
        ("text/html", None),
        ("application/json;q=0", None),
        (PARQUET, None),
    ],
)
def test_the_answer_comes_as_it_is_liked_best(
    server: Server, accept: str, expected: str | None
) -> None:
    body = json.dumps({"rows": rows_of(iso(ASKED))}).encode()
    for content, kind in ((body, JSON), (as_csv(ASKED), CSV), (as_arrow(pa.table(ASKED)), ARROW)):
        response = sent(server, content, kind, accept=accept)
        if expected is None:
            detail = problem(response, 406, "not_acceptable")["detail"]
            assert all(offered in detail for offered in (JSON, CSV, ARROW))
        else:
            assert response.status_code == 200, response.text
            assert response.headers["content-type"] == expected
            assert response.headers["model-version"] == "files@1"


def test_tables_of_one_target(server: Server) -> None:
    expected = by_json(server, GAPS)["predictions"]
    for kind in FORMATS:
        for accept in (CSV, ARROW):
            found = columns_of(sent(server, written(GAPS, kind), kind, accept=accept), accept)
            assert found.keys() == {"prediction"}
            assert found["prediction"] == pytest.approx(expected, rel=1e-12)
    for accept in (JSON, CSV, ARROW):
        response = sent(server, as_csv(ASKED), CSV, accept=accept, query="probabilities=true")
        assert problem(response, 422, "invalid_request")["errors"][0]["pointer"] == "/probabilities"


def trained(server: Server, values: Lists, **job: Any) -> str:
    source = {"kind": "inline", "columns": values}
    made = server.ok("POST", "/v1/datasets", json={"source": source})
    done = server.train(dataset=made["id"], **job)
    return str(done["model"]["ref"])


def test_several_targets(server: Server) -> None:
    values: Lists = {
        "x": [i / 10 for i in range(60)],
        "a": [2.0 * i + 0.5 for i in range(60)],
        "b, c": [-1.5 * i for i in range(60)],
    }
    ref = trained(server, values, target=["a", "b, c"], features=["x"], epochs=3)
    asked: Lists = {"x": [0.5, 3, None]}
    expected = by_json(server, asked, ref)["predictions"]
    for kind in FORMATS:
        assert told(sent(server, written(asked, kind), kind, ref))["predictions"] == expected
        for accept in (CSV, ARROW):
            found = columns_of(sent(server, written(asked, kind), kind, ref, accept), accept)
            assert list(found) == ["a", "b, c"]
            for name, column in found.items():
                assert column == pytest.approx([row[name] for row in expected], rel=1e-12)


CLASSES: list[tuple[list[Any], str]] = [
    (["no", "yes"], "binary"),
    ([False, True], "binary"),
    ([3, 7, 11], "multiclass"),
    (['"quoted", and\ncut', "ünïcode", "null"], "multiclass"),
]


@pytest.mark.parametrize(
    ("labels", "task"), CLASSES, ids=["strings", "booleans", "integers", "odd"]
)
def test_classes_keep_their_type(server: Server, labels: list[Any], task: str) -> None:
    count = len(labels)
    values: Lists = {
        "x": [i % count + i / 1000 for i in range(90)],
        "y": [labels[i % count] for i in range(90)],
    }
    ref = trained(server, values, target="y", task=task, epochs=80)
    asked: Lists = {"x": [float(i) for i in range(count)], "y": [None] * count}
    expected = by_json(server, asked, ref, "probabilities=true")
    assert expected["predictions"] == labels
    keys = list(expected["probabilities"][0])
    for kind in FORMATS:
        content = written(asked, kind)
        assert told(sent(server, content, kind, ref, query="probabilities=true")) == expected
        plain = told(sent(server, content, kind, ref))
        assert "probabilities" not in plain
        assert plain["predictions"] == labels
        assert [type(value) for value in plain["predictions"]] == [type(value) for value in labels]
        found = columns_of(sent(server, content, kind, ref, ARROW, "probabilities=true"), ARROW)
        assert found["prediction"] == labels
        assert [type(value) for value in found["prediction"]] == [type(value) for value in labels]
        assert list(found) == ["prediction", *(f"probability_{key}" for key in keys)]
        for key in keys:
            shares = [row[key] for row in expected["probabilities"]]
            assert found[f"probability_{key}"] == pytest.approx(shares, rel=1e-6)
        response = sent(server, content, kind, ref, CSV, "probabilities=true")
        table = pacsv.read_csv(
            io.BytesIO(response.content),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(strings_can_be_null=False),
        )
        assert table.column_names == list(found)
        assert table["prediction"].to_pylist() == labels


def test_labels_that_exclude_nothing(server: Server) -> None:
    values: Lists = {
        "x": list(range(60)),
        "p": [i > 20 for i in range(60)],
        "q": [i % 2 == 0 for i in range(60)],
    }
    ref = trained(server, values, target=["p", "q"], features=["x"], epochs=10)
    asked: Lists = {"x": [1.0, 50.0, None], "p": [None, True, None], "q": [None] * 3}
    expected = by_json(server, asked, ref, "probabilities=true")
    assert {type(value) for row in expected["predictions"] for value in row.values()} == {bool}
    for kind in FORMATS:
        content = written(asked, kind)
        assert told(sent(server, content, kind, ref, query="probabilities=true")) == expected
        for accept in (CSV, ARROW):
            found = columns_of(
                sent(server, content, kind, ref, accept, "probabilities=true"), accept
            )
            assert list(found) == ["p", "q", "probability_p", "probability_q"]
            for name in ("p", "q"):
                assert found[name] == [row[name] for row in expected["predictions"]]
                shares = [row[name] for row in expected["probabilities"]]
                assert found[f"probability_{name}"] == pytest.approx(shares, rel=1e-6)


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def test_what_is_not_finite_is_missing_in_every_format(server: Server) -> None:
    heavy = next(n for n in range(99) if torch.randn(1, generator=seeded(n)).abs().item() > 1.5)
    values: Lists = {"x": [i / 10 for i in range(60)], "y": [i / 5 for i in range(60)]}
    ref = trained(
        server,
        values,
        target="y",
        seed=heavy,
        epochs=1,
        model={"kind": "linear", "init": "normal"},
        preprocessing={"numbers": "none", "target": "none"},
        optimizer={"kind": "sgd", "lr": 1e-9},
    )
    asked: Lists = {"x": [1.0, 3e38]}
    assert by_json(server, asked, ref)["predictions"][1] is None
    for kind in FORMATS:
        for accept in (CSV, ARROW):
            response = sent(server, written(asked, kind), kind, ref, accept)
            finite, other = columns_of(response, accept)["prediction"]
            assert math.isfinite(finite)
            assert other is None
            if accept == CSV:  # an empty line is no row to most readers
                assert response.content.splitlines()[2] == b"NA"


# ---------------------------------------------------------------- more than a piece


def test_large_files_get_the_answers_that_json_gets(server: Server) -> None:
    random = np.random.default_rng(0)
    colors = np.array(["red", "grün", "blue, or so", "violet"])
    values = {
        "size": random.normal(size=LARGE),
        "color": colors[random.integers(0, 4, LARGE)],
        "new": random.integers(0, 2, LARGE) == 1,
        "sold": np.datetime64("2026-01-01", "us") + random.integers(0, 10**15, LARGE),
    }
    table = pa.table(values)
    gone = np.arange(20_000, 90_000)  # more than a piece without a value
    mask = np.zeros(LARGE, bool)
    mask[gone] = True
    for name in ("color", "new", "sold"):
        table = table.set_column(
            table.column_names.index(name), name, pa.array(values[name], mask=mask)
        )
    step = ROWS_AT_ONCE  # whole ones: torch rounds by how many rows there are
    compared = np.r_[2 * step : 3 * step, 8 * step : 9 * step, LARGE // step * step : LARGE]
    piece = table.take(pa.array(compared))
    part: Lists = piece.set_column(3, "sold", as_strings(piece["sold"])).to_pydict()
    expected = np.array(
        server.ok("POST", "/v1/models/files/predict", json={"columns": part})["predictions"]
    )
    text = io.BytesIO()
    pacsv.write_csv(table, text)
    dictionary = table.set_column(1, "color", table["color"].dictionary_encode())
    all_ways = (
        (as_arrow(dictionary, 5_000), ARROW, CSV),
        (as_parquet(table), PARQUET, ARROW),
        (text.getvalue(), CSV, CSV),
        (as_arrow(table.combine_chunks()), ARROW, JSON),
        (as_arrow(table, 777), ARROW, ARROW),
    )
    for content, kind, accept in all_ways[: rounds(2, 5)]:
        response = sent(server, content, kind, accept=accept)
        if accept == JSON:
            found = np.array(told(response)["predictions"])
        else:
            found = np.array(columns_of(response, accept)["prediction"])
        assert len(found) == LARGE
        assert np.allclose(found[compared], expected, 1e-12 if accept == CSV else 0, 0)
        size = int(response.headers["content-length"])
        print(f"\n{kind}: {len(content)} bytes in, {size} bytes of {accept} out")


def test_pieces_of_wide_files_change_no_result(server: Server) -> None:
    """Their stored groups of rows have other lengths than what the model computes at once."""
    random = np.random.default_rng(0)
    names = [f"f{i}" for i in range(100)]
    values: Lists = {name: random.normal(size=60).tolist() for name in names}
    ref = trained(
        server,
        {**values, "y": random.normal(size=60).tolist()},
        target="y",
        epochs=1,
        model={"kind": "mlp", "hidden": [64]},
    )
    table = pa.table({name: random.integers(-99, 99, 50_000) / 64 for name in names})
    expected = told(sent(server, as_arrow(table), ARROW, ref))
    assert told(sent(server, as_parquet(table), PARQUET, ref)) == expected
    assert told(sent(server, as_arrow(table, 999), ARROW, ref)) == expected
    start = 40_960  # a group ends 982 rows later
    part: Lists = table.slice(start, 2_000).to_pydict()
    path = f"/v1/models/{ref}/predict"
    by_columns = server.ok("POST", path, json={"columns": part})["predictions"]
    assert by_columns == pytest.approx(expected["predictions"][start : start + 2_000], rel=1e-4)


def test_strings_that_become_many_numbers(server: Server) -> None:
    """As JSON they are encoded as a whole, so there is a limit; a file is read in pieces."""
    kinds = 1_000
    values: Lists = {
        "c": [f"k{i % kinds}" for i in range(3 * kinds)],
        "y": [float(i % 7) for i in range(3 * kinds)],
    }
    ref = trained(
        server,
        values,
        target="y",
        features=["c"],
        epochs=1,
        model={"kind": "linear"},
        preprocessing={"categories": "one_hot"},
    )
    process = psutil.Process(server.process.pid)
    before, rows = process.memory_info().rss, 500_000
    path = f"/v1/models/{ref}/predict"
    response = server.client.post(path, json={"columns": {"c": ["k1"] * rows}})
    assert "as a file" in problem(response, 413, "too_large")["detail"]
    response = sent(server, as_arrow(pa.table({"c": ["k1"] * rows})), ARROW, ref, ARROW)
    assert len(set(columns_of(response, ARROW)["prediction"])) == 1
    grown = process.memory_info().rss - before
    print(f"\n{rows} rows of {kinds} numbers each: the server grew by {grown >> 20} MiB")
    assert grown < 600e6


# ---------------------------------------------------------------- clients that go, files that rot


def test_a_client_that_goes_while_it_sends_leaves_nothing(server: Server) -> None:
    body = as_csv(SHOP) * 2_000
    for sending in (0, 10, 100_000, 3_000_000):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            head = (
                f"POST /v1/models/files/predict HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                f"Content-Type: text/csv\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            client.sendall(head.encode() + body[:sending])
            deadline = time.monotonic() + PATIENCE
            while not (files := list((server.data_dir / "tmp").iterdir())):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            assert [path.name.partition(".")[0] for path in files] == ["upload"]
        assert left(server) == []
    assert told(sent(server, as_csv(ASKED), CSV)) == by_json(server, ASKED)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "manifest.json"])
def test_damaged_files_predict_nothing_until_they_are_put_back(server: Server, name: str) -> None:
    values: Lists = {"x": [i / 10 for i in range(60)], "y": [i / 5 for i in range(60)]}
    ref = trained(server, values, target="y", epochs=1, model={"kind": "linear"})
    model = server.ok("GET", f"/v1/models/{ref}")
    file: Path = server.data_dir / "models" / model["id"] / name
    good = file.read_bytes()
    bits = bytearray(good)
    bits[len(bits) // 2] ^= 1
    asked: Lists = {"x": [0.5]}
    for damaged in (bytes(bits), good[:-1], b""):
        file.write_bytes(damaged)
        for kind in FORMATS:
            response = sent(server, written(asked, kind), kind, ref)
            problem(response, 503, "artifact_corrupt")
        path = f"/v1/models/{ref}/predict"
        problem(server.client.post(path, json={"rows": [{"x": 0.5}]}), 503, "artifact_corrupt")
    file.write_bytes(good)
    expected = by_json(server, asked, ref)
    for kind in FORMATS:
        assert told(sent(server, written(asked, kind), kind, ref)) == expected
