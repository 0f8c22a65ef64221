"""Uploaded files: streamed to the data disk, whether body or form, and which format each is."""

import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from app.api.http.bodies import GZIP, UNCOMPRESSED, Codings, limited
from app.api.http.idempotency import IdempotentRequest, canonical_json
from app.api.http.media_types import charset, is_json, media_type, without_parameters
from app.api.http.responses import json_response
from app.api.schemas.datasets import DatasetOut, DatasetPreview
from app.api.schemas.uploads import FileOptions, UploadOptions, UploadOut
from app.db.models import Dataset
from app.errors import InvalidData, InvalidRequest, MalformedRequest, UnsupportedMediaType
from app.hashes import sha256_of
from app.ml.specs.mistakes import checked
from app.ml.tables import ingest
from app.ml.tables.formats import TEXT, Format, format_of, guess
from app.runtime.context import Context
from app.services.datasets import creation
from app.services.datasets import uploads as kept_uploads
from app.storage import explain_os_errors

FORM = "multipart/form-data"
_TABS = "text/tab-separated-values"
FORMATS: dict[str, Format] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.arrow.file": "arrow",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "spreadsheet",
    "application/vnd.oasis.opendocument.spreadsheet": "spreadsheet",
    "application/vnd.ms-excel": "spreadsheet",
    "application/zip": "csv",
    "application/x-bzip2": "csv",
    "application/zstd": "csv",
    "application/gzip": "csv",
}
"""The format of a file by its media type; an archive says of itself what it holds."""
_GENERIC_TYPES = {
    "",
    "application/octet-stream",
    "application/x-gzip",
    "application/x-zip-compressed",
    "text/plain",
}
"""Media types that say nothing of the format."""
_ARCHIVES = {"application/zip", "application/x-bzip2", "application/zstd", "application/gzip"}
_WRITE_BYTES = 1024 * 1024
"""Written to the disk at once."""
_HEAD_BYTES = 16
"""Of a file that tell its format."""
_FORM_BYTES = 64 * 1024
"""Of a form beside its file."""


class Uploads:
    """Makes datasets of uploaded files; as many are read at once as is worth it, the others wait
    without a thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reading = CapacityLimiter(context.parsers.at_once)

    async def create_from_body(
        self, request: Request, idempotent: IdempotentRequest, options: UploadOptions
    ) -> None:
        """Make a dataset of a body that is the file itself.

        Raises UnsupportedMediaType and what ``creation.create_from_file`` raises.
        """
        media = media_type(request)
        kind = _format_of_body(media, f"application/json, {FORM}")
        delimiter = "\t" if media == _TABS else None
        reading = options.ingest_options(kind, delimiter, charset(request))
        async with self.saved(request, codings_of(kind)) as path:
            await self._create(path, reading, idempotent, options)

    async def create_from_form(
        self, request: Request, idempotent: IdempotentRequest, query: UploadOptions
    ) -> None:
        """Make a dataset of a form; the file is a field of it, and so are its options.

        Raises InvalidRequest, MalformedRequest and what ``create_from_body`` raises.
        """
        async with self._form(request) as (file, fields):
            in_query = query.model_dump(exclude_unset=True, exclude={"types"})
            options = checked(UploadOptions, {**in_query, **fields})
            reading = _form_file_options(file, options)
            async with self._file() as path:
                await to_thread.run_sync(_copy, file.file, path)
                await self._create(path, reading, idempotent, options)

    @asynccontextmanager
    async def _form(self, request: Request) -> AsyncIterator[tuple[UploadFile, dict[str, str]]]:
        """Give the file of a form, and its other fields; the form is closed afterwards."""
        if "boundary=" not in request.headers.get("content-type", "").lower():
            raise InvalidRequest.at(
                "/Content-Type",
                f"{FORM} wants its boundary; leave Content-Type to the client (curl -F file=@…)",
            )
        max_bytes = self._context.settings.max_upload_bytes + _FORM_BYTES
        with explain_os_errors():  # a large file is spooled to disk
            try:
                form = await limited(request, max_bytes).form(max_files=1, max_fields=32)
            except HTTPException as error:  # what Starlette makes of its parser's
                raise MalformedRequest(
                    f"the form cannot be read ({error.detail}); send one file, in the field "
                    "'file', and options beside it"
                ) from error
        try:
            fields = _form_fields(form, request)
            if "file" in fields:
                raise InvalidRequest.at(
                    "/file", "the field 'file' has no file name; send it as a file (-F file=@…)"
                )
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise InvalidRequest.at(
                    "/file", "the form has no file; send it in the field 'file'"
                )
            yield file, fields
        finally:
            await form.close()

    async def _create(
        self,
        path: Path,
        reading: ingest.Options,
        idempotent: IdempotentRequest,
        options: UploadOptions,
    ) -> None:
        if options.dry_run:
            idempotent.response = await self.previewed(
                lambda: creation.preview_file(self._context, path, reading)
            )
            return
        if idempotent.has_key:
            choices = [reading.model_dump(mode="json"), options.model_dump(mode="json")]
            digest = await to_thread.run_sync(sha256_of, path)
            await idempotent.replay(canonical_json(choices), digest.encode())
        naming = creation.Naming(options.name, options.replace)
        record = idempotent.recorder(created_response)
        await self.run(
            lambda: creation.create_from_file(self._context, path, reading, naming, record)
        )

    async def run(self, work: Callable[[], Any]) -> Any:
        """Return ``work()``, which reads an upload, when it is its turn."""
        return await to_thread.run_sync(work, limiter=self._reading)

    async def previewed(self, read: Callable[[], creation.Preview]) -> Response:
        """Return the response that shows what ``read`` understands; raises what it raises."""
        return json_response(DatasetPreview.of(await self.run(read)), 200)

    async def keep_body(self, request: Request, idempotent: IdempotentRequest) -> None:
        """Keep a body that is a file for a day. Raises what ``create_from_body`` raises."""
        media = media_type(request)
        says_nothing = media in _GENERIC_TYPES
        if is_json(media):
            kind: Format = "ndjson"
        elif says_nothing:
            kind = "csv"  # until its first bytes say more
        else:
            kind = _format_of_body(media, f"application/json, {FORM}, application/octet-stream")
        async with self.saved(request, codings_of(kind)) as path:
            if says_nothing:
                kind = guess(await to_thread.run_sync(_head, path)) or kind
            await self._keep(path, kind, idempotent, tabbed=media == _TABS)

    async def keep_form(self, request: Request, idempotent: IdempotentRequest) -> None:
        """Keep the file of a form for a day. Raises what ``create_from_form`` raises."""
        async with self._form(request) as (file, _):
            reading = _form_file_options(file, UploadOptions())
            async with self._file() as path:
                await to_thread.run_sync(_copy, file.file, path)
                tabbed = reading.delimiter == "\t"
                await self._keep(path, reading.format, idempotent, tabbed=tabbed)

    async def _keep(
        self, path: Path, kind: Format, idempotent: IdempotentRequest, *, tabbed: bool
    ) -> None:
        if not path.stat().st_size:
            raise InvalidData("the file is empty; send a header line and at least one row")
        if idempotent.has_key:
            digest = await to_thread.run_sync(sha256_of, path)
            await idempotent.replay(kind.encode(), digest.encode())
        record = idempotent.recorder(_upload_response)
        await to_thread.run_sync(
            lambda: kept_uploads.keep(self._context, path, kind, record, tabbed)
        )

    @asynccontextmanager
    async def of_model(
        self, request: Request, said: FileOptions
    ) -> AsyncIterator[tuple[Path, ingest.Options]]:
        """Give the body, a file for a model, and how it is laid out; it is gone afterwards.

        Raises what ``create_from_body`` raises.
        """
        media = media_type(request)
        kind = _format_of_body(media, "application/json")
        tab = "\t" if media == _TABS else None
        async with self.saved(request, codings_of(kind)) as path:
            yield path, said.ingest_options(kind, tab, charset(request))

    # ------------------------------------------------------------ to disk

    @asynccontextmanager
    async def saved(self, request: Request, codings: Codings = UNCOMPRESSED) -> AsyncIterator[Path]:
        """Give the body, packed as ``codings`` allow, as a file that is gone afterwards.

        Raises TooLarge, UnsupportedMediaType or StorageFull.
        """
        async with self._file() as path:
            await self._save(request, path, codings)
            yield path

    @asynccontextmanager
    async def _file(self) -> AsyncIterator[Path]:
        """Give the path of a file on the data disk that is gone afterwards, whatever happens.

        Its name has nothing of what the client sent.
        """
        path = self._context.storage.scratch / f"upload.{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            with suppress(OSError):  # never made, or the disk has turned read-only
                path.unlink()

    async def _save(self, request: Request, path: Path, codings: Codings) -> None:
        """Stream the body to ``path``, counted, while the disk has room left."""
        max_bytes = self._context.settings.max_upload_bytes
        body = limited(request, max_bytes, codings)
        with explain_os_errors(), path.open("wb", buffering=0) as file:
            buffer = bytearray()
            async for chunk in body.stream():
                buffer += chunk
                if len(buffer) >= _WRITE_BYTES:
                    await to_thread.run_sync(self._write, file, buffer)
                    buffer.clear()
            _write(file, buffer)

    def _write(self, file: BinaryIO, content: bytearray) -> None:
        self._context.require_room()
        _write(file, content)


def codings_of(kind: Format) -> Codings:
    """Return the codings in which a format is taken."""
    return GZIP if kind in TEXT else UNCOMPRESSED


def _format_of_body(media: str, others: str) -> Format:
    """Return the format that a body of this media type has; ``others`` are taken besides files.
    Raises UnsupportedMediaType."""
    if media not in FORMATS:
        raise UnsupportedMediaType(
            f"cannot read '{media[:64]}'; send {others}, or a file as text/csv, "
            "application/x-ndjson, application/vnd.apache.parquet, "
            "application/vnd.apache.arrow.stream or "
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        )
    return FORMATS[media]


def _upload_response(_session: Any, upload: kept_uploads.Upload) -> Response:
    return json_response(UploadOut.of(upload), 201, {"Location": f"/v1/uploads/{upload.id}"})


def created_response(_session: Any, dataset: Dataset) -> Response:
    """Return the response that shows a new dataset."""
    return json_response(DatasetOut.of(dataset), 201, {"Location": f"/v1/datasets/{dataset.id}"})


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _write(file: BinaryIO, content: bytearray) -> None:
    with memoryview(content) as view:
        written = 0
        while written < len(view):
            written += file.write(view[written:])


def _copy(file: BinaryIO, path: Path) -> None:
    with explain_os_errors(), path.open("wb") as copy:
        shutil.copyfileobj(file, copy, _WRITE_BYTES)


def _form_fields(form: FormData, request: Request) -> dict[str, str]:
    """Return what the form says beside its file; empty strings stand for what was not filled in.

    Raises InvalidRequest for what is said twice, in the form or in form and query.
    """
    fields: dict[str, str] = {}
    for key, value in form.multi_items():
        if isinstance(value, str) and value:
            if key in fields or key in request.query_params:
                where = "in the form" if key in fields else "in form and query"
                detail = f"'{key[:64]}' stands twice, {where}; send it once"
                raise InvalidRequest.at(f"/{key[:64]}", detail, "repeated")
            fields[key] = value
    return fields


def _form_file_options(file: UploadFile, options: UploadOptions) -> ingest.Options:
    """Return how to read a form's file.

    Its format is found by the part's media type, else by the end of its name, else by its first
    bytes, else it is CSV. Raises UnsupportedMediaType.
    """
    media = without_parameters(file.content_type or "")
    ending = (file.filename or "")[-32:].lower()
    kind = "ndjson" if is_json(media) else FORMATS.get(media)
    if kind is None or media in _ARCHIVES:
        head = file.file.read(_HEAD_BYTES)
        file.file.seek(0)
        kind = format_of(ending) or guess(head) or kind
        kind = kind or ("csv" if media in _GENERIC_TYPES else None)
    if kind is None:
        raise UnsupportedMediaType(
            f"the file is '{media[:64]}'; send CSV, JSON, Parquet, Arrow or a spreadsheet"
        )
    tabbed = media == _TABS or ".tsv" in ending
    return options.ingest_options(kind, "\t" if tabbed else None, None)
