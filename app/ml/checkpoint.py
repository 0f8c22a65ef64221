"""A trained module on disk: ``weights.safetensors``, and ``model.json`` that explains it.

Nothing is pickled. The JSON holds the architecture, the preprocessing and where it came from, so
that a directory is all that is needed to predict.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from app.ml import models
from app.ml.preprocessing import Preprocessing
from app.ml.specs import JobSpec

WEIGHTS = "weights.safetensors"
CARD = "model.json"

State = dict[str, Tensor]


class Card(BaseModel):
    """What ``model.json`` says."""

    model_config = ConfigDict(extra="forbid")

    spec: JobSpec
    preprocessing: Preprocessing
    inputs: int
    """Columns of the feature matrix."""
    outputs: int
    epoch: int
    versions: dict[str, str]

    def build(self) -> nn.Module:
        """The module as it was before its first step; torch's random state stays as it is."""
        with torch.random.fork_rng(devices=[]):
            return models.build(
                self.spec.model, self.preprocessing.features.inputs, self.outputs, self.spec.seed
            )


def state_of(module: nn.Module) -> State:
    """A copy of the module's state on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def save(folder: Path, card: Card, state: State) -> None:
    """Write both files into ``folder`` (a draft that ``storage`` then publishes)."""
    (folder / WEIGHTS).write_bytes(to_bytes(state))  # so that a full disk is an OSError
    (folder / CARD).write_text(card.model_dump_json(indent=1))


def load(folder: Path) -> tuple[Card, nn.Module]:
    """The card and the module with its weights; ``folder`` has been verified by ``storage``."""
    card = Card.model_validate_json((folder / CARD).read_bytes())
    module = card.build()
    module.load_state_dict(load_file(folder / WEIGHTS))
    return card, module.eval()


def parameters(module: nn.Module, limit: int) -> list[dict[str, Any]]:
    """Every parameter: name, shape, dtype, and values up to ``limit`` numbers in all."""
    named = list(module.named_parameters())
    small = sum(parameter.numel() for _, parameter in named) <= limit
    return [
        {
            "name": name,
            "shape": list(parameter.shape),
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "values": parameter.detach().tolist() if small else None,
        }
        for name, parameter in named
    ]


def library_versions() -> dict[str, str]:
    """What computed the weights."""
    import numpy

    from app import __version__

    return {
        "fitserve": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
