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
            dataset="curves-two", task="binary", **quick, select="auc", threshold="f1", refit=False
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
        ("threshold", "0.3", "/threshold"),
        ("threshold", [], "/threshold"),
        ("threshold", {"recall": 0.9, "precision": 0.9}, "/threshold/precision"),
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


# ---------------------------------------------------------------- why


def test_explanations_add_up(server: Server, jobs: dict[str, Json]) -> None:
    rows = server.ok("GET", "/v1/datasets/curves-two/rows", params={"limit": "3"})["rows"]
    path = f"/v1/models/{jobs['two']['model']['ref']}/predict"
    asked = {"explain": "2", "probabilities": "true"}
    found = server.ok("POST", path, json={"rows": rows}, params=asked)
    for shares, one in zip(found["probabilities"], found["explanations"], strict=True):
        assert len(one["contributions"]) == 3
        assert list(one["contributions"])[-1] == "other"
        assert len(shares) == 2
    line = f"/v1/models/{jobs['line']['model']['ref']}/predict"
    found = server.ok("POST", line, json={"instances": [[0.25]]}, params={"explain": "5"})
    [one], [value] = found["explanations"], found["predictions"]
    assert one["base"] + one["contributions"]["x"] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"json": {"instances": [[1.0]]}, "params": {"explain": "0"}}, 422, "invalid_request"),
        ({"json": {"instances": [[1.0]]}, "params": {"explain": "x"}}, 422, "invalid_request"),
        (
            {
                "content": b"x\n1\n",
                "headers": {"Content-Type": "text/csv"},
                "params": {"explain": "1"},
            },
            422,
            "invalid_request",
        ),
        ({"json": {"instances": [[1.0]] * 1001}, "params": {"explain": "1"}}, 413, "too_large"),
    ],
)
def test_what_is_not_explained(
    server: Server, jobs: dict[str, Json], request_: Any, status: int, code: str
) -> None:
    path = f"/v1/models/{jobs['line']['model']['ref']}/predict"
    problem(server.client.post(path, **request_), status, code)


def test_importance(server: Server, jobs: dict[str, Json]) -> None:
    for name, metric in (("two", "log_loss"), ("line", "rmse")):
        found = server.ok("GET", f"/v1/models/{jobs[name]['model']['ref']}/importance")
        assert (found["object"], found["metric"]) == ("importance", metric)
        means = [item["mean"] for item in found["features"]]
        assert means == sorted(means, reverse=True)
    assert [item["feature"] for item in found["features"]] == ["x"]


def test_a_promoted_checkpoint_was_not_measured(server: Server, jobs: dict[str, Json]) -> None:
    job_id = jobs["line"]["id"]
    [checkpoint, *_] = server.ok("GET", f"/v1/jobs/{job_id}/checkpoints")["data"]
    path = f"/v1/jobs/{job_id}/checkpoints/{checkpoint['id']}/promote"
    made = server.ok("POST", path, json={"register_as": "not-measured"})
    told = server.client.get(f"/v1/models/{made['id']}/importance")
    assert "promoted checkpoint" in problem(told, 422, "not_applicable")["detail"]


@pytest.fixture(scope="module")
def flats(server: Server) -> Json:
    """Columns of every kind; the rent is what it is made of."""
    rows = [
        {
            "size": 20 + i % 80,
            "district": ["north", "south", "east"][i % 3],
            "lift": None if i % 5 == 3 else i % 2 == 0,
            "listed": None if i % 5 == 2 else f"2026-0{1 + i % 9}-15",
            "about": " ".join(["warm", "quiet", "bright", "old", "new"][: 1 + i % 5]) + f" {i % 7}",
            "rent": 10 * (20 + i % 80) + 200 * (i % 3),
        }
        for i in range(240)
    ]
    body = {"name": "effects", "source": {"kind": "inline", "rows": rows}}
    server.ok("POST", "/v1/datasets", json={**body, "types": {"about": "text"}})
    job: Json = {"dataset": "effects", "target": "rent", "register_as": "effects", "epochs": 40}
    return server.train(**job, model={"kind": "mlp", "hidden": [32]})


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        ("size", None),
        ("district", ["east", "north", "south"]),
        ("lift", [False, True, None]),
        ("listed", None),
    ],
)
def test_effects(server: Server, flats: Json, feature: str, values: list[Any] | None) -> None:
    path = "/v1/models/effects/effects"
    found = server.ok("GET", path, params={"feature": feature})
    assert (found["object"], found["feature"], found["of"]) == ("effect", feature, "rent")
    assert values is None or found["values"] == values
    known = [value for value in found["values"] if value is not None]
    assert known == sorted(known)
    if feature in ("lift", "listed"):  # some are missing
        assert found["values"] == [*known, None]
    bands = zip(found["low"], found["mean"], found["high"], strict=True)
    assert all(low <= mean <= high for low, mean, high in bands)
    assert found["rows"] == 24
    if feature == "size":
        assert found["mean"][-1] - found["mean"][0] > 300


@pytest.mark.parametrize(
    "plot",
    [
        "importance.png",
        "effects.svg",
        "effects.png?feature=district",
        "effects.svg?feature=lift&of=rent",
        "effects.png?feature=listed",
    ],
)
def test_pictures_of_a_model(server: Server, flats: Json, plot: str) -> None:
    told = server.client.get(f"/v1/models/effects/plots/{plot}")
    assert told.status_code == 200, told.text
    starts = b"<?xml" if ".svg" in plot else b"\x89PNG"
    assert told.content.startswith(starts)
    again = server.client.get(
        f"/v1/models/effects/plots/{plot}", headers={"If-None-Match": told.headers["etag"]}
    )
    assert again.status_code == 304
    if plot == "effects.svg":
        assert b"size" in told.content, "the feature that matters most"
    if plot == "importance.png":
        of_job = server.client.get(f"/v1/jobs/{flats['id']}/plots/{plot}")
        assert of_job.content == told.content


@pytest.mark.parametrize(
    ("plot", "pointer", "code"),
    [
        ("importance.png?feature=size", "/feature", "invalid_request"),
        ("effects.png?feature=siz", "/feature", "invalid_request"),
        ("effects.png?of=price", "/of", "invalid_request"),
        ("effects.png?feature=about", None, "not_applicable"),
        ("pie.png", "/plot", "invalid_request"),
    ],
)
def test_pictures_that_cannot_be(
    server: Server, flats: Json, plot: str, pointer: str | None, code: str
) -> None:
    told = problem(server.client.get(f"/v1/models/effects/plots/{plot}"), 422, code)
    assert pointer is None or told["errors"][0]["pointer"] == pointer


def test_metrics_have_ranges(server: Server, jobs: dict[str, Json], flats: Json) -> None:
    """Of the test part in the model, and of any rows in an evaluation of them."""
    for job in (flats, jobs["two"]):
        ref = job["model"]["ref"]
        metrics = server.ok("GET", f"/v1/models/{ref}")["metrics"]
        confidence = metrics["confidence"]
        known = {name for name, value in metrics["test"].items() if value is not None}
        assert known <= confidence["metrics"].keys()
        assert confidence["level"] == 0.95
        for name in known:
            ends = confidence["metrics"][name]
            assert ends["low"] <= ends["high"]
            if name in ("rmse", "mae", "accuracy"):
                assert ends["low"] <= metrics["test"][name] <= ends["high"]
        found = server.ok(
            "POST", f"/v1/models/{ref}/evaluate", json={"dataset": job["dataset"]["id"]}
        )
        assert found["confidence"]["rows"] == found["rows"]
        narrow, wide = found["confidence"]["metrics"], confidence["metrics"]
        which = "rmse" if "rmse" in narrow else "accuracy"
        assert (
            narrow[which]["high"] - narrow[which]["low"] < wide[which]["high"] - wide[which]["low"]
        )


def test_what_is_told_of_a_refitted_model_is_of_the_one_before(server: Server, flats: Json) -> None:
    """Another job with the same seed and without the refit tells the same, and predicts else."""
    body: Json = {
        "dataset": "effects",
        "target": "rent",
        "features": ["size", "district"],
        "model": {"kind": "mlp", "hidden": [8]},
        "epochs": 20,
    }
    plain, refitted = server.train(**body), server.train(**body, refit=True)
    models = [server.ok("GET", f"/v1/models/{job['model']['ref']}") for job in (plain, refitted)]
    assert [model["trained_on"] for model in models] == ["train", "all"]
    assert [job["metrics"]["of"] for job in (plain, refitted)] == [None, "before_refit"]
    assert plain["metrics"]["test"] == refitted["metrics"]["test"]
    assert models[0]["intervals"] == models[1]["intervals"]
    curves = [server.ok("GET", f"/v1/jobs/{j['id']}/curves/residuals") for j in (plain, refitted)]
    assert [curve["of"] for curve in curves] == ["test", "before_refit"]
    assert curves[0]["series"] == curves[1]["series"]
    found = [server.ok("GET", f"/v1/models/{model['ref']}/importance") for model in models]
    assert [one.pop("of") for one in found] == [None, "before_refit"]
    assert found[0] == found[1]
    asked: Json = {"json": {"rows": [{"size": 50, "district": "north"}]}}
    paths = [f"/v1/models/{model['ref']}/predict" for model in models]
    answers = [server.ok("POST", path, **asked)["predictions"] for path in paths]
    assert answers[0] != answers[1]
    bundle = server.client.get(paths[1].replace("predict", "download?format=bundle")).content
    headers = {"Content-Type": "application/zip"}
    made = server.ok("POST", "/v1/models?name=taken", content=bundle, headers=headers)
    assert (made["trained_on"], made["metrics"]["of"]) == ("all", "before_refit")
    assert server.ok("POST", "/v1/models/taken/predict", **asked)["predictions"] == answers[1]


def test_several_labels_have_pictures_of_their_curves(server: Server) -> None:
    rows = [{"x": i / 50, "a": i % 3 == 0, "b": i > 60} for i in range(120)]
    dataset = server.ok("POST", "/v1/datasets", json=rows)["id"]
    job = server.train(dataset=dataset, target=["a", "b"], model="linear", epochs=5)
    for kind in ("roc", "precision_recall", "calibration"):
        told = server.client.get(f"/v1/jobs/{job['id']}/plots/{kind}.png")
        assert told.status_code == 200, told.text


def test_what_was_deleted_is_said(server: Server) -> None:
    rows = [{"x": i / 50, "y": i % 7} for i in range(120)]
    dataset = server.ok("POST", "/v1/datasets", json=rows)["id"]
    body: Json = {"dataset": dataset, "target": "y", "model": "linear", "epochs": 2}
    job = server.train(**body, register_as="gone", refit=True)
    found = server.ok("POST", "/v1/models/gone/evaluate", json={"dataset": dataset})
    assert "trained on all of these rows" in found["warnings"][-1]
    assert server.client.delete(f"/v1/datasets/{dataset}").status_code == 204
    curve_of = f"/v1/jobs/{job['id']}/curves/residuals"
    for path in (curve_of, "/v1/models/gone/effects?feature=x"):
        told = problem(server.client.get(path), 404, "not_found")
        assert "has been deleted" in told["detail"]
    assert server.client.get(f"/v1/jobs/{job['id']}/plots/importance.png").status_code == 200
    assert server.client.delete("/v1/models/gone").status_code == 204
    told = problem(server.client.get("/v1/models/gone/importance"), 404, "not_found")
    assert "'gone'?" not in told["detail"]
    again = server.train(**{**body, "dataset": server.ok("POST", "/v1/datasets", json=rows)["id"]})
    name = again["model"]["name"]
    assert server.client.delete(f"/v1/models/{name}").status_code == 204
    told = problem(
        server.client.get(f"/v1/jobs/{again['id']}/curves/residuals"), 422, "not_applicable"
    )
    assert "was deleted" in told["detail"]


def test_effects_on_classes_are_probabilities(server: Server, jobs: dict[str, Json]) -> None:
    path = f"/v1/models/{jobs['three']['model']['ref']}/effects"
    each = [server.ok("GET", path, params={"feature": "x0", "of": str(c)}) for c in range(3)]
    for values in zip(*(one["mean"] for one in each), strict=True):
        assert sum(values) == pytest.approx(1)


@pytest.mark.parametrize(
    ("params", "pointer", "code"),
    [
        ({}, "/feature", "invalid_request"),
        ({"feature": "siz"}, "/feature", "invalid_request"),
        ({"feature": "size", "of": "price"}, "/of", "invalid_request"),
        ({"feature": "about"}, None, "not_applicable"),
    ],
)
def test_what_has_no_effect(
    server: Server, flats: Json, params: Json, pointer: str | None, code: str
) -> None:
    told = problem(server.client.get("/v1/models/effects/effects", params=params), 422, code)
    assert pointer is None or told["errors"][0]["pointer"] == pointer


def test_what_came_without_its_rows_has_none(server: Server, flats: Json) -> None:
    content = server.client.get("/v1/models/effects/download", params={"format": "bundle"}).content
    headers = {"Content-Type": "application/zip"}
    made = server.ok("POST", "/v1/models", content=content, headers=headers)
    told = server.client.get(f"/v1/models/{made['id']}/effects", params={"feature": "size"})
    assert "another server's" in problem(told, 422, "not_applicable")["detail"]
    importance = [server.ok("GET", f"/v1/models/effects@{n}/importance") for n in (1, 2)]
    assert importance[0] == importance[1]
    row = {"size": 50, "district": "north", "lift": True, "listed": "2026-02-15", "about": "warm"}
    asked: Json = {"json": {"rows": [row]}, "params": {"explain": "3", "interval": "0.8"}}
    answers = [server.ok("POST", f"/v1/models/effects@{n}/predict", **asked) for n in (1, 2)]
    assert {**answers[0], "version": 2} == answers[1]


def test_what_can_never_be_drawn_is_told_before_there_is_a_model(server: Server) -> None:
    server.line("curves-early")
    job = {"dataset": "curves-early", "target": "y", "model": "linear", "early_stopping": None}
    running = server.ok("POST", "/v1/jobs", json={**job, "epochs": 1_000_000})
    for path in (*(f"curves/{kind}" for kind in CURVES), *(f"plots/{k}.png" for k in CURVES)):
        told = server.client.get(f"/v1/jobs/{running['id']}/{path}")
        problem(told, 422, "not_applicable")
    problem(server.client.get(f"/v1/jobs/{running['id']}/curves/residuals"), 409, "not_ready")
    server.ok("POST", f"/v1/jobs/{running['id']}/cancel")
