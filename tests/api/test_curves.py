"""Curves of jobs as data and as pictures, and what models tell of how they answer."""

from typing import Any

import pytest

from tests.support.server import Json, Server, problem

CURVES = ("roc", "precision_recall", "calibration", "threshold")


@pytest.fixture(scope="module")
def jobs(server: Server) -> dict[str, Json]:
    """One job a task."""
    for name, classes in (("two", 2), ("three", 3)):
        source = {"kind": "synthetic", "generator": "classification", "rows": 400, "seed": 2}
        source |= {"features": 5, "classes": classes}
        body = {"name": f"curves-{name}", "source": source}
        server.ok("POST", "/v1/datasets", json=body)
    server.line("curves-line")
    quick: Json = {"epochs": 8, "target": "label", "early_stopping": None}
    return {
        "two": server.train(
            dataset="curves-two", task="binary", **quick, select="auc", threshold="f1"
        ),
        "three": server.train(dataset="curves-three", task="multiclass", **quick),
        "line": server.train(dataset="curves-line", **{**quick, "target": "y"}, model="linear"),
    }


def curve(server: Server, job: Json, kind: str) -> Json:
    return server.ok("GET", f"/v1/jobs/{job['id']}/curves/{kind}")


@pytest.mark.parametrize("kind", CURVES)
def test_curves_of_two_classes(server: Server, jobs: dict[str, Json], kind: str) -> None:
    found = curve(server, jobs["two"], kind)
    assert (found["object"], found["kind"], found["of"]) == ("curve", kind, "test")
    for series in found["series"].values():
        assert len(series["x"]) == len(series["y"]) > 1
        assert all(0 <= value <= 1 for value in [*series["x"], *series["y"]])
    positive = server.ok("GET", f"/v1/models/{jobs['two']['model']['ref']}")["positive"]
    expected = ["precision", "recall", "f1"] if kind == "threshold" else [str(positive)]
    assert list(found["series"]) == expected


def test_its_summary_is_what_the_job_measured(server: Server, jobs: dict[str, Json]) -> None:
    for name in ("two", "three"):
        test = jobs[name]["metrics"]["test"]
        assert curve(server, jobs[name], "roc")["summary"] == {"auc": pytest.approx(test["auc"])}
        told = curve(server, jobs[name], "calibration")["summary"]
        assert told == pytest.approx({key: test[key] for key in ("ece", "brier", "log_loss")})


def test_residuals_of_a_regression(server: Server, jobs: dict[str, Json]) -> None:
    found = curve(server, jobs["line"], "residuals")
    assert list(found["series"]) == ["y"]
    assert (found["x"], found["y"]) == ("predicted", "true - predicted")


@pytest.mark.parametrize(
    ("job", "kind"), [("line", "roc"), ("three", "threshold"), ("two", "residuals")]
)
def test_what_there_is_not(server: Server, jobs: dict[str, Json], job: str, kind: str) -> None:
    path = f"/v1/jobs/{jobs[job]['id']}"
    problem(server.client.get(f"{path}/curves/{kind}"), 422, "not_applicable")
    problem(server.client.get(f"{path}/plots/{kind}.png"), 422, "not_applicable")


def test_before_there_is_a_model(server: Server, jobs: dict[str, Json]) -> None:
    job_id = server.start_long_job(dataset="curves-line")
    problem(server.client.get(f"/v1/jobs/{job_id}/curves/residuals"), 409, "not_ready")
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    server.ended(job_id)
    problem(server.client.get(f"/v1/jobs/{job_id}/curves/residuals"), 422, "not_applicable")
    problem(server.client.get("/v1/jobs/job_none/curves/roc"), 404, "not_found")
    problem(server.client.get(f"/v1/jobs/{job_id}/curves/nonsense"), 422, "invalid_request")


@pytest.mark.parametrize(("job", "kind"), [*(("two", kind) for kind in CURVES), ("three", "roc")])
def test_pictures(server: Server, jobs: dict[str, Json], job: str, kind: str) -> None:
    path = f"/v1/jobs/{jobs[job]['id']}/plots/{kind}"
    png, svg = (server.client.get(f"{path}.{image}") for image in ("png", "svg"))
    assert png.content.startswith(b"\x89PNG")
    assert b"<svg" in svg.content


def test_the_series_that_a_job_selects_by(server: Server, jobs: dict[str, Json]) -> None:
    job = jobs["two"]
    assert job["spec"]["select"] == "auc"
    assert job["metrics"]["best"]["by"] == "validation_auc"
    path = f"/v1/jobs/{job['id']}/metrics"
    found = server.ok("GET", path, params={"names": "validation_auc"})["series"]["validation_auc"]
    best: Any = job["metrics"]["best"]
    assert best["validation_auc"] == max(found["value"]) == found["value"][best["epoch"]]


def test_a_model_tells_how_it_answers(server: Server, jobs: dict[str, Json]) -> None:
    two, three, line = (
        server.ok("GET", f"/v1/models/{job['model']['ref']}") for job in jobs.values()
    )
    assert 0 < two["threshold"] < 1
    assert two["calibration"]["temperature"] > 0
    assert (three["threshold"], three["positive"]) == (None, None)
    assert (line["threshold"], line["positive"], line["calibration"]) == (None, None, None)
    rows = server.ok("GET", "/v1/datasets/curves-two/rows", params={"limit": "50"})["rows"]
    asked = server.ok(
        "POST", f"/v1/models/{two['ref']}/predict", json={"rows": rows}, params={"probabilities": 1}
    )
    other = next(key for key in asked["probabilities"][0] if key != str(two["positive"]))
    for answer, shares in zip(asked["predictions"], asked["probabilities"], strict=True):
        yes = shares[str(two["positive"])] >= two["threshold"]
        assert str(answer) == (str(two["positive"]) if yes else other)


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("select", "acuracy", "/select"),
        ("select", "rmse", "/select"),
        ("threshold", 1.5, "/threshold"),
        ("threshold", "auc", "/threshold"),
        ("threshold", {"recall": 2}, "/threshold/recall"),
        ("calibrate", "yes", "/calibrate"),
    ],
)
def test_refused(
    server: Server, jobs: dict[str, Json], field: str, value: Any, pointer: str
) -> None:
    body = {"dataset": "curves-two", "target": "label", "task": "binary", field: value}
    told = problem(server.client.post("/v1/jobs", json=body), 422, "invalid_request")
    assert told["errors"][0]["pointer"] == pointer


# ---------------------------------------------------------------- how far off it may be


@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
def test_intervals_and_sets(server: Server, jobs: dict[str, Json], accept: str) -> None:
    asked: Json = {"params": {"interval": "0.8"}, "headers": {"Accept": accept}}
    rows: Json = {"instances": [[0.1], [0.5]]}
    path = f"/v1/models/{jobs['line']['model']['ref']}/predict"
    answer = server.client.post(path, json=rows, **asked)
    table = server.ok("GET", "/v1/datasets/curves-three/rows", params={"limit": "2"})["rows"]
    path = f"/v1/models/{jobs['three']['model']['ref']}/predict"
    classes = server.client.post(path, json={"rows": table}, **asked)
    if accept == "text/csv":
        assert answer.text.splitlines()[0] == "prediction,low,high"
        assert classes.text.splitlines()[0] == "prediction,set"
        return
    for value, one in zip(answer.json()["predictions"], answer.json()["intervals"], strict=True):
        assert one["low"] <= value <= one["high"]
    for value, one in zip(classes.json()["predictions"], classes.json()["sets"], strict=True):
        assert value in one


def test_many_rows_have_them_too(server: Server, jobs: dict[str, Json]) -> None:
    content = "x\n" + "\n".join(str(i / 5000) for i in range(5000))
    path = f"/v1/models/{jobs['line']['model']['ref']}/predict"
    headers = {"Content-Type": "text/csv"}
    found = server.ok("POST", path, content=content, headers=headers, params={"interval": "0.5"})
    assert len(found["intervals"]) == len(found["predictions"]) == 5000


def test_coverage_is_told(server: Server, jobs: dict[str, Json]) -> None:
    for job in jobs.values():
        model = server.ok("GET", f"/v1/models/{job['model']['ref']}")
        levels = [item["level"] for item in model["intervals"]]
        assert levels == [level for level in (0.5, 0.8, 0.9, 0.95) if level in levels] != []
        assert all(0 <= item["coverage"] <= 1 for item in model["intervals"])


@pytest.mark.parametrize("level", ["0", "1", "90", "nan", "much", "0.9999"])
def test_what_is_no_level(server: Server, jobs: dict[str, Json], level: str) -> None:
    path = f"/v1/models/{jobs['line']['model']['ref']}/predict"
    told = server.client.post(path, json={"instances": [[1.0]]}, params={"interval": level})
    assert problem(told, 422, "invalid_request")["errors"][0]["pointer"] == "/interval"
