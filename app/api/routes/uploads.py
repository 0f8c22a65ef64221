"""``/v1/uploads``: files that are kept for a day, to be read as often as one likes."""

from fastapi import APIRouter, Request, Response

from app.api.deps import ContextDep, UploadsDep
from app.api.downloads import BINARY
from app.api.http.idempotency import IdempotentRequestDep
from app.api.http.json_route import StrictJSONRoute
from app.api.http.media_types import media_type
from app.api.schemas.uploads import UploadOut
from app.api.uploads import FORM, FORMATS
from app.services.datasets import uploads as kept_uploads

router = APIRouter(prefix="/v1/uploads", tags=["datasets"], route_class=StrictJSONRoute)

_FORM_SCHEMA = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}},
    "required": ["file"],
}
_CONTENT = dict.fromkeys(FORMATS, BINARY)
_BODY = {"requestBody": {"required": True, "content": {**_CONTENT, FORM: {"schema": _FORM_SCHEMA}}}}


@router.post(
    "",
    status_code=201,
    openapi_extra=_BODY,
    responses={201: {"model": UploadOut}},
    response_model=None,
)
async def create_upload(
    request: Request, uploads: UploadsDep, idempotent: IdempotentRequestDep
) -> Response:
    """Keep a file for a day; a dataset names it as its source."""
    if media_type(request) == FORM:
        await uploads.keep_form(request, idempotent)
    else:
        await uploads.keep_body(request, idempotent)
    return idempotent.response


@router.get("/{upload_id}")
def get_upload(upload_id: str, context: ContextDep) -> UploadOut:
    """How large it is, and until when it is kept."""
    return UploadOut.of(kept_uploads.find(context, upload_id))


@router.delete("/{upload_id}", status_code=204)
def delete_upload(upload_id: str, context: ContextDep) -> None:
    """Forget it at once."""
    kept_uploads.delete(context, upload_id)
