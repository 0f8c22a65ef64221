"""``model.json``: what explains the weights beside it; importable without torch."""

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from safetensors import safe_open

from app.ml.features.preprocessing import Preprocessing
from app.ml.specs import JobSpec

CARD = "model.json"
WEIGHTS = "weights.safetensors"


class Card(BaseModel):
    """The architecture, the preprocessing and where they came from; all that predicting takes."""

    model_config = ConfigDict(extra="forbid")

    spec: JobSpec
    preprocessing: Preprocessing
    inputs: int
    """Columns of the feature matrix."""
    outputs: int
    epoch: int
    weights: list[str]
    """Names of the parameters, without what is only kept beside them."""
    versions: dict[str, str]
    guess: list[float] | None = None
    """What one would answer without features (``metrics.guess``); older models do not say."""


def read(folder: Path) -> Card:
    """The card of a model or checkpoint; ``folder`` has been verified by ``storage``."""
    return Card.model_validate_json((folder / CARD).read_bytes())


def parameters(folder: Path, card: Card) -> int:
    """How many numbers training may change, by the header of the weights alone."""
    with safe_open(folder / WEIGHTS, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in card.weights)
