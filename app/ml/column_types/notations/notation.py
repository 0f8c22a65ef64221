"""What is known of how a column's cells are written, and what a client may say of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import pyarrow as pa
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

Decimal = Literal[".", ","]
Thousands = Literal[",", ".", "'", " ", "_"]
DateOrder = Literal["dmy", "mdy", "ymd"]
OnError = Literal["refuse", "missing"]
TimesOf = Literal["%H:%M:%S", "%M:%S"]
"""What times of day and durations are made of."""
_MOMENTS = datetime(2022, 3, 4, 5, 6, 7, tzinfo=UTC), datetime(1999, 12, 31, 23, 58, 59, tzinfo=UTC)
"""They differ in every part."""


def times_of_format(form: str | None) -> TimesOf | None:
    """Return what times are made of by a format of ``strptime``; None where it has a date too."""
    if form is None or re.search("%[^HIMSfp%]", form):
        return None
    return "%H:%M:%S" if re.search("%[HI]", form) else "%M:%S"


def _says_when(form: str) -> str:
    """Return a format of ``strptime``. Raises PydanticCustomError for what is none."""
    written = {moment.strftime(form) for moment in _MOMENTS}
    try:
        for text in written:
            datetime.strptime(text, form)
    except ValueError:
        written = set()
    if len(written) < len(_MOMENTS):
        raise PydanticCustomError("date_format", _NO_FORMAT, {"form": form[:64]})
    return form


_NO_FORMAT = "'{form}' is no format of dates; write it as strptime has it, such as %d/%m/%Y %H:%M"
DateFormat = Annotated[str, Field(max_length=64), AfterValidator(_says_when)]


def _listed(value: Any) -> Any:
    """Return the values of a list with commas."""
    if not isinstance(value, str):
        return value
    return tuple(filter(None, (part.strip() for part in value.split(","))))


def not_both(keep: Any, info: ValidationInfo) -> Any:
    """Return the markers that are values. Raises PydanticCustomError where one of them is to be
    missing too."""
    both = {*_listed(keep or ())} & {*_listed(info.data.get("na_values") or ())}
    if both:
        detail = "'{mark}' stands in na_values too; take it out of one of them"
        raise PydanticCustomError("same_mark", detail, {"mark": min(both)[:64]})
    return keep


def distinct_marks(thousands: str | None, info: ValidationInfo) -> str | None:
    """Return the mark between thousands. Raises PydanticCustomError where it is the decimal mark
    too."""
    if thousands is not None and thousands == info.data.get("decimal"):
        raise PydanticCustomError(
            "same_mark",
            "'{mark}' is the decimal mark already; leave 'thousands' out, or name another",
            {"mark": thousands},
        )
    return thousands


class Notation(BaseModel):
    """How the cells of one column are written, where that is not as JSON and ISO 8601 have it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decimal: Decimal = "."
    thousands: Thousands | None = None
    unit: str | None = None
    """What stands around the numbers, such as ``$`` or ``kg``; ``%`` means that 12% is 12."""
    date_order: DateOrder | None = None
    date_format: str | None = None
    """As ``strptime`` has it; what a client asked for, or what the first cell looks like."""
    short: bool = False
    """Whether words such as k and M behind numbers multiply them."""
    folded: bool = False
    """Whether labels that differ in case or blanks only are one label."""


Listed = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(max_length=1000)]
"""Strings as a list, or as one with commas."""


class CellOptions(BaseModel):
    """What a client says of the cells of a file; left out, each is found out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decimal: Decimal | None = None
    thousands: Literal[Thousands, "none"] | None = None
    na_values: Listed = ()
    """Markers of missing values besides the usual ones, in columns of any type."""
    keep_na: Listed = ()
    """Usual markers that are values here, such as Namibia's ``NA``."""
    date_order: DateOrder | None = None
    date_format: DateFormat | None = None
    on_error: OnError = "refuse"
    """What becomes of a cell that its column's type cannot be read from."""

    _distinct = field_validator("thousands")(distinct_marks)
    _apart = field_validator("keep_na")(not_both)

    def for_others(self) -> dict[str, Any]:
        """Return, as JSON has it, what holds for other files of the same kind too: what a cell
        means, not how this file writes it."""
        return self.model_dump(mode="json", include=_FOR_OTHERS, exclude_defaults=True)

    @classmethod
    def of_reading(cls, reading: Mapping[str, Any] | None) -> "CellOptions":
        """Return what a dataset's ``reading`` says for other files."""
        said = reading or {}
        return cls(**{name: said[name] for name in _FOR_OTHERS if name in said})


_FOR_OTHERS = {"na_values", "keep_na", "on_error"}


AS_FOUND = CellOptions()
"""What nothing is said of."""


@dataclass(frozen=True)
class Evidence:
    """What the rest of a file says of how numbers and dates are written in it."""

    delimiter: str | None = None
    """Between the cells of a text file."""
    decimal: Decimal | None = None
    date_order: DateOrder | None = None


@dataclass(frozen=True)
class Recognised:
    """Distinct cells as values ``(cells,)``, and how they are written."""

    values: pa.Array
    notation: Notation


@dataclass(frozen=True)
class Undecided:
    """Cells that can be read in two ways, and nothing says which."""


@dataclass(frozen=True)
class Cells:
    """All that is known of a column's cells before they are looked at."""

    options: CellOptions = AS_FOUND
    evidence: Evidence = Evidence()
    notation: Notation | None = None
    """That of the column on which a model was trained; None where it was plain, or without one."""
    of_model: bool = False
    """Whether there is a model that was trained on such a column."""
    explains: bool = True
    """Whether it is worth a while to find out why a column is neither of numbers nor of dates."""


AS_USUAL = Cells()


_Vote = TypeVar("_Vote", bound=str)


def unanimous(votes: Sequence[_Vote]) -> _Vote | None:
    """Return what all ``votes`` say, None where they differ or there are none."""
    return votes[0] if votes and len(set(votes)) == 1 else None
