"""Files as answers: weights of models and checkpoints, and pictures."""

import os
import re
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal

from fastapi import Request, Response
from fastapi.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from app.api.http import problems
from app.api.http.conditions import has_already
from app.db.models import ModelVersion
from app.runtime.artifacts import unless_deleted
from app.runtime.context import Context
from app.services.models import bundles
from app.storage import Kind, explain_os_errors

ImageFormat = Literal["png", "svg"]

OCTETS = "application/octet-stream"
"""Of files that have no media type of their own, safetensors and ONNX among them."""
BINARY = {"schema": {"type": "string", "format": "binary"}}
"""How OpenAPI tells of bytes."""
TEXT = {"schema": {"type": "string"}}
"""And of CSV that is answered: as bytes openapi-python-client cannot read it."""
IMAGE_TYPES: dict[ImageFormat, str] = {"png": "image/png", "svg": "image/svg+xml"}
_IMAGES = {"content": dict.fromkeys(IMAGE_TYPES.values(), BINARY)}
PICTURE: dict[int | str, dict[str, Any]] = {
    200: _IMAGES,
    206: {"description": "the range that was asked for", **_IMAGES},
    304: {"description": "If-None-Match has its ETag"},
}
DOWNLOAD: dict[int | str, dict[str, Any]] = {
    200: {"content": {OCTETS: BINARY}},
    206: {
        "description": "the range that was asked for",
        "content": {OCTETS: BINARY},
    },
    304: {"description": "If-None-Match has its ETag"},
}
MODEL_DOWNLOAD: dict[int | str, dict[str, Any]] = {
    status: {**answer, "content": {**answer["content"], "application/zip": BINARY}}
    if "content" in answer
    else answer
    for status, answer in DOWNLOAD.items()
}
_ONE_RANGE = rb"\s*(\d{1,18}-\d{0,18}|-\d{1,18})\s*"
_RANGES = re.compile(rb"(?i)\s*bytes\s*=%b(,%b)*" % (_ONE_RANGE, _ONE_RANGE))
_OLDEST_DATE_SECONDS = 5.0
_WEIGHTS = "weights.safetensors"


class Download(FileResponse):
    """A file, whole or a range of it; its ETag stands in ``headers``."""

    def set_stat_headers(self, stat_result: os.stat_result) -> None:
        """Set length and times. Nothing may be newer than ``Date``, which uvicorn renews once a
        second, or later where it is busy."""
        changed = min(stat_result.st_mtime, time.time() - _OLDEST_DATE_SECONDS)
        self.headers["last-modified"] = formatdate(changed, usegmt=True)
        super().set_stat_headers(stat_result)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or the range that is asked for; one that is not ours to understand is passed
        over (RFC 9110, section 14.2), and one that there is not is told as every other error is."""
        scope = {**scope, "headers": [*filter(_is_understood, scope["headers"])]}
        problem: Response | None = None

        async def send_explained(message: Message) -> None:
            nonlocal problem
            if message["type"] == "http.response.start" and message["status"] >= 400:
                problem = _no_range(message["headers"], scope["path"])
                await problem(scope, receive, send)
            elif problem is None:
                await send(message)

        await super().__call__(scope, receive, send_explained)


def _is_understood(header: tuple[bytes, bytes]) -> bool:
    """Return whether it is no ``Range``, or one of bytes whose ends come after their beginnings."""
    name, value = header
    if name != b"range":
        return True
    if not _RANGES.fullmatch(value):
        return False
    pairs = [part.strip().split(b"-") for part in value.partition(b"=")[2].split(b",")]
    return all(not (first and last) or int(first) <= int(last) for first, last in pairs)


def _no_range(start: Iterable[tuple[bytes, bytes]], path: str) -> Response:
    """Return the response to a ``Range`` that this file has not."""
    length = dict(start)[b"content-range"].decode()
    detail = f"the range lies beyond the {length.partition('/')[2]} bytes that there are"
    headers = {"Content-Range": length}
    return problems.problem(416, "range_not_satisfiable", detail, headers=headers, path=path)


def path_of(file: IO[bytes]) -> Path:
    """Return where an open file, which may have no name, can be opened again."""
    return Path(f"/proc/self/fd/{file.fileno()}")


def opened(path: Path, held: AsyncExitStack) -> Path:
    """Return a path to the file that is at ``path`` now, whatever becomes of it until ``held`` is
    closed: its name may be gone before the first byte is sent. Raises OSError."""
    return path_of(held.enter_context(path.open("rb")))


def safetensors_response(
    request: Request,
    context: Context,
    held: AsyncExitStack,
    kind: Kind,
    artifact_id: str,
    filename: str,
) -> Response:
    """Return an artifact's weights as a download called ``filename``, open until ``held`` is not.

    The ETag is the file's SHA-256 and ranges are answered; 304 where ``If-None-Match`` has it.
    Raises ArtifactCorrupt where a hash does not match, NotFound where it has just been deleted.
    """
    with unless_deleted(context, kind, artifact_id):
        path = opened(context.storage.file(kind, artifact_id, _WEIGHTS), held)
        etag = f'"{context.storage.entry(kind, artifact_id, _WEIGHTS)[0]}"'
        found = path.stat()
    headers = {"ETag": etag}
    if has_already(request, etag):
        return Response(status_code=304, headers=headers)
    return Download(path, media_type=OCTETS, filename=filename, headers=headers, stat_result=found)


BUNDLE = "application/zip"


def bundle_response(
    request: Request, context: Context, held: AsyncExitStack, row: ModelVersion
) -> Response:
    """Return a version as a bundle, made in a file without a name that goes when ``held`` does.

    The ETag changes with what is in it; 304 where ``If-None-Match`` has it, and ranges are
    answered: the same version gives the same bytes. Raises ArtifactCorrupt, NotFound or
    StorageFull.
    """
    found = bundles.of_version(context, row)
    headers = {"ETag": f'"{found.digest}"'}
    if has_already(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    context.require_room()
    with explain_os_errors(), unless_deleted(context, "models", row.id):
        file: IO[bytes] = held.enter_context(TemporaryFile(dir=context.storage.scratch))  # noqa: SIM115
        found.write(file)
        file.flush()
    path = path_of(file)
    name = f"{row.name}-{row.version}.zip"
    return Download(
        path, media_type=BUNDLE, filename=name, headers=headers, stat_result=path.stat()
    )


def content_response(
    held: AsyncExitStack, content: bytes, media: str, headers: dict[str, str]
) -> Response:
    """Return what has been made in memory, whole or a range of it; ``headers`` have its ETag."""
    file = held.enter_context(os.fdopen(os.memfd_create("answer"), "w+b"))
    file.write(content)
    file.flush()
    path = path_of(file)
    return Download(path, media_type=media, headers=headers, stat_result=path.stat())
