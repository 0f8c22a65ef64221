"""Files as answers: weights of models and checkpoints, and pictures."""

from typing import Any, Literal

from fastapi import Request, Response
from fastapi.responses import FileResponse

from app.api.http.conditions import none_match
from app.runtime.artifacts import unless_deleted
from app.runtime.context import Context
from app.storage import Kind

ImageFormat = Literal["png", "svg"]

BINARY = {"schema": {"type": "string", "format": "binary"}}
"""How OpenAPI tells of bytes."""
_IMAGE_TYPES: dict[ImageFormat, str] = {"png": "image/png", "svg": "image/svg+xml"}
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys(_IMAGE_TYPES.values(), BINARY)}
}
DOWNLOAD: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": BINARY}},
    206: {
        "description": "the range that was asked for",
        "content": {"application/octet-stream": BINARY},
    },
    304: {"description": "If-None-Match has its ETag"},
}
_WEIGHTS = "weights.safetensors"


def safetensors_response(
    request: Request, context: Context, kind: Kind, artifact_id: str, filename: str
) -> Response:
    """Return an artifact's weights as a download called ``filename``.

    The ETag is the file's SHA-256 and ranges are answered; 304 where ``If-None-Match`` has it.
    Raises ArtifactCorrupt where a hash does not match, NotFound where it has just been deleted.
    """
    with unless_deleted(context, kind, artifact_id):
        path = context.storage.file(kind, artifact_id, _WEIGHTS)
        etag = f'"{context.storage.entry(kind, artifact_id, _WEIGHTS)[0]}"'
        found = path.stat()
    headers = {"ETag": etag}
    if none_match(request, etag):
        return Response(status_code=304, headers=headers)
    media_type = "application/octet-stream"
    return FileResponse(
        path, media_type=media_type, filename=filename, headers=headers, stat_result=found
    )


def image_response(image: bytes, image_format: ImageFormat) -> Response:
    """Return a rendered plot."""
    return Response(image, media_type=_IMAGE_TYPES[image_format])
