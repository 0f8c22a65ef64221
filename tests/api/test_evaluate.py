"""POST /v1/models/{ref}/evaluate, the plots of a job's test part, and what a job says of a model
that learnt nothing."""

from typing import Any

import httpx
import numpy as np
import pytest

from app.services.jobs import plots
from tests.support.server import Json, Server, problem

ROWS: list[Json] = [
    {"size": i / 10, "color": "rgb"[i % 3], "new": i % 2 == 0, "price": 10 * i + (i % 3)}
    for i in range(60)
]
KINDS = ["oak", "elm", "ash"]


def table(server: Server, rows: list[Json], **fields: Any) -> str:
    """The id of a new dataset."""
    body = {"source": {"kind": "inline", "rows": rows}, **fields}
    return str(server.ok("POST", "/v1/datasets", json=body)["id"])


def evaluated(server: Server, ref: str, dataset: str) -> httpx.Response:
    return server.client.post(f"/v1/models/{ref}/evaluate", json={"dataset": dataset})


@pytest.fixture(scope="module")
def prices(server: Server) -> Json:
    """A job on numbers, categories and booleans whose dataset is named."""
    table(server, ROWS, name="flats-evaluated")
    return server.train(
        dataset="flats-evaluated",
        target="price",
        epochs=40,
        register_as="prices-evaluated",
        refit=False,  # or the version is not the one that the job has measured
    )


@pytest.fixture(scope="module")
def trees(server: Server) -> Json:
    rows = [{"height": i % 3 + i / 1000, "kind": KINDS[i % 3]} for i in range(90)]
    dataset = table(server, rows)
    return server.train(dataset=dataset, target="kind", epochs=60, register_as="trees-evaluated")


def test_a_jobs_own_test_rows_give_its_own_metrics(server: Server, prices: Json) -> None:
    part = server.ok("GET", f"/v1/jobs/{prices['id']}/split/test")["rows"]
    again = table(server, [ROWS[i] for i in part], name="held-out")
    found = server.ok("POST", "/v1/models/prices-evaluated/evaluate", json={"dataset": "held-out"})
    for name, score in prices["metrics"]["test"].items():
        assert found["metrics"][name] == pytest.approx(score, rel=1e-5)
        assert found["baseline"][name] == pytest.approx(prices["metrics"]["baseline"][name])
    assert found["object"] == "evaluation"
    assert (found["model"], found["version"]) == ("prices-evaluated", 1)
    assert found["dataset"] == {"id": again, "name": "held-out"}
    assert (found["rows"], found["skipped"]) == (len(part), 0)
    assert found["better_than_baseline"].keys() >= {"mae", "rmse", "r2"}
    assert found["confusion"] is None
    losses = [row["loss"] for row in found["worst"]]
    assert losses == sorted(losses, reverse=True)
    assert found["worst"][0]["features"].keys() == {"size", "color", "new"}


def test_rows_without_a_target_are_skipped(server: Server, prices: Json) -> None:
    rows = [{**row, "price": None} if i % 2 else row for i, row in enumerate(ROWS)]
    found = evaluated(server, "prices-evaluated", table(server, rows)).json()
    assert (found["rows"], found["skipped"]) == (30, 30)
    assert len(found["worst"]) == 10
    assert all(row["row"] % 2 == 0 for row in found["worst"])
    assert all(row["true"] == ROWS[row["row"]]["price"] for row in found["worst"])


def test_worse_than_the_mean_is_said(server: Server, prices: Json) -> None:
    rows = [{**row, "price": 300 - row["price"] / 50} for row in ROWS]
    found = evaluated(server, "prices-evaluated", table(server, rows)).json()
    verdict = found["better_than_baseline"]
    assert {name: verdict[name] for name in ("mae", "rmse", "r2")} == dict.fromkeys(
        ("mae", "rmse", "r2"), False
    )
    assert "no better than guessing: mae " in found["warnings"][0]


def test_classes_are_counted_and_new_ones_warned_of(server: Server, trees: Json) -> None:
    rows = [{"height": i % 3 + i / 1000, "kind": KINDS[i % 3]} for i in range(30)]
    rows += [{"height": 1.0, "kind": "fir"}] * 3
    found = evaluated(server, "trees-evaluated", table(server, rows)).json()
    assert found["confusion"]["labels"] == [*sorted(KINDS), None]
    assert [sum(row) for row in found["confusion"]["matrix"]] == [10, 10, 10, 3]
    assert found["metrics"].keys() >= {"accuracy", "f1_macro", "auc", "log_loss"}
    assert found["metrics"]["accuracy"] <= 30 / 33
    assert 0 < found["metrics"]["log_loss"] != found["loss"], "the one is calibrated"
    assert any("3 of 33 rows" in said and "'fir'" in said for said in found["warnings"])


def test_several_labels(server: Server) -> None:
    rows = [{"x": i, "p": i > 20, "q": i % 2 == 0} for i in range(60)]
    dataset = table(server, rows)
    job = server.train(dataset=dataset, features=["x"], target=["p", "q"], epochs=3)
    found = evaluated(server, job["model"]["ref"], dataset).json()
    assert found["confusion"]["labels"] == ["p", "q"]
    assert [sum(map(sum, square)) for square in found["confusion"]["matrix"]] == [60, 60]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"size": None}, "unknown_column", "'size'"),
        ({"price": None}, "unknown_column", "'price', the target"),
        ({"color": 7}, "wrong_type", '{"color": "category"}'),
        ({"price": "dear"}, "wrong_type", '{"price": "number"}'),
    ],
)
def test_columns_that_do_not_fit(
    server: Server, prices: Json, change: Json, code: str, said: str
) -> None:
    rows = [
        {k: v for k, v in {**row, **change}.items() if v is not None} | {"i": i}
        for i, row in enumerate(ROWS)
    ]
    response = evaluated(server, "prices-evaluated", table(server, rows))
    (error,) = problem(response, 422, "invalid_request")["errors"]
    assert (error["pointer"], error["code"]) == ("/dataset", code)
    assert said in error["detail"]


def test_other_refusals(server: Server, prices: Json) -> None:
    nobody = [{**row, "price": None} for row in ROWS]
    response = evaluated(server, "prices-evaluated", table(server, nobody))
    problem(response, 422, "invalid_data")
    unknown = problem(evaluated(server, "prices-evaluated", "no-such"), 422, "invalid_request")
    assert unknown["errors"][0]["pointer"] == "/dataset"
    problem(evaluated(server, "no-such", "flats-evaluated"), 404, "not_found")
    path = "/v1/models/prices-evaluated/evaluate"
    wrong: list[Any] = [{}, {"dataset": 3}, {"dataset": "line", "rows": []}, []]
    for body in wrong:
        problem(server.client.post(path, json=body), 422, "invalid_request")
    json_type = {"Content-Type": "application/json"}
    twice = b'{"dataset": "line", "dataset": "line"}'
    problem(server.client.post(path, content=twice, headers=json_type), 400, "invalid_json")
    problem(server.client.post(path, content=b"dataset=line"), 415, "unsupported_media_type")


def test_a_job_whose_model_learnt_nothing_says_so(server: Server) -> None:
    rows = [{"x": i % 7, "y": 100 + i % 5} for i in range(60)]
    job = server.train(
        dataset=table(server, rows),
        target="y",
        model={"kind": "linear"},
        optimizer={"kind": "sgd", "lr": 1e-12},
        preprocessing={"numbers": "none", "target": "none"},
        epochs=1,
    )
    (said,) = [text for text in job["warnings"] if "guessing" in text]
    assert said.startswith("on the test part the model is no better than guessing: mae ")
    assert server.ok("GET", f"/v1/jobs/{job['id']}")["warnings"] == job["warnings"]


# ---------------------------------------------------------------- plots of the test part


def drawn(server: Server, job: Json, plot: str) -> httpx.Response:
    return server.client.get(f"/v1/jobs/{job['id']}/plots/{plot}")


@pytest.mark.parametrize(("image", "starts"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_residuals_and_confusion(
    server: Server, prices: Json, trees: Json, image: str, starts: bytes
) -> None:
    for job, plot in ((prices, "residuals"), (trees, "confusion")):
        response = drawn(server, job, f"{plot}.{image}")
        assert response.status_code == 200, response.text
        assert response.content.startswith(starts)
        assert response.headers["content-type"].startswith("image/")


def test_several_targets_have_plots_too(server: Server) -> None:
    rows = [{"x": i, "p": i > 20, "q": i % 2 == 0, "a": i, "b": -i} for i in range(60)]
    dataset = table(server, rows)
    for targets, plot in ((["p", "q"], "confusion"), (["a", "b"], "residuals")):
        job = server.train(dataset=dataset, features=["x"], target=targets, epochs=2)
        assert drawn(server, job, f"{plot}.png").status_code == 200


def test_the_wrong_plot_names_the_right_one(server: Server, prices: Json, trees: Json) -> None:
    refused = problem(drawn(server, trees, "residuals.png"), 422, "not_applicable")
    assert "plots/confusion.png" in refused["detail"]
    refused = problem(drawn(server, prices, "confusion.svg"), 422, "not_applicable")
    assert "plots/residuals.svg" in refused["detail"]


def test_no_plot_before_there_is_a_model(server: Server) -> None:
    job = server.start_long_job()
    problem(drawn(server, {"id": job}, "residuals.png"), 409, "not_ready")
    server.client.post(f"/v1/jobs/{job}/cancel")
    server.ended(job)
    problem(drawn(server, {"id": job}, "residuals.png"), 422, "not_applicable")


def test_classes_beyond_thirty_are_counted_together() -> None:
    true = np.array([i % 40 for i in range(400)] + [35] * 7)
    labels, counts = plots._of_frequent([f"c{i}" for i in range(40)], true, np.full(407, 2))
    assert len(labels) == 31
    assert "c35" in labels
    assert labels[-1] == "10 others"
    assert counts.sum() == 407
    assert counts[labels.index("c35"), labels.index("c2")] == 17
    assert counts[-1, labels.index("c2")] == 100


def test_labels_beyond_thirty_are_counted_together() -> None:
    true = np.zeros((10, 32))
    true[:5, 31] = 1
    labels, squares = plots._of_frequent_labels([f"l{i}" for i in range(32)], true, true > 0)
    assert labels[-2:] == ["l31", "2 others"]
    assert squares[-2].tolist() == [[5, 0], [0, 5]]
    assert squares[-1].tolist() == [[20, 0], [0, 0]]


# ---------------------------------------------------------------- by a column's values


def test_metrics_by_a_columns_values(server: Server, prices: Json) -> None:
    dataset = table(server, [{**row, "region": "ab"[i % 2]} for i, row in enumerate(ROWS)])
    path = "/v1/models/prices-evaluated/evaluate"
    found = server.ok("POST", path, json={"dataset": dataset, "by": "region"})
    assert [(group["value"], group["rows"]) for group in found["by"]] == [
        ("a", (len(ROWS) + 1) // 2),
        ("b", len(ROWS) // 2),
    ]
    for number, group in enumerate(found["by"]):
        alone = table(server, ROWS[number::2])
        expected = server.ok("POST", path, json={"dataset": alone})["metrics"]
        for name, score in group["metrics"].items():
            assert score == (score if expected[name] is None else pytest.approx(expected[name])), (
                name
            )
    assert server.ok("POST", path, json={"dataset": dataset})["by"] is None


def test_numbers_are_told_by_fifths_and_gaps_last(server: Server, prices: Json) -> None:
    ages = [None if i % 10 == 9 else i for i in range(len(ROWS))]
    dataset = table(server, [{**row, "age": age} for row, age in zip(ROWS, ages, strict=True)])
    asked = {"dataset": dataset, "by": "age"}
    found = server.ok("POST", "/v1/models/prices-evaluated/evaluate", json=asked)["by"]
    assert len(found) == 6
    assert found[-1]["value"] is None
    assert found[0]["value"].startswith("0 to ")
    assert sum(group["rows"] for group in found) == len(ROWS)
    known = [group["rows"] for group in found[:-1]]
    assert max(known) - min(known) <= 2


def test_an_unknown_column_to_tell_by(server: Server, prices: Json) -> None:
    dataset = table(server, [{**row, "region": "a"} for row in ROWS])
    body = {"dataset": dataset, "by": "regoin"}
    refused = server.client.post("/v1/models/prices-evaluated/evaluate", json=body)
    told = problem(refused, 422, "invalid_request")
    assert told["errors"][0]["pointer"] == "/by"
    assert "did you mean 'region'?" in told["detail"]
