"""The card of a model, ``model.json``: what explains the weights beside it.

Importable without torch.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open

from app.errors import ArtifactCorrupt
from app.ml.column_types.notations.notation import AS_FOUND, CellOptions, Notation
from app.ml.features.preprocessing import Decision, Preprocessing
from app.ml.inference.conformal import Conformal, Coverage
from app.ml.inference.explanations import Background
from app.ml.specs import JobSpec

CARD = "model.json"
WEIGHTS = "weights.safetensors"
BEFORE_CARD, BEFORE_WEIGHTS = "before.json", "before.safetensors"
"""The same of the model that was measured, where this one was then trained on all rows."""
TrainedOn = Literal["train", "all"]
MeasuredBefore = Literal["before_refit"] | None
"""Whether what was measured is of the model before it was trained once more."""
_MOST_HEADER_BYTES = 100_000_000
"""As the library has it."""


class Card(BaseModel):
    """The architecture, the preprocessing and where they came from: all that predicting takes."""

    model_config = ConfigDict(extra="forbid")

    spec: JobSpec
    preprocessing: Preprocessing
    inputs: int
    """Columns of the feature matrix."""
    outputs: int
    epoch: int
    weights: list[str]
    """Names of the parameters, without the buffers that are stored beside them."""
    versions: dict[str, str]
    ignored: list[str] = []
    """The other columns of its dataset, targets among them, which a row to predict may have; an
    older model has none."""
    notations: dict[str, Notation] = {}
    """How the features and targets were written that the model was trained on, where that was not
    plainly; an older model has none of its targets."""
    cells: CellOptions = AS_FOUND
    """What cells of the training data were said to mean."""
    baseline: list[float] | None = Field(None, validation_alias=AliasChoices("baseline", "guess"))
    """The prediction that knows no features (``metrics.constant_prediction``); older models call it
    ``guess``, still older ones have none."""
    conformal: Conformal | None = None
    """How far off predictions are; ``None`` where no rows were held out for that."""
    trained_on: TrainedOn = "train"
    """The training part, or in a refit the rows of all parts."""
    background: Background | None = None
    """What rows are held against where an answer is explained; an older model has none."""

    @property
    def decision(self) -> Decision | None:
        """How the outputs of a classification become answers."""
        return self.preprocessing.target.decision

    @property
    def coverage(self) -> list[Coverage]:
        """How often intervals, or sets of classes, held what was true on the test part."""
        return [] if self.conformal is None else self.conformal.coverage

    @property
    def described_features(self) -> list[dict[str, str]]:
        """Name and type of each feature, in order."""
        types = self.preprocessing.features.types
        return [{"name": name, "type": types[name]} for name in self.spec.features]


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Raise ArtifactCorrupt where what is read of ``folder`` does not fit together.

    Its hashes do: it was written so, by another program or another version.
    """
    try:
        yield
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0][:200]
        where = f"{folder.parent.name}/{folder.name}"
        raise ArtifactCorrupt(
            f"{where} cannot be read ({reason}); restore it from a backup"
        ) from error


def read(folder: Path, name: str = CARD) -> Card:
    """Return the card of a model or checkpoint; ``folder`` has been verified by ``storage``.

    Raises ArtifactCorrupt.
    """
    with explained(folder):
        return Card.model_validate_json((folder / name).read_bytes())


def parameters(folder: Path, card: Card) -> int:
    """Return how many trainable numbers there are, by the header of the weights alone.

    Raises ArtifactCorrupt.
    """
    with explained(folder):
        shapes = shapes_of(folder / WEIGHTS)
        return sum(math.prod(shapes[name]) for name in card.weights)


def shapes_of(path: Path) -> dict[str, list[int]]:
    """Return the shape of every tensor in a safetensors file by name, from its header.

    Raises SafetensorError where header and file do not fit, ValueError where a name comes twice:
    the library would take the last.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _MOST_HEADER_BYTES:
            raise ValueError("its header is too long")
        header = json.loads(file.read(size), object_pairs_hook=_distinct)
    with safe_open(path, framework="numpy"):  # which checks the rest
        return {name: item["shape"] for name, item in header.items() if name != "__metadata__"}


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice in its header")
    return found
