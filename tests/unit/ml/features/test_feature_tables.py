"""Tables of features as clients send them: files and Arrow streams."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.errors import InvalidData, InvalidRequest
from app.ml.features.encoder import FeatureEncoder
from app.ml.features.feature_tables import FeatureTables
from app.ml.features.fitting import fit_features
from app.ml.features.row_encoder import RowEncoder
from app.ml.specs import PreprocessingSpec
from app.ml.tables.columns import MAX_CELL_BYTES
from tests.support.workbench import table_of

TRAINED = table_of(
    {
        "n": [0.5, None, 2.5, 3.0],
        "b": [True, None, False, True],
        "c": ["x", None, "y", "x"],
        "t": ["2026-11-23T09:30:00Z", None, "2026-11-24T10:00:00Z", "2026-11-25T10:00:00Z"],
        "d": ["2026-11-23", None, "2026-11-24", "2026-11-25"],
    }
)
NAMES = TRAINED.column_names


def encoder(numbers: str = "standard") -> FeatureEncoder:
    how = {"target": None, "numbers": numbers}
    return fit_features(NAMES, PreprocessingSpec.model_validate(how), TRAINED)


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.null(), pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.bool_()),
        *(pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(9, 2)),
        *(pa.date32(), pa.date64(), pa.timestamp("ns", "Europe/Berlin"), pa.timestamp("s")),
        pa.dictionary(pa.int8(), pa.string()),
        pa.list_(pa.int8()),
    ],
    ids=str,
)
def test_a_column_of_gaps_is_one_whatever_its_type(kind: pa.DataType) -> None:
    """A file of one row has such columns, and says of them what it likes."""
    fitted = encoder()
    tables = FeatureTables(fitted.features, ["y"])
    expected = fitted.encode(tables.of_rows([dict.fromkeys(NAMES)] * 3))
    columns = pa.table({name: pa.nulls(3, kind) for name in NAMES})
    assert fitted.encode(tables.of_table(columns)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("numbers", ["standard", "robust", "quantile", "none"])
def test_nan_is_missing_and_infinity_refused_however_numbers_are_scaled(numbers: str) -> None:
    fitted = encoder(numbers)
    tables = FeatureTables(fitted.features, ["y"])
    for kind in (pa.float16(), pa.float32(), pa.float64()):
        values: list[Any] = [1.5, np.nan, None]
        column = pa.array([None if v is None else np.float16(v) for v in values], pa.float16())
        sent = TRAINED.slice(0, 3).set_column(0, "n", column.cast(kind))
        rows = fitted.encode(tables.of_table(sent))
        assert rows[1, :2].tobytes() == rows[2, :2].tobytes()
        column = pa.array([np.float16(1.5), np.float16(np.inf), None], pa.float16()).cast(kind)
        with pytest.raises(InvalidData, match="infinity in row 101") as caught:
            tables.of_table(sent.set_column(0, "n", column), first_row=100)
        assert [error.pointer for error in caught.value.errors] == ["/rows/101/n"]


def test_names_of_many_columns_are_checked() -> None:
    """Each once, whichever way they come."""
    table = pa.table({f"x{i}": [float(i), i + 1.0] for i in range(2_000)})
    spec = PreprocessingSpec.model_validate({"target": None})
    names = table.column_names
    tables = FeatureTables(fit_features(names, spec, table).features, ["y"])
    tables.check_columns([*names[::-1], "y"])
    row = dict.fromkeys([*names, "y"], 1.0)
    assert tables.of_rows([row] * 20).num_rows == 20
    with pytest.raises(InvalidRequest, match="two columns are called 'x7'"):
        tables.check_columns([*names, "x7"])
    with pytest.raises(InvalidRequest) as caught:
        tables.check_columns([*names[:10], "x2000"])
    assert len(caught.value.errors) == 20
    with pytest.raises(InvalidRequest, match="did you mean"):
        tables.of_rows([{**row, "x19999": 1.0}])


def test_a_text_longer_than_a_cell_is_refused_from_json_too() -> None:
    tables = FeatureTables(encoder().features, None)
    long = "z" * (MAX_CELL_BYTES + 1)
    row = dict.fromkeys(NAMES)
    with pytest.raises(InvalidData) as caught:
        tables.of_rows([row, {**row, "c": long}])
    assert caught.value.errors[0].pointer == "/rows/1/c"
    assert RowEncoder(encoder()).of_object({**row, "c": long}) is None
    fits = {**row, "c": "z" * MAX_CELL_BYTES}
    assert tables.of_rows([fits]).num_rows == 1


def test_booleans_of_a_file_are_no_numbers() -> None:
    tables = FeatureTables(encoder().features, None)
    columns = {name: pa.nulls(3) for name in NAMES}
    with pytest.raises(InvalidRequest, match="'n' wants a number or null, got true"):
        tables.of_table(pa.table({**columns, "n": pa.array([None, True, False])}))
