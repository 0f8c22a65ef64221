"""What all specs share: closed, strict objects, and the short names they may be given by."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

_MOST_FIELDS = 100
_MOST_PAIRS = 16


def _few(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > _MOST_PAIRS:
        raise PydanticCustomError("too_long", "there can be at most 16 pairs")
    return value


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("the character NUL cannot be kept; leave it out")
    return text


_NoNul = AfterValidator(_without_nul)
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", strict=True)]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64), _NoNul],
        Annotated[str, StringConstraints(max_length=512), _NoNul],
    ],
    Field(max_length=_MOST_PAIRS, description="up to 16 pairs of strings of yours"),
    BeforeValidator(_few),
]
Task = Literal["regression", "binary", "multiclass", "multilabel"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
ColumnName = Annotated[str, StringConstraints(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Spec(BaseModel):
    """Closed and strict: ``"3"`` is no number and a misspelt field is an error."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        validate_default=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _is_no_flood(cls, data: Any) -> Any:
        # every unknown field would be an error of its own, and each costs time and memory
        if isinstance(data, dict) and len(data) > _MOST_FIELDS:
            raise PydanticCustomError("too_many_fields", "there are far too many fields; see /docs")
        return data

    def parameters(self) -> dict[str, Any]:
        """What is handed to the class of torch that ``kind`` names; pairs are tuples there."""
        told = self.model_dump(exclude={"kind"})
        return {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}


def named(value: object) -> object:
    """``"adam"`` is short for ``{"kind": "adam"}``."""
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, Spec) or (isinstance(value, dict) and isinstance(value.get("kind"), str)):
        return value
    raise PydanticCustomError("kind", "give its name, or an object with its name as 'kind'")
