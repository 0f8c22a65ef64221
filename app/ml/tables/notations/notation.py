"""What is known of how a column's cells are written, and what a client may say of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import pyarrow as pa
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

Decimal = Literal[".", ","]
Thousands = Literal[",", ".", "'", " ", "_"]
DateOrder = Literal["dmy", "mdy", "ymd"]
_MOMENTS = datetime(2022, 3, 4, 5, 6, 7), datetime(1999, 12, 31, 23, 58, 59)
"""They differ in every part."""


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


class CellOptions(BaseModel):
    """What a client says of the cells of a file; left out, each is found out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decimal: Decimal | None = None
    thousands: Literal[Thousands, "none"] | None = None
    na_values: tuple[str, ...] = ()
    """Markers of missing values besides the usual ones, in columns of any type."""
    keep_na: tuple[str, ...] = ()
    """Usual markers that are values here, such as Namibia's ``NA``."""
    date_order: DateOrder | None = None
    date_format: DateFormat | None = None
    on_error: Literal["refuse", "missing"] = "refuse"
    """What becomes of a cell that its column's type cannot be read from."""

    _distinct = field_validator("thousands")(distinct_marks)


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
    """That of the column on which a model was trained."""


AS_USUAL = Cells()


_Vote = TypeVar("_Vote", bound=str)


def unanimous(votes: Sequence[_Vote]) -> _Vote | None:
    """Return what all ``votes`` say, None where they differ or there are none."""
    return votes[0] if votes and len(set(votes)) == 1 else None
