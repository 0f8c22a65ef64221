"""/v1/jobs over HTTP."""

from pathlib import Path

import pytest

from tests.support.server import LINE_JOB, LONG_JOB, Json, Server, problem
from tests.support.server import QUICK_JOB as QUICK


def test_dry_run_creates_nothing(server: Server) -> None:
    before = server.ok("GET", "/v1/jobs", params={"limit": "1"})["first_id"]
    plan = server.ok("POST", "/v1/jobs", params={"dry_run": "true"}, json=LINE_JOB)
    assert plan["valid"] is True
    assert plan["parameters"] == 2
    assert plan["memory_bytes"] > 0
    assert plan["split"] == {"train": 40, "validation": 0, "test": 10}
    assert server.ok("GET", "/v1/jobs", params={"limit": "1"})["first_id"] == before
    wrong = {**LINE_JOB, "target": "z"}
    problem(server.client.post("/v1/jobs?dry_run=true", json=wrong), 422, "invalid_request")


BAD: list[tuple[Json, str, str]] = [
    ({"target": "yy"}, "/target", "did you mean 'y'"),
    ({"features": ["xx"]}, "/features/0", "did you mean 'x'"),
    ({"features": ["y"]}, "/features/0", "is the target"),
    ({"features": []}, "/features", ""),
    ({"dataset": "lines"}, "/dataset", "there is no dataset"),
    ({"optimizer": "adm"}, "/optimizer", "did you mean 'adam'?"),
    ({"optimizer": {"kind": "adm"}}, "/optimizer/kind", "did you mean 'adam'?"),
    ({"optimizer": {"kind": "sgd", "lr": "fast"}}, "/optimizer/lr", "number"),
    ({"optimizer": {"kind": "sgd", "lr": 0}}, "/optimizer/lr", "greater than 0"),
    ({"optimizer": {"kind": "sgd", "momentm": 1}}, "/optimizer/momentm", "did you mean 'momentum'"),
    ({"loss": "l2"}, "/loss", "there are"),
    ({"loss": "cross_entropy"}, "/loss", "use 'mse' or"),
    ({"split": {"train": 0.5, "validation": 0.2, "test": 0.2}}, "/split", "sum to 0.9, not 1"),
    ({"split": {"train": 1.5, "test": 0.1}}, "/split/train", "less than or equal to 1"),
    ({"split": {"train": 0.99, "validation": 0.01, "test": 0}}, "/split/validation", "no row"),
    ({"split": {"strategy": "stratified"}}, "/split/strategy", "random"),
    ({"task": "binary"}, "/task", ""),
    ({"epochs": -1}, "/epochs", ""),
    ({"epochs": 1.5}, "/epochs", ""),
    ({"epochs": True}, "/epochs", ""),
    ({"epoch": 3}, "/epoch", "did you mean 'epochs'"),
    ({"lr": 0.1}, "/lr", '{"optimizer": {"kind": "adamw", "lr": '),
    ({"learning_rate": 0.1}, "/learning_rate", '{"optimizer": {"kind": "adamw", "lr": '),
    ({"momentum": 0.9}, "/momentum", '{"optimizer": '),
    ({"hidden": [8]}, "/hidden", '{"model": {"kind": "mlp", "hidden": '),
    ({"dropout": 0.1}, "/dropout", '"dropout": 0.1}}'),
    ({"patience": 3}, "/patience", '{"early_stopping": {"patience": '),
    ({"max_epochs": 3}, "/max_epochs", '{"epochs": 100}'),
    ({"val_split": 0.1}, "/val_split", '{"split": {"train": '),
    ({"criterion": "mse"}, "/criterion", '{"loss": "mse"}'),
    ({"class_weight": [1, 2]}, "/class_weight", '{"yes": 2.0, "no": 1.0}'),
    ({"batch_size": 1000}, "/batch_size", "more than the 40"),
    ({"model": {"kind": "mlp", "hidden": [0]}}, "/model/hidden/0", ""),
    ({"model": {"kind": "tree"}}, "/model/kind", "there are 'linear', 'mlp'"),
    ({"model": {"kind": "mlp", "hidden": [16384] * 64}}, "/model", "smaller model"),
    ({"split": {"train": 0.8, "val": 0.2}}, "/split/val", "did you mean 'validation'"),
    ({"device": "gpu"}, "/device", "did you mean 'cuda'"),
    ({"device": "mps"}, "/device", "use 'auto' or 'cpu'"),
    ({"register_as": "a b"}, "/register_as", "letters, digits"),
    ({"register_as": "job_" + "0" * 24}, "/register_as", "form of an id"),
    (
        {"split": {"train": 0.8, "test": 0.2}, "early_stopping": {"patience": 3}},
        "/early_stopping",
        "validation part",
    ),
]


@pytest.mark.parametrize(("change", "pointer", "said"), BAD, ids=[b[1] + b[2][:9] for b in BAD])
def test_bad_requests_name_the_field_and_the_remedy(
    server: Server, change: Json, pointer: str, said: str
) -> None:
    before = server.ok("GET", "/v1/jobs", params={"limit": "1"})["first_id"]
    response = server.client.post("/v1/jobs", json={**QUICK, **change})
    errors = problem(response, 422, "invalid_request")["errors"]
    assert [error["pointer"] for error in errors] == [pointer], errors
    assert said in errors[0]["detail"]
    assert server.ok("GET", "/v1/jobs", params={"limit": "1"})["first_id"] == before


def test_missing_fields(server: Server) -> None:
    errors = problem(server.client.post("/v1/jobs", json={}), 422, "invalid_request")["errors"]
    assert {error["pointer"] for error in errors} == {"/dataset", "/target"}
    problem(server.client.post("/v1/jobs", json=[]), 422, "invalid_request")
    problem(server.client.post("/v1/jobs", content=b"a=b"), 415, "unsupported_media_type")


def test_targets_that_cannot_be_learnt(server: Server) -> None:
    rows = [{"x": i, "same": 1, "cut": "ab"[i % 2], "word": f"w{i}"} for i in range(40)]
    made = server.ok("POST", "/v1/datasets", json={"source": {"kind": "inline", "rows": rows}})
    body = {"dataset": made["id"], "epochs": 2}
    constant = server.client.post("/v1/jobs", json={**body, "target": "same"})
    assert "only one value" in problem(constant, 422, "invalid_data")["detail"]
    category = server.client.post("/v1/jobs", json={**body, "target": "cut", "task": "regression"})
    detail = problem(category, 422, "invalid_request")["detail"]
    assert "wants a number" in detail
    assert "binary" in detail
    done = server.train(**body, target="cut")
    assert done["spec"]["task"] == "binary"
    assert done["spec"]["features"] == ["x"]
    assert any("'same'" in warning for warning in done["warnings"])
    assert any("'word'" in warning for warning in done["warnings"])


def test_tasks(server: Server) -> None:
    """Each task learns what can be learnt, and says so beside a baseline."""
    for generator, target, task in (("moons", "label", "binary"), ("blobs", "label", "multiclass")):
        source = {"kind": "synthetic", "generator": generator, "rows": 1000}
        types = {"label": "category"}
        made = server.ok("POST", "/v1/datasets", json={"source": source, "types": types})
        fast = {"kind": "adam", "lr": 0.01}
        job = server.train(dataset=made["id"], target=target, epochs=60, optimizer=fast)
        test, guess = job["metrics"]["test"], job["metrics"]["baseline"]
        assert test.keys() >= {"accuracy", "f1_macro", "auc", "log_loss"}
        assert test["accuracy"] > 0.9 > guess["accuracy"]
        assert job["spec"]["task"] == task
        assert job["spec"]["split"]["strategy"] == "stratified"


def test_cancel_while_queued_and_queue_order(data_dir: Path) -> None:
    limits = {"FITSERVE_MAX_QUEUED_JOBS": "4", "FITSERVE_MAX_PARALLEL_JOBS": "1"}
    with Server(data_dir, **limits) as server:
        server.line()
        running = server.start_long_job()
        waiting = [server.ok("POST", "/v1/jobs", json=QUICK)["id"] for _ in range(3)]
        urgent = server.ok("POST", "/v1/jobs", json={**QUICK, "priority": 5})["id"]
        positions = {
            job_id: server.ok("GET", f"/v1/jobs/{job_id}")["queue_position"]
            for job_id in (urgent, *waiting)
        }
        assert list(positions.values()) == [1, 2, 3, 4]
        refused = server.client.post("/v1/jobs", json=QUICK)
        problem(refused, 429, "queue_full")
        assert refused.headers["retry-after"]
        queued = server.ok("GET", "/v1/jobs", params={"status": "queued"})
        assert len(queued["data"]) == 4
        cancelled = server.client.post(f"/v1/jobs/{waiting[0]}/cancel")
        assert cancelled.status_code == 202
        assert cancelled.json()["status"] == "cancelled"
        assert server.ok("GET", f"/v1/jobs/{waiting[1]}")["queue_position"] == 2
        problem(server.client.delete(f"/v1/jobs/{waiting[1]}"), 409, "invalid_transition")
        server.ok("POST", f"/v1/jobs/{running}/cancel")
        ended = [server.ended(job_id) for job_id in (urgent, waiting[1], waiting[2])]
        assert [job["status"] for job in ended] == ["succeeded"] * 3
        starts = [job["started_at"] for job in ended]
        assert starts == sorted(starts)
        server.ok("POST", "/v1/jobs", json=QUICK)


def test_what_the_limit_ends_may_become_a_model(server: Server) -> None:
    body = {**LONG_JOB, "max_seconds": 1, "at_limit": "best"}
    job = server.ended(str(server.ok("POST", "/v1/jobs", json=body)["id"]))
    assert job["status"] == "succeeded", job["error"]
    assert 0 < job["progress"]["epoch"] < job["spec"]["epochs"]
    assert any("max_seconds ended" in warning for warning in job["warnings"])
    assert job["metrics"]["best"]["epoch"] < job["progress"]["epoch"]
    told = server.ok("GET", f"/v1/models/{job['model']['ref']}")
    assert told["metrics"]["test"] == job["metrics"]["test"]


def test_max_seconds(server: Server) -> None:
    body = {**LONG_JOB, "max_seconds": 0.5}
    job = server.ok("POST", "/v1/jobs", json=body, headers={"Prefer": "wait=60"})
    assert (job["status"], job["error"]["code"]) == ("failed", "time_limit")
    assert server.ok("GET", f"/v1/jobs/{job['id']}/checkpoints")["data"]
