"""What all specs share: closed, strict objects, and the short forms they may be given in."""

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
"""Fields of one object that are looked at; no spec has as many."""
_MOST_PAIRS = 16
"""Pairs of a job's metadata."""


def _refuse_many(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > _MOST_PAIRS:
        raise PydanticCustomError("too_long", "there can be at most 16 pairs")
    return value


def _refuse_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("the character NUL cannot be kept; leave it out")
    return text


_NoNul = AfterValidator(_refuse_nul)
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", strict=True)]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64), _NoNul],
        Annotated[str, StringConstraints(max_length=512), _NoNul],
    ],
    Field(max_length=_MOST_PAIRS, description="up to 16 pairs of strings of yours"),
    BeforeValidator(_refuse_many),
]
Task = Literal["regression", "binary", "multiclass", "multilabel"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
ColumnName = Annotated[str, StringConstraints(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Spec(BaseModel):
    """A closed and strict object: ``"3"`` is no number and a misspelt field is an error."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        validate_default=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_flood(cls, data: Any) -> Any:
        # every unknown field would be an error of its own, and each costs time and memory
        if isinstance(data, dict) and len(data) > _MOST_FIELDS:
            raise PydanticCustomError("too_many_fields", "there are far too many fields; see /docs")
        return data

    def torch_options(self) -> dict[str, Any]:
        """Return the parameters as keyword arguments of the torch class; pairs are tuples there."""
        fields = self.model_dump(exclude={"kind"})
        return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def expanded(value: object) -> object:
    """Return ``{"kind": "adam"}`` for the short form ``"adam"``; what is long stays as it is.

    Raises PydanticCustomError where there is no name.
    """
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, Spec) or (isinstance(value, dict) and isinstance(value.get("kind"), str)):
        return value
    raise PydanticCustomError("kind", "give its name, or an object with its name as 'kind'")
