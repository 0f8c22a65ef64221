"""Rows in, predictions out: three ways to say the same, and every mistake pointed at."""

import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidData, InvalidRequest
from app.ml.data.preparation import split_of
from app.ml.inference.card import CARD
from app.ml.inference.predictor import Predictor
from tests.support.workbench import Run, Workbench, table_of

ROWS = 90
_random = np.random.default_rng(2)
_carat = _random.uniform(0.2, 3.0, ROWS)
TABLE = table_of(
    {
        "carat": [None if i % 10 == 0 else float(c) for i, c in enumerate(_carat)],
        "cut/grade": [
            None if i % 9 == 0 else ["Ideal", "Good", "Fair"][i % 3] for i in range(ROWS)
        ],
        "sold": [None if i % 8 == 0 else i % 2 == 0 for i in range(ROWS)],
        "price": (1000 * _carat + 50).tolist(),
        "weight": (2 * _carat).tolist(),
        "stars": [1 + i % 3 for i in range(ROWS)],
        "heavy": (_carat > 1.5).tolist(),
        "dear": (_carat > 1.0).tolist(),
        "kind": [["stone", "gem"][i % 2] for i in range(ROWS)],
    }
)
FEATURES = ["carat", "cut/grade", "sold"]
GOOD = {"carat": 1.5, "cut/grade": "Good", "sold": True}


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    workbench = Workbench(tmp_path_factory.mktemp("models"))

    def run(**fields: Any) -> Run:
        return workbench.train(
            TABLE,
            **{
                "features": FEATURES,
                "epochs": 5,
                "model": {"kind": "mlp", "hidden": [8]},
                **fields,
            },
        )

    return run


@pytest.fixture(scope="module")
def price(train: Callable[..., Run]) -> Run:
    return train(target="price")


@pytest.fixture(scope="module")
def predictor(price: Run) -> Predictor:
    return price.predictor


def predict(predictor: Predictor, rows: list[Any]) -> list[Any]:
    return predictor.predictions(predictor.outputs(predictor.tables.of_rows(rows)))


def refused(call: Callable[[Any], Any], argument: Any) -> dict[str, str]:
    """Pointer to detail of every error."""
    with pytest.raises(InvalidRequest) as caught:
        call(argument)
    return {error.pointer: error.detail for error in caught.value.errors}


# ---------------------------------------------------------------- three ways in


def test_rows_columns_and_instances_give_identical_predictions(predictor: Predictor) -> None:
    rows = TABLE.select(FEATURES).to_pylist()
    columns = TABLE.select(FEATURES).to_pydict()
    instances = [list(row.values()) for row in rows]
    by_rows, by_columns, by_instances, by_table = (
        predictor.predictions(predictor.outputs(table))
        for table in (
            predictor.tables.of_rows(rows),
            predictor.tables.of_columns(columns),
            predictor.tables.of_instances(instances),
            TABLE,
        )
    )
    assert by_rows == by_columns == by_instances == by_table
    assert len(by_rows) == ROWS
    assert all(isinstance(value, float) for value in by_rows)


def test_keys_may_stand_in_any_order(predictor: Predictor) -> None:
    shuffled = dict(reversed(GOOD.items()))
    assert predict(predictor, [shuffled]) == predict(predictor, [GOOD])


def test_the_targets_own_column_is_ignored(predictor: Predictor) -> None:
    assert predict(predictor, [GOOD | {"price": "anything"}]) == predict(predictor, [GOOD])
    columns = {name: [value] for name, value in GOOD.items()}
    with_target = predictor.tables.of_columns(columns | {"price": [1, 2, 3]})
    assert with_target.equals(predictor.tables.of_columns(columns))


def test_null_and_unseen_categories_are_handled_as_in_training(predictor: Predictor) -> None:
    encode = predictor.card.preprocessing.features.encode
    unknown = dict.fromkeys(FEATURES)
    missing = encode(predictor.tables.of_rows([unknown]))[0]
    assert missing[1] == 1.0  # the indicator beside carat
    assert missing[0] == pytest.approx(0.0, abs=1e-6)  # carat's mean, standardised
    assert missing[5] == 1.0  # the slot of a missing cut, after the three that are known
    assert missing[7] == 1.0  # the indicator beside sold
    unseen = encode(predictor.tables.of_rows([GOOD | {"cut/grade": "Splendid"}]))[0]
    assert unseen[2:6].tolist() == [0, 0, 0, 0]
    assert all(math.isfinite(value) for value in predict(predictor, [unknown]))


@pytest.mark.parametrize("value", [2, 2.0, -0.0, 2**53 + 1, 2**63 - 1, -(2**63), 1e30])
def test_any_number_of_json_is_a_number(predictor: Predictor, value: float) -> None:
    """Integers are read as numbers, whether or not a double holds them exactly."""
    assert math.isfinite(predict(predictor, [GOOD | {"carat": value}])[0])


def test_a_number_beyond_float32_is_refused(predictor: Predictor) -> None:
    with pytest.raises(InvalidData, match="carat"):
        predict(predictor, [GOOD | {"carat": 1e60}])


# ---------------------------------------------------------------- mistakes


def test_a_missing_feature_is_pointed_at(predictor: Predictor) -> None:
    found = refused(predictor.tables.of_rows, [GOOD, {"carat": 1.0, "sold": None}])
    assert list(found) == ["/rows/1/cut~1grade"]
    assert "missing" in found["/rows/1/cut~1grade"]


def test_an_older_model_knows_no_columns_but_its_own(price: Run, tmp_path: Path) -> None:
    folder = price.storage.path("models", price.task.model_id)
    shutil.copytree(folder, tmp_path / "older")
    card = json.loads((folder / CARD).read_bytes())
    assert sorted(card.pop("ignored")) == sorted(set(TABLE.column_names) - set(FEATURES))
    (tmp_path / "older" / CARD).write_text(json.dumps(card))
    newer, older = Predictor.load(folder), Predictor.load(tmp_path / "older")
    row = {**GOOD, "price": 1, "stars": 3}
    assert newer.row.of_object(row) is not None
    assert newer.tables.of_rows([row, row]).equals(older.tables.of_rows([GOOD, GOOD]))
    assert older.row.of_object(row) is None
    assert list(refused(older.tables.of_rows, [row])) == ["/rows/0/stars"]


def test_an_unknown_feature_is_pointed_at_with_a_guess(predictor: Predictor) -> None:
    found = refused(predictor.tables.of_rows, [GOOD | {"carrat": 1.0, "colour": "D"}])
    assert list(found) == ["/rows/0/carrat", "/rows/0/colour"]
    assert "did you mean 'carat'?" in found["/rows/0/carrat"]
    assert "leave it out" in found["/rows/0/colour"]


@pytest.mark.parametrize(
    ("name", "value", "wants"),
    [
        ("carat", "large", "a number"),
        ("carat", True, "a number"),
        ("carat", [1.5], "a number"),
        ("carat", math.nan, "a number"),
        ("carat", math.inf, "a number"),
        pytest.param("carat", 10**400, "a number", id="carat-beyond a double"),
        ("cut/grade", 3, "a string"),
        ("cut/grade", False, "a string"),
        ("sold", 1, "true or false"),
        ("sold", "perhaps", "true or false"),
    ],
)
def test_a_value_of_the_wrong_type_is_pointed_at(
    predictor: Predictor, name: str, value: Any, wants: str
) -> None:
    escaped = name.replace("/", "~1")
    found = refused(predictor.tables.of_rows, [GOOD, GOOD, GOOD, GOOD | {name: value}])
    assert list(found) == [f"/rows/3/{escaped}"]
    assert f"wants {wants} or null" in found[f"/rows/3/{escaped}"]
    place = FEATURES.index(name)
    instance = list((GOOD | {name: value}).values())
    assert list(refused(predictor.tables.of_instances, [instance])) == [f"/instances/0/{place}"]
    columns = {key: [val] for key, val in (GOOD | {name: value}).items()}
    assert list(refused(predictor.tables.of_columns, columns)) == [f"/columns/{escaped}/0"]


@pytest.mark.parametrize("row", [None, 3, "carat", [1.5, "Good", True]])
def test_a_row_that_is_no_object_is_pointed_at(predictor: Predictor, row: Any) -> None:
    assert list(refused(predictor.tables.of_rows, [GOOD, row])) == ["/rows/1"]


@pytest.mark.parametrize("instance", [None, 3, {"carat": 1}, [1.5], [1.5, "Good", True, 4]])
def test_an_instance_of_another_length_is_pointed_at(predictor: Predictor, instance: Any) -> None:
    good = list(GOOD.values())
    found = refused(predictor.tables.of_instances, [good, instance])
    assert list(found) == ["/instances/1"]
    assert "carat, cut/grade, sold" in found["/instances/1"]


def test_columns_that_are_no_lists_or_of_unequal_length_are_pointed_at(
    predictor: Predictor,
) -> None:
    columns: dict[str, Any] = {name: [value, value] for name, value in GOOD.items()}
    assert list(refused(predictor.tables.of_columns, columns | {"sold": True})) == ["/columns/sold"]
    assert list(refused(predictor.tables.of_columns, columns | {"sold": [True]})) == [
        "/columns/sold"
    ]
    assert list(refused(predictor.tables.of_columns, {"carat": [1], "sold": [True]})) == [
        "/columns/cut~1grade"
    ]


def test_no_rows_are_refused(predictor: Predictor) -> None:
    with pytest.raises(InvalidRequest, match="no rows"):
        predictor.tables.of_rows([])
    with pytest.raises(InvalidRequest, match="no rows"):
        predictor.tables.of_instances([])
    with pytest.raises(InvalidRequest, match="no rows"):
        predictor.tables.of_columns({name: [] for name in FEATURES})


def test_at_most_twenty_mistakes_are_listed_and_none_at_length(predictor: Predictor) -> None:
    for wrong in ({"x" * 5000: 1}, GOOD | {"carat": "y" * 5000}):
        found = refused(predictor.tables.of_rows, [wrong] * 100)
        assert len(found) == 20
        assert max(len(detail) for detail in found.values()) < 300


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({"target": "stars", "task": "multiclass"}, {1, 2, 3}),
        ({"target": "kind"}, {"stone", "gem"}),
        ({"target": "kind", "loss": "cross_entropy"}, {"stone", "gem"}),
        ({"target": "heavy"}, {True, False}),
    ],
)
def test_labels_keep_their_type_and_probabilities_sum_to_one(
    train: Callable[..., Run], fields: dict[str, Any], labels: set[Any]
) -> None:
    predictor = train(**fields).predictor
    outputs = predictor.outputs(TABLE)
    chosen = predictor.predictions(outputs)
    assert {type(label) for label in chosen} == {type(label) for label in labels}
    assert set(chosen) <= labels
    names = {str(label).lower() if isinstance(label, bool) else str(label) for label in labels}
    for row, label in zip(predictor.probabilities(outputs), chosen, strict=True):
        assert row.keys() == names
        assert sum(row.values()) == pytest.approx(1.0)
        most = max(row, key=lambda name: row[name])
        assert most == (str(label).lower() if isinstance(label, bool) else str(label))


def test_several_numbers_are_objects(train: Callable[..., Run]) -> None:
    predictor = train(target=["price", "weight"], epochs=150).predictor
    first = predict(predictor, [GOOD])[0]
    assert list(first) == ["price", "weight"]
    assert first["price"] == pytest.approx(1550, rel=0.3)
    assert first["weight"] == pytest.approx(3.0, rel=0.3)


def test_several_booleans_are_objects_with_a_probability_each(train: Callable[..., Run]) -> None:
    predictor = train(target=["heavy", "dear"]).predictor
    outputs = predictor.outputs(TABLE)
    for row, shares in zip(
        predictor.predictions(outputs), predictor.probabilities(outputs), strict=True
    ):
        assert row == {name: share > 0.5 for name, share in shares.items()}
        assert all(type(value) is bool for value in row.values())


def test_a_regression_has_no_probabilities(predictor: Predictor) -> None:
    with pytest.raises(InvalidRequest, match="no probabilities"):
        predictor.probabilities(predictor.outputs(TABLE))


# ---------------------------------------------------------------- the model itself


def test_a_model_reloaded_from_disk_predicts_the_same(price: Run) -> None:
    first, again = price.predictor, price.predictor
    assert first is not again
    assert first.outputs(TABLE).tobytes() == again.outputs(TABLE).tobytes()


def test_the_model_on_disk_scores_as_the_run_reported(price: Run) -> None:
    test = TABLE.take(split_of(price.task.spec, TABLE).test)
    errors = np.array(predict(price.predictor, test.select(FEATURES).to_pylist()))
    errors -= test["price"].to_numpy()
    assert price.ended.test is not None
    assert price.ended.test["mae"] == pytest.approx(np.abs(errors).mean())


def test_the_untrained_model_is_another_and_always_the_same(predictor: Predictor) -> None:
    outputs = predictor.untrained().outputs(TABLE)
    assert outputs.tobytes() == predictor.untrained().outputs(TABLE).tobytes()
    assert outputs.tobytes() != predictor.outputs(TABLE).tobytes()


def test_parameters_and_summary_describe_the_module(price: Run) -> None:
    predictor = price.predictor
    parameters = predictor.parameters()
    counts = [math.prod(parameter["shape"]) for parameter in parameters]
    assert sum(counts) == price.ended.parameters
    assert 4 * price.ended.parameters < predictor.size_bytes < 100_000  # and the card
    assert sum(layer["parameters"] for layer in predictor.summary()) == price.ended.parameters
    for parameter in parameters:
        assert np.shape(parameter["values"]) == tuple(parameter["shape"])
        assert parameter["dtype"] == "float32"
    assert predictor.parameters(limit=sum(counts) - 1)[0]["values"] is None


def test_a_predictor_serves_several_threads(predictor: Predictor) -> None:
    expected = predictor.outputs(TABLE).tobytes()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: predictor.outputs(TABLE).tobytes(), range(64)))
    assert set(answers) == {expected}
