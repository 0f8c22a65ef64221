"""A model's spec as an ``nn.Module``: ``(rows, inputs)`` in, ``(rows, outputs)`` out."""

from typing import Any

import torch
from torch import Tensor, nn

from app.ml.specs import Inputs, LinearSpec, MLPSpec

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
}
NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class Block(nn.Module):
    """One hidden layer: linear, norm, activation, dropout, and a skip where asked and possible."""

    def __init__(self, inputs: int, outputs: int, spec: MLPSpec) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Linear(inputs, outputs)]
        if spec.norm:
            parts.append(NORMS[spec.norm](outputs))
        parts.append(ACTIVATIONS[spec.activation]())
        if spec.dropout:
            parts.append(nn.Dropout(spec.dropout))
        self.layers = nn.Sequential(*parts)
        self.skip = spec.residual and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.skip else y


class Embedded(nn.Module):
    """Looks up the codes in the last columns, and gives the body all columns as numbers."""

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
        codes = x[:, self.dense :].long()
        found = [embedding(codes[:, i]) for i, embedding in enumerate(self.embeddings)]
        y: Tensor = self.body(torch.cat([x[:, : self.dense], *found], dim=1))
        return y


def build(spec: LinearSpec | MLPSpec, inputs: Inputs, outputs: int, seed: int) -> nn.Module:
    """A freshly initialised module; the same arguments give the same weights."""
    torch.manual_seed(seed)
    body = _body(spec, inputs.looked_up, outputs, seed)
    return Embedded(inputs, body) if inputs.embeddings else body


def _body(spec: LinearSpec | MLPSpec, inputs: int, outputs: int, seed: int) -> nn.Module:
    if isinstance(spec, LinearSpec):
        return _linear(spec, inputs, outputs, seed)
    widths = [inputs, *spec.hidden]
    blocks = [Block(a, b, spec) for a, b in zip(widths, spec.hidden, strict=False)]
    return nn.Sequential(*blocks, nn.Linear(widths[-1], outputs))


def _linear(spec: LinearSpec, inputs: int, outputs: int, seed: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    if spec.init == "normal":
        torch.manual_seed(seed)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(outputs, inputs))
            layer.bias.copy_(torch.randn(outputs))
    return layer


def summary(module: nn.Module, inputs: int) -> list[dict[str, Any]]:
    """One entry per layer: name, type, output shape and parameters, found by one forward pass."""
    layers: list[dict[str, Any]] = []

    def record(name: str, layer: nn.Module) -> Any:
        def hook(_layer: nn.Module, _args: Any, output: Tensor) -> None:
            count = sum(parameter.numel() for parameter in layer.parameters())
            layers.append(
                {
                    "name": name or type(layer).__name__.lower(),
                    "type": type(layer).__name__,
                    "output_shape": [None, *output.shape[1:]],
                    "parameters": count,
                }
            )

        return layer.register_forward_hook(hook)

    leaves = [(name, layer) for name, layer in module.named_modules() if not [*layer.children()]]
    handles = [record(name, layer) for name, layer in leaves]
    try:
        with torch.inference_mode():
            module.eval()(torch.zeros(1, inputs))
    finally:
        for handle in handles:
            handle.remove()
    return layers
