"""``/v1/datasets``."""

from functools import partial
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from app.api.deps import (
    ContextDep,
    ExportsDep,
    NamedDep,
    PicturesDep,
    RowWindowDep,
    UploadsDep,
)
from app.api.downloads import BINARY, PICTURE, TEXT, ImageFormat
from app.api.http.bodies import read_json
from app.api.http.idempotency import IdempotentRequest, IdempotentRequestDep, canonical_json
from app.api.http.json_route import StrictJSONRoute
from app.api.http.lanes import HeldDep
from app.api.http.media_types import chosen, is_json, media_type
from app.api.schemas.common import RowsOut
from app.api.schemas.datasets import (
    DatasetList,
    DatasetOut,
    DatasetPreview,
    DatasetRequest,
    InlineSource,
    ReadingOptions,
    UploadSource,
)
from app.api.schemas.uploads import UploadOptions
from app.api.uploads import FORM, FORMATS, Uploads, created_response
from app.errors import InvalidRequest
from app.ml.specs.mistakes import checked
from app.ml.tables import content, json_rows
from app.ml.tables.ingest import Options
from app.ml.tables.typed import TypedTable
from app.runtime.context import Context
from app.services.datasets import creation, datasets, plots
from app.services.datasets import uploads as kept_uploads

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=StrictJSONRoute)

_FORM_SCHEMA = UploadOptions.model_json_schema()
_FORM_SCHEMA["properties"]["file"] = {"type": "string", "format": "binary"}
_FORM_SCHEMA["required"] = ["file"]
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"$ref": "#/components/schemas/DatasetRequest"},
                        {"type": "array", "items": {"type": "object"}, "minItems": 1},
                    ]
                }
            },
            **dict.fromkeys(FORMATS, BINARY),
            FORM: {"schema": _FORM_SCHEMA},
        },
    }
}


@router.post(
    "",
    status_code=201,
    openapi_extra=_BODY,
    responses={
        200: {"model": DatasetPreview, "description": "with dry_run"},
        201: {"model": DatasetOut},
    },
    response_model=None,
)
async def create_dataset(
    request: Request,
    context: ContextDep,
    uploads: UploadsDep,
    idempotent: IdempotentRequestDep,
    options: Annotated[UploadOptions, Query()],
) -> Response:
    """Store a table: JSON (inline rows or columns, or a synthetic generator), a file, or a form."""
    media = media_type(request)
    if is_json(media):
        await _create_from_json(request, context, uploads, idempotent, options)
    elif media == FORM:
        await uploads.create_from_form(request, idempotent, options)
    else:
        await uploads.create_from_body(request, idempotent, options)
    return idempotent.response


async def _create_from_json(
    request: Request,
    context: Context,
    uploads: Uploads,
    idempotent: IdempotentRequest,
    options: UploadOptions,
) -> None:
    value = await read_json(request, context.settings.max_json_bytes)
    if isinstance(value, list):
        body = _of_rows(value, options)
    else:
        said = options.model_dump(exclude_defaults=True, exclude={"dry_run"})
        for name in said:  # generated clients send the defaults
            raise InvalidRequest.at(f"/{name}", f"with a JSON object, '{name}' goes into it")
        if isinstance(value, dict) and not value.keys() & DatasetRequest.model_fields.keys():
            detail = (
                "'source' is required; a table itself is an array of rows (of pandas: "
                'df.to_json(orient="records")), or stands in it: {"source": {"kind": "inline", '
                '"columns": {…}}}'
            )
            raise InvalidRequest.at("/source", detail, "missing")
        body = checked(DatasetRequest, value)
    at = "" if isinstance(value, list) else "/source/rows"
    if options.dry_run:
        idempotent.response = await uploads.previewed(lambda: _preview(context, body, at))
        return
    if idempotent.has_key:
        said = options.model_dump(mode="json") if isinstance(value, list) else {}
        await idempotent.replay(await to_thread.run_sync(canonical_json, [value, said]))
    await to_thread.run_sync(_store, context, body, at, idempotent.recorder(created_response))


def _of_rows(rows: list[Any], options: UploadOptions) -> DatasetRequest:
    """Return the request for a body that is an array of rows; its options are in the query."""
    reading = ReadingOptions(**options.cells().model_dump())
    return DatasetRequest(
        name=options.name,
        source=InlineSource(kind="inline", rows=rows),
        types=options.types or {},
        reading=reading,
        replace=options.replace,
    )


def _store(context: Context, body: DatasetRequest, at: str, on_create: creation.OnCreate) -> None:
    naming = creation.Naming(body.name, body.replace, body.metadata)
    if isinstance(body.source, UploadSource):
        upload, options = _file(context, body)
        with kept_uploads.held(context, upload) as path:
            creation.create_from_file(context, path, options, naming, on_create)
    else:
        creation.create(context, _table(body, at), naming, on_create)


def _preview(context: Context, body: DatasetRequest, at: str) -> creation.Preview:
    if isinstance(body.source, UploadSource):
        upload, options = _file(context, body)
        with kept_uploads.held(context, upload) as path:
            return creation.preview_file(context, path, options)
    return creation.preview(context, _table(body, at))


def _file(context: Context, body: DatasetRequest) -> tuple[kept_uploads.Upload, Options]:
    """Return a kept file, and how it is to be read. Raises InvalidRequest."""
    assert isinstance(body.source, UploadSource)
    upload = kept_uploads.find(context, body.source.id, "/source/id")
    shape = body.reading.of_files()
    if upload.tabbed:
        shape = {"delimiter": "\t", **shape}
    cells = body.reading.cells()
    return upload, Options(format=upload.format, types=body.column_types, cells=cells, **shape)


def _table(body: DatasetRequest, at: str) -> TypedTable:
    """Return the table of a body's own source; rows stand ``at`` a place of it."""
    source, cells = body.source, body.reading.cells()
    for name in body.reading.of_files():
        raise InvalidRequest.at(f"/reading/{name}", f"'{name}' is of files; leave it out here")
    if isinstance(source, InlineSource):
        if (source.rows is None) == (source.columns is None):
            raise InvalidRequest.at("/source", "an inline source has either 'rows' or 'columns'")
        if source.rows is not None:
            return json_rows.from_rows(source.rows, body.column_types, cells, at)
        return json_rows.from_columns(source.columns or {}, body.column_types, cells)
    assert not isinstance(source, UploadSource)
    columns = {name: values.tolist() for name, values in source.columns().items()}
    return json_rows.from_columns(columns, body.column_types)


# ---------------------------------------------------------------- reading

_FORMATS = {content.CSV: "csv", content.PARQUET: "parquet", content.ARROW: "arrow"}
_TABLES = {"content": {**dict.fromkeys(content.MEDIA, BINARY), content.CSV: TEXT}}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: _TABLES,
    206: {"description": "the range that was asked for", **_TABLES},
    304: {"description": "If-None-Match has its ETag"},
}


@router.get("")
def list_datasets(context: ContextDep, paging: NamedDep) -> DatasetList:
    """Newest first."""
    with context.database.read() as session:
        page = datasets.listed(session, paging)
    data = [DatasetOut.of(row) for row in page.rows]
    return DatasetList.of_page(data, page.has_more)


@router.get("/{ref}")
def get_dataset(ref: str, context: ContextDep) -> DatasetOut:
    """By id or name."""
    with context.database.read() as session:
        return DatasetOut.of(datasets.find(session, ref))


@router.get("/{ref}/rows", response_model=RowsOut)
def get_dataset_rows(
    ref: str,
    window: RowWindowDep,
    context: ContextDep,
    columns: Annotated[
        str | None, Query(description="some columns, with commas between their names")
    ] = None,
) -> Response:
    """A page of the table; at most 16 MiB."""
    total, rows = datasets.rows(context, ref, window.offset, window.limit, columns)
    head = b'{"object":"rows","offset":%d,"total":%d,"rows":' % (window.offset, total)
    return Response(b"%b%b}" % (head, rows), media_type="application/json")


@router.get("/{ref}/content", response_class=Response, responses=_CONTENT)
async def get_dataset_content(
    ref: str,
    request: Request,
    context: ContextDep,
    exports: ExportsDep,
    held: HeldDep,
    format: Literal["csv", "parquet", "arrow"] | None = None,  # noqa: A002
) -> Response:
    """The whole table, or ranges of it: CSV, or by ``format`` or ``Accept`` Parquet or Arrow."""
    media = chosen(request.headers.get("accept", ""), format, _FORMATS)
    return await exports.response(request, held, partial(datasets.file_of, context, ref), media)


@router.get("/{ref}/plots/{plot}.{image}", response_class=Response, responses=PICTURE)
async def get_dataset_plot(
    ref: str,
    plot: Literal["scatter", "histogram", "correlation"],
    image: ImageFormat,
    request: Request,
    context: ContextDep,
    pictures: PicturesDep,
    held: HeldDep,
    x: str | None = None,
    y: str | None = None,
) -> Response:
    """Two columns against each other, the values of one, or how numbers go together."""
    return await pictures.response(
        request, held, image, lambda: plots.picture(context, ref, plot, x, y)
    )


@router.delete("/{ref}", status_code=204)
def delete_dataset(ref: str, context: ContextDep) -> None:
    """Forget a dataset that no unfinished job needs."""
    datasets.delete(context, ref)
