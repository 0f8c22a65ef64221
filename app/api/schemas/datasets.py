"""Datasets as the API takes and shows them."""

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.common import AS_STORED, ListOut, Time
from app.db.models import Dataset
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.notations.notation import CellOptions, Notation
from app.ml.specs import Metadata, Name, Spec
from app.ml.tables.roles import Role
from app.ml.tables.synthetic import SyntheticSource
from app.services.datasets.creation import Preview


class InlineSource(Spec):
    """The table itself, as objects or as named lists."""

    kind: Literal["inline"]
    rows: list[Any] | None = Field(None, description="objects, one a row")
    columns: dict[str, Any] | None = Field(None, description="lists by name, all of one length")


class UploadSource(Spec):
    """A file that was sent to /v1/uploads."""

    kind: Literal["upload"]
    id: str = Field(max_length=64)


class ReadingOptions(CellOptions):
    """How a table is read; what concerns the shape of a file holds for uploads alone."""

    delimiter: str | None = Field(None, min_length=1, max_length=64)
    encoding: str | None = Field(None, max_length=64)
    header: bool | None = None
    skip_rows: int | None = Field(None, ge=0, le=10_000)
    comment: str | None = Field(None, min_length=1, max_length=8)
    sheet: str | None = Field(None, min_length=1, max_length=64)
    types: dict[str, TypeName] = Field(default={}, description="the same as beside 'reading'")

    def of_files(self) -> dict[str, Any]:
        """Return what concerns the shape of a file, as far as it is said."""
        said = self.model_dump(exclude_none=True)
        of_cells = {*CellOptions.model_fields, "types"}
        return {name: value for name, value in said.items() if name not in of_cells}

    def cells(self) -> CellOptions:
        """Return the options of how cells are written, without those of where they stand."""
        return CellOptions(**self.model_dump(include={*CellOptions.model_fields}))


class DatasetRequest(Spec):
    """A dataset given as JSON."""

    name: Name | None = None
    source: Annotated[InlineSource | UploadSource | SyntheticSource, Field(discriminator="kind")]
    types: dict[str, TypeName] = Field(
        default={}, description="column types that differ from the inferred ones"
    )
    reading: ReadingOptions = Field(
        default=ReadingOptions(), description="how the table is written; left out: found"
    )
    replace: bool = Field(False, description="move the name from an older dataset to this one")
    metadata: Metadata = {}

    @property
    def column_types(self) -> dict[str, TypeName]:
        """Types by column, wherever they were said."""
        return self.reading.types | self.types


class ColumnOut(BaseModel):
    """A column and what its values are like; what does not apply to its type is left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-optional": [
                *("distinct", "min", "max", "mean", "std", "top"),
                *("format", "unit", "missing_as", "notation", "role"),
            ]
        }
    )
    name: str
    type: TypeName
    count: int = Field(description="values that are there")
    missing: int
    distinct: int | None = None
    min: float | str | None = None
    max: float | str | None = None
    mean: float | None = None
    std: float | None = Field(None, description="with n - 1")
    top: list[list[Any]] | None = Field(None, description="the most frequent values and how often")
    role: Role | None = Field(None, description="whether a job takes it as a feature by itself")
    format: str | None = Field(None, description="of dates that are not ISO 8601: %d/%m/%Y")
    unit: str | None = Field(None, description="what stood around the numbers: $, %, kg")
    missing_as: dict[str, int] | None = Field(
        None, description="cells that were taken as missing, and how many"
    )
    notation: Notation | None = Field(
        None, description="how cells are written that are not plain; what differs from plain"
    )


class DatasetOut(BaseModel):
    """An immutable table."""

    id: str
    object: Literal["dataset"] = "dataset"
    name: str | None
    rows: int
    columns: Annotated[list[ColumnOut], *AS_STORED]
    reading: dict[str, Any] | None = Field(
        description="of a text file: delimiter, line of the header, what was left out"
    )
    warnings: list[str]
    size_bytes: int
    sha256: str = Field(description="of the stored table; equal content gives equal hashes")
    created_at: Time
    metadata: dict[str, str]

    @classmethod
    def of(cls, row: Dataset) -> "DatasetOut":
        """Return a stored dataset as the API shows it."""
        return cls(
            id=row.id,
            name=row.name,
            rows=row.rows,
            columns=cast(list[ColumnOut], row.columns),
            reading=row.reading,
            warnings=row.warnings,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            created_at=row.created_at,
            metadata=row.metadata_,
        )


class DatasetPreview(BaseModel):
    """What was understood of a table that was not stored, and its first ten rows."""

    object: Literal["preview"] = "preview"
    rows: int
    columns: Annotated[list[ColumnOut], *AS_STORED]
    reading: dict[str, Any] | None
    warnings: list[str]
    preview: list[Any]

    @classmethod
    def of(cls, preview: Preview) -> "DatasetPreview":
        """Return a preview as the API shows it."""
        summary = preview.summary
        return cls(
            rows=summary.rows,
            columns=cast(list[ColumnOut], summary.columns),
            reading=summary.reading,
            warnings=summary.warnings,
            preview=preview.first_rows,
        )


class DatasetList(ListOut):
    data: list[DatasetOut]


class DatasetRef(BaseModel):
    id: str
    name: str | None
