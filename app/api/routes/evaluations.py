"""``/v1/models/{ref}/evaluate``."""

from dataclasses import asdict
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request

from app.api.deps import ContextDep, PredictorsDep, UploadsDep
from app.api.downloads import BINARY
from app.api.http.bodies import read_json
from app.api.http.json_route import StrictJSONRoute
from app.api.http.media_types import is_json, media_type
from app.api.schemas.datasets import DatasetRef
from app.api.schemas.evaluations import EvaluateRequest, EvaluationOut
from app.api.schemas.uploads import EvaluateOptions
from app.api.uploads import FORMATS
from app.errors import InvalidRequest
from app.ml.specs.mistakes import checked
from app.services.predictions import evaluations

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=StrictJSONRoute)

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/EvaluateRequest"}},
            **dict.fromkeys(FORMATS, BINARY),
        },
    }
}


@router.post("/{ref}/evaluate", openapi_extra=_BODY)
async def evaluate_model(
    ref: str,
    request: Request,
    context: ContextDep,
    predictors: PredictorsDep,
    uploads: UploadsDep,
    options: Annotated[EvaluateOptions, Query()],
) -> EvaluationOut:
    """Metrics on rows whose targets are known, beside those of a guess: of a dataset, or of a file,
    which is read as the model's own data was."""
    if is_json(media_type(request)):
        value = await read_json(request, context.settings.max_json_bytes)
        for name in options.model_fields_set:
            detail = (
                f"with a JSON object, '{name}' goes into it"
                if name == "by"
                else (f"'{name}' says how a file is read; a dataset has been read")
            )
            raise InvalidRequest.at(f"/{name}", detail)
        asked = checked(EvaluateRequest, value)
        found = await to_thread.run_sync(
            partial(evaluations.evaluate, context, predictors, ref, asked.dataset, asked.by)
        )
    else:
        async with uploads.of_model(request, options) as (path, plain):
            found = await uploads.run(
                lambda: evaluations.evaluate_file(
                    context, predictors, ref, path, plain, options.on_error, options.by
                )
            )
    dataset = found.dataset
    return EvaluationOut(
        model=found.model.name,
        version=found.model.version,
        dataset=dataset and DatasetRef(id=dataset.id, name=dataset.name),
        **asdict(found.evaluation),
    )
