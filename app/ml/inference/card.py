"""The card of a model, ``model.json``: what explains the weights beside it.

Importable without torch.
"""

import math
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from safetensors import safe_open

from app.ml.features.preprocessing import Preprocessing
from app.ml.specs import JobSpec

CARD = "model.json"
WEIGHTS = "weights.safetensors"


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
    baseline: list[float] | None = Field(None, validation_alias=AliasChoices("baseline", "guess"))
    """The prediction that knows no features (``metrics.constant_prediction``); older models call it
    ``guess``, still older ones have none."""


def read(folder: Path) -> Card:
    """Return the card of a model or checkpoint; ``folder`` has been verified by ``storage``."""
    return Card.model_validate_json((folder / CARD).read_bytes())


def parameters(folder: Path, card: Card) -> int:
    """Return how many trainable numbers there are, by the header of the weights alone."""
    with safe_open(folder / WEIGHTS, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in card.weights)
