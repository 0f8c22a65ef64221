"""Single rows against tables: equal bit for bit, or left to the table."""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.ml.column_types.fitted import Matrix
from app.ml.features.encoder import FeatureEncoder
from app.ml.features.feature_tables import FeatureTables
from app.ml.features.fitting import fit_features
from app.ml.features.preprocessing import NumberTargets
from app.ml.features.row_encoder import RowEncoder
from app.ml.inference.predictor import Predictor
from app.ml.specs import PreprocessingSpec
from tests.support.soak import rounds
from tests.support.workbench import Workbench, table_of

# ---------------------------------------------------------------- features, fitted to anything

_SIZES = st.floats(-1e6, 1e6) | st.floats(-1e300, 1e300) | st.integers(-(2**53), 2**53).map(float)
_WORDS = st.text(max_size=4) | st.sampled_from(["a", "b", "ä", "青", "NA", " a"])
_MOMENTS = st.datetimes().map(lambda moment: moment.isoformat())
_DAYS = st.dates().map(lambda day: day.isoformat())
_TRAINED: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "number": (pa.float64(), _SIZES),
    "boolean": (pa.bool_(), st.booleans()),
    "category": (pa.string(), _WORDS),
    "moment": (pa.timestamp("us", "UTC"), st.datetimes()),
    "day": (pa.date32(), st.dates()),
}


@st.composite
def encoders(draw: st.DrawFn) -> FeatureEncoder:
    """Up to five features of any kind, fitted as some job would."""
    spec = PreprocessingSpec.model_validate(
        {
            "target": None,
            "numbers": draw(st.sampled_from(["standard", "robust", "quantile", "none"])),
            "categories": draw(st.sampled_from(["one_hot", "embedding"])),
        }
    )
    kinds = draw(st.lists(st.sampled_from([*_TRAINED]), min_size=1, max_size=5))
    length = draw(st.integers(1, 12))
    columns = {}
    for i, kind in enumerate(kinds):
        arrow, values = _TRAINED[kind]
        cell = values | st.none() if draw(st.booleans()) else values
        column = draw(st.lists(cell, min_size=length, max_size=length))
        columns[f"{i} {kind}"] = pa.array(column, arrow)
    return fit_features([*columns], spec, pa.table(columns))


_EXTREMES = [
    0.0,
    -0.0,
    5e-324,
    -1e-310,
    1e300,
    math.nextafter(1e300, 0),
    -1e300,
    1e305,
    3.4028235e38,
]
_ODD = [math.nan, math.inf, -math.inf, 2**53 + 1, -(2**63), 2**64 - 1, 10**400, True, "1", [], {}]
_NUMBERS = st.floats(-1e6, 1e6) | st.floats() | st.integers() | st.sampled_from(_EXTREMES)
_SENT: dict[str, st.SearchStrategy[Any]] = {
    "number": _NUMBERS,
    "boolean": st.booleans(),
    "category": _WORDS,
    "moment": _MOMENTS | _MOMENTS.map(lambda text: text + "+05:30") | _DAYS,
    "day": _DAYS | _MOMENTS,
}
_NONSENSE = st.sampled_from([*_ODD, "", "2026-02-30", "2026-11-23T09:30:00Zulu", "yes", 1, 0.5])


@st.composite
def encoders_and_rows(draw: st.DrawFn) -> tuple[FeatureEncoder, list[Any]]:
    encoder = draw(encoders())
    row = []
    for feature in encoder.features:
        known: list[Any] = list(getattr(feature, "categories", []))
        usual = _SENT[feature.name.partition(" ")[2]]
        cells = [usual, usual, st.none(), _NONSENSE]
        row.append(draw(st.one_of(*cells, *([st.sampled_from(known)] if known else []))))
    return encoder, row


def by_table(encoder: FeatureEncoder, row: list[Any]) -> Matrix | None:
    """What the way through a table makes of it; ``None`` where it is refused."""
    tables = FeatureTables(encoder.features, ["y"])
    try:
        return encoder.encode(tables.of_instances([row]))
    except InvalidInput:
        return None


def test_one_row_is_the_table_of_one_row_bit_for_bit() -> None:
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()

    @settings(max_examples=rounds(60, 1500), deadline=None, derandomize=True, database=None)
    @given(encoders_and_rows())
    def agree(case: tuple[FeatureEncoder, list[Any]]) -> None:
        encoder, row = case
        rows = RowEncoder(encoder)
        found, expected = rows.of_values(row), by_table(encoder, row)
        named = rows.of_object(dict(zip(rows.names, row, strict=True)))
        assert (named is None) == (found is None)
        if found is None:
            outcomes["left to the table" if expected is not None else "refused by both"] += 1
            return
        assert named is not None
        assert expected is not None, "a row that the table refuses has been encoded"
        assert found.dtype == expected.dtype == np.float32
        assert found.shape == expected.shape == (1, encoder.width)
        assert found.tobytes() == expected.tobytes()
        assert named.tobytes() == found.tobytes()
        outcomes["equal"] += 1
        kinds.update(feature.type for feature in encoder.features)

    agree()
    print(dict(outcomes), dict(kinds))
    assert min(outcomes["equal"], outcomes["refused by both"]) >= 10
    assert {"number", "boolean", "category", "datetime"} <= kinds.keys()


def test_what_is_usual_is_not_left_to_the_table() -> None:
    """Or the quick way would be right, and never taken."""
    table = table_of(
        {
            "n": [1.5, None, 3.0],
            "b": [True, None, False],
            "c": ["x", None, "y"],
            "t": ["2026-11-23T09:30:00Z", None, "2026-11-24T10:00:00Z"],
            "d": ["2026-11-23", None, "2026-11-24"],
        }
    )
    values: dict[str, list[Any]] = {
        "n": [2, -0.0, None],
        "b": [True, False, None],
        "c": ["x", "unseen", None],
        "t": ["2026-11-23T09:30:00Z", None],
        "d": ["2026-11-23", None],
    }
    count = 0
    kinds = ("standard", "robust", "quantile", "none")
    for numbers, categories in (*((kind, "one_hot") for kind in kinds), ("none", "embedding")):
        how = {"target": None, "numbers": numbers, "categories": categories}
        spec = PreprocessingSpec.model_validate(how)
        encoder = fit_features(table.column_names, spec, table)
        rows = RowEncoder(encoder)
        for row in itertools.product(*values.values()):
            found, expected = rows.of_values(row), by_table(encoder, list(row))
            assert found is not None, row
            assert expected is not None
            assert found.tobytes() == expected.tobytes(), row
            count += 1
    print(count, "rows")


@pytest.mark.parametrize("categories", ["one_hot", "embedding"])
def test_labels_that_were_folded_are_in_what_is_predicted(categories: str) -> None:
    table = table_of({"city": ["Berlin", "Bonn", "Berlin"]})
    spec = PreprocessingSpec.model_validate({"target": None, "categories": categories})
    strict, folded = (
        fit_features(["city"], spec, table, folded=names) for names in ((), ("city",))
    )
    berlin, unseen = by_table(folded, ["Berlin"]), by_table(strict, [" BERLIN"])
    assert berlin is not None
    assert unseen is not None
    assert by_table(folded, [" BERLIN"]).tobytes() == berlin.tobytes() != unseen.tobytes()  # type: ignore[union-attr]
    assert RowEncoder(folded).of_values(["Berlin"]).tobytes() == berlin.tobytes()  # type: ignore[union-attr]
    assert RowEncoder(folded).of_values([" BERLIN"]) is None, "left to the table path"
    assert by_table(folded, ["Bern"]) is not None
    assert by_table(folded, [None]) is not None


@pytest.mark.parametrize("row", [[], [1.0], [1.0, "x", 2.0], {}, None, "ab", {"n": 1.0, "d": "x"}])
def test_other_names_and_widths_are_left_to_the_table(row: Any) -> None:
    table = table_of({"n": [1.0, 2.0], "c": ["x", "y"]})
    spec = PreprocessingSpec.model_validate({"target": None})
    rows = RowEncoder(fit_features(["n", "c"], spec, table))
    assert rows.of_object(row) is None
    if isinstance(row, list):
        assert rows.of_values(row) is None


# ---------------------------------------------------------------- answers


@settings(
    max_examples=rounds(30, 600),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.floats(-1e6, 1e6) | st.sampled_from([1e-300, 1e300]),
    st.floats(1e-6, 1e6) | st.sampled_from([1e-250, 1e250]),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9),
)
def test_one_answer_is_that_of_a_batch(center: float, scale: float, outputs: list[float]) -> None:
    target = NumberTargets(names=["y"], center=[center], scale=[scale])
    batch = np.array(outputs, np.float32)[:, None]
    together = _predictions(target, batch)
    alone = [_predictions(target, batch[i : i + 1])[0] for i in range(len(batch))]
    assert np.array(alone).tobytes() == np.array(together).tobytes()
    assert {type(value) for value in alone} == {float}


def _predictions(target: NumberTargets, outputs: Matrix) -> list[Any]:
    predictor = object.__new__(Predictor)  # only its target is asked
    predictor.target = target
    return predictor.predictions(outputs)


@pytest.mark.parametrize("target", ["y", ["y", "z"], "label", "flag", ["flag", "other"]])
def test_answers_of_every_kind_of_target(workbench: Workbench, target: Any) -> None:
    size = 40
    table = table_of(
        {
            "x": [float(i) for i in range(size)],
            "y": [i / 3 for i in range(size)],
            "z": [-float(i) for i in range(size)],
            "label": ["abc"[i % 3] for i in range(size)],
            "flag": [i % 2 == 0 for i in range(size)],
            "other": [i > 9 for i in range(size)],
        }
    )
    model = {"kind": "mlp", "hidden": [4]}
    run = workbench.train(table, target=target, features=["x"], epochs=2, model=model)
    predictor = run.predictor
    outputs = predictor.outputs(predictor.tables.of_instances([[i / 2] for i in range(70)]))
    together = predictor.predictions(outputs)
    alone = [predictor.predictions(outputs[i : i + 1])[0] for i in range(len(outputs))]
    assert alone == together
    assert [type(value) for value in alone] == [type(value) for value in together]
