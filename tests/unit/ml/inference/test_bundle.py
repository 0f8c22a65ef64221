"""A model taken along predicts the same: by its own program, and where it is unpacked again."""

import ast
import hashlib
import io
import json
import runpy
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidData
from app.hashes import sha256_of
from app.ml.inference import bundle
from app.ml.inference.bundle import About, Bundle, Dataset, Measured, SplitCounts
from app.ml.inference.card import CARD, WEIGHTS, Card
from app.ml.inference.predictor import Predictor
from tests.support.every_kind import MODELS, TABLE, in_json, trained
from tests.support.workbench import Run, Workbench

ABOUT = About(
    name="flats",
    version=3,
    created_at=datetime(2026, 1, 2, tzinfo=UTC),
    dataset=Dataset(id="ds_1", sha256="0" * 64),
    split=SplitCounts(train=8, validation=1, test=1),
    metrics=Measured.model_validate(
        {"best": {"epoch": 3, "by": "validation_loss", "validation_loss": 0.5}, "test": {"r2": 0.5}}
    ),
    metadata={"by": "me"},
)


def packed(run: Run) -> bytes:
    file = io.BytesIO()
    Bundle(ABOUT, run.folder, sha256_of(run.folder / WEIGHTS)).write(file)
    return file.getvalue()


def taken_along(tmp_path: Path, content: bytes) -> Any:
    """The ``Model`` of the program that a bundle brings."""
    path = tmp_path / "bundle.zip"
    path.write_bytes(content)
    with zipfile.ZipFile(path) as bundled:
        bundled.extract(bundle.PROGRAM, tmp_path)
    return runpy.run_path(str(tmp_path / bundle.PROGRAM))["Model"](path)


@pytest.mark.parametrize("name", MODELS)
def test_its_program_predicts_what_the_service_does(
    workbench: Workbench, tmp_path: Path, name: str
) -> None:
    run = trained(workbench, **MODELS[name])
    predictor, rows = run.predictor, in_json(TABLE)
    outputs = predictor.outputs(predictor.tables.of_rows(rows))
    model = taken_along(tmp_path, packed(run))
    np.testing.assert_allclose(model.outputs(rows).numpy(), outputs, rtol=2e-5, atol=2e-5)
    expected, found = predictor.predictions(outputs), model.predict(rows)
    if isinstance(expected[0], float):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    elif isinstance(expected[0], dict) and isinstance(expected[0].popitem()[1], float):
        for one, other in zip(found, predictor.predictions(outputs), strict=True):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-4)
    else:
        expected = predictor.predictions(outputs)
        assert [type(value) for value in found] == [type(value) for value in expected]
        assert found == expected
        shares = model.probabilities(rows).numpy()
        np.testing.assert_allclose(shares, predictor.shares(outputs), rtol=1e-4, atol=1e-4)


def test_its_program_takes_what_began_as_another_model(workbench: Workbench) -> None:
    """The card of a pretrained model says what it is made of."""
    card = trained(workbench, model="mlp").predictor.card
    pretrained = {"kind": "pretrained", "model": "a@1", "architecture": card.spec.model}
    spec = card.spec.model_dump() | {"model": pretrained}
    assert Card.model_validate(card.model_dump() | {"spec": spec}).spec.model.kind == "pretrained"


def test_its_program_says_what_is_wrong_with_a_row(workbench: Workbench, tmp_path: Path) -> None:
    model = taken_along(tmp_path, packed(trained(workbench, model="linear")))
    [row, *_] = in_json(TABLE)
    for name, value in (("number", "3"), ("flag", 1), ("color", True), ("number", True)):
        with pytest.raises(ValueError, match=f"'{name}' is a .*, and a row has {value!r}"):
            model.predict([{**row, name: value}])
    with pytest.raises(ValueError, match="a row lacks 'city'"):
        model.predict([{name: value for name, value in row.items() if name != "city"}])


def test_its_program_ends_with_a_line(workbench: Workbench, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(packed(trained(workbench, model="linear")))
    rows = tmp_path / "rows.json"
    program = tmp_path / bundle.PROGRAM
    program.write_bytes(bundle._program())
    main = runpy.run_path(str(program))["main"]
    for content in ('[{"number": 1}]', "no JSON"):
        rows.write_text(content)
        with pytest.raises(SystemExit, match=r"rows\.json: ") as caught:
            main(str(path), str(rows))
        assert "\n" not in str(caught.value)


def test_its_program_needs_torch_and_safetensors_alone() -> None:
    tree = ast.parse(bundle._program())
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    roots = {name.partition(".")[0] for name in names}
    assert roots - sys.stdlib_module_names == {"torch", "safetensors"}


def test_the_page_in_docs_has_the_program() -> None:
    page = Path("docs/bundle.md").read_text()
    code = page.partition("```python\n")[2].partition("```\n")[0]
    assert code == bundle._program().decode()


def test_the_same_model_gives_the_same_bytes(workbench: Workbench) -> None:
    run = trained(workbench, model="linear")
    assert packed(run) == packed(run)
    made = Bundle(ABOUT, run.folder, sha256_of(run.folder / WEIGHTS))
    other = Bundle(
        ABOUT.model_copy(update={"version": 4}), run.folder, sha256_of(run.folder / WEIGHTS)
    )
    assert made.digest != other.digest
    with zipfile.ZipFile(io.BytesIO(packed(run))) as bundled:
        assert bundled.testzip() is None
        assert "flats, version 3" in bundled.read(bundle.README).decode()


@pytest.mark.parametrize("name", ["tabular", "deep", "labels"])
def test_unpacked_it_is_the_same_model_bit_for_bit(
    workbench: Workbench, tmp_path: Path, name: str
) -> None:
    run = trained(workbench, **MODELS[name])
    path = tmp_path / "bundle.zip"
    path.write_bytes(packed(run))
    folder = tmp_path / "model"
    folder.mkdir()
    about = unpacked(path, folder)
    assert about.model_copy(update={"files": {}}) == ABOUT
    predictor, rows = Predictor.load(folder), in_json(TABLE)
    again = predictor.outputs(predictor.tables.of_rows(rows))
    expected = run.predictor.outputs(run.predictor.tables.of_rows(rows))
    assert again.tobytes() == expected.tobytes()


# ---------------------------------------------------------------- no bundle


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = trained(Workbench(tmp_path_factory.mktemp("whole")))
    with zipfile.ZipFile(io.BytesIO(packed(run))) as bundled:
        return {name: bundled.read(name) for name in bundled.namelist()}


def zipped(files: dict[str, bytes], **options: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as bundled:
        for name, content in files.items():
            bundled.writestr(name, content)
    return file.getvalue()


def unpacked(path: Path, folder: Path, most_bytes: int = 1 << 30) -> About:
    about, card = bundle.unpack(path, folder, most_bytes)
    bundle.require_prediction(folder, card)
    return about


def refused(tmp_path: Path, content: bytes, most_bytes: int = 1 << 24) -> str:
    path, folder = tmp_path / "bundle.zip", tmp_path / "model"
    path.write_bytes(content)
    folder.mkdir(exist_ok=True)
    with pytest.raises(InvalidData) as caught:
        unpacked(path, folder, most_bytes)
    assert caught.value.detail.endswith("GET /v1/models/NAME/download?format=bundle")
    return caught.value.detail


def changed(whole: dict[str, bytes], name: str, /, **fields: Any) -> dict[str, bytes]:
    """With other fields in a file of JSON, and the hashes that fit."""
    value = json.loads(whole[name])
    for path, content in fields.items():
        *way, last = path.split("__")
        at = value
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at[step]
        at[last] = content
    return signed({**whole, name: json.dumps(value).encode()})


def signed(files: dict[str, bytes]) -> dict[str, bytes]:
    about = json.loads(files[bundle.ABOUT])
    about["files"] = {n: hashlib.sha256(files[n]).hexdigest() for n in (CARD, WEIGHTS)}
    return {**files, bundle.ABOUT: json.dumps(about).encode()}


def test_what_is_cut_off_or_flipped_is_refused(tmp_path: Path, whole: dict[str, bytes]) -> None:
    content = zipped(whole)
    for end in (0, 1, 100, len(content) // 2, len(content) - 1):
        refused(tmp_path, content[:end])
    inside = content.index(whole[WEIGHTS]) + 5_000
    flipped = bytearray(content)
    flipped[inside] ^= 1
    assert "cannot be read" in refused(tmp_path, bytes(flipped))


@pytest.mark.parametrize("name", [bundle.ABOUT, CARD, WEIGHTS])
def test_every_file_has_to_be_there_and_as_it_was(
    tmp_path: Path, whole: dict[str, bytes], name: str
) -> None:
    without = {key: content for key, content in whole.items() if key != name}
    assert f"it has no {name}" in refused(tmp_path, zipped(without))
    twice = io.BytesIO(zipped(whole))
    with zipfile.ZipFile(twice, "a") as bundled, pytest.warns(UserWarning, match="Duplicate"):
        bundled.writestr(name, whole[name])
    assert f"it has two {name}" in refused(tmp_path, twice.getvalue())
    if name != bundle.ABOUT:
        other = zipped({**whole, name: whole[name] + b" "})
        assert f"its {name} is not the one" in refused(tmp_path, other)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, whole: dict[str, bytes]) -> None:
    bomb = zipped({**whole, WEIGHTS: bytes(1 << 25)}, compression=zipfile.ZIP_DEFLATED)
    assert "has more than 16,777,216 bytes" in refused(tmp_path, bomb)
    assert not (tmp_path / "model" / WEIGHTS).exists()
    many = zipped({**whole, **{f"{i}": b"" for i in range(200)}})
    assert "it holds 205 files" in refused(tmp_path, many)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": "other"}, "format"),
        ({"format_version": 2}, "format_version"),
        ({"name": "../up"}, "name"),
        ({"metrics__best": {"epoch": "x"}}, "metrics.best.epoch"),
        ({"split": {"train": 1}}, "split.validation"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"dataset__sha256": "x"}, "dataset.sha256"),
    ],
)
def test_what_it_says_of_itself_is_checked(
    tmp_path: Path, whole: dict[str, bytes], fields: dict[str, Any], said: str
) -> None:
    detail = refused(tmp_path, zipped(changed(whole, bundle.ABOUT, **fields)))
    assert f"its bundle.json is not understood: {said}" in detail


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"spec__model__width": 16_000}, "tells of"),
        ({"spec__model__members": 256}, "tells of"),
        ({"outputs": 7}, "tells of"),
        ({"inputs": 3}, "tells of"),
        ({"weights": []}, "tells of"),
        ({"spec__model__kind": "nonsense"}, "is not understood"),
        ({"spec__model": {"kind": "pretrained", "model": "x"}}, "layers do not fit"),
        ({"preprocessing__features__features__0__fill": "x"}, "is not understood"),
        ({"preprocessing__features__features__8__center": ""}, "tells of"),
        ({"preprocessing__target__scale": []}, "does not predict"),
        ({"preprocessing__features__features__8__directions": "AAA="}, "does not predict"),
        ({"background__values": "AAAA"}, "does not predict"),
        ({"background__count": 100_000}, "is not understood"),
        ({"conformal__scores": [[]]}, "does not predict"),
        ({"conformal__rows": 0}, "is not understood"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    tmp_path: Path, whole: dict[str, bytes], fields: dict[str, Any], said: str
) -> None:
    assert said in refused(tmp_path, zipped(changed(whole, CARD, **fields)))


def test_weights_that_are_none_are_refused(tmp_path: Path, whole: dict[str, bytes]) -> None:
    for weights in (b"", b"\xff" * 64, whole[WEIGHTS][:-4]):
        files = signed({**whole, WEIGHTS: weights})
        assert "is not understood" in refused(tmp_path, zipped(files))
