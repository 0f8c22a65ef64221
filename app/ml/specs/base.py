"""What all specs share: closed, strict objects, and the short forms they may be given in."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

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
        raise PydanticCustomError("too_many_pairs", "there can be at most 16 pairs")
    return value


def _refuse_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "the character NUL cannot be kept; leave it out")
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
        return _spelt(cls, data) if isinstance(data, dict) else data

    def torch_options(self) -> dict[str, Any]:
        """Return the parameters as keyword arguments of the torch class; pairs are tuples there."""
        fields = self.model_dump(exclude={"kind"})
        return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def _spelt(spec: type[Spec], data: dict[str, Any]) -> dict[str, Any]:
    """Return an object's fields with names of a closed list spelt as there: ``"CPU"`` is ``"cpu"``,
    as ``"AdamW"`` is ``"adamw"``."""
    choices = _choices(spec)
    return {
        field: choices[field].get(plain(value), value)
        if isinstance(value, str) and field in choices
        else value
        for field, value in data.items()
    }


@cache
def _choices(spec: type[Spec]) -> dict[str, dict[str, str]]:
    """Return the names that fields of a spec choose from, by field and by how they compare."""
    fields = ((name, _names_in(field.annotation)) for name, field in spec.model_fields.items())
    return {name: {plain(choice): choice for choice in names} for name, names in fields if names}


def _names_in(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if isinstance(choice, str)]
    parts = get_args(annotation)
    if any(part is str for part in parts):  # anything goes
        return []
    return [name for part in parts for name in _names_in(part)]


def plain(name: str) -> str:
    """Return a name as it is compared: without case, underscores and the module before it, so that
    torch's own classes (``AdamW``, ``torch.nn.MSELoss``) and snake case mean the same."""
    return name[:64].rpartition(".")[2].lower().replace("_", "")


def kinds_of(union: Any) -> dict[str, type["Spec"]]:
    """Return the members of a union of specs by each name in their ``kind``."""
    return {
        kind: member
        for member in get_args(union)
        for kind in get_args(member.model_fields["kind"].annotation)
    }


def by_name(union: Any, aliases: Mapping[str, str] | None = None) -> BeforeValidator:
    """Take members of ``union`` also by their names alone: ``"adam"`` for ``{"kind": "adam"}``.

    A name may be the ``kind``, the torch class or one of the ``aliases``, in any case.
    The validator raises PydanticCustomError where there is no name.
    """
    members = kinds_of(union)
    kinds = {plain(kind): kind for kind in members}
    kinds |= {plain(m.torch_class): k for k, m in members.items() if hasattr(m, "torch_class")}
    kinds |= {plain(alias): kind for alias, kind in (aliases or {}).items()}

    def expand(value: object) -> object:
        spec = {"kind": value} if isinstance(value, str) else value
        if isinstance(spec, dict) and isinstance(kind := spec.get("kind"), str):
            return {**spec, "kind": kinds.get(plain(kind), kind)}
        if isinstance(spec, Spec):
            return spec
        raise PydanticCustomError("kind", "give its name, or an object with its name as 'kind'")

    alone = [kind for kind, member in members.items() if _has_defaults(member)]
    names = Literal[*alone]  # type: ignore[valid-type]
    return BeforeValidator(
        expand, json_schema_input_type=names | Annotated[union, Field(discriminator="kind")]
    )


def _has_defaults(spec: type["Spec"]) -> bool:
    fields = spec.model_fields.items()
    return not any(field.is_required() for name, field in fields if name != "kind")
