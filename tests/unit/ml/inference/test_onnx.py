"""A model as an ONNX file predicts in ONNX Runtime what the service does."""

import json
import re
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.errors import NotApplicable
from app.ml.column_types.categories import CategoryFeature
from app.ml.column_types.datetimes import DatetimeFeature
from app.ml.column_types.notations.notation import Notation
from app.ml.inference import model_files, onnx_file, onnx_module
from app.ml.inference.onnx_module import MISSING, UNSEEN, ColumnsToPredictions
from app.ml.inference.predictor import Predictor
from app.ml.training import loop
from tests.support.every_kind import FEATURES, MODELS, TABLE, trained
from tests.support.soak import soak_only
from tests.support.workbench import Run, Workbench, table_of

NAMED = [name for name in FEATURES if name != "text"]
Columns = dict[str, NDArray[Any]]


def exported(run: Run) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        return onnx_file.written(run.folder)


def columns_of(table: pa.Table) -> Columns:
    """A table as the inputs of an ONNX file, as its documentation says."""
    found: Columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type):
            values = ["" if value is None else value for value in column.to_pylist()]
            found[name] = np.array(values, dtype=object)
        elif pa.types.is_temporal(column.type):
            moments = column.cast(pa.timestamp("us")).to_numpy()
            found[name] = moments.astype("datetime64[us]").astype("int64")
        else:
            values = [np.nan if value is None else value for value in column.to_pylist()]
            found[name] = np.array(values, dtype=np.float64)
    return found


def asked(content: bytes, columns: Columns) -> Columns:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, columns), strict=True))


def told_by(content: bytes) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    return {name: json.loads(value) for name, value in found.items()}


def require_same(predictor: Predictor, table: pa.Table, answers: Columns) -> None:
    """The answers of an ONNX file to those of the service, within 1e-5."""
    answers = {**answers}
    outputs = predictor.outputs(table)
    if predictor.labels:
        shares = answers.pop("probabilities")
        np.testing.assert_allclose(shares, predictor.shares(outputs), rtol=1e-5, atol=1e-5)
    expected = predictor.answers(outputs)
    assert [*answers] == expected.column_names
    for name, found in answers.items():
        wanted = expected[name].to_numpy(zero_copy_only=False)
        assert found.shape == (table.num_rows,)
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
        else:
            assert found.tolist() == wanted.tolist()


@soak_only
@pytest.mark.parametrize(
    "name", MODELS
)  # an export takes ten seconds; the default model's is tested over HTTP
def test_it_predicts_what_the_service_does(workbench: Workbench, name: str) -> None:
    run = trained(workbench, **{**MODELS[name], "features": NAMED})
    content = exported(run)
    table = TABLE.select(NAMED)
    for rows in (table, table.slice(0, 1), table.slice(3, 7)):
        require_same(run.predictor, rows, asked(content, columns_of(rows)))


@pytest.mark.parametrize("name", MODELS)
def test_the_module_that_is_exported_predicts_the_same(workbench: Workbench, name: str) -> None:
    """As above without the exporter, for models of every kind in each run."""
    run = trained(workbench, **{**MODELS[name], "features": NAMED})
    card, module = model_files.load(run.folder)
    table = TABLE.select(NAMED)
    columns = []
    for feature in card.preprocessing.features.features:
        column = columns_of(table.select([feature.name]))[feature.name]
        if isinstance(feature, CategoryFeature):
            places = {label: place for place, label in enumerate(feature.categories)}
            column = np.array([places.get(v, UNSEEN if v else MISSING) for v in column])
        columns.append(torch.from_numpy(column))
    found = ColumnsToPredictions(card, module).eval()(columns)
    answers = {name: value.detach().numpy() for name, value in zip(names(run), found, strict=True)}
    target = card.preprocessing.target
    if target.kind == "classes":
        classes = np.array(target.classes, dtype=object)
        answers["prediction"] = classes[answers["prediction"]]
    require_same(run.predictor, table, answers)


def names(run: Run) -> list[str]:
    return onnx_file._answers(run.predictor.card)


@given(
    st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), min_size=1, max_size=50),
    st.booleans(),
)
def test_its_calendar_is_numpys(moments: list[datetime], time: bool) -> None:
    feature = DatetimeFeature(name="at", center=19_000.5, scale=77.25, time=time, indicator=True)
    column = pa.chunked_array([pa.array([*moments, None], pa.timestamp("us"))])
    expected = np.zeros((len(column), feature.width), np.float32)
    feature.encode(column, expected)
    part = onnx_module._Moments([(feature, 0)])
    stored = column.to_numpy().astype("datetime64[us]").astype("int64")
    found = part(torch.from_numpy(stored)[:, None])[:, np.argsort(part.at)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- what its words are


ROWS = 120
CITIES = [["Paris", " Rom ", "Oslo"][i % 3] for i in range(ROWS)]
AWKWARD: dict[str, list[Any]] = {
    "prediction": [i / 7 for i in range(ROWS)],
    "_column_0": [i % 5 for i in range(ROWS)],
    "größe (m²)": CITIES,
    "probabilities": ["" if i % 6 == 0 else "x" for i in range(ROWS)],
    "kind": [["ja", "nein", "öfter"][i // 3 % 3] for i in range(ROWS)],
}
"""Names that the graph could have of its own, and a label that is empty."""


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, bytes]:
    table = table_of(AWKWARD)
    features = [name for name in AWKWARD if name != "kind"]
    bench = Workbench(tmp_path_factory.mktemp("awkward"))
    task = bench.task(table, target="kind", features=features, model="linear", epochs=4)
    task = task.model_copy(update={"notations": {"größe (m²)": Notation(folded=True)}})
    run = Run(task, bench.storage, list(loop.train(task)))
    return run, exported(run)


def test_columns_have_their_names_whatever_they_are(awkward: tuple[Run, bytes]) -> None:
    run, content = awkward
    told = told_by(content)
    assert [*told["features"]] == run.predictor.card.spec.features
    assert (told["target"], told["classes"]) == (["kind"], ["ja", "nein", "öfter"])
    assert told["outputs"] == ["prediction_", "probabilities_"]
    table = table_of(AWKWARD).drop_columns(["kind"])
    answers = asked(content, columns_of(table))
    plain = {name.rstrip("_"): values for name, values in answers.items()}
    require_same(run.predictor, table, plain)


def test_labels_are_known_as_they_were_written(awkward: tuple[Run, bytes]) -> None:
    run, content = awkward
    cities = ["Paris", "paris", "Rom", " Rom ", "rom", "nowhere", ""]
    table = table_of({name: values[: len(cities)] for name, values in AWKWARD.items()})
    table = table.drop_columns(["kind"]).set_column(2, "größe (m²)", pa.array(cities))
    answers = asked(content, columns_of(table))
    shares = run.predictor.shares(run.predictor.outputs(table))
    np.testing.assert_allclose(answers["probabilities_"], shares, atol=1e-5)
    assert not np.allclose(shares[0], shares[5])


@soak_only
def test_the_same_model_gives_the_same_bytes(awkward: tuple[Run, bytes]) -> None:
    run, content = awkward
    assert exported(run) == content
    assert str(Path.cwd()).encode() not in content  # torch tells of its sources
    assert b"site-packages" not in content


def test_texts_are_refused_by_name(workbench: Workbench) -> None:
    run = trained(workbench, model="linear")
    with pytest.raises(NotApplicable, match="'text' is a text; take format=bundle"):
        onnx_file.require_exportable(run.predictor.card)
    named = trained(workbench, model="linear", features=NAMED)
    onnx_file.require_exportable(named.predictor.card)


def test_without_the_extra_it_is_refused(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(workbench, model="linear", features=NAMED)
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(NotApplicable, match=re.escape("install fitserve[onnx]")):
        onnx_file.require_exportable(run.predictor.card)
