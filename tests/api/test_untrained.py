"""What jobs say: an untrained model, units, series, and what a line needs to be learnt."""

from typing import Any

import pytest

from tests.support.server import LINE_JOB, Json, Server, problem


def test_no_epoch_makes_an_untrained_model(server: Server) -> None:
    dry = server.ok(
        "POST", "/v1/jobs?dry_run=true", json={**LINE_JOB, "epochs": 0, "scheduler": "cosine"}
    )
    assert dry["spec"]["epochs"] == 0
    for scheduler in (None, "one_cycle", "polynomial"):
        job = server.train(
            **{**LINE_JOB, "epochs": 0, "scheduler": scheduler, "register_as": "untrained"}
        )
        assert job["progress"] == {"epoch": 0, "epochs": 0, "fraction": 1.0, "eta_seconds": 0.0}
        assert (job["metrics"]["last"], job["metrics"]["best"]) == (None, None)
        assert job["metrics"]["test"]["mae"] > 0.1
        assert server.ok("GET", f"/v1/jobs/{job['id']}/metrics")["series"] == {}
        plot = server.client.get(f"/v1/jobs/{job['id']}/plots/loss.png")
        problem(plot, 422, "not_applicable")
    kinds = [event["type"] for event in server.everything(f"/v1/jobs/{job['id']}/events")]
    assert "metrics" not in kinds
    rows = {"rows": [{"x": 0.5}]}
    assert server.ok("POST", "/v1/models/untrained/predict", json=rows)["version"] == 3
    model = server.ok("GET", "/v1/models/untrained")
    assert (model["metrics"]["best"], model["lineage"]["epoch"]) == (None, 0)
    trained = server.train(**{**LINE_JOB, "epochs": 1, "register_as": "untrained"})
    assert trained["metrics"]["test"]["mae"] < job["metrics"]["test"]["mae"]


@pytest.mark.parametrize("changes", [{"model": {"kind": "linear"}}, {"model": "linear", "seed": 7}])
def test_a_line_is_learnt_by_default(server: Server, changes: Json) -> None:
    job = server.train(dataset="line", target="y", **changes)
    assert job["metrics"]["test"]["r2"] > 0.999
    assert job["metrics"]["best"]["by"] == "validation_loss"


@pytest.mark.parametrize(
    ("changes", "unit"),
    [({}, "standardised"), ({"preprocessing": {"target": "none"}}, "target")],
)
def test_losses_have_a_unit(server: Server, changes: Json, unit: str) -> None:
    job = server.train(dataset="line", target="y", model="linear", epochs=2, **changes)
    assert job["metrics"]["loss_unit"] == unit
    assert server.ok("GET", f"/v1/jobs/{job['id']}/metrics")["loss_unit"] == unit
    path = f"/v1/models/{job['id']}/evaluate"
    assert server.ok("POST", path, json={"dataset": "line"})["loss_unit"] == unit
    picture = server.client.get(f"/v1/jobs/{job['id']}/plots/loss.svg").text
    assert f"mse loss ({'the target' if unit == 'target' else unit}" in picture


def test_series_are_named_and_thinned_together(server: Server) -> None:
    job = server.train(**{**LINE_JOB, "epochs": 400, "register_as": "thin"})
    path = f"/v1/jobs/{job['id']}/metrics"
    series = server.ok("GET", path, params={"max_points": 40})["series"]
    epochs = [one["epoch"] for one in series.values()]
    assert all(one == epochs[0] for one in epochs)
    assert 10 <= len(epochs[0]) <= 40
    whole = server.ok("GET", path)["series"]
    for name in ("train_loss", "test_loss"):
        assert min(whole[name]["value"]) in series[name]["value"]
        assert max(whole[name]["value"]) in series[name]["value"]
    assert job["metrics"]["best"]["by"] == "last"
    refused = problem(server.client.get(f"{path}?names=train_loss,los"), 422, "invalid_request")
    assert refused["errors"][0]["pointer"] == "/names"
    assert "'train_loss'" in refused["detail"]
    queued = server.start_long_job()
    assert server.ok("GET", f"/v1/jobs/{queued}/metrics?names=test_rmse,learning_rate")
    server.ok("POST", f"/v1/jobs/{queued}/cancel")
    server.ended(queued)


def test_names_as_torch_writes_them(server: Server) -> None:
    spec = server.ok(
        "POST",
        "/v1/jobs?dry_run=true",
        json={
            "dataset": "line",
            "target": "y",
            "model": {"kind": "MLP", "activation": "ReLU"},
            "loss": "MSELoss",
            "optimizer": {"kind": "AdamW", "lr": 0.01},
            "scheduler": "ReduceLROnPlateau",
        },
    )["spec"]
    assert (spec["model"]["kind"], spec["model"]["activation"]) == ("mlp", "relu")
    assert (spec["loss"], spec["optimizer"]["kind"]) == ("mse", "adamw")
    assert spec["scheduler"]["kind"] == "reduce_on_plateau"


def test_the_datasets_warnings_of_a_jobs_columns_are_told_again(server: Server) -> None:
    content = "size,odd,note,y\n" + "".join(
        f"{i},{'x' if i == 5 else i},n{i % 3},{i * 2}\n" for i in range(30)
    )
    made = server.ok("POST", "/v1/datasets", content=content, headers={"Content-Type": "text/csv"})
    (warning,) = [text for text in made["warnings"] if "'odd'" in text and "identifier" not in text]
    job: dict[str, Any] = {"dataset": made["id"], "target": "y"}
    path = "/v1/jobs?dry_run=true"
    with_it = server.ok("POST", path, json={**job, "features": ["size", "odd"]})["warnings"]
    assert warning in with_it
    without = server.ok("POST", path, json={**job, "features": ["size"]})["warnings"]
    assert not any("'odd'" in text for text in without)


def test_a_job_of_one_date_can_be_drawn(server: Server) -> None:
    rows = "".join(f"2026-01-{day:02},{day * 1.5}\n" for day in range(1, 29))
    made = server.ok(
        "POST",
        "/v1/datasets",
        content="day,y\n" + rows,
        headers={"Content-Type": "text/csv"},
    )
    job = server.train(dataset=made["id"], target="y", model="linear", epochs=3)
    for plot in ("data", "predictions", "residuals", "loss"):
        drawn = server.client.get(f"/v1/jobs/{job['id']}/plots/{plot}.png")
        assert drawn.status_code == 200, drawn.text
