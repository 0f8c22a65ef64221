"""``/v1/datasets``."""

import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import pyarrow as pa
from anyio import open_file, to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile

from app.api.bodies import StrictRoute, is_json, limited, media_type, read_json, validated
from app.api.deps import PNG_SVG, ContextDep, ImageFormat, PagingDep, RowWindowDep
from app.api.schemas import DatasetList, DatasetOut, DatasetRequest, InlineSource, RowsOut
from app.errors import InvalidRequest, UnsupportedMediaType
from app.ml import csv_files, tables
from app.ml.specs import Name
from app.services import datasets, plots
from app.services.context import Context
from app.storage import explain_os_errors

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=StrictRoute)

CSV_TYPES = {"text/csv", "application/csv"}
_FORM = "multipart/form-data"
_FORM_OVERHEAD = 64 * 1024


class UploadOptions(BaseModel):
    """How to take an uploaded CSV file: in the query, or as fields of the form."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    replace: bool = Field(False, description="move the name from an older dataset to this one")
    delimiter: str = Field(",", min_length=1, max_length=1)
    encoding: str = Field("utf-8", max_length=64, description="a Python codec name")
    header: bool = Field(True, description="whether the first line names the columns")

    def csv(self) -> csv_files.CSVOptions:
        return csv_files.CSVOptions(self.delimiter, self.encoding, self.header)


_FORM_SCHEMA = UploadOptions.model_json_schema()
_FORM_SCHEMA["properties"]["file"] = {"type": "string", "format": "binary"}
_FORM_SCHEMA["required"] = ["file"]
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/DatasetRequest"}},
            "text/csv": {"schema": {"type": "string"}},
            _FORM: {"schema": _FORM_SCHEMA},
        },
    }
}


@router.post("", status_code=201, openapi_extra=_BODY)
async def create_dataset(
    request: Request,
    response: Response,
    context: ContextDep,
    options: Annotated[UploadOptions, Query()],
) -> DatasetOut:
    """Store a table: JSON (inline rows or columns, or a synthetic generator), CSV, or a form."""
    media = media_type(request)
    if is_json(media):
        dataset = await _from_json(request, context)
    elif media in CSV_TYPES:
        async with _upload(context) as path:
            await _save_body(request, path, context.settings.max_upload_bytes)
            dataset = await to_thread.run_sync(_from_csv, context, path, options)
    elif media == _FORM:
        dataset = await _from_form(request, context)
    else:
        raise UnsupportedMediaType(
            f"cannot read '{media[:64]}'; send application/json, text/csv or {_FORM}"
        )
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return dataset


async def _from_json(request: Request, context: Context) -> DatasetOut:
    body = await read_json(request, context.settings.max_json_bytes)

    def store() -> DatasetOut:
        wanted = validated(DatasetRequest, body)
        row = datasets.create(
            context,
            _table(wanted),
            name=wanted.name,
            replace=wanted.replace,
            metadata=wanted.metadata,
        )
        return DatasetOut.of(row)

    return await to_thread.run_sync(store)


def _table(wanted: DatasetRequest) -> pa.Table:
    source = wanted.source
    if not isinstance(source, InlineSource):
        columns = {name: values.tolist() for name, values in source.columns().items()}
        return tables.from_columns(columns, wanted.types)
    if (source.rows is None) == (source.columns is None):
        raise InvalidRequest.at("/source", "an inline source has either 'rows' or 'columns'")
    if source.rows is not None:
        return tables.from_rows(source.rows, wanted.types)
    return tables.from_columns(source.columns or {}, wanted.types)


async def _from_form(request: Request, context: Context) -> DatasetOut:
    counted = limited(request, context.settings.max_upload_bytes + _FORM_OVERHEAD)
    with explain_os_errors():  # a large file is spooled to disk
        form = await counted.form(max_files=1, max_fields=16)
    try:
        fields = {key: value for key, value in form.items() if isinstance(value, str)}
        options = validated(UploadOptions, fields)
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InvalidRequest.at("/file", "the form has no file; send it in the field 'file'")
        async with _upload(context) as path:
            return await to_thread.run_sync(_from_file, context, path, file.file, options)
    finally:
        await form.close()


def _from_file(context: Context, path: Path, file: BinaryIO, options: UploadOptions) -> DatasetOut:
    with explain_os_errors(), path.open("wb") as copy:
        shutil.copyfileobj(file, copy, 1024 * 1024)
    return _from_csv(context, path, options)


def _from_csv(context: Context, path: Path, options: UploadOptions) -> DatasetOut:
    table = csv_files.read_csv(path, options.csv())
    row = datasets.create(context, table, name=options.name, replace=options.replace)
    return DatasetOut.of(row)


@asynccontextmanager
async def _upload(context: Context) -> AsyncIterator[Path]:
    """A file of our own on the data disk that is gone afterwards, whatever happens."""
    path = context.storage.scratch / f"upload.{secrets.token_hex(8)}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


async def _save_body(request: Request, path: Path, limit: int) -> None:
    with explain_os_errors():
        async with await open_file(path, "wb") as file:
            async for chunk in limited(request, limit).stream():
                await file.write(chunk)


# ---------------------------------------------------------------- reading


@router.get("")
def list_datasets(context: ContextDep, paging: PagingDep) -> DatasetList:
    """Newest first."""
    with context.database.read() as session:
        page = datasets.listed(session, paging)
    data = [DatasetOut.of(row) for row in page.rows]
    return DatasetList.of_page(data, page.has_more)  # type: ignore[no-any-return]


@router.get("/{ref}")
def get_dataset(ref: str, context: ContextDep) -> DatasetOut:
    """By id or name."""
    with context.database.read() as session:
        return DatasetOut.of(datasets.find(session, ref))


@router.get("/{ref}/rows")
def get_rows(ref: str, window: RowWindowDep, context: ContextDep) -> RowsOut:
    """A page of the table."""
    total, rows = datasets.rows(context, ref, window.offset, window.limit)
    return RowsOut(offset=window.offset, total=total, rows=rows)


@router.get("/{ref}/plots/{plot}.{image}", response_class=Response)
def get_plot(
    ref: str,
    plot: Literal["scatter"],
    image: ImageFormat,
    context: ContextDep,
    x: str | None = None,
    y: str | None = None,
) -> Response:
    """Two number columns against each other."""
    return Response(plots.scatter(context, ref, x, y, image), media_type=PNG_SVG[image])


@router.delete("/{ref}", status_code=204)
def delete_dataset(ref: str, context: ContextDep) -> None:
    """Forget a dataset that no unfinished job needs."""
    datasets.delete(context, ref)
