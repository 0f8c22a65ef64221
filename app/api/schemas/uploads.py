"""Uploaded files: how a client says that they are read, and files that are kept for a day."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, Json, field_validator

from app.api.schemas.common import Time
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.notations.notation import (
    CellOptions,
    DateFormat,
    DateOrder,
    Decimal,
    OnError,
    Thousands,
    distinct_marks,
    not_both,
)
from app.ml.specs import Name
from app.ml.tables import ingest
from app.ml.tables.formats import Format
from app.services.datasets.uploads import Upload


class FileOptions(BaseModel):
    """How a file is laid out, in the query; how its cells are written a model knows."""

    model_config = ConfigDict(extra="forbid")

    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="CSV: one character, or space for runs of blanks; left out: found in the rows",
    )
    encoding: str | None = Field(
        None, max_length=64, description="CSV and NDJSON; left out: by its BOM, else UTF-8"
    )
    header: bool | None = Field(
        None, description="CSV: whether the first line names the columns; left out: found"
    )
    skip_rows: int | None = Field(
        None, ge=0, le=10_000, description="CSV: lines before the header; left out: found"
    )
    comment: str | None = Field(
        None, min_length=1, max_length=8, description="CSV: how lines above begin that are no rows"
    )
    sheet: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="of xlsx and ods; left out: the first",
    )
    on_error: OnError | None = Field(
        None,
        description="what becomes of a cell that does not fit its column: of `types` (left out: "
        "refuse), or of a model (left out: as it was said of its dataset)",
    )

    def ingest_options(
        self, file_format: Format, delimiter: str | None, encoding: str | None
    ) -> ingest.Options:
        """Return how to read the file; ``delimiter`` and ``encoding``, as its media type has them,
        hold where no option says more."""
        return ingest.Options(
            format=file_format,
            delimiter=self.delimiter or delimiter,
            encoding=self.encoding or encoding,
            header=self.header,
            skip_rows=self.skip_rows,
            comment=self.comment,
            sheet=self.sheet,
        )


class EvaluateOptions(FileOptions):
    """What is asked of a file whose outcomes are known."""

    by: str | None = Field(
        None,
        min_length=1,
        description="with a file: one of its columns, by whose values the metrics are told too",
    )


class UploadOptions(FileOptions):
    """How to take an uploaded file: in the query, or as fields of the form."""

    name: Name | None = None
    dry_run: bool = Field(False, description="say what was understood, and store nothing")
    replace: bool = Field(False, description="move the name from an older dataset to this one")
    types: Json[dict[str, TypeName]] | None = Field(
        None,
        description='JSON: column types that differ from the inferred ones, {"zip":"category"}',
    )
    decimal: Decimal | None = Field(
        None, description="decimal mark; left out: found in the file's numbers"
    )
    thousands: Literal[Thousands, "none"] | None = Field(
        None, description="what separates thousands; left out: found in each column"
    )
    na_values: str | None = Field(
        None, max_length=4096, description="more markers of missing values, separated by commas"
    )
    keep_na: str | None = Field(
        None, max_length=4096, description="usual markers that are values here, such as NA"
    )
    date_order: DateOrder | None = Field(
        None, description="of dates like 03/04/2023; left out: found in each column"
    )
    date_format: DateFormat | None = Field(
        None, description="of dates, as strptime has it: %d/%m/%Y"
    )

    _distinct = field_validator("thousands")(distinct_marks)
    _apart = field_validator("keep_na")(not_both)

    def ingest_options(
        self, file_format: Format, delimiter: str | None, encoding: str | None
    ) -> ingest.Options:
        """Return how to read the file and its cells; see ``FileOptions``."""
        shape = super().ingest_options(file_format, delimiter, encoding)
        return shape.model_copy(update={"types": self.types or {}, "cells": self.cells()})

    def cells(self) -> CellOptions:
        """Return what is said of how cells are written."""
        return CellOptions(
            **self.model_dump(include={*CellOptions.model_fields}, exclude_none=True)
        )


class UploadOut(BaseModel):
    """A file as it was sent, kept for a day, of which datasets can be made."""

    id: str
    object: Literal["upload"] = "upload"
    size_bytes: int
    expires_at: Time

    @classmethod
    def of(cls, upload: Upload) -> "UploadOut":
        """Return a kept file as the API shows it."""
        expires: datetime = upload.expires_at
        return cls(id=upload.id, size_bytes=upload.size_bytes, expires_at=expires)
