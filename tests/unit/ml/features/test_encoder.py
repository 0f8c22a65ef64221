"""Every encoder against plain numpy, fitted on the training part only."""

import json
import math
from datetime import UTC, date, datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ml.column_types.arrays import as_dictionary, codes, floats
from app.ml.column_types.categories import (
    EMBEDDING_LIMIT,
    ONE_HOT_AUTO,
    CategoryFeature,
    embedding_size,
)
from app.ml.column_types.datetimes import DatetimeFeature
from app.ml.column_types.fitted import Matrix
from app.ml.column_types.numbers import NumberFeature
from app.ml.features.encoder import FeatureEncoder
from app.ml.features.fitting import fit_features
from app.ml.specs import Inputs, PreprocessingSpec
from tests.support.workbench import table_of


def how(**preprocessing: Any) -> PreprocessingSpec:
    return PreprocessingSpec.model_validate({"target": None, **preprocessing})


def fitted(train: list[Any], **preprocessing: Any) -> FeatureEncoder:
    """The encoder of one feature ``x``."""
    return fit_features(["x"], how(**preprocessing), table_of({"x": train}))


def encoded(encoder: FeatureEncoder, values: list[Any], kind: pa.DataType | None = None) -> Matrix:
    return encoder.encode(pa.table({"x": pa.array(values, kind)}))


# ---------------------------------------------------------------- numbers


@given(
    st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1, max_size=30),
    st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1, max_size=10),
    st.sampled_from(["standard", "robust", "none"]),
)
def test_numbers_are_scaled_as_numpy_would(
    train: list[float | None], rows: list[float | None], scaling: str
) -> None:
    if all(value is None for value in train):
        return
    encoder = fit_features(
        ["x"], how(numbers=scaling), pa.table({"x": pa.array(train, pa.float64())})
    )
    present = np.array([value for value in train if value is not None])
    center, scale, fill = 0.0, 1.0, present.mean()
    if scaling != "none":
        center, scale = present.mean(), present.std()
    if scaling == "robust":
        low, center, high = np.quantile(present, [0.25, 0.5, 0.75])
        scale, fill = high - low if high > low else scale, center
    if scale <= 1e-9 * max(1.0, np.abs(present).max()):
        return  # a spread of nothing is another test's
    found = encoded(encoder, rows, pa.float64())
    expected = [((fill if v is None else v) - center) / scale for v in rows]
    assert found[:, 0] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    if None in train:
        assert found[:, 1].tolist() == [value is None for value in rows]
    assert found.shape[1] == encoder.width == 1 + (None in train)


def test_quantiles_make_any_distribution_roughly_normal() -> None:
    random = np.random.default_rng(0)
    for values in (random.exponential(size=5000) ** 3, random.uniform(size=5000)):
        made = encoded(fitted(values.tolist(), numbers="quantile"), values.tolist())[:, 0]
        assert abs(made.mean()) < 0.02
        assert made.std() == pytest.approx(1, abs=0.03)
        shares = [float((made < score).mean()) for score in (-2, -1, 0, 1, 2)]
        expected = [NormalDist().cdf(score) for score in (-2, -1, 0, 1, 2)]
        assert shares == pytest.approx(expected, abs=0.01)


@given(
    st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=50),
    st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=50),
)
def test_quantiles_keep_the_order_and_survive_json(train: list[float], rows: list[float]) -> None:
    encoder = fit_features(["x"], how(numbers="quantile"), pa.table({"x": train}))
    rows = sorted(rows)
    found = encoded(encoder, rows)[:, 0]
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()
    again = FeatureEncoder.model_validate(json.loads(encoder.model_dump_json()))
    assert again == encoder
    assert encoded(again, rows).tobytes() == encoded(encoder, rows).tobytes()


def test_quantiles_are_the_normal_scores_of_places() -> None:
    encoder = fitted([10.0, 20.0, 30.0, 40.0], numbers="quantile")
    [feature] = encoder.features
    assert isinstance(feature, NumberFeature)
    places = np.quantile([10, 20, 30, 40], [0.125, 0.375, 0.625, 0.875])
    assert feature.knots == pytest.approx(places)
    scores = [NormalDist().inv_cdf(place) for place in (0.125, 0.375, 0.625, 0.875)]
    assert feature.scores == pytest.approx(scores)
    assert encoded(encoder, [-1e9, 25.0, 1e9])[:, 0] == pytest.approx([scores[0], 0, scores[-1]])


def test_repeated_values_share_the_middle_of_their_places() -> None:
    encoder = fitted([0.5] * 9 + [7.5], numbers="quantile")
    assert np.isfinite(encoded(encoder, [0.5, 3.0, 7.5])).all()
    constant = fitted([5.5, 5.5, 5.5, 5.5], numbers="quantile")
    assert encoded(constant, [5.5, 1.0, 9.0])[:, 0] == pytest.approx(0, abs=1e-6)


def test_missing_numbers_are_the_median_where_scaling_is_by_quantiles() -> None:
    encoder = fitted([1.0, None, 2.0, 1e9], numbers="quantile")
    assert encoded(encoder, [None, 2.0]).tolist() == [[0.0, 1.0], [0.0, 0.0]]


# ---------------------------------------------------------------- categories


def test_up_to_64_categories_are_one_hot_and_more_are_embedded() -> None:
    for count in (ONE_HOT_AUTO, ONE_HOT_AUTO + 1):
        [feature] = fitted([f"c{i}" for i in range(count)]).features
        assert isinstance(feature, CategoryFeature)
        assert (feature.embedding is None) == (count == ONE_HOT_AUTO)
        assert feature.width == (count if count == ONE_HOT_AUTO else 1)


@pytest.mark.parametrize(
    ("wanted", "categories", "size"),
    [
        ("auto", 64, None),
        ("auto", 65, 17),
        ("one_hot", 5000, None),
        ("embedding", 0, 1),
        ("embedding", 1, 2),
        ("embedding", 10, 6),
        ("embedding", 500, 52),
        ("embedding", 1_000_000, 64),
    ],
)
def test_the_size_of_an_embedding(wanted: str, categories: int, size: int | None) -> None:
    assert embedding_size(wanted, categories) == size


def test_codes_of_an_embedding_have_a_place_for_unseen_and_for_missing() -> None:
    encoder = fitted(["b", "a", "b", "c", None], categories="embedding")
    assert encoded(encoder, ["b", "a", "c", "unseen", None])[:, 0].tolist() == [2, 3, 4, 0, 1]
    assert encoder.inputs == Inputs(0, ((5, 3),))
    never_missing = fitted(["b", "a", "b"], categories="embedding")
    assert encoded(never_missing, [None, "a", "?"])[:, 0].tolist() == [1, 3, 0]


def test_the_rarest_categories_share_the_place_of_unseen_ones() -> None:
    names = [f"c{i:06}" for i in range(EMBEDDING_LIMIT + 10)]
    encoder = fitted(names + names[:EMBEDDING_LIMIT], categories="embedding")
    assert encoder.inputs.embeddings == ((EMBEDDING_LIMIT + 2, 64),)
    found = encoded(encoder, [names[0], names[EMBEDDING_LIMIT - 1], names[EMBEDDING_LIMIT]])
    assert found[:, 0].tolist() == [2, EMBEDDING_LIMIT + 1, 0]


@given(
    st.lists(st.none() | st.sampled_from("abcdef"), min_size=1, max_size=30),
    st.lists(st.none() | st.sampled_from("abcdefgh"), min_size=1, max_size=10),
    st.sampled_from(["one_hot", "embedding"]),
)
def test_categories_are_counted_as_python_would(
    train: list[str | None], rows: list[str | None], way: str
) -> None:
    table = pa.table({"x": pa.array(train, pa.string())})
    encoder = fit_features(["x"], how(categories=way), table)
    known = {v: train.count(v) for v in train if v is not None}
    order = sorted(known, key=lambda value: (-known[value], value))
    found = encoded(encoder, rows, pa.string())
    if way == "embedding":
        place: dict[str | None, int] = {value: i + 2 for i, value in enumerate(order)}
        assert found[:, 0].tolist() == [(place | {None: 1}).get(value, 0) for value in rows]
        return
    slots = [*order, *([None] if None in train else [])]
    assert found.tolist() == [[float(value == slot) for slot in slots] for value in rows]


def test_codes_are_minus_one_where_nothing_fits() -> None:
    plain = pa.chunked_array([["a", None], ["z", "b"]])
    values = pa.array(["b", "a"])
    for column in (plain, as_dictionary(plain), plain.dictionary_encode()):
        assert codes(column, values).tolist() == [1, -1, -1, 0]
    assert (
        codes(pa.chunked_array([], pa.dictionary(pa.int32(), pa.string())), values).tolist() == []
    )
    gap = pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([0, 1]), ["a", None])])
    assert codes(gap, values).tolist() == [1, -1]


# ---------------------------------------------------------------- datetimes


def parts_of(moment: datetime, *, time: bool) -> list[float]:
    """Sine and cosine of where a moment is in its year, month, week and day."""
    year = date(moment.year, 1, 1)
    days_of_year = (date(moment.year, 12, 31) - year).days + 1
    month = date(moment.year, moment.month, 1)
    following = (month + timedelta(days=32)).replace(day=1)
    shares = [
        (moment.date() - year).days / days_of_year,
        (moment.day - 1) / (following - month).days,
        moment.weekday() / 7,
    ]
    if time:
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        shares.append((moment - midnight) / timedelta(days=1))
    return [f(2 * math.pi * share) for share in shares for f in (math.sin, math.cos)]


def datetime_feature(**fields: Any) -> FeatureEncoder:
    values = {"name": "x", "center": 0.0, "scale": 1.0, "time": True, "indicator": False}
    return FeatureEncoder(features=[DatetimeFeature(**(values | fields))])


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1970, 1, 1),
        datetime(2024, 2, 29, 12),
        datetime(2024, 12, 31, 23, 59, 59),
        datetime(2025, 12, 31, 6),
        datetime(2026, 11, 23, 9, 30),
        datetime(1969, 12, 31, 23, 59, 59, 999_999),
        datetime(1900, 2, 28, 18),
        datetime(2000, 2, 29),
        datetime(1, 1, 1),
    ],
)
def test_known_moments_have_the_parts_of_a_calendar(moment: datetime) -> None:
    found = encoded(datetime_feature(), [moment], pa.timestamp("us"))[0]
    assert found[1:] == pytest.approx(parts_of(moment, time=True), abs=1e-5)
    days = (moment - datetime(1970, 1, 1)) / timedelta(days=1)
    assert found[0] == pytest.approx(days, rel=1e-6)
    without = datetime_feature(time=False)
    assert encoded(without, [moment.date()])[0, 1:] == pytest.approx(
        parts_of(moment, time=False), abs=1e-5
    )


@given(st.datetimes(datetime(1600, 1, 1), datetime(2400, 1, 1)))
def test_any_moment_has_the_parts_of_a_calendar(moment: datetime) -> None:
    found = encoded(datetime_feature(), [moment], pa.timestamp("us"))[0]
    assert found[1:] == pytest.approx(parts_of(moment, time=True), abs=1e-5)


def test_a_known_day_is_written_out() -> None:
    """A Thursday, the first of its month and year."""
    found = encoded(datetime_feature(time=False), [date(1970, 1, 1)])[0].tolist()
    week = 2 * math.pi * 3 / 7
    expected = [0, 0, 1, 0, 1, math.sin(week), math.cos(week)]
    assert found == pytest.approx(expected)


def test_zones_are_utc_and_midnights_are_days() -> None:
    naive = datetime(2026, 11, 23, 9, 30)
    utc = encoded(datetime_feature(), [naive.replace(tzinfo=UTC)], pa.timestamp("us", "UTC"))
    assert utc.tobytes() == encoded(datetime_feature(), [naive], pa.timestamp("us")).tobytes()


def test_datetimes_are_fitted_by_their_mean_and_spread_in_days() -> None:
    days = ["2026-11-20", "2026-11-21", None, "2026-11-25"]
    encoder = fitted(days)
    [feature] = encoder.features
    assert isinstance(feature, DatetimeFeature)
    numbers = [(date.fromisoformat(day) - date(1970, 1, 1)).days for day in days if day]
    assert feature.center == pytest.approx(np.mean(numbers))
    assert feature.scale == pytest.approx(np.std(numbers))
    assert (feature.time, feature.indicator, feature.width) == (False, True, 8)
    found = encoder.encode(table_of({"x": days}))
    assert found[2].tolist() == [0] * 7 + [1]
    assert found[:, 0] == pytest.approx(
        [0 if day is None else (numbers[0] - feature.center) / feature.scale for day in days[:1]]
        + [(numbers[1] - feature.center) / feature.scale, 0]
        + [(numbers[2] - feature.center) / feature.scale]
    )


@pytest.mark.parametrize(
    ("values", "width"),
    [
        (["2026-11-20", "2026-11-21"], 7),
        (["2026-11-20", None], 8),
        (["2026-11-20T09:30:00", "2026-11-21"], 9),
        (["2026-11-20T09:30:00Z", None], 10),
    ],
)
def test_the_width_of_a_datetime(values: list[str | None], width: int) -> None:
    encoder = fitted(values)
    assert encoder.width == width
    assert encoder.encode(table_of({"x": values})).shape == (2, width)


def test_datetimes_that_are_missing_throughout_training() -> None:
    table = pa.table({"x": pa.array([None, None], pa.date32())})
    encoder = fit_features(["x"], how(), table)
    assert encoder.encode(table).tolist() == [[0] * 7 + [1]] * 2
    assert np.isfinite(encoded(encoder, [date(2026, 11, 23), None])).all()


def test_one_day_repeated_is_no_spread() -> None:
    encoder = fitted(["2026-11-23"] * 5)
    assert encoded(encoder, [date(2026, 11, 24)])[0, 0] == pytest.approx(1)


# ---------------------------------------------------------------- the whole matrix

MIXED = {
    "n": st.none() | st.floats(-1e6, 1e6),
    "i": st.integers(-1000, 1000),
    "b": st.none() | st.booleans(),
    "c": st.none() | st.sampled_from(["x", "y", "zz", "größe", ""]),
    "e": st.none() | st.sampled_from([f"e{i}" for i in range(9)]),
    "d": st.none() | st.dates(),
    "t": st.none() | st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),
}
TYPES = [
    pa.float64(),
    pa.int64(),
    pa.bool_(),
    pa.string(),
    pa.string(),
    pa.date32(),
    pa.timestamp("us"),
]
SCHEMA = pa.schema(list(zip(MIXED, TYPES, strict=True)))
ROWS = st.lists(st.fixed_dictionaries(MIXED), min_size=1, max_size=12)
BASE = pa.table(
    {
        "n": [1.5, None, 2.5, 9.0],
        "i": [1, 2, 3, 4],
        "b": [True, False, None, True],
        "c": ["x", "y", None, "x"],
        "e": [f"e{i}" for i in range(4)],
        "d": [date(2026, 11, 23), date(2024, 2, 29), None, date(1969, 1, 1)],
        "t": [datetime(2026, 11, 23, 9, 30), datetime(1969, 1, 1), None, datetime(2000, 1, 1)],
    },
    schema=SCHEMA,
)


def base_encoder(numbers: str = "standard") -> FeatureEncoder:
    encoder = fit_features(list(MIXED), how(numbers=numbers), BASE)
    features = [
        item.model_copy(update={"embedding": 3}) if item.name == "e" else item
        for item in encoder.features
    ]
    return FeatureEncoder.model_validate({"features": features})


ENCODERS = {numbers: base_encoder(numbers) for numbers in ("standard", "quantile")}


@given(ROWS, st.sampled_from(sorted(ENCODERS)), st.data())
def test_rows_are_encoded_the_same_however_they_come(
    rows: list[dict[str, Any]], numbers: str, data: st.DataObject
) -> None:
    """Plain or as dictionaries, in one chunk or many, all together or one by one."""
    encoder = ENCODERS[numbers]
    whole = pa.Table.from_pylist(rows, SCHEMA)
    expected = encoder.encode(whole)
    assert expected.shape == (len(rows), encoder.width)
    cut = data.draw(st.integers(0, len(rows)))
    chunked = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    dictionaries = [as_dictionary(column) for column in whole.columns]
    pieces = [
        column.dictionary_encode() if pa.types.is_string(column.type) else column
        for column in chunked.columns
    ]
    for table in (
        chunked,
        pa.table(dictionaries, names=whole.column_names),
        pa.table(pieces, names=whole.column_names),
        whole.select(whole.column_names[::-1]),
    ):
        assert encoder.encode(table).tobytes() == expected.tobytes()
    singly = [encoder.encode(whole.slice(i, 1)) for i in range(len(rows))]
    assert np.concatenate(singly).tobytes() == expected.tobytes()
    again = FeatureEncoder.model_validate_json(encoder.model_dump_json())
    assert again.encode(whole).tobytes() == expected.tobytes()


def test_long_tables_are_encoded_in_steps_with_the_same_result() -> None:
    encoder = ENCODERS["standard"]
    rows = 1 + (1 << 19) // encoder.width * 2
    long = pa.concat_tables([BASE] * (rows // 4 + 1)).slice(0, rows)
    found = encoder.encode(long)
    small = encoder.encode(BASE)
    assert found.tobytes() == np.tile(small, (rows // 4 + 1, 1))[:rows].tobytes()


def test_codes_stand_behind_what_is_multiplied() -> None:
    encoder = ENCODERS["standard"]
    found = encoder.encode(BASE)
    assert encoder.inputs[:2] == Inputs(encoder.width - 1, ((6, 3),))[:2]
    assert encoder.inputs.width == encoder.width == found.shape[1]
    assert found[:, -1].tolist() == [2, 3, 4, 5]


def test_no_rows_are_an_empty_matrix() -> None:
    for encoder in ENCODERS.values():
        assert encoder.encode(BASE.slice(0, 0)).shape == (0, encoder.width)


def test_integers_that_floats_cannot_tell_apart_are_features_all_the_same() -> None:
    column = pa.chunked_array([pa.array([2**60 + 1, -(2**62) - 1, None])])
    assert floats(column)[:2].tolist() == [2.0**60, -(2.0**62)]
    assert np.isnan(floats(column)[2])
