"""Models a job may name, and their sizes by arithmetic alone.

To build a module on torch's meta device and count what it has would say the same, but a job is
planned by a server that does without torch: to import it takes about 1.4 s and 180 MB, and then a
module takes 2 ms (``linear``) to 70 ms (256 layers) of a processor's time, of 6 ms for a whole job.
The arithmetic takes 2 to 300 µs. Tests hold it against modules on the meta device.
"""

from fnmatch import fnmatchcase
from functools import cache
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import BeforeValidator, Field

from app.ml.specs.base import Share, Spec, by_name, plain
from app.ml.specs.layers import LAYERS, DropoutLayer, Layer, LayerSpec, LinearLayer, torch_name

Activation = Literal["relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "elu"]
_ACTIVATIONS = {plain(name): name for name in get_args(Activation)}


def _torchs_spelling(name: object) -> object:
    return _ACTIVATIONS.get(plain(name), name) if isinstance(name, str) else name


"""A layer of ``torch.nn`` in snake case, with its default parameters."""
Norm = Literal["batch", "layer"]
NORM_CLASSES: dict[Norm, str] = {"batch": "BatchNorm1d", "layer": "LayerNorm"}
"""The class in ``torch.nn`` of each norm."""
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
    activation: Annotated[Activation, BeforeValidator(_torchs_spelling)] = "relu"
    norm: Norm | None = None
    dropout: Share = 0.0
    residual: bool = Field(
        False, description="add a layer's input to its output where widths agree"
    )

    def hidden_layers(self, width: int) -> list[Layer]:
        """Return the layers of one hidden ``width`` in their order."""
        layers: list[Layer] = [LinearLayer(out_features=width)]
        if self.norm:
            layers.append(_plain(NORM_CLASSES[self.norm]))
        layers.append(_plain(torch_name(self.activation)))
        if self.dropout:
            layers.append(DropoutLayer(p=self.dropout))
        return layers


@cache
def _plain(name: str) -> Layer:
    """A layer by torch's name with its default parameters."""
    return LAYERS[name].model_validate({"kind": name})


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


_AnyArchitecture = LinearSpec | MLPSpec | SequentialSpec | TabularSpec
Architecture = Annotated[_AnyArchitecture, Field(discriminator="kind"), by_name(_AnyArchitecture)]
"""A model that a module can be built from: any but a pretrained one."""


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


_AnyModel = _AnyArchitecture | PretrainedSpec
ModelSpec = Annotated[_AnyModel, Field(discriminator="kind"), by_name(_AnyModel)]


def architecture_of(model: ModelSpec) -> Architecture:
    """Return what the module is built from; a pretrained model has it once its job is planned."""
    if not isinstance(model, PretrainedSpec):
        return model
    assert model.architecture is not None, "the plan fills it in"
    return model.architecture


class Inputs(NamedTuple):
    """The columns of a feature matrix: some to multiply, then some of codes to look up."""

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
    """Raised where a layer does not fit; ``place`` is its pointer within the model's spec."""

    def __init__(self, place: str, detail: str) -> None:
        super().__init__(detail)
        self.place, self.detail = place, detail


class Size(NamedTuple):
    """How large a module is, in numbers of 4 bytes."""

    parameters: int
    """Trainable numbers."""
    activations: int
    """Numbers that one row leaves behind for the backward pass, about."""


def size_of(model: Architecture, inputs: Inputs, outputs: int) -> Size:
    """Return the size of the module by arithmetic alone; nothing is allocated.

    Raises LayerMismatch.
    """
    width = inputs.looked_up
    match model:
        case LinearSpec():
            size = Size((width + 1) * outputs, width + outputs)
        case MLPSpec():
            size = _size_of_mlp(model, width, outputs)
        case SequentialSpec():
            size = _size_of_layers(model, width, outputs)
        case TabularSpec():
            size = _size_of_tabular(model, inputs, outputs)
    tables = sum(rows * dimensions for rows, dimensions in inputs.embeddings)
    return size._replace(parameters=size.parameters + tables)


def _size_of_mlp(model: MLPSpec, width: int, outputs: int) -> Size:
    parameters, activations = 0, width
    for hidden in model.hidden:
        for layer in model.hidden_layers(hidden):
            parameters += layer.weights(width)
            width = layer.out(width)
            activations += width
        activations += width * model.residual
    return Size(parameters + (width + 1) * outputs, activations + outputs)


def _size_of_tabular(model: TabularSpec, inputs: Inputs, outputs: int) -> Size:
    members, width, bins = model.members, model.width, model.bins or 1
    numbers = len(inputs.numbers)
    columns = inputs.looked_up + numbers * model.embedding
    embed = numbers * model.embedding * (bins + 2)
    first = (columns + 1) * width + 2 * members * width
    hidden = width * width + members * width
    heads = members * (width + 1) * outputs + (columns + 1) * outputs
    activations = 2 * columns + numbers * 2 * bins + members * (4 * width + outputs)
    return Size(embed + first + hidden + heads, activations)


def _size_of_layers(model: SequentialSpec, width: int, outputs: int) -> Size:
    parameters, activations = 0, width
    for position, layer in enumerate(completed(model, outputs).layers):
        field = layer.width_field
        given = getattr(layer, field) if field else None
        if given not in (None, width):
            raise LayerMismatch(
                f"/layers/{position}/{field}",
                f"{layer.kind} takes {given} columns, but {width} come in; "
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
    return Size(parameters, activations)


def completed(model: SequentialSpec, outputs: int) -> SequentialSpec:
    """Return the model with ``outputs`` as the width of a last ``Linear`` that names none."""
    last = model.layers[-1]
    if last.kind != "Linear" or last.out_features is not None:
        return model
    layers = [*model.layers[:-1], last.model_copy(update={"out_features": outputs})]
    return model.model_copy(update={"layers": layers})
