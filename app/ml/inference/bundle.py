"""A model to take along: a zip of its weights, its card, what was measured of it, and a program
that predicts from them with torch and safetensors alone (``docs/bundle.md``).

The same model gives the same bytes. What is read was made somewhere else, so nothing of it is
believed: names, sizes and hashes are checked, and the module is built only once its card says that
it is as large as the weights are.
"""

import hashlib
import shutil
import zipfile
import zlib
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import ArtifactCorrupt, FitserveError, InvalidData
from app.ml.column_types.registry import COLUMN_TYPES
from app.ml.finite import Metrics
from app.ml.inference import card as cards
from app.ml.inference.card import CARD, WEIGHTS, Card, MeasuredBefore
from app.ml.inference.confidence import Confidence
from app.ml.inference.explanations import Importance
from app.ml.specs import LayerMismatch, Name, architecture_of, size_of
from app.ml.specs.base import Metadata

ABOUT, PROGRAM, README = "bundle.json", "predict.py", "README.md"
_CONTENT = {
    ABOUT: 16 * 1024 * 1024,
    CARD: 256 * 1024 * 1024,
    README: 1024 * 1024,
    PROGRAM: 1024 * 1024,
}
"""What a bundle may hold beside its weights, and the most bytes of each."""
_MOST_FILES = 100
_UNREADABLE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)
"""What the library raises over a zip that is damaged, encrypted or of another kind."""
_COPY_BYTES = 1024 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file: a zip has none before."""
_README = """\
# {name}, version {version}

A model of fitserve {fitserve}: `{target}` from {features} features.

| file | |
|---|---|
| `weights.safetensors` | every tensor by name |
| `model.json` | what the module is made of, how rows become its input, its output predictions |
| `bundle.json` | what was measured of it, where it came from, and the SHA-256 of both |
| `predict.py` | predictions with torch and safetensors alone |

    pip install torch safetensors
    python predict.py {file} rows.json

`rows.json` is a list of objects by feature. Any fitserve takes the bundle as a model of its own:

    curl -H 'Content-Type: application/zip' --data-binary @{file} \\
      'http://127.0.0.1:8000/v1/models?name={name}'
"""
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Best(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, float | str | None] = Field(init=False)
    epoch: int = Field(ge=0, lt=2**31)


class Measured(BaseModel):
    """What a job has measured of a model; ``None`` is what it has not."""

    model_config = ConfigDict(allow_inf_nan=False)
    best: _Best | None = None
    test: Metrics | None = None
    baseline: Metrics | None = None
    confidence: Confidence | None = None
    of: MeasuredBefore = None


class Dataset(BaseModel):
    """The dataset that a model was trained on, somewhere."""

    id: str = Field(min_length=1, max_length=32)
    sha256: Sha256


class SplitCounts(BaseModel):
    """Rows in each part."""

    train: int = Field(ge=0)
    validation: int = Field(ge=0)
    test: int = Field(ge=0)


class About(BaseModel):
    """``bundle.json``: what the service knows of a model beside its card."""

    format: Literal["fitserve-bundle"] = "fitserve-bundle"
    format_version: Literal[1] = 1
    name: Name
    version: int = Field(ge=1, lt=2**31)
    created_at: datetime
    dataset: Dataset
    split: SplitCounts | None
    metrics: Measured
    metadata: Metadata
    importance: Importance | None = None
    files: dict[str, Sha256] = {}
    """Hex SHA-256 of the card and the weights."""


# ---------------------------------------------------------------- written


class Bundle:
    """A model about to be written as a zip."""

    def __init__(self, about: About, folder: Path, weights_sha256: str) -> None:
        """``folder`` holds the model's artifact, whose weights have that hash. Raises
        ArtifactCorrupt where its card cannot be read."""
        card = cards.read(folder)
        self._weights = folder / WEIGHTS
        self._card = card.model_dump_json(indent=1).encode()  # an older one filled in
        hashes = {CARD: hashlib.sha256(self._card).hexdigest(), WEIGHTS: weights_sha256}
        about = about.model_copy(update={"files": hashes})
        self._about = about.model_dump_json(indent=1).encode()
        self._readme = _README.format(
            name=about.name,
            version=about.version,
            fitserve=card.versions.get("fitserve", ""),
            target="`, `".join(card.spec.targets),
            features=len(card.spec.features),
            file=f"{about.name}-{about.version}.zip",
        ).encode()

    @property
    def digest(self) -> str:
        """Hex SHA-256 that changes with the content."""
        program = _program()
        return hashlib.sha256(b"\0".join([self._readme, self._about, program])).hexdigest()

    def write(self, file: IO[bytes]) -> None:
        """Write the zip; nothing is compressed, as numbers hardly can be. Raises OSError."""
        small = {README: self._readme, ABOUT: self._about, CARD: self._card, PROGRAM: _program()}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as bundle:
            for name, content in small.items():
                bundle.writestr(zipfile.ZipInfo(name, _EPOCH), content)
            entry = zipfile.ZipInfo(WEIGHTS, _EPOCH)
            entry.file_size = self._weights.stat().st_size
            with self._weights.open("rb") as source, bundle.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)


def _program() -> bytes:
    return resources.files("app.data").joinpath(PROGRAM).read_bytes()


# ---------------------------------------------------------------- read


def unpack(path: Path, folder: Path, most_bytes: int) -> tuple[About, Card]:
    """Write the card and the weights of a bundle into ``folder``, and return what it says.

    Raises InvalidData where it is no bundle, is damaged or does not fit together, or has weights of
    more than ``most_bytes``.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            entries = _entries(bundle, most_bytes)
            about = About.model_validate_json(bundle.read(entries[ABOUT]))
            for name in (CARD, WEIGHTS):
                _extract(bundle, entries[name], folder / name, about.files.get(name))
        card = cards.read(folder)
        _require_size(card, folder)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise _refused(f"its {ABOUT} is not understood: {where}: {first['msg']}") from error
    except ArtifactCorrupt as error:
        raise _refused(f"its {CARD} or {WEIGHTS} is not understood ({error.detail})") from error
    except (*_UNREADABLE, ValueError) as error:
        raise _refused(f"it cannot be read ({str(error)[:200]})") from error
    return about, card


def _refused(reason: str) -> InvalidData:
    return InvalidData(
        f"this is no bundle that a model can be made of: {reason}; download one anew with "
        "GET /v1/models/NAME/download?format=bundle"
    )


def _entries(bundle: zipfile.ZipFile, most_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Return the files of a bundle by name. Raises InvalidData."""
    listed = bundle.infolist()
    if len(listed) > _MOST_FILES:
        raise _refused(f"it holds {len(listed):,} files")
    entries = {entry.filename: entry for entry in listed}
    limits = {**_CONTENT, WEIGHTS: most_bytes}
    for name in (ABOUT, CARD, WEIGHTS):
        if name not in entries:
            raise _refused(f"it has no {name}")
        if [entry.filename for entry in listed].count(name) > 1:
            raise _refused(f"it has two {name}")
        if entries[name].file_size > limits[name]:
            raise _refused(f"its {name} has more than {limits[name]:,} bytes")
    return entries


def _extract(
    bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, sha256: str | None
) -> None:
    """Write one file, of no more bytes than its entry says. Raises InvalidData, OSError."""
    found, left = hashlib.sha256(), entry.file_size
    with bundle.open(entry) as source, path.open("wb") as target:
        while chunk := source.read(min(_COPY_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise _refused(f"its {entry.filename} is longer than it says")
            found.update(chunk)
            target.write(chunk)
    if found.hexdigest() != sha256:
        raise _refused(f"its {entry.filename} is not the one that {ABOUT} tells of")


def _require_size(card: Card, folder: Path) -> None:
    """Raise InvalidData where the module of a card is not as large as its weights: it may be too
    large to build."""
    inputs, target = card.preprocessing.features.inputs, card.preprocessing.target
    try:
        size = size_of(architecture_of(card.spec.model), inputs, card.outputs).parameters
    except (LayerMismatch, AssertionError) as error:
        raise _refused(f"its layers do not fit ({error})") from error
    found = cards.parameters(folder, card)
    if size != found or (card.inputs, card.outputs) != (inputs.width, target.outputs):
        raise _refused(f"its {CARD} tells of {size:,} parameters, its {WEIGHTS} has {found:,}")


def require_prediction(folder: Path, card: Card) -> None:
    """Load the model of a folder, and predict and explain two rows with it, one of gaps.

    Raises InvalidData where that fails. Imports torch.
    """
    from app.ml.inference.predictor import Predictor

    try:
        predictor = Predictor.load(folder)
        columns = {name: [None, _example(card, name)] for name in card.spec.features}
        types = card.preprocessing.features.types
        rows = pa.table({n: COLUMN_TYPES[types[n]].array(v) for n, v in columns.items()})
        x = predictor.encode(rows)
        outputs = predictor.forward(x)
        predictor.predictions(outputs)
        if card.background is not None and card.spec.task != "multilabel":
            predictor.explain(x, outputs, 1)
        if card.conformal is not None:
            predictor.intervals(outputs, 0.5)
    except (FitserveError, ValueError, LookupError, TypeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise _refused(f"it does not predict ({reason})") from error


def _example(card: Card, name: str) -> Any:
    """Return a value of a feature that the model has seen."""
    feature: Any = next(f for f in card.preprocessing.features.features if f.name == name)
    match feature.type:
        case "number":
            return 0.0
        case "boolean":
            return True
        case "category":
            return next(iter(feature.categories), "")
        case "datetime":
            return "2020-02-29T12:00:00"
        case _:
            return " ".join(feature.terms[:8])
