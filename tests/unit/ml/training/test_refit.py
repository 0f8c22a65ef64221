"""Trained once more on all rows: the weights are those of a job by hand, what is told is of the
model before."""

from typing import Any

import pytest

from app.errors import InvalidRequest, TimeLimit
from app.ml.evaluation import metrics
from app.ml.inference import card as cards
from app.ml.inference.predictor import Predictor
from app.ml.training import loop, saver
from app.ml.training.events import CheckpointSaved, StopReason
from tests.support.resume import FIELDS, Interrupted, clouds, same_as_undisturbed
from tests.support.tables import noise
from tests.support.workbench import Workbench, planned

NETWORK: dict[str, Any] = {
    "features": ["a", "b", "c"],
    "model": {"kind": "mlp", "hidden": [16]},
    "batch_size": 16,
    "epochs": 30,
    "early_stopping": {"patience": 3},
}


@pytest.mark.parametrize("target", ["y", "kind"])
def test_the_weights_are_those_of_a_job_on_all_rows(workbench: Workbench, target: str) -> None:
    table = clouds()
    plain = workbench.train(table, target=target, **NETWORK)
    run = workbench.train(table, target=target, refit=True, **NETWORK)
    assert run.epochs == plain.epochs, "the history is of the run that was measured"
    by_hand = workbench.train(
        table,
        target=target,
        **{**NETWORK, "early_stopping": None, "epochs": plain.best.epoch + 1},
        split={"train": 1.0, "validation": 0.0, "test": 0.0},
    )
    assert run.weights_sha256 == by_hand.weights_sha256
    assert run.predictor.card.trained_on == run.ended.trained_on == "all"
    assert plain.predictor.card.trained_on == plain.ended.trained_on == "train"


@pytest.mark.parametrize("target", ["y", "kind"])
def test_what_is_told_is_of_the_model_before_it(workbench: Workbench, target: str) -> None:
    table = clouds()
    fields = {**NETWORK, "target": target, "calibrate": target == "kind"}
    plain = workbench.train(table, **fields)
    run = workbench.train(table, refit=True, **fields)
    told = run.ended.model_copy(update={"trained_on": "train"})
    assert told == plain.ended
    measured = Predictor.load(run.folder, measured=True)
    part = run.prepared().test
    rows = metrics.score(measured.target, part.table, measured.forward(part.x))
    assert rows == run.ended.test
    assert measured.card == plain.predictor.card.model_copy(update={"spec": run.task.spec})
    assert Predictor.load(plain.folder, measured=True).card == plain.predictor.card
    card = run.predictor.card
    assert card.conformal == measured.card.conformal
    if target == "kind":
        assert card.decision == measured.card.decision
        assert card.decision is not None
        assert card.decision.temperature != 1


ALL: dict[str, Any] = {**FIELDS, "refit": True, "epochs": 4, "early_stopping": None}


@pytest.mark.parametrize("reason", ["shutdown", "cancel"])
@pytest.mark.parametrize("steps", [1, 9, 17, 21, 26])
def test_stopped_anywhere_it_ends_the_same(
    workbench: Workbench, steps: int, reason: StopReason
) -> None:
    """Of 80 rows 64 train, in 4 batches an epoch; the refit begins with the 17th."""
    stops: list[tuple[int, StopReason]] = [(steps, reason), (3, "shutdown"), (2, "pause")]
    same_as_undisturbed(workbench, stops, **ALL)


def test_a_checkpoint_of_it_holds_the_model_before(workbench: Workbench) -> None:
    job = Interrupted(workbench, **ALL)
    job.attempt(20, "shutdown")
    epochs = len(job.history)
    assert epochs == 4, "the epochs of a refit are not told"
    card = cards.read(workbench.storage.verified("checkpoints", job._task.checkpoints[0]))
    assert card.trained_on == "all"
    assert card.conformal is not None, "of the rows that the first run held out"
    job.attempt(10**9, "cancel")
    assert job.ended is not None
    assert job.ended.trained_on == "all"
    assert len(job.history) == epochs


def test_one_that_diverges_leaves_the_model_that_was_measured(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(epoch: int, values: Any, losses: Any) -> None:
        if "validation_loss" not in values:
            raise saver.diverged(f"epoch {epoch}")

    monkeypatch.setattr(loop, "_refuse_nonfinite", refuse)
    run = workbench.train(clouds(), refit=True, **NETWORK)
    plain = workbench.train(clouds(), **NETWORK)
    assert run.weights_sha256 == plain.weights_sha256
    assert run.ended.trained_on == "train"
    assert "not trained once more on all rows (training diverged" in run.ended.warnings[-1]
    assert run.ended.test == plain.ended.test


@pytest.mark.parametrize("at_limit", ["best", "fail"])
def test_max_seconds_counts_it_too(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, at_limit: str
) -> None:
    clock = iter(range(10**6))
    fields = {**NETWORK, "early_stopping": None, "epochs": 5}
    asked = dict.fromkeys(["plain", "refit"], 0)
    for name, more in (("plain", {}), ("refit", {"refit": True})):
        monkeypatch.setattr("app.ml.training.saver.time.monotonic", lambda: float(next(clock)))
        started = next(clock)
        workbench.train(clouds(), **fields, **more)
        asked[name] = next(clock) - started
    limit = (asked["plain"] + asked["refit"]) // 2
    fields |= {"refit": True, "max_seconds": limit, "at_limit": at_limit}
    if at_limit == "fail":
        with pytest.raises(TimeLimit):
            workbench.train(clouds(), **fields)
        return
    run = workbench.train(clouds(), **fields)
    assert "not trained once more on all rows (max_seconds" in run.ended.warnings[-1]
    plain = workbench.train(clouds(), **{**fields, "refit": False, "max_seconds": None})
    assert run.weights_sha256 == plain.weights_sha256


def test_an_untrained_model_is_none(workbench: Workbench) -> None:
    run = workbench.train(noise(), epochs=0, refit="auto")
    assert run.ended.trained_on == "train"
    assert not any(isinstance(event, CheckpointSaved) for event in run.events[:-2])
    with pytest.raises(InvalidRequest, match="leave refit out"):
        planned(noise(), epochs=0, refit=True)


def test_which_jobs_do_so_by_themselves() -> None:
    table = clouds()
    for fields, expected in (
        ({}, True),
        ({"refit": "auto"}, True),
        ({"model": "mlp"}, False),
        ({"model": "mlp", "refit": "auto"}, False),
        ({"model": "mlp", "refit": True}, True),
        ({"refit": False}, False),
    ):
        spec = planned(table, **{"refit": None, **fields}).spec
        assert spec.refit is expected, fields
    plain, again = (planned(table, **NETWORK, refit=refit) for refit in (False, True))
    assert again.memory_bytes > plain.memory_bytes
