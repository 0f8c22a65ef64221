"""Predictions from datetimes and from categories that are looked up."""

import math
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidRequest
from app.ml.inference.predictor import Predictor
from tests.support.workbench import Run, Workbench, table_of

ROWS = 160
TABLE = table_of(
    {
        "at": [
            None if i % 20 == 0 else f"2026-{1 + i % 12:02}-{1 + i % 28:02}T{i % 24:02}:00:00Z"
            for i in range(ROWS)
        ],
        "day/off": [f"2026-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(ROWS)],
        "city": [None if i % 9 == 0 else f"city {i % 70}" for i in range(ROWS)],
        "y": [float(i % 12) for i in range(ROWS)],
    }
)
FEATURES = ["at", "day/off", "city"]
GOOD: dict[str, Any] = {"at": "2026-11-23T09:30:00Z", "day/off": "2026-11-23", "city": "city 1"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    workbench = Workbench(tmp_path_factory.mktemp("models"))
    model = {"kind": "mlp", "hidden": [8]}
    return workbench.train(TABLE, features=FEATURES, epochs=5, model=model)


@pytest.fixture(scope="module")
def predictor(run: Run) -> Predictor:
    return run.predictor


def predict(predictor: Predictor, *rows: dict[str, Any]) -> list[Any]:
    return predictor.predictions(predictor.outputs(predictor.tables.of_rows(rows)))


def refused(predictor: Predictor, *rows: dict[str, Any]) -> dict[str, str]:
    """Pointer to detail of every error."""
    with pytest.raises(InvalidRequest) as caught:
        predictor.tables.of_rows(rows)
    return {error.pointer: error.detail for error in caught.value.errors}


def in_json() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = TABLE.select(FEATURES).to_pylist()
    for row in rows:
        for name in FEATURES[:2]:
            row[name] = row[name] and row[name].isoformat()
    return rows


def test_rows_columns_and_instances_give_identical_predictions(predictor: Predictor) -> None:
    rows = in_json()
    answers = [
        predictor.predictions(predictor.outputs(table))
        for table in (
            TABLE,
            predictor.tables.of_rows(rows),
            predictor.tables.of_columns({name: [row[name] for row in rows] for name in FEATURES}),
            predictor.tables.of_instances([list(row.values()) for row in rows]),
        )
    ]
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert len(set(answers[0])) > ROWS / 4


def test_one_moment_may_be_written_in_many_ways(predictor: Predictor) -> None:
    expected = predict(predictor, GOOD)
    for at in (
        "2026-11-23T09:30:00",
        "2026-11-23 09:30",
        "2026-11-23T11:30:00+02:00",
        "2026-11-23T04:00:00-0530",
        "2026-11-23T09:30:00.000000Z",
        "2026-11-23T09:30:00.000000999Z",
        " 2026-11-23T09:30:00Z ",
    ):
        assert predict(predictor, GOOD | {"at": at}) == expected


def test_moments_with_and_without_zones_stand_side_by_side(predictor: Predictor) -> None:
    ats = ["2026-11-23T09:30:00", None, "2026-11-23T10:30:00+02:00", "2026-11-23", "2026-11-24T00Z"]
    rows = [GOOD | {"at": at} for at in ats]
    together = predict(predictor, *rows)
    assert together == pytest.approx([predict(predictor, row)[0] for row in rows], abs=1e-5)
    assert len(set(together)) == len(ats)


def test_a_day_may_come_with_its_time(predictor: Predictor) -> None:
    midnight = predict(predictor, GOOD | {"day/off": "2026-11-23T00:00:00Z"})
    assert midnight == predict(predictor, GOOD)
    assert math.isfinite(predict(predictor, GOOD | {"day/off": "2026-11-23T12:00"})[0])


@pytest.mark.parametrize(
    "wrong",
    ["today", "31.11.2026", "2026-02-30", "2026-11-23T24:00:00", "2026-13-01", 20261123, True],
)
def test_what_is_no_datetime_is_pointed_at(predictor: Predictor, wrong: Any) -> None:
    found = refused(predictor, GOOD, GOOD | {"day/off": wrong}, GOOD)
    assert list(found) == ["/rows/1/day~1off"]
    assert "wants an ISO 8601 date" in found["/rows/1/day~1off"]
    columns: dict[str, list[Any]] = {name: [value] for name, value in GOOD.items()}
    with pytest.raises(InvalidRequest) as caught:
        predictor.tables.of_columns(columns | {"day/off": [wrong]})
    assert [error.pointer for error in caught.value.errors] == ["/columns/day~1off/0"]


def test_every_wrong_one_is_pointed_at_among_zoned_and_naive(predictor: Predictor) -> None:
    ats = ["2026-11-23T09:30:00Z", "soon", "2026-11-23", None, "later"]
    found = refused(predictor, *[GOOD | {"at": at} for at in ats])
    assert list(found) == ["/rows/1/at", "/rows/4/at"]
    assert len(refused(predictor, *[GOOD | {"at": "soon"}] * 100)) == 20


def test_the_first_and_the_last_year_are_predicted_from(predictor: Predictor) -> None:
    for at in ("0001-01-01", "9999-12-31T23:59:59.999999Z"):
        assert math.isfinite(predict(predictor, GOOD | {"at": at})[0])
    assert list(refused(predictor, GOOD | {"at": "10000-01-01"})) == ["/rows/0/at"]


def test_a_missing_datetime_is_zeros_and_an_indicator(predictor: Predictor) -> None:
    encode = predictor.card.preprocessing.features.encode
    row = encode(predictor.tables.of_rows([GOOD | {"at": None}]))[0]
    assert row[:10].tolist() == [0] * 9 + [1]
    assert math.isfinite(predict(predictor, GOOD | {"at": None})[0])


def test_unseen_categories_are_alike_and_another_than_missing(predictor: Predictor) -> None:
    unseen, other, missing, known = (
        predict(predictor, GOOD | {"city": city}) for city in ("Ulm", "Bonn", None, "city 2")
    )
    assert unseen == other
    assert len({unseen[0], missing[0], known[0], predict(predictor, GOOD)[0]}) == 4


def test_a_model_with_embeddings_survives_the_disk(run: Run) -> None:
    first, again = run.predictor, run.predictor
    assert first is not again
    assert first.outputs(TABLE).tobytes() == again.outputs(TABLE).tobytes()
    assert first.card == again.card
    assert first.untrained().outputs(TABLE).tobytes() != first.outputs(TABLE).tobytes()


def test_its_parameters_and_summary_show_the_embedding(run: Run) -> None:
    predictor = run.predictor
    by_name = {parameter["name"]: parameter["shape"] for parameter in predictor.parameters()}
    inputs = predictor.card.preprocessing.features.inputs
    assert by_name["embeddings.0.weight"] == list(inputs.embeddings[0])
    total = sum(int(np.prod(shape)) for shape in by_name.values())
    assert total == run.ended.parameters
    assert sum(layer["parameters"] for layer in predictor.summary()) == total
