"""A trained module as the files of an artifact: all that predicting needs.

``weights.safetensors`` holds every tensor by name, ``model.json`` is the card that explains them.
Nothing is pickled.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from app.ml.inference import card as cards
from app.ml.inference.card import BEFORE_CARD, BEFORE_WEIGHTS, CARD, WEIGHTS, Card
from app.ml.nn import modules

StateDict = dict[str, Tensor]
"""Tensors of a module by name, as ``nn.Module.state_dict`` gives them."""


def state_dict_of(module: nn.Module) -> StateDict:
    """Return a copy of the module's state on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def build(card: Card) -> nn.Module:
    """Return the module as its seed makes it; torch's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        return modules.build(
            card.spec.model,
            card.preprocessing.features.inputs,
            card.outputs,
            card.spec.seed,
            card.spec.loss.kind,
        )


def save(folder: Path, card: Card, state: StateDict, *, measured: bool = False) -> None:
    """Write both files into ``folder`` (a draft that ``storage`` then publishes); ``measured``: as
    those of the model before its refit, beside the others."""
    weights, name = (BEFORE_WEIGHTS, BEFORE_CARD) if measured else (WEIGHTS, CARD)
    (folder / weights).write_bytes(to_bytes(state))  # so that a full disk is an OSError
    (folder / name).write_text(card.model_dump_json(indent=1))


def before(folder: Path) -> tuple[Card, StateDict]:
    """Return what ``save`` wrote as ``measured``; of a model without a refit, the model itself.

    Raises ArtifactCorrupt.
    """
    if not (folder / BEFORE_CARD).exists():
        return cards.read(folder), weights(folder)
    return cards.read(folder, BEFORE_CARD), tensors(folder / BEFORE_WEIGHTS)


def load(folder: Path, *, measured: bool = False) -> tuple[Card, nn.Module]:
    """Return the card and the module with its weights; ``storage`` has verified ``folder``.

    ``measured``: as it was measured, before a refit. Raises ArtifactCorrupt where they do not fit
    together.
    """
    card, state = before(folder) if measured else (cards.read(folder), weights(folder))
    with cards.explained(folder):
        module = build(card)
        load_into(module, state)
    return card, module.eval()


def load_into(module: nn.Module, state: StateDict) -> None:
    """Give the module every tensor of ``state``. Raises RuntimeError or TypeError where a name, a
    shape or a dtype is another: torch would convert numbers in silence."""
    for name, tensor in module.state_dict().items():
        if name in state and state[name].dtype != tensor.dtype:
            raise TypeError(f"{name} is {state[name].dtype} instead of {tensor.dtype}")
    module.load_state_dict(state)


def weights(folder: Path) -> StateDict:
    """Return every tensor of a module by name; ``storage`` has verified ``folder``.

    Raises ArtifactCorrupt.
    """
    return tensors(folder / WEIGHTS)


def tensors(path: Path) -> StateDict:
    """Return the tensors of a safetensors file by name. Raises ArtifactCorrupt."""
    with cards.explained(path.parent):
        cards.shapes_of(path)
        state: StateDict = load_file(path)
        return state


def parameters(module: nn.Module, limit: int) -> list[dict[str, Any]]:
    """Return every parameter: name, shape, dtype, and values up to ``limit`` numbers in all."""
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
    """Return the versions of the libraries that compute the weights, by name."""
    import numpy

    from app import __version__

    return {
        "fitserve": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
