"""A model's spec as an ``nn.Module``: ``(rows, inputs)`` in, ``(rows, outputs)`` out."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from app.ml.nn.tabular import Tabular
from app.ml.specs import (
    Inputs,
    Layer,
    LinearSpec,
    MLPSpec,
    ModelSpec,
    PretrainedSpec,
    SequentialSpec,
    TabularSpec,
    architecture_of,
    completed,
)


class Residual(nn.Sequential):
    """Layers whose input is added to their output (He et al., 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, width)`` to ``(rows, width)``."""
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + y


class Embedded(nn.Module):
    """Looks up the codes in the last columns in embeddings, and gives the body numbers alone."""

    def __init__(self, inputs: Inputs, body: nn.Module) -> None:
        super().__init__()
        self.dense = inputs.dense
        self.embeddings = nn.ModuleList(nn.Embedding(*size) for size in inputs.embeddings)
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight, std=0.1)  # type: ignore[arg-type]
            with torch.no_grad():
                embedding.weight[0] = 0  # type: ignore[operator]  # unseen: no opinion
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, inputs)`` to ``(rows, outputs)``."""
        codes = x[:, self.dense :].long()
        found = [embedding(codes[:, i]) for i, embedding in enumerate(self.embeddings)]
        y: Tensor = self.body(torch.cat([x[:, : self.dense], *found], dim=1))
        return y


def build(spec: ModelSpec, inputs: Inputs, outputs: int, seed: int, loss: str = "mse") -> nn.Module:
    """Return a freshly initialised module; the same arguments give the same weights.

    ``loss`` is the kind of the loss that it is trained with: it says how an ensemble averages.
    """
    torch.manual_seed(seed)
    architecture = architecture_of(spec)
    if isinstance(architecture, TabularSpec):
        body: nn.Module = Tabular(architecture, inputs.looked_up, inputs.numbers, outputs, loss)
    else:
        body = _body(architecture, inputs.looked_up, outputs, seed)
    return Embedded(inputs, body) if inputs.embeddings else body


def fit(module: nn.Module, x: Tensor) -> None:
    """Fit a new module's buffers, where it has such, to the training part ``(rows, inputs)``."""
    body = module.body if isinstance(module, Embedded) else module
    if isinstance(body, Tabular):
        body.fit(x)  # its numbers stand before the codes


def smoothing(spec: ModelSpec) -> float:
    """Return how far, from 0 to 1, the model's targets of classes are smoothed in training."""
    architecture = architecture_of(spec)
    return architecture.label_smoothing if isinstance(architecture, TabularSpec) else 0.0


def _body(
    spec: LinearSpec | MLPSpec | SequentialSpec, inputs: int, outputs: int, seed: int
) -> nn.Module:
    if isinstance(spec, LinearSpec):
        return _linear(spec, inputs, outputs, seed)
    if isinstance(spec, SequentialSpec):
        return _sequential(spec, inputs, outputs)
    widths = [inputs, *spec.hidden]
    layers: list[nn.Module] = []
    for width, hidden in pairwise(widths):
        parts = _layers(spec.hidden_layers(hidden), width)
        layers += [Residual(*parts)] if spec.residual and width == hidden else parts
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


def _sequential(spec: SequentialSpec, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_layers(completed(spec, outputs).layers, width))


def _layers(specs: Sequence[Layer], width: int) -> list[nn.Module]:
    """The layers one after the other; ``width`` columns come into the first."""
    layers: list[nn.Module] = []
    for spec in specs:
        layers.append(getattr(nn, spec.kind)(**spec.options_for(width)))
        width = spec.out(width)
    return layers


def _linear(spec: LinearSpec, inputs: int, outputs: int, seed: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    if spec.init == "normal":
        torch.manual_seed(seed)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(outputs, inputs))
            layer.bias.copy_(torch.randn(outputs))
    return layer


# ---------------------------------------------------------------- starting from another model


def start_from(module: nn.Module, weights: Mapping[str, Tensor], *, with_head: bool) -> None:
    """Load another model's weights; without its head the last ``Linear`` stays as it is."""
    new = () if with_head else _head(module)
    old = {name: tensor for name, tensor in weights.items() if not name.startswith(new)}
    module.load_state_dict(old, strict=with_head)


def _head(module: nn.Module) -> tuple[str, ...]:
    """Prefixes of the names of those parameters that belong to the target."""
    if isinstance(module, Embedded):
        return tuple(f"body.{name}" for name in _head(module.body))
    if isinstance(module, Tabular):
        return module.heads
    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    return tuple(f"{name}." if name else "" for name in linear[-1:])


def freeze(module: nn.Module, spec: PretrainedSpec) -> None:
    """Exclude the parameters that ``spec`` freezes from training."""
    for name, parameter in module.named_parameters():
        if spec.freezes(name):
            parameter.requires_grad_(False)


def training_mode(module: nn.Module) -> None:
    """Call ``module.train()``, but let frozen batch norms keep their running statistics."""
    module.train()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d) and layer.affine and not layer.weight.requires_grad:
            layer.eval()


# ---------------------------------------------------------------- for people


def summary(module: nn.Module, inputs: int) -> list[dict[str, Any]]:
    """Return one entry per layer, found by one forward pass of a row of ``inputs`` columns.

    An entry has ``name``, ``type``, ``output_shape`` and the count of its own ``parameters``.
    """
    layers: list[dict[str, Any]] = []

    def record(name: str, layer: nn.Module) -> Any:
        def hook(_layer: nn.Module, _args: Any, output: Tensor) -> None:
            own = layer.parameters(recurse=False)
            count = sum(parameter.numel() for parameter in own)
            layers.append(
                {
                    "name": name or type(layer).__name__.lower(),
                    "type": type(layer).__name__,
                    "output_shape": [None, *output.shape[1:]],
                    "parameters": count,
                }
            )

        return layer.register_forward_hook(hook)

    named = [
        (name, layer)
        for name, layer in module.named_modules()
        if not [*layer.children()] or [*layer.parameters(recurse=False)]
    ]
    handles = [record(name, layer) for name, layer in named]
    try:
        with torch.inference_mode():
            module.eval()(torch.zeros(1, inputs))
    finally:
        for handle in handles:
            handle.remove()
    return layers
