"""What the schemas of several resources share: times, numbers, pages of resources, rows."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, PlainSerializer, SkipValidation


def _rfc3339(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


Time = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str)]
"""A moment in UTC, to the millisecond: ``2026-01-31T12:00:00.000Z``."""
AS_STORED: tuple[Any, ...] = (
    SkipValidation(),  # type: ignore[type-arg]
    PlainSerializer(lambda value: value, return_type=Any),
)
"""Of a field whose value is a dictionary from our database: only the document knows its type."""
OF_MEASURED = "`before_refit`: of the model before it was trained once more, on all rows"
LOSS_UNIT = (
    "of losses: standard deviations of the target in the training part, or the target's own unit; "
    "null where they have none (classification)"
)
Number = float | int | None
"""A metric; null where it is not finite."""


class ListOut(BaseModel):
    """A page of resources; each kind has a list of its own."""

    object: Literal["list"] = "list"
    first_id: str | int | None = None
    last_id: str | int | None = None
    has_more: bool = False

    @classmethod
    def of_page(cls, data: Sequence[Any], has_more: bool = False) -> Self:
        """Return the list of the resources ``data``, each of which has an ``id``."""
        ids = [item.id for item in data]
        return cls.model_validate(
            {
                "data": list(data),
                "first_id": ids[0] if ids else None,
                "last_id": ids[-1] if ids else None,
                "has_more": has_more,
            }
        )


class RowsOut(BaseModel):
    """A page of rows, or of row numbers."""

    object: Literal["rows"] = "rows"
    offset: int
    total: int
    rows: list[Any]
