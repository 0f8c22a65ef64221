"""Texts as numbers: the same by the row and by the table, kept in JSON, and worth learning from."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ml.column_types.texts import (
    DIMENSIONS,
    TextFeature,
    fit_text,
    pairs_of,
    pieces_of,
    words_of,
)
from app.ml.features.encoder import FeatureEncoder
from app.ml.features.fitting import fit_features
from app.ml.features.row_encoder import RowEncoder
from app.ml.specs import PreprocessingSpec

SENTENCE = "the cat sat on a red mat while two dogs ran home through cold rain and deep snow"
WORDS = SENTENCE.split()
TEXTS = [" ".join(WORDS[(i * 7 + j * j) % len(WORDS)] for j in range(6)) for i in range(60)]


def column(texts: list[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, pa.string())])


def fitted(texts: list[str | None]) -> FeatureEncoder:
    spec = PreprocessingSpec(target=None)
    return fit_features(["t"], spec, pa.table({"t": column(texts)}), ["t"])


def test_terms_are_words_pairs_and_pieces() -> None:
    words = words_of("Déjà vu!")
    assert words == ["déjà", "vu"]
    assert pairs_of(words) == ["déjà vu"]
    assert pieces_of("vu") == ["\0 vu", "\0vu ", "\0 vu "]
    assert pieces_of("déjà")[:4] == ["\0 dé", "\0déj", "\0éjà", "\0jà "]


def test_the_width_is_bounded_and_stands_with_the_inputs() -> None:
    encoder = fitted([*TEXTS, None])
    (feature,) = encoder.features
    assert feature.width <= DIMENSIONS + 1
    assert encoder.width == feature.width == encoder.inputs.dense
    assert encoder.inputs.numbers == ()


@settings(deadline=None)
@given(
    st.lists(st.none() | st.text(max_size=20) | st.sampled_from(TEXTS), min_size=1, max_size=30),
    st.lists(st.none() | st.text(max_size=20) | st.sampled_from(TEXTS), min_size=1, max_size=10),
)
def test_a_row_is_a_row_of_a_table_bit_for_bit(
    train: list[str | None], asked: list[str | None]
) -> None:
    encoder = FeatureEncoder.model_validate_json(fitted(train).model_dump_json())
    assert encoder.encode(pa.table({"t": column(train)})).tobytes() == (
        fitted(train).encode(pa.table({"t": column(train)})).tobytes()
    )
    matrix = encoder.encode(pa.table({"t": column(asked)}))
    assert np.isfinite(matrix).all()
    for row, text in zip(matrix, asked, strict=True):
        alone = RowEncoder(encoder).of_object({"t": text})
        if text is None or "\0" not in text:
            assert alone is not None
            assert alone.tobytes() == row.tobytes()


def test_gaps_and_unknown_words() -> None:
    encoder = fitted([*TEXTS, None])
    empty, gap, unknown = encoder.encode(pa.table({"t": column(["", None, "xyzzy"])}))
    assert not empty.any()
    assert not unknown[:-1].any()
    assert gap.tolist() == [0.0] * (encoder.width - 1) + [1.0]


@pytest.mark.parametrize(
    "texts", [[None, None], ["a"], ["", ""], ["one text"] * 5, ["雨 雪", "猫"]]
)
def test_columns_of_nearly_nothing_have_a_fit(texts: list[str | None]) -> None:
    encoder = fitted(texts)
    assert np.isfinite(encoder.encode(pa.table({"t": column(texts)}))).all()


def test_it_is_kept_in_half_precision_without_a_difference() -> None:
    feature = fit_text("t", column(list(TEXTS)), indicator=False)
    kept = feature.model_dump_json()
    again = TextFeature.model_validate_json(kept)
    assert again.model_dump_json() == kept
    assert len(kept) < 2 * 4096 * DIMENSIONS * 2
    assert json.loads(kept)["terms"] == feature.terms


def test_texts_alike_lie_together() -> None:
    weather = [f"it rains and snows in town {i}, cold rain and deep snow" for i in range(30)]
    pets = [f"the cat and the dog {i} sat on a red mat at home" for i in range(30)]
    encoder = fitted([*weather, *pets])
    groups: list[list[str | None]] = [[*weather], [*pets]]
    means = [encoder.encode(pa.table({"t": column(group)})).mean(axis=0) for group in groups]
    asked = encoder.encode(pa.table({"t": column(["deep cold snow", "a dog on the mat"])}))
    nearest = [min((0, 1), key=lambda kind: float(abs(x - means[kind]).sum())) for x in asked]
    assert nearest == [0, 1]
