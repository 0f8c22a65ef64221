"""Layers of ``torch.nn`` that make sense for rows of numbers, by their names there.

Widths are inferred from layer to layer; where one is given as well it has to agree. Left out:
convolutions, recurrence and pooling (columns have no order), embeddings (made for the categories
that need them) and softmax (losses here take logits). One more layer is a class here, and its name
in the union below.
"""

from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from app.ml.specs.base import NotNegative, Positive, Share, Spec, by_name, kinds_of, plain

Width = Annotated[int, Field(ge=1, le=65_536)]


class Layer(Spec):
    """``(rows, width)`` in, ``(rows, out(width))`` out; ``kind`` is its class in ``torch.nn``."""

    width_field: ClassVar[str | None] = None
    """The field that names the width of what comes in."""
    kind: str

    def out(self, width: int) -> int:
        """Return the width of what goes out."""
        return width

    def weights(self, width: int) -> int:
        """Return how many trainable numbers it has."""
        return 0

    def options_for(self, width: int) -> dict[str, Any]:
        """Return the keyword arguments of the torch class where ``width`` columns come in."""
        options = self.torch_options()
        return options if self.width_field is None else {**options, self.width_field: width}


class LinearLayer(Layer):
    """``Linear``; ``out_features`` of the last layer may be left out."""

    width_field = "in_features"
    kind: Literal["Linear"] = "Linear"
    in_features: Width | None = None
    out_features: Width | None = None
    bias: bool = True

    def out(self, width: int) -> int:
        return self.out_features or width

    def weights(self, width: int) -> int:
        return (width + self.bias) * self.out(width)

    def options_for(self, width: int) -> dict[str, Any]:
        return {**super().options_for(width), "out_features": self.out(width)}


class BatchNormLayer(Layer):
    """``BatchNorm1d``."""

    width_field = "num_features"
    kind: Literal["BatchNorm1d"] = "BatchNorm1d"
    num_features: Width | None = None
    eps: Positive = 1e-5
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.1
    affine: bool = True

    def weights(self, width: int) -> int:
        return 2 * width * self.affine


class LayerNormLayer(Layer):
    """``LayerNorm`` over the columns."""

    width_field = "normalized_shape"
    kind: Literal["LayerNorm"] = "LayerNorm"
    normalized_shape: Width | None = None
    eps: Positive = 1e-5
    elementwise_affine: bool = True
    bias: bool = True

    def weights(self, width: int) -> int:
        return (1 + self.bias) * width * self.elementwise_affine


class RMSNormLayer(Layer):
    """``RMSNorm`` over the columns."""

    width_field = "normalized_shape"
    kind: Literal["RMSNorm"] = "RMSNorm"
    normalized_shape: Width | None = None
    eps: Positive | None = None
    elementwise_affine: bool = True

    def weights(self, width: int) -> int:
        return width * self.elementwise_affine


class DropoutLayer(Layer):
    """``Dropout``, and ``AlphaDropout`` for SELU networks."""

    kind: Literal["Dropout", "AlphaDropout"] = "Dropout"
    p: Share = 0.5


class PlainActivation(Layer):
    """An activation without parameters."""

    kind: Literal[
        "ReLU",
        "ReLU6",
        "SiLU",
        "Mish",
        "SELU",
        "Tanh",
        "Sigmoid",
        "LogSigmoid",
        "Softsign",
        "Tanhshrink",
        "Hardswish",
        "Hardsigmoid",
        "Identity",
    ]


class GELULayer(Layer):
    """``GELU``."""

    kind: Literal["GELU"] = "GELU"
    approximate: Literal["none", "tanh"] = "none"


class LeakyReLULayer(Layer):
    """``LeakyReLU``."""

    kind: Literal["LeakyReLU"] = "LeakyReLU"
    negative_slope: NotNegative = 0.01


class ELULayer(Layer):
    """``ELU`` and ``CELU``."""

    kind: Literal["ELU", "CELU"] = "ELU"
    alpha: Positive = 1.0


class SoftplusLayer(Layer):
    """``Softplus``."""

    kind: Literal["Softplus"] = "Softplus"
    beta: Positive = 1.0
    threshold: Positive = 20.0


class HardtanhLayer(Layer):
    """``Hardtanh`` between -1 and 1."""

    kind: Literal["Hardtanh"] = "Hardtanh"


class PReLULayer(Layer):
    """``PReLU`` with one slope for all columns."""

    kind: Literal["PReLU"] = "PReLU"
    init: float = 0.25

    def weights(self, width: int) -> int:
        return 1


_AnyLayer = (
    LinearLayer
    | BatchNormLayer
    | LayerNormLayer
    | RMSNormLayer
    | DropoutLayer
    | PlainActivation
    | GELULayer
    | LeakyReLULayer
    | ELULayer
    | SoftplusLayer
    | HardtanhLayer
    | PReLULayer
)

LAYERS = cast(dict[str, type[Layer]], kinds_of(_AnyLayer))
"""The class of every layer by torch's name."""

_BY_PLAIN_NAME = {plain(name): name for name in LAYERS}


def torch_name(name: str) -> str:
    """Return torch's spelling of a layer that may be written in snake case or in any case.

    What is no layer stays as it is.
    """
    return _BY_PLAIN_NAME.get(plain(name), name)


LayerSpec = Annotated[_AnyLayer, Field(discriminator="kind"), by_name(_AnyLayer)]
"""Any of the layers, by its name or as an object with its parameters."""
