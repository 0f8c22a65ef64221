"""Evaluating against scikit-learn, by hand, and against what jobs say of the same rows."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import nn

from app.errors import InvalidData, InvalidRequest
from app.ml.data import preparation
from app.ml.evaluation import metrics
from app.ml.evaluation.evaluate import MOST_CLASSES, Evaluation, evaluate, require_columns
from app.ml.inference import model_files
from app.ml.inference.card import CARD
from app.ml.inference.predictor import Predictor
from tests.support.workbench import Run, Workbench, table_of

COUNT = 120
X = [float(i) for i in range(COUNT)]
CUTS = ["round", "oval", "heart"]
ALL = {"split": {"train": 1.0, "validation": 0.0, "test": 0.0}, "early_stopping": None}
QUICK: dict[str, Any] = {"epochs": 4, "model": {"kind": "mlp", "hidden": [8]}}


def held_out(run: Run, table: pa.Table) -> pa.Table:
    """The rows of the job's own test part, in its order."""
    return table.take(preparation.split_of(run.task.spec, table).test)


def linear(workbench: Workbench, **fields: Any) -> Predictor:
    """y = 2 x + 1, exactly, with the means of the training part as baseline."""
    table = table_of({"x": X, "y": [2 * x + 1 for x in X]})
    plain = {"numbers": "none", "target": "none"}
    job = {"epochs": 1, "model": {"kind": "linear"}, "preprocessing": plain, **ALL}
    run = workbench.train(table, **{**job, **fields})
    predictor = run.predictor
    weight, bias = predictor.module.parameters()
    nn.init.constant_(weight, 2.0)
    nn.init.constant_(bias, 1.0)
    return predictor


# ---------------------------------------------------------------- what a job says of its rows

TASKS: list[tuple[dict[str, list[Any]], dict[str, Any]]] = [
    ({"y": [x * 3 + i % 7 for i, x in enumerate(X)]}, {"target": "y"}),
    ({"y": [x**2 for x in X], "z": [-x for x in X]}, {"target": ["y", "z"], "loss": "huber"}),
    ({"y": [i % 5 < 2 for i in range(COUNT)]}, {"target": "y"}),
    ({"y": [i % 3 for i in range(COUNT)]}, {"target": "y", "task": "multiclass"}),
    ({"y": [CUTS[i % 3] for i in range(COUNT)]}, {"target": "y", "class_weight": "balanced"}),
    ({"y": [i > 60 for i in range(COUNT)], "z": [i % 2 > 0 for i in range(COUNT)]}, {}),
]


@pytest.mark.parametrize(("targets", "fields"), TASKS)
def test_a_jobs_own_test_rows_give_the_jobs_own_test_metrics(
    workbench: Workbench, targets: dict[str, list[Any]], fields: dict[str, Any]
) -> None:
    colors = ["rgb"[i % 3] for i in range(COUNT)]
    table = table_of({"x": X, "color": colors, **targets})
    fields = {"target": list(targets), **fields}
    run = workbench.train(table, features=["x", "color"], **QUICK, **fields)
    found = evaluate(run.predictor, held_out(run, table))
    assert found.metrics == run.ended.test
    assert found.baseline == run.ended.baseline
    assert found.rows == len(run.prepared().test) > 0
    assert [f"on the test part the model is {said}" for said in found.warnings] == (
        run.ended.warnings
    )
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["rows"] == found.rows


def test_the_loss_is_the_one_that_was_watched(workbench: Workbench) -> None:
    """Without weights they are one: in training's units, of the weights that are kept."""
    table = table_of({"x": X, "y": [CUTS[i % 3] for i in range(COUNT)]})
    split = {"train": 0.8, "validation": 0.0, "test": 0.2}
    run = workbench.train(table, split=split, early_stopping=None, **QUICK)
    found = evaluate(run.predictor, held_out(run, table))
    assert found.loss == pytest.approx(run.series("test_loss")[-1], rel=1e-6)


def test_smoothing_and_weights_are_not_in_the_loss(workbench: Workbench) -> None:
    table = table_of({"x": X, "y": [CUTS[i % 3] for i in range(COUNT)]})
    smooth = {"kind": "cross_entropy", "label_smoothing": 0.3}
    run = workbench.train(table, loss=smooth, class_weight={"oval": 9.0}, **QUICK)
    found = evaluate(run.predictor, table)
    assert found.loss == pytest.approx(found.metrics["log_loss"], rel=1e-5)


# ---------------------------------------------------------------- by hand


def test_numbers_by_hand(workbench: Workbench) -> None:
    predictor = linear(workbench, loss="l1")
    rows = table_of({"y": [1.0, 3.0, None, 15.0], "more": list("abcd"), "x": [0.0, 1.0, 2.0, 3.0]})
    found = evaluate(predictor, rows)
    assert (found.rows, found.skipped) == (3, 1)
    assert found.loss == pytest.approx(8 / 3)
    assert found.metrics["mae"] == pytest.approx(8 / 3)
    assert found.metrics["rmse"] == pytest.approx(8 / np.sqrt(3))
    mean = float(np.mean([2 * x + 1 for x in X]))
    assert predictor.card.baseline == [mean]
    assert found.baseline is not None
    assert found.baseline["mae"] == pytest.approx(mean - 19 / 3)
    assert found.better_than_baseline is not None
    assert found.better_than_baseline.keys() >= {"mae", "rmse", "r2"}
    assert all(found.better_than_baseline.values())
    assert found.worst[0] == {
        "row": 3,
        "loss": pytest.approx(8.0),
        "true": 15.0,
        "predicted": pytest.approx(7.0),
        "features": {"x": 3.0},
    }
    assert [row["row"] for row in found.worst] == [3, 0, 1]
    assert found.confusion is None
    assert found.warnings == []


def test_no_better_than_the_mean_is_said(workbench: Workbench) -> None:
    predictor = linear(workbench)
    found = evaluate(predictor, table_of({"x": [0.0, 100.0], "y": [130.0, 110.0]}))
    assert found.better_than_baseline is not None
    assert found.better_than_baseline.keys() >= {"mae", "rmse", "r2"}
    assert not any(found.better_than_baseline.values())
    (said,) = found.warnings
    assert said.startswith("no better than guessing: mae 110 against 10, rmse 111.6 against 10 of ")
    assert said.endswith("always answering the mean of the training part")


def test_ten_worst_rows_of_many(workbench: Workbench) -> None:
    rows = table_of({"x": [0.0] * 50, "y": [float(i) for i in range(50)]})
    found = evaluate(linear(workbench), rows)
    assert [row["row"] for row in found.worst] == list(range(49, 39, -1))


def classifier(workbench: Workbench, classes: list[Any] = CUTS) -> Predictor:
    table = table_of({"x": X, "y": [classes[i % len(classes)] for i in range(COUNT)]})
    return workbench.train(table, task="multiclass", **QUICK).predictor


def test_classes_are_scikit_learns(workbench: Workbench) -> None:
    predictor = classifier(workbench)
    true = [CUTS[i * i % 3] for i in range(60)]
    rows = table_of({"x": [1.7 * i for i in range(60)], "y": true})
    found = evaluate(predictor, rows)
    outputs = predictor.outputs(rows)
    predicted = predictor.predictions(outputs)
    labels = sorted(CUTS)
    assert found.confusion is not None
    assert found.confusion["labels"] == labels
    matrix = sk.confusion_matrix(true, predicted, labels=labels)
    assert found.confusion["matrix"] == matrix.tolist()
    assert found.metrics["accuracy"] == sk.accuracy_score(true, predicted)
    shares = [list(row.values()) for row in predictor.probabilities(outputs)]
    assert found.metrics["log_loss"] == pytest.approx(sk.log_loss(true, shares, labels=labels))
    assert found.loss == pytest.approx(found.metrics["log_loss"], rel=1e-5)
    worst = max(range(60), key=lambda i: -np.log(shares[i][labels.index(true[i])]))
    assert found.worst[0]["row"] == worst
    assert found.worst[0]["true"] == true[worst]
    assert found.worst[0]["predicted"] == predicted[worst]


def test_a_class_never_seen_is_wrong_and_warned_of(workbench: Workbench) -> None:
    predictor = classifier(workbench)
    known = table_of({"x": X[:30], "y": [CUTS[i % 3] for i in range(30)]})
    more = table_of({"x": X[:40], "y": [*known["y"].to_pylist(), *(["pear"] * 10)]})
    before, found = evaluate(predictor, known), evaluate(predictor, more)
    assert found.rows == 40
    for same in ("log_loss", "auc"):
        assert found.metrics[same] == before.metrics[same]
    assert found.loss == before.loss
    assert found.metrics["accuracy"] == pytest.approx(0.75 * (before.metrics["accuracy"] or 0))
    assert (found.metrics["f1_macro"] or 1) <= (before.metrics["f1_macro"] or 0)
    assert found.confusion is not None
    assert found.confusion["labels"] == [*sorted(CUTS), None]
    assert np.sum(found.confusion["matrix"]) == 40
    assert np.sum(found.confusion["matrix"][-1]) == 10
    assert any("10 of 40 rows" in said and "'pear'" in said for said in found.warnings)
    assert all(row["true"] != "pear" for row in found.worst)


def test_only_classes_never_seen(workbench: Workbench) -> None:
    found = evaluate(classifier(workbench), table_of({"x": X, "y": ["pear"] * COUNT}))
    assert found.loss is None
    told = {name: found.metrics[name] for name in ("accuracy", "f1_macro", "auc", "log_loss")}
    assert told == {"accuracy": 0.0, "f1_macro": 0.0, "auc": None, "log_loss": None}
    assert found.worst == []


@pytest.mark.parametrize("classes", [[1, 2, 3], [1, 2, 2**60 + 1]])
def test_whole_classes_beside_a_fraction_are_still_known(
    workbench: Workbench, classes: list[int]
) -> None:
    """One 2.5 makes floats of the column."""
    predictor = classifier(workbench, classes)
    rows = table_of({"x": X[:4], "y": [1, 2, 2.5, classes[2]]})
    found = evaluate(predictor, rows)
    assert any("1 of 4 rows" in said and "2.5" in said for said in found.warnings)


def test_fractional_classes_that_happen_to_be_whole(workbench: Workbench) -> None:
    table = table_of({"x": X, "y": [[1.0, 2.5][i % 2] for i in range(COUNT)]})
    predictor = workbench.train(table, task="binary", **QUICK).predictor
    found = evaluate(predictor, table_of({"x": X[:9], "y": [1.0] * 9}))
    assert found.warnings == [said for said in found.warnings if "never seen" not in said]
    assert found.confusion is not None
    assert sum(found.confusion["matrix"][0]) == 9


def test_labels_have_a_square_each(workbench: Workbench) -> None:
    columns = {"p": [i > 60 for i in range(COUNT)], "q": [i % 2 > 0 for i in range(COUNT)]}
    table = table_of({"x": X, **columns})
    predictor = workbench.train(table, target=["p", "q"], features=["x"], **QUICK).predictor
    found = evaluate(predictor, table)
    predicted = predictor.predictions(predictor.outputs(table))
    true = np.column_stack([columns["p"], columns["q"]])
    answered = np.array([list(row.values()) for row in predicted])
    assert found.confusion == {
        "labels": ["p", "q"],
        "matrix": sk.multilabel_confusion_matrix(true, answered).tolist(),
    }
    assert found.worst[0]["true"].keys() == {"p", "q"}


@given(st.integers(1, 3), st.data())
def test_a_square_counts_true_and_predicted_rows(labels: int, data: st.DataObject) -> None:
    row = st.lists(st.booleans(), min_size=2 * labels, max_size=2 * labels)
    rows = np.array(data.draw(st.lists(row, min_size=1, max_size=20)))
    true, predicted = rows[:, :labels], rows[:, labels:]
    expected = [
        [[int(np.sum((t == a) & (p == b))) for b in (False, True)] for a in (False, True)]
        for t, p in zip(true.T, predicted.T, strict=True)
    ]
    assert metrics.multilabel_confusion(true, predicted).tolist() == expected
    assert metrics.multilabel_confusion(true.astype(np.float32), predicted).tolist() == expected


# ---------------------------------------------------------------- what is odd


def test_an_output_that_overflows(workbench: Workbench) -> None:
    predictor = linear(workbench)
    nn.init.constant_(next(predictor.module.parameters()), 3e38)
    found = evaluate(predictor, table_of({"x": [0.0, 5.0], "y": [1.0, 2.0]}))
    assert found.metrics.keys() >= {"mae", "rmse", "r2"}
    assert set(found.metrics.values()) == {None}
    assert found.loss is None
    assert found.better_than_baseline == {}
    assert "overflows on 1 of 2 rows" in found.warnings[0]
    assert found.worst[0]["row"] == 1
    assert found.worst[0]["loss"] is None
    assert found.worst[0]["predicted"] is None
    json.dumps(asdict(found), allow_nan=False)


def test_an_older_model_gives_no_verdict(workbench: Workbench) -> None:
    table = table_of({"x": X, "y": X})
    predictor = workbench.train(table, **QUICK).predictor
    told = json.loads(predictor.card.model_dump_json())
    del told["baseline"]
    old = type(predictor.card).model_validate_json(json.dumps(told))
    found = evaluate(Predictor(old, predictor.module), table)
    assert found.baseline is None
    assert found.better_than_baseline is None
    assert found.metrics == evaluate(predictor, table).metrics


def test_a_card_that_calls_its_baseline_a_guess_is_read(
    workbench: Workbench, tmp_path: Path
) -> None:
    """As models were made before the name changed."""
    table = table_of({"x": X, "y": X})
    run = workbench.train(table, **QUICK)
    old = Path(shutil.copytree(run.folder, tmp_path / "old"))
    fields = json.loads((old / CARD).read_bytes())
    fields["guess"] = fields.pop("baseline")
    (old / CARD).write_text(json.dumps(fields))
    found = evaluate(Predictor.load(old), table)
    assert found == evaluate(run.predictor, table)
    assert found.baseline is not None


def test_the_baseline_travels_exactly(workbench: Workbench) -> None:
    run = workbench.train(table_of({"x": X, "y": [x / 3 for x in X]}), **QUICK)
    train = run.prepared().train.table["y"].to_numpy()
    assert model_files.load(run.folder)[0].baseline == [train.mean()]


def test_columns_without_a_value_are_missing_values(workbench: Workbench) -> None:
    colors: list[Any] = [*["rgb"[i % 3] for i in range(COUNT - 1)], None]
    moments = [f"2024-01-{i % 28 + 1:02}" for i in range(COUNT)]
    table = table_of({"x": X, "color": colors, "when": moments, "new": [True, False] * 60, "y": X})
    predictor = workbench.train(table, features=["x", "color", "when", "new"], **QUICK).predictor
    empty = {name: [None] * 5 for name in ("x", "color", "when", "new")}
    found = evaluate(predictor, table_of({**empty, "y": X[:5]}))
    assert found.loss is not None
    assert found.worst[0]["features"] == dict.fromkeys(empty)
    assert evaluate(predictor, table).worst[0]["features"]["when"].startswith("2024-01-")


def test_more_classes_than_a_confusion_shows(workbench: Workbench) -> None:
    count = MOST_CLASSES + 1
    values = [f"c{i % count}" for i in range(3 * count)]
    table = table_of({"x": [float(i) for i in range(3 * count)], "y": values})
    fields = {**QUICK, "epochs": 1, **ALL}
    found = evaluate(workbench.train(table, task="multiclass", **fields).predictor, table)
    assert found.confusion is None
    assert any("201 classes" in said for said in found.warnings)


def test_slices_change_nothing(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = classifier(workbench)
    count = 20_000
    rows = table_of(
        {"x": [i / 100 for i in range(count)], "y": [CUTS[i % 3] for i in range(count)]}
    )
    whole = evaluate(predictor, rows)
    monkeypatch.setattr("app.ml.evaluation.evaluate._ROWS_A_SLICE", 8_192)
    sliced: Evaluation = evaluate(predictor, rows)
    assert sliced == whole


# ---------------------------------------------------------------- what is refused


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    workbench = Workbench(tmp_path_factory.mktemp("shop"))
    colors = ["rgb"[i % 3] for i in range(COUNT)]
    table = table_of({"size": X, "color": colors, "new": [True, False] * 60, "price": X})
    return workbench.train(table, target="price", **QUICK).predictor


GOOD: dict[str, list[Any]] = {
    "size": X[:3],
    "color": ["r", "g", "b"],
    "new": [True, False, True],
    "price": X[:3],
}


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"size": None}, "unknown_column", "no column 'size', a feature of the model"),
        ({"price": None}, "unknown_column", "no column 'price', the target of the model"),
        ({"size": None, "sise": X[:3]}, "unknown_column", "rename its 'sise'"),
        ({"size": ["a", "b", "c"]}, "wrong_type", 'again with types {"size": "number"}'),
        ({"color": [1, 2, 3]}, "wrong_type", 'again with types {"color": "category"}'),
        ({"new": [1, 0, 1]}, "wrong_type", 'again with types {"new": "boolean"}'),
        ({"price": ["a", "b", "c"]}, "wrong_type", "the target of the model"),
    ],
)
def test_wrong_columns(shop: Predictor, change: dict[str, Any], code: str, said: str) -> None:
    columns = {k: v for k, v in {**GOOD, **change}.items() if v is not None}
    with pytest.raises(InvalidRequest) as caught:
        evaluate(shop, table_of(columns))
    (error,) = caught.value.errors
    assert (error.pointer, error.code) == ("/dataset", code)
    assert said in error.detail


def test_every_wrong_column_is_named_and_text_is_a_category(shop: Predictor) -> None:
    with pytest.raises(InvalidRequest) as caught:
        require_columns(shop.card, {"size": "category", "new": None, "color": "text"})
    assert [error.code for error in caught.value.errors] == ["wrong_type", "unknown_column"]


def test_no_row_with_a_target(shop: Predictor) -> None:
    with pytest.raises(InvalidData) as caught:
        evaluate(shop, table_of({**GOOD, "price": [None, None, None]}))
    assert "none of the 3 rows has a value of 'price'" in caught.value.detail


def test_a_target_too_large_for_float32(shop: Predictor) -> None:
    with pytest.raises(InvalidData):
        evaluate(shop, table_of({**GOOD, "price": [1e308, 1.0, 2.0]}))
