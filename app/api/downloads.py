"""Files as answers: weights of models and checkpoints, and pictures."""

from typing import Any, Literal

from fastapi import Request, Response
from fastapi.responses import FileResponse

from app.api.http.conditions import none_match
from app.storage import Kind, Storage

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
    request: Request, storage: Storage, kind: Kind, artifact_id: str, filename: str
) -> Response:
    """Return an artifact's weights as a download called ``filename``.

    The ETag is the file's SHA-256 and ranges are answered; 304 where ``If-None-Match`` has it.
    Raises ArtifactCorrupt where a hash does not match.
    """
    path = storage.file(kind, artifact_id, _WEIGHTS)
    etag = f'"{storage.entry(kind, artifact_id, _WEIGHTS)[0]}"'
    if none_match(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    media_type = "application/octet-stream"
    return FileResponse(path, media_type=media_type, filename=filename, headers={"ETag": etag})


def image_response(image: bytes, image_format: ImageFormat) -> Response:
    """Return a rendered plot."""
    return Response(image, media_type=_IMAGE_TYPES[image_format])
