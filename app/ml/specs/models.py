"""Models a job may name, and their sizes by arithmetic alone."""

from fnmatch import fnmatchcase
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from app.ml.specs.base import Share, Spec, named
from app.ml.specs.layers import LayerSpec

Hidden = Annotated[
    list[Annotated[int, Field(ge=1, le=16_384)]],
    Field(min_length=1, max_length=64, fail_fast=True),
]


class LinearSpec(Spec):
    """``torch.nn.Linear``; ``normal``: weights, then bias, by ``torch.randn`` after seeding."""

    kind: Literal["linear"] = "linear"
    init: Literal["default", "normal"] = "default"


class MLPSpec(Spec):
    """A multilayer perceptron: ``Linear``, norm, activation and dropout for each hidden width."""

    kind: Literal["mlp"] = "mlp"
    hidden: Hidden = [64, 64]
    activation: Literal["relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "elu"] = "relu"
    norm: Literal["batch", "layer"] | None = None
    dropout: Share = 0.0
    residual: bool = Field(
        False, description="add a layer's input to its output where widths agree"
    )


class SequentialSpec(Spec):
    """Layers of ``torch.nn`` one after the other; the last gives what the loss takes."""

    kind: Literal["sequential"] = "sequential"
    layers: Annotated[list[LayerSpec], Field(min_length=1, max_length=256, fail_fast=True)] = Field(
        description='for example [{"kind":"Linear","out_features":64},"ReLU","Linear"]'
    )


class TabularSpec(Spec):
    """A strong network for tables: an ensemble in one module on piecewise linear numbers.

    After RealMLP, TabM and embeddings for numbers; brings its own optimizer, scheduler and number
    of epochs where they are left out.
    """

    kind: Literal["tabular"] = "tabular"
    members: int = Field(8, ge=1, le=256, description="networks in the ensemble")
    width: int = Field(128, ge=1, le=16_384, description="of both hidden layers")
    embedding: int = Field(8, ge=1, le=256, description="dimensions of each number")
    label_smoothing: Share = Field(
        0.1, description="of classes, in the training loss; the others are not smoothed"
    )
    bins: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="intervals of each number; left out: by the training rows, 2 to 48",
    )


Architecture = Annotated[
    LinearSpec | MLPSpec | SequentialSpec | TabularSpec,
    Field(discriminator="kind"),
    BeforeValidator(named),
]
"""What a module can be built from."""


class PretrainedSpec(Spec):
    """Starts from the weights of a model version, with its features and their preprocessing.

    Where the target is another one, the last layer starts anew.
    """

    kind: Literal["pretrained"] = "pretrained"
    model: str = Field(min_length=1, max_length=128, description="name, name@3 or name@alias")
    freeze: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        default=[],
        max_length=64,
        description="patterns of parameter names that are not trained, such as '0.*'",
    )
    architecture: Architecture | None = Field(
        None, description="filled in: what the model version is made of"
    )

    def freezes(self, parameter: str) -> bool:
        """Whether a pattern matches the parameter's name."""
        return any(fnmatchcase(parameter, pattern) for pattern in self.freeze)


ModelSpec = Annotated[
    LinearSpec | MLPSpec | SequentialSpec | TabularSpec | PretrainedSpec,
    Field(discriminator="kind"),
    BeforeValidator(named),
]


def architecture_of(model: ModelSpec) -> Architecture:
    """What the module is built from; a pretrained one's is told once it has been planned."""
    if not isinstance(model, PretrainedSpec):
        return model
    assert model.architecture is not None, "the plan fills it in"
    return model.architecture


class Inputs(NamedTuple):
    """What a module is given: columns to multiply, then columns of codes to look up."""

    dense: int
    embeddings: tuple[tuple[int, int], ...] = ()
    """``(rows, dimensions)`` of each embedding."""
    numbers: tuple[int, ...] = ()
    """Which of the dense columns are numbers, not marks of a category or a gap."""

    @property
    def width(self) -> int:
        """Columns of the feature matrix."""
        return self.dense + len(self.embeddings)

    @property
    def looked_up(self) -> int:
        """Columns once the codes have been looked up."""
        return self.dense + sum(dimensions for _, dimensions in self.embeddings)


class LayerMismatch(ValueError):
    """A layer that does not fit; ``place`` is its pointer within the model's spec."""

    def __init__(self, place: str, detail: str) -> None:
        super().__init__(detail)
        self.place, self.detail = place, detail


class Size(NamedTuple):
    """What a module takes."""

    parameters: int
    """Trainable numbers."""
    activations: int
    """Numbers that one row leaves behind for the backward pass, about."""


def size_of(model: Architecture, inputs: Inputs, outputs: int) -> Size:
    """By arithmetic alone; nothing is allocated. Raises LayerMismatch."""
    tables = sum(rows * dimensions for rows, dimensions in inputs.embeddings)
    width = inputs.looked_up
    if isinstance(model, LinearSpec):
        return Size(tables + width * outputs + outputs, width + outputs)
    if isinstance(model, SequentialSpec):
        parameters, activations = _of_layers(model, width, outputs)
        return Size(tables + parameters, width + activations)
    if isinstance(model, TabularSpec):
        parameters, activations = _of_tabular(model, inputs, outputs)
        return Size(tables + parameters, activations)
    dense = sum(a * b + b for a, b in zip([width, *model.hidden], [*model.hidden, outputs]))  # noqa: B905
    norms = 2 * sum(model.hidden) if model.norm else 0
    each = 2 + bool(model.norm) + bool(model.dropout) + model.residual
    return Size(tables + dense + norms, width + each * sum(model.hidden) + outputs)


def _of_tabular(model: TabularSpec, inputs: Inputs, outputs: int) -> tuple[int, int]:
    members, width, bins = model.members, model.width, model.bins or 1
    numbers = len(inputs.numbers)
    columns = inputs.looked_up + numbers * model.embedding
    embed = numbers * model.embedding * (bins + 2)
    first = (columns + 1) * width + 2 * members * width
    hidden = width * width + members * width
    heads = members * (width + 1) * outputs + (columns + 1) * outputs
    activations = 2 * columns + numbers * 2 * bins + members * (4 * width + outputs)
    return embed + first + hidden + heads, activations


def _of_layers(model: SequentialSpec, width: int, outputs: int) -> tuple[int, int]:
    parameters = activations = 0
    for position, layer in enumerate(completed(model, outputs).layers):
        told = getattr(layer, layer.given_width) if layer.given_width else None
        if told not in (None, width):
            raise LayerMismatch(
                f"/layers/{position}/{layer.given_width}",
                f"{layer.kind} takes {told} columns, but {width} come in; "
                f"set it to {width}, or leave it out",
            )
        parameters += layer.weights(width)
        width = layer.out(width)
        activations += width
    if width != outputs:
        raise LayerMismatch(
            f"/layers/{len(model.layers) - 1}",
            f"the last layer gives {width} columns, and this target and loss need {outputs}; "
            f'end with {{"kind": "Linear", "out_features": {outputs}}}',
        )
    return parameters, activations


def completed(model: SequentialSpec, outputs: int) -> SequentialSpec:
    """With the width of a last ``Linear`` that names none."""
    last = model.layers[-1]
    if last.kind != "Linear" or last.out_features is not None:
        return model
    layers = [*model.layers[:-1], last.model_copy(update={"out_features": outputs})]
    return model.model_copy(update={"layers": layers})
